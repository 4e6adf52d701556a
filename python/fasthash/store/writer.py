"""The writer of a store: changes, commits and merges.

At any time there is the last commit, on disk, and the draft: entries in memory, and entries of the segments that are
removed. A commit writes the draft into new files and then replaces the manifest. If it fails before, nothing has
changed and the draft is as it was.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasthash._durable import flush, make_folder
from fasthash._index_files import is_index_file
from fasthash._locks import ChangeLock
from fasthash.store import files
from fasthash.store.commit import Commit
from fasthash.store.entries import distinct
from fasthash.store.files import (
    WriterLock,
    fault_of_place,
    leftovers,
    named_in_errors,
    put_manifest,
    refuse_strangers,
    remove,
)
from fasthash.store.manifest import MANIFEST, Manifest, read_manifest
from fasthash.store.merging import Merger, merged, take_over
from fasthash.store.segment import Segment, empty_index, open_segments
from fasthash.store.view import View

__all__ = ["Settings", "Writer", "first_manifest"]

Settings = dict[str, Any]  # level_bits, memory, plan and metric of a new store


class Writer:
    """The only writer of a store.

    Args:
        folder: of the store; made if it is missing and `settings` has a width.
        settings: those given by the caller, which an existing store must have; `level_bits` makes a new one.
        merges: merge segments in the background.
        check: as of `Store`.
        width: the argument that gave `level_bits`, for errors: `"level_bits"` or `"n_bits"`.

    Raises:
        BlockingIOError: another writer is at work.
        FileNotFoundError: there is no store, and no width is given.
        FileExistsError: the folder holds something else.
        ValueError: the store has other settings, or those of a new one exclude each other.
        FormatError: the store is damaged.
        OSError: the folder cannot be written.
    """

    def __init__(
        self, folder: Path, settings: Settings, merges: bool, check: bool, *, width: str = "level_bits"
    ) -> None:
        if not (folder / MANIFEST).exists():
            if "level_bits" not in settings:
                if is_index_file(folder):
                    raise FileNotFoundError(f"path={str(folder)!r} is an index file; fasthash.load opens it")
                raise FileNotFoundError(f"path={str(folder)!r} holds no store; n_bits= or level_bits= makes a new one")
            empty_index(first_manifest(settings))  # raises for settings that exclude each other
            refuse_strangers(folder)
            make_folder(folder)

        def first() -> Manifest:
            if not (folder / MANIFEST).exists():
                _create(folder, settings)
            manifest = read_manifest(folder)
            _check_settings(manifest, settings, width)
            return manifest

        self._start(folder, first, merges, check)

    def _start(self, folder: Path, first: Callable[[], Manifest], merges: bool, check: bool) -> None:
        """Take the lock of a folder, which is there, and begin with a manifest."""
        self.folder, self._merges = folder, merges
        self._pid, self._change = os.getpid(), ChangeLock()
        self._unflushed = self.closed = False
        self.merger = Merger(folder)
        self._lock = WriterLock(folder)
        try:
            manifest = first()
            self._begin(manifest, open_segments(folder, manifest, check=check))
            self._obsolete = remove(folder, leftovers(folder, self._needed()))
        except BaseException:
            self._lock.release()
            raise

    # The view of searches is all of the state: one assignment changes it, which Ctrl-C cannot cut in two.

    @property
    def manifest(self) -> Manifest:
        return self.view.manifest

    @property
    def segments(self) -> list[Segment]:
        return list(self.view.committed.values())

    def _begin(self, manifest: Manifest, segments: Sequence[Segment]) -> None:
        """Go on from a commit, with an empty draft."""
        self.view = View(manifest, segments, manifest.next_id, manifest.keys)

    @contextmanager
    def _changing(self, change: str) -> Iterator[None]:
        """Hold the lock of changes; errors of the operating system name a file, or the folder."""
        with self._change(change), named_in_errors(self.folder):
            if self.closed:
                raise ValueError(f"{change} needs an open store, but this one is closed")
            if os.getpid() != self._pid:
                raise RuntimeError(f"{change} must be called in the process that opened the store, not in a fork of it")
            yield

    # ---- changes of the draft ----

    def add(self, codes: NDArray[np.uint8], keys: Any, ids: NDArray[np.int64] | None) -> NDArray[np.int64]:
        """Add entries; see `Store.add`."""
        with self._changing("add"):
            kind, given = self.view.new_keys(keys, len(codes))
            numbers = self.view.new_ids(ids, len(codes))
            if not len(codes):
                return numbers
            view = self.view
            draft = view.draft.plus(codes, numbers, given)
            next_id = max(view.next_id, int(numbers.max()) + 1)
            self.view = View(view.manifest, self.segments, next_id, kind, draft)
            return numbers

    def update(self, codes: NDArray[np.uint8], keys: Any, ids: NDArray[np.int64] | None) -> None:
        """Replace codes; see `Store.update`."""
        with self._changing("update"):
            view = self.view
            numbers = view.named(keys, ids, len(codes))
            segments, entries = view.places(numbers)
            old = segments < len(view.segments)
            names = view.keys_of(numbers[old]).tolist() if view.kind else None
            after = self._without(segments, entries)
            draft = view.draft.changed(lambda index: index.update(numbers[~old], codes[~old]))
            draft = draft.plus(codes[old], numbers[old], names)
            self.view = View(view.manifest, after, view.next_id, view.kind_name, draft)

    def remove(self, keys: Any, ids: NDArray[np.int64] | None) -> None:
        """Remove entries; see `Store.remove`."""
        with self._changing("remove"):
            view = self.view
            numbers = view.named(keys, ids)
            segments, entries = view.places(numbers)
            after = self._without(segments, entries)
            draft = view.draft.changed(lambda index: index.remove(numbers[segments >= len(view.segments)]))
            self.view = View(view.manifest, after, view.next_id, view.kind_name, draft)

    def _without(self, segments: NDArray[np.int64], entries: NDArray[np.int64]) -> list[Segment]:
        """The committed segments without some entries, where segments are numbered as in the view."""
        changed = {}
        for i in distinct(segments[segments < len(self.view.segments)]).tolist():
            segment = self.view.segments[i]
            changed[segment.name] = segment.without(entries[segments == i])
        return [changed.get(each.name, each) for each in self.segments]

    # ---- commits ----

    def commit(self) -> int:
        """Write the draft; see `Store.commit`."""
        with self._changing("commit"):
            self._commit(draft=True)
            self._tidy()
            return self.manifest.commit

    def compact(self) -> None:
        """Merge all segments; see `Store.compact`."""
        with self._changing("compact"):
            self._compact()
            self._clean()

    def _compact(self) -> None:
        self.merger.wait()
        self._commit(draft=False)
        worn = any(len(each.removed) for each in self.segments)
        if len(self.segments) > 1 or worn:
            self.merger.give_back([merged(self.folder, self.manifest, self.segments)])
            self._commit(draft=False)

    def close(self) -> None:
        """Wait for a running merge, take it over, and let others write; see `Store.close`."""
        if os.getpid() != self._pid:
            return
        # All under the lock of changes: a commit that waits for it must not find a store that is half closed.
        with self._change("close"), named_in_errors(self.folder):
            if self.closed:
                return
            try:
                self._finish()
            finally:
                self.closed = True
                self._lock.release()
                self._begin(self.manifest, [])  # the files of segments are shared no longer

    def _finish(self) -> None:
        self.merger.wait()
        if not self._fault_of_place():  # else the folder is no longer that of this writer
            self._commit(draft=False)
            self._clean()

    def _commit(self, *, draft: bool) -> None:
        """Write the draft, or without it only what finished merges have changed."""
        if fault := self._fault_of_place():
            raise OSError(f"{fault}; nothing is written: close this writer, and open the store anew")
        merges = self.merger.take()
        segments = take_over(self.segments, merges)
        step = Commit(self.folder, self.manifest, segments)
        try:
            if draft:
                step.write_draft(self.view.draft, self.view.kind_name, self.view.next_id)
            step.write_removed(unsaved=draft)
            if step.manifest_after == replace(self.manifest, commit=step.manifest_after.commit):
                self._flush_again()
                return
            durable = self._put(step.manifest_after, step.written)
            files.reached("committed")
            self._take(step, draft)
        except BaseException:
            # The manifest may be in place nevertheless: after Ctrl-C.
            if self._is_in_place(step.manifest_after):
                self._take(step, draft)
            else:
                step.undo()
                self.merger.give_back(merges)
            raise
        del merges, segments  # whose files may be removed now
        if not durable:
            raise OSError(f"path={str(self.folder)!r}: the commit is in place, but could not be flushed; commit again")
        self._unflushed = False

    def _take(self, step: Commit, draft: bool) -> None:
        """Go on from a new manifest."""
        before, after = self.view, step.manifest_after
        view = (
            View(after, step.after, after.next_id, after.keys)
            if draft
            else View(after, step.after, before.next_id, before.kind_name, before.draft)
        )
        self._obsolete |= before.manifest.files() - after.files()
        self._unflushed = True
        self.view = view

    def _flush_again(self) -> None:
        """Flush the folder if that has failed after the last commit."""
        if self._unflushed:
            flush(self.folder)
            self._unflushed = False

    # ---- the manifest, which is another file for a shard ----

    def _put(self, manifest: Manifest, written: list[Path]) -> bool:
        """Put the next manifest in place, after the files that were written for it; return whether it is flushed."""
        return put_manifest(self.folder, manifest.text(), written)

    def _is_in_place(self, manifest: Manifest) -> bool:
        with suppress(OSError, ValueError):
            return read_manifest(self.folder) == manifest
        return False

    def _fault_of_place(self) -> str:
        return fault_of_place(self.folder, self.manifest, read_manifest, "writer")

    def _needed(self) -> set[str]:
        """Names of the files that a writer must keep, when it begins."""
        return self.manifest.files()

    # ---- cleaning up ----

    def _tidy(self) -> None:
        """Remove files that are no longer needed, and merge, both in the background if there are merges."""
        if not self._merges:
            self._clean()
            return
        self._obsolete |= self.merger.take_needed()
        if self.merger.start(self.manifest, self.segments, self._obsolete):
            self._obsolete = set()

    def _clean(self) -> None:
        """Remove files that are no longer needed: the last manifest is on disk."""
        self._obsolete = remove(self.folder, self._obsolete | self.merger.take_needed())


def first_manifest(settings: Mapping[str, Any]) -> Manifest:
    """The manifest of a new store."""
    return Manifest(
        secrets.token_hex(16),
        0,
        tuple(settings["level_bits"]),
        settings.get("memory", "default"),
        settings.get("plan", "auto"),
        None,
        0,
        metric=settings.get("metric", "hamming"),
    )


def _create(folder: Path, settings: Settings) -> None:
    """Write the manifest of a new store."""
    if not put_manifest(folder, first_manifest(settings).text(), []):
        raise OSError(f"path={str(folder)!r} could not be flushed")


def _check_settings(manifest: Manifest, settings: Settings, width: str) -> None:
    for name, value in settings.items():
        has = getattr(manifest, name)
        if has != value:
            if name == "level_bits" and width == "n_bits":
                (n_bits,) = value
                if len(has) > 1:
                    raise ValueError(f"n_bits must be left out for a store with the levels {has!r}, got {n_bits}")
                raise ValueError(f"n_bits must be {has[0]} as in the store, or left out, got {n_bits}")
            raise ValueError(f"{name} must be {has!r} as in the store, or left out, got {value!r}")
