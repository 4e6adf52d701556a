"""`Relay`: an actor that sends a search to a group of shards and merges their answers; the owner asks few of them.

A relay holds no codes. If it cannot ask a shard, it says so, and the owner asks this shard itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fasthash._index_options import Metric
from fasthash._locks import Condition
from fasthash.distributed.asking import Asking
from fasthash.distributed.copies import Copy
from fasthash.distributed.merge import merge_nearest, merge_ranges, merge_stats
from fasthash.distributed.packing import packed, unpacked

__all__ = ["NO_COPIES", "Relay", "Relayed"]

NO_COPIES = -1


class Relayed(NamedTuple):
    """The answer of a relay; shards are numbered from 0 in its group."""

    number: int
    """Of the copies that the relay knew; `NO_COPIES` if it knew none."""

    losses: tuple[tuple[int, int], ...]
    """Shard and place of each copy that failed."""

    left: tuple[int, ...]
    """The shards that were not searched."""

    largest: int
    """The largest of the shards that were searched, the first of equal ones."""

    merged: Any
    """Their answers as one; None if there is none."""


class Relay:
    """Sends searches to the shards of a group. Methods may run in several threads.

    Args:
        n_bits: width of a code in bits.
        metric: distance between codes.
        hedge_after: seconds without an answer after which a second replica is asked.
    """

    def __init__(self, n_bits: int, metric: Metric, hedge_after: float) -> None:
        self._n_bits, self._metric, self._hedge_after = n_bits, metric, hedge_after
        self._changed = Condition()  # held briefly
        self._known = NO_COPIES, Group((), hedge_after)

    def ping(self) -> None:
        """Do nothing; an answer shows that the actor is alive."""

    def know(self, number: int, copies: Sequence[Sequence[Copy]]) -> None:
        """Ask these copies of each shard from now on; larger numbers are newer."""
        with self._changed:
            if number > self._known[0]:
                self._known = number, Group(copies, self._hedge_after)

    def search(self, request: Any) -> Any:
        """Ask one copy of each shard, and merge their answers.

        Args:
            request: packed or not: a method of `Shard`, then for each shard the version, the number of codes, and the
                arguments.

        Returns:
            A packed `Relayed`.
        """
        method, versions, sizes, arguments = unpacked(request)
        number, group = self._known
        if number == NO_COPIES:
            return packed(Relayed(number, (), tuple(range(len(versions))), 0, None))
        left: set[int] = set()
        parts = group.ask(method, dict(enumerate(arguments)), versions, missing=left)
        largest = min(parts, key=lambda shard: (-sizes[shard], shard), default=0)
        merged = self._merged(method, parts, sizes, arguments[0]) if parts else None
        return packed(Relayed(number, group.losses(), tuple(sorted(left)), largest, merged))

    def _merged(self, method: str, parts: Mapping[int, Any], sizes: Sequence[int], arguments: tuple[Any, ...]) -> Any:
        """Merge answers into what one shard with all their codes would answer."""
        if method == "count_within":
            return np.sum(list(parts.values()), axis=0, dtype=np.int64)
        shards = sorted(parts)
        found = [parts[shard][0] for shard in shards]
        n_queries = len(parts[shards[0]][1].plan)
        work = merge_stats([parts[s][1] for s in shards], [sizes[s] for s in shards], n_queries, self._n_bits)
        if method == "range_search":
            return merge_ranges(found, n_queries, self._metric), work
        k = min(arguments[1], sum(part.ids.shape[1] for part in found))  # no padding beyond what was found
        return merge_nearest(found, n_queries, k, self._n_bits, self._metric), work


class Group(Asking):
    """The copies of the shards of a relay."""

    def __init__(self, copies: Sequence[Sequence[Copy]], hedge_after: float) -> None:
        super().__init__(copies, hedge_after)
        self._given = [list(of_shard) for of_shard in copies]
        self._losses: list[tuple[int, int]] = []

    def losses(self) -> tuple[tuple[int, int], ...]:
        """Shard and place of each copy that has failed."""
        with self._changed:
            return tuple(self._losses)

    def lose(self, shard: int, copy: Copy, error: BaseException) -> None:
        """Remove a failed copy; the owner replaces it."""
        with self._changed:
            if copy in self._copies[shard]:
                self._copies[shard].remove(copy)
                self._losses.append((shard, self._given[shard].index(copy)))
