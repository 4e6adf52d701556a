"""`Asking`: sends reading calls to copies of shards; asks another copy where one is lost or late.

`Fleet` asks all shards for the owner of an index, and `Group` some of them for a relay.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fasthash._locks import Condition
from fasthash.distributed._ray import ray
from fasthash.distributed.copies import Copy, ShardLostError
from fasthash.distributed.packing import unpacked

__all__ = ["START_SECONDS", "Asking"]

START_SECONDS = 60.0  # time limit for the start of an actor


class Asking:
    """The copies of some shards, numbered from 0.

    Args:
        copies: of each shard.
        hedge_after: seconds without an answer after which a second replica is asked.
    """

    def __init__(self, copies: Sequence[Sequence[Copy]], hedge_after: float) -> None:
        self.hedge_after = hedge_after
        self._copies = [list(of_shard) for of_shard in copies]
        self._lost = ["it has not been started"] * len(copies)  # reason for each shard without copies
        self._turns = [itertools.count() for _ in copies]  # copies take turns
        self._changed = Condition()  # held briefly, never during a call to an actor

    def copies(self, shard: int) -> tuple[Copy, ...]:
        """Return the living copies of a shard."""
        with self._changed:
            return tuple(self._copies[shard])

    def lose(self, shard: int, copy: Copy, error: BaseException) -> None:
        """Remove a failed copy."""
        raise NotImplementedError

    def check_open(self) -> None:
        """Check that the index is not closed, which a relay does not know."""

    def _repairing(self, shard: int, version: int) -> bool:
        """Return whether a copy with this version is being made; the caller holds `_changed`."""
        return False

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
            timeout = None if once else self.hedge_after
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
        deadline = time.monotonic() + (START_SECONDS if wait else 0)
        with self._changed:
            while True:
                able = [copy for copy in self._copies[shard] if copy.since <= version and copy not in asked]
                if able:
                    turn = next(self._turns[shard])
                    return min(
                        (able[(turn + i) % len(able)] for i in range(len(able))), key=lambda copy: copy.late is not None
                    )
                if not wait:
                    return None
                if not self._repairing(shard, version) or not self._changed.wait(deadline - time.monotonic()):
                    self.check_open()  # closing has ended the copies
                    raise ShardLostError(shard, len(self._copies), self._lost[shard])

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

    def check(self, suspects: Iterable[tuple[int, Copy]] | None = None) -> None:
        """Ping copies, each with its shard, to detect losses; None pings all."""
        if suspects is None:
            suspects = [(shard, copy) for shard in range(len(self._copies)) for copy in self.copies(shard)]
        suspects = list(suspects)
        pings = {copy.actor.ping.remote(): (shard, copy) for shard, copy in suspects if copy.late is None}
        for shard in {shard for shard, _ in suspects}:
            self._hear_late(shard)
        ready = ray.wait(list(pings), num_returns=len(pings), timeout=self.hedge_after)[0] if pings else []
        for call, (shard, copy) in pings.items():
            copy.late = call
            if call in ready:
                self._hear_late(shard)
