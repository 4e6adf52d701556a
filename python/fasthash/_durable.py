"""Changes of files that survive a loss of power completely or not at all; called wherever a file is replaced.

Without flushing, the content of a file, its name and the name of its folder may reach the disk in any order.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

__all__ = ["flush", "is_flushed", "make_folder", "put"]


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


def put(draft: Path, path: Path) -> None:
    """Rename a file to `path` in the same folder, atomically replacing the file of that name.

    Raises:
        OSError: a step was refused. The new file may have replaced the old one nevertheless.
    """
    flush(draft)
    os.replace(draft, path)
    flush(path.parent)
