"""Converts perceptual hashes of other packages, held in memory, to packed codes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasthash._arrays import as_array
from fasthash._checks import (
    MAX_BITS,
    check_choice,
    check_codes,
    check_codes_of_any_width,
    check_width,
    code_bytes,
    looks_like_bits,
)
from fasthash._code_text import NOTATIONS, codes_of_text, hexadecimal
from fasthash._integers import codes_of_ints
from fasthash._shown import short
from fasthash.codes import pack_bits

__all__ = ["codes_of_array", "codes_of_bytes", "perceptual_codes", "segment_codes"]

_LEAST_BITS = 64  # fewer zeros and ones in a row may be the bytes of a code


def perceptual_codes(hashes: Any, *, notation: str | None = None, n_bits: int | None = None) -> NDArray[np.uint8]:
    r"""Codes of perceptual hashes as other packages give them.

    Args:
        hashes: sequence of hashes of one kind and width: `imagehash.ImageHash` objects; text, such as the hexadecimal
            digits of PDQ or of `str(ImageHash)`; bytes; arrays of bool; arrays of at least 64 zeros and ones, as of
            pdqhash. Or an array of uint64 or int64, `(n,)` with a hash each, or `(n, m)` with m words for a hash.
            Bits keep their order: the first bit of a hash, the highest of an integer, is the first of its code.
        notation: of text: `"hex"`, digits with or without `0x` or `\x` before; `"bits"`, `0101...`; `"decimal"`, also
            negative ones of 64-bit databases; `"base64"`. None reads hexadecimal digits and refuses texts that look
            like bits or decimal numbers.
        n_bits: width of a hash in bits, checked if given; decimal text and Python's integers need it, and text and
            bytes of a width that is no multiple of 8. Hexadecimal text of whole bytes (12 digits for 42 bits) is read
            as bytes, with zero padding at the end. Shorter text (11 digits for 42 bits, as `str(ImageHash)` gives it)
            is read as a number.

    Returns:
        uint8 array `(n, n_bits / 8)`, as of `pack_bits`. The hash of an `ImageHash` of 8 x 8 has 64 bits, that of PDQ
        256.

    Raises:
        TypeError: a hash is none of these, or there are several kinds; an `ImageMultiHash`, see `segment_codes`; a dict
            or a set of hashes.
        ValueError: no hashes at all, several widths or not `n_bits`, text that is not in that notation, bytes that look
            like text, or bits beyond `n_bits` that are not zero.

    Examples:
        >>> perceptual_codes(["8f01", "8F03"])
        array([[143,   1],
               [143,   3]], dtype=uint8)
        >>> perceptual_codes(np.array([2**63 + 1], dtype=np.uint64))
        array([[128,   0,   0,   0,   0,   0,   0,   1]], dtype=uint8)
    """
    if isinstance(hashes, (str, bytes)) or hasattr(hashes, "hash") or hasattr(hashes, "segment_hashes"):
        raise TypeError(f"hashes must be a sequence of hashes, got a single {type(hashes).__name__}; use [hash]")
    if hasattr(hashes, "__array__"):  # its elements may be scalars of its own type: columns of tables, tensors
        hashes = as_array("hashes", hashes)
    dtype = getattr(hashes, "dtype", None)
    of_words = isinstance(dtype, np.dtype) and dtype.kind in "iu" and dtype.itemsize == 8  # in either byte order
    _check_order(hashes)
    if notation is not None:
        check_choice("notation", notation, NOTATIONS)
    n_bits = None if n_bits is None else check_width("n_bits", n_bits)
    if of_words and not _rows_of_bits(hashes):
        return codes_of_array("hashes", hashes, n_bits)
    if isinstance(hashes, np.ndarray) and hashes.dtype.kind == "S" and hashes.ndim == 1:
        # list(hashes) would drop the zero bytes at the end of each.
        hashes = [row.tobytes() for row in hashes[:, None].view(f"V{hashes.dtype.itemsize}")]
    entries = list(hashes)
    if not entries:
        raise ValueError("hashes must hold at least one hash, which tells their width")
    first = entries[0]
    if isinstance(first, str):
        _check_kinds(entries, str)
        way = hexadecimal("hashes", entries, "notation") if notation is None else notation
        codes = codes_of_text(entries, way, n_bits, "hashes[{}]".format)
    elif isinstance(first, (bytes, bytearray, memoryview)):
        _check_kinds(entries, bytes, bytearray, memoryview)
        codes = codes_of_bytes("hashes", [bytes(entry) for entry in entries])
    elif isinstance(first, (int, np.integer)) and not isinstance(first, (bool, np.bool_)):
        codes = _codes_of_integers(entries, n_bits)
    else:
        rows = [_bits(i, entry) for i, entry in enumerate(entries)]
        if n_bits is not None and len(rows[0]) != n_bits:
            raise ValueError(f"hashes must have n_bits = {n_bits} bits, got {len(rows[0])}")
        codes = _codes_of_bits(rows)
    if n_bits is None:
        return codes
    if codes.shape[1] != code_bytes(n_bits):
        raise ValueError(f"hashes must have n_bits = {n_bits} bits, got {codes.shape[1] * 8}")
    return check_codes("hashes", codes, n_bits)


def segment_codes(hashes: Any) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Codes of `imagehash.ImageMultiHash` objects, each of which has a hash for every segment of its image.

    Two images match if enough of their segments do, so each segment has a code of its own.

    Args:
        hashes: sequence of `ImageMultiHash` objects, one for each image.

    Returns:
        Codes uint8 `(n, n_bits / 8)` of all segments, and int64 `(n,)`, the position in `hashes` of the image that each
        belongs to.

    Raises:
        TypeError: a hash is no `ImageMultiHash`.
        ValueError: no segments at all, or hashes of several widths.
    """
    _check_order(hashes)
    images = list(hashes)
    for i, image in enumerate(images):
        if not hasattr(image, "segment_hashes"):
            raise TypeError(f"hashes must be ImageMultiHash objects, got {type(image).__name__} at {i}")
    owners = np.repeat(np.arange(len(images)), [len(image.segment_hashes) for image in images]).astype(np.int64)
    return perceptual_codes([segment for image in images for segment in image.segment_hashes]), owners


