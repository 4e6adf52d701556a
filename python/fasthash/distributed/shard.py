"""`Shard`: one copy of one shard, which runs in an actor. It does not know the other shards, and hardly uses Ray."""

from __future__ import annotations

import math
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasthash._checks import code_bytes
from fasthash._core import FormatError
from fasthash._index_base import search_stats
from fasthash._index_options import KEEP_MODES, Metric
from fasthash._saved_folder import check_file, file_entry
from fasthash._saved_kinds import check_shard, shard_names
from fasthash.distributed.merge import shard_of
from fasthash.distributed.packing import packed, unpacked_call
from fasthash.distributed.pruning import Nodes, count_nodes
from fasthash.filters import IdFilter
from fasthash.index import HierIndex, Memory, Plan, load
from fasthash.results import RangeResult, SearchResult, SearchStats
from fasthash.threads import set_num_threads

__all__ = ["Allowed", "Shard"]

Codes = NDArray[np.uint8]
Ids = NDArray[np.int64]
Allowed = tuple[int | None, Ids | None]
"""The last two arguments of searches: the number of an `IdFilter`, or None for an array that is used once; and the
allowed ids that belong to this shard, or None for no filter."""

_MOST_FILTERS = 8


class Shard:
    """The codes of a shard in several versions at once.

    A change makes a new version; running searches still read the old one. Versions share unchanged segments (copy on
    write). Methods may run in several threads.

    Args:
        level_bits: as in `HierIndex`.
        memory: as in `HierIndex`.
        plan: as in `HierIndex`.
        threads: threads of a search; None takes the number of processors.
        metric: as in `HierIndex`.
    """

    def __init__(
        self,
        level_bits: Sequence[int],
        memory: Memory,
        plan: Plan,
        threads: int | None,
        metric: Metric = "hamming",
    ) -> None:
        if threads is not None:
            set_num_threads(threads)
        self._empty = HierIndex(level_bits, memory=memory, plan=plan, metric=metric)
        self._versions: dict[int, HierIndex] = {}
        self._filters: OrderedDict[int, IdFilter] = OrderedDict()

    def place(self) -> tuple[str, int]:
        """Return Ray's id of the node, and the id of the process."""
        import ray

        return ray.get_runtime_context().get_node_id(), os.getpid()

    def ping(self) -> None:
        """Do nothing; an answer shows that the actor is alive."""

    def load(self, version: int, folder: str, card: Mapping[str, Any], number: int, n_shards: int) -> int:
        """Load the codes of shard `number` of `n_shards` from a saved folder; return the number of codes.

        With an empty card the shard is empty.
        """
        index = self._empty.copy()
        if card and card["n_shards"] == n_shards:
            index, _, _ = self._loaded(folder, card, number)
        elif card:
            # Only these files can hold ids of this shard: the hashes agree modulo the gcd of both numbers of shards.
            step = math.gcd(card["n_shards"], n_shards)
            pieces = [(np.empty((0, code_bytes(index.n_bits)), np.uint8), np.empty(0, np.int64))]
            for file in range(number % step, card["n_shards"], step):
                _, codes, ids = self._loaded(folder, card, file)
                ours = shard_of(ids, n_shards) == number
                pieces.append((codes[ours], ids[ours]))
            index.add(np.concatenate([codes for codes, _ in pieces]), np.concatenate([ids for _, ids in pieces]))
        self._versions[version] = index
        return len(index)

    def _loaded(self, folder: str, card: Mapping[str, Any], number: int) -> tuple[HierIndex, Codes, Ids]:
        """Load and check the file of one shard; return its index, codes and ids."""
        name = shard_names(card["n_shards"])[number]
        path = check_file(folder, card, name, whole=False)
        index = load(path)
        if not isinstance(index, HierIndex):
            raise FormatError(f"{path} holds {index!r}, expected a HierIndex")
        codes, ids = index.to_arrays()
        check_shard(index, shard_of(ids, card["n_shards"]), number, ids, card)
        return index, codes, ids

    def save(self, version: int, path: Path) -> dict[str, Any]:
        """Write a version to a file; return the entry of the file for the card."""
        self._versions[version].save(path)
        return file_entry(path)

    def put(self, version: int, content: Any, folder: str, card: Mapping[str, Any], number: int) -> None:
        """Store a version, given the `content` of another copy; the last three are those of `load`."""
        self._versions[version] = HierIndex.from_bytes(content)

    def content(self, version: int) -> Any:
        """Return a version in the form that `put` takes in another copy."""
        return self._versions[version].to_bytes()

    def change(self, old: int, new: int, method: str, *arguments: Any) -> int:
        """Make a new version from an old one by calling a method of the index; return its number of codes."""
        index = self._versions[old].copy()
        getattr(index, method)(*arguments)
        self._set_version(old, new, index)
        return len(index)

    def _set_version(self, old: int, new: int, index: HierIndex) -> None:
        """Store a version that was made from an old one, the newest that is read.

        Versions between are of changes that the owner gave up: after Ctrl-C, `forget` may come before they are made.
        """
        self._versions[new] = index
        self.forget([version for version in list(self._versions) if old < version < new])

    def forget(self, versions: Sequence[int]) -> None:
        """Drop versions that are no longer read."""
        for version in versions:
            self._versions.pop(version, None)

    def read(self, version: int, method: str, *arguments: Any) -> Any:
        """Call a read-only method of the index, or return an attribute."""
        value = getattr(self._versions[version], method)
        return value(*arguments) if callable(value) else value

    def answer(self, version: int, call: bytes) -> Any:
        """Call a method, whose name and other arguments are packed; return its packed answer."""
        method, arguments = unpacked_call(call)
        return packed(getattr(self, method)(version, *arguments))

    def search(
        self,
        version: int,
        queries: Codes,
        k: int,
        cuts: NDArray[np.uint16] | None,
        keep_mode: str,
        *allowed: Any,
    ) -> tuple[SearchResult, SearchStats]:
        """Find up to k neighbours of each query; with `cuts`, run the pruned search and keep nodes within the cuts."""
        index, allow = self._versions[version], self._filter(*allowed)
        k = max(1, min(k, len(index)))  # no padding beyond the number of codes
        if cuts is None:
            return index.search(queries, k, allow=allow, stats=True)
        mode = KEEP_MODES[keep_mode]
        distances, ids, work = index._impl.search(queries, k, index._filter(allow), True, None, mode, cuts)
        return SearchResult(distances, ids), search_stats(work)

    def range_search(
        self, version: int, queries: Codes, radius: float, *allowed: Any
    ) -> tuple[RangeResult, SearchStats]:
        """Find all codes within a radius."""
        return self._versions[version].range_search(queries, radius, allow=self._filter(*allowed), stats=True)

    def count_within(self, version: int, queries: Codes, radius: float, *allowed: Any) -> NDArray[np.int64]:
        """Count the codes within a radius."""
        return self._versions[version].count_within(queries, radius, allow=self._filter(*allowed))

    def nodes(self, version: int, number: int | None, allowed: Ids | None) -> Nodes:
        """Return the nodes of the second-last level over the allowed codes."""
        index = self._versions[version]
        codes, ids = index.to_arrays()
        if allowed is not None:
            codes = codes[np.isin(ids, allowed)]
        prefixes = codes[:, : sum(index.level_bits[:-1]) // 8]
        return count_nodes(np.ascontiguousarray(prefixes), np.ones(len(prefixes), np.int64))

    def _filter(self, number: int | None, ids: Ids | None) -> IdFilter | Ids | None:
        """Return the `allow=` argument of the index; an `IdFilter` is cached, as it stores small indices."""
        if number is None or ids is None:
            return ids
        cached = self._filters.pop(number, None)
        # Held here: searches in other threads may drop it from the cache at once.
        kept = self._filters[number] = IdFilter(ids) if cached is None else cached
        while len(self._filters) > _MOST_FILTERS:
            self._filters.popitem(last=False)
        return kept
