"""Codes as text, one string a code, in one of four notations.

`code_files` and `perceptual_codes` call this. The width of a code comes from the caller or from the texts themselves,
never from a text that is wrong; an error names the place of the first text that does not fit.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from fasthash._checks import MAX_BITS, code_bytes

__all__ = ["NOTATIONS", "bytes_of_int", "codes_of_text", "hexadecimal", "of_first_bits"]

NOTATIONS = ("hex", "bits", "decimal", "base64")

# More ones, or more digits that are neither zero nor a letter, than hexadecimal codes have without other digits: by
# chance once in 10^9 sets of codes. Codes that are mostly zeros stay below.
_ONES, _DIGITS, _DIGITS_OF_LONG = 8, 40, 12

_SHOWN = 40  # characters of a wrong text that an error quotes


def codes_of_text(
    texts: Sequence[str], notation: str, n_bits: int | None, place: Callable[[int], str]
) -> NDArray[np.uint8]:
    """Packed codes of texts without white space around them.

    Args:
        texts: at least one.
        notation: one of `NOTATIONS`.
        n_bits: width; None takes the one that most texts have, in whole bytes. Decimal numbers need it.
        place: where text i comes from, such as "line 7", for errors.

    Raises:
        ValueError: a text is not in that notation, or of another width.
    """
    if notation == "decimal" and n_bits is None:
        raise ValueError(f"{place(0)}: decimal numbers do not tell how wide codes are: give the bits of a code")
    if notation == "hex":
        codes = _plain_hex(texts, None if n_bits is None else code_bytes(n_bits))
        if codes is not None and (n_bits is None or n_bits % 8 == 0):
            return codes
    rows = [_decoded(text, notation, n_bits) for text in texts]
    widths = Counter(len(row) for row in rows if row)
    expected = code_bytes(n_bits) if n_bits is not None else widths.most_common(1)[0][0] if widths else None
    wrong = next((i for i, row in enumerate(rows) if row is None or len(row) != expected), None)
    if wrong is not None:
        raise ValueError(
            f"{place(wrong)}: expected {_form(notation, expected, n_bits)}, got {_shown(texts[wrong], notation)}"
        )
    assert expected is not None
    if expected > MAX_BITS // 8:
        raise ValueError(f"{place(0)}: codes have at most {MAX_BITS} bits, got {_form(notation, expected, None)}")
    codes = np.frombuffer(b"".join(row for row in rows if row), np.uint8).reshape(-1, expected)
    if n_bits is not None and n_bits % 8:
        _check_padding(texts, codes, n_bits, place)
    return codes


def _check_padding(texts: Sequence[str], codes: NDArray[np.uint8], n_bits: int, place: Callable[[int], str]) -> None:
    padded = np.flatnonzero(codes[:, -1] & (255 >> n_bits % 8))
    if len(padded):
        raise ValueError(
            f"{place(padded[0])}: expected zeros in the low {-n_bits % 8} bits of the last byte, which pad "
            f"{n_bits} bits to whole bytes, got {texts[padded[0]][:_SHOWN]!r}; "
            "fasthash.codes_from_ints makes codes of numbers"
        )


def of_first_bits(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Codes of fingerprints, whose first bit is the lowest of a byte, and back: the bits of each byte turned round."""
    return np.packbits(np.unpackbits(codes, axis=1, bitorder="little"), axis=1)


def hexadecimal(name: str, texts: Sequence[str], way: str) -> str:
    """The notation `"hex"`, for texts whose notation nobody has named.

    Raises:
        ValueError: they look like bits or decimal numbers, which could be read as hexadecimal digits as well.
    """
    distinct = set(texts)
    joined = "".join(distinct)
    if not re.fullmatch("[0-9]+", joined):
        return "hex"
    kind = None
    if not joined.strip("01"):
        kind = "bits" if joined.count("1") >= _ONES else None
    else:
        long = all(18 <= len(text) <= 20 for text in distinct)
        kind = "decimal" if len(joined) - joined.count("0") >= (_DIGITS_OF_LONG if long else _DIGITS) else None
    if kind is None:
        return "hex"
    meant = "bits, one a digit" if kind == "bits" else "decimal numbers"
    bits = ", n_bits=64 (or as many as a code has)" if kind == "decimal" else ""
    raise ValueError(
        f"{name} must be hexadecimal digits, but they look like {meant}, got {texts[0][:40]!r}; "
        f"give {way}={kind!r}{bits}, or {way}='hex' if they are hexadecimal after all"
    )