def _check_order(hashes: Any) -> None:
    """Refuse no sequence; a dict, whose keys would be read for hashes; a set, which does not tell whose a code is."""
    if isinstance(hashes, Mapping):
        raise TypeError(
            f"hashes must be a sequence of hashes, got a {type(hashes).__name__}; use list(hashes.values())"
        )
    if isinstance(hashes, (set, frozenset)):
        raise TypeError(f"hashes must be a sequence of hashes, got a {type(hashes).__name__}, which has no order")
    try:
        iter(hashes)
    except TypeError:  # also of an array with a single value
        raise TypeError(f"hashes must be a sequence of hashes, got {short(hashes)}") from None


def codes_of_array(
    name: str, array: NDArray[Any], n_bits: int | None = None, *, expression: str | None = None
) -> NDArray[np.uint8]:
    """Codes of an array of other makers: packed uint8, bool `(n, n_bits)`, or words of 64 bits `(n,)` or `(n, m)`.

    Args:
        n_bits: width that is known; None takes that of the array, in whole bytes unless it holds bits.
        expression: as of `check_codes_of_any_width`.

    Raises:
        TypeError, ValueError: the array is none of these, looks like one of the others, or has another width.
    """
    written = name if expression is None else expression
    if array.dtype == bool and array.ndim == 2:
        codes = pack_bits(array)
    elif array.dtype.kind in "iu" and array.dtype.itemsize == 8 and _words(name, array, written):
        words = array[:, None] if array.ndim == 1 else array
        codes = np.ascontiguousarray(words.astype(words.dtype.newbyteorder(">"), copy=False)).view(np.uint8)
    else:
        codes = check_codes_of_any_width(name, array, known=n_bits is not None, expression=expression)
    if n_bits is not None:
        held = array.shape[1] if array.dtype == bool else codes.shape[1] * 8
        if held != (n_bits if array.dtype == bool else code_bytes(n_bits) * 8):
            hint = f"; fasthash.pack_bits({written}) packs zeros and ones" if looks_like_bits(array) else ""
            raise ValueError(f"{name} holds codes of {held} bits, expected {n_bits}{hint}")
        return check_codes(name, codes, n_bits)
    return check_codes_of_any_width(name, codes, known=True)


def _words(name: str, array: NDArray[Any], written: str) -> bool:
    """Whether these are words of 64 bits, not bytes or bits that stand in so large a type."""
    if array.ndim not in (1, 2) or array.size == 0:
        return array.ndim == 1 or (array.ndim == 2 and array.shape[1] > 0)
    low, high = array.min(), array.max()
    if array.ndim == 1 and len(array) >= 8 and low >= 0 and high == 1:
        raise ValueError(
            f"{name} must hold a hash in each number, but all {len(array)} are zero or one; "
            f"fasthash.pack_bits({written})[None] packs the bits of a single hash"
        )
    return array.ndim == 1 or low < 0 or high > 255


