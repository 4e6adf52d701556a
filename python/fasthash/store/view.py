"""A store at one moment, for searches and look-ups: all segments as one index, and their keys.

Made by readers of each commit, and by a writer after each change. Never changes; results hold the view that they came
from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from fasthash._checks import short
from fasthash._core import Index as CoreIndex
from fasthash._hier_index import HierIndex
from fasthash._locks import Lazy
from fasthash._shown import counted
from fasthash.store.kinds import KINDS, Key, KeyKind
from fasthash.store.manifest import Manifest
from fasthash.store.segment import Segment, empty_index

__all__ = ["View"]


class View:
    """A store at one moment.

    Args:
        manifest: settings of the store.
        segments: those of the store.
        next_id: the next automatic id.
        kind: of the keys; "none" for entries without keys, None before the first entry.
        draft: entries that are not yet committed.
        draft_keys: their keys by id, and of others; a writer only adds to it.
        draft_ids: their ids by key, likewise.
    """

    def __init__(
        self,
        manifest: Manifest,
        segments: Sequence[Segment],
        next_id: int,
        kind: str | None,
        draft: CoreIndex | None = None,
        draft_keys: Mapping[int, Key] | None = None,
        draft_ids: Mapping[Key, int] | None = None,
    ) -> None:
        self.manifest = manifest
        self.committed = {each.name: each for each in segments}
        # The first segment leads a search, so it should be the largest.
        self.segments = sorted((each for each in segments if each.n_live), key=lambda each: -each.n_live)
        self.kind: KeyKind | None = KINDS.get(kind or "")
        self.draft_keys = {} if draft_keys is None else draft_keys
        self.draft_ids = {} if draft_ids is None else draft_ids
        cores = [each.core for each in self.segments]
        if draft is not None and len(draft):
            cores.append(draft)
        self.index = HierIndex._of(empty_index(manifest).joined(cores, next_id))

    def __len__(self) -> int:
        return len(self.index)

    @Lazy
    def pruned(self) -> HierIndex:
        """For searches with `keep=`, which merge the segments in memory; the view stays as it is."""
        return self.index.copy()

    # ---- ids and keys ----

    def places(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Segment and entry of each id, -1 for one that the store does not hold; drafts are later segments."""
        return self.index._impl.places(ids)

    def ids_of(self, keys: Sequence[Key]) -> NDArray[np.int64]:
        """The id of each key, -1 for one that the store does not hold.

        Raises:
            TypeError: a key is of another kind than those of the store.
        """
        ids = np.full(len(keys), -1, np.int64)
        if self.kind is None or not len(keys):
            return ids
        encoded = self.kind.encoded(keys)
        if self.draft_ids:
            ids[:] = [self.draft_ids.get(key, -1) for key in keys]
            ids[self.places(ids)[0] < len(self.segments)] = -1  # removed from the draft since
        missing = np.flatnonzero(ids == -1)
        for segment in self.segments:
            if len(missing):
                ids[missing] = segment.find([encoded[i] for i in missing])
                missing = missing[ids[missing] == -1]
        return ids

    def held_ids(self, keys: Sequence[Key]) -> NDArray[np.int64]:
        """The id of each key.

        Raises:
            TypeError: a key is of another kind than those of the store.
            ValueError: the store does not hold a key, or its entries have no keys.
        """
        if self.kind is None and self.manifest.keys == "none":
            raise ValueError("keys must be left out: the entries of this store have ids alone")
        ids = self.ids_of(keys)
        if (lost := np.flatnonzero(ids == -1)).size:
            raise ValueError(f"keys must be in the store, but it does not hold {short(keys[lost[0]])}")
        return ids

    def keys_of(self, ids: NDArray[np.int64], missing: bool = False) -> NDArray[np.object_]:
        """The key of each id.

        Args:
            ids: of any shape.
            missing: give None for -1.

        Raises:
            ValueError: the store does not hold an id, or its entries have no keys.
        """
        if self.kind is None:
            raise ValueError("keys are those of a store with keys; the entries of this one have ids alone")
        flat = np.ascontiguousarray(ids).ravel()
        keys = np.empty(len(flat), object)
        segments, entries = self.places(flat)
        lost = (segments < 0) & ~((flat == -1) & missing)
        if lost.any():
            raise ValueError(f"ids must be in the store, but it does not hold {flat[lost][0]}")
        for i, (segment, entry) in enumerate(zip(segments.tolist(), entries.tolist(), strict=True)):
            if segment >= len(self.segments):
                keys[i] = self.draft_keys[int(flat[i])]
            elif segment >= 0:
                keys[i] = cast(Any, self.segments[segment].table).key(entry)
        return keys.reshape(np.shape(ids))

    @property
    def keys_of_result(self) -> Any:
        """A function that returns the keys of a result; None if the entries have no keys."""
        return None if self.kind is None else self._keys_of_result

    def _keys_of_result(self, ids: NDArray[np.int64]) -> NDArray[np.object_]:
        return self.keys_of(ids, missing=True)

    def facts(self) -> dict[str, Any]:
        """The numbers that `Store.info` returns."""
        manifest = self.manifest
        return {
            "kind": "store",
            "codes": len(self),
            "bits": sum(manifest.level_bits),
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
