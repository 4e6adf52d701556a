"""Searches and look-ups of a store or a `KeyedIndex`; each works on the state of the moment when it begins."""

from __future__ import annotations

from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fasthash._arrays import as_integers
from fasthash._checks import check_ids, check_int, is_int64
from fasthash._hier_index import HierIndex
from fasthash._index_options import Allow, KeepMode, Memory, Metric
from fasthash.results import SearchStats
from fasthash.store.held import Held
from fasthash.store.kinds import as_list, kind_of
from fasthash.store.results import StoreRangeResult, StoreSearchResult

__all__ = ["Readable"]


class Readable:
    """Base class of `Store` and `KeyedIndex`: what changes nothing."""

    @property
    def _view(self) -> Held:
        raise NotImplementedError

    @overload
    def search(
        self,
        queries: ArrayLike,
        k: int = ...,
        *,
        keep: float | None = ...,
        keep_mode: KeepMode = ...,
        max_compared: float | None = ...,
        allow: Allow = ...,
        stats: Literal[False] = ...,
    ) -> StoreSearchResult: ...
    @overload
    def search(
        self,
        queries: ArrayLike,
        k: int = ...,
        *,
        keep: float | None = ...,
        keep_mode: KeepMode = ...,
        max_compared: float | None = ...,
        allow: Allow = ...,
        stats: Literal[True],
    ) -> tuple[StoreSearchResult, SearchStats]: ...
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
    ) -> StoreSearchResult | tuple[StoreSearchResult, SearchStats]:
        """Find the k nearest codes of each query, as `HierIndex.search` does, with the same arguments and results.

        In a store the first search with `keep=` merges all segments in memory. A `KeyedIndex` takes the options of its
        index: `keep=` is one of a `HierIndex`, for example.

        Returns:
            `StoreSearchResult`, a `SearchResult` with `keys`; or with `stats=True` the pair of it and `SearchStats`.

        Raises:
            TypeError, ValueError: as `HierIndex.search`; the index does not take an option; or the store is closed.
        """
        view = self._view
        found = view.search(queries, k, keep, keep_mode, max_compared, allow, stats)
        if not stats:
            return StoreSearchResult._with(found, view.keys_of_result)
        return StoreSearchResult._with(found[0], view.keys_of_result), found[1]

    @overload
    def range_search(
        self, queries: ArrayLike, radius: float, *, allow: Allow = ..., stats: Literal[False] = ...
    ) -> StoreRangeResult: ...
    @overload
    def range_search(
        self, queries: ArrayLike, radius: float, *, allow: Allow = ..., stats: Literal[True]
    ) -> tuple[StoreRangeResult, SearchStats]: ...
    def range_search(
        self, queries: ArrayLike, radius: float, *, allow: Allow = None, stats: bool = False
    ) -> StoreRangeResult | tuple[StoreRangeResult, SearchStats]:
        """Find all codes within a radius of each query, as `HierIndex.range_search` does.

        Returns:
            `StoreRangeResult`, a `RangeResult` with `keys`; or with `stats=True` the pair of it and `SearchStats`.
        """
        view = self._view
        found = view.range_search(queries, radius, allow, stats)
        if not stats:
            return StoreRangeResult._with(found, view.keys_of_result)
        return StoreRangeResult._with(found[0], view.keys_of_result), found[1]

    def count_within(self, queries: ArrayLike, radius: float, *, allow: Allow = None) -> NDArray[np.int64]:
        """Count the codes within a radius of each query, as `HierIndex.count_within` does."""
        return self._view.count_within(queries, radius, allow)

    def reconstruct(self, ids: ArrayLike) -> NDArray[np.uint8]:
        """Return the codes of some ids, as `HierIndex.reconstruct` does."""
        return self._view.index.reconstruct(ids)

    def keys(self, ids: ArrayLike) -> NDArray[np.object_]:
        """Return the keys of some ids.

        Args:
            ids: integer array of ids of entries, of any shape.

        Returns:
            object array in the shape of `ids`.

        Raises:
            TypeError: wrong dtype.
            ValueError: an id is not held, or the entries of the store have no keys.
        """
        array = as_integers("ids", ids)
        return self._view.keys_of(check_ids(array.ravel()).reshape(array.shape))

    def ids(self, keys: Any) -> NDArray[np.int64]:
        """Return the ids of some keys.

        Args:
            keys: sequence of keys of entries.

        Returns:
            int64 `(n,)`; as `allow=` they are the entries that a search may return.

        Raises:
            TypeError: a key is of another kind than those held.
            ValueError: a key is not held.
        """
        return self._view.held_ids(as_list("keys", keys))

    def __contains__(self, key: Any) -> bool:
        """Whether an entry has a key; in a store without keys, whether one has an id."""
        view = self._view
        if view.kind_name == "none":
            return is_int64(check_int("id", key)) and key in view.index
        given = as_list("key", [key])
        if view.kind is None:
            kind_of(given, given)  # raises if it can be no key
        return bool(view.ids_of(given)[0] != -1)

    def __len__(self) -> int:
        return len(self._view)

    def __bool__(self) -> bool:
        return True  # also without entries

    @property
    def n_bits(self) -> int:
        """Width of a code in bits."""
        return self._view.index.n_bits

    @property
    def metric(self) -> Metric:
        """Distance between codes: `"hamming"` or `"jaccard"`."""
        return self._view.index.metric

    @property
    def level_bits(self) -> tuple[int, ...]:
        """Widths of the levels in bits, coarse first."""
        return self._view.index.level_bits

    @property
    def memory(self) -> Memory:
        """Memory budget: `"compact"`, `"default"` or `"fast"`; only of hierarchical indices."""
        index = self._view.index
        if not isinstance(index, HierIndex):
            raise AttributeError(f"memory is that of a HierIndex, but this {type(self).__name__} has a FlatIndex")
        return index.memory
