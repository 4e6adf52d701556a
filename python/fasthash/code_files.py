"""Reads codes from files of other programs: arrays, text, tables, raw bytes; writes fingerprints."""

from __future__ import annotations

import io
import os
import re
import stat
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fasthash._checks import check_choice, check_codes, check_width, code_bytes
from fasthash._code_tables import read_parquet, read_text
from fasthash._code_text import NOTATIONS
from fasthash._code_writing import save_fps
from fasthash._shown import short
from fasthash.perceptual import codes_of_array

__all__ = ["ENDINGS", "FORMATS", "NOTATIONS", "format_of", "keys_of_archive", "read_codes", "read_npy", "save_fps"]

_TEXT = (*NOTATIONS, "csv", "tsv", "fps")
FORMATS = ("npy", "npz", *_TEXT, "parquet", "raw")

ENDINGS = {f".{format}": format for format in ("npy", "npz", "hex", "csv", "tsv", "fps", "parquet", "raw")}
ENDINGS |= {".txt": "hex", ".bin": "raw"}


def format_of(path: str | os.PathLike[str]) -> str:
    """The format of a file by its ending, one of `FORMATS`.

    Raises:
        ValueError: the ending is that of no format.
    """
    try:
        return ENDINGS[Path(path).suffix.lower()]
    except KeyError:
        message = f"the ending of {path} does not tell what it holds; name one of {', '.join(FORMATS)}"
        raise ValueError(message) from None


# Mostly documentation.
def read_codes(
    source: str | os.PathLike[str] | BinaryIO,
    format: str | None = None,
    n_bits: int | None = None,
    *,
    array: str = "codes",
    column: str | int | None = None,
    notation: str | None = None,
    watch: Callable[[int], object] | None = None,
) -> NDArray[np.uint8]:
    r"""Read packed codes.

    Args:
        source: a file, or a stream of bytes such as `sys.stdin.buffer`; either may be a pipe.
        format: None takes the format of the file's ending; of a stream, `"hex"`.

            - `"npy"` (.npy): a uint8 array `(n, n_bits / 8)`, which a file leaves mapped, so that it takes no memory of
              its own; or a bool array `(n, n_bits)`, or uint64 or int64 hashes `(n,)`, or `(n, m)` with m words each.
            - `"npz"` (.npz): such an array in an archive, as `fasthash encode` writes it.
            - `"hex"` (.hex, .txt): text with one code a line as hexadecimal digits, small or capital, the first bits
              first, with or without `0x` or `\x` before. Empty lines and lines that begin with `#` are passed over.
            - `"bits"`, `"decimal"`, `"base64"`: the same with lines such as `01011010`, whole numbers, base64.
            - `"csv"` (.csv) and `"tsv"` (.tsv): a column of a table, in any of these notations.
            - `"parquet"` (.parquet): a column of text, bytes, 64-bit integers, or lists of bytes or of booleans.
            - `"fps"` (.fps): fingerprints of chemfp, byte for byte; the unused high bits of the last byte are zero. If
              `n_bits` is no multiple of 8, the bits of each byte are reversed, so that the first bit of a fingerprint
              is the first of its code and the padding comes last: read queries with the same `n_bits`.
            - `"raw"` (.bin, .raw): the bytes of the codes one after the other, mapped as well.
        n_bits: width of the codes in bits; needed for `"raw"`, for decimal numbers and for text of a width that is no
            multiple of 8, which `perceptual_codes` describes; else checked if given.
        array: name of the array in an archive.
        column: of a table: its name, or its number from 0, with which a file of text has no line of names. None takes
            the only column; of text it has no name either.
        notation: of text in a table, one of `NOTATIONS`. None reads hexadecimal digits, and refuses what looks like
            bits or decimal numbers, as it does in a file whose format is not named.
        watch: called with the number of bytes read, now and then, while text is read.

    Returns:
        uint8 array `(n, n_bits / 8)`; read-only where it is mapped.

    Raises:
        OSError: the file cannot be read.
        TypeError: `source` is neither a path nor a stream of bytes, or the array is of none of these types.
        ValueError: `source` contains a null byte; or the content is not what the format says: of text the line is
            named, of a table the column.
        MissingExtraError: a parquet file needs pyarrow, which the extra `ray` brings.
    """
    is_path = isinstance(source, (str, os.PathLike))
    _check_source(source)
    name = os.fspath(source) if isinstance(source, (str, os.PathLike)) else "standard input"
    told = format is not None
    if isinstance(source, (str, os.PathLike)) and stat.S_ISDIR(os.stat(source).st_mode):  # raises if there is nothing
        raise IsADirectoryError(f"{name} is a folder, not a file of codes")
    if format is None:
        format = format_of(source) if isinstance(source, (str, os.PathLike)) else "hex"
    check_choice("format", format, FORMATS)
    if column is not None and format not in ("csv", "tsv", "parquet"):
        raise ValueError(f"column must be left out for the format {format!r}, which has no columns, got {column!r}")
    if array != "codes" and format != "npz":
        raise ValueError(f"array must be left out for the format {format!r}, which holds one, got {array!r}")
    if notation is not None and format not in ("csv", "tsv", "parquet"):
        raise ValueError(f"notation must be left out for the format {format!r}, got {notation!r}")
    if notation is not None:
        check_choice("notation", notation, NOTATIONS)
    n_bits = None if n_bits is None else check_width("bits", n_bits)
    if format in _TEXT:
        way = format if format in NOTATIONS and (told or format != "hex") else notation
        with _opened(source) as lines:
            return read_text(lines, name, format, n_bits, way, column, watch)
    if format == "parquet":
        with _opened(source) as file:
            return read_parquet(
                file if is_path and _is_file(source) else io.BytesIO(file.read()), name, n_bits, notation, column
            )
    if format == "raw":
        return _raw(source, name, n_bits)
    expression = f"np.load({name!r})" if is_path else "array"
    if format == "npy":
        return codes_of_array(name, read_npy(source, name), n_bits, expression=expression)
    expression += f"[{array!r}]" if is_path else ""
    return codes_of_array(name, _npz(source, name, array), n_bits, expression=expression)


