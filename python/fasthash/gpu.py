"""`GpuFlatIndex` and `GpuHierIndex`: searches on a GPU, with the results of the CPU indices, byte for byte."""

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
KEEP_MODES = ("node_ratio", "gallery_ratio", "radius")  # the order of the core's enum


class _GpuIndex:
    """Base class of both GPU indices."""

    _tree: bool

    def __init__(self, index: Index, device: int, max_bytes: int | None = None) -> None:
        self._index = index.copy()
        self.device = device
        self._max_bytes = None if max_bytes is None else check_int("max_bytes", max_bytes, minimum=0)
        self._lock = ChangeLock()  # one change at a time
        self._gallery = self._built(self._index)

    def _built(self, index: Index) -> tuple[Gallery, WeakKeyDictionary[IdFilter, AllowedIds]]:
        """Copy the codes of an index to the GPU.

        Returns:
            The codes on the GPU, and an empty cache of the sets of allowed ids, one for each `IdFilter`.
        """
        codes, ids = index.to_arrays()
        first_id = int(ids[0]) if len(ids) else 0
        consecutive = len(ids) == 0 or int(ids[-1]) - first_id == len(ids) - 1
        max_bytes = _room_for_codes(self.device) if self._max_bytes is None else self._max_bytes
        gallery = _cuda().Gallery(
            self.device, codes, None if consecutive else ids, first_id, list(self.level_bits), self._tree, max_bytes
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
        """Bytes of GPU memory for codes and ids."""
        return int(self._gallery[0].nbytes())

    @property
    def streamed(self) -> bool:
        """Whether the codes are in pinned memory of the host because they exceed the GPU memory."""
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
        """Return the index on a device, as `FlatIndex.to` does; `"cpu"` returns a copy of the index on the CPU."""
        number = check_device(device)
        if number == self.device:
            return self
        return self._index.copy() if number is None else type(self)(self._index, number, self._max_bytes)

    def add(self, codes: ArrayLike, ids: ArrayLike | None = None) -> None:
        """Add codes, as `FlatIndex.add`; copies all codes to the GPU again."""
        self._change("add", lambda index: index.add(codes, ids))

    def remove(self, ids: ArrayLike) -> None:
        """Remove codes, as `FlatIndex.remove`; copies all codes to the GPU again."""
        self._change("remove", lambda index: index.remove(ids))

    def update(self, ids: ArrayLike, codes: ArrayLike) -> None:
        """Replace codes, as `FlatIndex.update`; copies all codes to the GPU again."""
        self._change("update", lambda index: index.update(ids, codes))

    def reconstruct(self, ids: ArrayLike) -> NDArray[np.uint8]:
        """Return the codes of some ids, as `FlatIndex.reconstruct`; runs on the CPU."""
        return self._index.reconstruct(ids)

    def to_arrays(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return all codes and ids, as `FlatIndex.to_arrays`; runs on the CPU."""
        return self._index.to_arrays()

    def _search(self, queries: Any, k: int, allow: Any) -> SearchResult:
        k = check_int("k", k, minimum=1, maximum=_MAX_K)
        gallery, allowed = self._prepared(allow)
        gpu_queries = _on_gpu(queries, self.n_bits // 8, self.device)
        if gpu_queries is None:
            return SearchResult(*gallery.search(check_codes("queries", queries, self.n_bits // 8), k, allowed))
        distances, ids = _room(gpu_queries, len(gpu_queries), k)
        gallery.search_on_gpu(
            gpu_queries.data_ptr(),
            len(gpu_queries),
            k,
            allowed,
            distances.data_ptr(),
            ids.data_ptr(),
            _stream(gpu_queries),
        )
        return SearchResult(distances, ids)

    def count_within(self, queries: Any, radius: int, *, allow: Allow = None) -> NDArray[np.int64]:
        """Count the codes within a radius of each query; arguments and errors as in `search`.

        Returns:
            int64 numpy array `(nq,)`.
        """
        radius = min(check_int("radius", radius, minimum=0), self.n_bits)
        gallery, allowed = self._prepared(allow)
        counts: NDArray[np.int64]
        gpu_queries = _on_gpu(queries, self.n_bits // 8, self.device)
        if gpu_queries is None:
            counts = gallery.count_within(check_codes("queries", queries, self.n_bits // 8), radius, allowed)
        else:
            counts = gallery.count_within_on_gpu(
                gpu_queries.data_ptr(), len(gpu_queries), radius, allowed, _stream(gpu_queries)
            )
        return counts

    def range_search(self, queries: Any, radius: int, *, allow: Allow = None) -> RangeResult:
        """Find all codes within a radius of each query, ordered by (distance, id); arguments and errors as in `search`.

        Returns:
            `RangeResult`. Distances and ids are on the device of the queries; the offsets are a numpy array.
        """
        radius = min(check_int("radius", radius, minimum=0), self.n_bits)
        gallery, allowed = self._prepared(allow)  # one gallery for both passes, even if the index changes meanwhile
        gpu_queries = _on_gpu(queries, self.n_bits // 8, self.device)
        if gpu_queries is None:
            array = check_codes("queries", queries, self.n_bits // 8)
            offsets = _offsets(gallery.count_within(array, radius, allowed))
            return RangeResult(offsets, *gallery.range_search(array, radius, allowed, offsets))
        arguments = gpu_queries.data_ptr(), len(gpu_queries), radius, allowed
        offsets = _offsets(gallery.count_within_on_gpu(*arguments, _stream(gpu_queries)))
        distances, ids = _room(gpu_queries, int(offsets[-1]))
        gallery.range_search_on_gpu(*arguments, offsets, distances.data_ptr(), ids.data_ptr(), _stream(gpu_queries))
        return RangeResult(offsets, distances, ids)

    def _change(self, name: str, change: Any) -> None:
        """Change a copy of the index and replace both; if the GPU has too little memory, nothing changes."""
        with self._lock(name):
            index = self._index.copy()
            change(index)
            self._gallery = self._built(index)
            self._index = index

    def _prepared(self, allow: Any) -> tuple[Gallery, AllowedIds | None]:
        """Return the codes on the GPU, and the ids that `allow` names; those of an `IdFilter` are cached."""
        gallery, cache = self._gallery
        if allow is None:
            return gallery, None
        if not isinstance(allow, IdFilter):
            return gallery, gallery.allowed(core_filter("allow", allow, self._index._impl.next_id()))
        allowed = cache.get(allow)
        if allowed is None:
            allowed = cache[allow] = gallery.allowed(allow._impl)
        return gallery, allowed


class GpuFlatIndex(_GpuIndex):
    """A `FlatIndex` on a GPU, made by `FlatIndex.to`.

    The index keeps a copy of the CPU index. A change is made on the CPU copy, and then all codes are copied to the GPU
    again.

    Queries may be on the CPU: numpy arrays, or anything that numpy can read; the results are numpy arrays. Queries may
    be on this GPU: CUDA tensors of torch, or objects with `__cuda_array_interface__` or `__dlpack__`; the results are
    CUDA tensors of torch. GPU queries are not copied and are read in the order of torch's current stream. One search
    runs at a time.

    Tensor cores compare batches; popcounts compare few queries and unusual widths. The environment variable
    `FASTHASH_GPU_SCAN`, set to `popcount` or `tensor`, forces one of the two for indices made after it is set. An
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

    The GPU stores distinct codes once, sorted. A search visits their prefixes, nearest first. If it would compare more
    than a quarter of the codes, it scans all of them instead. Searches by radius always scan.
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
        """Find the k nearest codes, as `GpuFlatIndex.search`; with `keep`, run the pruned search of `HierIndex.search`.

        The CPU runs pruned searches with `allow`, and the queries that need more memory than the GPU has free.
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


def _on_gpu(queries: Any, n_bytes: int, device: int) -> torch.Tensor | None:
    """Return queries in GPU memory as a tensor, without a copy; None if they are on the CPU."""
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
    dlpack_device = getattr(queries, "__dlpack_device__", None)
    if dlpack_device is not None and dlpack_device()[0] == 2:  # kDLCUDA; from_dlpack also orders the streams
        import torch.utils.dlpack

        return torch.utils.dlpack.from_dlpack(queries)
    interface = getattr(queries, "__cuda_array_interface__", None)
    if interface is None:
        return None
    import torch

    if interface.get("stream") is not None:  # a kernel may still be writing the queries
        torch.cuda.synchronize(device)
    return torch.as_tensor(queries, device=f"cuda:{device}")


def _offsets(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(counts)))


def _room(gpu_queries: torch.Tensor, *shape: int) -> tuple[Any, Any]:
    """Allocate distances and ids of this shape on the device of the queries."""
    torch = sys.modules["torch"]
    options = {"device": gpu_queries.device}
    return torch.empty(shape, dtype=torch.int32, **options), torch.empty(shape, dtype=torch.int64, **options)


def _stream(tensor: torch.Tensor) -> int:
    """Return torch's current stream; the queries are written in its order."""
    return int(sys.modules["torch"].cuda.current_stream(tensor.device).cuda_stream)
