"""Searches of a sharded index: ask all shards at once, and merge their results."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fasthash._arrays import own_array
from fasthash._checks import check_bool, check_int, check_queries, check_radius, code_bytes, is_int64, of_ids, own_ids
from fasthash._index_options import Allow, IndexSettings, KeepMode, check_k, check_keep
from fasthash._query_filters import are_query_filters, search_by_filter
from fasthash.distributed._ray import shared
from fasthash.distributed.fleet import Fleet
from fasthash.distributed.merge import merge_nearest, merge_ranges, merge_stats, rows_of_shards, shard_of
from fasthash.distributed.pruning import Census
from fasthash.distributed.shard import Allowed
from fasthash.distributed.states import Sharded, State
from fasthash.filters import IdFilter, core_filter
from fasthash.results import RangeResult, SearchResult, SearchStats

__all__ = ["PartialResult", "Searching"]

_Filter: TypeAlias = "IdFilter | NDArray[np.int64] | None"


class PartialResult(NamedTuple):
    """The result of a search with `partial=True`."""

    result: Any
    """The result over the remaining shards, in the form that a search without `partial=True` returns."""

    missing_shards: tuple[int, ...]
    """The shards that were not searched; empty if the result is complete."""


class Searching(Sharded):
    """The methods that search and return codes."""

    def _begin(self, settings: IndexSettings, fleet: Fleet, sizes: Sequence[int], next_id: int) -> None:
        super()._begin(settings, fleet, sizes, next_id)
        self._filters: weakref.WeakKeyDictionary[IdFilter, dict[int, Allowed]] = weakref.WeakKeyDictionary()
        self._filter_numbers = itertools.count()

    def reconstruct(self, ids: ArrayLike) -> NDArray[np.uint8]:
        """Return the codes of some ids.

        Args:
            ids: integer array `(n,)` of ids in the index, in any order; repeated ids are allowed. Or one id.

        Returns:
            uint8 array `(n, n_bits / 8)`; of one id `(n_bits / 8,)`.

        Raises:
            TypeError: wrong dtype.
            ValueError: an id is not in the index.
            ShardLostError: no copy of a shard with one of these ids is left.
        """
        return of_ids(ids, self._reconstructed)

    def _reconstructed(self, ids: NDArray[Any]) -> NDArray[np.uint8]:
        array = own_ids(ids)
        rows = rows_of_shards(array, self.n_shards)
        parts = self._read("read", "reconstruct", each={s: (array[of],) for s, of in enumerate(rows) if len(of)})
        codes = np.empty((len(array), code_bytes(self.n_bits)), np.uint8)
        for shard, of_shard in parts.items():
            codes[rows[shard]] = of_shard
        return codes

    def __contains__(self, id: Any) -> bool:
        if not is_int64(check_int("id", id)):
            return False
        shard = int(shard_of(np.array([id], np.int64), self.n_shards)[0])
        return bool(self._read("read", "__contains__", each={shard: (int(id),)})[shard])

    def to_arrays(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return all codes, uint8 `(n, n_bits / 8)`, and their ids, int64 `(n,)`, sorted by id."""
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
        max_compared: float | None = None,
        allow: Allow = None,
        stats: bool = False,
        partial: bool = False,
    ) -> Any:
        """Find the k nearest codes of each query, ordered by (distance, id); exactly, unless `keep` is given.

        Args:
            queries: uint8 array `(nq, n_bits / 8)`.
            k: number of neighbours, from 1 to 2^31 - 1; may exceed the number of codes.
            keep: None searches exactly. A number runs HDHash's pruned search, as in `HierIndex.search`, with the
                results of one index over all codes. This process decides which nodes are kept, from the distinct
                prefixes of all shards (all levels but the last). The first pruned search after a change collects these
                prefixes; so does every pruned search with an array as `allow=`.
            keep_mode: as in `HierIndex.search`.
            max_compared: must be None; only an index without shards can stop early.
            allow: ids that the search may return, as in `HierIndex.search`. The ids of an `IdFilter` are sent once.
                With a filter for each query, shards are asked once for each distinct filter.
            stats: also return the work done, added up over all shards.
            partial: if shards are lost, search the remaining shards instead of raising an error.

        Returns:
            `SearchResult`, or with `stats=True` the pair (`SearchResult`, `SearchStats`); with `partial=True` a
            `PartialResult` of that.

        Raises:
            TypeError: wrong dtype of `queries` or `allow`, `k` is not an integer, `keep` is not a number, or
                `max_compared` is given.
            ValueError: wrong shape, `k` or `keep` out of range, unknown `keep_mode`, or `keep` with another metric than
                `"hamming"`.
            MemoryError: the results would take more memory than there is.
            ShardLostError: no copy of a shard is left.
        """
        if max_compared is not None:
            raise TypeError(f"max_compared must be left out for an index in shards, got {max_compared!r}")
        array = check_queries(own_array("queries", queries), self.n_bits)
        k = check_k(k, len(array))
        share = check_keep(keep, keep_mode)
        if keep is not None and self.metric != "hamming":
            raise ValueError(f"metric must be 'hamming' for keep, this index has {self.metric!r}")
        check_bool("stats", stats)
        own = self._own_filter(allow)

        def find(state: State, missing: set[int] | None) -> tuple[SearchResult, SearchStats]:
            def search(some: NDArray[np.uint8], one: _Filter) -> tuple[SearchResult, SearchStats]:
                allowed = self._allowed(one)
                cuts = None
                if share is not None and len(self.level_bits) > 1:
                    cuts = self._census(state, allowed, missing).cuts(some, k, share, keep_mode)
                sent, sent_cuts = shared(some), shared(cuts)
                each = [(sent, k, sent_cuts, keep_mode, *allowed[s]) for s in range(self.n_shards)]
                parts = self._fleet.search("search", each, state.versions, state.sizes, missing=missing)
                result = merge_nearest([parts[s][0] for s in sorted(parts)], len(some), k, self.n_bits, self.metric)
                return result, self._work(parts, state, len(some))

            return _by_filter(own, array, search)

        return self._found(find, stats, partial)

    def range_search(
        self, queries: ArrayLike, radius: float, *, allow: Allow = None, stats: bool = False, partial: bool = False
    ) -> Any:
        """Find all codes within a radius of each query, exactly, ordered by (distance, id).

        Args:
            queries: uint8 array `(nq, n_bits / 8)`.
            radius: as in `HierIndex.range_search`.
            allow: ids that the search may return, as in `search`.
            stats: also return the work done, added up over all shards.
            partial: as in `search`.

        Returns:
            `RangeResult`, or with `stats=True` the pair (`RangeResult`, `SearchStats`); with `partial=True` a
            `PartialResult` of that.

        Raises:
            TypeError: wrong dtype of `queries` or `allow`, or `radius` is not an integer (`"jaccard"`: not a number).
            ValueError: wrong shape, or `radius` is negative.
            ShardLostError: no copy of a shard is left.
        """
        check_bool("stats", stats)

        def merged(parts: dict[int, Any], state: State, n: int) -> tuple[RangeResult, SearchStats]:
            return merge_ranges([parts[s][0] for s in sorted(parts)], n, self.metric), self._work(parts, state, n)

        return self._found(self._within("range_search", queries, radius, allow, merged), stats, partial)

    def count_within(self, queries: ArrayLike, radius: float, *, allow: Allow = None, partial: bool = False) -> Any:
        """Count the codes within a radius of each query, without listing them.

        Args:
            queries: uint8 array `(nq, n_bits / 8)`.
            radius: as in `HierIndex.range_search`.
            allow: ids that may count, as in `search`.
            partial: as in `search`.

        Returns:
            int64 array `(nq,)`; with `partial=True` a `PartialResult` of that.

        Raises:
            TypeError: wrong dtype of `queries` or `allow`, or `radius` is not an integer (`"jaccard"`: not a number).
            ValueError: wrong shape, or `radius` is negative.
            ShardLostError: no copy of a shard is left.
        """

        def merged(parts: dict[int, Any], state: State, n: int) -> NDArray[np.int64]:
            return np.sum([np.zeros(n, np.int64), *parts.values()], axis=0, dtype=np.int64)

        find = self._within("count_within", queries, radius, allow, merged)
        return self._found(lambda state, missing: (find(state, missing), None), False, partial)

    def _within(
        self,
        method: str,
        queries: ArrayLike,
        radius: float,
        allow: Allow,
        merged: Callable[[dict[int, Any], State, int], Any],
    ) -> Callable[[State, set[int] | None], Any]:
        """Check the arguments of a search within a radius.

        Args:
            method: `range_search` or `count_within`.
            queries, radius, allow: arguments of the search.
            merged: function of the answers of `Fleet.search`, the state and the number of queries; returns the result.

        Returns:
            The function that searches all shards.
        """
        array = check_queries(own_array("queries", queries), self.n_bits)
        largest = check_radius(radius, self.metric, self.n_bits)
        own = self._own_filter(allow)

        def find(state: State, missing: set[int] | None) -> Any:
            def search(some: NDArray[np.uint8], one: _Filter) -> Any:
                allowed, sent = self._allowed(one), shared(some)
                each = [(sent, largest, *allowed[s]) for s in range(self.n_shards)]
                answers = self._fleet.search(method, each, state.versions, state.sizes, missing=missing)
                return merged(answers, state, len(some))

            return _by_filter(own, array, search)

        return find

    def _found(
        self, find: Callable[[State, set[int] | None], tuple[Any, SearchStats | None]], stats: bool, partial: bool
    ) -> Any:
        """Run a search; return its result in the form that `stats` and `partial` ask for."""
        check_bool("partial", partial)
        missing: set[int] | None = set() if partial else None
        result, work = self._reading(lambda state: find(state, missing))
        whole = (result, work) if stats else result
        return whole if missing is None else PartialResult(whole, tuple(sorted(missing)))

    def _work(self, parts: Mapping[int, Any], state: State, n_queries: int) -> SearchStats:
        shards = sorted(parts)
        return merge_stats(
            [parts[s][1] for s in shards], [state.sizes[s] for s in shards], n_queries, sum(self.level_bits)
        )

    def _census(self, state: State, allowed: Mapping[int, Allowed], missing: set[int] | None) -> Census:
        """Return the nodes of all shards; cached, except for a filter given as an array."""
        key, ids = allowed[0]
        cached = ids is None or key is not None
        if cached and key in state.censuses:
            return state.censuses[key]
        gone: set[int] = set()
        parts = self._fleet.ask("nodes", allowed, state.versions, missing=None if missing is None else gone)
        census = Census(list(parts.values()), self.level_bits)
        if missing is not None:
            missing |= gone
        if cached and not gone:
            state.censuses[key] = census
        return census

    def _own_filter(self, allow: Allow) -> _Filter | list[_Filter]:
        """Read a filter, or one for each query, once: a search that is repeated uses the same ids."""
        if not are_query_filters(allow):
            return self._own_ids("allow", allow)
        own: dict[int, _Filter] = {}  # one for each object, so that queries which share a filter are searched together
        for place, each in enumerate(allow):
            if id(each) not in own:
                own[id(each)] = self._own_ids(f"allow[{place}]", each)
        return [own[id(each)] for each in allow]

    def _own_ids(self, name: str, allow: Any) -> _Filter:
        if allow is None or isinstance(allow, IdFilter):
            return allow
        return core_filter(name, allow, self._state.next_id).ids()

    def _allowed(self, allow: _Filter) -> dict[int, Allowed]:
        """Return, for each shard, the allowed ids that belong to it."""
        if allow is None:
            return dict.fromkeys(range(self.n_shards), (None, None))
        if isinstance(allow, IdFilter):
            if allow not in self._filters:
                self._filters[allow] = self._split(next(self._filter_numbers), allow._impl.ids())
            return self._filters[allow]
        return self._split(None, allow)

    def _split(self, number: int | None, ids: NDArray[np.int64]) -> dict[int, Allowed]:
        return {shard: (number, shared(ids[rows])) for shard, rows in enumerate(rows_of_shards(ids, self.n_shards))}


def _by_filter(
    allow: _Filter | list[_Filter], queries: NDArray[np.uint8], search: Callable[[NDArray[np.uint8], Any], Any]
) -> Any:
    """Search with one filter, or with one for each query."""
    return search_by_filter(allow, queries, search) if isinstance(allow, list) else search(queries, allow)