def _check_source(source: Any) -> None:
    if isinstance(source, (str, os.PathLike)):
        if "\0" in os.fsdecode(source):
            raise ValueError(f"source must not contain a null byte, got {short(source)}")
    elif isinstance(source, io.TextIOBase):
        raise TypeError(f"source must be a stream of bytes, as open(..., 'rb') gives it, got {short(source)}")
    elif not hasattr(source, "read"):
        raise TypeError(f"source must be a path or a stream of bytes, got {short(source)}")


def read_npy(source: str | os.PathLike[str] | BinaryIO, name: str) -> NDArray[Any]:
    """The array in a .npy file, mapped; or in a pipe or stream, read.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no .npy file.
    """
    try:
        if isinstance(source, (str, os.PathLike)) and _is_file(source):
            return np.lib.format.open_memmap(source, mode="r")
        with _opened(source) as stream:
            return np.lib.format.read_array(_Pipe(stream), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{name} {_fault(error) or f'is no .npy file: {error}'}") from None


def _fault(error: Exception) -> str | None:
    """How a file is called whose arrays numpy would have to unpickle; None for another error of numpy."""
    return "holds Python objects, not numbers" if re.search("python object|object array", str(error).lower()) else None


class _Pipe:
    """A stream that numpy reads without seeking."""

    def __init__(self, stream: BinaryIO) -> None:
        self.read = stream.read


def _is_file(path: Any) -> bool:
    """Whether a path is that of a file on disk, which can be mapped and read from any place; not so a pipe."""
    return stat.S_ISREG(os.stat(path).st_mode)


@contextmanager
def _opened(source: Any) -> Iterator[BinaryIO]:
    if not isinstance(source, (str, os.PathLike)):
        yield source
        return
    with open(source, "rb") as file:
        yield file


def _archive(source: Any) -> np.lib.npyio.NpzFile:
    arrays = np.load(source, allow_pickle=False)
    if not isinstance(arrays, np.lib.npyio.NpzFile):
        raise ValueError("it holds a single array")
    return arrays


def _npz(source: Any, name: str, array: str) -> NDArray[Any]:
    try:
        with _opened(source) as file:
            if not isinstance(source, (str, os.PathLike)) or not _is_file(source):
                file = io.BytesIO(file.read())  # an archive is read from its end
            with _archive(file) as arrays:
                if array in arrays.files:
                    return arrays[array]
                held = ", ".join(map(repr, arrays.files)) or "nothing"
                raise ValueError(f"it has no array {array!r} but {held}")
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{name} {_fault(error) or f'is no .npz file of codes: {error}'}") from None


def keys_of_archive(path: str | os.PathLike[str], array: str = "codes") -> tuple[str, NDArray[Any]] | None:
    """Return the keys beside the codes of an .npz file, and the name of their array: `keys`, or else `paths`.

    `fasthash encode` writes `paths`.

    Args:
        path: an .npz file, not a pipe.
        array: name of the codes in it.

    Returns:
        None if the file has neither, or has `ids`, which name the codes already.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no .npz file, or the array holds objects.
    """
    try:
        with _archive(path) as arrays:
            name = next((name for name in ("keys", "paths") if name in arrays.files and name != array), None)
            return None if name is None or "ids" in arrays.files else (name, arrays[name])
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{os.fspath(path)} {_fault(error) or f'is no .npz file with keys: {error}'}") from None


def _raw(source: Any, name: str, n_bits: int | None) -> NDArray[np.uint8]:
    if n_bits is None:
        raise ValueError(f"{name} holds raw bytes, which do not tell how wide codes are: give the bits of a code")
    if not isinstance(source, (str, os.PathLike)) or not _is_file(source):
        with _opened(source) as stream:
            flat = np.frombuffer(stream.read(), np.uint8)
    elif os.path.getsize(source) == 0:  # which cannot be mapped
        flat = np.empty(0, np.uint8)
    else:
        flat = np.memmap(source, np.uint8, "r")
    # Bytes of codes are such text by chance once in 10^16 files.
    if len(flat) >= 16 and re.fullmatch(rb"(?:0x|\\x)?[0-9A-Fa-f\s]+", flat[:4096].tobytes()):
        raise ValueError(
            f"{name} must hold the bytes of codes, but begins with text of hexadecimal digits; "
            "the format 'hex' reads it"
        )
    n_bytes = code_bytes(n_bits)
    if len(flat) % n_bytes:
        raise ValueError(f"{name} has {len(flat)} bytes, which is no multiple of {n_bytes} for {n_bits} bits")
    return check_codes(name, np.asarray(flat).reshape(-1, n_bytes), n_bits)
