"""Reads headers of .npy files without evaluating them; accepts only headers that numpy writes.

Used for arrays in saved folders, which may be hostile. The size of an array is compared with the size of its file
before memory is allocated.
"""

from __future__ import annotations

import math
import re
import sys
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fasthash._core import FormatError

__all__ = ["read_header", "read_npz"]

_MAGIC = b"\x93NUMPY\x01\x00"
_MOST_HEADER = 4096
_HEADER = re.compile(
    r"\{'descr': '([<>|=][a-zA-Z]\d{1,9})', 'fortran_order': False, 'shape': \(((?:\d{1,18}, )*\d{0,18},?)\), \} *\n"
)
_MOST_IN_A_ZIP = 4 << 30  # bytes of all arrays; a zip file of one megabyte may expand to a gigabyte


def read_header(file: BinaryIO) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Read dtype and shape from the header of a file; the position is then at the first number.

    Raises:
        FormatError: the header is not one that `numpy.save` writes for an array in C order.
    """
    begin = file.read(len(_MAGIC) + 2)
    length = int.from_bytes(begin[-2:], "little")
    text = file.read(length) if length <= _MOST_HEADER else b""
    match = _HEADER.fullmatch(text.decode("latin-1"))
    if not begin.startswith(_MAGIC) or len(text) != length or match is None:
        raise FormatError("it does not begin as a file of numpy.save")
    try:
        dtype = np.dtype(match[1])
    except (TypeError, ValueError) as error:
        raise FormatError(f"its numbers are of no known type: {error}") from error
    return dtype, tuple(int(size) for size in match[2].split(",") if size.strip())


def read_npz(path: Path, kinds: Mapping[str, tuple[str, int]]) -> dict[str, NDArray[Any]]:
    """Read arrays from a file of `numpy.savez` or `numpy.savez_compressed`.

    Args:
        path: the npz file.
        kinds: for the name of each array to read, the kind letter of its dtype and its number of axes.

    Raises:
        FormatError: the file is not an npz file, is damaged, or has other arrays.
        OSError: the file cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.getinfo(f"{name}.npy") for name in kinds}
            if (size := sum(member.file_size for member in members.values())) > _MOST_IN_A_ZIP:
                raise FormatError(f"its arrays take {size} bytes, at most {_MOST_IN_A_ZIP} are read")
            return {name: _read_member(archive, members[name], *kind) for name, kind in kinds.items()}
    except (zipfile.BadZipFile, zlib.error, EOFError, LookupError, RuntimeError, ValueError, TypeError) as error:
        raise FormatError(f"{path} is damaged: {error}") from error


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, letter: str, n_axes: int) -> NDArray[Any]:
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise FormatError(f"{member.filename} is compressed in another way")
    with archive.open(member) as file:
        dtype, shape = read_header(file)  # type: ignore[arg-type]
        n_bytes = member.file_size - file.tell()
        if dtype.kind != letter or len(shape) != n_axes or math.prod(shape) * dtype.itemsize != n_bytes:
            raise FormatError(f"{member.filename} holds {dtype} of shape {shape} in {n_bytes} bytes")
        data = file.read()
    if len(data) != n_bytes:
        raise FormatError(f"{member.filename} is cut short")
    if letter == "U" and np.frombuffer(data, dtype.str[0] + "u4").max(initial=0) > sys.maxunicode:
        raise FormatError(f"{member.filename} holds text that is none")
    return np.frombuffer(data, dtype).reshape(shape)
