"""The files of a store's folder: new names, writing and flushing, sharing with readers, cleaning up.

Every file is written once under a new name. A reader shares each file that it maps, so that a writer, which removes the
files that the manifest does not name, leaves those which a reader needs.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
import weakref
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from fasthash._core import FormatError
from fasthash._durable import flush, named_in_errors, write_all
from fasthash._folder_lock import hold_file, is_held, release_file, share_file, try_remove
from fasthash._saved_folder import stranger_in
from fasthash.store.manifest import MANIFEST, OUR_FILES

__all__ = [
    "LOCK",
    "SharedFile",
    "WriterLock",
    "fault_of_lock",
    "fault_of_place",
    "flush_files",
    "leftovers",
    "named_in_errors",
    "new_name",
    "put_manifest",
    "reached",
    "refuse_strangers",
    "remove",
    "write_file",
]

LOCK = "writer.lock"
_DRAFTS = re.compile(r"\.fasthash-.*\.tmp")  # of Index.save
_FLUSHING = 4  # threads; the system flushes files of one moment together


def reached(point: str) -> None:
    """Do nothing; tests replace this function to end the process at this point."""


def new_name(kind: str, ending: str) -> str:
    """A name that no file of a store has."""
    return f"{kind}-{secrets.token_hex(8)}.{ending}"


def write_file(path: Path, content: bytes) -> None:
    """Write a new file; `put_manifest` flushes it.

    Raises:
        OSError: the operating system refused it; no file is left.
    """
    try:
        with named_in_errors(path), open(path, "xb", buffering=0) as file:
            write_all(file, content)
    except OSError:
        with suppress(OSError):
            path.unlink()
        raise


def flush_files(folder: Path, files: Collection[Path]) -> None:
    """Wait until new files, and their names, are on disk.

    Raises:
        OSError: the operating system cannot write them.
    """
    with ThreadPoolExecutor(max(1, min(_FLUSHING, len(files)))) as pool:
        list(pool.map(_flush, files))
    _flush(folder)


def _flush(path: Path) -> None:
    with named_in_errors(path):
        flush(path)


def put_manifest(folder: Path, text: bytes, files: Iterable[Path]) -> bool:
    """Replace the manifest of a folder, after its new files are on disk.

    Args:
        folder: of a store, or of shards, whose lock this process holds.
        text: content of the new manifest.
        files: the new files that it names.

    Returns:
        False if the new manifest is in place, but perhaps not on disk: the folder could not be flushed.

    Raises:
        OSError: a step was refused; the old manifest is in place.
    """
    draft = folder / new_name("manifest", "draft")
    try:
        write_file(draft, text)
        reached("manifest written")
        flush_files(folder, [draft, *files])
        reached("files flushed")
        if fault := fault_of_lock(folder):
            raise OSError(f"{fault}; nothing is written")
        os.replace(draft, folder / MANIFEST)
    except BaseException:
        with suppress(OSError):
            draft.unlink()
        raise
    reached("manifest replaced")
    try:
        flush(folder)
    except OSError:
        return False
    return True


def leftovers(folder: Path, needed: Collection[str]) -> set[str]:
    """Names of the files of stores in a folder that are not needed.

    Removes what killed saves of an index left; the caller holds the lock of the store, and saves nothing.
    """
    names = {path.name for path in folder.iterdir()}
    for name in filter(_DRAFTS.fullmatch, names):
        with suppress(OSError):
            (folder / name).unlink()
    return {name for name in names if OUR_FILES.fullmatch(name)} - set(needed)


def remove(folder: Path, names: Iterable[str]) -> set[str]:
    """Remove files that no manifest names; return those that stay, since a reader needs them."""
    reached("cleaning")
    left = set()
    for name in sorted(names):
        if not try_remove(folder / name):
            left.add(name)
        reached("file removed")
    return left


def refuse_strangers(folder: Path) -> None:
    """Check that a folder without a manifest holds nothing but what a writer leaves that was killed as it began.

    Raises:
        FileExistsError: it holds something else, or files of a store that has lost its manifest.
    """
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"path={str(folder)!r} is a file, not the folder of a store")
    for path in folder.iterdir() if folder.exists() else []:
        if OUR_FILES.fullmatch(path.name) and not path.name.endswith(".draft"):
            raise FileExistsError(
                f"path={str(folder)!r} holds files of a store, but no manifest; restore {MANIFEST!r} or remove them"
            )
    if other := stranger_in(folder, lambda name: name == LOCK or OUR_FILES.fullmatch(name)):
        raise FileExistsError(f"path={str(folder)!r} is no store, but holds something else: {other}")


class SharedFile:
    """A file that no writer removes as long as this object lives.

    Raises:
        OSError: the file is missing or cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with named_in_errors(path):
            self.descriptor = share_file(path)
        self._end = weakref.finalize(self, os.close, self.descriptor)
        self._end.atexit = False

    def head(self, n: int) -> tuple[bytes, int]:
        """The first n bytes, and the length of the file."""
        with open(self.path, "rb", buffering=0) as file:
            return file.read(n), os.fstat(file.fileno()).st_size


class WriterLock:
    """The lock of a store's only writer, which names itself in the file; `release` ends it, once.

    Raises:
        BlockingIOError: another process or object writes the store.
        OSError: the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / LOCK
        with named_in_errors(path):
            held: list[int] = []
            self.release = weakref.finalize(self, _release, held)  # before there is a lock, which Ctrl-C must not leave
            try:
                descriptor = hold_file(path)
                if descriptor is None:
                    raise BlockingIOError(
                        f"path={str(folder)!r} is being written by {_holder(path)}; it has one writer at a time"
                    )
                held.append(descriptor)
                os.ftruncate(descriptor, 0)
                # Windows lets nobody read the first byte, which is locked.
                os.write(descriptor, f" process {os.getpid()} on host {socket.gethostname()}".encode())
            except BaseException:
                self.release()
                raise


def _release(held: list[int]) -> None:
    while held:
        release_file(held.pop())


def fault_of_lock(folder: Path) -> str:
    """Why this process no longer holds the lock of a folder; "" if it does."""
    if is_held(folder / LOCK):
        return ""
    return f"path={os.fspath(folder)!r} was removed or replaced, or its {LOCK}, since it was opened to be written"


def fault_of_place(folder: Path, manifest: object, read: Callable[[Path], object], owner: str) -> str:
    """Why a folder is not the one that its owner has opened; "" if it is.

    It may have been removed and made anew, or restored from a backup: what is there now must not be overwritten.

    Args:
        folder: of a store, or of shards.
        manifest: that of the owner.
        read: function of the folder; returns the manifest that is there now.
        owner: what the fault calls it.
    """
    if fault := fault_of_lock(folder):
        return fault
    try:
        same = read(folder) == manifest
    except (FileNotFoundError, FormatError) as error:
        return str(error)
    if not same:
        return f"path={os.fspath(folder)!r} holds another commit than that of this {owner}, such as a backup"
    return ""


def _holder(path: Path) -> str:
    with suppress(OSError), open(path, "rb", buffering=0) as file:
        file.seek(1)
        if text := file.read(300).decode(errors="replace"):
            return text
    return "another process"
