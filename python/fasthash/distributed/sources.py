"""Sources of many images: photos in a folder, tar shards, parquet files.

The calling process divides a source into parts by the names of its files (and the first bytes of files with unknown
endings), so that a resumed run divides it alike. The readers of Ray Data are not used here: they end a run at the first
unreadable file, and divide by size.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from fasthash._checks import check_choice, check_int
from fasthash._extras import needs_extra
from fasthash._photo_files import Broken, find_files, is_photo_file
from fasthash._photos import DEFAULT_LIMITS, Limits, read_photo
from fasthash._shown import counted
from fasthash.distributed._shards import MissingColumnError, Photo, check_columns, members, rows

__all__ = ["FORMATS", "Photo", "Source"]

# From the format of a source to the endings of its shards.
_SHARDS = {"tar": (".tar", ".tar.gz", ".tgz"), "parquet": (".parquet",)}
FORMATS = ("images", *_SHARDS)


@dataclass(frozen=True)
class Source:
    """Where images are and how they lie there.

    Args:
        path: folder, or a single shard.
        format: one of `FORMATS`.
        part_size: photos of a part; a shard is a part by itself.
        column: of parquet files: bytes of image files, or a struct with these as `bytes`.
        key_column: of parquet files: what names the image of a row; None takes `file/row`.
        limits: of one image.

    Raises:
        MissingExtraError: pyarrow is not installed, which parquet files need.
        TypeError, ValueError: an argument is not as described.
    """

    path: str
    format: str
    part_size: int
    column: str | None = None
    key_column: str | None = None
    limits: Limits = DEFAULT_LIMITS

    def __post_init__(self) -> None:
        check_choice("format", self.format, FORMATS)
        check_int("part_size", self.part_size, 1)
        for name, value in (("column", self.column), ("key_column", self.key_column)):
            if value is not None and not isinstance(value, str):
                raise TypeError(f"{name} must be the name of a column or None, got {value!r}")
            if value is not None and self.format != "parquet":
                raise ValueError(f"{name} must be None for format={self.format!r}, got {value!r}")
        if self.format == "parquet":
            with needs_extra("ray"):  # told here: what goes wrong with a shard only lists it as broken
                import pyarrow.parquet  # noqa: F401

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
        suffixes = _SHARDS.get(self.format, ())
        images = self.format == "images"
        wanted = is_photo_file if images else lambda name: name.lower().endswith(suffixes)
        names, broken, n_others = find_files(self.path, wanted)
        if not names and not broken and images:
            raise ValueError(f"no photos below {self.path!r} ({counted(n_others, 'file')})")
        if not names and not broken:
            raise ValueError(f"source={self.path!r} holds no files for format={self.format!r} ({', '.join(suffixes)})")
        size = self.part_size if images else 1
        return [names[start : start + size] for start in range(0, len(names), size)], broken

    def check_columns(self, names: Iterable[str]) -> None:
        """Raise ValueError where no parquet file has the columns; one that lacks them is listed as broken later."""
        if self.format != "parquet":
            return
        columns = [self._column] if self.key_column is None else [self._column, self.key_column]
        first: MissingColumnError | None = None
        for name in names:
            try:
                check_columns(self.file(name), columns)
            except MissingColumnError as error:
                first = first or error
            except Exception:  # of any kind: the file is listed as broken when it is read
                continue
            else:
                return
        if first is not None:
            raise first

    @property
    def _column(self) -> str:
        return self.column or "image"

    def file(self, name: str) -> str:
        """Path of a file of a part."""
        return self.path if os.path.isfile(self.path) else os.path.join(self.path, name)

    def photos(self, names: list[str]) -> Iterator[Photo]:
        """The images of a part, one by one, in the order in which they lie there.

        Raises:
            FileNotFoundError: this host does not see the source.
        """
        self.check_there()
        for name in names:
            path = self.file(name)
            if self.format == "images":
                yield name, partial(read_photo, path, self.limits)
            elif self.format == "tar":
                yield from members(path, name, self.limits)
            else:
                yield from rows(path, name, self._column, self.key_column, self.limits)
