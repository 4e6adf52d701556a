"""`Fleet`: the actors of all shards and their replicas; it sends calls to them and replaces lost ones."""

from __future__ import annotations

import itertools
import logging
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fasthash._index_options import IndexSettings
from fasthash._locks import ChangeLock
from fasthash.distributed._ray import ray
from fasthash.distributed.asking import START_SECONDS, Asking
from fasthash.distributed.copies import Copy, Options, ShardLostError, Source, choose_node, nodes
from fasthash.distributed.relaying import Relays, number_of_relays
from fasthash.distributed.shard import Shard

__all__ = ["Fleet", "Options", "ShardLostError", "Source", "choose_node"]

_WATCH_SECONDS = 1.0
_THREADS_OF_AN_ACTOR = 8  # concurrent calls, so that no search waits for a change


class Fleet(Asking):
    """The copies of all shards.

    Args:
        options: number of shards and replicas, and options for starting actors.
        index: arguments of `Shard`: level_bits, memory, plan, metric.
        sources: initial content of each shard.
    """

    shard_class: type[Shard] = Shard

    def __init__(self, options: Options, index: IndexSettings, sources: Sequence[Source]) -> None:
        super().__init__([()] * len(sources), options.hedge_after)
        self.options = options
        self._index = index
        self._sources = list(sources)
        self._versions = [source.version for source in sources]  # newest version of each shard
        # Order of the last failure on each node; Ray may report a dead node as alive for some seconds.
        self._failures: dict[str, int] = {}
        self._failed = itertools.count(1)
        self._repairs = [0] * len(sources)  # number of copies being made
        self._relays: Relays | None = None  # None: searches go straight to the shards
        self._closed = False
        self.changing = ChangeLock()  # held during a change, and while a new copy is filled

    @property
    def closed(self) -> bool:
        """Whether the actors have been ended."""
        return self._closed

    def check_open(self) -> None:
        """Check that the actors have not been ended.

        Raises:
            ValueError: the index is closed.
        """
        if self._closed:
            raise ValueError("the index is closed")

    def start(self) -> list[int]:
        """Start and fill all copies; return the number of codes of each shard."""
        try:
            if n_relays := number_of_relays(self.options.n_shards):
                self._relays = Relays(self.options, n_relays, self._index)
            for _ in range(self.options.replicas):
                for shard in range(self.options.n_shards):
                    self._copies[shard].append(self._launch(shard))
            for shard, copies in enumerate(self._copies):
                for i in range(len(copies)):
                    copies[i] = self._started(shard, copies[i])
            calls = [[self._load(shard, copy) for copy in copies] for shard, copies in enumerate(self._copies)]
            sizes = [int(ray.get(of_shard)[0]) for of_shard in calls]
        except ray.exceptions.RayTaskError as error:
            self.close()
            raise error.cause from None
        except BaseException:
            self.close()
            raise
        threading.Thread(target=_watch, args=(weakref.ref(self),), daemon=True).start()
        return sizes

    def close(self) -> None:
        """End all actors."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            if ray.is_initialized():
                for copy in itertools.chain.from_iterable(self._copies):
                    ray.kill(copy.actor)
                if self._relays is not None:
                    self._relays.close()
            self._relays = None
            self._copies = [[] for _ in self._copies]

    def wait_until_whole(self, seconds: float) -> bool:
        """Wait until every shard has all its copies; return False after `seconds`.

        Raises:
            ValueError: the index is closed.
        """

        def whole() -> bool:
            self.check_open()
            return all(len(copies) >= self.options.replicas for copies in self._copies)

        with self._changed:
            return self._changed.wait_for(whole, seconds)

    # ---- reading ----

    def search(
        self,
        method: str,
        arguments: Sequence[tuple[Any, ...]],
        versions: Sequence[int],
        sizes: Sequence[int],
        *,
        missing: set[int] | None = None,
    ) -> dict[int, Any]:
        """Call a method that searches on one copy of each shard; many shards are asked through relays.

        Args:
            method: `search`, `range_search` or `count_within`.
            arguments: arguments for each shard.
            versions, missing: as in `ask`.
            sizes: number of codes of each shard.

        Returns:
            The answers by shard. An answer that a relay has merged has the number of its largest shard, the first of
            equal ones.

        Raises:
            ShardLostError: as in `ask`.
        """
        relays = self._relays
        if relays is None:
            return self.ask(method, dict(enumerate(arguments)), versions, missing=missing)
        return relays.search(self, method, arguments, versions, sizes, missing)

    # ---- changing ----

    def change(self, calls: Mapping[int, tuple[Any, ...]], versions: Sequence[int], new: int) -> dict[int, int]:
        """Make a new version in every copy of some shards; the caller holds `changing`.

        Args:
            calls: for each shard, a method of the index and its arguments.
            versions: for each shard, the version to start from.
            new: number of the new version, larger than all earlier ones.

        Returns:
            The number of codes in the new version of each shard. `publish` or `forget` must follow.

        Raises:
            ShardLostError: no copy of a shard is left.
            Exception: the error that the index of a shard raised; that of the first shard if several raised.
        """
        pending = {
            copy.actor.change.remote(versions[shard], new, *call): (shard, copy)
            for shard, call in calls.items()
            for copy in self.copies(shard)
        }
        sizes: dict[int, int] = {}
        refusals: dict[int, BaseException] = {}
        for answer, (shard, copy) in pending.items():
            try:
                sizes[shard] = ray.get(answer)
            except ray.exceptions.RayTaskError as error:
                refusals[shard] = error.cause
            except ray.exceptions.RayError as error:
                self.lose(shard, copy, error)
        if refusals:
            raise refusals[min(refusals)] from None
        for shard in calls:
            if shard not in sizes or not self.copies(shard):
                self.check_open()  # closing has ended the copies
                raise ShardLostError(shard, self.options.n_shards, self._lost[shard])
        return sizes

    def publish(self, versions: Sequence[int], sources: Sequence[Source] | None = None) -> None:
        """Set the newest version of each shard, and the files that hold them, if they are others now."""
        with self._changed:
            self._versions = list(versions)
            if sources is not None:
                self._sources = list(sources)

    def forget(self, versions: Mapping[int, Sequence[int]]) -> None:
        """Tell copies to drop versions of some shards, without waiting."""
        for shard, numbers in versions.items():
            for copy in self.copies(shard):
                copy.actor.forget.remote(numbers)

    def set_sources(self, sources: Sequence[Source]) -> None:
        """Set the files that can restore a shard if all its copies are lost."""
        with self._changed:
            self._sources = list(sources)

    # ---- losing and replacing ----

    def lose(self, shard: int, copy: Copy, error: BaseException) -> None:
        """Remove a failed copy, and start a new one."""
        with self._changed:
            if copy not in self._copies[shard]:
                return
            self._copies[shard].remove(copy)
            self._failures[copy.node] = next(self._failed)
            first_line = str(error).strip().partition("\n")[0]
            self._lost[shard] = (
                f"its last copy, on node {copy.node[:12]}, failed ({type(error).__name__}: {first_line})"
            )
            ray.kill(copy.actor)
            if self._closed or not self._restorable(shard):
                if not self._closed:
                    self._lost[shard] += ", and what it held has not been saved since it changed"
                self._changed.notify_all()
                return
            self._repairs[shard] += 1
        threading.Thread(target=self._repair, args=(shard,), daemon=True).start()

    def _repairing(self, shard: int, version: int) -> bool:
        return self._repairs[shard] > 0 and self._versions[shard] <= version

    def _restorable(self, shard: int) -> bool:
        return bool(self._copies[shard]) or self._sources[shard].version == self._versions[shard]

    def _repair(self, shard: int) -> None:
        """Replace a lost copy from another replica, or from a file with the same version."""
        done = told = False
        while ray.is_initialized() and not self._closed:
            try:
                done = self._replace(shard)
            # Ray cannot start an actor yet, the other replica was lost, or the new copy cannot read its files.
            except Exception as error:
                cause = error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
                with self._changed:
                    if cause is not error and not self._copies[shard]:  # no replica is left, so reading the file failed
                        self._lost[shard] += f"; restoring it failed ({type(cause).__name__}: {cause})"
                        done = True
                if not (done or told):  # each attempt may fail alike, for as long as a cluster is down
                    logging.getLogger(__name__).warning("shard %d is not restored yet: %r", shard, cause)
                    told = True
            if done:
                break
            time.sleep(_WATCH_SECONDS)
        with self._changed:
            self._repairs[shard] -= 1
            self._changed.notify_all()

    def _replace(self, shard: int) -> bool:
        """Start a new copy and fill it; return whether the repair is finished."""
        copy = self._started(shard, self._launch(shard))
        try:
            with self.changing("the repair of a shard"):
                others = self.copies(shard)
                copy.since = self._versions[shard]
                if others:
                    content, source = others[0].actor.content.remote(copy.since), self._sources[shard]
                    ray.get(copy.actor.put.remote(copy.since, content, source.folder, source.card, shard))
                elif self._restorable(shard):
                    ray.get(self._load(shard, copy))
                else:
                    ray.kill(copy.actor)
                    return True
                with self._changed:
                    if self._closed:
                        ray.kill(copy.actor)
                    else:
                        self._copies[shard].append(copy)
                        self._failures.pop(copy.node, None)
                    self._changed.notify_all()
                    return True
        except BaseException:
            ray.kill(copy.actor)
            raise

    def _launch(self, shard: int) -> Copy:
        """Start an actor on a node chosen by `choose_node`."""
        with self._changed:
            others = [copy.node for copy in self._copies[shard]]
            load = Counter(copy.node for copies in self._copies for copy in copies)
        node = choose_node(nodes(self.options.num_cpus), others, self._failures, load)
        affinity = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False)
        actor = ray.remote(self.shard_class).options(
            num_cpus=self.options.num_cpus, max_concurrency=_THREADS_OF_AN_ACTOR, scheduling_strategy=affinity
        )
        return Copy(actor.remote(**self._index, threads=self.options.threads), node, 0, self._versions[shard])

    def _started(self, shard: int, copy: Copy) -> Copy:
        """Wait until the actor runs; start another if its node fails."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                left = max(0.0, deadline - time.monotonic())  # Ray ends this process if it is negative
                copy.node, copy.process = ray.get(copy.actor.place.remote(), timeout=left)
                return copy
            except ray.exceptions.RayError as error:
                ray.kill(copy.actor)
                if time.monotonic() + _WATCH_SECONDS > deadline:
                    raise TimeoutError(
                        f"Ray has not started a shard within {START_SECONDS:.0f} s; is there a node with "
                        f"num_cpus={self.options.num_cpus} to spare, and fasthash installed?"
                    ) from error
            with self._changed:
                self._failures[copy.node] = next(self._failed)
            time.sleep(_WATCH_SECONDS)  # time for Ray to notice the failure
            copy = self._launch(shard)

    def _load(self, shard: int, copy: Copy) -> Any:
        source = self._sources[shard]
        return copy.actor.load.remote(source.version, source.folder, source.card, shard, self.options.n_shards)


def _watch(reference: Callable[[], Fleet | None]) -> None:
    # After a shutdown, any call would start Ray again: check first.
    while (fleet := reference()) is not None and not fleet._closed and ray.is_initialized():
        fleet.check()
        del fleet
        time.sleep(_WATCH_SECONDS)
