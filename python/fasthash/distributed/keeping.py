"""`StoredFleet`: the actors of an index whose shards are stores; one copy of each shard is the keeper, and writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fasthash.distributed._ray import ray
from fasthash.distributed.fleet import Fleet, ShardLostError
from fasthash.distributed.stored import StoredShard

__all__ = ["StoredFleet"]


class StoredFleet(Fleet):
    """A `Fleet` of `StoredShard`s."""

    shard_class = StoredShard

    def changed(self) -> list[int]:
        """The shards whose newest version is not that of the last commit."""
        with self._changed:
            return [shard for shard, source in enumerate(self._sources) if source.version != self._versions[shard]]

    def ask_keepers(
        self, method: str, arguments: Mapping[int, tuple[Any, ...]], versions: Sequence[int]
    ) -> dict[int, Any]:
        """Call a method on the keeper of each of some shards: the oldest copy, and if it is lost, the next one.

        Waits for all answers, even if one is an error; the caller holds `changing`.

        Returns:
            The answer of each shard.

        Raises:
            ShardLostError: no copy of a shard is left.
            ValueError: the index is closed.
            Exception: the error of a shard; that of the first shard if several raised.
        """
        answers: dict[int, Any] = {}
        errors: dict[int, BaseException] = {}
        while missing := [shard for shard in arguments if shard not in answers and shard not in errors]:
            asked = {}
            for shard in missing:
                if copies := self.copies(shard):
                    call = getattr(copies[0].actor, method).remote(versions[shard], *arguments[shard])
                    asked[shard] = copies[0], call
                else:
                    self.check_open()  # closing has ended the copies
                    errors[shard] = ShardLostError(shard, self.options.n_shards, self._lost[shard])
            for shard, (copy, call) in asked.items():
                try:
                    answers[shard] = ray.get(call)
                except ray.exceptions.RayTaskError as error:
                    errors[shard] = error.cause
                except ray.exceptions.RayError as error:
                    self.lose(shard, copy, error)
        if errors:
            raise errors[min(errors)] from None
        return {shard: answers[shard] for shard in arguments}
