"""`HierIndex`: the index that compares only a small part of its codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, cast, overload

from numpy.typing import ArrayLike

from fasthash import _core
from fasthash._checks import LEVEL_BITS, check_choice, check_codes_and_layout, check_layout
from fasthash._index_base import Index
from fasthash._index_options import (
    MEMORIES,
    MEMORY_NAMES,
    METRICS,
    PLAN_NAMES,
    PLANS,
    Allow,
    KeepMode,
    Memory,
    Metric,
    Plan,
)
from fasthash._shown import counted
from fasthash.results import SearchResult, SearchStats

if TYPE_CHECKING:
    from typing_extensions import Self

    from fasthash.gpu import GpuHierIndex

__all__ = ["HierIndex"]


class HierIndex(Index):
    """Exact nearest-neighbour index that compares only a small part of its codes.

    The index samples the codes and chooses the cheapest search plan within the memory budget:

    - `"prefix"`: visit code prefixes in the order of their distance to the query. That distance is a lower bound for
      every code with the prefix, so the search stops when it exceeds the k-th distance. Best for clustered codes, such
      as learned ones. The width of the prefix does not depend on the levels.
    - `"multi-index"`: look up several substrings of the code, each in its own table of all codes (multi-index hashing,
      arXiv:1307.2982). Best for small distances.
    - `"clusters"`: group the codes around centroids (k-majority) and visit clusters in the order of a lower bound of
      their distance, by the triangle inequality. Best for scattered codes around centres; needs little memory.
    - `"scan"`: compare every code, as `FlatIndex` does.

    All plans return the same results. If the look-ups of a prefix or multi-index search turn out to cost more than a
    scan, the search finishes as a scan. Equal codes are stored once, unless the plan is a scan.

    With `keep=`, `search` runs HDHash's pruned coarse-to-fine search (ICPR 2020) over the levels instead. The first
    pruned search after a change compacts the index and builds the tree of its levels; where the plan is a scan or
    clusters, it also keeps a sorted copy of the codes.

    Later additions go to small segments, which are merged as they grow (docs/updates.md). An index holds at most
    2^32 - 1 codes.

    Args:
        level_bits: widths of the levels in bits, coarse first; each a positive multiple of 8, together at most 4096.
            The last level may have any width, as the codes of `FlatIndex`. An integer means one level: `HierIndex(64)`.
        n_bits: width of the only level, as in `FlatIndex`; replaces `level_bits`.
        memory: memory budget, ids included: `"compact"` (as little as possible), `"default"` (up to twice the bytes of
            the codes) or `"fast"` (up to six times). The index uses the budget only where it makes the exact search
            faster. The budget excludes recent additions (at most 1/32 of the codes), the id map, which the first lookup
            by id builds, and, unless it is `"compact"`, the tables that repeated searches within small radii build
            where the plan is a scan (docs/search.md).
        plan: `"auto"`, or a plan to force. 8-bit codes have no substrings: `"multi-index"` scans them.
        metric: as in `FlatIndex`. With `"jaccard"` an index has one level and neither a plan nor a memory budget to
            choose, and searches as a `FlatIndex` does.

    Raises:
        TypeError: `level_bits` is not an integer or a sequence of integers, or `n_bits` is not an integer.
        ValueError: a width is not positive, or not a multiple of 8 before the last level, the sum is out of range, both
            `level_bits` and `n_bits` are given, `memory`, `plan` or `metric` is unknown, or several levels, a plan or
            a memory budget are given with `"jaccard"`.

    Examples:
        >>> index = HierIndex(level_bits=(8, 8))
        >>> index.add(np.array([[0, 0], [255, 255], [1, 0]], dtype=np.uint8), ids=np.array([7, 8, 9]))
        >>> index.search(np.array([[0, 0]], dtype=np.uint8), k=2)
        SearchResult(distances=array([[0, 1]], dtype=int32), ids=array([[7, 9]]))
    """

    _impl: _core.HierIndex
    _kind = _core.HierIndex

    def __init__(
        self,
        level_bits: int | Sequence[int] = LEVEL_BITS,
        *,
        n_bits: int | None = None,
        memory: Memory = "default",
        plan: Plan = "auto",
        metric: Metric = "hamming",
    ) -> None:
        widths = check_layout(level_bits, n_bits)
        check_choice("memory", memory, MEMORIES)
        check_choice("plan", plan, PLANS)
        check_choice("metric", metric, METRICS)
        self._impl = _core.HierIndex(widths, MEMORIES[memory], PLANS[plan], METRICS[metric])

    @classmethod
    def from_arrays(
        cls,
        codes: ArrayLike,
        ids: ArrayLike | None = None,
        *,
        level_bits: int | Sequence[int] | None = None,
        n_bits: int | None = None,
        memory: Memory = "default",
        plan: Plan = "auto",
        metric: Metric = "hamming",
    ) -> Self:
        """Create an index of these codes.

        Args:
            codes: uint8 array `(n, n_bytes)`.
            ids: as in `add`.
            level_bits: as in the class; None makes a single level.
            n_bits: width of the only level, as in the class; None takes 8 for each byte.
            memory: as in the class.
            plan: as in the class.
            metric: as in the class.

        Raises:
            TypeError, ValueError: as in the class and in `add`.
        """
        array, widths = check_codes_and_layout(codes, level_bits, n_bits)
        index = cls(widths, memory=memory, plan=plan, metric=metric)
        index.add(array, ids)
        return index

    def __repr__(self) -> str:
        settings = f"level_bits={self.level_bits}, memory={self.memory!r}{self._shown_metric()}"
        return f"HierIndex({settings}) with {counted(len(self), 'code')}"

    def to(self, device: Any, *, max_bytes: int | None = None) -> HierIndex | GpuHierIndex:
        """Create an index with the same codes on a GPU; arguments and errors as in `FlatIndex.to`.

        Returns:
            A `fasthash.gpu.GpuHierIndex`, or this index.
        """
        from fasthash.gpu import GpuHierIndex, check_devices

        devices = check_devices(device, max_bytes)
        if devices is None:
            return self
        return GpuHierIndex(self, devices, max_bytes)

    @property
    def memory(self) -> Memory:
        """Memory budget: `"compact"`, `"default"` or `"fast"`."""
        return cast(Memory, MEMORY_NAMES[self._impl.memory])

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
    ) -> SearchResult: ...
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
    ) -> tuple[SearchResult, SearchStats]: ...
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
    ) -> SearchResult | tuple[SearchResult, SearchStats]:
        """Find the k nearest codes of each query, by (distance, id); exactly, without `keep` and `max_compared`.

        In an exact search the first columns do not depend on k, so pages are slices: the second page of ten is
        `search(queries, k=20).ids[:, 10:]`.

        Args:
            queries: uint8 array `(nq, n_bits / 8)`, or one code `(n_bits / 8,)` as a batch of one.
            k: number of neighbours, from 1 to 2^31 - 1; may exceed the number of codes.
            keep: None searches exactly. A number above 0 and at most 1 runs HDHash's pruned search: coarse to fine, it
                keeps this share after every level but the last. All nodes tied at the cut are kept, and the cut widens
                until k codes are left. The search is exact with 1, and in an index of one level.
            keep_mode: meaning of the share. `"node_ratio"`: a share of the candidate nodes of the level, nearest first.
                `"gallery_ratio"`: take nodes, nearest first, until their subtrees hold this share of all codes.
                `"radius"`: keep nodes whose distance on this level alone is at most this share of the level's bits.
                Only with `keep`.
            max_compared: None searches exactly. A float above 0 and at most 1 is a share of the codes, an integer a
                number of codes: the search visits the nearest clusters first and ends once it has compared about as
                many, and at least k. `SearchStats.exact_to` says up to which distance each result is nevertheless
                exact. Recent additions and the codes of a narrow filter are all compared. Only for an index whose plan
                is `"clusters"`, which `plan=` can force.
            allow: ids that the search may return: an integer array, list, set or range of ids; or a bool mask, where
                `mask[i]` allows id i, with a value for every id so far; or an `IdFilter`, for a set that is used again.
                None allows all. A list of filters: one for each query. With
                `keep` the search prunes among the allowed codes.
            stats: also return the work done.

        Returns:
            `SearchResult`, or with `stats=True` the pair (`SearchResult`, `SearchStats`).

        Raises:
            TypeError: wrong dtype of `queries` or `allow`, `k` is not an integer, `keep` or `max_compared` is not a
                number.
            ValueError: wrong shape, `k`, `keep` or `max_compared` out of range, unknown `keep_mode` or one without
                `keep`, both `keep` and `max_compared` are given, or `max_compared` is given to an index with another
                plan than clusters.
            MemoryError: the results would take more memory than there is.
        """
        return self._search(queries, k, keep, keep_mode, allow, stats, max_compared)

    def stats(self) -> dict[str, Any]:
        """Return the size and shape of the index as a dictionary of plain numbers and names, ready for JSON.

        Adds to the names of `FlatIndex.stats`: `memory`; the `plan` of the exact search, with its `n_substrings`, the
        bits of each (`substring_bits`) and its `n_clusters`; `nodes_per_level`, where the last level counts distinct
        codes; and `n_distinct_codes`. Each call counts the nodes anew. With the metric `"jaccard"` only `memory` is
        added.
        """
        if self._is_jaccard:
            return super().stats() | {"memory": self.memory}
        shape = self._impl.shape()
        return super().stats() | {
            "memory": self.memory,
            "plan": PLAN_NAMES[shape.plan],
            "n_substrings": shape.n_substrings,
            "substring_bits": shape.substring_bits,
            "n_clusters": shape.n_clusters,
            "nodes_per_level": shape.nodes_per_level,
            "n_distinct_codes": shape.nodes_per_level[-1],
        }
