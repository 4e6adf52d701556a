"""Indices on a GPU: the same searches with the same results, byte for byte."""

from __future__ import annotations

import importlib
import re
import sys
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fasthash._checks import check_choice, check_codes, check_fraction, check_int
from fasthash._index_base import Index
from fasthash._index_options import Allow, KeepMode
from fasthash._locks import ChangeLock
from fasthash._shown import counted
from fasthash.filters import IdFilter, core_filter
from fasthash.results import RangeResult, SearchResult

if TYPE_CHECKING:
    import torch

    from fasthash._cuda import AllowedIds, Gallery

__all__ = ["GpuFlatIndex", "GpuHierIndex", "check_device"]

_MAX_K = 2**31 - 1
KEEP_MODES = ("node_ratio", "gallery_ratio", "radius")  # in the order of the core


class _GpuIndex:
    """What both share."""

    _tree: bool

    def __init__(self, index: Index, device: int, max_bytes: int | None = None) -> None:
        self._index = index.copy()
        self.device = device
        self._max_bytes = None if max_bytes is None else check_int("max_bytes", max_bytes, minimum=0)
        self._lock = ChangeLock()  # changes take turns
        self._gallery = self._built(self._index)

    def _built(self, index: Index) -> tuple[Gallery, WeakKeyDictionary[IdFilter, AllowedIds]]:
        """The codes of an index on the GPU, and what filters allow of them: prepared once for those used again."""
        codes, ids = index.to_arrays()
        first_id = int(ids[0]) if len(ids) else 0
        follow = len(ids) == 0 or int(ids[-1]) - first_id == len(ids) - 1
        room = _room_for_codes(self.device) if self._max_bytes is None else self._max_bytes
        gallery = _cuda().Gallery(
            self.device, codes, None if follow else ids, first_id, list(self.level_bits), self._tree, room
        )
        return gallery, WeakKeyDictionary()

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
        """Bytes of the GPU's memory that codes and ids take."""
        return int(self._gallery[0].nbytes())

    @property
    def streamed(self) -> bool:
        """Whether the codes stay in pinned memory of the host because the GPU's is too small for them."""
        return bool(self._gallery[0].streamed())

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
        """The index on a device, as of `FlatIndex.to`; with `"cpu"` a copy of the index that it came from."""
        number = check_device(device)
        if number == self.device:
            return self
        return self._index.copy() if number is None else type(self)(self._index, number, self._max_bytes)

    def add(self, codes: ArrayLike, ids: ArrayLike | None = None) -> None:
        """As `FlatIndex.add`; the codes on the GPU are built anew."""
        self._change("add", lambda index: index.add(codes, ids))

    def remove(self, ids: ArrayLike) -> None:
        """As `FlatIndex.remove`; the codes on the GPU are built anew."""
        self._change("remove", lambda index: index.remove(ids))

    def update(self, ids: ArrayLike, codes: ArrayLike) -> None:
        """As `FlatIndex.update`; the codes on the GPU are built anew."""
        self._change("update", lambda index: index.update(ids, codes))

    def reconstruct(self, ids: ArrayLike) -> NDArray[np.uint8]:
        """As `FlatIndex.reconstruct`, from the CPU."""
        return self._index.reconstruct(ids)

    def to_arrays(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """As `FlatIndex.to_arrays`, from the CPU."""
        return self._index.to_arrays()

    def _search(self, queries: Any, k: int, allow: Any) -> SearchResult:
        k = check_int("k", k, minimum=1, maximum=_MAX_K)
        gallery, only = self._prepared(allow)
        gpu_queries = _on_gpu(queries, self.n_bits // 8, self.device)
        if gpu_queries is None:
            return SearchResult(*gallery.search(check_codes("queries", queries, self.n_bits // 8), k, only))
        distances, ids = _room(gpu_queries, len(gpu_queries), k)
        gallery.search_on_gpu(
            gpu_queries.data_ptr(),
            len(gpu_queries),
            k,
            only,
            distances.data_ptr(),
            ids.data_ptr(),
            _stream(gpu_queries),
        )
        return SearchResult(distances, ids)

    def count_within(self, queries: Any, radius: int, *, allow: Allow = None) -> NDArray[np.int64]:
        """Count the codes within a radius of each query; arguments and errors as of `search`.

        Returns:
            int64 array `(nq,)`, of numpy.
        """
        radius = min(check_int("radius", radius, minimum=0), self.n_bits)
        gallery, only = self._prepared(allow)
        counts: NDArray[np.int64]
        gpu_queries = _on_gpu(queries, self.n_bits // 8, self.device)
        if gpu_queries is None:
            counts = gallery.count_within(check_codes("queries", queries, self.n_bits // 8), radius, only)
        else:
            counts = gallery.count_within_on_gpu(
                gpu_queries.data_ptr(), len(gpu_queries), radius, only, _stream(gpu_queries)
            )
        return counts

    def range_search(self, queries: Any, radius: int, *, allow: Allow = None) -> RangeResult:
        """Find all codes within a radius of each query, ordered by (distance, id); arguments and errors as of `search`.

        Returns:
            `RangeResult`, whose distances and ids are where the queries are; the offsets are of numpy.
        """
        radius = min(check_int("radius", radius, minimum=0), self.n_bits)
        gallery, only = self._prepared(allow)  # the same for counting and for finding, whatever is changed meanwhile
        gpu_queries = _on_gpu(queries, self.n_bits // 8, self.device)
        if gpu_queries is None:
            array = check_codes("queries", queries, self.n_bits // 8)
            offsets = _offsets(gallery.count_within(array, radius, only))
            return RangeResult(offsets, *gallery.range_search(array, radius, only, offsets))
        place = gpu_queries.data_ptr(), len(gpu_queries), radius, only
        offsets = _offsets(gallery.count_within_on_gpu(*place, _stream(gpu_queries)))
        distances, ids = _room(gpu_queries, int(offsets[-1]))
        gallery.range_search_on_gpu(*place, offsets, distances.data_ptr(), ids.data_ptr(), _stream(gpu_queries))
        return RangeResult(offsets, distances, ids)

    def _change(self, name: str, change: Any) -> None:
        """Nothing is changed if the GPU has no room for it."""
        with self._lock(name):
            index = self._index.copy()
            change(index)
            self._gallery = self._built(index)
            self._index = index

    def _prepared(self, allow: Any) -> tuple[Gallery, AllowedIds | None]:
        """The gallery, and what a filter allows of it."""
        gallery, kept = self._gallery
        if allow is None:
            return gallery, None
        if not isinstance(allow, IdFilter):
            return gallery, gallery.allowed(core_filter("allow", allow, self._index._impl.next_id()))
        only = kept.get(allow)
        if only is None:
            only = kept[allow] = gallery.allowed(allow._impl)
        return gallery, only


class GpuFlatIndex(_GpuIndex):
    """A `FlatIndex` on a GPU, as `FlatIndex.to` makes it.

    The index on the CPU stays behind it: it is changed on the CPU, and the codes on the GPU are built anew.

    Queries are numpy arrays or anything that numpy takes, with results of numpy; or memory of this GPU, such as CUDA
    tensors of torch and all that has `__cuda_array_interface__` or `__dlpack__`, which is read where it is, in the
    order of torch's current stream; results are CUDA tensors of torch then. One search runs at a time.

    Batches are compared by the tensor cores' products of bits, few queries and unusual widths by popcounts;
    `FASTHASH_GPU_SCAN=popcount` or `tensor` in the environment forces one of them for indices made from then on. An
    `IdFilter` is sent to the GPU once.

    Attributes:
        device: number of the GPU.
    """

    _tree = False

    def search(self, queries: Any, k: int = 10, *, allow: Allow = None) -> SearchResult:
        """Find the k nearest codes of each query, ordered by (distance, id), exactly.

        Args:
            queries: uint8 `(nq, n_bits / 8)`, on the CPU or on this GPU.
            k: number of neighbours, at least 1.
            allow: only these ids, as of `FlatIndex.search`.

        Returns:
            Distances int32 and ids int64, both `(nq, k)`, where the queries are; n_bits + 1 and -1 where fewer than k
            codes were found.

        Raises:
            TypeError: wrong dtype of `queries` or `allow`, or `k` is not an integer.
            ValueError: wrong shape, `k` < 1, or the queries are on another GPU.
            MemoryError: the GPU has too little memory; the index can be used as before.
            RuntimeError: the GPU failed.
        """
        return self._search(queries, k, allow)


class GpuHierIndex(_GpuIndex):
    """A `HierIndex` on a GPU, as `HierIndex.to` makes it; all that is said of `GpuFlatIndex` holds.

    The GPU keeps distinct codes once, in their order. A search opens their prefixes from the nearest on; one that would
    compare more than a quarter of the codes compares all of them instead. Searches by radius compare all.
    """

    _tree = True

    def search(
        self,
        queries: Any,
        k: int = 10,
        *,
        keep: float | None = None,
        keep_mode: KeepMode = "node_ratio",
        allow: Allow = None,
    ) -> SearchResult:
        """As `GpuFlatIndex.search`; with `keep` HDHash's pruned search, as `HierIndex.search`.

        Pruned searches with `allow`, and queries for which the GPU has no room, are left to the CPU.
        """
        check_choice("keep_mode", keep_mode, KEEP_MODES)
        if keep is not None:
            keep = check_fraction("keep", keep)
        if keep is None or len(self.level_bits) == 1:  # one level leaves nothing to prune
            return self._search(queries, k, allow)
        k, on_cpu = check_int("k", k, minimum=1, maximum=_MAX_K), allow is not None or len(self) == 0
        mode = list(KEEP_MODES).index(keep_mode)
        prune = partial(cast(Any, self._index).search, k=k, keep=keep, keep_mode=keep_mode, allow=allow)
        gallery, _ = self._gallery
        gpu_queries = _on_gpu(queries, self.n_bits // 8, self.device)
        if gpu_queries is None:
            array = check_codes("queries", queries, self.n_bits // 8)
            if on_cpu:
                return prune(array)
            distances, ids, failed = gallery.search_pruned(array, k, keep, mode)
            if failed.any():
                distances[failed], ids[failed] = prune(array[failed])
            return SearchResult(distances, ids)
        torch = sys.modules["torch"]
        distances, ids = _room(gpu_queries, len(gpu_queries), k)
        failed = np.ones(len(gpu_queries), bool)
        if not on_cpu:
            failed = gallery.search_pruned_on_gpu(
                gpu_queries.data_ptr(),
                len(gpu_queries),
                k,
                keep,
                mode,
                distances.data_ptr(),
                ids.data_ptr(),
                _stream(gpu_queries),
            )
        if failed.any():
            rows = torch.from_numpy(failed).to(gpu_queries.device)
            result = prune(gpu_queries[rows].cpu().numpy())
            distances[rows], ids[rows] = (torch.from_numpy(part).to(gpu_queries.device) for part in result)
        return SearchResult(distances, ids)


def check_device(device: Any) -> int | None:
    """Number of the GPU that `"cuda"`, `"cuda:1"` or a torch.device means; None for the CPU."""
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
    """Bytes of a GPU's memory that codes may take: what is free, but for what searches need."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()  # gives back what torch keeps without using it
    n_free = int(_cuda().free_bytes(device))
    return n_free - min(2 << 30, n_free // 4)


def _on_gpu(queries: Any, n_bytes: int, device: int) -> torch.Tensor | None:
    """Queries in the memory of a GPU as a tensor, without a copy; None where they are on the CPU."""
    tensor = _tensor_on_gpu(queries, device)
    if tensor is None:
        return None
    torch = sys.modules["torch"]
    if tensor.dtype != torch.uint8:
        raise TypeError(f"queries must be uint8, got {tensor.dtype}")
    if tensor.ndim != 2 or tensor.shape[1] != n_bytes:
        raise ValueError(f"queries must have shape (nq, {n_bytes}), got {tuple(tensor.shape)}")
    if tensor.device.index != device:
        raise ValueError(f"queries must be on the CPU or on cuda:{device}, where the index is, got {tensor.device}")
    return tensor.contiguous()


def _tensor_on_gpu(queries: Any, device: int) -> torch.Tensor | None:
    if isinstance(queries, np.ndarray):
        return None
    torch_if_loaded: Any = sys.modules.get("torch")
    if torch_if_loaded is not None and isinstance(queries, torch_if_loaded.Tensor):
        return queries if queries.is_cuda else None
    placed = getattr(queries, "__dlpack_device__", None)
    if placed is not None and placed()[0] == 2:  # kDLCUDA; it orders the streams, too
        import torch.utils.dlpack

        return torch.utils.dlpack.from_dlpack(queries)
    interface = getattr(queries, "__cuda_array_interface__", None)
    if interface is None:
        return None
    import torch

    if interface.get("stream") is not None:  # what writes the queries may be under way
        torch.cuda.synchronize(device)
    return torch.as_tensor(queries, device=f"cuda:{device}")


def _offsets(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(counts)))


def _room(gpu_queries: torch.Tensor, *shape: int) -> tuple[Any, Any]:
    """Distances and ids of this shape, to be written, on the device of a tensor."""
    torch = sys.modules["torch"]
    options = {"device": gpu_queries.device}
    return torch.empty(shape, dtype=torch.int32, **options), torch.empty(shape, dtype=torch.int64, **options)


def _stream(tensor: torch.Tensor) -> int:
    """torch's current stream, in the order of which the queries are written."""
    return int(sys.modules["torch"].cuda.current_stream(tensor.device).cuda_stream)
