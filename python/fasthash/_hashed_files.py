"""Files of a folder with their hashes, kept from run to run: which files are new or have changed, and hashing those.

Called by `fasthash.dedup` for photos and by `fasthash._videos`. A kept hash is used for a file of the same path, size
and time, if a sample of its bytes is the same, too: files that were swapped, or unpacked with their old times, may
have equal sizes and times.
"""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from fasthash._checks import check_path
from fasthash._durable import check_writable
from fasthash._extras import needs_extra
from fasthash._photo_files import Broken, Found, check_photo_folder, check_regular, reason
from fasthash._progress import is_watched, width
from fasthash._saved_folder import CARD_NAME, refuse_others
from fasthash.threads import get_num_threads

with needs_extra("dedup"):
    from tqdm import tqdm

__all__ = ["HashedFiles", "Run", "Stamp", "check_folders", "hash_files", "loaded", "stamp_of"]

_END = 1 << 16  # bytes at both ends of a file that are looked at
_N_SAMPLES, _SAMPLE = 16, 1 << 12  # and pieces between
_SAVE_EVERY = 1000  # photos hashed, and a tenth of all that are known: saving takes as long as there are photos

_Hash = TypeVar("_Hash")


class Stamp(NamedTuple):
    """Identify a file and its content."""

    n_bytes: int
    time: int
    """When it was last written, in nanoseconds."""

    sample: str
    """Checksum of a sample of its bytes; empty for one that no file has, as of a state of the first release."""


class Run:
    """A run over files, which Ctrl-C or SIGTERM may stop. Threads read the flag without a lock: it only turns True."""

    stopped = False


