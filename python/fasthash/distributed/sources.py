"""Images in great numbers, as they lie on disk: photos in a folder, tar shards, parquet files.

A source is cut into parts by the names of its files alone, so that every process cuts it alike. The readers of Ray Data
are not taken here: they end a run at the first file that cannot be read, and cut by size.
"""

from __future__ import annotations

import os
import platform
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

from fasthash._checks import check_choice, check_int
from fasthash._extras import needs_extra
from fasthash._photos import IMAGE_SUFFIXES, Broken, decode_photo, find_files, is_photo, read_photo

with needs_extra("train"):
    from PIL import Image

__all__ = ["FORMATS", "Photo", "Source"]

# From the format of a source to the endings of its shards.
_SHARDS = {"tar": (".tar", ".tar.gz", ".tgz"), "parquet": (".parquet",)}
FORMATS = ("images", *_SHARDS)

# The key of an image, and what reads it or raises whatever is wrong with it.
Photo = tuple[str, Callable[[], Image.Image]]


@dataclass(frozen=True)
class Source:
    """Where images are and how they lie there.

    Args:
        path: folder, or a single shard.
        format: one of `FORMATS`.
        part_size: photos of a part; a shard is a part by itself.
        column: of parquet files: bytes of image files, or a struct with these as `bytes`.
        key_column: of parquet files: what names the image of a row; None takes `file/row`.

    Raises:
        TypeError, ValueError: an argument is not as described.
    """

    path: str
    format: str
    part_size: int
    column: str | None = None
    key_column: str | None = None

    def __post_init__(self) -> None:
        check_choice("format", self.format, FORMATS)
        check_int("part_size", self.part_size, 1)
        for name, value in (("column", self.column), ("key_column", self.key_column)):
            if value is not None and not isinstance(value, str):
                raise TypeError(f"{name} must be the name of a column or None, got {value!r}")
            if value is not None and self.format != "parquet":
                raise ValueError(f"{name} must be None for format={self.format!r}, got {value!r}")

    def check_there(self) -> None:
        """Raise FileNotFoundError where this host does not see the source."""
        if self.format == "images" and not os.path.isdir(self.path):
            raise FileNotFoundError(f"source={self.path!r} is not a folder on {platform.node()}")
        if not os.path.exists(self.path):
            raise FileNotFoundError(f"source={self.path!r} is not there on {platform.node()}")

    def parts(self) -> tuple[list[list[str]], Broken]:
        """Names of the files of each part, in sorted order, and the folders below that cannot be read.

        Raises:
            FileNotFoundError: `path` is not there.
            PermissionError: `path` itself cannot be read.
            ValueError: there is no file of this format.
        """
        self.check_there()
        if os.path.isfile(self.path):
            return [[os.path.basename(self.path)]], []
        suffixes = _SHARDS.get(self.format, tuple(sorted(IMAGE_SUFFIXES)))
        images = self.format == "images"
        wanted = is_photo if images else lambda name: name.lower().endswith(suffixes)
        names, broken = find_files(self.path, wanted)
        if not names and not broken:
            raise ValueError(f"source={self.path!r} holds no files for format={self.format!r} ({', '.join(suffixes)})")
        size = self.part_size if images else 1
        return [names[start : start + size] for start in range(0, len(names), size)], broken

    def file(self, name: str) -> str:
        """Path of a file of a part."""
        return self.path if os.path.isfile(self.path) else os.path.join(self.path, name)

    def photos(self, names: list[str]) -> Iterator[Photo]:
        """The images of a part, one by one, in the order in which they lie there.

        Raises:
            FileNotFoundError: this host does not see the source.
            ValueError: a parquet file lacks a column.
        """
        self.check_there()
        for name in names:
            path = self.file(name)
            if self.format == "images":
                yield name, partial(read_photo, path)
            elif self.format == "tar":
                yield from _members(path, name)
            else:
                yield from _rows(path, name, self.column or "image", self.key_column)


def _members(path: str, shard: str) -> Iterator[Photo]:
    """The image files in a tar, by their place in it."""
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                if not is_photo(member.name) or member.isdir():
                    continue
                key = f"{shard}/{member.name}"
                if member.isfile():
                    yield key, partial(decode_photo, tar.extractfile(member).read(), key)  # type: ignore[union-attr]
                else:
                    yield key, partial(_fail, ValueError("not a regular file"))
            # tarfile takes a damaged header for the end
            tar.fileobj.seek(tar.offset)
            if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError(f"damaged or cut off after {tar.offset} bytes")
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        yield shard, partial(_fail, error)


def _rows(path: str, shard: str, column: str, key_column: str | None) -> Iterator[Photo]:
    """The images in a parquet file, row by row."""
    with needs_extra("ray"):
        import pyarrow as pa
        from pyarrow import parquet
    try:
        with parquet.ParquetFile(path) as file:
            columns = [column] if key_column is None else [column, key_column]
            for name in columns:
                if name not in file.schema_arrow.names:
                    raise ValueError(f"{path} has no column {name!r} but {', '.join(file.schema_arrow.names)}")
            row = 0
            for batch in file.iter_batches(batch_size=64, columns=columns):
                for values in batch.to_pylist():
                    key = f"{shard}/{row}" if key_column is None else str(values[key_column])
                    yield key, partial(_decode_value, values[column], key)
                    row += 1
    except (OSError, pa.ArrowException) as error:
        yield shard, partial(_fail, error)


def _decode_value(value: Any, key: str) -> Image.Image:
    data = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(data, bytes):
        raise ValueError(f"no bytes of an image but {type(data).__name__}")
    return decode_photo(data, key)


def _fail(error: Exception) -> NoReturn:
    raise error
