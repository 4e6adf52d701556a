"""A store at one moment, for searches and look-ups: all segments as one index, and their keys.

Made by readers of each commit, and by a writer after each change. Never changes; results hold the view that they came
from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from fasthash._hier_index import HierIndex
from fasthash._locks import Lazy
from fasthash._shown import counted
from fasthash.store.draft import Draft
from fasthash.store.held import Held
from fasthash.store.keymap import KeyMap
from fasthash.store.kinds import Key
from fasthash.store.manifest import Manifest
from fasthash.store.segment import Segment, empty_index

__all__ = ["View"]


class View(Held):
    """A store at one moment.

    Args:
        manifest: settings of the store.
        segments: those of the store.
        next_id: the next automatic id.
        kind: of the keys; "none" for entries without keys, None before the first entry.
        draft: entries that are not yet committed; None for none.
    """

    index: HierIndex

    def __init__(
        self,
        manifest: Manifest,
        segments: Sequence[Segment],
        next_id: int,
        kind: str | None,
        draft: Draft | None = None,
    ) -> None:
        self.manifest = manifest
        self.committed = {each.name: each for each in segments}
        # The first segment leads a search, so it should be the largest.
        self.segments = sorted((each for each in segments if each.n_live), key=lambda each: -each.n_live)
        empty = empty_index(manifest)
        self.draft = Draft(empty, KeyMap()) if draft is None else draft
        cores = [each.core for each in self.segments]
        if len(self.draft):
            cores.append(self.draft.index)
        super().__init__(HierIndex._of(empty.joined(cores, next_id)), kind, next_id)

    @Lazy
    def pruned(self) -> HierIndex:
        """For searches with `keep=`, which merge the segments in memory; the view stays as it is."""
        return self.index.copy()

    # ---- searches ----

    def search(self, queries: Any, k: Any, keep: Any, keep_mode: Any, max_compared: Any, allow: Any, stats: Any) -> Any:
        index = self.index if keep is None else self.pruned
        return index._search(queries, k, keep, keep_mode, allow, stats, max_compared)

    def range_search(self, queries: Any, radius: Any, allow: Any, stats: Any) -> Any:
        return self.index.range_search(queries, radius, allow=allow, stats=stats)

    def count_within(self, queries: Any, radius: Any, allow: Any) -> NDArray[np.int64]:
        return self.index.count_within(queries, radius, allow=allow)

    # ---- ids and keys: a draft is the segment after the committed ones ----

    def ids_of(self, keys: Sequence[Key]) -> NDArray[np.int64]:
        ids = np.full(len(keys), -1, np.int64)
        if self.kind is None or not len(keys):
            return ids
        encoded = self.kind.encoded(keys)
        if len(self.draft.map):
            ids = self.draft.map.ids_of(keys)
            ids[self.places(ids)[0] < len(self.segments)] = -1  # removed from the draft since
        missing = np.flatnonzero(ids == -1)
        for segment in self.segments:
            if len(missing):
                ids[missing] = segment.find([encoded[i] for i in missing])
                missing = missing[ids[missing] == -1]
        return ids

    def keys_of(self, ids: NDArray[np.int64]) -> NDArray[np.object_]:
        if self.kind_name == "none":
            raise ValueError("keys are those of a store with keys; the entries of this one have ids alone")
        flat = np.ascontiguousarray(ids).ravel()
        return self._keys_at(flat, *self.held_places(flat)).reshape(np.shape(ids))

    @property
    def keys_of_result(self) -> Any:
        if self.kind_name is None:
            return _no_keys
        return None if self.kind is None else self._keys_of_result

    def _keys_of_result(self, ids: NDArray[np.int64]) -> NDArray[np.object_]:
        flat = np.ascontiguousarray(ids).ravel()
        return self._keys_at(flat, *self.places(flat)).reshape(np.shape(ids))

    def _keys_at(
        self, ids: NDArray[np.int64], segments: NDArray[np.int64], entries: NDArray[np.int64]
    ) -> NDArray[np.object_]:
        """The keys of ids at these places, None for one without."""
        keys = np.empty(len(ids), object)
        for i, (segment, entry) in enumerate(zip(segments.tolist(), entries.tolist(), strict=True)):
            if segment >= len(self.segments):
                keys[i] = self.draft.map.keys[int(ids[i])]
            elif segment >= 0:
                keys[i] = cast(Any, self.segments[segment].table).key(entry)
        return keys

    def facts(self) -> dict[str, Any]:
        """The numbers that `Store.info` returns."""
        manifest = self.manifest
        return {
            "kind": "store",
            "codes": len(self),
            "bits": manifest.n_bits,
            "levels": list(manifest.level_bits),
            "memory": manifest.memory,
            "plan": manifest.plan,
            "metric": manifest.metric,
            "keys": "none" if self.kind is None else self.kind.name,
            "commit": manifest.commit,
            "next_id": manifest.next_id,
            "segments": len(manifest.segments),
            "removed": sum(each.n_removed for each in manifest.segments),
        }

    def __repr__(self) -> str:
        return counted(len(self), "code")


def _no_keys(ids: NDArray[np.int64]) -> NDArray[np.object_]:
    """The keys of a result before the first entry: all of its ids are -1."""
    return np.full(np.shape(ids), None)
