"""Shards of images, read image by image: tars, and columns of parquet files.

Called by `Source`. One image of a shard is in memory at a time, and none above the limits. What cannot be read comes as
an image that raises the reason: a member, a row, or the rest of the shard under the shard's name.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from typing import IO, Any, NoReturn

from fasthash._extras import needs_extra
from fasthash._photo_files import HEAD, check_regular, is_photo, looks_like_photo
from fasthash._photos import Limits, decode_photo

with needs_extra("train"):
    from PIL import Image

__all__ = ["MissingColumnError", "Photo", "check_columns", "members", "rows"]

# The key of an image, and a function that reads it or raises its error.
Photo = tuple[str, Callable[[], Image.Image]]

# Characters of a name inside a shard. All keys of a part are stored as wide as the longest.
_MAX_NAME = 1024

# Bytes of all headers before a member of a tar: long names, extended attributes, the map of a sparse file.
_MAX_HEADERS = 1 << 18

_BUFFER = 1 << 20  # bytes of a parquet file that are read at once
_ROWS_OF_DICTIONARY = 64


def members(path: str, shard: str, limits: Limits) -> Iterator[Photo]:
    """The image files in a tar, by their place in it."""
    try:
        check_regular(path)
        with open(path, "rb") as raw, _Tar.open(fileobj=raw) as tar:
            while (member := tar.following()) is not None:
                if member.isdir():
                    continue
                if is_photo(member.name):
                    yield _member(tar, member, shard, limits)
                elif member.isfile() and looks_like_photo(head := tar.content(member, HEAD)):
                    yield _member(tar, member, shard, limits, head)
            tar.check_end()
    except Exception as error:  # tarfile and decompressors raise anything on damaged files
        yield shard, partial(_fail, error)


def _member(tar: _Tar, member: tarfile.TarInfo, shard: str, limits: Limits, head: bytes = b"") -> Photo:
    """A photo of a tar; `head`: its first bytes, if they were read already."""
    key = f"{shard}/{member.name[:_MAX_NAME]}"
    try:
        _check_name(member.name)
        if not member.isfile():
            raise ValueError("not a regular file")
        limits.check_bytes(member.size)
    except ValueError as error:
        return key, partial(_fail, error)
    return key, partial(decode_photo, head + tar.content(member, member.size, len(head)), key, limits)


class _Tar(tarfile.TarFile):
    """A tar that is read forwards, and cannot claim more memory than it is allowed."""

    def __init__(self, name: Any = None, mode: Any = "r", fileobj: Any = None, **options: Any) -> None:
        super().__init__(name, mode, _Allowance(fileobj), **options)  # type: ignore[arg-type]

    def following(self) -> tarfile.TarInfo | None:
        """The next member; None at the end."""
        self._allow(_MAX_HEADERS)
        before = self.offset
        member = self.next()
        self.members.clear()  # type: ignore[attr-defined]  # which would hold every member that was read
        if member is not None and (member.size < 0 or self.offset < before):
            raise tarfile.ReadError(f"damaged header: a member of {member.size} bytes")
        return member

    def content(self, member: tarfile.TarInfo, end: int, start: int = 0) -> bytes:
        """The bytes of a regular member from `start` to `end`, or to its own end.

        Reads nothing twice: to go back in a compressed tar is to unpack it from the beginning.
        """
        end = min(end, member.size)
        self._allow(end - start)
        file = self.extractfile(member)
        assert file is not None
        raw = file.raw  # type: ignore[attr-defined]  # without a buffer, which would read on
        raw.seek(start)
        data: bytes = raw.read(end - start)
        return data

    def check_end(self) -> None:
        """Raise ReadError where the archive does not end as it should: tarfile takes a damaged header for the end."""
        assert self.fileobj is not None
        self._allow(tarfile.BLOCKSIZE)
        self.fileobj.seek(self.offset)
        if self.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError(f"damaged or cut off after {self.offset} bytes")

    def _allow(self, n_bytes: int) -> None:
        assert isinstance(self.fileobj, _Allowance)
        self.fileobj.left = n_bytes


class _Allowance:
    """A file of which no more than an allowance is read: tarfile reads headers as long as these say they are."""

    def __init__(self, file: IO[bytes]) -> None:
        self.left = _MAX_HEADERS
        self.seek, self.tell, self.close, self._read = file.seek, file.tell, file.close, file.read

    def read(self, n_bytes: int) -> bytes:
        if not 0 <= n_bytes <= self.left:
            raise ValueError(f"damaged, or headers of more than {_MAX_HEADERS} bytes")
        self.left -= n_bytes
        return self._read(n_bytes)


class MissingColumnError(ValueError):
    """A parquet file lacks a column."""


def check_columns(path: str, columns: list[str]) -> None:
    """Look at the names of the columns of a parquet file.

    Raises:
        MissingColumnError: it lacks one of `columns`.
        Exception: whatever pyarrow raises where it cannot be read.
    """
    from pyarrow import parquet

    check_regular(path)
    with parquet.ParquetFile(path) as file:
        names = file.schema_arrow.names
    for column in columns:
        if column not in names:
            raise MissingColumnError(f"{path} has no column {column!r} but {', '.join(names)}")


def rows(path: str, shard: str, column: str, key_column: str | None, limits: Limits) -> Iterator[Photo]:
    """The images in a parquet file, row by row."""
    try:
        check_columns(path, [column] if key_column is None else [column, key_column])
        names = count() if key_column is None else _values(path, key_column)
        for row, (value, name) in enumerate(zip(_values(path, column), names, strict=key_column is not None)):
            yield _row(value, f"{shard}/{row}", None if key_column is None else name, limits)
    except Exception as error:  # pyarrow, too
        yield shard, partial(_fail, error)


def _values(path: str, column: str) -> Iterator[Any]:
    """A column as scalars of pyarrow: one in memory at a time, or the whole of a dictionary once.

    Rows that share a value of a dictionary page would hold a copy each, so that a small file could fill all memory.
    """
    from pyarrow import parquet, types

    with parquet.ParquetFile(path, buffer_size=_BUFFER) as file:
        shared = types.is_dictionary(file.schema_arrow.field(column).type)
        for batch in file.iter_batches(batch_size=_ROWS_OF_DICTIONARY if shared else 1, columns=[column]):
            for value in batch.column(column):
                yield value.value if shared and value.is_valid else value


def _row(value: Any, place: str, name: Any, limits: Limits) -> Photo:
    key = place
    try:
        if name is not None:
            key = _name(name)
        return key, partial(decode_photo, _content(value, limits), key, limits)
    except Exception as error:  # whatever pyarrow finds in a damaged value
        return key, partial(_fail, error)


def _name(scalar: Any) -> str:
    """The value of a key column as text."""
    from pyarrow import types

    if not scalar.is_valid:
        raise ValueError("its key is null")
    if types.is_nested(scalar.type):
        raise ValueError(f"its key is no text but {scalar.type}")
    if hasattr(scalar, "as_buffer") and scalar.as_buffer().size > 4 * _MAX_NAME:
        raise ValueError(f"its key has {scalar.as_buffer().size} bytes, more than {4 * _MAX_NAME}")
    try:
        name = str(scalar.as_py())
    except Exception as error:  # a time that Python's types do not reach, text that is not UTF-8
        raise ValueError(f"its key, of type {scalar.type}, cannot be written as text: {error}") from error
    _check_name(name)
    return name


def _content(scalar: Any, limits: Limits) -> bytes:
    """The bytes of an image file in a row: the value itself, or its field `bytes`."""
    from pyarrow import types

    if types.is_struct(scalar.type) and scalar.is_valid:
        scalar = scalar["bytes"]
    if not scalar.is_valid:
        raise ValueError("no bytes of an image but NoneType")
    kinds = types.is_binary, types.is_large_binary, types.is_fixed_size_binary, types.is_binary_view
    if not any(is_kind(scalar.type) for is_kind in kinds):
        raise ValueError(f"no bytes of an image but {scalar.type}")
    limits.check_bytes(scalar.as_buffer().size)
    data: bytes = scalar.as_py()
    return data


def _check_name(name: str) -> None:
    if len(name) > _MAX_NAME:
        raise ValueError(f"its name has {len(name)} characters, more than {_MAX_NAME}")
    if name.endswith("\0"):
        raise ValueError("its name ends with NUL, which arrays of text do not keep")


def _fail(error: Exception) -> NoReturn:
    raise error
