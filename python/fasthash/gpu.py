"""`GpuFlatIndex` and `GpuHierIndex`: searches on a GPU, with the results of the CPU indices, byte for byte."""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Callable, Iterable
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fasthash import _core
from fasthash._checks import check_choice, check_codes, check_fraction, check_int
from fasthash._gpu_arrays import offsets_of, on_gpu, room_for, stream_of
from fasthash._index_base import Index
from fasthash._index_options import KEEP_MODES, MAX_K, Allow, KeepMode, StrPath
from fasthash._locks import ChangeLock, Lazy
from fasthash._shown import counted
from fasthash.filters import IdFilter, core_filter
from fasthash.results import RangeResult, SearchResult
from fasthash.threads import get_num_threads

if TYPE_CHECKING:
    from typing_extensions import Self

    from fasthash._cuda import AllowedIds, Gallery, Levels

__all__ = ["GpuFlatIndex", "GpuHierIndex", "check_device"]

_Value = TypeVar("_Value")


class _Moment:
    """An index and its copy on a GPU, at one moment; it never changes.

    Args:
        index: the index; it must not change.
        device: number of the GPU.
        max_bytes: bytes of GPU memory for codes and ids; None takes the free memory less a reserve.
        before: an earlier moment of the same index, whose segments on the GPU are used again.
        allow: copy only the entries that this filter allows.
    """

    def __init__(
        self,
        index: Index,
        device: int,
        max_bytes: int | None,
        before: _Moment | None = None,
        allow: _core.IdFilter | None = None,
    ) -> None:
        self.index, self.device, self.max_bytes = index, device, max_bytes
        self.snapshot = index._impl.snapshot(allow)
        previous = None if before is None else before.gallery
        if max_bytes is None:
            max_bytes = _room_for_codes(device) + (0 if previous is None else previous.nbytes())
        self.gallery: Gallery = _cuda().Gallery(
            device, self.snapshot, index.n_bits // 8, max_bytes, previous, n_threads=get_num_threads()
        )
        self._masks: WeakKeyDictionary[IdFilter, AllowedIds] = WeakKeyDictionary()
        self._narrowed: WeakKeyDictionary[IdFilter, _Moment] = WeakKeyDictionary()

    @Lazy
    def levels(self) -> Levels:
        """The nodes of the levels, for pruned searches."""
        nodes = self.snapshot.level_nodes(list(self.index.level_bits))
        levels: Levels = _cuda().Levels(self.device, nodes, len(self.snapshot))
        return levels

    def searched(self, allow: Any, pruned: bool) -> tuple[_Moment, AllowedIds | None]:
        """Return what a search with `allow` searches, and the entries in it that it may return (None: all).

        The codes of a narrow filter are copied into a small index of their own; so are those of any filter for a pruned
        search, which prunes among the allowed codes. What is made for an `IdFilter` is kept.
        """
        if allow is None:
            return self, None
        filter = allow._impl if isinstance(allow, IdFilter) else core_filter("allow", allow, self.index._impl.next_id())
        if pruned or self.snapshot.is_narrow(filter):
            narrowed = partial(_Moment, self.index, self.device, self.max_bytes, allow=filter)
            return _kept(self._narrowed, allow, narrowed), None
        return self, _kept(self._masks, allow, lambda: self.gallery.allowed(self.snapshot.allowed(filter)))


def _kept(cache: WeakKeyDictionary[IdFilter, _Value], allow: Any, make: Callable[[], _Value]) -> _Value:
    """Return what the cache holds for a filter, or make it; kept only for an `IdFilter`, which never changes."""
    if not isinstance(allow, IdFilter):
        return make()
    value = cache.get(allow)
    if value is None:
        value = cache[allow] = make()
    return value


