"""Base class of `FlatIndex` and `HierIndex`: checks arguments and calls the compiled core.

Any number of threads may use one index; the core releases the GIL. A search works on the state of the index at its
start. It does not wait for changes, except with `keep=`, which compacts the index first. Searches wait for each other
only where the first one makes what all of them use (docs/updates.md). Changes run one at a time. A change takes effect
completely, or not at all if it raises.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fasthash import _core
from fasthash._checks import (
    check_bool,
    check_callable,
    check_codes,
    check_ids,
    check_int,
    check_path,
    check_queries,
    check_radius,
    check_share,
    code_bytes,
    is_int64,
    of_ids,
    path_bytes,
)
from fasthash._durable import named_in_errors, write_all
from fasthash._folder_kinds import folders_named
from fasthash._html import html_table
from fasthash._index_options import KEEP_MODES, MAX_RESULTS, Allow, Metric, StrPath, check_k, check_keep
from fasthash._locks import Lazy
from fasthash._query_filters import are_query_filters, search_by_filter
from fasthash.filters import IdFilter, core_filter
from fasthash.results import RangeResult, SearchResult, SearchStats

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Index", "search_stats"]


_OURS = {"_impl", "_width", "_is_jaccard"}  # attributes of an index


class Index:
    """Base class of both indices."""

    _impl: _core.Index
    _kind: ClassVar[type[_core.Index]]  # class of `_impl`

    @classmethod
    def _of(cls, core: _core.Index) -> Self:
        """Wrap an existing core index."""
        index = cls.__new__(cls)
        index._impl = core
        return index

    @Lazy
    def _width(self) -> int:
        return self._impl.n_bits

    @property
    def n_bits(self) -> int:
        """Width of a code in bits."""
        return self._impl.n_bits

    @property
    def level_bits(self) -> tuple[int, ...]:
        """Widths of the levels in bits, coarse first; a flat index has one."""
        return tuple(self._impl.level_bits)

    @property
    def metric(self) -> Metric:
        """Distance between codes: `"hamming"` or `"jaccard"`."""
        return "jaccard" if self._is_jaccard else "hamming"

    @Lazy
    def _is_jaccard(self) -> bool:
        return self._impl.metric is _core.Metric.jaccard

    @property
    def nbytes(self) -> int:
        """Bytes of memory for codes, ids and tables, without those of a mapped file."""
        return self._impl.nbytes()

    @property
    def ntotal(self) -> int:
        """Number of codes, the same as `len(index)`."""
        return len(self._impl)

    def __len__(self) -> int:
        return len(self._impl)

    def __bool__(self) -> bool:
        # `if index:` must be true for an empty index too.
        return True

    def add(
        self, codes: ArrayLike, ids: ArrayLike | None = None, *, progress: Callable[[float], object] | None = None
    ) -> None:
        """Add codes to the gallery.

        Args:
            codes: uint8 array `(n, n_bits / 8)`, the levels side by side, coarse first. Copied. The array may be mapped
                from a file: it is read from start to end, several times if it is large.
            ids: integer array `(n,)` of distinct values, new to the index and not -1. None numbers the codes from the
                largest id so far plus one: 0 .. n-1 in a fresh index.
            progress: called with the finished share of the work: 0.0 at the beginning, then from time to time, and 1.0
                after the end. If it raises before the end, `add` stops and leaves the index unchanged. The callback may
                search this index and change others. If it changes this index, a RuntimeError is raised, as in a signal
                handler that interrupts a change. The callback must not wait for another thread that changes this index:
                that thread waits for this call.

        Raises:
            TypeError: wrong dtype; nothing is cast.
            ValueError: wrong shape or unacceptable ids. The index is unchanged.
            RuntimeError: called inside a change of the same index, or threads would wait for each other.
        """
        array = check_codes("codes", codes, self.n_bits)
        if progress is not None:
            check_callable("progress", progress)
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
        """Add codes in chunks, for codes that do not fit into memory beside the index.

        Repeated calls of `add` merge segments from time to time, and a merge needs twice the memory of the index.
        `add_chunks` writes all chunks to a temporary file and then adds the file in one step. The ids continue from the
        largest id so far.

        Args:
            chunks: iterable of uint8 arrays `(n, n_bits / 8)`; the lengths may differ.
            folder: folder for the temporary file, which is as large as the codes. None takes the system's default.
            progress: as in `add`; the calls start when all chunks are in the file.

        Raises:
            OSError: the temporary file cannot be written; the error names the folder. The index is unchanged.
            TypeError: wrong dtype, nothing is cast; or `folder` is no path.
            ValueError: wrong shape. The index is unchanged, also if `chunks` itself raises.
        """
        if not isinstance(chunks, Iterable) or getattr(chunks, "ndim", 1) == 0:
            raise TypeError(f"chunks must be an iterable of arrays, got {type(chunks).__name__}")
        if progress is not None:
            check_callable("progress", progress)
        if folder is not None:
            check_path("folder", folder)
        place = Path(tempfile.gettempdir() if folder is None else folder)
        with tempfile.TemporaryFile(dir=place, buffering=0) as file:
            n_bytes = 0
            for i, chunk in enumerate(chunks):
                array = check_codes(f"chunks[{i}]", chunk, self.n_bits)
                with named_in_errors(place):
                    write_all(file, array.reshape(-1).data)  # ndarray.tofile hides errors that closing reports
                n_bytes += array.nbytes
            codes = np.memmap(file, np.uint8, "r") if n_bytes else np.empty(0, np.uint8)
            if len(codes) != n_bytes:
                raise OSError(
                    errno.EIO, f"a file has {len(codes)} bytes where {n_bytes} were written", os.fspath(place)
                )
            self.add(codes.reshape(-1, code_bytes(self.n_bits)), progress=progress)

    def remove(self, ids: ArrayLike) -> None:
        """Remove codes.

        The codes are marked as removed. A segment drops them when more than an eighth of it is removed.

        Args:
            ids: integer array `(n,)` of distinct ids in the index.

        Raises:
            TypeError: wrong dtype.
            ValueError: an id is not in the index, or is given twice. Nothing is removed.
        """
        self._impl.remove(check_ids(ids))

    def update(self, ids: ArrayLike, codes: ArrayLike) -> None:
        """Replace the codes of some ids, all in one step.

        Args:
            ids: integer array `(n,)` of distinct ids in the index.
            codes: uint8 array `(n, n_bits / 8)`, the new codes.

        Raises:
            TypeError: wrong dtype.
            ValueError: wrong shape, or an id is not in the index or is given twice. Nothing changes.
        """
        array = check_codes("codes", codes, self.n_bits)
        self._impl.update(check_ids(ids, len(array)), array)

    def merge(self, other: Index) -> None:
        """Add all codes of another index with their ids; the other index does not change.

        Args:
            other: a flat or hierarchical index with the same levels and metric.

        Raises:
            TypeError: `other` is not an index.
            ValueError: the levels or metrics differ, or both indices hold the same id. Nothing is added.
        """
        if not isinstance(other, Index):
            raise TypeError(f"other must be a FlatIndex or HierIndex, got {type(other).__name__}")
        self._impl.merge(other._impl)

    def compact(self) -> None:
        """Merge all segments into one and drop the removed codes, as if the index were built anew.

        The plan is chosen anew. Searches are fastest after it; no result changes. Additions and removals compact the
        index step by step, so that calling this is optional. A mapped file stays as it is if nothing was added to its
        codes and nothing removed.
        """
        self._impl.compact()

    def reconstruct(self, ids: ArrayLike) -> NDArray[np.uint8]:
        """Return the codes of some ids.

        Args:
            ids: integer array `(n,)` of ids in the index, in any order; repeated ids are allowed. Or one id.

        Returns:
            uint8 array `(n, n_bits / 8)`; of one id `(n_bits / 8,)`.

        Raises:
            TypeError: wrong dtype.
            ValueError: an id is not in the index.
        """
        return of_ids(ids, lambda array: self._impl.reconstruct(check_ids(array)))

    def clear(self) -> None:
        """Remove all codes and free their memory, in one step; the index is as a new one of the same settings.

        Ids are counted from 0 again. Searches that run keep the codes that they began with.
        """
        self._impl.clear()

    def _repr_html_(self) -> str:
        """A small table for notebooks."""
        rows = [("codes", f"{len(self):,}"), ("bits", self.n_bits), ("memory", f"{self.nbytes:,} bytes")]
        if len(self.level_bits) > 1:
            rows.insert(2, ("levels", ", ".join(map(str, self.level_bits))))
        return html_table(type(self).__name__, [], rows)

    def ids(self) -> NDArray[np.int64]:
        """Return all ids, int64 `(n,)`, ascending."""
        return self._impl.to_arrays()[1]

    def build_id_map(self) -> None:
        """Build the table that finds codes by their id.

        Without it, the first use builds the table: `remove`, `update`, `reconstruct`, `in`, or a search with `allow=`.
        Takes about 50 ns a code on one thread, and at most 4 bytes a code. `save(path, id_map=True)` stores the map.
        Small indices, and flat ones whose ids ascend, need none. Changes no result.
        """
        self._impl.build_id_map()

    def __contains__(self, id: Any) -> bool:
        return is_int64(check_int("id", id)) and id in self._impl

    def to_arrays(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return all codes, uint8 `(n, n_bits / 8)`, and their ids, int64 `(n,)`, sorted by id."""
        return self._impl.to_arrays()

    @overload
    def range_search(
        self, queries: ArrayLike, radius: float, *, allow: Allow = ..., stats: Literal[False] = ...
    ) -> RangeResult: ...
    @overload
    def range_search(
        self, queries: ArrayLike, radius: float, *, allow: Allow = ..., stats: Literal[True]
    ) -> tuple[RangeResult, SearchStats]: ...
    def range_search(
        self, queries: ArrayLike, radius: float, *, allow: Allow = None, stats: bool = False
    ) -> RangeResult | tuple[RangeResult, SearchStats]:
        """Find all codes within a radius of each query, exactly, ordered by (distance, id).

        Args:
            queries: uint8 array `(nq, n_bits / 8)`, or one code `(n_bits / 8,)` as a batch of one.
            radius: largest distance in bits, at least 0; with n_bits or more the result holds all codes. With the
                metric `"jaccard"` a number; it is compared with distances as float32, so that the distance
                of a result finds its code.
            allow: ids that the search may return, as in `search`.
            stats: also return the work done.

        Returns:
            `RangeResult`, or with `stats=True` the pair (`RangeResult`, `SearchStats`).

        Raises:
            TypeError: wrong dtype of `queries` or `allow`, or `radius` is not an integer (`"jaccard"`: not a number).
            ValueError: wrong shape, or `radius` is negative.
        """
        array = check_queries(queries, self.n_bits)
        check_bool("stats", stats)
        if are_query_filters(allow):
            held, within = self.copy(), self._radius(radius)  # one state for all searches
            return search_by_filter(
                allow, array, lambda some, one: held.range_search(some, within, allow=one, stats=cast("Any", stats))
            )
        find = self._impl.range_search_jaccard if self._is_jaccard else self._impl.range_search
        offsets, distances, ids, work = find(array, self._radius(radius), self._filter(allow))
        result = RangeResult(offsets, distances, ids)
        return (result, search_stats(work)) if stats else result

    def count_within(self, queries: ArrayLike, radius: float, *, allow: Allow = None) -> NDArray[np.int64]:
        """Count the codes within a radius of each query, without listing them.

        Args:
            queries: uint8 array `(nq, n_bits / 8)`, or one code `(n_bits / 8,)` as a batch of one.
            radius: as in `range_search`.
            allow: ids that may count, as in `search`.

        Returns:
            int64 array `(nq,)`.

        Raises:
            TypeError: wrong dtype of `queries` or `allow`, or `radius` is not an integer (`"jaccard"`: not a number).
            ValueError: wrong shape, or `radius` is negative.
        """
        array = check_queries(queries, self.n_bits)
        if are_query_filters(allow):
            held, within = self.copy(), self._radius(radius)
            return search_by_filter(allow, array, lambda some, one: held.count_within(some, within, allow=one))
        count = self._impl.count_within_jaccard if self._is_jaccard else self._impl.count_within
        return count(array, self._radius(radius), self._filter(allow))

    def copy(self) -> Self:
        """Return an independent index with the same codes.

        Takes no time: the two indices share unchanged segments (copy on write).
        """
        copied = self._of(self._impl.copy())
        vars(copied).update(self._attributes())
        return copied

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        copied = self._of(self._impl.copy())
        memo[id(self)] = copied  # an attribute may refer to this index
        vars(copied).update(deepcopy(self._attributes(), memo))
        return copied

    def _attributes(self) -> dict[str, Any]:
        """The attributes that a caller or a subclass has set."""
        return {name: value for name, value in vars(self).items() if name not in _OURS}

    def to_bytes(self) -> bytes:
        """Return the bytes that `save` would write to a file."""
        return self._impl.to_bytes()

    @classmethod
    def from_bytes(cls, data: bytes | bytearray | memoryview) -> Self:
        """Load an index from bytes; every byte is checked first.

        Args:
            data: the result of `to_bytes`, or the content of a file.

        Raises:
            FormatError: the bytes are not an index, are damaged, or were written by a newer fasthash.
            TypeError: `data` is not bytes, or holds an index of the other class.
        """
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data must be bytes, got {type(data).__name__}")
        return cls._expected("data", _core.from_bytes(data))

    @classmethod
    def load(cls, path: StrPath, mmap: bool = False) -> Self:
        """Load an index of this class from a file; `fasthash.load` takes files of both classes.

        Args:
            path, mmap: as in `fasthash.load`.

        Raises:
            FormatError, OSError: as `fasthash.load`.
            TypeError: the file holds an index of the other class.
        """
        check_bool("mmap", mmap)
        with folders_named(path):
            core = _core.load(path_bytes(path), mmap)
        return cls._expected("path", core)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_bytes, (self.to_bytes(),), self._attributes() or None

    def stats(self) -> dict[str, Any]:
        """Return the size and shape of the index as a dictionary of plain numbers, ready for JSON.

        `n_segments` is the number of segments, `n_removed` the number of removed codes that segments still hold, and
        `mapped_bytes` the size of the mapped file.
        """
        n = len(self)
        return {
            "kind": self._impl.kind.name,
            "n_codes": n,
            "n_bits": self.n_bits,
            "level_bits": list(self.level_bits),
            "metric": self.metric,
            "nbytes": self.nbytes,
            "bytes_per_code": self.nbytes / n if n else 0.0,
            "mapped_bytes": self._impl.mapped_bytes(),
            "n_segments": self._impl.n_segments(),
            "n_removed": self._impl.n_removed(),
        }

    def save(self, path: StrPath, *, id_map: bool = False) -> None:
        """Write the index to one file, atomically and durably.

        The file gets its name only when it is complete and on disk. If a step before that fails, an earlier file of
        that name is intact. docs/format.md describes the format.

        Args:
            path: file to write or replace.
            id_map: write the id map too, so that an index loaded from the file need not build it (`build_id_map`). The
                file grows by at most 4 bytes a code, and older releases of fasthash cannot read it. Ids that ascend in
                the order of the codes need no map.

        Raises:
            OSError: the operating system refused a step; the error names it.
            TypeError: `path` is not a name, or `id_map` is not a bool.
        """
        check_bool("id_map", id_map)
        self._impl.save(path_bytes(path), id_map)

    @classmethod
    def _expected(cls, name: str, core: _core.Index) -> Self:
        if not isinstance(core, cls._kind):
            raise TypeError(f"{name} must hold a {cls.__name__}, holds a {type(core).__name__}")
        return cls._of(core)

    def _shown_metric(self) -> str:
        return f", metric={self.metric!r}" if self._is_jaccard else ""

    def _needs_hamming(self, what: str) -> None:
        if self._is_jaccard:
            raise ValueError(f"metric must be 'hamming' for {what}, this index has 'jaccard'")

    def _radius(self, radius: Any) -> Any:
        return check_radius(radius, self.metric, self.n_bits)

    def _filter(self, allow: Any) -> _core.IdFilter | None:
        if allow is None:
            return None
        return allow._impl if isinstance(allow, IdFilter) else core_filter("allow", allow, self._impl.next_id())

    def _search(
        self,
        queries: ArrayLike,
        k: int,
        keep: float | None,
        keep_mode: str,
        allow: Any,
        stats: bool,
        max_compared: float | None = None,
    ) -> SearchResult | tuple[SearchResult, SearchStats]:
        array = check_queries(queries, self._width)
        if type(k) is not int or not 0 < k * len(array) <= MAX_RESULTS:  # else it needs no check
            k = check_k(k, len(array))
        nearest = self._impl.search_jaccard if self._is_jaccard else self._impl.search
        if allow is None and stats is False and max_compared is None and type(keep_mode) is str:
            # Fast paths: a search can take a few microseconds, and these arguments need no other check.
            if keep is None and keep_mode == "node_ratio":
                distances, ids, _ = nearest(array, k)
                return SearchResult(distances, ids)
            if type(keep) is float and 0 < keep <= 1 and keep_mode in KEEP_MODES and not self._is_jaccard:
                distances, ids, _ = self._impl.search(array, k, None, False, keep, KEEP_MODES[keep_mode])
                return SearchResult(distances, ids)
        kept = check_keep(keep, keep_mode)
        if stats is not False:
            check_bool("stats", stats)
        if allow is not None and are_query_filters(allow):
            return self._search_each(array, k, keep, keep_mode, allow, stats, max_compared)
        allowed = None if allow is None else self._filter(allow)
        if keep is not None or max_compared is not None:
            self._needs_hamming("keep and max_compared")
        if max_compared is not None:
            if keep is not None:
                raise ValueError(f"max_compared must be left out beside keep, got {max_compared!r}")
            share = check_share("max_compared", max_compared, len(self))
            distances, ids, work = self._impl.search(array, k, allowed, stats, share=share)
        elif kept is None:
            distances, ids, work = nearest(array, k, allowed, stats)
        else:
            distances, ids, work = self._impl.search(array, k, allowed, stats, kept, KEEP_MODES[keep_mode])
        result = SearchResult(distances, ids)
        return result if work is None else (result, search_stats(work))

    def _search_each(
        self,
        queries: NDArray[np.uint8],
        k: int,
        keep: float | None,
        keep_mode: str,
        allow: Sequence[Any],
        stats: bool,
        max_compared: float | None,
    ) -> SearchResult | tuple[SearchResult, SearchStats]:
        """Search with a filter for each query. A method of its own: its closure would slow every search down."""
        pruned = keep is not None and max_compared is None
        held = self._of(self._impl.copy_to_prune()) if pruned else self.copy()  # one state for all searches
        return search_by_filter(
            allow, queries, lambda some, one: held._search(some, k, keep, keep_mode, one, stats, max_compared)
        )


def search_stats(work: _core.Work) -> SearchStats:
    """Convert the core's record of the work of each query."""
    plan, nodes, compared, exact_to = work
    return SearchStats(np.array(_core.PLAN_NAMES)[plan], nodes, compared, exact_to)
