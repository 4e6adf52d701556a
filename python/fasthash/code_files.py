"""Codes in files of other makers: numpy's .npy and .npz, hexadecimal text, raw bytes."""

from __future__ import annotations

import io
import os
import re
import zipfile
from collections.abc import Callable, Iterable
from itertools import count, islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fasthash._checks import MAX_BITS, check_choice, check_codes_of_any_width, check_width

__all__ = ["FORMATS", "format_of", "read_codes"]

FORMATS = ("npy", "npz", "hex", "raw")

_ENDINGS = {".npy": "npy", ".npz": "npz", ".hex": "hex", ".txt": "hex", ".bin": "raw", ".raw": "raw"}
_LINES = 1 << 16  # that are read at once


def format_of(path: str | os.PathLike[str]) -> str:
    """The format that the ending of a file tells, one of `FORMATS`.

    Raises:
        ValueError: the ending tells none.
    """
    try:
        return _ENDINGS[Path(path).suffix.lower()]
    except KeyError:
        message = f"the ending of {path} does not tell what it holds; name one of {', '.join(FORMATS)}"
        raise ValueError(message) from None


def read_codes(
    source: str | os.PathLike[str] | BinaryIO,
    format: str | None = None,
    n_bits: int | None = None,
    *,
    array: str = "codes",
    watch: Callable[[int], object] | None = None,
) -> NDArray[np.uint8]:
    """Read packed codes.

    Args:
        source: a file, or a stream of bytes such as `sys.stdin.buffer`.
        format: `"npy"`: a uint8 array `(n, n_bits / 8)`, which a file leaves mapped, so that it takes no memory of its
            own. `"npz"`: such an array in an archive, as `fasthash encode` writes it. `"hex"`: text with one code a
            line as hexadecimal digits, small or capital, the first bits first, which is how perceptual hashes are
            printed; empty lines and lines that begin with `#` are passed over. `"raw"`: the bytes of the codes one
            after the other, mapped as well. None tells it by the ending of the file: .npy, .npz, .hex or .txt, .bin or
            .raw; a stream is taken for hex.
        n_bits: width of the codes in bits; needed for `"raw"`, else checked if given.
        array: name of the array in an archive.
        watch: called with the number of bytes read, now and then, while text is read.

    Returns:
        uint8 array `(n, n_bits / 8)`; read-only where it is mapped.

    Raises:
        OSError: the file cannot be read.
        TypeError: the array is not uint8.
        ValueError: the content is not what the format says; of text the line is named.
    """
    name = os.fspath(source) if isinstance(source, (str, os.PathLike)) else "standard input"
    if format is None:
        format = format_of(source) if isinstance(source, (str, os.PathLike)) else "hex"
    check_choice("format", format, FORMATS)
    n_bytes = None if n_bits is None else check_width("bits", n_bits) // 8
    if format == "hex":
        if isinstance(source, (str, os.PathLike)):
            with open(source, "rb") as lines:
                return _hex(lines, name, n_bytes, watch)
        return _hex(source, name, n_bytes, watch)
    if format == "raw":
        return _raw(source, name, n_bytes)
    found = _npy(source, name) if format == "npy" else _npz(source, name, array)
    codes = check_codes_of_any_width(name, found)
    if n_bytes is not None and codes.shape[1] != n_bytes:
        raise ValueError(f"{name} holds codes of {codes.shape[1] * 8} bits, expected {n_bytes * 8}")
    return codes


def _npy(source: Any, name: str) -> NDArray[Any]:
    try:
        if isinstance(source, (str, os.PathLike)):
            return np.lib.format.open_memmap(source, mode="r")
        return np.lib.format.read_array(source, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{name} is no .npy file of codes: {error}") from None


def _npz(source: Any, name: str, array: str) -> NDArray[Any]:
    if not isinstance(source, (str, os.PathLike)):
        source = io.BytesIO(source.read())  # an archive is read from its end
    try:
        with np.load(source, allow_pickle=False) as arrays:
            if not isinstance(arrays, np.lib.npyio.NpzFile):
                raise ValueError("it holds a single array")
            if array in arrays.files:
                return arrays[array]
            held = ", ".join(map(repr, arrays.files)) or "nothing"
            raise ValueError(f"it has no array {array!r} but {held}")
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{name} is no .npz file of codes: {error}") from None


def _raw(source: Any, name: str, n_bytes: int | None) -> NDArray[np.uint8]:
    if n_bytes is None:
        raise ValueError(f"raw bytes do not tell how wide codes are: give the bits of a code in {name}")
    if not isinstance(source, (str, os.PathLike)):
        flat = np.frombuffer(source.read(), np.uint8)
    elif os.path.getsize(source) == 0:  # which cannot be mapped
        flat = np.empty(0, np.uint8)
    else:
        flat = np.memmap(source, np.uint8, "r")
    if len(flat) % n_bytes:
        raise ValueError(f"{name} has {len(flat)} bytes, which is no multiple of {n_bytes} for {n_bytes * 8} bits")
    return np.asarray(flat).reshape(-1, n_bytes)


def _hex(
    lines: Iterable[bytes], name: str, n_bytes: int | None, watch: Callable[[int], object] | None
) -> NDArray[np.uint8]:
    lines = iter(lines)
    parts = []
    for first in count(1, _LINES):
        block = list(islice(lines, _LINES))
        if not block:
            break
        digits = [line for line in map(bytes.strip, block) if line and not line.startswith(b"#")]
        if digits:
            if n_bytes is None:
                n_bytes = max(1, (len(digits[0]) + 1) // 2)
                if n_bytes > MAX_BITS // 8:
                    raise ValueError(
                        f"{name} begins with a line of {len(digits[0])} digits; codes have at most 4096 bits"
                    )
            try:
                data = bytes.fromhex(b"".join(digits).decode("ascii"))
            except ValueError:
                data = b""
            if len(data) != n_bytes * len(digits) or any(len(line) != 2 * n_bytes for line in digits):
                raise ValueError(f"{name}, {_first_wrong_line(block, first, n_bytes)}")
            parts.append(np.frombuffer(data, np.uint8).reshape(-1, n_bytes))
        if watch is not None:
            watch(sum(map(len, block)))
    if n_bytes is None:
        raise ValueError(f"{name} holds no codes, which leaves open how wide they are")
    return np.concatenate(parts) if parts else np.empty((0, n_bytes), np.uint8)


def _first_wrong_line(block: list[bytes], first: int, n_bytes: int) -> str:
    right = re.compile(rb"[0-9a-fA-F]{%d}" % (2 * n_bytes))
    for number, line in enumerate(map(bytes.strip, block), start=first):
        if line and not line.startswith(b"#") and not right.fullmatch(line):
            shown = line.decode("ascii", "replace")[:40]
            return f"line {number}: expected {2 * n_bytes} hexadecimal digits, got {shown!r}"
    raise AssertionError("every line is right")
