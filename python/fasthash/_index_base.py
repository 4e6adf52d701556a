"""What the indices share: arguments are checked, the compiled core does the work.

Any number of threads may use one index, without the GIL. A search sees what the index held when it began and waits for
nobody; changes take turns, and each happens as a whole or, if it raises, not at all.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fasthash import _core
from fasthash._checks import check_bool, check_choice, check_codes, check_fraction, check_ids, check_int, is_int64
from fasthash._index_options import KEEP_MODES, MAX_K, Allow, StrPath
from fasthash._locks import Lazy
from fasthash.filters import IdFilter, core_filter
from fasthash.results import RangeResult, SearchResult, SearchStats

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Index", "path_bytes", "search_stats"]


class Index:
    """What both indices share."""

    _impl: _core.Index
    _kind: ClassVar[type[_core.Index]]  # of `_impl`

    @classmethod
    def _of(cls, core: _core.Index) -> Self:
        """An index around a core that is there already."""
        index = cls.__new__(cls)
        index._impl = core
        return index

    @Lazy
    def _n_bytes(self) -> int:
        return self._impl.n_bits // 8

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

    def merge(self, other: Index) -> None:
        """Add all codes of another index under their ids; the other index stays as it is.

        Args:
            other: a flat or hierarchical index with the same levels.

        Raises:
            TypeError: `other` is no index.
            ValueError: other levels, or an id that both hold. Nothing is added then.
        """
        if not isinstance(other, Index):
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
        return (result, search_stats(work)) if stats else result

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
        self._impl.save(path_bytes(path))

    @classmethod
    def _expected(cls, core: _core.Index) -> Self:
        if not isinstance(core, cls._kind):
            raise TypeError(f"data must hold a {cls.__name__}, holds a {type(core).__name__}")
        return cls._of(core)

    def _radius(self, radius: Any) -> int:
        return min(check_int("radius", radius, minimum=0), self.n_bits)  # nothing is farther

    def _filter(self, allow: Any) -> _core.IdFilter | None:
        if allow is None:
            return None
        return allow._impl if isinstance(allow, IdFilter) else core_filter("allow", allow, self._impl.next_id())

    def _search(
        self, queries: ArrayLike, k: int, keep: float | None, keep_mode: str, allow: Any, stats: bool
    ) -> SearchResult | tuple[SearchResult, SearchStats]:
        array = check_codes("queries", queries, self._n_bytes)
        if type(k) is not int or not 0 < k <= MAX_K:
            k = check_int("k", k, 1, MAX_K)
        if keep is None and allow is None and stats is False and keep_mode == "node_ratio":
            # A search takes a few microseconds: these arguments need no check.
            distances, ids, _ = self._impl.search(array, k)
            return SearchResult(distances, ids)
        check_choice("keep_mode", keep_mode, KEEP_MODES)
        check_bool("stats", stats)
        allowed = None if allow is None else self._filter(allow)
        if keep is None:
            distances, ids, work = self._impl.search(array, k, allowed, stats)
        else:
            share = check_fraction("keep", keep)
            distances, ids, work = self._impl.search(array, k, allowed, stats, share, KEEP_MODES[keep_mode])
        result = SearchResult(distances, ids)
        return result if work is None else (result, search_stats(work))


def search_stats(work: _core.Work) -> SearchStats:
    """What the core says of the work of each query."""
    plan, nodes, compared = work
    return SearchStats(np.array(_core.PLAN_NAMES)[plan], nodes, compared)


def path_bytes(path: StrPath) -> bytes:
    name = os.fsencode(path)
    if b"\0" in name:  # where the operating system would take the name to end
        raise ValueError(f"path must not contain a null byte, got {path!r}")
    return name
