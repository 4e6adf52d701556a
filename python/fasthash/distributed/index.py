"""`ShardedIndex`: an index with shards on the machines of a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from fasthash._checks import LEVEL_BITS, check_codes_and_layout, check_int, check_layout
from fasthash._index_options import Metric
from fasthash._saved_kinds import MAX_SHARDS
from fasthash._shown import counted
from fasthash.distributed.durable import Durable
from fasthash.distributed.fleet import Options, Source
from fasthash.distributed.manifest import ShardCommit, ShardsManifest
from fasthash.distributed.saving import Saving
from fasthash.distributed.searching import PartialResult, Searching
from fasthash.distributed.states import checked_settings
from fasthash.index import Memory, Plan

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["PartialResult", "ShardedIndex"]


class ShardedIndex(Durable, Searching, Saving):
    """A `HierIndex` divided into shards; actors of a Ray cluster hold `replicas` copies of each shard.

    The hash of a code's id determines its shard. Every search asks all shards at once and merges their results.
    The results equal those of one `HierIndex` over all codes, byte for byte, including ties and `keep=`. From 16 shards
    on, if the cluster has at least 8 processors, searches go through relays: actors without codes, each of which asks a
    group of shards and merges their results.

    **Changes.** A change takes effect completely, in all shards and copies, or not at all if it raises. Each copy makes
    a new version of its codes, and the index switches to the new versions when all are ready. A search reads the state
    of the index at its start. Changes run one at a time and wait while a lost copy is restored. Any number of threads
    may use an index. An index belongs to the process that made it: other processes must call that process, or load the
    saved folder as their own index. When the process ends, the actors end too, and unsaved changes are lost.

    **Losses.** With `replicas=2`, searches stay exact and continue after the loss of an actor or a node: another
    replica is asked when Ray reports the loss, or after `hedge_after` seconds without an answer. The lost copy is
    restored from a replica. Without a replica, it is restored from the last saved or loaded folder, if the shard has
    not changed since. Otherwise the shard is lost: searches raise `ShardLostError`, or report the missing shards with
    `partial=True`. Losses are detected within seconds, also between searches. Copies of a shard are on different nodes
    if several nodes offer processors.

    **On disk.** With `store=` each shard is a store in a folder, which is searched in place. `commit` writes the
    changes of all shards, or none, and `open` opens the last commit after the loss of anything. A lost shard is
    restored from it, too, if it has not changed since.

    Args:
        level_bits: widths of the levels in bits, as in `HierIndex`.
        n_bits: width of the only level, as in `HierIndex`; replaces `level_bits`.
        n_shards: number of shards.
        replicas: number of copies of each shard.
        memory: memory budget of each shard, as in `HierIndex`.
        plan: as in `HierIndex`.
        metric: as in `HierIndex`. Shards send distances as they are returned, in which different ones stay different.
        threads: threads of a search in an actor; None takes the number of processors of its node.
        num_cpus: processors that Ray reserves for each actor; with 0, a node may run any number of actors.
        hedge_after: seconds without an answer after which a second replica is asked.
        store: folder to make, in which each shard is kept as a store; all nodes must see it under the same path.
            `commit` writes the changes, and `open` opens the folder. None keeps shards in memory alone.

    Raises:
        FileExistsError: `store` holds something already.
        BlockingIOError: another process makes an index in `store`.
        MissingExtraError: Ray is not installed.
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of range.
        TimeoutError: Ray cannot start an actor.

    Examples:
        >>> with ShardedIndex(level_bits=(8, 8), n_shards=2) as index:
        ...     index.add(np.array([[0, 0], [255, 255], [1, 0]], dtype=np.uint8), ids=np.array([7, 8, 9]))
        ...     index.search(np.array([[0, 0]], dtype=np.uint8), k=2)
        SearchResult(distances=array([[0, 1]], dtype=int32), ids=array([[7, 9]]))
    """

    def __init__(
        self,
        level_bits: int | Sequence[int] = LEVEL_BITS,
        *,
        n_bits: int | None = None,
        n_shards: int = 2,
        replicas: int = 1,
        memory: Memory = "default",
        plan: Plan = "auto",
        metric: Metric = "hamming",
        threads: int | None = None,
        num_cpus: float = 0,
        hedge_after: float = 1.0,
        store: str | os.PathLike[str] | None = None,
    ) -> None:
        n_shards = check_int("n_shards", n_shards, minimum=1, maximum=MAX_SHARDS)
        settings = checked_settings(check_layout(level_bits, n_bits), memory, plan, metric)
        options = Options.checked(n_shards, replicas, threads, num_cpus, hedge_after)
        if store is None:
            self._start([Source(0, "", {})] * n_shards, 0, settings, options)
        else:
            self._make(store, ShardsManifest(**settings, shards=(ShardCommit(),) * n_shards), options)

    @classmethod
    def from_arrays(
        cls,
        codes: ArrayLike,
        ids: ArrayLike | None = None,
        *,
        level_bits: int | Sequence[int] | None = None,
        n_bits: int | None = None,
        **options: Any,
    ) -> Self:
        """Create an index of these codes.

        Args:
            codes: uint8 array `(n, n_bytes)`.
            ids: as in `add`.
            level_bits: as in the class; None makes a single level.
            n_bits: width of the only level, as in the class; None takes 8 for each byte.
            options: the other arguments of the class.

        Raises:
            TypeError, ValueError: as in the class and in `add`.
        """
        array, widths = check_codes_and_layout(codes, level_bits, n_bits)
        index = cls(widths, **options)
        try:
            index.add(array, ids)
        except BaseException:
            index.close()
            raise
        return index

    @property
    def nbytes(self) -> int:
        """Bytes of memory for codes, ids and tables in all copies."""
        sizes = self._read("read", "nbytes")
        return sum(size * len(self._fleet.copies(shard)) for shard, size in sizes.items())

    @property
    def ntotal(self) -> int:
        """Number of codes, the same as `len(index)`."""
        return len(self)

    def __bool__(self) -> bool:
        return True  # for an empty index too, as for the other indices

    def __repr__(self) -> str:
        metric = "" if self.metric == "hamming" else f", metric={self.metric!r}"
        return (
            f"ShardedIndex(level_bits={self.level_bits}, n_shards={self.n_shards}, replicas={self.replicas}, "
            f"memory={self.memory!r}{metric}"
            + (", closed)" if self._fleet.closed else f") with {counted(sum(self._state.sizes), 'code')}")
        )

    def __reduce__(self) -> Any:
        raise TypeError("a ShardedIndex belongs to the process that made it; save() it and load() it elsewhere")

    def stats(self) -> dict[str, Any]:
        """Return size and shape as a dictionary of plain numbers and names, ready for JSON; `shards` has each shard."""
        shards = list(self._read("read", "stats").values())
        n, nbytes = len(self), self.nbytes
        return {
            "kind": "sharded",
            "n_codes": n,
            "n_bits": self.n_bits,
            "level_bits": list(self.level_bits),
            "metric": self.metric,
            "nbytes": nbytes,
            "bytes_per_code": nbytes / n if n else 0.0,
            "memory": self.memory,
            "n_shards": self.n_shards,
            "replicas": self.replicas,
            "copies": [len(self._fleet.copies(shard)) for shard in range(self.n_shards)],
            "shards": shards,
        }
