"""Changes to files that a loss of power does not undo, nor leave half done. Called by all that replaces a file whole.

A file's content, its name and the name of its folder reach the disk in any order, unless each is flushed first.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

__all__ = ["flush", "is_flushed", "make_folder", "put"]


def flush(path: str | os.PathLike[str]) -> None:
    """Wait until the content of a file, or the names in a folder, are on the disk.

    Raises:
        OSError: they cannot be written.
    """
    if os.name == "nt" and os.path.isdir(path):
        return  # Windows has no such call
    try:
        descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    except PermissionError:
        if not hasattr(os, "sync") or not os.path.exists(path):
            raise
        os.sync()  # a folder that can be written to need not be readable
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some file systems cannot flush folders
            raise
    finally:
        os.close(descriptor)


def is_flushed(folder: str | os.PathLike[str]) -> bool:
    """Flush the names in a folder; False if that fails.

    A file that has lost its name to another may be needed again until then: the new name may not be on the disk.
    """
    try:
        flush(folder)
    except OSError:
        return False
    return True


def make_folder(path: str | os.PathLike[str]) -> None:
    """Make a folder and those above it, if missing.

    Raises:
        OSError: the operating system refused it, or there is something else of this name.
    """
    path = Path(path)
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        flush(folder.parent)


def put(draft: Path, path: Path) -> None:
    """Give a file the name `path`, in the same folder, in place of the file that has it.

    Raises:
        OSError: a step was refused. The new file may be in place even so.
    """
    flush(draft)
    os.replace(draft, path)
    flush(path.parent)
