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
from fasthash.store.files import new_name, remove, write_file
from fasthash.store.keys import HEADER_BYTES, merge_keys
from fasthash.store.manifest import FileFacts, Manifest, SegmentFacts
from fasthash.store.segment import Segment, empty_index, open_segment

__all__ = ["FEW", "Merge", "Merger", "joined_segments", "save_segment", "take_over", "to_merge"]

FEW = 1024  # codes; ids of so few are found without an id map
_GROWTH = 3  # a segment is not merged with others that are so many times smaller together
_AT_LEAST = 4  # segments in a merge
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


def save_segment(folder: Path, manifest: Manifest, index: _core.HierIndex, *, flushed: bool) -> FileFacts:
    """Write an index to a new file, which is searched in place.

    Codes that would be scanned are written in clusters, since a mapped file of others is scanned slowly.

    Args:
        folder: of the store.
        manifest: of the store.
        index: the segment, in memory.
        flushed: also flush it and its folder; for a large one, which is not copied in memory.

    Raises:
        OSError: the operating system refused it; no file is left.
    """
    path = folder / new_name("segment", "fh")
    with_map = len(index) > FEW
    may_be_clusters = manifest.plan == "auto" and manifest.metric == "hamming"
    if with_map and may_be_clusters and index.shape().plan == _core.Plan.scan:
        in_clusters = empty_index(replace(manifest, plan="clusters"))
        index = in_clusters.joined([index], manifest.next_id)
        index.compact()
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
        if source.table is not None:
            source.table.check_bytes()
    before = joined_segments(manifest, sources)
    index = before.copy()
    index.compact()
    written: list[Path] = []
    try:
        file = save_segment(folder, manifest, index, flushed=True)
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
        return Merge(tuple(sources), open_segment(folder, manifest, facts))
    except BaseException:
        for path in written:
            with suppress(OSError):
                path.unlink()
        raise


def take_over(segments: Sequence[Segment], merge: Merge) -> list[Segment]:
    """The segments after a merge: what was removed from its sources meanwhile is removed from the new segment, too."""
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
    """Runs one merge at a time on a thread, after removing files that are no longer needed; the writer takes it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._thread: threading.Thread | None = None
        self._done: Merge | None = None
        self._needed: set[str] = set()
        self.error: BaseException | None = None

    @property
    def runs(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self, manifest: Manifest, segments: Sequence[Segment], obsolete: set[str]) -> bool:
        """Start to remove files, and a merge if one is due, unless the thread runs or a merge is not yet taken.

        Args:
            manifest: of the last commit.
            segments: of the last commit, without other changes.
            obsolete: files to remove. Those that readers need come back with `take_needed`.

        Returns:
            Whether the thread has taken the work.
        """
        sources = to_merge(segments)
        if self.runs or self._done is not None or not (sources or obsolete):
            return False
        self.error = None
        arguments = (manifest, sources, obsolete)
        self._thread = threading.Thread(target=self._run, args=arguments, name="fasthash-merge", daemon=True)
        self._thread.start()
        return True

    def _run(self, manifest: Manifest, sources: Sequence[Segment], obsolete: set[str]) -> None:
        try:
            self._needed |= remove(self._folder, obsolete)
            if sources:
                self._done = merged(self._folder, manifest, sources)
        except BaseException as error:  # told by `Store.info`; the segments stay as they are
            self.error = error

    def wait(self) -> None:
        """Wait until the thread has ended."""
        if self._thread is not None:
            self._thread.join()

    def take(self) -> Merge | None:
        """The finished merge, once."""
        if self.runs:
            return None
        done, self._done = self._done, None
        return done

    def take_needed(self) -> set[str]:
        """The files that could not be removed, once."""
        if self.runs:
            return set()
        needed, self._needed = self._needed, set()
        return needed

    def give_back(self, merge: Merge) -> None:
        """Keep a merge for the next commit: this one failed, or it was made by `compact`."""
        self._done = merge
