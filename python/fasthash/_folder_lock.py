"""The lock of a folder: every writer to a saved folder holds it, so that one writer works at a time.

The lock excludes other threads and processes, and other hosts if the file system shares locks. Readers take no lock.
The operating system frees the lock of a killed process.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["LOCK_NAME", "hold_file", "is_held", "locked", "release_file", "share_file", "try_remove"]

LOCK_NAME = ".fasthash.lock"
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
_FIRST_PAUSE, _LONGEST_PAUSE = 0.0005, 0.02  # seconds between two attempts; Ctrl-C ends a pause

_Place = tuple[int, int]  # device and number of a folder or file
_held: dict[int, tuple[_Place, int]] = {}  # folder and thread of each descriptor with a lock


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Hold the lock of a folder within the block; waits for the current holder.

    Yields False if the file system has no locks. Then the caller must not remove files that another writer may have
    written.

    Raises:
        RuntimeError: this thread holds the lock already, for example in a signal handler that saves during a save.
        OSError: the folder is missing or cannot be written.
    """
    owner = _place(os.stat(folder)), threading.get_ident()
    if owner in _held.values():
        raise RuntimeError(f"folder={os.fspath(folder)!r} is being saved by this thread; save it when that has ended")
    descriptor = _acquired(folder / LOCK_NAME)
    if descriptor is None:
        yield False
        return
    _held[descriptor] = owner
    try:
        yield True
    finally:
        if _held.pop(descriptor, None):  # a forked child does not hold the lock
            with contextlib.suppress(OSError):  # Windows cannot remove an open file
                os.unlink(folder / LOCK_NAME)
            _unlock(descriptor)  # explicitly, since a forked child may have the descriptor open too
            os.close(descriptor)


def hold_file(path: Path) -> int | None:
    """Open a file, made if missing, and lock it without waiting; return its descriptor, or None if another holds it.

    Unlike the lock of a folder, the file stays. A forked child does not hold the lock. `release_file` ends it.

    Raises:
        OSError: the file cannot be opened, or the file system has no locks.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if _try_lock(descriptor):
            _held[descriptor] = _place(os.fstat(descriptor)), threading.get_ident()
            return descriptor
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def is_held(path: Path) -> bool:
    """Whether this process holds the lock of the file that is at a path now, which may be another one by now."""
    try:
        place = _place(os.stat(path))
    except (FileNotFoundError, NotADirectoryError):
        return False
    return any(held == place for held, _ in list(_held.values()))


def release_file(descriptor: int) -> None:
    """Give back the lock of `hold_file`; does nothing in a forked child."""
    if _held.pop(descriptor, None):
        _unlock(descriptor)
        os.close(descriptor)


def try_remove(path: Path) -> bool:
    """Remove a file unless a reader shares it (`share_file`); return whether it is gone."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        if _try_lock(descriptor):
            os.unlink(path)
            return True
    except OSError:
        pass  # no locks here, or the file is open on Windows: it stays
    finally:
        os.close(descriptor)
    return not path.exists()


def _acquired(path: Path) -> int | None:
    """Open and lock the file at a path; return its descriptor, or None if the file system has no locks."""
    pause = _FIRST_PAUSE
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            # The previous holder may have removed the file: a lock on a removed file excludes nobody.
            if _try_lock(descriptor) and _is_at(descriptor, path):
                return descriptor
        except BaseException as error:
            os.close(descriptor)
            if isinstance(error, OSError) and error.errno in _NO_LOCKS:
                path.unlink(missing_ok=True)
                return None
            raise
        os.close(descriptor)
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return _place(os.fstat(descriptor)) == _place(os.stat(path))
    except FileNotFoundError:
        return False


def _place(facts: os.stat_result) -> _Place:
    return facts.st_dev, facts.st_ino


if sys.platform == "win32":
    import msvcrt

    def _try_lock(descriptor: int) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EDEADLK):
                return False
            raise
        return True

    def _unlock(descriptor: int) -> None:
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

    def share_file(path: Path) -> int:
        """Open a file, which cannot be removed while it is open; return its descriptor."""
        return os.open(path, os.O_RDONLY)

else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)

    def share_file(path: Path) -> int:
        """Open a file and share it, so that `try_remove` keeps it until the descriptor is closed; return that.

        On a file system without locks the file is open, which keeps its content but not its name.
        """
        descriptor = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                os.close(descriptor)
                raise
        return descriptor

    def _forget_held() -> None:
        """Close the descriptors in a forked child: they would keep the lock after the parent is killed."""
        for descriptor in _held:
            with contextlib.suppress(OSError):
                os.close(descriptor)
        _held.clear()

    os.register_at_fork(after_in_child=_forget_held)
