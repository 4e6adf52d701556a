"""A segment of a store: an index file, a file of keys, and the entries that have been removed from it.

Opened from the facts in a manifest. An object never changes: a removal makes another one, which shares all but the
set of removed entries.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fasthash import _core
from fasthash._core import FormatError
from fasthash._hier_index import HierIndex
from fasthash.store.entries import Entries, difference, distinct, no_entries
from fasthash.store.files import SharedFile
from fasthash.store.keys import HEADER_BYTES, KeyTable
from fasthash.store.manifest import FileFacts, Manifest, RemovedFacts, SegmentFacts

__all__ = ["Segment", "empty_index", "open_keys", "open_segment", "open_segments"]


def empty_index(manifest: Manifest) -> _core.HierIndex:
    """An index with the settings of a store, without codes.

    Raises:
        ValueError: the settings exclude each other.
    """
    return HierIndex(**manifest.settings)._impl


@dataclass(frozen=True, eq=False)
class Segment:
    """A segment of a commit. A writer may have removed entries of it since."""

    facts: SegmentFacts
    whole: _core.Index  # with all entries
    saved: _core.Index  # without those removed up to the commit
    core: _core.Index  # without those removed since, either
    table: KeyTable | None
    files: tuple[SharedFile, ...]
    lists: tuple[Entries, ...] = ()  # removed entries in files, as `facts.removed` tells
    owed: Entries = field(default_factory=no_entries)  # removed while it was merged, not yet in a file
    unsaved: Entries = field(default_factory=no_entries)  # removed since

    @property
    def name(self) -> str:
        return self.facts.file.name

    @property
    def removed(self) -> Entries:
        """The entries that were removed up to the commit."""
        return np.concatenate([*self.lists, self.owed])

    @property
    def n_live(self) -> int:
        return len(self.core)

    def without(self, entries: Entries) -> Segment:
        """The segment after a removal that is not yet committed."""
        unsaved = np.sort(np.concatenate([self.unsaved, entries]))
        return replace(self, core=self.core.without(np.sort(entries)), unsaved=unsaved)

    def committed(self, facts: SegmentFacts, lists: tuple[Entries, ...], *, unsaved: bool) -> Segment:
        """The segment after a commit of what is owed, and of what is unsaved if that is told."""
        now = replace(self, facts=facts, lists=lists, owed=no_entries())
        return replace(now, saved=self.core, unsaved=no_entries()) if unsaved else now

    def find(self, encoded: list[bytes]) -> NDArray[np.int64]:
        """The id of the entry with each key; -1 if there is none, or if it was removed."""
        assert self.table is not None
        entries = self.table.find(encoded)
        return self.core.entry_ids(entries) if (entries >= 0).any() else entries


def open_segments(
    folder: Path, manifest: Manifest, known: Iterable[Segment] = (), *, check: bool = True
) -> list[Segment]:
    """Open the segments of a manifest; those that are known are shared, and `check` is that of `Store` for the others.

    Raises:
        FormatError: a file is missing, damaged, or of another store.
        OSError: a file cannot be read.
    """
    by_name = {segment.name: segment for segment in known}
    lists = _removed_lists(folder, manifest.segments)
    opened = []
    for facts in manifest.segments:
        segment = by_name.get(facts.file.name)
        if segment is None:
            segment = open_segment(folder, manifest, facts, check=check)
        opened.append(_up_to_date(segment, facts, lists))
    return opened


def open_segment(folder: Path, manifest: Manifest, facts: SegmentFacts, *, check: bool = True) -> Segment:
    """Open the files of a segment, with all of its entries; `check`: check every byte of them.

    Raises:
        FormatError: a file is missing, damaged, or of another store.
        OSError: a file cannot be read.
    """
    file = _shared(folder, facts.file)
    core = _core.load(bytes(file.path), True, check)
    settings = empty_index(manifest)
    if core.metric is not settings.metric:
        raise FormatError(f"{file.path} has the metric {core.metric.name}, its store has {manifest.metric}")
    if core.kind != settings.kind or core.level_bits != settings.level_bits or len(core) != facts.n_codes:
        raise FormatError(
            f"{file.path} holds {len(core)} codes of {core.level_bits} bits, its store expects {facts.n_codes} of "
            f"{settings.level_bits}"
        )
    if facts.keys is None:
        return Segment(replace(facts, removed=()), core, core, core, None, (file,))
    table, keys = open_keys(folder, manifest, facts)
    if check:
        table.check_bytes()
    return Segment(replace(facts, removed=()), core, core, core, table, (file, keys))


def open_keys(folder: Path, manifest: Manifest, facts: SegmentFacts) -> tuple[KeyTable, SharedFile]:
    """Open the file of keys of a segment that has one.

    Raises:
        FormatError: it is missing, of another store, or its header is damaged.
        OSError: it cannot be read.
    """
    assert facts.keys is not None
    keys = _shared(folder, facts.keys)
    table = KeyTable.mapped(keys.path)
    if len(table) != facts.n_codes or table.kind.name != manifest.keys:
        raise FormatError(
            f"{keys.path} holds {len(table)} keys of the kind {table.kind.name}, its store expects {facts.n_codes} of "
            f"the kind {manifest.keys}"
        )
    return table, keys


def _shared(folder: Path, facts: FileFacts) -> SharedFile:
    path = folder / facts.name
    try:
        file = SharedFile(path)
    except FileNotFoundError as error:
        raise FormatError(f"{path} is missing, which the manifest of its store names") from error
    facts.check(path, *file.head(HEADER_BYTES))
    return file


Lists = Mapping[RemovedFacts, Entries]


def _removed_lists(folder: Path, segments: Iterable[SegmentFacts]) -> Lists:
    """Read all lists of removed entries.

    Raises:
        FormatError: a file is missing or damaged.
    """
    wanted = {removed for segment in segments for removed in segment.removed}
    lists = {}
    for file in {removed.file for removed in wanted}:
        path = folder / file.name
        try:
            content = path.read_bytes()
        except FileNotFoundError as error:
            raise FormatError(f"{path} is missing, which the manifest of its store names") from error
        file.check(path, content, len(content))
        numbers = np.frombuffer(content[: len(content) // 4 * 4], "<u4").astype(np.int64)
        for removed in wanted:
            if removed.file == file:
                lists[removed] = numbers[removed.begin : removed.begin + removed.n]
    return lists


def _up_to_date(segment: Segment, facts: SegmentFacts, lists: Lists) -> Segment:
    """The segment without the entries that a manifest says are removed."""
    if segment.facts == facts:
        return segment
    mine = tuple(lists[each] for each in facts.removed)
    removed = distinct(np.concatenate([no_entries(), *mine]))
    if len(removed) != facts.n_removed or (len(removed) and removed[-1] >= facts.n_codes):
        raise FormatError(f"{segment.name}: the entries removed from it are not {facts.n_removed} of its own")
    known = not len(difference(segment.removed, removed))
    core = segment.saved if known else segment.whole
    core = core.without(difference(removed, segment.removed) if known else removed)
    return replace(segment, facts=facts, saved=core, core=core, lists=mine)
