"""The indices: packed codes in, exact nearest neighbours out.

No algorithm is here: arguments are checked, the compiled core does the work. Any number of threads may use one index,
without the GIL. A search sees what the index held when it began and waits for nobody; changes take turns, and each
happens as a whole or, if it raises, not at all.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fasthash import _core
from fasthash._checks import (
    check_bool,
    check_choice,
    check_codes,
    check_codes_of_any_width,
    check_fraction,
    check_ids,
    check_int,
    check_level_bits,
    check_width,
    is_int64,
)
from fasthash.filters import IdFilter, core_filter
from fasthash.results import FileInfo, FileReport, FileSection, RangeResult, SearchResult, SearchStats

if TYPE_CHECKING:
    from typing_extensions import Self

    from fasthash.gpu import GpuFlatIndex, GpuHierIndex

__all__ = ["FlatIndex", "HierIndex", "KeepMode", "load", "peek", "verify"]

KeepMode: TypeAlias = Literal["node_ratio", "gallery_ratio", "radius"]
Memory: TypeAlias = Literal["compact", "default", "fast"]
Plan: TypeAlias = Literal["auto", "scan", "prefix", "multi-index"]
Allow: TypeAlias = "ArrayLike | IdFilter | None"
StrPath: TypeAlias = "str | bytes | os.PathLike[str] | os.PathLike[bytes]"

_KEEP_MODES: dict[str, _core.KeepMode] = {
    "node_ratio": _core.KeepMode.node_ratio,
    "gallery_ratio": _core.KeepMode.gallery_ratio,
    "radius": _core.KeepMode.radius,
}
_MEMORIES: dict[str, _core.Memory] = {
    "compact": _core.Memory.compact,
    "default": _core.Memory.standard,
    "fast": _core.Memory.fast,
}
_PLANS: dict[str, _core.Plan | None] = {
    "auto": None,
    "scan": _core.Plan.scan,
    "prefix": _core.Plan.prefix,
    "multi-index": _core.Plan.multi_index,
}
_PLAN_NAMES = {plan: name for name, plan in _PLANS.items() if plan is not None}
_MEMORY_NAMES = {memory: name for name, memory in _MEMORIES.items()}
_MAX_K = 2**31 - 1


class _Index:
    """What both indices share."""

    _impl: _core.Index

    @classmethod
    def _of(cls, core: _core.Index) -> Self:
        """An index around a core that is there already."""
        index = cls.__new__(cls)
        index._impl = core
        return index

    @property
    def n_bits(self) -> int:
        """Width of a code in bits."""
        return self._impl.n_bits

    @property
    def level_bits(self) -> tuple[int, ...]:
        """Widths of the levels in bits, coarse first; a flat index has one."""
        return tuple(self._impl.level_bits)

    @property
    def nbytes(self) -> int:
        """Bytes of memory that codes, ids and tables take, those of a mapped file not included."""
        return self._impl.nbytes()

    @property
    def ntotal(self) -> int:
        """Number of codes, the same as `len(index)`."""
        return len(self._impl)

    def __len__(self) -> int:
        return len(self._impl)

    def __bool__(self) -> bool:
        # An index is a thing, not a list: `if index:` must not depend on what has been added.
        return True

    def add(
        self, codes: ArrayLike, ids: ArrayLike | None = None, *, progress: Callable[[float], object] | None = None
    ) -> None:
        """Add codes to the gallery.

        Args:
            codes: uint8 array `(n, n_bits / 8)`, the levels side by side, coarse first. Copied. It may be mapped from a
                file: it is read from its beginning to its end, several times if it is large.
            ids: int64 array `(n,)` of values that are distinct, new to the index and not -1. None counts on from one
                past the largest id so far: 0 .. n-1 in a fresh index.
            progress: called now and then with the share of the work that is done, up to 1.0 at the end. What it raises
                ends the work, and the index is what it was before. It may search, and change other indices; a change
                of this index inside it is a RuntimeError, as it is inside a signal handler that interrupts a change.
                Do not wait in it for another thread that changes this index: that thread waits for this call.

        Raises:
            TypeError: wrong dtype; nothing is cast.
            ValueError: wrong shape or unacceptable ids. The index is then what it was before.
            RuntimeError: called inside a change of the same index, or where threads would wait for each other.
        """
        array = check_codes("codes", codes, self.n_bits // 8)
        if progress is not None and not callable(progress):
            raise TypeError(f"progress must be callable, got {type(progress).__name__}")
        self._impl.add(array, None if ids is None else check_ids(ids, len(array)), progress)
        if progress is not None:
            progress(1.0)

    def add_chunks(
        self,
        chunks: Iterable[ArrayLike],
        *,
        folder: str | os.PathLike[str] | None = None,
        progress: Callable[[float], object] | None = None,
    ) -> None:
        """Add codes that come in pieces, more than fit into memory beside the index; ids count on.

        An index that gets its codes one `add` after the other merges them now and then, for which it needs twice its
        memory. Here the pieces go into a temporary file first, and from there into the index at once.

        Args:
            chunks: uint8 arrays `(n, n_bits / 8)`, any number of any lengths.
            folder: where the temporary file may be, as large as the codes. None: where the system has such files.
            progress: as in `add`, called once all pieces are in the file.

        Raises:
            OSError: the temporary file cannot be written.
            TypeError: wrong dtype; nothing is cast.
            ValueError: wrong shape. The index is then what it was before, as it is if `chunks` raises something.
        """
        n_bytes = self.n_bits // 8
        if not isinstance(chunks, Iterable):
            raise TypeError(f"chunks must be an iterable of arrays, got {type(chunks).__name__}")
        with tempfile.TemporaryFile(dir=folder) as file:
            for i, chunk in enumerate(chunks):
                check_codes(f"chunks[{i}]", chunk, n_bytes).tofile(file)
            file.flush()
            codes = np.empty(0, np.uint8) if file.tell() == 0 else np.memmap(file, np.uint8, "r")
            self.add(codes.reshape(-1, n_bytes), progress=progress)

    def remove(self, ids: ArrayLike) -> None:
        """Remove codes.

        The codes are marked as removed, and dropped when more than an eighth of a segment is.

        Args:
            ids: int64 array `(n,)` of distinct ids that the index holds.

        Raises:
            TypeError: wrong dtype.
            ValueError: an id that the index does not hold or that comes twice. Nothing is removed then.
        """
        self._impl.remove(check_ids(ids))

    def update(self, ids: ArrayLike, codes: ArrayLike) -> None:
        """Give ids that the index holds other codes, all at once.

        Args:
            ids: int64 array `(n,)` of distinct ids that the index holds.
            codes: uint8 array `(n, n_bits / 8)`.

        Raises:
            TypeError: wrong dtype.
            ValueError: wrong shape, or an id that the index does not hold or that comes twice. Nothing changes then.
        """
        array = check_codes("codes", codes, self.n_bits // 8)
        self._impl.update(check_ids(ids, len(array)), array)

    def merge(self, other: _Index) -> None:
        """Add all codes of another index under their ids; the other index stays as it is.

        Args:
            other: a flat or hierarchical index with the same levels.

        Raises:
            TypeError: `other` is no index.
            ValueError: other levels, or an id that both hold. Nothing is added then.
        """
        if not isinstance(other, _Index):
            raise TypeError(f"other must be a FlatIndex or HierIndex, got {type(other).__name__}")
        self._impl.merge(other._impl)

    def compact(self) -> None:
        """Bring all codes together and drop the removed ones, as if the index were built anew.

        It happens by itself as codes come and go; afterwards searches are as fast as they can be. No result changes.
        """
        self._impl.compact()

    def reconstruct(self, ids: ArrayLike) -> NDArray[np.uint8]:
        """The codes of some ids.

        Args:
            ids: int64 array `(n,)` of ids that the index holds, in any order, also several times.

        Returns:
            uint8 array `(n, n_bits / 8)`.

        Raises:
            TypeError: wrong dtype.
            ValueError: an id that the index does not hold.
        """
        return self._impl.reconstruct(check_ids(ids))

    def __contains__(self, id: Any) -> bool:
        return is_int64(check_int("id", id)) and id in self._impl

    def to_arrays(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """All codes `(n, n_bits / 8)` and their ids `(n,)`, in the order of the ids."""
        return self._impl.to_arrays()

    @overload
    def range_search(
        self, queries: ArrayLike, radius: int, *, allow: Allow = ..., stats: Literal[False] = ...
    ) -> RangeResult: ...
    @overload
    def range_search(
        self, queries: ArrayLike, radius: int, *, allow: Allow = ..., stats: Literal[True]
    ) -> tuple[RangeResult, SearchStats]: ...
    def range_search(
        self, queries: ArrayLike, radius: int, *, allow: Allow = None, stats: bool = False
    ) -> RangeResult | tuple[RangeResult, SearchStats]:
        """Find all codes within a radius of each query, exactly, ordered by (distance, id).

        Args:
            queries: uint8 array `(nq, n_bits / 8)`.
            radius: largest distance in bits that is found, from 0; n_bits and more find all codes.
            allow: only these ids, as in `search`.
            stats: also return the work done.

        Returns:
            `RangeResult`, or with `stats=True` the pair (`RangeResult`, `SearchStats`).

        Raises:
            TypeError: wrong dtype of `queries` or `allow`, or `radius` is not an integer.
            ValueError: wrong shape, or `radius` is negative.
        """
        array = check_codes("queries", queries, self.n_bits // 8)
        check_bool("stats", stats)
        offsets, distances, ids, work = self._impl.range_search(array, self._radius(radius), self._filter(allow))
        result = RangeResult(offsets, distances, ids)
        return (result, _search_stats(work)) if stats else result

    def count_within(self, queries: ArrayLike, radius: int, *, allow: Allow = None) -> NDArray[np.int64]:
        """Count the codes within a radius of each query, without listing them.

        Args:
            queries: uint8 array `(nq, n_bits / 8)`.
            radius: largest distance in bits that counts, from 0; n_bits and more count all codes.
            allow: only these ids, as in `search`.

        Returns:
            int64 array `(nq,)`.

        Raises:
            TypeError: wrong dtype of `queries` or `allow`, or `radius` is not an integer.
            ValueError: wrong shape, or `radius` is negative.
        """
        array = check_codes("queries", queries, self.n_bits // 8)
        return self._impl.count_within(array, self._radius(radius), self._filter(allow))

    def copy(self) -> Self:
        """An index of its own with the same codes. It takes no time: what neither index has changed is there once."""
        return self._of(self._impl.copy())

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self.copy()

    def to_bytes(self) -> bytes:
        """What `save` would write into a file."""
        return self._impl.to_bytes()

    @classmethod
    def from_bytes(cls, data: bytes | bytearray | memoryview) -> Self:
        """An index from the bytes of a file, all of which are checked first.

        Args:
            data: what `to_bytes` gave, or the content of a file.

        Raises:
            FormatError: the bytes are no index, are damaged, or were written by a newer fasthash.
            TypeError: `data` is not bytes, or holds an index of the other kind.
        """
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data must be bytes, got {type(data).__name__}")
        return cls._expected(_core.from_bytes(data))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_bytes, (self.to_bytes(),)

    def stats(self) -> dict[str, Any]:
        """Size and shape of the index as a dictionary of plain numbers, ready for JSON.

        `n_segments` is how many parts the codes stand in, `n_removed` how many removed codes are still among them,
        `mapped_bytes` the size of a file that is mapped.
        """
        n = len(self)
        return {
            "kind": self._impl.kind.name,
            "n_codes": n,
            "n_bits": self.n_bits,
            "level_bits": list(self.level_bits),
            "nbytes": self.nbytes,
            "bytes_per_code": self.nbytes / n if n else 0.0,
            "mapped_bytes": self._impl.mapped_bytes(),
            "n_segments": self._impl.n_segments(),
            "n_removed": self._impl.n_removed(),
        }

    def save(self, path: StrPath) -> None:
        """Write the index into one file, atomically and durably.

        The file appears under its name only when it is complete and on disk; if anything fails before, a file that had
        that name is intact. The format is described in docs/format.md.

        Args:
            path: file to write or replace.

        Raises:
            OSError: the operating system refused a step; the error names it.
        """
        self._impl.save(_path_bytes(path))

    @classmethod
    def _expected(cls, core: _core.Index) -> Self:
        index = _wrap(core)
        if not isinstance(index, cls):
            raise TypeError(f"data must hold a {cls.__name__}, holds a {type(index).__name__}")
        return index

    def _radius(self, radius: Any) -> int:
        return min(check_int("radius", radius, minimum=0), self.n_bits)  # nothing is farther

    def _filter(self, allow: Any) -> _core.IdFilter | None:
        if allow is None:
            return None
        return allow._impl if isinstance(allow, IdFilter) else core_filter("allow", allow, self._impl.next_id())

    def _search(
        self, queries: ArrayLike, k: int, keep: float | None, keep_mode: str, allow: Any, stats: bool
    ) -> SearchResult | tuple[SearchResult, SearchStats]:
        plain = type(queries) is np.ndarray and type(k) is int and 0 < k <= _MAX_K
        if plain and keep is None and keep_mode == "node_ratio" and stats is False:
            # The short way: a search may take a few microseconds.
            found = self._impl.search_exact(queries, k, self._filter(allow))
            if found is not None:
                return SearchResult(*found)
        array = check_codes("queries", queries, self.n_bits // 8)
        n_neighbors = check_int("k", k, minimum=1, maximum=_MAX_K)
        if keep is not None:
            keep = check_fraction("keep", keep)
        check_choice("keep_mode", keep_mode, _KEEP_MODES)
        check_bool("stats", stats)
        distances, ids, work = self._impl.search(array, n_neighbors, keep, _KEEP_MODES[keep_mode], self._filter(allow))
        result = SearchResult(distances, ids)
        if not stats:
            return result
        of_queries = _search_stats(work)
        if keep is not None:
            of_queries = of_queries._replace(plan=np.full(len(array), "pruned"))
        return result, of_queries


class FlatIndex(_Index):
    """Compares every query with every code: the exhaustive index, and the oracle of all others.

    Args:
        n_bits: width of the codes in bits, a multiple of 8 from 8 to 4096.

    Raises:
        TypeError: `n_bits` is not an integer.
        ValueError: `n_bits` is no multiple of 8 or out of range.

    Examples:
        >>> index = FlatIndex(n_bits=16)
        >>> index.add(np.array([[0, 0], [255, 255], [1, 0]], dtype=np.uint8))
        >>> index.search(np.array([[0, 0]], dtype=np.uint8), k=2)
        SearchResult(distances=array([[0, 1]], dtype=int32), ids=array([[0, 2]]))
    """

    def __init__(self, n_bits: int) -> None:
        self._impl = _core.FlatIndex(check_width("n_bits", n_bits))

    @classmethod
    def from_arrays(cls, codes: ArrayLike, ids: ArrayLike | None = None) -> Self:
        """An index of these codes.

        Args:
            codes: uint8 array `(n, n_bytes)`.
            ids: as in `add`.

        Raises:
            TypeError, ValueError: as in `add`.
        """
        array = check_codes_of_any_width("codes", codes)
        index = cls(array.shape[1] * 8)
        index.add(array, ids)
        return index

    def __repr__(self) -> str:
        return f"FlatIndex(n_bits={self.n_bits}) with {len(self)} codes"

    def to(self, device: Any, *, memory: int | None = None) -> FlatIndex | GpuFlatIndex:
        """An index with the same codes on a GPU, which finds the same, byte for byte.

        Args:
            device: `"cuda"`, `"cuda:1"` and so on, or a `torch.device`; `"cpu"` gives this index itself.
            memory: bytes of the GPU's memory that codes and ids may take; by default what is free, but for a reserve.
                Codes that need more stay in pinned memory of the host, and searches stream them.

        Returns:
            A `fasthash.gpu.GpuFlatIndex`, or this index.

        Raises:
            TypeError: `memory` is not an integer.
            ValueError: `device` is none of these, or `memory` is negative.
            RuntimeError: fasthash was built without CUDA, or the GPU cannot be used; the message says why.
            MemoryError: the GPU has too little memory.
        """
        from fasthash.gpu import GpuFlatIndex, check_device

        number = check_device(device)
        return self if number is None else GpuFlatIndex(self, number, memory)

    @overload
    def search(
        self, queries: ArrayLike, k: int = ..., *, allow: Allow = ..., stats: Literal[False] = ...
    ) -> SearchResult: ...
    @overload
    def search(
        self, queries: ArrayLike, k: int = ..., *, allow: Allow = ..., stats: Literal[True]
    ) -> tuple[SearchResult, SearchStats]: ...
    def search(
        self, queries: ArrayLike, k: int = 10, *, allow: Allow = None, stats: bool = False
    ) -> SearchResult | tuple[SearchResult, SearchStats]:
        """Find the k nearest codes of each query, exactly, ordered by (distance, id).

        A larger k gives the same rows and more, so pages are slices: the second page of ten is
        `search(queries, k=20).ids[:, 10:]`.

        Args:
            queries: uint8 array `(nq, n_bits / 8)`.
            k: how many neighbours, from 1 to 2^31 - 1; may exceed the number of codes.
            allow: only these: int64 array of ids; or bool mask with `mask[i]` for id i, an entry for every id so far;
                or an `IdFilter`, for a set that is used again.
            stats: also return the work done.

        Returns:
            `SearchResult`, or with `stats=True` the pair (`SearchResult`, `SearchStats`).

        Raises:
            TypeError: wrong dtype of `queries` or `allow`, or `k` is not an integer.
            ValueError: wrong shape, or `k` out of range.
        """
        return self._search(queries, k, None, "node_ratio", allow, stats)


class HierIndex(_Index):
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
        memory: what the index may spend, ids included: `"compact"` as little as possible; `"default"` up to twice,
            `"fast"` up to six times the bytes of the codes, where that makes the exact search faster. What has been
            added since the codes were last brought together, at most a 32nd of them, is searched in the same way
            whatever it takes, and so is the map of ids that the first look-up makes.
        plan: `"auto"`, or the plan to take whatever the codes and the memory. Codes of 8 bits have no several parts and
            are scanned instead.

    Raises:
        TypeError: `level_bits` is not a sequence of integers.
        ValueError: a width is no positive multiple of 8, or the sum is out of range; `memory` or `plan` is unknown.

    Examples:
        >>> index = HierIndex(level_bits=(8, 8))
        >>> index.add(np.array([[0, 0], [255, 255], [1, 0]], dtype=np.uint8), ids=np.array([7, 8, 9]))
        >>> index.search(np.array([[0, 0]], dtype=np.uint8), k=2)
        SearchResult(distances=array([[0, 1]], dtype=int32), ids=array([[7, 9]]))
    """

    _impl: _core.HierIndex

    def __init__(
        self, level_bits: Sequence[int] = (8, 16, 40), *, memory: Memory = "default", plan: Plan = "auto"
    ) -> None:
        widths = check_level_bits(level_bits)
        check_choice("memory", memory, _MEMORIES)
        check_choice("plan", plan, _PLANS)
        self._impl = _core.HierIndex(widths, _MEMORIES[memory], _PLANS[plan])

    @classmethod
    def from_arrays(
        cls,
        codes: ArrayLike,
        ids: ArrayLike | None = None,
        *,
        level_bits: Sequence[int] | None = None,
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
        array = check_codes_of_any_width("codes", codes)
        index = cls((array.shape[1] * 8,) if level_bits is None else level_bits, memory=memory, plan=plan)
        index.add(array, ids)
        return index

    def __repr__(self) -> str:
        return f"HierIndex(level_bits={self.level_bits}, memory={self.memory!r}) with {len(self)} codes"

    def to(self, device: Any, *, memory: int | None = None) -> HierIndex | GpuHierIndex:
        """An index with the same codes on a GPU; arguments and errors as of `FlatIndex.to`.

        Of codes in pinned memory a search reads over the bus what is below the prefixes that it opens.

        Returns:
            A `fasthash.gpu.GpuHierIndex`, or this index.
        """
        from fasthash.gpu import GpuHierIndex, check_device

        number = check_device(device)
        return self if number is None else GpuHierIndex(self, number, memory)

    @property
    def memory(self) -> Memory:
        """What the index may spend for speed: `"compact"`, `"default"` or `"fast"`."""
        return cast(Memory, _MEMORY_NAMES[self._impl.memory])

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
            "plan": _PLAN_NAMES[shape.plan],
            "n_parts": shape.n_parts,
            "part_bits": shape.part_bits,
            "nodes_per_level": shape.nodes_per_level,
            "n_distinct_codes": shape.nodes_per_level[-1],
        }


