"""The state of a sharded index: versions of its shards, their readers, and the actors that hold them.

Base class of the mixins of `ShardedIndex` that search, change and save. A state is immutable: a change makes a new
state. Versions of an old state are dropped when the last reader has finished.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from fasthash._checks import check_layout, check_not_negative
from fasthash._hier_index import HierIndex
from fasthash._index_options import IndexSettings, Memory, Metric
from fasthash._locks import ChangeLock
from fasthash.distributed import _ray
from fasthash.distributed.fleet import Fleet, Options, ShardLostError, Source
from fasthash.distributed.pruning import Census

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Sharded", "State", "checked_settings"]

_WAIT = 60.0
_Answer = TypeVar("_Answer")


def checked_settings(level_bits: Any, memory: Any, plan: Any, metric: Any) -> IndexSettings:
    """The settings of shards.

    Raises:
        TypeError, ValueError: as for a `HierIndex`, also if they exclude each other.
    """
    settings: IndexSettings = {
        "level_bits": check_layout(level_bits),
        "memory": memory,
        "plan": plan,
        "metric": metric,
    }
    HierIndex(**settings)
    return settings


@dataclass(eq=False)
class State:
    """The version and the number of codes of each shard, and the next id."""

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
        settings: IndexSettings,
        options: Options,
        fleet_class: type[Fleet] = Fleet,
    ) -> None:
        self._join()
        fleet = fleet_class(options, settings, sources)
        self._begin(settings, fleet, fleet.start(), next_id)

    def _join(self) -> None:
        """Join the cluster of this process; without one, start one on this machine."""
        _ray.start()

    def _begin(self, settings: IndexSettings, fleet: Fleet, sizes: Sequence[int], next_id: int) -> None:
        """Start with the shards of a fleet, which hold these numbers of codes."""
        self._settings = settings
        self._fleet = fleet
        self._state = State((0,) * len(sizes), tuple(sizes), next_id)
        self._old: list[State] = []  # old states with versions that shards still hold
        self._guard = ChangeLock()  # held briefly at the start and the end of a search
        self._numbers = itertools.count(1)  # version numbers, never reused

    @property
    def n_bits(self) -> int:
        """Width of a code in bits."""
        return sum(self.level_bits)

    @property
    def level_bits(self) -> tuple[int, ...]:
        """Widths of the levels in bits, coarse first."""
        return self._settings["level_bits"]

    @property
    def metric(self) -> Metric:
        """Distance between codes: `"hamming"` or `"jaccard"`."""
        return self._settings["metric"]

    @property
    def memory(self) -> Memory:
        """Memory budget of each shard: `"compact"`, `"default"` or `"fast"`."""
        return self._settings["memory"]

    @property
    def n_shards(self) -> int:
        """Number of shards."""
        return self._fleet.options.n_shards

    @property
    def replicas(self) -> int:
        """Number of copies of each shard, when none is lost."""
        return self._fleet.options.replicas

    @property
    def copies(self) -> tuple[tuple[str, ...], ...]:
        """For each shard, Ray's ids of the nodes of its living copies."""
        self._fleet.check_open()
        return tuple(tuple(copy.node for copy in self._fleet.copies(shard)) for shard in range(self.n_shards))

    def __len__(self) -> int:
        self._fleet.check_open()
        return sum(self._state.sizes)

    def wait_until_whole(self, timeout: float = _WAIT) -> bool:
        """Wait until every shard has all its copies again, for example after a loss.

        Args:
            timeout: longest time to wait in seconds.

        Returns:
            True if every shard has all its copies, False after the timeout.

        Raises:
            ValueError: the index is closed.
        """
        return self._fleet.wait_until_whole(check_not_negative("timeout", timeout))

    def close(self) -> None:
        """Stop the actors; unsaved changes are lost.

        Every call that needs the shards raises ValueError from now on.
        """
        self._fleet.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _reading(self, read: Callable[[State], _Answer]) -> _Answer:
        """Read the current state and keep its versions alive; if a shard is lost and the state has changed, retry."""
        while True:
            with self._held() as state:
                try:
                    return read(state)
                except ShardLostError:
                    if self._state is state:
                        raise

    def _saved(self, sources: Sequence[Source]) -> None:
        """Learn which files hold the versions of the shards."""
        self._fleet.set_sources(sources)

    @contextmanager
    def _changing(self, change: str) -> Iterator[None]:
        """Hold the lock of changes.

        Raises:
            ValueError: the index is closed.
        """
        with self._fleet.changing(change):
            self._fleet.check_open()
            yield

    @contextmanager
    def _held(self) -> Iterator[State]:
        self._fleet.check_open()
        with self._guard("a search", nests=True):
            state = self._state
            state.readers += 1
        try:
            yield state
        finally:
            with self._guard("a search", nests=True):
                state.readers -= 1

    def _read(self, method: str, *first: Any, each: Mapping[int, tuple[Any, ...]] | None = None) -> dict[int, Any]:
        """Ask shards, and return their answers in order."""
        arguments = dict.fromkeys(range(self.n_shards), ()) if each is None else each
        calls = {shard: (*first, *of_shard) for shard, of_shard in arguments.items()}
        answers = self._reading(lambda state: self._fleet.ask(method, calls, state.versions))
        return {shard: answers[shard] for shard in calls}

    def _apply(
        self,
        calls: Mapping[int, tuple[Any, ...]],
        next_id: int,
        sources: Callable[[Sequence[int]], Sequence[Source]] | None = None,
    ) -> None:
        """Make a new version of some shards, then a new state of the index.

        Args:
            calls: for each of these shards, a method and its arguments.
            next_id: the next id after the change.
            sources: function of the new versions that returns the files which hold them; None for a change that no
                file holds.
        """
        state, new = self._state, next(self._numbers)
        try:
            changed = self._fleet.change(calls, state.versions, new)
        except BaseException:
            self._fleet.forget(dict.fromkeys(calls, (new,)))
            raise
        versions = tuple(new if shard in calls else version for shard, version in enumerate(state.versions))
        sizes = tuple(changed.get(shard, size) for shard, size in enumerate(state.sizes))
        self._fleet.publish(versions, None if sources is None else sources(versions))
        with self._guard("a search", nests=True):
            self._state = State(versions, sizes, next_id)
            self._old.append(state)
            idle = [old for old in self._old if old.readers == 0]
            self._old = [old for old in self._old if old.readers]
            in_use = {pair for used in (self._state, *self._old) for pair in enumerate(used.versions)}
            stale = {pair for old in idle for pair in enumerate(old.versions)} - in_use
        self._fleet.forget({shard: [version for at, version in stale if at == shard] for shard, _ in stale})
