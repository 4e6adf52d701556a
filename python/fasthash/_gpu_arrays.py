"""Queries and results in the memory of a GPU, as tensors of torch."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fasthash._checks import check_codes, code_bytes
from fasthash._index_options import Metric

if TYPE_CHECKING:
    import torch

__all__ = ["offsets_of", "on_gpu", "room_for", "stream_of", "to_gpu"]


@contextlib.contextmanager
def _memory_errors() -> Iterator[None]:
    """Raise `MemoryError`, as the module _cuda does, where torch finds too little memory."""
    try:
        yield
    except RuntimeError as error:
        torch = sys.modules.get("torch")
        if torch is None or not isinstance(error, torch.cuda.OutOfMemoryError):
            raise
        raise MemoryError(f"memory of the GPU: {error}") from error


@_memory_errors()
def on_gpu(queries: Any, n_bits: int, devices: tuple[int, ...]) -> torch.Tensor | None:
    """Return queries in GPU memory as a tensor, without a copy; None if they are on the CPU."""
    device = devices[0]
    tensor = _tensor_on_gpu(queries, device)
    if tensor is None:
        return None
    torch = sys.modules["torch"]
    if tensor.dtype != torch.uint8:
        raise TypeError(f"queries must be uint8, got {tensor.dtype}")
    n_bytes = code_bytes(n_bits)
    if tuple(tensor.shape) == (n_bytes,):
        tensor = tensor[None]  # one code is a batch of one
    if tensor.ndim != 2 or tensor.shape[1] != n_bytes:
        raise ValueError(f"queries must have shape (nq, {n_bytes}), got {tuple(tensor.shape)}")
    if len(devices) > 1:
        raise ValueError(f"queries must be on the CPU, since the index is on {len(devices)} GPUs, got {tensor.device}")
    if tensor.device.index != device:
        raise ValueError(f"queries must be on the CPU or on cuda:{device}, where the index is, got {tensor.device}")
    if n_bits % 8 and (tensor[:, -1] & (255 >> n_bits % 8)).any():  # waits for the queries; few widths have padding
        check_codes("queries", tensor.cpu().numpy(), n_bits)  # raises
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


def offsets_of(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the places in a range search's result where each query begins, and the number of results."""
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(counts)))


@_memory_errors()
def room_for(gpu_queries: torch.Tensor, metric: Metric, *shape: int) -> tuple[Any, Any]:
    """Allocate distances of this metric, and ids, of this shape on the device of the queries."""
    torch = sys.modules["torch"]
    options = {"device": gpu_queries.device}
    distance = torch.float32 if metric == "jaccard" else torch.int32
    return torch.empty(shape, dtype=distance, **options), torch.empty(shape, dtype=torch.int64, **options)


@_memory_errors()
def to_gpu(array: NDArray[Any], gpu_queries: torch.Tensor) -> Any:
    """Copy a result to the device of the queries."""
    return sys.modules["torch"].from_numpy(array).to(gpu_queries.device)


def stream_of(tensor: torch.Tensor) -> int:
    """Return torch's current stream; the queries are written in its order."""
    return int(sys.modules["torch"].cuda.current_stream(tensor.device).cuda_stream)
