"""The index that skips most codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, cast, overload

from numpy.typing import ArrayLike

from fasthash import _core
from fasthash._checks import LEVEL_BITS, check_choice, check_codes_of_any_width, check_layout
from fasthash._index_base import Index
from fasthash._index_options import MEMORIES, MEMORY_NAMES, PLAN_NAMES, PLANS, Allow, KeepMode, Memory, Plan
from fasthash._shown import counted
from fasthash.results import SearchResult, SearchStats

if TYPE_CHECKING:
    from typing_extensions import Self

    from fasthash.gpu import GpuHierIndex

__all__ = ["HierIndex"]


class HierIndex(Index):
    """Exact search that skips most codes, whatever they are; and HDHash's pruned search over their levels.

    The codes are sorted and equal ones stored once. An exact search takes the way that a sample of the codes shows to
    be the best within `memory`:

    - `"prefix"`: prefixes are opened in the order of their distance to the query's, which is a lower bound for all
      codes below, until it passes the k-th distance. For clustered codes, as learned ones are. Where the prefix ends is
      free of where the levels end.
    - `"multi-index"`: the same with several parts of the code at once (multi-index hashing, arXiv:1307.2982), for each
      of which there is a table of all codes. For scattered codes.
    - `"scan"`: all codes are compared, as in `FlatIndex`.

    A search whose plan turns out not to pay ends as a scan. All plans give the same result.

    With `keep=` a search is the pruned coarse-to-fine search of HDHash (ICPR 2020) over the levels instead; the first
    such search after a change compacts the index and builds the tree of its levels.

    What is added later is collected beside the sorted codes and merged with them as it grows (docs/updates.md). An
    index holds at most 2^32 - 1 codes.

    Args:
        level_bits: widths of the levels in bits, coarse first; each a positive multiple of 8, together at most 4096.
            One integer is one level: `HierIndex(64)`.
        n_bits: the same as one level, under the name that `FlatIndex` has for it; `level_bits` is then left out.
        memory: what the index may spend, ids included: `"compact"` as little as possible; `"default"` up to twice,
            `"fast"` up to six times the bytes of the codes, where that makes the exact search faster. What has been
            added since the codes were last brought together, at most a 32nd of them, is searched in the same way
            whatever it takes, and so is the map of ids that the first look-up makes.
        plan: `"auto"`, or the plan to take whatever the codes and the memory. Codes of 8 bits have no several parts and
            are scanned instead.

    Raises:
        TypeError: `level_bits` is no integer and no sequence of integers, or `n_bits` no integer.
        ValueError: a width is no positive multiple of 8, or the sum is out of range; `n_bits` stands beside
            `level_bits`; `memory` or `plan` is unknown.

    Examples:
        >>> index = HierIndex(level_bits=(8, 8))
        >>> index.add(np.array([[0, 0], [255, 255], [1, 0]], dtype=np.uint8), ids=np.array([7, 8, 9]))
        >>> index.search(np.array([[0, 0]], dtype=np.uint8), k=2)
        SearchResult(distances=array([[0, 1]], dtype=int32), ids=array([[7, 9]]))
    """

    _impl: _core.HierIndex
    _kind = _core.HierIndex

    def __init__(
        self,
        level_bits: int | Sequence[int] = LEVEL_BITS,
        *,
        n_bits: int | None = None,
        memory: Memory = "default",
        plan: Plan = "auto",
    ) -> None:
        widths = check_layout(level_bits, n_bits)
        check_choice("memory", memory, MEMORIES)
        check_choice("plan", plan, PLANS)
        self._impl = _core.HierIndex(widths, MEMORIES[memory], PLANS[plan])

    @classmethod
    def from_arrays(
        cls,
        codes: ArrayLike,
        ids: ArrayLike | None = None,
        *,
        level_bits: int | Sequence[int] | None = None,
        memory: Memory = "default",
        plan: Plan = "auto",
    ) -> Self:
        """An index of these codes.

        Args:
            codes: uint8 array `(n, n_bytes)`.
            ids: as in `add`.
            level_bits: None for a single level, else as in the class.
            memory: as in the class.
            plan: as in the class.

        Raises:
            TypeError, ValueError: as in the class and in `add`.
        """
        array = check_codes_of_any_width("codes", codes, known=level_bits is not None)
        index = cls((array.shape[1] * 8,) if level_bits is None else level_bits, memory=memory, plan=plan)
        index.add(array, ids)
        return index

    def __repr__(self) -> str:
        return f"HierIndex(level_bits={self.level_bits}, memory={self.memory!r}) with {counted(len(self), 'code')}"

    def to(self, device: Any, *, max_bytes: int | None = None) -> HierIndex | GpuHierIndex:
        """An index with the same codes on a GPU; arguments and errors as of `FlatIndex.to`.

        Of codes in pinned memory a search reads over the bus what is below the prefixes that it opens.

        Returns:
            A `fasthash.gpu.GpuHierIndex`, or this index.
        """
        from fasthash.gpu import GpuHierIndex, check_device

        number = check_device(device)
        return self if number is None else GpuHierIndex(self, number, max_bytes)

    @property
    def memory(self) -> Memory:
        """What the index may spend for speed: `"compact"`, `"default"` or `"fast"`."""
        return cast(Memory, MEMORY_NAMES[self._impl.memory])

    @overload
    def search(
        self,
        queries: ArrayLike,
        k: int = ...,
        *,
        keep: float | None = ...,
        keep_mode: KeepMode = ...,
        allow: Allow = ...,
        stats: Literal[False] = ...,
    ) -> SearchResult: ...
    @overload
    def search(
        self,
        queries: ArrayLike,
        k: int = ...,
        *,
        keep: float | None = ...,
        keep_mode: KeepMode = ...,
        allow: Allow = ...,
        stats: Literal[True],
    ) -> tuple[SearchResult, SearchStats]: ...
    def search(
        self,
        queries: ArrayLike,
        k: int = 10,
        *,
        keep: float | None = None,
        keep_mode: KeepMode = "node_ratio",
        allow: Allow = None,
        stats: bool = False,
    ) -> SearchResult | tuple[SearchResult, SearchStats]:
        """Find the k nearest codes of each query, ordered by (distance, id); exactly, unless `keep` is given.

        A larger k gives the same rows and more, so pages are slices: the second page of ten is
        `search(queries, k=20).ids[:, 10:]`.

        Args:
            queries: uint8 array `(nq, n_bits / 8)`.
            k: how many neighbours, from 1 to 2^31 - 1; may exceed the number of codes.
            keep: None searches exactly. A number above 0 and at most 1 searches as HDHash does, coarse to fine, keeping
                that share after every level but the last; nodes tied at the cut are all kept, and the cut is
                widened until k codes are left. 1 keeps everything and is exact; so is an index of one level.
            keep_mode: share of what. `"node_ratio"`: the candidate nodes of the level, by their distance so far.
                `"gallery_ratio"`: all codes, by taking nodes in the order of their distance so far until the subtrees
                hold that share. `"radius"`: the bits of the level, keeping nodes within that distance on the level
                alone. Used only with `keep`.
            allow: only these: int64 array of ids; or bool mask with `mask[i]` for id i, an entry for every id so far;
                or an `IdFilter`, for a set that is used again. With `keep` the race is among the allowed codes.
            stats: also return the work done.

        Returns:
            `SearchResult`, or with `stats=True` the pair (`SearchResult`, `SearchStats`).

        Raises:
            TypeError: wrong dtype of `queries` or `allow`, `k` is not an integer, `keep` is not a number.
            ValueError: wrong shape, `k` or `keep` out of range, unknown `keep_mode`.
        """
        return self._search(queries, k, keep, keep_mode, allow, stats)

    def stats(self) -> dict[str, Any]:
        """Size and shape of the index as a dictionary of plain numbers and names, ready for JSON.

        Beside what a flat index tells: `memory`; the `plan` of the exact search, with the number of parts and the bits
        of each that it looks codes up by; `nodes_per_level` (distinct codes at the last), `n_distinct_codes`. The nodes
        are counted anew by each call.
        """
        shape = self._impl.shape()
        return super().stats() | {
            "memory": self.memory,
            "plan": PLAN_NAMES[shape.plan],
            "n_parts": shape.n_parts,
            "part_bits": shape.part_bits,
            "nodes_per_level": shape.nodes_per_level,
            "n_distinct_codes": shape.nodes_per_level[-1],
        }
