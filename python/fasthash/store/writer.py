"""The writer of a store: changes, commits and merges.

At any time there is the last commit, on disk, and the draft: entries in memory, and entries of the segments that are
removed. A commit writes the draft into new files and then replaces the manifest. If it fails before, nothing has
changed and the draft is as it was.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Mapping
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
from fasthash.store.draft import Draft
from fasthash.store.entries import distinct
from fasthash.store.files import WriterLock, leftovers, named_in_errors, put_manifest, refuse_strangers, remove
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
        self._lock = WriterLock(folder)
        try:
            self.manifest = first()
            self.segments = open_segments(folder, self.manifest, check=check)
            self._obsolete = remove(folder, leftovers(folder, self._needed()))
        except BaseException:
            self._lock.release()
            raise
        self._pid, self._change = os.getpid(), ChangeLock()
        self._unflushed = self.closed = False
        self.merger = Merger(folder)
        self._begin()

    def _begin(self) -> None:
        """Begin a new draft."""
        self.kind, self.next_id = self.manifest.keys, self.manifest.next_id
        self._draft = Draft(empty_index(self.manifest))
        self._show()

    def _show(self) -> None:
        """Make the view of searches that begin from now on."""
        draft = self._draft
        self.view = View(self.manifest, self.segments, self.next_id, self.kind, draft.index, draft.map)

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
            self._draft.add(codes, numbers, given)
            self.kind, self.next_id = kind, max(self.next_id, int(numbers.max()) + 1)
            self._show()
            return numbers

    def update(self, codes: NDArray[np.uint8], keys: Any, ids: NDArray[np.int64] | None) -> None:
        """Replace codes; see `Store.update`."""
        with self._changing("update"):
            numbers = self.view.named(keys, ids, len(codes))
            segments, entries = self.view.places(numbers)
            old = segments < len(self.view.segments)
            names = self.view.keys_of(numbers[old]).tolist() if self.view.kind else None
            after = self._without(segments, entries)
            self._draft.add(codes[old], numbers[old], names)
            try:
                self._draft.index.update(numbers[~old], codes[~old])
            except BaseException:
                self._draft.index.remove(numbers[old])
                raise
            self.segments = after
            self._show()

    def remove(self, keys: Any, ids: NDArray[np.int64] | None) -> None:
        """Remove entries; see `Store.remove`."""
        with self._changing("remove"):
            numbers = self.view.named(keys, ids)
            segments, entries = self.view.places(numbers)
            after = self._without(segments, entries)
            self._draft.index.remove(numbers[segments >= len(self.view.segments)])
            self.segments = after
            self._show()

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
                self.segments = []  # whose files are shared no longer
                self._begin()

    def _finish(self) -> None:
        self.merger.wait()
        self._commit(draft=False)
        self._clean()

    def _commit(self, *, draft: bool) -> None:
        """Write the draft, or without it only what finished merges have changed."""
        merges = self.merger.take()
        segments = take_over(self.segments, merges)
        step = Commit(self.folder, self.manifest, segments)
        try:
            if draft:
                step.write_draft(self._draft, self.kind, self.next_id)
            step.write_removed(unsaved=draft)
            if step.manifest_after == replace(self.manifest, commit=step.manifest_after.commit):
                self._flush_again()
                return
            durable = self._put(step.manifest_after, step.written)
            files.reached("committed")
        except BaseException:
            # The manifest may be in place nevertheless: after Ctrl-C.
            if self._is_in_place(step.manifest_after):
                self._take(step, draft)
            else:
                step.undo()
                self.merger.give_back(merges)
            raise
        del merges, segments  # whose files may be removed now
        self._take(step, draft)
        if not durable:
            raise OSError(f"path={str(self.folder)!r}: the commit is in place, but could not be flushed; commit again")
        self._unflushed = False

    def _take(self, step: Commit, draft: bool) -> None:
        """Go on from a new manifest."""
        self._obsolete |= self.manifest.files() - step.manifest_after.files()
        self._unflushed = True
        self.manifest, self.segments = step.manifest_after, step.after
        if draft:
            self._begin()
        else:
            self._show()

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
