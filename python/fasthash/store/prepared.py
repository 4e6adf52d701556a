"""`PreparingWriter`: the writer of a shard's store, whose commits count once the manifest of all shards names them.

Called in the actors of a `ShardedIndex`. A commit is a new manifest under a new name; the files of the commit that
counts stay until the next one does.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fasthash._core import FormatError
from fasthash._durable import make_folder
from fasthash._index_options import IndexSettings
from fasthash.store import files
from fasthash.store.commit import Commit
from fasthash.store.entries import difference
from fasthash.store.files import fault_of_lock, flush_files, named_in_errors, new_name, write_file
from fasthash.store.manifest import FileFacts, Manifest, read_manifest
from fasthash.store.writer import Writer, first_manifest

__all__ = ["PreparingWriter", "read_named"]


class PreparingWriter(Writer):
    """The only writer of a shard's store.

    Args:
        folder: of the store; made if it is missing.
        settings: of the store, for its first commit.
        named: manifest of the commit that counts; None before the first one.
        check: called under the lock before anything changes; raises if another commit counts.

    Raises:
        BlockingIOError: another writer is at work.
        FormatError: the store is damaged.
        OSError: the folder cannot be written.
    """

    def __init__(
        self, folder: Path, settings: IndexSettings, named: FileFacts | None, check: Callable[[], object] = lambda: None
    ) -> None:
        self._named = self._prepared = self._next = named

        def first() -> Manifest:
            check()
            return first_manifest(settings) if named is None else read_named(folder, named, settings)

        with named_in_errors(folder):
            make_folder(folder)
            self._start(folder, first, merges=True, check=False)
        self._settled = self.manifest, self.segments

    def goes_on_from(self, named: FileFacts | None) -> bool:
        """Go back or on to the commit that counts; return False if this writer does not know it."""
        with self._changing("prepare"):
            if named == self._prepared:
                self._settle()
            elif named == self._named:
                self._revert()
            return named == self._named

    def set_entries(self, ids: NDArray[np.int64], held: NDArray[np.int64], codes: NDArray[np.uint8]) -> None:
        """Change entries for the next commit.

        Args:
            ids: distinct, of the entries that may have changed.
            held: those that the shard holds now.
            codes: their codes.
        """
        before = ids[self.view.places(ids)[0] >= 0]
        if len(gone := difference(before, held)):
            self.remove(None, gone)
        old = self.view.places(held)[0] >= 0
        changed = np.flatnonzero(old)
        changed = changed[(self.view.index.reconstruct(held[changed]) != codes[changed]).any(axis=1)]
        if len(changed):
            self.update(codes[changed], None, held[changed])
        if not old.all():
            self.add(codes[~old], None, held[~old])

    def prepare(self, *, merge: bool) -> FileFacts | None:
        """Write the changes, so that they are on disk; return the manifest to name from now on.

        If it fails, `goes_on_from` goes back.

        Args:
            merge: also merge all segments.

        Raises:
            OSError: the operating system refused a step.
        """
        with self._changing("prepare"):
            self._commit(draft=True)
            if merge:
                self._compact()
            return self._prepared

    def settle(self, named: FileFacts | None, *, durable: bool) -> None:
        """Learn which commit counts; if its name is on disk, remove files that it does not need, and merge."""
        with self._changing("settle"):
            if named == self._prepared:
                self._settle()
                if durable:
                    self._tidy()

    def _finish(self) -> None:
        """Drop what does not count; the next writer removes its files."""
        self.merger.wait()
        self._settled = self.manifest, []

    def _settle(self) -> None:
        self._named, self._settled = self._prepared, (self.manifest, self.segments)

    def _revert(self) -> None:
        """Go back to the commit that counts; the files of the one that does not are removed after the next."""
        (manifest, segments), dropped = self._settled, self._prepared
        self._obsolete |= self.manifest.files() - manifest.files()
        if dropped is not None and dropped != self._named:
            self._obsolete.add(dropped.name)
        self._prepared = self._named
        self._begin(manifest, segments)
        self._obsolete -= self._needed()

    def _take(self, step: Commit, draft: bool) -> None:
        super()._take(step, draft)
        if self._prepared is not None:
            self._obsolete.add(self._prepared.name)
        self._prepared = self._next

    def _put(self, manifest: Manifest, written: list[Path]) -> bool:
        path, text = self.folder / new_name("manifest", "commit"), manifest.text()
        written.append(path)
        write_file(path, text)
        files.reached("shard written")
        flush_files(self.folder, written)
        files.reached("shard prepared")
        self._next = FileFacts.of(path.name, len(text), text)
        return True

    def _is_in_place(self, manifest: Manifest) -> bool:
        return False  # nothing counts before it is named

    def _fault_of_place(self) -> str:
        return fault_of_lock(self.folder)  # the owner of the shards looks at the manifest

    def _needed(self) -> set[str]:
        return self.manifest.files() | (set() if self._named is None else {self._named.name})


def read_named(folder: Path, facts: FileFacts, settings: IndexSettings) -> Manifest:
    """Read the manifest of a commit of a shard, whose store has these settings.

    Raises:
        FormatError: it is missing, damaged, or another one, or has other settings.
        OSError: the operating system refused it.
    """
    path = folder / facts.name
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FormatError(f"{path} is missing, which the manifest of the shards names") from error
    facts.check(path, text, len(text))
    manifest = read_manifest(folder, facts.name)
    if manifest.settings != settings:
        raise FormatError(f"{path} has the settings {manifest.settings}, the manifest of the shards has {settings}")
    return manifest
