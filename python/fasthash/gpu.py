"""`GpuFlatIndex` and `GpuHierIndex`: searches on a GPU, with the results of the CPU indices, byte for byte."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fasthash._checks import check_int, check_queries
from fasthash._gpu_arrays import offsets_of, on_gpu, room_for, stream_of, to_gpu
from fasthash._gpu_copy import GpuCopy, check_devices
from fasthash._index_base import Index
from fasthash._index_options import KEEP_MODES, MAX_K, Allow, KeepMode, Memory, Metric, StrPath, check_k, check_keep
from fasthash._locks import ChangeLock
from fasthash._query_filters import are_query_filters, search_by_filter
from fasthash._shown import counted
from fasthash.results import RangeResult, SearchResult

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["GpuFlatIndex", "GpuHierIndex", "check_devices"]


class _GpuIndex:
    """Base class of both GPU indices."""

    def __init__(self, index: Index, devices: tuple[int, ...], max_bytes: int | None = None) -> None:
        self._lock = ChangeLock()  # one change at a time
        max_bytes = None if max_bytes is None else check_int("max_bytes", max_bytes, minimum=0)
        self._copy = GpuCopy(index.copy(), devices, max_bytes)

    def _copied(self, index: Index) -> GpuCopy:
        """Copy what the GPUs do not hold yet of a changed index."""
        return GpuCopy(index, self._copy.devices, self._copy.max_bytes, self._copy)

    @property
    def _index(self) -> Index:
        return self._copy.index

    @property
    def devices(self) -> tuple[int, ...]:
        """Numbers of the GPUs; each holds a share of the codes."""
        return self._copy.devices

    @property
    def device(self) -> int:
        """Number of the GPU; of several, the first."""
        return self.devices[0]

    @property
    def n_bits(self) -> int:
        """Width of a code in bits."""
        return self._index.n_bits

    @property
    def level_bits(self) -> tuple[int, ...]:
        """Widths of the levels in bits, coarse first; a flat index has one."""
        return self._index.level_bits

    @property
    def metric(self) -> Metric:
        """Distance between codes: `"hamming"` or `"jaccard"`."""
        return self._index.metric

    @property
    def nbytes(self) -> int:
        """Bytes of GPU memory for codes and ids."""
        return self._copy.nbytes

    @property
    def ntotal(self) -> int:
        """Number of codes, the same as `len(index)`."""
        return len(self._index)

    @property
    def streamed(self) -> bool:
        """Whether codes are in pinned memory of the host because they exceed the GPU memory."""
        return any(gallery.streamed() for gallery in self._copy.galleries)

    def __len__(self) -> int:
        return len(self._index)

    def __bool__(self) -> bool:
        return True

    def __contains__(self, id: Any) -> bool:
        return id in self._index

    def __repr__(self) -> str:
        settings = f"level_bits={self.level_bits}{self._index._shown_metric()}, device={self._device_name()!r}"
        return f"{type(self).__name__}({settings}) with {counted(len(self), 'code')}"

    def _device_name(self) -> str | list[str]:
        names = [f"cuda:{number}" for number in self.devices]
        return names[0] if len(names) == 1 else names

    def to(self, device: Any, *, max_bytes: int | None = None) -> Any:
        """Return the index on a device, as `FlatIndex.to` does; `"cpu"` returns a copy of the index on the CPU."""
        devices = check_devices(device, max_bytes)
        if devices is None:
            return self._index.copy()
        same = devices == self.devices and max_bytes in (None, self._copy.max_bytes)
        return self if same else type(self)(self._index, devices, max_bytes)

    def copy(self) -> Self:
        """Return an independent index with the same codes; the two share unchanged segments on the GPU."""
        copied = type(self).__new__(type(self))
        copied._copy, copied._lock = self._copy, ChangeLock()
        return copied

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self.copy()

    def __reduce__(self) -> tuple[Any, ...]:
        copy = self._copy
        return type(self), (copy.index, copy.devices, copy.max_bytes)

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

    def clear(self) -> None:
        """Remove all codes, as `FlatIndex.clear`, and free their memory on the GPU."""
        self._change("clear", lambda index: index.clear())

    def compact(self) -> None:
        """Merge all segments into one, as `FlatIndex.compact`, and send it to the GPU."""
        self._change("compact", lambda index: index.compact())

    def reconstruct(self, ids: ArrayLike) -> NDArray[np.uint8]:
        """Return the codes of some ids, as `FlatIndex.reconstruct`; runs on the CPU."""
        return self._index.reconstruct(ids)

    def ids(self) -> NDArray[np.int64]:
        """Return all ids, as `FlatIndex.ids`; runs on the CPU."""
        return self._index.ids()

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
        return self._index.stats() | {"device": self._device_name(), "gpu_nbytes": self.nbytes}

    def _queries(self, queries: Any) -> Any:
        """Return queries in the memory of the GPU; None if they are on the CPU."""
        return on_gpu(queries, self.n_bits, self.devices)

    def _array(self, queries: Any) -> NDArray[np.uint8]:
        return check_queries(queries, self.n_bits)

    def _search_each(self, queries: Any, allow: Sequence[Any], search: Callable[[_GpuIndex, Any, Any], Any]) -> Any:
        """Search with a filter for each query; `search(index, queries, allow)` is a search with one filter.

        Queries on the GPU are copied to the CPU, and distances and ids back.
        """
        gpu_queries, held = self._queries(queries), self.copy()  # one state for all searches
        array = self._array(queries if gpu_queries is None else gpu_queries.cpu().numpy())
        result = search_by_filter(allow, array, lambda some, one: search(held, some, one))
        if gpu_queries is None or isinstance(result, np.ndarray):  # counts are always on the CPU
            return result
        return result._replace(distances=to_gpu(result.distances, gpu_queries), ids=to_gpu(result.ids, gpu_queries))

    def _search(self, queries: Any, k: int, allow: Any, keep: float | None = None, mode: int = 0) -> SearchResult:
        k = check_int("k", k, minimum=1, maximum=MAX_K)
        if are_query_filters(allow):
            return self._search_each(queries, allow, lambda held, some, one: held._search(some, k, one, keep, mode))
        searched = self._copy.searched(allow, keep is not None)
        gpu_queries = self._queries(queries)
        if gpu_queries is None:
            array = self._array(queries)
            return searched.search(array, check_k(k, len(array)), keep, mode)
        distances, ids = room_for(gpu_queries, self.metric, len(gpu_queries), k)
        searched.copy.galleries[0].search_on_gpu(
            gpu_queries.data_ptr(),
            len(gpu_queries),
            k,
            searched.allowed[0],
            None if keep is None else searched.copy.levels[0],
            1.0 if keep is None else keep,
            mode,
            distances.data_ptr(),
            ids.data_ptr(),
            stream_of(gpu_queries),
        )
        return SearchResult(distances, ids)

    def count_within(self, queries: Any, radius: float, *, allow: Allow = None) -> NDArray[np.int64]:
        """Count the codes within a radius of each query; arguments and errors as in `FlatIndex.count_within`.

        Returns:
            int64 numpy array `(nq,)`.
        """
        within = self._index._radius(radius)
        if are_query_filters(allow):
            return self._search_each(queries, allow, lambda held, some, one: held.count_within(some, within, allow=one))
        searched = self._copy.searched(allow)
        gpu_queries = self._queries(queries)
        if gpu_queries is None:
            return searched.count_within(self._array(queries), within)
        return searched.copy.galleries[0].count_within_on_gpu(
            gpu_queries.data_ptr(), len(gpu_queries), within, searched.allowed[0], stream_of(gpu_queries)
        )

    def range_search(self, queries: Any, radius: float, *, allow: Allow = None) -> RangeResult:
        """Find all codes within a radius of each query, by (distance, id); arguments as in `FlatIndex.range_search`.

        Returns:
            `RangeResult`. Distances and ids are on the device of the queries; the offsets are a numpy array.
        """
        within = self._index._radius(radius)
        if are_query_filters(allow):
            return self._search_each(queries, allow, lambda held, some, one: held.range_search(some, within, allow=one))
        searched = self._copy.searched(allow)  # the same for both passes, even if the index changes meanwhile
        gpu_queries = self._queries(queries)
        if gpu_queries is None:
            return searched.range_search(self._array(queries), within)
        gallery, stream = searched.copy.galleries[0], stream_of(gpu_queries)
        arguments = gpu_queries.data_ptr(), len(gpu_queries), within, searched.allowed[0]
        offsets = offsets_of(gallery.count_within_on_gpu(*arguments, stream))
        distances, ids = room_for(gpu_queries, self.metric, int(offsets[-1]))
        gallery.range_search_on_gpu(*arguments, offsets, distances.data_ptr(), ids.data_ptr(), stream)
        return RangeResult(offsets, distances, ids)

    def _change(self, name: str, change: Callable[[Index], object]) -> None:
        """Change a copy of the index and replace both; if the GPU has too little memory, nothing changes."""
        with self._lock(name):
            index = self._index.copy()
            change(index)
            self._copy = self._copied(index)


class GpuFlatIndex(_GpuIndex):
    """A `FlatIndex` on a GPU, made by `FlatIndex.to`.

    The index keeps a copy of the CPU index, which shares memory, or a mapped file, with the index that it was made of.
    A change is made on the CPU copy; then the segments that are new are sent to the GPU.

    Queries may be on the CPU: numpy arrays, or anything that numpy can read; the results are numpy arrays. Queries may
    be on this GPU: CUDA tensors of torch, or objects with `__cuda_array_interface__` or `__dlpack__`; the results are
    CUDA tensors of torch. GPU queries are read in the order of torch's current stream.

    Tensor cores compare batches; popcounts compare few queries, unusual widths, and codes by Jaccard distance. The
    environment variable `FASTHASH_GPU_SCAN`, set to `popcount` or `tensor`, forces one of the two, where both can, for
    indices made after it is set. What a search prepares for an `IdFilter` is kept on the GPU: the codes of a narrow
    filter, or a bit for each code.

    An index on several GPUs, made with a list of devices, has a share of the codes on each. Its queries and results are
    on the CPU, where the results of the GPUs are merged.
    """

    def search(self, queries: Any, k: int = 10, *, allow: Allow = None) -> SearchResult:
        """Find the k nearest codes of each query, ordered by (distance, id), exactly.

        Args:
            queries: uint8 `(nq, n_bits / 8)`, on the CPU or on this GPU.
            k: number of neighbours, at least 1.
            allow: ids that the search may return, as in `FlatIndex.search`.

        Returns:
            Distances int32 (float32 with the metric `"jaccard"`) and ids int64, both `(nq, k)`, on the device of the
            queries. Distance n_bits + 1 (infinity) and id -1 fill the row if the search finds fewer than k codes.

        Raises:
            TypeError: wrong dtype of `queries` or `allow`, or `k` is not an integer.
            ValueError: wrong shape, `k` < 1, or the queries are on another GPU, or on one of several.
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

    @property
    def memory(self) -> Memory:
        """Memory budget of the index on the CPU, as `HierIndex.memory`."""
        memory: Memory = cast("Any", self._index).memory  # a HierIndex, which imports this module
        return memory

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
        keep = check_keep(keep, keep_mode)
        if keep is not None:
            self._index._needs_hamming("keep")
        if len(self.level_bits) == 1:  # nothing to prune
            keep = None
        return self._search(queries, k, allow, keep, list(KEEP_MODES).index(keep_mode))