class _GpuIndex:
    """Base class of both GPU indices."""

    def __init__(self, index: Index, device: int, max_bytes: int | None = None) -> None:
        self.device = device
        self._lock = ChangeLock()  # one change at a time
        max_bytes = None if max_bytes is None else check_int("max_bytes", max_bytes, minimum=0)
        self._moment = self._copied(index.copy(), max_bytes)

    def _copied(self, index: Index, max_bytes: int | None, before: _Moment | None = None) -> _Moment:
        """Copy to the GPU what `before` does not hold of an index."""
        return _Moment(index, self.device, max_bytes, before)

    @property
    def _index(self) -> Index:
        return self._moment.index

    @property
    def n_bits(self) -> int:
        """Width of a code in bits."""
        return self._index.n_bits

    @property
    def level_bits(self) -> tuple[int, ...]:
        """Widths of the levels in bits, coarse first; a flat index has one."""
        return self._index.level_bits

    @property
    def nbytes(self) -> int:
        """Bytes of GPU memory for codes and ids."""
        return self._moment.gallery.nbytes()

    @property
    def ntotal(self) -> int:
        """Number of codes, the same as `len(index)`."""
        return len(self._index)

    @property
    def streamed(self) -> bool:
        """Whether the codes are in pinned memory of the host because they exceed the GPU memory."""
        return self._moment.gallery.streamed()

    def __len__(self) -> int:
        return len(self._index)

    def __bool__(self) -> bool:
        return True

    def __contains__(self, id: Any) -> bool:
        return id in self._index

    def __repr__(self) -> str:
        kind, codes = type(self).__name__, counted(len(self), "code")
        return f"{kind}(level_bits={self.level_bits}, device='cuda:{self.device}') with {codes}"

    def to(self, device: Any) -> Any:
        """Return the index on a device, as `FlatIndex.to` does; `"cpu"` returns a copy of the index on the CPU."""
        number = check_device(device)
        if number == self.device:
            return self
        return self._index.copy() if number is None else type(self)(self._index, number, self._moment.max_bytes)

    def copy(self) -> Self:
        """Return an independent index with the same codes; the two share unchanged segments on the GPU."""
        copied = type(self).__new__(type(self))
        copied.device, copied._moment, copied._lock = self.device, self._moment, ChangeLock()
        return copied

    def add(
        self, codes: ArrayLike, ids: ArrayLike | None = None, *, progress: Callable[[float], object] | None = None
    ) -> None:
        """Add codes, as `FlatIndex.add`; sends the segments to the GPU that are new."""
        self._change("add", lambda index: index.add(codes, ids, progress=progress))

    def add_chunks(
        self,
        chunks: Iterable[ArrayLike],
        *,
        folder: str | os.PathLike[str] | None = None,
        progress: Callable[[float], object] | None = None,
    ) -> None:
        """Add codes in chunks, as `FlatIndex.add_chunks`; sends the segments to the GPU that are new."""
        self._change("add_chunks", lambda index: index.add_chunks(chunks, folder=folder, progress=progress))

    def remove(self, ids: ArrayLike) -> None:
        """Remove codes, as `FlatIndex.remove`; sends a bit for each code to the GPU, or segments that are new."""
        self._change("remove", lambda index: index.remove(ids))

    def update(self, ids: ArrayLike, codes: ArrayLike) -> None:
        """Replace codes, as `FlatIndex.update`; sends what `remove` and `add` send."""
        self._change("update", lambda index: index.update(ids, codes))

    def merge(self, other: Index | _GpuIndex) -> None:
        """Add all codes of another index, as `FlatIndex.merge`; the other one may be on a GPU as well."""
        given = other._index if isinstance(other, _GpuIndex) else other
        self._change("merge", lambda index: index.merge(given))

    def compact(self) -> None:
        """Merge all segments into one, as `FlatIndex.compact`, and send it to the GPU."""
        self._change("compact", lambda index: index.compact())

    def reconstruct(self, ids: ArrayLike) -> NDArray[np.uint8]:
        """Return the codes of some ids, as `FlatIndex.reconstruct`; runs on the CPU."""
        return self._index.reconstruct(ids)

    def to_arrays(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return all codes and ids, as `FlatIndex.to_arrays`; runs on the CPU."""
        return self._index.to_arrays()

    def build_id_map(self) -> None:
        """Build the table that finds codes by their id, as `FlatIndex.build_id_map`; runs on the CPU."""
        self._index.build_id_map()

    def save(self, path: StrPath, *, id_map: bool = False) -> None:
        """Write the index to a file, as `FlatIndex.save`; the file is that of the index on the CPU."""
        self._index.save(path, id_map=id_map)

    def to_bytes(self) -> bytes:
        """Return the bytes that `save` would write to a file."""
        return self._index.to_bytes()

    def stats(self) -> dict[str, Any]:
        """Return the size and shape of the index on the CPU, as its own `stats()`, with `device` and `gpu_nbytes`."""
        return self._index.stats() | {"device": f"cuda:{self.device}", "gpu_nbytes": self.nbytes}

    def _search(self, queries: Any, k: int, allow: Any, keep: float | None = None, mode: int = 0) -> SearchResult:
        k = check_int("k", k, minimum=1, maximum=MAX_K)
        moment, allowed = self._moment.searched(allow, keep is not None)
        levels, share = (None, 1.0) if keep is None else (moment.levels, keep)
        gpu_queries = on_gpu(queries, self.n_bits // 8, self.device)
        if gpu_queries is None:
            array = check_codes("queries", queries, self.n_bits // 8)
            return SearchResult(*moment.gallery.search(array, k, allowed, levels, share, mode))
        distances, ids = room_for(gpu_queries, len(gpu_queries), k)
        moment.gallery.search_on_gpu(
            gpu_queries.data_ptr(),
            len(gpu_queries),
            k,
            allowed,
            levels,
            share,
            mode,
            distances.data_ptr(),
            ids.data_ptr(),
            stream_of(gpu_queries),
        )
        return SearchResult(distances, ids)

    def count_within(self, queries: Any, radius: int, *, allow: Allow = None) -> NDArray[np.int64]:
        """Count the codes within a radius of each query; arguments and errors as in `search`.

        Returns:
            int64 numpy array `(nq,)`.
        """
        radius = min(check_int("radius", radius, minimum=0), self.n_bits)
        moment, allowed = self._moment.searched(allow, False)
        gpu_queries = on_gpu(queries, self.n_bits // 8, self.device)
        if gpu_queries is None:
            return moment.gallery.count_within(check_codes("queries", queries, self.n_bits // 8), radius, allowed)
        return moment.gallery.count_within_on_gpu(
            gpu_queries.data_ptr(), len(gpu_queries), radius, allowed, stream_of(gpu_queries)
        )

    def range_search(self, queries: Any, radius: int, *, allow: Allow = None) -> RangeResult:
        """Find all codes within a radius of each query, ordered by (distance, id); arguments and errors as in `search`.

        Returns:
            `RangeResult`. Distances and ids are on the device of the queries; the offsets are a numpy array.
        """
        radius = min(check_int("radius", radius, minimum=0), self.n_bits)
        moment, allowed = self._moment.searched(allow, False)  # the same for both passes, even if the index changes
        gpu_queries = on_gpu(queries, self.n_bits // 8, self.device)
        if gpu_queries is None:
            array = check_codes("queries", queries, self.n_bits // 8)
            offsets = offsets_of(moment.gallery.count_within(array, radius, allowed))
            return RangeResult(offsets, *moment.gallery.range_search(array, radius, allowed, offsets))
        arguments = gpu_queries.data_ptr(), len(gpu_queries), radius, allowed
        offsets = offsets_of(moment.gallery.count_within_on_gpu(*arguments, stream_of(gpu_queries)))
        distances, ids = room_for(gpu_queries, int(offsets[-1]))
        moment.gallery.range_search_on_gpu(
            *arguments, offsets, distances.data_ptr(), ids.data_ptr(), stream_of(gpu_queries)
        )
        return RangeResult(offsets, distances, ids)

    def _change(self, name: str, change: Callable[[Index], object]) -> None:
        """Change a copy of the index and replace both; if the GPU has too little memory, nothing changes."""
        with self._lock(name):
            index = self._index.copy()
            change(index)
            self._moment = self._copied(index, self._moment.max_bytes, self._moment)


class GpuFlatIndex(_GpuIndex):
    """A `FlatIndex` on a GPU, made by `FlatIndex.to`.

    The index keeps a copy of the CPU index, which shares memory, or a mapped file, with the index that it was made of.
    A change is made on the CPU copy; then the segments that are new are sent to the GPU.

    Queries may be on the CPU: numpy arrays, or anything that numpy can read; the results are numpy arrays. Queries may
    be on this GPU: CUDA tensors of torch, or objects with `__cuda_array_interface__` or `__dlpack__`; the results are
    CUDA tensors of torch. GPU queries are read in the order of torch's current stream.

    Tensor cores compare batches; popcounts compare few queries and unusual widths. The environment variable
    `FASTHASH_GPU_SCAN`, set to `popcount` or `tensor`, forces one of the two for indices made after it is set. What a
    search prepares for an `IdFilter` is kept on the GPU: the codes of a narrow filter, or a bit for each code.

    Attributes:
        device: number of the GPU.
    """

    def search(self, queries: Any, k: int = 10, *, allow: Allow = None) -> SearchResult:
        """Find the k nearest codes of each query, ordered by (distance, id), exactly.

        Args:
            queries: uint8 `(nq, n_bits / 8)`, on the CPU or on this GPU.
            k: number of neighbours, at least 1.
            allow: ids that the search may return, as in `FlatIndex.search`.

        Returns:
            Distances int32 and ids int64, both `(nq, k)`, on the device of the queries. Distance n_bits + 1 and id -1
            fill the row if the search finds fewer than k codes.

        Raises:
            TypeError: wrong dtype of `queries` or `allow`, or `k` is not an integer.
            ValueError: wrong shape, `k` < 1, or the queries are on another GPU.
            MemoryError: the GPU has too little memory; the index remains usable.
            RuntimeError: the GPU failed.
        """
        return self._search(queries, k, allow)


class GpuHierIndex(_GpuIndex):
    """A `HierIndex` on a GPU, made by `HierIndex.to`; the description of `GpuFlatIndex` applies.

    The GPU holds distinct codes once, in the order of the CPU index. Batches visit clusters, where the plan of the CPU
    index is clusters; else, and where clusters save too little, all codes are compared. `FASTHASH_GPU_PLAN`, set to
    `scan` or `clusters`, forces one of the two for indices made after it is set. The first pruned search after a change
    lists the nodes of the levels on the CPU.
    """

    def search(
        self,
        queries: Any,
        k: int = 10,
        *,
        keep: float | None = None,
        keep_mode: KeepMode = "node_ratio",
        allow: Allow = None,
    ) -> SearchResult:
        """Find the k nearest codes, as `GpuFlatIndex.search`; with `keep`, run the pruned search of `HierIndex.search`.

        A pruned search with `allow` copies the allowed codes into an index of their own, which an `IdFilter` keeps.
        """
        check_choice("keep_mode", keep_mode, KEEP_MODES)
        if keep is not None:
            keep = check_fraction("keep", keep)
            if len(self.level_bits) == 1:  # nothing to prune
                keep = None
        return self._search(queries, k, allow, keep, list(KEEP_MODES).index(keep_mode))


def check_device(device: Any) -> int | None:
    """Return the number of the GPU that `"cuda"`, `"cuda:1"` or a torch.device names; None for the CPU."""
    text = str(device)
    match = re.fullmatch(r"cuda(?::(\d+))?", text)
    if text != "cpu" and match is None:
        raise ValueError(f"device must be 'cpu', 'cuda' or 'cuda:N', got {device!r}")
    return None if match is None else int(match[1] or 0)


def _cuda() -> ModuleType:
    try:
        return importlib.import_module("fasthash._cuda")
    except ImportError as error:
        raise RuntimeError(
            "this fasthash was built without CUDA; install it from source with pip's option "
            "-C cmake.define.FASTHASH_CUDA=ON, which needs nvcc"
        ) from error


def _room_for_codes(device: int) -> int:
    """Return the bytes of GPU memory that codes may take: the free memory less a reserve for searches."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()  # releases memory that torch keeps unused
    n_free = int(_cuda().free_bytes(device))
    return n_free - min(2 << 30, n_free // 4)
