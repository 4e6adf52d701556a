"""What a sharded index holds at each moment: versions of its shards, who reads them, and the actors that hold them.

The base of `ShardedIndex`, whose other bases search, change and save. A state never changes; a change makes another,
and the versions of an old one are dropped once nobody reads them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from fasthash._checks import check_choice, check_int, check_layout, check_not_negative, check_positive
from fasthash._index_options import MEMORIES, PLANS, Memory, Plan
from fasthash._locks import ChangeLock
from fasthash.distributed import _ray
from fasthash.distributed.fleet import Fleet, Options, ShardLostError, Source
from fasthash.distributed.race import Census

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Sharded", "State"]

_WAIT = 60.0
_Answer = TypeVar("_Answer")


@dataclass(eq=False)
class State:
    """What the index holds at a moment."""

    versions: tuple[int, ...]
    sizes: tuple[int, ...]
    next_id: int
    readers: int = 0
    censuses: dict[int | None, Census] = field(default_factory=dict)


class Sharded:
    """The shards of an index, in versions."""

    def _start(
        self,
        sources: list[Source],
        next_id: int,
        level_bits: int | Sequence[int],
        memory: Memory,
        plan: Plan,
        replicas: int,
        threads: int | None,
        num_cpus: float,
        hedge_after: float,
    ) -> None:
        widths = check_layout(level_bits)
        check_choice("memory", memory, MEMORIES)
        check_choice("plan", plan, PLANS)
        self._memory, self._plan = memory, plan
        options = Options(
            n_shards=len(sources),
            replicas=check_int("replicas", replicas, minimum=1),
            threads=None if threads is None else check_int("threads", threads, minimum=1, maximum=1024),
            num_cpus=check_not_negative("num_cpus", num_cpus),
            hedge_after=check_positive("hedge_after", hedge_after),
        )
        _ray.start()
        fleet = Fleet(options, (widths, memory, plan), sources)
        self._begin(widths, fleet, fleet.start(), next_id)

    def _begin(self, level_bits: tuple[int, ...], fleet: Fleet, sizes: Sequence[int], next_id: int) -> None:
        """Hold what the shards of a fleet hold, of these sizes."""
        self._level_bits = level_bits
        self._fleet = fleet
        self._state = State((0,) * len(sizes), tuple(sizes), next_id)
        self._old: list[State] = []  # states whose versions some shard still holds
        self._guard = ChangeLock()  # held for moments, when a search begins and ends
        self._numbers = itertools.count(1)  # of versions; none comes twice

    @property
    def n_bits(self) -> int:
        """Width of a code in bits."""
        return sum(self._level_bits)

    @property
    def level_bits(self) -> tuple[int, ...]:
        """Widths of the levels in bits, coarse first."""
        return self._level_bits

    @property
    def memory(self) -> Memory:
        """What each shard may spend for speed: `"compact"`, `"default"` or `"fast"`."""
        return self._memory

    @property
    def n_shards(self) -> int:
        """How many parts there are."""
        return self._fleet.options.n_shards

    @property
    def replicas(self) -> int:
        """How many copies each shard is to have."""
        return self._fleet.options.replicas

    @property
    def copies(self) -> tuple[tuple[str, ...], ...]:
        """Of each shard, the nodes of its living copies by the names that Ray has for them."""
        return tuple(tuple(copy.node for copy in self._fleet.copies(shard)) for shard in range(self.n_shards))

    def __len__(self) -> int:
        return sum(self._state.sizes)

    def wait_until_whole(self, timeout: float = _WAIT) -> bool:
        """Wait until every shard has all its copies, as after a loss.

        Args:
            timeout: most seconds to wait.

        Returns:
            Whether it has.
        """
        return self._fleet.wait_until_whole(check_not_negative("timeout", timeout))

    def close(self) -> None:
        """End the actors; what has not been saved is gone."""
        self._fleet.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _reading(self, read: Callable[[State], _Answer]) -> _Answer:
        """Read a state, none of whose versions is dropped meanwhile; the next one if this one is lost."""
        while True:
            with self._held() as state:
                try:
                    return read(state)
                except ShardLostError:
                    if self._state is state:
                        raise

    @contextmanager
    def _held(self) -> Iterator[State]:
        with self._guard("a search", nests=True):
            state = self._state
            state.readers += 1
        try:
            yield state
        finally:
            with self._guard("a search", nests=True):
                state.readers -= 1

    def _read(self, method: str, *first: Any, each: Mapping[int, tuple[Any, ...]] | None = None) -> dict[int, Any]:
        """What shards answer, in their order."""
        arguments = dict.fromkeys(range(self.n_shards), ()) if each is None else each
        calls = {shard: (*first, *of_shard) for shard, of_shard in arguments.items()}
        answers = self._reading(lambda state: self._fleet.ask(method, calls, state.versions))
        return {shard: answers[shard] for shard in calls}

    def _apply(self, calls: Mapping[int, tuple[Any, ...]], next_id: int) -> None:
        """Make a new version of some shards, and then the new state of all."""
        state, new = self._state, next(self._numbers)
        try:
            made = self._fleet.change(calls, state.versions, new)
        except BaseException:
            self._fleet.forget(dict.fromkeys(calls, (new,)))
            raise
        versions = tuple(new if shard in calls else version for shard, version in enumerate(state.versions))
        sizes = tuple(made.get(shard, size) for shard, size in enumerate(state.sizes))
        self._fleet.publish(versions)
        with self._guard("a search", nests=True):
            self._state = State(versions, sizes, next_id)
            self._old.append(state)
            idle = [old for old in self._old if old.readers == 0]
            self._old = [old for old in self._old if old.readers]
            in_use = {pair for used in (self._state, *self._old) for pair in enumerate(used.versions)}
            stale = {pair for old in idle for pair in enumerate(old.versions)} - in_use
        self._fleet.forget({shard: [version for at, version in stale if at == shard] for shard, _ in stale})