def codes_of_bytes(name: str, rows: list[bytes], *, expression: str | None = None) -> NDArray[np.uint8]:
    """Codes of bytes objects, all of one length; `expression` as of `check_codes_of_any_width`.

    Raises:
        ValueError: several lengths, or the bytes look like text.
    """
    joined = b"".join(rows)
    written = name if expression is None else expression
    # Bytes of codes are digits of hexadecimal text by chance once in 10^8 sets of codes, of base64 once in 10^9.
    for what, alphabet, least in (
        ("hexadecimal digits", rb"(?:0x|\\x)?[0-9A-Fa-f\s]+", 8),
        ("text", rb"[0-9A-Za-z+/=_\\-]+", 16),
    ):
        if len(joined) >= least and re.fullmatch(alphabet, joined):
            raise ValueError(
                f"{name} must be the bytes of codes, but they look like {what}, got {rows[0][:40]!r}; "
                f"[hash.decode() for hash in {written}] makes them text, and if they are codes after all, "
                f"np.frombuffer(b''.join({written}), np.uint8).reshape(len({written}), -1) packs them"
            )
    _check_width(name, [len(row) * 8 for row in rows])
    return check_codes_of_any_width(name, np.frombuffer(joined, np.uint8).reshape(len(rows), -1), known=True)


def _codes_of_integers(entries: list[Any], n_bits: int | None) -> NDArray[np.uint8]:
    if n_bits is None:
        if type(entries[0]) in (np.uint64, np.int64) and len({type(entry) for entry in entries}) == 1:
            return codes_of_array("hashes", np.array(entries))
        raise TypeError(
            f"hashes must tell their width, which integers do not, got {type(entries[0]).__name__} at 0; "
            "np.array(hashes, dtype=np.uint64) makes them 64 bits wide, and n_bits= any width"
        )
    _check_kinds(entries, int, np.integer)
    return codes_of_ints(entries, n_bits, "hashes", "hashes[{}]".format)


def _rows_of_bits(array: NDArray[Any]) -> bool:
    return array.ndim == 2 and array.shape[1] >= _LEAST_BITS and looks_like_bits(array)


def _bits(i: int, entry: Any) -> NDArray[np.bool_]:
    """The bits of one hash that is no text, no bytes and no integer."""
    kind = type(entry).__name__
    if hasattr(entry, "segment_hashes"):
        raise TypeError(
            f"hashes must have one hash each, got an {kind} at {i}, which has one for each segment; "
            "fasthash.segment_codes(hashes) gives the codes of all"
        )
    if isinstance(entry, tuple) and len(entry) == 2 and np.ndim(entry[1]) == 0 and np.ndim(entry[0]) > 0:
        raise TypeError(
            f"hashes must be hashes alone, got a pair at {i}, as pdqhash gives it with the quality; "
            "use [hash for hash, quality in hashes]"
        )
    array = as_array(f"hashes[{i}]", getattr(entry, "hash", entry))
    if array.dtype.kind in "iu" and array.size >= _LEAST_BITS and array.min() >= 0 and array.max() <= 1:
        array = array.astype(bool)
    if array.dtype != bool:
        what = f"{kind} of {array.dtype}" if kind == "ndarray" else kind
        raise TypeError(
            "hashes must be ImageHash objects, text, bytes, arrays of bool, or an array of uint64 or int64, "
            f"got {what} at {i}"
        )
    return array.reshape(-1)


def _codes_of_bits(rows: list[NDArray[np.bool_]]) -> NDArray[np.uint8]:
    _check_width("hashes", [len(row) for row in rows])
    bits = np.stack(rows)
    if not 1 <= bits.shape[1] <= MAX_BITS:
        raise ValueError(f"hashes must have 1 to {MAX_BITS} bits, got {bits.shape[1]} bits")
    return pack_bits(bits)


def _check_kinds(entries: list[Any], *kinds: type) -> None:
    if not all(isinstance(entry, kinds) for entry in entries):
        raise TypeError(f"hashes must be of one kind, got {', '.join(sorted({type(e).__name__ for e in entries}))}")


def _check_width(name: str, widths: list[int]) -> None:
    odd = next((i for i, width in enumerate(widths) if width != widths[0]), None)
    if odd is not None:
        raise ValueError(f"{name} must have one width, got {widths[0]} bits in hash 0 and {widths[odd]} in hash {odd}")