def _plain_hex(texts: Sequence[str], n_bytes: int | None) -> NDArray[np.uint8] | None:
    """All at once, if nothing is wrong and no text has a prefix."""
    width = len(texts[0]) if n_bytes is None else 2 * n_bytes
    if not 0 < width <= MAX_BITS // 4 or width % 2 or any(len(text) != width for text in texts):
        return None
    try:
        data = bytes.fromhex("".join(texts))
    except ValueError:
        return None
    # Else there was white space between digits, which Python passes over.
    return np.frombuffer(data, np.uint8).reshape(-1, width // 2) if len(data) * 2 == width * len(texts) else None


def _decoded(text: str, notation: str, n_bits: int | None) -> bytes | None:
    """The bytes of a code; None if the text is not in that notation."""
    if notation == "hex":
        digits = re.sub(r"^(0[xX]|\\x)", "", text)
        if n_bits is not None and len(digits) == -(-n_bits // 4) < 2 * code_bytes(n_bits):
            # Fewer digits than whole bytes take are a number, as imagehash writes its hashes.
            return bytes_of_int(int(digits, 16), n_bits) if re.fullmatch("[0-9a-fA-F]+", digits) else None
        return bytes.fromhex(digits) if re.fullmatch("(?:[0-9a-fA-F]{2})+", digits) else None
    if notation == "bits":
        digits = text.removeprefix("0b")
        if not re.fullmatch("[01]+", digits) or (len(digits) % 8 if n_bits is None else len(digits) != n_bits):
            return None
        return bytes_of_int(int(digits, 2), len(digits))
    if notation == "base64":
        return _from_base64(text)
    assert n_bits is not None
    return bytes_of_int(int(text), n_bits) if re.fullmatch("[+-]?[0-9]{1,1300}", text, re.ASCII) else None


def bytes_of_int(value: int, n_bits: int) -> bytes | None:
    """The packed code of an integer, whose highest bit is the first; None if it does not fit.

    A negative number is what a database of signed integers makes of a code: its two's complement.
    """
    if not -(1 << n_bits - 1) <= value < 1 << n_bits:
        return None
    n_bytes = code_bytes(n_bits)
    return ((value & (1 << n_bits) - 1) << n_bytes * 8 - n_bits).to_bytes(n_bytes, "big")


def _from_base64(text: str) -> bytes | None:
    """Also of the alphabet for addresses, and without the signs that fill up."""
    plain = text.translate(str.maketrans("-_", "+/")).rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True) or None
    except (binascii.Error, ValueError):
        return None


def _form(notation: str, n_bytes: int | None, n_bits: int | None) -> str:
    """Describe a code of that width."""
    if n_bytes is None:
        forms = {
            "hex": "two hexadecimal digits for each byte",
            "bits": "zeros and ones, eight for each byte",
            "base64": "base64",
        }
        return forms[notation]
    n_bits = 8 * n_bytes if n_bits is None else n_bits
    forms = {
        "hex": f"{2 * n_bytes} hexadecimal digits",
        "bits": f"{n_bits} zeros and ones",
        "decimal": f"a whole number of {n_bits} bits",
        "base64": f"base64 of {n_bytes} byte" + "s" * (n_bytes != 1),
    }
    return forms[notation]


def _shown(text: str, notation: str) -> str:
    """The beginning of a wrong text, and what it may be."""
    shown = _beginning(text, notation)
    if text != text.strip() and not re.search(r"\s", text.strip()):
        return f"{shown}; strip() removes the white space around it"
    if re.search(r"[\s,;]", text):
        return f"{shown}; a column of several is read with format='csv' or 'tsv'"
    if notation != "decimal" and re.fullmatch(r"-?[0-9]{17,20}|-[0-9]+", text):
        return f"{shown}; decimal numbers are read as 'decimal'"
    if notation == "hex" and re.fullmatch(r"[A-Za-z0-9+/_-]+={1,2}", text):
        return f"{shown}; base64 is read as 'base64'"
    return shown


def _beginning(text: str, notation: str) -> str:
    """As much of a text as fits on a line; of a longer one its length and the first character that does not belong."""
    shown = repr(text[:_SHOWN])
    if len(text) <= _SHOWN:
        return shown
    foreign = re.search({"hex": "[^0-9a-fA-F]", "bits": "[^01]"}.get(notation, r"\s"), text[_SHOWN:])
    at = f", {foreign[0]!r} at {_SHOWN + foreign.start()}" if foreign else ""
    return f"{shown}... ({len(text)} characters{at})"
