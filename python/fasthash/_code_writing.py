"""Writes codes into files of other programs: fingerprints in chemfp's FPS format; `code_files` shows it."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fasthash._arrays import check_one_axis
from fasthash._checks import check_codes, check_codes_of_any_width, check_path, check_width
from fasthash._code_text import of_first_bits
from fasthash._durable import put
from fasthash._shown import short

__all__ = ["save_fps"]

_LINES = 1 << 14  # that are written at once


def save_fps(
    target: str | os.PathLike[str] | BinaryIO, codes: ArrayLike, ids: Any = None, *, n_bits: int | None = None
) -> None:
    """Write fingerprints as an FPS file, which chemfp and `read_codes` read.

    Args:
        target: the file, which is replaced as a whole or not at all, and keeps its permissions; or a stream of bytes,
            such as `sys.stdout.buffer`.
        codes: uint8 array `(n, n_bits / 8)`.
        ids: the identifier of each fingerprint: text without tabs and line ends, integers, or `uuid.UUID`. None numbers
            them from 0.
        n_bits: width of a code; None takes all bits. As in `read_codes`: bytes are written as they are, and if `n_bits`
            is no multiple of 8, the bits of each byte are reversed, so that the first bit of a code is the first of its
            fingerprint. Reading with the same `n_bits` gives the same codes.

    Raises:
        TypeError: `target` is neither a path nor a stream, `codes` is no uint8 array, or an id is of another type.
        ValueError: wrong shape, not as many ids as codes, or an id cannot stand in a line. Nothing is written.
        OSError: the file cannot be written, or there is something at `target` that is no regular file, such as a pipe.

    Examples:
        >>> import sys
        >>> save_fps(sys.stdout.buffer, np.array([[255, 1], [0, 3]], np.uint8), ["aspirin", 7])  # doctest: +SKIP
        #FPS1
        #num_bits=16
        ff01    aspirin
        0003    7
    """
    width = None if n_bits is None else check_width("n_bits", n_bits)
    array = check_codes_of_any_width("codes", codes) if width is None else check_codes("codes", codes, width)
    width = array.shape[1] * 8 if width is None else width
    names = [b"%d" % row for row in range(len(array))] if ids is None else _names(ids, len(array))
    if not isinstance(target, (str, os.PathLike)):
        if not hasattr(target, "writelines"):
            raise TypeError(f"target must be a path or a stream of bytes, got {short(target)}")
        target.writelines(_content(array, names, width))
        return
    check_path("target", target)
    path = Path(os.path.realpath(target))  # a link stays one
    if path.is_symlink():  # nothing else is left of links that lead in a circle
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fspath(target))
    if path.exists() and not path.is_file():
        raise FileExistsError(f"target must be a regular file or a stream of bytes, got {os.fspath(target)!r}")
    draft = path.with_name(f".fasthash-{secrets.token_hex(8)}.tmp")  # the name of the file may be as long as any
    try:
        with open(draft, "xb") as file:
            file.writelines(_content(array, names, width))
        if path.exists():
            shutil.copymode(path, draft)
        put(draft, path)
    except BaseException:
        with suppress(OSError):
            draft.unlink()
        raise


def _content(codes: NDArray[np.uint8], names: list[bytes], n_bits: int) -> Iterator[bytes]:
    yield b"#FPS1\n#num_bits=%d\n" % n_bits
    n_digits = 2 * codes.shape[1]
    for first in range(0, len(codes), _LINES):
        block = codes[first : first + _LINES]
        digits = (of_first_bits(block) if n_bits % 8 else block).tobytes().hex().encode()
        for row, name in enumerate(names[first : first + _LINES]):
            yield b"%b\t%b\n" % (digits[row * n_digits : (row + 1) * n_digits], name)


def _names(ids: Any, n: int) -> list[bytes]:
    """The identifiers as bytes; names of files that are not UTF-8 keep their bytes."""
    if isinstance(ids, (str, bytes, Set, Mapping)) or not isinstance(ids, (Iterable, np.ndarray)):
        raise TypeError(f"ids must be a sequence of identifiers, got {short(ids)}")
    if isinstance(ids, np.ndarray):
        check_one_axis("ids", ids)
    given = ids.tolist() if isinstance(ids, np.ndarray) else list(ids)
    if len(given) != n:
        raise ValueError(f"ids must be {n}, one for each code, got {len(given)}")
    return [_name(id) for id in given]


def _name(id: Any) -> bytes:
    if isinstance(id, bool) or not isinstance(id, (str, int, np.integer, uuid.UUID)):
        raise TypeError(f"ids must be text, integers or UUIDs, got {short(id)}")
    text = str(id)
    # chemfp parts lines at tabs, and `read_codes` at ends of lines of any system; NUL looks like UTF-16.
    if not text or any(mark in text for mark in "\t\n\r\0"):
        raise ValueError(f"ids must be text without tabs, line ends and NUL, and not empty, got {short(id)}")
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise ValueError(f"ids must be text that UTF-8 can write, got {short(id)}") from None
