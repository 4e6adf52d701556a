"""Copies of shards: what one is, what it is made from, and the node that it is put on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fasthash.distributed._ray import ray

__all__ = ["Copy", "Options", "ShardLostError", "Source", "choose_node", "nodes"]


class ShardLostError(RuntimeError):
    """No copy of a shard is left, and what was saved of it is older than what it held.

    Attributes:
        shard: its number.
    """

    def __init__(self, shard: int, n_shards: int, reason: str) -> None:
        super().__init__(shard, n_shards, reason)
        self.shard = shard

    def __str__(self) -> str:
        shard, n_shards, reason = self.args
        return f"shard {shard} of {n_shards} is gone: {reason}"


@dataclass(frozen=True)
class Options:
    """How actors are started."""

    n_shards: int
    replicas: int
    threads: int | None
    num_cpus: float
    hedge_after: float
    """Seconds without an answer after which another copy is asked too."""


@dataclass(frozen=True)
class Source:
    """A file that holds just what a version of a shard holds; an empty card for a shard that holds nothing."""

    version: int
    folder: str
    card: Mapping[str, Any]


@dataclass(eq=False)
class Copy:
    """An actor that holds a copy of a shard."""

    actor: Any
    node: str
    process: int
    since: int
    """The first version that it holds; it has all later ones."""

    late: Any = None
    """The answer that it owes since longer than hedge_after lasts."""


def choose_node(
    nodes: Sequence[str], others: Iterable[str], failures: Mapping[str, int], load: Mapping[str, int]
) -> str:
    """The node for another copy of a shard: one without a copy of it if there is one, of those the one whose last
    failure is longest ago, of those the least loaded."""
    taken = Counter(others)
    return min(nodes, key=lambda node: (taken[node], failures.get(node, 0), load.get(node, 0)))


def nodes(num_cpus: float) -> list[str]:
    """The nodes that may hold shards; not those that were told to offer no processor, if there are others."""
    alive = [(node["NodeID"], node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    offering = [node for node, cpus in alive if cpus > 0 and cpus >= num_cpus]
    return sorted(offering) or sorted(node for node, _ in alive)
