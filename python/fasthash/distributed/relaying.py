"""`Relays`: searches of many shards go through relays, each of which asks a group of shards and merges their answers.

With n shards and g relays, the owner sends g calls for a search and each relay n / g, in place of n by the owner. Their
sum is least for g = sqrt(n). Only searches go through relays. Whatever a relay cannot do, the owner does without it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fasthash._index_options import IndexSettings
from fasthash._locks import Condition
from fasthash.distributed._ray import ray
from fasthash.distributed.asking import Asking
from fasthash.distributed.copies import Copy, Options, choose_node, has_references, nodes
from fasthash.distributed.packing import packed, unpacked
from fasthash.distributed.relay import NO_COPIES, Relay, Relayed

__all__ = ["Relays", "number_of_relays"]

_FROM_SHARDS = 16  # a relay adds a hop, as long as two calls of the owner; 4 relays save 8 of 16 calls in turn
_FROM_PROCESSORS = 8  # relays add a third to the work of a search; on few processors they delay it

_THREADS_OF_A_RELAY = 32  # concurrent calls, which mostly wait


def number_of_relays(n_shards: int) -> int:
    """Return how many relays searches of so many shards go through; 0 if they go straight to the shards."""
    if n_shards < _FROM_SHARDS:
        return 0
    processors = sum(node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"])
    return 0 if processors < _FROM_PROCESSORS else round(math.sqrt(n_shards))


@dataclass(eq=False)
class _Branch:
    """A relay and its group of shards."""

    actor: Any
    shards: range

    late: Any
    """A ping without an answer so far: the relay is not used until it answers. None: it is used."""

    copies: tuple[tuple[Copy, ...], ...] = ()
    """The copies that the relay was told last, of each shard."""

    number: int = NO_COPIES

    def answers(self) -> bool:
        """Return whether the relay may be asked: it has started, and has not been late or lost since."""
        late = self.late
        if late is not None and ray.wait([late], timeout=0)[0]:
            self.late = None
            try:
                ray.get(late)
            except ray.exceptions.RayError:  # Ray starts it again
                self.late = self.actor.ping.remote()
        return self.late is None

    def ask(
        self, method: str, versions: Sequence[int], sizes: Sequence[int], arguments: Sequence[tuple[Any, ...]]
    ) -> Any:
        """Send a search of the group to the relay, without waiting."""
        request = method, versions, sizes, arguments
        only_ray = any(map(has_references, arguments))
        return self.actor.search.remote(request if only_ray else packed(request))


class Relays:
    """The relays of an index; Ray restarts lost ones.

    Args:
        options: of the index.
        n_relays: number of relays.
        settings: of the index.
    """

    def __init__(self, options: Options, n_relays: int, settings: IndexSettings) -> None:
        self._hedge_after = options.hedge_after
        self._changed = Condition()  # held briefly while the copies that a relay knows are compared
        self._numbers = itertools.count(NO_COPIES + 1)
        ends = [options.n_shards * i // n_relays for i in range(n_relays + 1)]
        places, taken = nodes(0), list[str]()
        self._branches = []
        for begin, end in itertools.pairwise(ends):
            taken.append(choose_node(places, taken, {}, {}))
            near = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(taken[-1], soft=True)
            actor = (
                ray.remote(Relay)
                .options(num_cpus=0, max_concurrency=_THREADS_OF_A_RELAY, max_restarts=-1, scheduling_strategy=near)
                .remote(sum(settings["level_bits"]), settings["metric"], options.hedge_after)
            )
            self._branches.append(_Branch(actor, range(begin, end), actor.ping.remote()))

    def close(self) -> None:
        """End all relays."""
        for branch in self._branches:
            ray.kill(branch.actor)

    def search(
        self,
        fleet: Asking,
        method: str,
        arguments: Sequence[tuple[Any, ...]],
        versions: Sequence[int],
        sizes: Sequence[int],
        missing: set[int] | None,
    ) -> dict[int, Any]:
        """As `Fleet.search` of the fleet that these relays belong to."""
        answers: dict[int, Any] = {}

        def ask(shards: Iterable[int]) -> None:
            """Ask shards without a relay."""
            each = {shard: arguments[shard] for shard in shards}
            answers.update(fleet.ask(method, each, versions, missing=missing))

        waiting: dict[Any, _Branch] = {}
        alone: list[int] = []
        for branch in self._branches:
            if branch.answers():
                self._tell(branch, fleet)
                group = slice(branch.shards.start, branch.shards.stop)
                waiting[branch.ask(method, versions[group], sizes[group], arguments[group])] = branch
            else:
                alone += branch.shards
        ask(alone)  # while the relays do their work
        left: list[int] = []
        while waiting:
            ready, slow = ray.wait(list(waiting), num_returns=len(waiting), timeout=self._hedge_after)
            for call in ready:
                left += self._heard(waiting.pop(call), call, answers, fleet)
            for call in self._silent({call: waiting[call] for call in slow}):
                left += waiting.pop(call).shards
        ask(left)
        return answers

    def _tell(self, branch: _Branch, fleet: Asking) -> None:
        """Tell a relay which copies its shards have, if it does not know."""
        with self._changed:
            copies = tuple(map(fleet.copies, branch.shards))
            if branch.copies == copies:
                return
            branch.copies, branch.number = copies, next(self._numbers)
            told = [[replace(copy, late=None) for copy in of_shard] for of_shard in copies]
            branch.actor.know.remote(branch.number, told)

    def _heard(self, branch: _Branch, call: Any, answers: dict[int, Any], fleet: Asking) -> Iterable[int]:
        """Take the answer of a relay; return the shards that it leaves to the owner."""
        try:
            answer: Relayed = unpacked(ray.get(call))
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except ray.exceptions.RayError:  # Ray starts it again, without what it was told
            branch.late = branch.actor.ping.remote()
            return branch.shards
        first = branch.shards.start
        if answer.merged is not None:
            answers[first + answer.largest] = answer.merged
        with self._changed:
            known = branch.copies if answer.number == branch.number else ()
            if answer.losses or not known:
                branch.copies, branch.number = (), NO_COPIES  # so that it is told again
        if known:
            fleet.check([(first + shard, known[shard][place]) for shard, place in answer.losses])
        return [first + shard for shard in answer.left]

    def _silent(self, slow: Mapping[Any, _Branch]) -> list[Any]:
        """Return those calls whose relays do not answer a ping either; such relays are not used until they do."""
        pings = {branch.actor.ping.remote(): call for call, branch in slow.items()}
        if not pings:
            return []
        silent = ray.wait(list(pings), num_returns=len(pings), timeout=self._hedge_after)[1]
        for ping in silent:
            slow[pings[ping]].late = ping
        return [pings[ping] for ping in silent]