def load(path: StrPath, mmap: bool = False) -> FlatIndex | HierIndex:
    """Load an index from a file; every byte of it is checked first.

    Args:
        path: a file that `save` wrote.
        mmap: leave codes and ids in the file, mapped into memory. That is faster than reading it, and processes that
            map the same file share its memory. A mapped `HierIndex` searches by prefix, without tables of its own.
            The index can be changed; the file is not. It must not be overwritten in place while it is mapped (`save`
            replaces it, which is fine).

    Returns:
        The index, of the kind that was saved.

    Raises:
        FormatError: the file is no index, is damaged, or was written by a newer fasthash; the message says where.
        OSError: the file cannot be read.
    """
    check_bool("mmap", mmap)
    return _wrap(_core.load(_path_bytes(path), mmap))


def peek(path: StrPath) -> FileInfo:
    """Read what an index file says about itself, without reading its codes.

    Args:
        path: a file that `save` wrote.

    Raises:
        FormatError: the file is no index, its header is damaged, or its length is not what the header implies.
        OSError: the file cannot be read.
    """
    return _file_info(_core.peek(_path_bytes(path)))


def verify(path: StrPath) -> FileReport:
    """Check an index file section by section; see `FileReport.fault` for the outcome.

    Args:
        path: a file that `save` wrote.

    Raises:
        FormatError: the file is no index, its header is damaged, or its length is not what the header implies.
        OSError: the file cannot be read.
    """
    report = _core.verify(_path_bytes(path))
    sections = (
        FileSection(part.name, part.offset, part.n_bytes, part.checksum, part.intact) for part in report.sections
    )
    return FileReport(_file_info(report.info), tuple(sections), report.fault)


def _wrap(core: _core.Index) -> FlatIndex | HierIndex:
    if isinstance(core, _core.HierIndex):
        return HierIndex._of(core)
    return FlatIndex._of(core)


def _file_info(info: _core.FileInfo) -> FileInfo:
    return FileInfo(
        kind=info.kind.name,
        level_bits=tuple(info.level_bits),
        n_codes=info.n_codes,
        has_ids=info.has_ids,
        format_version=f"{info.format_major}.{info.format_minor}",
        file_bytes=info.file_bytes,
    )


def _search_stats(work: _core.Work) -> SearchStats:
    plan, gave_up, nodes, compared = work
    names = np.array([name for _, name in sorted((plan.value, name) for plan, name in _PLAN_NAMES.items())])
    return SearchStats(np.where(gave_up, np.char.add(names, "+scan")[plan], names[plan]), nodes, compared)


def _path_bytes(path: StrPath) -> bytes:
    name = os.fsencode(path)
    if b"\0" in name:  # where the operating system would take the name to end
        raise ValueError(f"path must not contain a null byte, got {path!r}")
    return name
