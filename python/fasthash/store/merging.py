"""Merging of segments: which ones, the merge itself, and the thread that runs it.

A merge reads segments as they were committed and writes one new segment. The writer takes it over with its next
manifest, and removes from it what was removed in the meantime.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fasthash import _core
from fasthash._durable import flush
from fasthash.store import files
from fasthash.store.entries import difference
from fasthash.store.files import named_in_errors, new_name, remove, write_file
from fasthash.store.keys import HEADER_BYTES, merge_keys
from fasthash.store.manifest import FileFacts, Manifest, SegmentFacts
from fasthash.store.segment import Segment, empty_index, open_segment

__all__ = ["FEW", "Merge", "Merger", "joined_segments", "save_segment", "take_over", "to_merge"]

FEW = 1024  # codes; ids of so few are found without an id map
_GROWTH = 3  # a segment is not merged with others that are so many times smaller together
_AT_LEAST = 4  # segments in a merge
_THREADS = 2  # that merge at a time
_MOST_REMOVED = 8  # a segment that has lost more than one entry in so many is written anew


@dataclass(frozen=True)
class Merge:
    """A finished merge."""

    sources: tuple[Segment, ...]
    segment: Segment


def to_merge(segments: Sequence[Segment]) -> list[Segment]:
    """The segments to merge next; empty if none.

    The smallest ones together, as long as the next one is less than three times larger, and from four on. So the number
    of segments grows with the logarithm of the number of codes, and so does the number of times that a code is written.
    """
    ascending = sorted(segments, key=lambda each: len(each.saved))
    chosen: list[Segment] = []
    n = 0
    for segment in ascending:
        if chosen and len(segment.saved) >= _GROWTH * n:
            if len(chosen) >= _AT_LEAST:
                break
            chosen, n = [], 0  # too few of this size: try the larger ones
        chosen.append(segment)
        n += len(segment.saved)
    if len(chosen) >= _AT_LEAST:
        return chosen
    worn = [each for each in ascending if len(each.removed) * _MOST_REMOVED > each.facts.n_codes]
    return worn[:1]


def save_segment(folder: Path, index: _core.HierIndex, *, flushed: bool) -> FileFacts:
    """Write an index to a new file, which is searched in place.

    Args:
        folder: of the store.
        index: the segment, in memory.
        flushed: also flush it and its folder; for a large one, which is not copied in memory.

    Raises:
        OSError: the operating system refused it; no file is left.
    """
    path = folder / new_name("segment", "fh")
    with_map = len(index) > FEW
    if flushed:
        index.save(bytes(path), with_map, with_map)
    else:
        write_file(path, index.to_bytes(with_map, with_map))
    with open(path, "rb") as file:
        return FileFacts.of(path.name, path.stat().st_size, file.read(HEADER_BYTES))


def joined_segments(manifest: Manifest, sources: Sequence[Segment]) -> _core.HierIndex:
    """The committed entries of some segments as one index."""
    return empty_index(manifest).joined([each.saved for each in sources], manifest.next_id)


def merged(folder: Path, manifest: Manifest, sources: Sequence[Segment]) -> Merge:
    """Merge segments, as they were committed, and write the new one.

    Every byte of the old ones is checked first: damage must not get a new checksum.

    Raises:
        FormatError: a file is damaged.
        OSError: the operating system refused it; no file is left.
    """
    for source in sources:
        open_segment(folder, manifest, source.facts)
    before = joined_segments(manifest, sources)
    index = before.copy()
    index.compact()
    written: list[Path] = []
    try:
        file = save_segment(folder, index, flushed=True)
        written.append(folder / file.name)
        files.reached("segment merged")
        facts = SegmentFacts(file, len(index), None)
        if sources[0].table is not None:
            plain = open_segment(folder, replace(manifest, keys="none"), facts)
            ids = plain.whole.entry_ids(np.arange(len(index)))
            tables = [each.table for each in sources if each.table is not None]
            path = folder / new_name("keys", "keys")
            facts = replace(facts, keys=merge_keys(path, tables, *before.places(ids)))
            written.append(path)
            flush(path)
        files.reached("keys merged")
        # With keys, the index file was checked above.
        return Merge(tuple(sources), open_segment(folder, manifest, facts, check=facts.keys is None))
    except BaseException:
        for path in written:
            with suppress(OSError):
                path.unlink()
        raise


def take_over(segments: list[Segment], merges: Sequence[Merge]) -> list[Segment]:
    """The segments after merges: what was removed from sources meanwhile is removed from the new segments, too."""
    for merge in merges:
        segments = _take_over_one(segments, merge)
    return segments


def _take_over_one(segments: Sequence[Segment], merge: Merge) -> list[Segment]:
    now = {each.name: each for each in segments}
    merged = merge.segment
    owed, unsaved = [], []
    for source in merge.sources:
        current = now.get(source.name)
        if current is None:  # all of its entries are gone, and committed so
            gone = difference(np.arange(source.facts.n_codes), source.removed)
        else:
            gone = difference(current.removed, source.removed)
            unsaved.append(_entries_in(merged, source, current.unsaved))
        owed.append(_entries_in(merged, source, gone))
    late = np.sort(np.concatenate(owed))
    if len(late):
        saved = merged.whole.without(late)
        merged = replace(merged, saved=saved, core=saved, owed=late)
    if len(pending := np.concatenate(unsaved or [np.zeros(0, np.int64)])):
        merged = merged.without(pending)
    names = {each.name for each in merge.sources}
    return [*(each for each in segments if each.name not in names), *([merged] if len(merged.saved) else [])]


def _entries_in(merged: Segment, source: Segment, entries: np.ndarray) -> np.ndarray:
    """The entries of a merged segment that were these of a source."""
    return merged.whole.places(source.whole.entry_ids(np.sort(entries)))[1]


class Merger:
    """Runs merges on threads, after removing files that are no longer needed; the writer takes what they have merged.

    While a merge of many codes runs, another one keeps the number of new segments small. The threads leave the pool of
    threads and, where the system has priorities, the processors to searches and commits.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tasks: list[_Task] = []
        self._done: list[Merge] = []
        self._needed: set[str] = set()
        self._error: BaseException | None = None

    @property
    def runs(self) -> bool:
        return any(task.is_alive() for task in self._tasks)

    @property
    def error(self) -> BaseException | None:
        """That of the thread that ended last; None if it has ended well."""
        ended = [task for task in self._tasks if not task.is_alive()]
        return ended[-1].error if ended else self._error

    def start(self, manifest: Manifest, segments: Sequence[Segment], obsolete: set[str]) -> bool:
        """Start to remove files, and a merge if one is due, unless enough threads run.

        Args:
            manifest: of the last commit.
            segments: of the last commit, without other changes.
            obsolete: files to remove. Those that readers need come back with `take_needed`.

        Returns:
            Whether a thread has taken the work.
        """
        self._collect()
        if len(self._tasks) == _THREADS:
            return False
        under_way = [*(task.sources for task in self._tasks), *(merge.sources for merge in self._done)]
        names = {each.name for sources in under_way for each in sources}
        sources = to_merge([each for each in segments if each.name not in names])
        if not (sources or obsolete):
            return False
        self._tasks.append(_Task(self._folder, manifest, tuple(sources), obsolete))
        self._tasks[-1].start()
        return True

    def wait(self) -> None:
        """Wait until the threads have ended."""
        for task in self._tasks:
            task.join()

    def take(self) -> list[Merge]:
        """The finished merges, each once."""
        self._collect()
        done, self._done = self._done, []
        return done

    def take_needed(self) -> set[str]:
        """The files that could not be removed, each once."""
        self._collect()
        needed, self._needed = self._needed, set()
        return needed

    def give_back(self, merges: Sequence[Merge]) -> None:
        """Keep merges for the next commit: this one failed, or they were made by `compact`."""
        self._done += merges

    def _collect(self) -> None:
        """Take the results of threads that have ended."""
        ended = [task for task in self._tasks if not task.is_alive()]
        self._tasks = [task for task in self._tasks if task not in ended]
        for task in ended:
            self._done += [] if task.merge is None else [task.merge]
            self._needed |= task.needed
            self._error = task.error


class _Task(threading.Thread):
    """Removes files, and merges segments if there are some."""

    def __init__(self, folder: Path, manifest: Manifest, sources: tuple[Segment, ...], obsolete: set[str]) -> None:
        super().__init__(name="fasthash-merge", daemon=True)
        self.sources = sources
        self.merge: Merge | None = None
        self.needed: set[str] = set()
        self.error: BaseException | None = None  # told by `Store.info`; the segments stay as they are
        self._folder, self._manifest, self._obsolete = folder, manifest, obsolete

    def run(self) -> None:
        _core.work_in_background()
        try:
            with named_in_errors(self._folder):
                self.needed = remove(self._folder, self._obsolete)
                if self.sources:
                    self.merge = merged(self._folder, self._manifest, self.sources)
        except BaseException as error:
            self.error = error