def stamp_of(path: str | os.PathLike[str]) -> Stamp:
    """The stamp of a file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not a regular file.
    """
    n_bytes = check_regular(path)
    digest = hashlib.blake2b(digest_size=8)
    with open(path, "rb", buffering=0) as file:
        digest.update(file.read(_END))
        between = n_bytes - 2 * _END
        for number in range(_N_SAMPLES if between > 0 else 0):
            file.seek(_END + between * number // _N_SAMPLES)
            digest.update(file.read(_SAMPLE))
        file.seek(max(_END, n_bytes - _END))
        digest.update(file.read(_END))
        facts = os.fstat(file.fileno())
    return Stamp(facts.st_size, facts.st_mtime_ns, digest.hexdigest())


class HashedFiles(ABC, Generic[_Hash]):
    """Hashes of files by their paths, each with the stamp of the file.

    Args:
        folder: of the files.
    """

    def __init__(self, folder: str) -> None:
        self.folder = os.path.realpath(folder)
        # One entry is the whole of a change, so that an interruption leaves each file as it was or as it is.
        self._files: dict[str, tuple[Stamp, _Hash]] = {}
        self.n_unsaved = 0

    def __len__(self) -> int:
        return len(self._files)

    @abstractmethod
    def load(self, state: str | os.PathLike[str]) -> None:
        """Take what `save` has written into `state`; nothing where there is no card yet.

        Raises:
            FormatError: the state is damaged.
            ValueError: it is of other settings or another folder. A folder that is gone may have been moved.
        """

    @abstractmethod
    def save(self, state: str | os.PathLike[str]) -> None:
        """Write all into a folder, as a whole."""

    @property
    def paths(self) -> list[str]:
        """Of all files, in the order in which they came."""
        return list(self._files)

    def stamp(self, path: str) -> Stamp | None:
        """The stamp that a file had when it was hashed; None for one that is not known."""
        found = self._files.get(path)
        return found and found[0]

    def put(self, path: str, stamp: Stamp, hashed: _Hash) -> None:
        """Take in the hash of a file, in place of an earlier one."""
        self._files[path] = stamp, hashed
        self.n_unsaved += 1

    def drop(self, path: str) -> None:
        """Forget a file, if it is known."""
        self._files.pop(path, None)

    def keep_only(self, paths: Collection[str]) -> None:
        """Forget the files that are not among these."""
        kept = set(paths)
        self._files = {path: entry for path, entry in self._files.items() if path in kept}

    def _check_same(self, before: dict[str, Any], names: Collection[str], state: str) -> None:
        """Refuse a state with other settings, which are attributes of these names, or of another folder."""
        for name in names:
            if (was := before[name]) != (now := getattr(self, name)):
                raise ValueError(
                    f"{name} must be {was}, as in the state {state!r}, got {now}; such hashes need a state of their own"
                )
        was = before.get("folder", self.folder)
        if was != self.folder and os.path.isdir(was) and not os.path.samefile(was, self.folder):
            raise ValueError(
                f"folder must be {was!r}, whose hashes the state {state!r} holds, got {self.folder!r}; "
                "each folder needs a state of its own"
            )


def hash_files(
    folder: str,
    known: HashedFiles[_Hash],
    state: Path | None,
    found: Found,
    hash_file: Callable[[str, Run], _Hash],
    unit: str,
    progress: bool,
    save_every: int | None = None,
) -> tuple[int, Broken]:
    """Hash what is new or has changed among some files, and save on the way and at the end.

    Args:
        folder: of the files, as errors call it.
        known: hashes of earlier runs; those of files that are gone are dropped.
        state: where they are kept, or None.
        found: the files.
        hash_file: returns the hash of a file. A file for which it raises counts as broken. If it takes long, it should
            look at `Run.stopped` now and then.
        unit: the noun of the progress bar.
        progress: show it, on a terminal.
        save_every: so many files hashed make a save due, and that share of 10,000 of all that are known; None takes
            1,000.

    Returns:
        How many were hashed, and the broken ones by path.
    """
    broken, n_hashed = list(found.broken), 0
    save_every = _SAVE_EVERY if save_every is None else save_every
    known.keep_only(found.paths)
    try:
        with closing(_hashed(folder, known, found.paths, hash_file, unit, progress)) as outcomes:
            for path, outcome in outcomes:
                if isinstance(outcome, str):
                    broken.append((path, outcome))
                    known.drop(path)
                elif outcome is not None:
                    known.put(path, *outcome)
                    n_hashed += 1
                if state is not None and known.n_unsaved >= max(save_every, len(known) * save_every // 10_000):
                    known.save(state)
    finally:  # Ctrl-C, too, loses no hash
        # A folder without files to hash, perhaps the wrong one, gets no state.
        if state is not None and (known or (state / CARD_NAME).exists()):
            known.save(state)
    return n_hashed, sorted(broken)


def loaded(known: HashedFiles[_Hash], state: str | os.PathLike[str] | None, kind: str, alone: bool) -> Path | None:
    """Take in the hashes of earlier runs; what cannot be written later is an error now.

    Args:
        known: takes them in.
        state: folder of the caller for them, or None.
        kind: begins the name of the folder below `state`.
        alone: whether the state is of this folder of files alone. With several folders it holds one for each.

    Returns:
        The folder in which the hashes of these files are kept, or None.
    """
    if state is None:
        return None
    check_path("state", state)
    place = Path(state)
    if not alone:
        place /= f"{kind}-{hashlib.blake2b(os.fsencode(known.folder), digest_size=8).hexdigest()}"
    check_writable("state", place)
    refuse_others("state", place)
    known.load(place)
    return place


def check_folders(reference: Any, folder: Any) -> tuple[list[str], list[str]]:
    """Reference folders and the others as strings; each argument is one folder or several.

    Raises:
        TypeError, FileNotFoundError: one is no path, or no folder.
        ValueError: there is no folder, or one lies in another: their files would all be duplicates of themselves.
    """
    references, folders = _as_folders("reference", reference), _as_folders("folder", folder)
    if not folders:
        raise ValueError("folder must name at least one folder, got none")
    every = references + folders
    places = [os.path.realpath(each) for each in every]
    for number, inner in enumerate(places):
        for other, outer in enumerate(places):
            if number != other and os.path.join(inner, "").startswith(os.path.join(outer, "")):
                raise ValueError(f"folders must not lie in one another, got {every[number]!r} in {every[other]!r}")
    return references, folders


def _as_folders(name: str, value: Any) -> list[str]:
    several = isinstance(value, Sequence) and not isinstance(value, (str, bytes))
    return [check_photo_folder(name, each) for each in (value if several else [value])]


# The stamp and the hash of a file, or what is wrong with it; None where its hash is known.
_Outcome = tuple[Stamp, _Hash] | str | None


def _hashed(
    folder: str,
    known: HashedFiles[_Hash],
    paths: list[str],
    hash_file: Callable[[str, Run], _Hash],
    unit: str,
    progress: bool,
) -> Generator[tuple[str, _Outcome[_Hash]], None, None]:
    """Each path, in order, with what came of it."""
    run = Run()

    def attempt(path: str) -> tuple[str, _Outcome[_Hash]]:
        place = os.path.join(folder, path)
        try:
            stamp = stamp_of(place)
            if known.stamp(path) == stamp:
                return path, None
            return path, (stamp, hash_file(place, run))
        except Exception as error:  # decoders raise anything from OSError to SyntaxError on broken files
            return path, reason(error)

    pool = ThreadPoolExecutor(get_num_threads())
    try:
        yield from tqdm(
            pool.map(attempt, paths),
            total=len(paths),
            desc="hash",
            unit=unit,
            ncols=width(),
            disable=not (progress and is_watched()),
        )
    finally:
        run.stopped = True
        pool.shutdown(cancel_futures=True)  # Ctrl-C waits for the files at hand, not for all
