"""HDHash's pruning over the codes of all shards.

Pruning at a level depends on all nodes of that level and on the number of codes below each node. So the caller collects
the distinct prefixes of all shards once, with their numbers of codes (`Census`). For each query and level, the census
gives the largest distance at which nodes are kept. The shards then search with these cuts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fasthash._core import keep_at_least, keep_at_most

__all__ = ["Census", "Nodes", "count_nodes"]

_BITS_SET = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1).astype(np.int64)


class Nodes(NamedTuple):
    """The nodes of the second-last level."""

    prefixes: NDArray[np.uint8]
    """`(n, n_bytes)`, distinct and in ascending order."""

    n_codes: NDArray[np.int64]
    """`(n,)`, number of codes with each prefix."""


def count_nodes(prefixes: NDArray[np.uint8], n_codes: NDArray[np.int64]) -> Nodes:
    """Merge equal prefixes, which may be in any order, into nodes, and add up their numbers of codes."""
    if len(prefixes) == 0:
        return Nodes(prefixes, n_codes)
    order = np.lexsort(prefixes.T[::-1])
    sorted_prefixes = prefixes[order]
    first = np.flatnonzero(_differs(sorted_prefixes))
    return Nodes(sorted_prefixes[first], np.add.reduceat(n_codes[order], first))


class Census:
    """The nodes of all levels but the last, with the number of codes of each.

    Args:
        parts: nodes of each shard; their prefixes span all levels but the last.
        level_bits: widths of all levels in bits.
    """

    def __init__(self, parts: Sequence[Nodes], level_bits: Sequence[int]) -> None:
        ends = np.cumsum(level_bits)[:-1] // 8
        nodes = count_nodes(
            np.concatenate([np.empty((0, ends[-1]), np.uint8), *(part.prefixes for part in parts)]),
            np.concatenate([np.empty(0, np.int64), *(part.n_codes for part in parts)]),
        )
        self._total = int(nodes.n_codes.sum())
        self._levels = []
        above = np.zeros(len(nodes.prefixes), np.int64)  # for each prefix, the number of its node one level up
        begin = 0
        for end in ends.tolist():
            new = _differs(nodes.prefixes[:, :end])
            first = np.flatnonzero(new)
            n_codes = np.add.reduceat(nodes.n_codes, first) if len(first) else nodes.n_codes
            self._levels.append(_Level(nodes.prefixes[first, begin:end], above[first], n_codes, begin, end))
            above, begin = np.cumsum(new) - 1, end

    def cuts(self, queries: NDArray[np.uint8], k: int, keep: float, keep_mode: str) -> NDArray[np.uint16]:
        """Compute the largest distance at which nodes are kept, for each query and level.

        Args:
            queries: uint8 `(nq, n_bytes)`.
            k: number of codes that must be kept, if the gallery has so many.
            keep: share to keep, above 0 and at most 1.
            keep_mode: as in `HierIndex.search`.

        Returns:
            uint16 `(nq, n_levels - 1)`: distances of the levels so far, or on the level alone for `"radius"`.
        """
        cuts = np.zeros((len(queries), len(self._levels)), np.uint16)
        if self._total:
            for query, of_query in zip(queries, cuts, strict=True):
                self._prune(query, of_query, min(k, self._total), keep, keep_mode)
        return cuts

    def _prune(self, query: NDArray[np.uint8], cuts: NDArray[np.uint16], k: int, keep: float, keep_mode: str) -> None:
        alive, so_far = np.ones(1, bool), np.zeros(1, np.int64)
        for depth, level in enumerate(self._levels):
            on_level = _BITS_SET[level.keys ^ query[level.begin : level.end]].sum(axis=1)
            so_far = so_far[level.parents] + on_level
            candidates = alive[level.parents]
            score = on_level if keep_mode == "radius" else so_far
            codes = np.cumsum(np.bincount(score[candidates], weights=level.n_codes[candidates]))
            if keep_mode == "node_ratio":
                nodes = np.cumsum(np.bincount(score[candidates]))
                cut = np.searchsorted(nodes, keep_at_least(keep, int(nodes[-1])))
            elif keep_mode == "gallery_ratio":
                # The remaining candidates may hold less than the share; then all of them are kept.
                cut = np.searchsorted(codes, min(keep_at_least(keep, self._total), codes[-1]))
            else:
                cut = np.int64(keep_at_most(keep, (level.end - level.begin) * 8))
            cuts[depth] = max(cut, np.searchsorted(codes, k))
            alive = candidates & (score <= cuts[depth])


class _Level(NamedTuple):
    keys: NDArray[np.uint8]
    parents: NDArray[np.int64]
    n_codes: NDArray[np.int64]
    begin: int
    """First byte of the level in a code."""
    end: int


def _differs(rows: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return whether each row differs from the one before."""
    new = np.ones(len(rows), bool)
    new[1:] = (rows[1:] != rows[:-1]).any(axis=1)
    return new
