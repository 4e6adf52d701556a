"""Changes of files that survive a loss of power completely or not at all; called wherever a file is replaced.

Without flushing, the content of a file, its name and the name of its folder may reach the disk in any order.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import RawIOBase
from pathlib import Path
from typing import Any

from fasthash._checks import check_path

__all__ = [
    "check_writable",
    "flush",
    "is_flushed",
    "make_folder",
    "make_readable",
    "named_in_errors",
    "put",
    "write_all",
]


@contextmanager
def named_in_errors(path: Path) -> Iterator[None]:
    """If the block raises an error of the operating system that names no file, add this path; type and errno stay.

    `write`, `fsync` and `mmap` know only a descriptor.
    """
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = os.fspath(path)
        raise


def flush(path: str | os.PathLike[str]) -> None:
    """Wait until the content of a file, or the names in a folder, are on disk.

    Raises:
        OSError: the operating system cannot write them.
    """
    if os.name == "nt" and os.path.isdir(path):
        return  # Windows cannot flush folders
    try:
        descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    except PermissionError:
        if not hasattr(os, "sync") or not os.path.exists(path):
            raise
        os.sync()  # a writable folder may be unreadable
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some file systems cannot flush folders
            raise
    finally:
        os.close(descriptor)


def write_all(file: RawIOBase, content: bytes | memoryview) -> None:
    """Write all bytes to a file without a buffer, whose `write` may take only some of them: on a full disk, for one."""
    view = memoryview(content)
    while view:
        view = view[file.write(view) :]


def check_writable(name: str, folder: Any, files: Iterable[str] = ()) -> None:
    """Check that a folder, which need not be there yet, will take files: before the work whose results they are.

    Args:
        name: of the argument.
        folder: to be written into; nothing stays there now.
        files: names of files in it that will be replaced.

    Raises:
        TypeError: `folder` is no path.
        OSError: it is a file, or nothing can be written there.
    """
    check_path(name, folder)
    place = Path(folder)
    there = next((path for path in (place, *place.parents) if os.path.lexists(path)), Path())  # also a broken link
    if not there.is_dir():
        raise NotADirectoryError(f"{name}={os.fspath(folder)!r} must be a folder, but {os.fspath(there)!r} is none")
    for path in (place / file for file in files):
        if path.is_dir():
            raise IsADirectoryError(
                f"{name}={os.fspath(folder)!r} holds a folder called {path.name}, which must be a file"
            )
        if path.exists() and not os.access(path, os.W_OK):
            raise PermissionError(f"{name}={os.fspath(folder)!r} holds {path.name}, which may not be written")
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(f"{name}={os.fspath(folder)!r} cannot be written: {os.fspath(there)!r} does not allow it")


def is_flushed(folder: str | os.PathLike[str]) -> bool:
    """Flush the names in a folder; return False if that fails.

    Until the flush, a replaced file may still be needed: the new name may not be on disk.
    """
    try:
        flush(folder)
    except OSError:
        return False
    return True


def make_folder(path: str | os.PathLike[str]) -> None:
    """Make a folder and its parents, if missing.

    Raises:
        OSError: the operating system refused it, or the name belongs to something else.
    """
    path = Path(path)
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        flush(folder.parent)


def make_readable(path: Path) -> None:
    """Give a file the permissions of a new one, as `open` would make it.

    safetensors writes a temporary file, which only its owner may read, and renames it. The umask of a process cannot
    be read without changing it for all threads, so an empty file shows them, in a folder of its own: in that of `path`,
    it would be left there by a process that is killed.
    """
    with tempfile.TemporaryDirectory() as folder:
        probe = Path(folder, "probe")
        probe.touch()
        path.chmod(stat.S_IMODE(probe.stat().st_mode))


def put(draft: Path, path: Path) -> None:
    """Rename a file to `path` in the same folder, atomically replacing the file of that name.

    Raises:
        OSError: a step was refused. The new file may have replaced the old one nevertheless.
    """
    flush(draft)
    os.replace(draft, path)
    flush(path.parent)
