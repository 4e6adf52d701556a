"""`StoredShard`: a shard that is kept as a store on disk; runs in an actor, like `Shard`.

A version is the mapped store of the last commit with the changes since, in memory. Each version also knows the ids
that may differ from the commit. One copy of a shard, the keeper, writes the store; the owner of the index chooses it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from fasthash._index_options import IndexSettings
from fasthash._locks import Condition
from fasthash.distributed.manifest import read_shards, shard_folder
from fasthash.distributed.shard import Codes, Ids, Shard
from fasthash.index import HierIndex
from fasthash.store.entries import distinct, no_entries
from fasthash.store.files import named_in_errors
from fasthash.store.manifest import FileFacts
from fasthash.store.prepared import PreparingWriter, read_named
from fasthash.store.segment import Segment, open_segments
from fasthash.store.view import View

__all__ = ["StoredShard", "card_of"]

_LOCK_SECONDS = 60.0  # a lost keeper holds the lock until its process has ended
_PAUSE = 0.05
_IDS = {"add": 1, "remove": 0, "update": 0}  # place of the ids among the arguments


def card_of(named: FileFacts | None, settings: IndexSettings, check: bool) -> dict[str, Any]:
    """What a shard must know of the commit that counts: its manifest, the settings of its store, `check` of `open`."""
    return {"named": None if named is None else asdict(named), "settings": settings, "check": check}


def _named(card: Mapping[str, Any]) -> FileFacts | None:
    return None if card["named"] is None else FileFacts(**card["named"])


class StoredShard(Shard):
    """The codes of a shard in several versions at once, on top of a store."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._touched: dict[int, tuple[Ids, ...]] = {}  # of each version: the ids that may differ from the commit
        self._segments: Sequence[Segment] = ()  # of the commit
        self._writer: PreparingWriter | None = None
        self._keeping = Condition()  # held while the writer is used: a call that the owner gave up may still run

    # ---- what every copy does ----

    def load(self, version: int, folder: str, card: Mapping[str, Any], number: int, n_shards: int) -> int:
        """Open the commit of shard `number` that counts; return the number of codes."""
        self._place(folder, number)
        self._versions[version], self._touched[version] = self._opened(card), ()
        return len(self._versions[version])

    def put(self, version: int, content: Any, folder: str, card: Mapping[str, Any], number: int) -> None:
        """Make a version from the commit that counts and the changes of another copy."""
        self._place(folder, number)
        self._versions[version], self._touched[version] = self._changed(self._opened(card), *content), content[:1]

    def content(self, version: int) -> tuple[Ids, Ids, Codes]:
        """Return the ids that may differ from the commit; those of them that the version holds; and their codes."""
        touched = distinct(np.concatenate([no_entries(), *self._touched[version]]))
        index = self._versions[version]
        held = touched[index._impl.places(touched)[0] >= 0]
        return touched, held, index.reconstruct(held)

    def change(self, old: int, new: int, method: str, *arguments: Any) -> int:
        """Make a new version from an old one by calling a method of the index; return its number of codes."""
        if method == "rebase":
            return self._rebase(old, new, *arguments)
        size = super().change(old, new, method, *arguments)
        self._touched[new] = (*self._touched[old], np.array(arguments[_IDS[method]], np.int64))
        return size

    def forget(self, versions: Sequence[int]) -> None:
        """Drop versions that are no longer read."""
        super().forget(versions)
        for version in versions:
            self._touched.pop(version, None)

    def _rebase(self, old: int, new: int, card: Mapping[str, Any], durable: bool, changed: bool) -> int:
        """Make a new version from the commit that counts now; the keeper may clean up if it is on disk.

        Args:
            old: version with the same entries.
            new: number of the new version.
            card: of the commit.
            durable: whether the name of the commit is on disk.
            changed: whether the old version has changes that are not in the commit.
        """
        changes = self.content(old) if changed else None
        index = self._opened(card)
        self._set_version(old, new, index if changes is None else self._changed(index, *changes))
        self._touched[new] = () if changes is None else changes[:1]
        with self._keeping:
            if self._writer is not None:
                self._writer.settle(_named(card), durable=durable)
        return len(self._versions[new])

    def _place(self, folder: str, number: int) -> None:
        self._top, self._number, self._folder = Path(folder), number, shard_folder(folder, number)

    def _opened(self, card: Mapping[str, Any]) -> HierIndex:
        """The index of a commit, which shares the segments that it has in common with the one before."""
        if (named := _named(card)) is None:
            self._segments = ()
            return self._empty.copy()
        with named_in_errors(self._folder):
            manifest = read_named(self._folder, named, card["settings"])
            self._segments = open_segments(self._folder, manifest, self._segments, check=card["check"])
        return View(manifest, self._segments, manifest.next_id, manifest.keys).index.copy()

    @staticmethod
    def _changed(index: HierIndex, touched: Ids, held: Ids, codes: Codes) -> HierIndex:
        """Make entries of an index what they are in the `content` of a version."""
        index.remove(touched[index._impl.places(touched)[0] >= 0])
        index.add(codes, held)
        return index

    # ---- what the keeper does ----

    def tidy(self, version: int, card: Mapping[str, Any]) -> None:
        """Take the lock of the store, and remove files that do not count.

        Raises:
            BlockingIOError: another process writes the store, and goes on to do so.
            OSError: the folder cannot be written.
        """
        with self._keeping:
            self._writing(card)

    def prepare(self, version: int, card: Mapping[str, Any], changes: bool, merge: bool) -> FileFacts | None:
        """Write a commit that does not count yet; return the manifest that makes it count.

        Args:
            version: version to write.
            card: of the commit that counts now.
            changes: write the changes of the version, too, not only what merges have done.
            merge: merge all segments.

        Raises:
            BlockingIOError: as `tidy`.
            OSError: the operating system refused a step; the commit that counts is as it was.
        """
        with self._keeping:
            writer = self._writing(card)
            if changes:
                writer.set_entries(*self.content(version))
            return writer.prepare(merge=merge)

    def _writing(self, card: Mapping[str, Any]) -> PreparingWriter:
        """The writer, at the commit that counts."""
        named = _named(card)
        if self._writer is not None and not self._writer.goes_on_from(named):
            self._writer.close()
            self._writer = None
        if self._writer is None:
            self._writer = self._taken(named, card["settings"])
        return self._writer

    def _taken(self, named: FileFacts | None, settings: IndexSettings) -> PreparingWriter:
        """Take the lock of the store, and open it for writing."""

        def check() -> None:
            # A call from before the last commit must not clean up what that needs.
            if read_shards(self._top).shards[self._number].manifest != named:
                raise RuntimeError(f"{self._folder}: a later commit counts already")

        end = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                return PreparingWriter(self._folder, settings, named, check)
            except BlockingIOError:
                if time.monotonic() > end:
                    raise
                time.sleep(_PAUSE)
