"""Searches of a sharded index: all shards are asked at once, and what they find is merged."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fasthash._checks import (
    check_bool,
    check_choice,
    check_codes,
    check_fraction,
    check_int,
    is_int64,
    own_array,
    own_ids,
)
from fasthash._index_options import KEEP_MODES, MAX_K, Allow, KeepMode
from fasthash.distributed._ray import shared
from fasthash.distributed.fleet import Fleet
from fasthash.distributed.merge import merge_nearest, merge_ranges, merge_stats, rows_of_shards, shard_of
from fasthash.distributed.race import Census
from fasthash.distributed.shard import Allowed
from fasthash.distributed.states import Sharded, State
from fasthash.filters import IdFilter, core_filter
from fasthash.results import RangeResult, SearchResult, SearchStats

__all__ = ["PartialResult", "Searching"]


class PartialResult(NamedTuple):
    """What was found in the shards that are left."""

    result: Any
    """What the search returns without `partial=True`, of the codes in these shards."""

    missing_shards: tuple[int, ...]
    """The shards that were not searched; empty where the result is whole."""


class Searching(Sharded):
    """Finds codes, and brings them back."""

    def _begin(self, level_bits: tuple[int, ...], fleet: Fleet, sizes: Sequence[int], next_id: int) -> None:
        super()._begin(level_bits, fleet, sizes, next_id)
        self._filters: weakref.WeakKeyDictionary[IdFilter, dict[int, Allowed]] = weakref.WeakKeyDictionary()
        self._filter_numbers = itertools.count()

    def reconstruct(self, ids: ArrayLike) -> NDArray[np.uint8]:
        """The codes of some ids.

        Args:
            ids: int64 array `(n,)` of ids that the index holds, in any order, also several times.

        Returns:
            uint8 array `(n, n_bits / 8)`.

        Raises:
            TypeError: wrong dtype.
            ValueError: an id that the index does not hold.
            ShardLostError: no copy of a shard that is asked is left.
        """
        array = own_ids(ids)
        rows = rows_of_shards(array, self.n_shards)
        found = self._read("read", "reconstruct", each={s: (array[of],) for s, of in enumerate(rows) if len(of)})
        codes = np.empty((len(array), self.n_bits // 8), np.uint8)
        for shard, of_shard in found.items():
            codes[rows[shard]] = of_shard
        return codes

    def __contains__(self, id: Any) -> bool:
        if not is_int64(check_int("id", id)):
            return False
        shard = int(shard_of(np.array([id], np.int64), self.n_shards)[0])
        return bool(self._read("read", "__contains__", each={shard: (int(id),)})[shard])

    def to_arrays(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """All codes `(n, n_bits / 8)` and their ids `(n,)`, in the order of the ids, brought to this process."""
        parts = self._read("read", "to_arrays").values()
        ids = np.concatenate([part[1] for part in parts])
        order = np.argsort(ids)
        return np.concatenate([part[0] for part in parts])[order], ids[order]

    def search(
        self,
        queries: ArrayLike,
        k: int = 10,
        *,
        keep: float | None = None,
        keep_mode: KeepMode = "node_ratio",
        allow: Allow = None,
        stats: bool = False,
        partial: bool = False,
    ) -> Any:
        """Find the k nearest codes of each query, ordered by (distance, id); exactly, unless `keep` is given.

        Args:
            queries: uint8 array `(nq, n_bits / 8)`.
            k: how many neighbours, from 1 to 2^31 - 1; may exceed the number of codes.
            keep: None searches exactly; a number searches as HDHash does, as in `HierIndex.search`, and finds what one
                index of all codes finds. Which nodes stay in the race is settled here, among the distinct prefixes of
                all levels but the last; the first such search after a change, and every one with an array as
                `allow=`, brings them here from all shards.
            keep_mode: as in `HierIndex.search`.
            allow: only these ids, as in `HierIndex.search`. The ids of an `IdFilter` are sent once.
            stats: also return the work done, in all shards together.
            partial: rather than raise an error when shards are lost, search those that are left.

        Returns:
            `SearchResult`, or with `stats=True` the pair (`SearchResult`, `SearchStats`); with `partial=True` a
            `PartialResult` of that.

        Raises:
            TypeError: wrong dtype of `queries` or `allow`, `k` is not an integer, `keep` is not a number.
            ValueError: wrong shape, `k` or `keep` out of range, unknown `keep_mode`.
            ShardLostError: no copy of a shard is left.
        """
        array = check_codes("queries", own_array("queries", queries), self.n_bits // 8)
        k = check_int("k", k, minimum=1, maximum=MAX_K)
        share = None if keep is None else check_fraction("keep", keep)
        check_choice("keep_mode", keep_mode, KEEP_MODES)
        check_bool("stats", stats)
        allow = _own_filter(allow)

        def find(state: State, missing: set[int] | None) -> tuple[SearchResult, SearchStats]:
            allowed = self._allowed(allow, state)
            cuts = None
            if share is not None and len(self.level_bits) > 1:
                cuts = self._census(state, allowed, missing).cuts(array, k, share, keep_mode)
            sent, limits = shared(array), shared(cuts)
            each = {s: (sent, k, limits, keep_mode, *allowed[s]) for s in range(self.n_shards)}
            parts = self._fleet.ask("search", each, state.versions, missing=missing)
            result = merge_nearest([parts[s][0] for s in sorted(parts)], len(array), k, self.n_bits)
            return result, self._work(parts, state, len(array))

        return self._found(find, stats, partial)

    def range_search(
        self, queries: ArrayLike, radius: int, *, allow: Allow = None, stats: bool = False, partial: bool = False
    ) -> Any:
        """Find all codes within a radius of each query, exactly, ordered by (distance, id).

        Args:
            queries: uint8 array `(nq, n_bits / 8)`.
            radius: largest distance in bits that is found, from 0; n_bits and more find all codes.
            allow: only these ids, as in `search`.
            stats: also return the work done, in all shards together.
            partial: as in `search`.

        Returns:
            `RangeResult`, or with `stats=True` the pair (`RangeResult`, `SearchStats`); with `partial=True` a
            `PartialResult` of that.

        Raises:
            TypeError: wrong dtype of `queries` or `allow`, or `radius` is not an integer.
            ValueError: wrong shape, or `radius` is negative.
            ShardLostError: no copy of a shard is left.
        """
        array = check_codes("queries", own_array("queries", queries), self.n_bits // 8)
        radius = min(check_int("radius", radius, minimum=0), self.n_bits)
        check_bool("stats", stats)
        allow = _own_filter(allow)

        def find(state: State, missing: set[int] | None) -> tuple[RangeResult, SearchStats]:
            allowed, sent = self._allowed(allow, state), shared(array)
            each = {s: (sent, radius, *allowed[s]) for s in range(self.n_shards)}
            parts = self._fleet.ask("range_search", each, state.versions, missing=missing)
            result = merge_ranges([parts[s][0] for s in sorted(parts)], len(array))
            return result, self._work(parts, state, len(array))

        return self._found(find, stats, partial)

    def count_within(self, queries: ArrayLike, radius: int, *, allow: Allow = None, partial: bool = False) -> Any:
        """Count the codes within a radius of each query, without listing them.

        Args:
            queries: uint8 array `(nq, n_bits / 8)`.
            radius: largest distance in bits that counts, from 0; n_bits and more count all codes.
            allow: only these ids, as in `search`.
            partial: as in `search`.

        Returns:
            int64 array `(nq,)`; with `partial=True` a `PartialResult` of that.

        Raises:
            TypeError: wrong dtype of `queries` or `allow`, or `radius` is not an integer.
            ValueError: wrong shape, or `radius` is negative.
            ShardLostError: no copy of a shard is left.
        """
        array = check_codes("queries", own_array("queries", queries), self.n_bits // 8)
        radius = min(check_int("radius", radius, minimum=0), self.n_bits)
        allow = _own_filter(allow)

        def find(state: State, missing: set[int] | None) -> tuple[NDArray[np.int64], None]:
            allowed, sent = self._allowed(allow, state), shared(array)
            each = {s: (sent, radius, *allowed[s]) for s in range(self.n_shards)}
            parts = self._fleet.ask("count_within", each, state.versions, missing=missing)
            return np.sum([np.zeros(len(array), np.int64), *parts.values()], axis=0, dtype=np.int64), None

        return self._found(find, False, partial)

    def _found(
        self, find: Callable[[State, set[int] | None], tuple[Any, SearchStats | None]], stats: bool, partial: bool
    ) -> Any:
        """A result in the form that was asked for."""
        check_bool("partial", partial)
        missing: set[int] | None = set() if partial else None
        result, work = self._reading(lambda state: find(state, missing))
        whole = (result, work) if stats else result
        return whole if missing is None else PartialResult(whole, tuple(sorted(missing)))

    def _work(self, parts: Mapping[int, Any], state: State, n_queries: int) -> SearchStats:
        shards = sorted(parts)
        return merge_stats([parts[s][1] for s in shards], [state.sizes[s] for s in shards], n_queries)

    def _census(self, state: State, allowed: Mapping[int, Allowed], missing: set[int] | None) -> Census:
        """The nodes of all shards; kept for the next search but where the filter is an array."""
        key, ids = allowed[0]
        keeps = ids is None or key is not None
        if keeps and key in state.censuses:
            return state.censuses[key]
        gone: set[int] = set()
        parts = self._fleet.ask("nodes", allowed, state.versions, missing=None if missing is None else gone)
        census = Census(list(parts.values()), self.level_bits)
        if missing is not None:
            missing |= gone
        if keeps and not gone:
            state.censuses[key] = census
        return census

    def _allowed(self, allow: Any, state: State) -> dict[int, Allowed]:
        """Of each shard, those of the allowed ids that it may hold."""
        if allow is None:
            return dict.fromkeys(range(self.n_shards), (None, None))
        if isinstance(allow, IdFilter):
            if allow not in self._filters:
                self._filters[allow] = self._split(next(self._filter_numbers), allow._impl.ids())
            return self._filters[allow]
        return self._split(None, core_filter("allow", allow, state.next_id).ids())

    def _split(self, number: int | None, ids: NDArray[np.int64]) -> dict[int, Allowed]:
        return {shard: (number, shared(ids[rows])) for shard, rows in enumerate(rows_of_shards(ids, self.n_shards))}


def _own_filter(allow: Allow) -> Allow:
    """A filter that stays the same if the search is made twice."""
    return allow if allow is None or isinstance(allow, IdFilter) else own_array("allow", allow)
