"""An index whose codes are spread over the machines of a Ray cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from fasthash._checks import check_codes_of_any_width, check_int
from fasthash._saved_kinds import MAX_SHARDS
from fasthash._shown import counted
from fasthash.distributed.changing import Changing
from fasthash.distributed.fleet import Source
from fasthash.distributed.saving import Saving
from fasthash.distributed.searching import PartialResult, Searching
from fasthash.index import Memory, Plan

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["PartialResult", "ShardedIndex"]


class ShardedIndex(Searching, Changing, Saving):
    """A `HierIndex` in parts: each shard of the codes is held by actors of a Ray cluster, `replicas` of them.

    A code belongs to the shard that the hash of its id names. Every search asks all shards at once and merges what
    they find; results are byte for byte those of one `HierIndex` over all codes, ties and `keep=` included.

    **Changes.** A change happens as a whole or, if it raises, not at all, over all shards and copies: each makes a new
    version of what it holds, and the index reads the new versions once all are there. A search sees what the index
    held when it began. Changes take turns, and wait while a lost copy is restored. Any number of threads may use an
    index. It belongs to the process that made it, which alone knows the versions: other processes search through that
    one, or load the saved folder as an index of their own. When the process ends, so do the actors, and what has not
    been saved is gone.

    **Losses.** With `replicas=2` searches go on, exactly, while an actor or a node is lost: the replica is asked as
    soon as Ray reports the loss, or after `hedge_after` seconds without an answer. The lost copy is made anew from its
    replica. Without one it is read from the folder that was last saved or loaded, if the shard has not changed
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
        hedge_after: seconds after which a copy that has not answered a search has its replica asked too.

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
        level_bits: int | Sequence[int] = (8, 16, 40),
        *,
        n_shards: int = 2,
        replicas: int = 1,
        memory: Memory = "default",
        plan: Plan = "auto",
        threads: int | None = None,
        num_cpus: float = 0,
        hedge_after: float = 1.0,
    ) -> None:
        n_shards = check_int("n_shards", n_shards, minimum=1, maximum=MAX_SHARDS)
        sources = [Source(0, "", {})] * n_shards
        self._start(sources, 0, level_bits, memory, plan, replicas, threads, num_cpus, hedge_after)

    @classmethod
    def from_arrays(
        cls,
        codes: ArrayLike,
        ids: ArrayLike | None = None,
        *,
        level_bits: int | Sequence[int] | None = None,
        **options: Any,
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
        array = check_codes_of_any_width("codes", codes, known=level_bits is not None)
        index = cls((array.shape[1] * 8,) if level_bits is None else level_bits, **options)
        try:
            index.add(array, ids)
        except BaseException:
            index.close()
            raise
        return index

    @property
    def nbytes(self) -> int:
        """Bytes of memory that codes, ids and tables take in all copies."""
        sizes = self._read("read", "nbytes")
        return sum(size * len(self._fleet.copies(shard)) for shard, size in sizes.items())

    @property
    def ntotal(self) -> int:
        """Number of codes, the same as `len(index)`."""
        return len(self)

    def __bool__(self) -> bool:
        return True  # as of the other indices

    def __repr__(self) -> str:
        return (
            f"ShardedIndex(level_bits={self.level_bits}, n_shards={self.n_shards}, replicas={self.replicas}, "
            f"memory={self.memory!r}) with {counted(len(self), 'code')}"
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
