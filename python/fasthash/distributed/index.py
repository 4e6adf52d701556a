"""An index whose codes are spread over the machines of a Ray cluster."""

from __future__ import annotations

import itertools
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fasthash._checks import (
    check_bool,
    check_choice,
    check_codes,
    check_codes_of_any_width,
    check_fraction,
    check_ids,
    check_int,
    check_level_bits,
    check_not_negative,
    check_positive,
    is_int64,
)
from fasthash._core import FormatError
from fasthash._index_options import KEEP_MODES, MAX_K, MEMORIES, PLANS, Allow, KeepMode, Memory, Plan
from fasthash._saved_folder import read_card, write_folder
from fasthash.distributed import _ray
from fasthash.distributed._ray import ray
from fasthash.distributed.fleet import Fleet, Options, ShardLostError, Source
from fasthash.distributed.merge import merge_nearest, merge_ranges, merge_stats, rows_of_shards, shard_of
from fasthash.distributed.race import Census
from fasthash.distributed.shard import Allowed
from fasthash.filters import IdFilter, core_filter
from fasthash.results import RangeResult, SearchResult, SearchStats

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["PartialResult", "ShardedIndex"]

_MAX_SHARDS = 1 << 16
_END_OF_IDS = 1 << 63
_INLINE = 1 << 16  # bytes up to which an array goes along with each call
_SAVES_AT_ONCE = 64
_WAIT = 60.0
_Answer = TypeVar("_Answer")


class PartialResult(NamedTuple):
    """What was found in the shards that are left."""

    result: Any
    """What the search returns without `partial=True`, of the codes in these shards."""

    missing_shards: tuple[int, ...]
    """The shards that were not searched; empty where the result is whole."""


@dataclass(eq=False)
class _State:
    """What the index holds at a moment."""

    versions: tuple[int, ...]
    sizes: tuple[int, ...]
    next_id: int
    readers: int = 0
    censuses: dict[int | None, Census] = field(default_factory=dict)


