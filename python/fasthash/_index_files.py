"""Functions that load and check index files: `load`, `peek` and `verify`."""

from __future__ import annotations

import os

from fasthash import _core
from fasthash._checks import check_bool, path_bytes
from fasthash._flat_index import FlatIndex
from fasthash._folder_kinds import folders_named
from fasthash._hier_index import HierIndex
from fasthash._index_options import MEMORY_NAMES, StrPath
from fasthash.results import FileInfo, FileReport, FileSection

__all__ = ["is_index_file", "load", "peek", "verify"]

_BEGINNING = b"FASTHASH"  # the first bytes of an index file


def load(path: StrPath, mmap: bool = False) -> FlatIndex | HierIndex:
    """Load an index from a file; every byte of it is checked first.

    Args:
        path: a file that `save` wrote.
        mmap: map codes and ids from the file instead of reading them. Mapping is faster, and processes that map the
            same file share its memory. A mapped `HierIndex` whose codes were saved in clusters searches by clusters, as
            fast as in memory; another one searches by prefix, without substring tables. Changes of the index do not
            change the file. Do not overwrite the file in place while it is mapped; `save` is safe, because it replaces
            the file.

    Returns:
        A `FlatIndex` or `HierIndex`, as it was saved.

    Raises:
        FormatError: the file is not an index, is damaged, or was written by a newer fasthash; the message says where.
        OSError: the file cannot be read.
    """
    check_bool("mmap", mmap)
    with folders_named(path):
        core = _core.load(path_bytes(path), mmap)
    return HierIndex._of(core) if isinstance(core, _core.HierIndex) else FlatIndex._of(core)


def peek(path: StrPath) -> FileInfo:
    """Read the header of an index file, without its codes.

    Args:
        path: a file that `save` wrote.

    Raises:
        FormatError: the file is not an index, its header is damaged, or its length differs from the header.
        OSError: the file cannot be read.
    """
    with folders_named(path):
        return _file_info(_core.peek(path_bytes(path)))


def verify(path: StrPath) -> FileReport:
    """Check every byte of an index file, section by section; `FileReport.fault` holds the outcome.

    Args:
        path: a file that `save` wrote.

    Raises:
        FormatError: the file is not an index, its header is damaged, or its length differs from the header.
        OSError: the file cannot be read.
    """
    with folders_named(path):
        report = _core.verify(path_bytes(path))
    sections = (
        FileSection(entry.name, entry.offset, entry.n_bytes, entry.checksum, entry.intact) for entry in report.sections
    )
    return FileReport(_file_info(report.info), tuple(sections), report.fault)


def is_index_file(path: StrPath) -> bool:
    """Whether a file begins as an index file does, damaged or not. Pipes are not read."""
    try:
        if not os.path.isfile(path):
            return False
        with open(path, "rb") as file:
            return file.read(len(_BEGINNING)) == _BEGINNING
    except OSError:
        return False


def _file_info(info: _core.FileInfo) -> FileInfo:
    return FileInfo(
        kind=info.kind.name,
        level_bits=tuple(info.level_bits),
        n_codes=info.n_codes,
        has_ids=info.has_ids,
        format_version=f"{info.format_major}.{info.format_minor}",
        file_bytes=info.file_bytes,
        memory=MEMORY_NAMES[info.memory] if info.kind is _core.IndexKind.hier else None,
        n_clusters=info.n_clusters,
        has_id_map=info.has_id_map,
        metric=info.metric.name,
    )
