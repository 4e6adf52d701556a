"""Replicas of shards: the record of one, the file that can restore it, and the choice of its node."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fasthash._checks import check_int, check_not_negative, check_positive
from fasthash.distributed._ray import ray
from fasthash.distributed.packing import packed_call

__all__ = ["Copy", "Options", "ShardLostError", "Source", "choose_node", "has_references", "nodes"]


class ShardLostError(RuntimeError):
    """No copy of a shard is left, and no saved file holds its latest version.

    Attributes:
        shard: number of the shard.
    """

    def __init__(self, shard: int, n_shards: int, reason: str) -> None:
        super().__init__(shard, n_shards, reason)
        self.shard = shard

    def __str__(self) -> str:
        shard, n_shards, reason = self.args
        return f"shard {shard} of {n_shards} is gone: {reason}"


@dataclass(frozen=True)
class Options:
    """Options for starting actors."""

    n_shards: int
    replicas: int
    threads: int | None
    num_cpus: float
    hedge_after: float
    """Seconds without an answer after which a second replica is asked."""

    @classmethod
    def checked(cls, n_shards: int, replicas: Any, threads: Any, num_cpus: Any, hedge_after: Any) -> Options:
        """The options that a caller of `ShardedIndex` has given.

        Raises:
            TypeError, ValueError: as in the class.
        """
        return cls(
            n_shards=n_shards,
            replicas=check_int("replicas", replicas, minimum=1),
            threads=None if threads is None else check_int("threads", threads, minimum=1, maximum=1024),
            num_cpus=check_not_negative("num_cpus", num_cpus),
            hedge_after=check_positive("hedge_after", hedge_after),
        )


@dataclass(frozen=True)
class Source:
    """A saved folder that holds a version of a shard; the card is empty for an empty shard."""

    version: int
    folder: str
    card: Mapping[str, Any]


@dataclass(eq=False)
class Copy:
    """A replica: an actor that holds a copy of a shard."""

    actor: Any
    node: str
    process: int
    since: int
    """The oldest version in this copy; the copy has all later ones."""

    late: Any = None
    """A call that has been unanswered for longer than `hedge_after`, or None."""

    def ask(self, method: str, version: int, arguments: Sequence[Any]) -> Any:
        """Call a read-only method of `Shard`, without waiting; `unpacked` takes the answer."""
        if has_references(arguments):  # which Ray resolves
            return getattr(self.actor, method).remote(version, *arguments)
        return self.actor.answer.remote(version, packed_call(method, arguments))


def has_references(arguments: Iterable[Any]) -> bool:
    """Return whether any argument stands for an array in Ray's memory, so that only Ray can send it."""
    return any(isinstance(argument, ray.ObjectRef) for argument in arguments)


def choose_node(
    nodes: Sequence[str], others: Iterable[str], failures: Mapping[str, int], load: Mapping[str, int]
) -> str:
    """Choose the node for another copy of a shard.

    Prefers, in this order: nodes with the fewest copies of the shard, nodes whose last failure is oldest, and nodes
    with the lowest load.

    Args:
        nodes: candidates.
        others: nodes of the other copies of the shard.
        failures: for each node, when its last failure was, as an increasing number.
        load: for each node, the number of copies of all shards.

    Raises:
        ConnectionError: there is no candidate.
    """
    if not nodes:
        raise ConnectionError("no node of the Ray cluster is alive")
    taken = Counter(others)
    return min(nodes, key=lambda node: (taken[node], failures.get(node, 0), load.get(node, 0)))


def nodes(num_cpus: float) -> list[str]:
    """Return the living nodes that may hold shards: nodes that offer processors, or all nodes if none does."""
    alive = [(node["NodeID"], node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    with_cpus = [node for node, cpus in alive if cpus > 0 and cpus >= num_cpus]
    return sorted(with_cpus) or sorted(node for node, _ in alive)