class ShardedIndex:
    """A `HierIndex` in parts: each shard of the codes is held by actors of a Ray cluster, `replicas` of them.

    A code belongs to the shard that the hash of its id names. Every search asks all shards at once and merges what
    they find; results are byte for byte those of one `HierIndex` over all codes, ties and `keep=` included.

    **Changes.** A change happens as a whole or, if it raises, not at all, over all shards and copies: each makes a new
    version of what it holds, and the index reads the new versions once all are there. A search sees what the index
    held when it began. Changes take turns, and wait while a lost copy is restored. Any number of threads may use an
    index. It belongs to the process that made it, which alone knows the versions: other processes search through that
    one, or load the saved folder as an index of their own. When the process ends, so do the actors, and what has not
    been saved is gone.

    **Losses.** With `replicas=2` searches go on, exactly, while an actor or a node is lost: the twin is asked as soon
    as Ray reports the loss, or after `patience` seconds without an answer. The lost copy is made anew from what its
    twin holds. Without a twin it is read from the folder that was last saved or loaded, if the shard has not changed
    since. Otherwise the shard is gone: searches raise `ShardLostError`, or with `partial=True` say which shards they
    lack. A loss is found within seconds even if nobody searches. Copies of a shard are put on different nodes where
    there are several that offer processors.

    Args:
        level_bits: widths of the levels in bits, as of `HierIndex`.
        n_shards: how many parts.
        replicas: copies of each.
        memory: what each shard may spend, as of `HierIndex`.
        plan: as of `HierIndex`.
        threads: threads of a search in an actor; None for as many as its node has processors.
        num_cpus: processors that Ray sets aside for an actor; 0 starts any number of actors on a node.
        patience: seconds after which a copy that has not answered a search has its twin asked too.

    Raises:
        MissingExtraError: Ray is not installed.
        TypeError: an argument of another type.
        ValueError: an argument out of range.
        TimeoutError: Ray has no place for an actor.

    Examples:
        >>> with ShardedIndex(level_bits=(8, 8), n_shards=2) as index:
        ...     index.add(np.array([[0, 0], [255, 255], [1, 0]], dtype=np.uint8), ids=np.array([7, 8, 9]))
        ...     index.search(np.array([[0, 0]], dtype=np.uint8), k=2)
        SearchResult(distances=array([[0, 1]], dtype=int32), ids=array([[7, 9]]))
    """

    def __init__(
        self,
        level_bits: Sequence[int] = (8, 16, 40),
        *,
        n_shards: int = 2,
        replicas: int = 1,
        memory: Memory = "default",
        plan: Plan = "auto",
        threads: int | None = None,
        num_cpus: float = 0,
        patience: float = 1.0,
    ) -> None:
        n_shards = check_int("n_shards", n_shards, minimum=1, maximum=_MAX_SHARDS)
        sources = [Source(0, "", {})] * n_shards
        self._start(sources, 0, level_bits, memory, plan, replicas, threads, num_cpus, patience)

    def _start(
        self,
        sources: list[Source],
        next_id: int,
        level_bits: Sequence[int],
        memory: Memory,
        plan: Plan,
        replicas: int,
        threads: int | None,
        num_cpus: float,
        patience: float,
    ) -> None:
        self._level_bits = check_level_bits(level_bits)
        check_choice("memory", memory, MEMORIES)
        check_choice("plan", plan, PLANS)
        self._memory, self._plan = memory, plan
        options = Options(
            n_shards=len(sources),
            replicas=check_int("replicas", replicas, minimum=1),
            threads=None if threads is None else check_int("threads", threads, minimum=1, maximum=1024),
            num_cpus=check_not_negative("num_cpus", num_cpus),
            patience=check_positive("patience", patience),
        )
        _ray.start()
        self._fleet = Fleet(options, (self._level_bits, memory, plan), sources)
        sizes = self._fleet.start()
        self._state = _State((0,) * len(sources), tuple(sizes), next_id)
        self._old: list[_State] = []  # states whose versions some shard still holds
        self._guard = threading.Lock()  # held for moments, when a search begins and ends
        self._numbers = itertools.count(1)  # of versions; none comes twice
        self._filters: weakref.WeakKeyDictionary[IdFilter, dict[int, Allowed]] = weakref.WeakKeyDictionary()
        self._filter_numbers = itertools.count()

    @classmethod
    def from_arrays(
        cls, codes: ArrayLike, ids: ArrayLike | None = None, *, level_bits: Sequence[int] | None = None, **options: Any
    ) -> Self:
        """An index of these codes.

        Args:
            codes: uint8 array `(n, n_bytes)`.
            ids: as in `add`.
            level_bits: None for a single level, else as in the class.
            options: the other arguments of the class.

        Raises:
            TypeError, ValueError: as in the class and in `add`.
        """
        array = check_codes_of_any_width("codes", codes)
        index = cls((array.shape[1] * 8,) if level_bits is None else level_bits, **options)
        try:
            index.add(array, ids)
        except BaseException:
            index.close()
            raise
        return index

    # ---- what it is ----

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

    @property
    def nbytes(self) -> int:
        """Bytes of memory that codes, ids and tables take in all copies."""
        sizes = self._read("read", "nbytes")
        return sum(size * len(self._fleet.copies(shard)) for shard, size in sizes.items())

    @property
    def ntotal(self) -> int:
        """Number of codes, the same as `len(index)`."""
        return len(self)

    def __len__(self) -> int:
        return sum(self._state.sizes)

    def __bool__(self) -> bool:
        return True  # as of the other indices

    def __repr__(self) -> str:
        return (
            f"ShardedIndex(level_bits={self.level_bits}, n_shards={self.n_shards}, replicas={self.replicas}, "
            f"memory={self.memory!r}) with {len(self)} codes"
        )

    def __reduce__(self) -> Any:
        raise TypeError("a ShardedIndex belongs to the process that made it; save() it and load() it elsewhere")

    def stats(self) -> dict[str, Any]:
        """Size and shape as a dictionary of plain numbers and names, ready for JSON; under `shards` those of each."""
        shards = list(self._read("read", "stats").values())
        n, nbytes = len(self), self.nbytes
        return {
            "kind": "sharded",
            "n_codes": n,
            "n_bits": self.n_bits,
            "level_bits": list(self.level_bits),
            "nbytes": nbytes,
            "bytes_per_code": nbytes / n if n else 0.0,
            "memory": self.memory,
            "n_shards": self.n_shards,
            "replicas": self.replicas,
            "copies": [len(self._fleet.copies(shard)) for shard in range(self.n_shards)],
            "shards": shards,
        }

    # ---- changes ----

    def add(self, codes: ArrayLike, ids: ArrayLike | None = None) -> None:
        """Add codes to the gallery.

        Args:
            codes: uint8 array `(n, n_bits / 8)`, the levels side by side, coarse first.
            ids: int64 array `(n,)` of values that are distinct, new to the index and not -1. None counts on from one
                past the largest id so far: 0 .. n-1 in a fresh index.

        Raises:
            TypeError: wrong dtype; nothing is cast.
            ValueError: wrong shape or unacceptable ids. The index is then what it was before, in all shards.
            ShardLostError: no copy of a shard is left. Nothing changes then.
        """
        array = check_codes("codes", codes, self.n_bits // 8)
        given = None if ids is None else check_ids(ids, len(array))
        with self._fleet.changing:
            first = self._state.next_id
            if given is None:
                if len(array) > _END_OF_IDS - first:
                    raise ValueError(
                        f"ids must be given: counting {len(array)} on from {first} leaves the range of int64"
                    )
                given = np.uint64(first).astype(np.int64) + np.arange(len(array), dtype=np.int64)
            largest = int(given.max(initial=-1))
            self._change("add", given, lambda rows: (array[rows], given[rows]), max(first, largest + 1))

    def remove(self, ids: ArrayLike) -> None:
        """Remove codes.

        Args:
            ids: int64 array `(n,)` of distinct ids that the index holds.

        Raises:
            TypeError: wrong dtype.
            ValueError: an id that the index does not hold or that comes twice. Nothing is removed then.
            ShardLostError: as in `add`.
        """
        array = check_ids(ids)
        with self._fleet.changing:
            self._change("remove", array, lambda rows: (array[rows],), self._state.next_id)

    def update(self, ids: ArrayLike, codes: ArrayLike) -> None:
        """Give ids that the index holds other codes, all at once.

        Args:
            ids: int64 array `(n,)` of distinct ids that the index holds.
            codes: uint8 array `(n, n_bits / 8)`.

        Raises:
            TypeError: wrong dtype.
            ValueError: wrong shape, or an id that the index does not hold or that comes twice. Nothing changes then.
            ShardLostError: as in `add`.
        """
        array = check_codes("codes", codes, self.n_bits // 8)
        given = check_ids(ids, len(array))
        with self._fleet.changing:
            self._change("update", given, lambda rows: (given[rows], array[rows]), self._state.next_id)

    def compact(self) -> None:
        """Bring the codes of each shard together, as `HierIndex.compact`. No result changes."""
        with self._fleet.changing:
            self._apply(dict.fromkeys(range(self.n_shards), ("compact",)), self._state.next_id)

    def _change(
        self,
        method: str,
        ids: NDArray[np.int64],
        arguments: Callable[[NDArray[np.int64]], tuple[NDArray[Any], ...]],
        next_id: int,
    ) -> None:
        """Call a method on the shards of some ids, with what it takes for the rows of these."""
        rows = rows_of_shards(ids, self.n_shards)
        calls = {
            shard: (method, *map(_shared, arguments(of_shard))) for shard, of_shard in enumerate(rows) if len(of_shard)
        }
        if calls:
            self._apply(calls, next_id)

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
        with self._guard:
            self._state = _State(versions, sizes, next_id)
            self._old.append(state)
            idle = [old for old in self._old if old.readers == 0]
            self._old = [old for old in self._old if old.readers]
            in_use = {pair for used in (self._state, *self._old) for pair in enumerate(used.versions)}
            stale = {pair for old in idle for pair in enumerate(old.versions)} - in_use
        self._fleet.forget({shard: [version for at, version in stale if at == shard] for shard, _ in stale})

    # ---- reading ----

    def reconstruct(self, ids: ArrayLike) -> NDArray[np.uint8]:
        """The codes of some ids.

        Args:
            ids: int64 array `(n,)` of ids that the index holds, in any order, also several times.

        Returns:
            uint8 array `(n, n_bits / 8)`.

        Raises:
            TypeError: wrong dtype.
            ValueError: an id that the index does not hold.
            ShardLostError: no copy of a shard that is asked is left.
        """
        array = check_ids(ids)
        rows = rows_of_shards(array, self.n_shards)
        found = self._read("read", "reconstruct", each={s: (array[of],) for s, of in enumerate(rows) if len(of)})
        codes = np.empty((len(array), self.n_bits // 8), np.uint8)
        for shard, of_shard in found.items():
            codes[rows[shard]] = of_shard
        return codes

    def __contains__(self, id: Any) -> bool:
        if not is_int64(check_int("id", id)):
            return False
        shard = int(shard_of(np.array([id], np.int64), self.n_shards)[0])
        return bool(self._read("read", "__contains__", each={shard: (int(id),)})[shard])

    def to_arrays(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """All codes `(n, n_bits / 8)` and their ids `(n,)`, in the order of the ids, brought to this process."""
        parts = self._read("read", "to_arrays").values()
        ids = np.concatenate([part[1] for part in parts])
        order = np.argsort(ids)
        return np.concatenate([part[0] for part in parts])[order], ids[order]

    def search(
        self,
        queries: ArrayLike,
        k: int = 10,
        *,
        keep: float | None = None,
        keep_mode: KeepMode = "node_ratio",
        allow: Allow = None,
        stats: bool = False,
        partial: bool = False,
    ) -> Any:
        """Find the k nearest codes of each query, ordered by (distance, id); exactly, unless `keep` is given.

        Args:
            queries: uint8 array `(nq, n_bits / 8)`.
            k: how many neighbours, from 1 to 2^31 - 1; may exceed the number of codes.
            keep: None searches exactly; a number searches as HDHash does, as in `HierIndex.search`, and finds what one
                index of all codes finds. Which nodes stay in the race is settled here, among the distinct prefixes of
                all levels but the last; the first such search after a change, and every one with an array as
                `allow=`, brings them here from all shards.
            keep_mode: as in `HierIndex.search`.
            allow: only these ids, as in `HierIndex.search`. The ids of an `IdFilter` are sent once.
            stats: also return the work done, in all shards together.
            partial: rather than raise an error when shards are lost, search those that are left.

        Returns:
            `SearchResult`, or with `stats=True` the pair (`SearchResult`, `SearchStats`); with `partial=True` a
            `PartialResult` of that.

        Raises:
            TypeError: wrong dtype of `queries` or `allow`, `k` is not an integer, `keep` is not a number.
            ValueError: wrong shape, `k` or `keep` out of range, unknown `keep_mode`.
            ShardLostError: no copy of a shard is left.
        """
        array = check_codes("queries", queries, self.n_bits // 8)
        k = check_int("k", k, minimum=1, maximum=MAX_K)
        share = None if keep is None else check_fraction("keep", keep)
        check_choice("keep_mode", keep_mode, KEEP_MODES)
        check_bool("stats", stats)

        def find(state: _State, missing: set[int] | None) -> tuple[SearchResult, SearchStats]:
            allowed = self._allowed(allow, state)
            cuts = None
            if share is not None and len(self.level_bits) > 1:
                cuts = self._census(state, allowed, missing).cuts(array, k, share, keep_mode)
            sent, limits = _shared(array), _shared(cuts)
            each = {s: (sent, k, limits, keep_mode, *allowed[s]) for s in range(self.n_shards)}
            parts = self._fleet.ask("search", each, state.versions, missing=missing)
            result = merge_nearest([parts[s][0] for s in sorted(parts)], len(array), k, self.n_bits)
            return result, self._work(parts, state, len(array), share is not None)

        return self._found(find, stats, partial)

    def range_search(
        self, queries: ArrayLike, radius: int, *, allow: Allow = None, stats: bool = False, partial: bool = False
    ) -> Any:
        """Find all codes within a radius of each query, exactly, ordered by (distance, id).

        Args:
            queries: uint8 array `(nq, n_bits / 8)`.
            radius: largest distance in bits that is found, from 0; n_bits and more find all codes.
            allow: only these ids, as in `search`.
            stats: also return the work done, in all shards together.
            partial: as in `search`.

        Returns:
            `RangeResult`, or with `stats=True` the pair (`RangeResult`, `SearchStats`); with `partial=True` a
            `PartialResult` of that.

        Raises:
            TypeError: wrong dtype of `queries` or `allow`, or `radius` is not an integer.
            ValueError: wrong shape, or `radius` is negative.
            ShardLostError: no copy of a shard is left.
        """
        array = check_codes("queries", queries, self.n_bits // 8)
        radius = min(check_int("radius", radius, minimum=0), self.n_bits)
        check_bool("stats", stats)

        def find(state: _State, missing: set[int] | None) -> tuple[RangeResult, SearchStats]:
            allowed, sent = self._allowed(allow, state), _shared(array)
            each = {s: (sent, radius, *allowed[s]) for s in range(self.n_shards)}
            parts = self._fleet.ask("range_search", each, state.versions, missing=missing)
            result = merge_ranges([parts[s][0] for s in sorted(parts)], len(array))
            return result, self._work(parts, state, len(array), False)

        return self._found(find, stats, partial)

    def count_within(self, queries: ArrayLike, radius: int, *, allow: Allow = None, partial: bool = False) -> Any:
        """Count the codes within a radius of each query, without listing them.

        Args:
            queries: uint8 array `(nq, n_bits / 8)`.
            radius: largest distance in bits that counts, from 0; n_bits and more count all codes.
            allow: only these ids, as in `search`.
            partial: as in `search`.

        Returns:
            int64 array `(nq,)`; with `partial=True` a `PartialResult` of that.

        Raises:
            TypeError: wrong dtype of `queries` or `allow`, or `radius` is not an integer.
            ValueError: wrong shape, or `radius` is negative.
            ShardLostError: no copy of a shard is left.
        """
        array = check_codes("queries", queries, self.n_bits // 8)
        radius = min(check_int("radius", radius, minimum=0), self.n_bits)

        def find(state: _State, missing: set[int] | None) -> tuple[NDArray[np.int64], None]:
            allowed, sent = self._allowed(allow, state), _shared(array)
            each = {s: (sent, radius, *allowed[s]) for s in range(self.n_shards)}
            parts = self._fleet.ask("count_within", each, state.versions, missing=missing)
            return np.sum([np.zeros(len(array), np.int64), *parts.values()], axis=0, dtype=np.int64), None

        return self._found(find, False, partial)

    # ---- files ----

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the index into a folder, which is made if missing; a save that fails leaves what was there.

        The folder holds a file for each shard, which `fasthash.load` opens too, and card.json with all the rest. Each
        shard is written by the actor that holds it, so `folder` must be on a file system that all nodes share, under
        the same name; on a single machine every folder is.

        Args:
            folder: for this index alone.

        Raises:
            FileExistsError: `folder` holds another thing that has a card, such as an encoder.
            OSError: the operating system refused a step, or an actor wrote where this process does not see it.
            ShardLostError: no copy of a shard is left.
        """
        path = Path(folder).absolute()

        def write(state: _State) -> None:
            with ThreadPoolExecutor(min(self.n_shards, _SAVES_AT_ONCE)) as pool:

                def write_shard(shard: int, file: Path) -> dict[str, Any]:
                    asked = self._fleet.ask("save", {shard: (file,)}, state.versions, once=True)
                    if not file.exists():
                        raise FileNotFoundError(
                            f"folder={os.fspath(folder)!r} must be on a file system that all nodes share: {file.name} "
                            "was written on another node and is not here"
                        )
                    return dict(asked[shard])

                def writer(shard: int) -> Callable[[Path], object]:
                    return lambda file: pool.submit(write_shard, shard, file).result

                facts = {
                    "level_bits": list(self.level_bits),
                    "memory": self.memory,
                    "plan": self._plan,
                    "n_shards": self.n_shards,
                    "n_codes": sum(state.sizes),
                    "next_id": state.next_id,
                    "shard": "splitmix64(id) mod n_shards",
                }
                writers = {f"shard-{shard:05d}.fh": writer(shard) for shard in range(self.n_shards)}
                write_folder(path, type(self).__name__, facts, writers)
                card = read_card(path, type(self).__name__)
            self._fleet.set_sources([Source(version, os.fspath(path), card) for version in state.versions])

        self._reading(write)

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        *,
        n_shards: int | None = None,
        replicas: int = 1,
        threads: int | None = None,
        num_cpus: float = 0,
        patience: float = 1.0,
    ) -> Self:
        """Load an index from a folder; every byte of its shards is checked first.

        The actors read the files themselves: see `save`.

        Args:
            folder: that `save` wrote.
            n_shards: None for as many as were saved, or another number, for which codes are spread anew.
            replicas: as of the class; so are the others.

        Raises:
            FileNotFoundError: `folder` holds no saved index, or a node does not see it.
            FormatError: a file is damaged, missing, or of another save.
            TypeError: an argument of another type.
            ValueError: an argument out of range.
            TimeoutError: Ray has no place for an actor.
        """
        path = Path(folder).absolute()
        card = read_card(path, cls.__name__)
        try:
            n_saved, next_id, n_codes = (int(card[name]) for name in ("n_shards", "next_id", "n_codes"))
            level_bits, memory, plan = check_level_bits(card["level_bits"]), card["memory"], card["plan"]
            if len(card["files"]) != n_saved or card["shard"] != "splitmix64(id) mod n_shards":
                raise ValueError("it names other files than its shards")
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"{path} holds no {cls.__name__}: {error!r}") from error
        n = n_saved if n_shards is None else check_int("n_shards", n_shards, minimum=1, maximum=_MAX_SHARDS)
        index = cls.__new__(cls)
        sources = [Source(0, os.fspath(path), card)] * n
        index._start(sources, next_id, level_bits, memory, plan, replicas, threads, num_cpus, patience)
        if len(index) != n_codes:
            index.close()
            raise FormatError(f"{path} holds {len(index)} codes, expected {n_codes}")
        return index

    # ---- its life ----

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

    # ---- inside ----

    def _reading(self, read: Callable[[_State], _Answer]) -> _Answer:
        """Read a state, none of whose versions is dropped meanwhile; the next one if this one is lost."""
        while True:
            with self._held() as state:
                try:
                    return read(state)
                except ShardLostError:
                    if self._state is state:
                        raise

    @contextmanager
    def _held(self) -> Iterator[_State]:
        with self._guard:
            state = self._state
            state.readers += 1
        try:
            yield state
        finally:
            with self._guard:
                state.readers -= 1

    def _read(self, method: str, *first: Any, each: Mapping[int, tuple[Any, ...]] | None = None) -> dict[int, Any]:
        """What shards answer, in their order."""
        arguments = dict.fromkeys(range(self.n_shards), ()) if each is None else each
        calls = {shard: (*first, *of_shard) for shard, of_shard in arguments.items()}
        answers = self._reading(lambda state: self._fleet.ask(method, calls, state.versions))
        return {shard: answers[shard] for shard in calls}

    def _found(
        self, find: Callable[[_State, set[int] | None], tuple[Any, SearchStats | None]], stats: bool, partial: bool
    ) -> Any:
        """A result in the form that was asked for."""
        check_bool("partial", partial)
        missing: set[int] | None = set() if partial else None
        result, work = self._reading(lambda state: find(state, missing))
        whole = (result, work) if stats else result
        return whole if missing is None else PartialResult(whole, tuple(sorted(missing)))

    def _work(self, parts: Mapping[int, Any], state: _State, n_queries: int, pruned: bool) -> SearchStats:
        shards = sorted(parts)
        work = merge_stats([parts[s][1] for s in shards], [state.sizes[s] for s in shards], n_queries)
        return work._replace(plan=np.full(n_queries, "pruned")) if pruned else work

    def _census(self, state: _State, allowed: Mapping[int, Allowed], missing: set[int] | None) -> Census:
        """The nodes of all shards; kept for the next search but where the filter is an array."""
        key, ids = allowed[0]
        keeps = ids is None or key is not None
        if keeps and key in state.censuses:
            return state.censuses[key]
        gone: set[int] = set()
        parts = self._fleet.ask("nodes", allowed, state.versions, missing=None if missing is None else gone)
        census = Census(list(parts.values()), self.level_bits)
        if missing is not None:
            missing |= gone
        if keeps and not gone:
            state.censuses[key] = census
        return census

    def _allowed(self, allow: Any, state: _State) -> dict[int, Allowed]:
        """Of each shard, those of the allowed ids that it may hold."""
        if allow is None:
            return dict.fromkeys(range(self.n_shards), (None, None))
        if isinstance(allow, IdFilter):
            if allow not in self._filters:
                self._filters[allow] = self._split(next(self._filter_numbers), allow._impl.ids())
            return self._filters[allow]
        return self._split(None, core_filter("allow", allow, state.next_id).ids())

    def _split(self, number: int | None, ids: NDArray[np.int64]) -> dict[int, Allowed]:
        return {shard: (number, _shared(ids[rows])) for shard, rows in enumerate(rows_of_shards(ids, self.n_shards))}


def _shared(array: Any) -> Any:
    """An array as Ray passes it to several actors: a large one is sent to each node once."""
    return ray.put(array) if isinstance(array, np.ndarray) and array.nbytes > _INLINE else array
