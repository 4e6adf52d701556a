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
from fasthash._locks import ChangeLock, Condition
from fasthash.distributed._ray import ray
from fasthash.distributed.copies import Copy, Options, ShardLostError, Source, choose_node, nodes
from fasthash.distributed.packing import unpacked
from fasthash.distributed.shard import Shard

__all__ = ["Fleet", "Options", "ShardLostError", "Source", "choose_node"]

_START_SECONDS = 60.0  # time limit for the start of an actor
_WATCH_SECONDS = 1.0
_THREADS_OF_AN_ACTOR = 8  # concurrent calls, so that no search waits for a change


class Fleet:
    """The copies of all shards.

    Args:
        options: number of shards and replicas, and options for starting actors.
        index: arguments of `Shard`: level_bits, memory, plan, metric.
        sources: initial content of each shard.
    """

    shard_class: type[Shard] = Shard

    def __init__(self, options: Options, index: IndexSettings, sources: Sequence[Source]) -> None:
        self.options = options
        self._index = index
        self._sources = list(sources)
        self._versions = [source.version for source in sources]  # newest version of each shard
        self._copies: list[list[Copy]] = [[] for _ in sources]
        self._lost = ["it has not been started"] * len(sources)  # reason for each shard without copies
        # Order of the last failure on each node; Ray may report a dead node as alive for some seconds.
        self._failures: dict[str, int] = {}
        self._repairs = [0] * len(sources)  # number of copies being made
        self._turn = itertools.count()
        self._closed = False
        self._changed = Condition()  # held briefly, never during a call to an actor
        self.changing = ChangeLock()  # held during a change, and while a new copy is filled

    def start(self) -> list[int]:
        """Start and fill all copies; return the number of codes of each shard."""
        try:
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
            for copy in itertools.chain.from_iterable(self._copies):
                if ray.is_initialized():
                    ray.kill(copy.actor)
            self._copies = [[] for _ in self._copies]
            self._lost = ["the index is closed"] * len(self._lost)

    def copies(self, shard: int) -> tuple[Copy, ...]:
        """Return the living copies of a shard."""
        with self._changed:
            return tuple(self._copies[shard])

    def wait_until_whole(self, seconds: float) -> bool:
        """Wait until every shard has all its copies; return False after `seconds`."""
        with self._changed:
            return self._changed.wait_for(
                lambda: all(len(copies) >= self.options.replicas for copies in self._copies), seconds
            )

    # ---- reading ----

    # Long: answers of calls and new calls belong in one loop.
    def ask(
        self,
        method: str,
        arguments: Mapping[int, tuple[Any, ...]],
        versions: Sequence[int],
        *,
        once: bool = False,
        missing: set[int] | None = None,
    ) -> dict[int, Any]:
        """Call a method on one copy of each of some shards.

        If a copy is lost during the call, another replica is asked, and the lost copy is replaced. If a copy does not
        answer within `hedge_after`, another replica is asked too. The first answer counts, as all replicas hold the
        same codes.

        Args:
            method: method of `Shard`; it gets the version and the arguments.
            arguments: arguments for each shard to ask.
            versions: version to read, for each shard.
            once: never ask two copies of a shard at the same time.
            missing: set that receives the lost shards; None raises an error for the first lost shard.

        Returns:
            The answer of each shard.

        Raises:
            ShardLostError: no copy of a shard is left.
        """
        answers: dict[int, Any] = {}
        waiting: dict[Any, tuple[int, Copy]] = {}
        asked: dict[int, list[Copy]] = {shard: [] for shard in arguments}
        gone: set[int] = set()

        def ask_one(shard: int, *, wait: bool) -> None:
            try:
                copy = self._choose(shard, versions[shard], asked[shard], wait)
            except ShardLostError:
                if missing is None:
                    raise
                gone.add(shard)
                return
            if copy is not None:
                asked[shard].append(copy)
                waiting[copy.ask(method, versions[shard], arguments[shard])] = shard, copy

        for shard in arguments:
            ask_one(shard, wait=True)
        hurry = False  # True once a shard has been asked twice: then handle each answer as it arrives
        while len(answers) + len(gone) < len(arguments):
            timeout = None if once else self.options.hedge_after
            n_awaited = 1 if hurry else len(waiting)
            ready, slow = ray.wait(list(waiting), num_returns=n_awaited, timeout=timeout)
            for call in ready:
                shard, copy = waiting.pop(call)
                if shard in answers:
                    continue
                try:
                    answers[shard] = unpacked(ray.get(call))
                except ray.exceptions.RayTaskError as error:
                    raise error.cause from None
                except ray.exceptions.RayError as error:
                    self.lose(shard, copy, error)
                    if all(other != shard for other, _ in waiting.values()):
                        ask_one(shard, wait=True)
            if len(ready) < n_awaited:
                for call in slow:
                    shard, copy = waiting[call]
                    if shard not in answers:
                        copy.late = call
                        ask_one(shard, wait=False)
                hurry = True
        if missing is not None:
            missing |= gone
        return answers

    def _choose(self, shard: int, version: int, asked: list[Copy], wait: bool) -> Copy | None:
        """Choose a copy that has not been asked, preferably one without a late call.

        Returns None if `wait` is False and no copy is available. With `wait`, waits for a copy that is being made.
        """
        self._hear_late(shard)
        deadline = time.monotonic() + (_START_SECONDS if wait else 0)
        with self._changed:
            while True:
                able = [copy for copy in self._copies[shard] if copy.since <= version and copy not in asked]
                if able:
                    turn = next(self._turn)
                    return min(
                        (able[(turn + i) % len(able)] for i in range(len(able))), key=lambda copy: copy.late is not None
                    )
                if not wait:
                    return None
                coming = self._repairs[shard] and self._versions[shard] <= version
                if not coming or not self._changed.wait(deadline - time.monotonic()):
                    raise ShardLostError(shard, self.options.n_shards, self._lost[shard])

    def _hear_late(self, shard: int) -> None:
        """Collect late answers: a copy that has answered is usable again, a copy that failed is lost."""
        for copy in self.copies(shard):
            call = copy.late
            if call is not None and ray.wait([call], timeout=0, fetch_local=False)[0]:
                copy.late = None
                try:
                    ray.get(call)
                except ray.exceptions.RayTaskError:
                    pass
                except ray.exceptions.RayError as error:
                    self.lose(shard, copy, error)

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
            self._failures[copy.node] = next(self._turn) + 1
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

    def check(self) -> None:
        """Ping all copies to detect losses between searches."""
        pings = {
            copy.actor.ping.remote(): (shard, copy)
            for shard in range(self.options.n_shards)
            for copy in self.copies(shard)
            if copy.late is None
        }
        for shard in range(self.options.n_shards):
            self._hear_late(shard)
        ready = ray.wait(list(pings), num_returns=len(pings), timeout=self.options.hedge_after)[0] if pings else []
        for call, (shard, copy) in pings.items():
            copy.late = call
            if call in ready:
                self._hear_late(shard)

    def _restorable(self, shard: int) -> bool:
        return bool(self._copies[shard]) or self._sources[shard].version == self._versions[shard]

    def _repair(self, shard: int) -> None:
        """Replace a lost copy from another replica, or from a file with the same version."""
        done = False
        while ray.is_initialized() and not self._closed:
            try:
                done = self._replace(shard)
            except ray.exceptions.RayTaskError as error:
                with self._changed:
                    if not self._copies[shard]:  # no replica is left, so reading the file failed
                        self._lost[shard] += f"; restoring it failed ({type(error.cause).__name__}: {error.cause})"
                        done = True
            except Exception as error:  # Ray cannot start an actor yet, or the other replica was lost
                logging.getLogger(__name__).warning("shard %d is not restored yet: %r", shard, error)
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
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                copy.node, copy.process = ray.get(copy.actor.place.remote(), timeout=deadline - time.monotonic())
                return copy
            except ray.exceptions.RayError as error:
                ray.kill(copy.actor)
                if time.monotonic() + _WATCH_SECONDS > deadline:
                    raise TimeoutError(
                        f"Ray has not started a shard within {_START_SECONDS:.0f} s; is there a node with "
                        f"num_cpus={self.options.num_cpus} to spare, and fasthash installed?"
                    ) from error
            with self._changed:
                self._failures[copy.node] = next(self._turn) + 1
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
