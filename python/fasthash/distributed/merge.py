"""Merges results of shards into the results of one index over all codes.

Results are ordered by (distance, id). As this is a total order, the k best of the k best of all shards are the k best
of all codes. Jaccard distances are fractions, which arrive rounded to float32. Their order is that of the fractions:
two different fractions of numbers up to 4096, the largest width, differ by at least 1 / (4096 * 4095). That is more
than 2^-24, the largest distance between two neighbours of float32 up to 1, so that no two round to the same number.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fasthash._index_options import Metric
from fasthash.results import RangeResult, SearchResult, SearchStats

__all__ = ["merge_nearest", "merge_ranges", "merge_stats", "rows_of_shards", "shard_of"]

_DTYPES: dict[Metric, type[np.generic]] = {"hamming": np.int32, "jaccard": np.float32}


def shard_of(ids: NDArray[np.int64], n_shards: int) -> NDArray[np.int64]:
    """Return the shard of each id: its hash (the finaliser of splitmix64) modulo the number of shards.

    Args:
        ids: int64 array `(n,)`.
        n_shards: number of shards, at least 1.

    Returns:
        int64 array `(n,)`.
    """
    x = ids.astype(np.uint64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return (x % np.uint64(n_shards)).astype(np.int64)


def rows_of_shards(ids: NDArray[np.int64], n_shards: int) -> list[NDArray[np.int64]]:
    """Return, for each shard, the rows of its ids in ascending order."""
    shards = shard_of(ids, n_shards)
    ends = np.cumsum(np.bincount(shards, minlength=n_shards))
    return np.split(np.argsort(shards, kind="stable"), ends[:-1])


def merge_nearest(
    parts: Sequence[SearchResult], n_queries: int, k: int, n_bits: int, metric: Metric = "hamming"
) -> SearchResult:
    """Merge the k nearest neighbours of all shards.

    Args:
        parts: for each shard, up to k neighbours of each query, ordered by (distance, id).
        n_queries: number of queries.
        k: neighbours of each query.
        n_bits: width of a code in bits.
        metric: distance between codes.

    Returns:
        `SearchResult` of shape `(n_queries, k)`, padded if the shards have fewer than k neighbours.
    """
    missing = n_bits + 1 if metric == "hamming" else np.inf
    result = SearchResult(np.full((n_queries, k), missing, _DTYPES[metric]), np.full((n_queries, k), -1, np.int64))
    if parts:
        distances = np.concatenate([part.distances for part in parts], axis=1)
        ids = np.concatenate([part.ids for part in parts], axis=1)
        # Padding has the largest distance, so it comes last.
        best = np.lexsort((ids, distances), axis=-1)[:, :k] if len(parts) > 1 else np.arange(min(k, ids.shape[1]))[None]
        result.distances[:, : best.shape[1]] = np.take_along_axis(distances, best, axis=1)
        result.ids[:, : best.shape[1]] = np.take_along_axis(ids, best, axis=1)
    return result


def merge_ranges(parts: Sequence[RangeResult], n_queries: int, metric: Metric = "hamming") -> RangeResult:
    """Merge the range results of all shards; the rows of each query are ordered by (distance, id)."""
    offsets = np.zeros(n_queries + 1, np.int64)
    if not parts:
        return RangeResult(offsets, np.empty(0, _DTYPES[metric]), np.empty(0, np.int64))
    for part in parts:
        offsets += part.offsets
    queries = np.concatenate([np.repeat(np.arange(n_queries), np.diff(part.offsets)) for part in parts])
    distances = np.concatenate([part.distances for part in parts])
    ids = np.concatenate([part.ids for part in parts])
    order = np.lexsort((ids, distances, queries))
    return RangeResult(offsets, distances[order], ids[order])


def merge_stats(parts: Sequence[SearchStats], sizes: Sequence[int], n_queries: int, n_bits: int) -> SearchStats:
    """Add up the work of all shards; the plan is that of the largest shard."""
    if not parts:
        nothing = np.zeros(n_queries, np.int64)
        return SearchStats(np.full(n_queries, "scan"), nothing, nothing.copy(), np.full(n_queries, n_bits, np.int32))
    largest = max(range(len(parts)), key=lambda i: sizes[i])
    nodes = np.stack([part.nodes_visited for part in parts]).sum(axis=0)
    compared = np.stack([part.codes_compared for part in parts]).sum(axis=0)
    exact_to = np.stack([part.exact_to for part in parts]).min(axis=0)
    return SearchStats(parts[largest].plan.copy(), nodes, compared, exact_to)
