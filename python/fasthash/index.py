"""The indices: packed codes in, exact nearest neighbours out.

No algorithm is here: arguments are checked, the compiled core does the work. Any number of threads may use one index;
searches run at the same time and without the GIL, `add` waits until it has the index alone.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast, overload

import numpy as np
from numpy.typing import ArrayLike

from fasthash import _core
from fasthash._checks import (
    check_choice,
    check_codes,
    check_fraction,
    check_ids,
    check_int,
    check_level_bits,
    check_width,
)
from fasthash.results import FileInfo, SearchResult, SearchStats

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["FlatIndex", "HierIndex", "KeepMode", "load", "peek"]

KeepMode: TypeAlias = Literal["node_ratio", "gallery_ratio", "radius"]
Memory: TypeAlias = Literal["compact", "default", "fast"]
Plan: TypeAlias = Literal["auto", "scan", "prefix", "multi-index"]
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
        """Bytes of memory that codes, ids and tree take, reserved room included."""
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

    def add(self, codes: ArrayLike, ids: ArrayLike | None = None) -> None:
        """Add codes to the gallery.

        Args:
            codes: uint8 array `(n, n_bits / 8)`, the levels side by side, coarse first. Copied.
            ids: int64 array `(n,)` of values that are distinct, new to the index and not -1. None counts on from one
                past the largest id so far: 0 .. n-1 in a fresh index.

        Raises:
            TypeError: wrong dtype; nothing is cast.
            ValueError: wrong shape or unacceptable ids. The index is then what it was before.
        """
        array = check_codes("codes", codes, self.n_bits // 8)
        self._impl.add(array, None if ids is None else check_ids(ids, len(array)))

    def stats(self) -> dict[str, Any]:
        """Size and shape of the index as a dictionary of plain numbers, ready for JSON."""
        n = len(self)
        return {
            "kind": self._impl.kind.name,
            "n_codes": n,
            "n_bits": self.n_bits,
            "level_bits": list(self.level_bits),
            "nbytes": self.nbytes,
            "bytes_per_code": self.nbytes / n if n else 0.0,
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

    def _search(
        self, queries: ArrayLike, k: int, keep: float | None, keep_mode: str, stats: bool
    ) -> SearchResult | tuple[SearchResult, SearchStats]:
        if type(k) is int and 0 < k <= _MAX_K and keep is None and not stats and keep_mode in _KEEP_MODES:
            found = self._impl.search_exact(queries, k)  # the short way: a search may take a few microseconds
            if found is not None:
                return SearchResult(*found)
        array = check_codes("queries", queries, self.n_bits // 8)
        n_neighbors = check_int("k", k, minimum=1, maximum=_MAX_K)
        if keep is not None:
            keep = check_fraction("keep", keep)
        check_choice("keep_mode", keep_mode, _KEEP_MODES)
        distances, ids, plan, gave_up, nodes, compared = self._impl.search(
            array, n_neighbors, keep, _KEEP_MODES[keep_mode]
        )
        result = SearchResult(distances, ids)
        if not stats:
            return result
        names = np.array([name for _, name in sorted((plan.value, name) for plan, name in _PLAN_NAMES.items())])
        plans = np.where(gave_up, np.char.add(names, "+scan")[plan], names[plan])
        return result, SearchStats(plans if keep is None else np.full(len(plans), "pruned"), nodes, compared)


class FlatIndex(_Index):
    """Compares every query with every code: the exhaustive index, and the oracle of all others.

    Args:
        n_bits: width of the codes in bits, a multiple of 8 from 8 to 4096.

    Raises:
        TypeError: `n_bits` is not an integer.
        ValueError: `n_bits` is no multiple of 8 or out of range.

    Example:
        >>> index = FlatIndex(n_bits=16)
        >>> index.add(np.array([[0, 0], [255, 255], [1, 0]], dtype=np.uint8))
        >>> index.search(np.array([[0, 0]], dtype=np.uint8), k=2)
        SearchResult(distances=array([[0, 1]], dtype=int32), ids=array([[0, 2]]))
    """

    def __init__(self, n_bits: int) -> None:
        self._impl = _core.FlatIndex(check_width("n_bits", n_bits))

    def __repr__(self) -> str:
        return f"FlatIndex(n_bits={self.n_bits}) with {len(self)} codes"

    @overload
    def search(self, queries: ArrayLike, k: int = ..., *, stats: Literal[False] = ...) -> SearchResult: ...
    @overload
    def search(self, queries: ArrayLike, k: int = ..., *, stats: Literal[True]) -> tuple[SearchResult, SearchStats]: ...
    def search(
        self, queries: ArrayLike, k: int = 10, *, stats: bool = False
    ) -> SearchResult | tuple[SearchResult, SearchStats]:
        """Find the k nearest codes of each query, exactly, ordered by (distance, id).

        Args:
            queries: uint8 array `(nq, n_bits / 8)`.
            k: how many neighbours, from 1 to 2^31 - 1; may exceed the number of codes.
            stats: also return the work done.

        Returns:
            `SearchResult`, or with `stats=True` the pair (`SearchResult`, `SearchStats`).

        Raises:
            TypeError: wrong dtype of `queries`, or `k` is not an integer.
            ValueError: wrong shape of `queries`, or `k` out of range.
        """
        return self._search(queries, k, None, "node_ratio", stats)


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
    such search builds their tree.

    Each `add` merges the new codes into the sorted ones in time proportional to the whole, so add in large batches. An
    index holds at most 2^32 - 1 codes.

    Args:
        level_bits: widths of the levels in bits, coarse first; each a positive multiple of 8, together at most 4096.
        memory: what the index may spend, ids included: `"compact"` as little as possible; `"default"` up to twice,
            `"fast"` up to six times the bytes of the codes, where that makes the exact search faster.
        plan: `"auto"`, or the plan to take whatever the codes and the memory. Codes of 8 bits have no several parts and
            are scanned instead.

    Raises:
        TypeError: `level_bits` is not a sequence of integers.
        ValueError: a width is no positive multiple of 8, or the sum is out of range; `memory` or `plan` is unknown.

    Example:
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

    def __repr__(self) -> str:
        return f"HierIndex(level_bits={self.level_bits}, memory={self.memory!r}) with {len(self)} codes"

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
        stats: Literal[True],
    ) -> tuple[SearchResult, SearchStats]: ...
    def search(
        self,
        queries: ArrayLike,
        k: int = 10,
        *,
        keep: float | None = None,
        keep_mode: KeepMode = "node_ratio",
        stats: bool = False,
    ) -> SearchResult | tuple[SearchResult, SearchStats]:
        """Find the k nearest codes of each query, ordered by (distance, id); exactly, unless `keep` is given.

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
            stats: also return the work done.

        Returns:
            `SearchResult`, or with `stats=True` the pair (`SearchResult`, `SearchStats`).

        Raises:
            TypeError: wrong dtype of `queries`, `k` is not an integer, `keep` is not a number.
            ValueError: wrong shape of `queries`, `k` or `keep` out of range, unknown `keep_mode`.
        """
        return self._search(queries, k, keep, keep_mode, stats)

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


def load(path: StrPath) -> FlatIndex | HierIndex:
    """Load an index from a file; every byte of it is checked first.

    Args:
        path: a file that `save` wrote.

    Returns:
        The index, of the kind that was saved.

    Raises:
        FormatError: the file is no index, is damaged, or was written by a newer fasthash; the message says where.
        OSError: the file cannot be read.
    """
    core = _core.load(_path_bytes(path))
    if isinstance(core, _core.HierIndex):
        return HierIndex._of(core)
    return FlatIndex._of(core)


def peek(path: StrPath) -> FileInfo:
    """Read what an index file says about itself, without reading its codes.

    Args:
        path: a file that `save` wrote.

    Raises:
        FormatError: the file is no index, its header is damaged, or its length is not what the header implies.
        OSError: the file cannot be read.
    """
    info = _core.peek(_path_bytes(path))
    return FileInfo(
        kind=info.kind.name,
        level_bits=tuple(info.level_bits),
        n_codes=info.n_codes,
        has_ids=info.has_ids,
        format_version=f"{info.format_major}.{info.format_minor}",
        file_bytes=info.file_bytes,
    )


def _path_bytes(path: StrPath) -> bytes:
    name = os.fsencode(path)
    if b"\0" in name:  # where the operating system would take the name to end
        raise ValueError(f"path must not contain a null byte, got {path!r}")
    return name
