"""The torch implementation of `fasthash.metrics.histograms`, for GPUs: distances are computed as products of signs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["count"]

_NUMBERS = 1 << 24  # largest number of elements of an intermediate result
_BLOCK = 1 << 16  # codes of the gallery compared at a time

# float16 represents all integers up to here, and so the products of up to this many signs.
_EXACT_IN_HALF = 2048


def count(
    queries: NDArray[np.uint8],
    gallery: NDArray[np.uint8],
    query_labels: NDArray[Any],
    gallery_labels: NDArray[Any],
    device: torch.device,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count all items and relevant items by distance, from checked arguments; returns two `(nq, n_bins)` arrays."""
    nq, n_bytes = queries.shape
    n_bins = n_bytes * 8 + 1
    half = device.type == "cuda" and n_bytes * 8 <= _EXACT_IN_HALF
    dtype = torch.float16 if half else torch.float32
    query_codes = _to(device, queries)
    device_labels = _labels(query_labels, device)
    counts = torch.zeros((nq, n_bins, 2), dtype=torch.int64, device=device)
    block = min(_BLOCK, _NUMBERS // n_bins)
    step = _NUMBERS // max(block, 2 * n_bins)
    for begin in range(0, len(gallery), block):
        rows = slice(begin, begin + block)
        signs = _signs(_to(device, gallery[rows]), dtype).T
        labels = _labels(gallery_labels[rows], device)
        for first in range(0, nq, step):
            part = slice(first, first + step)
            products = _signs(query_codes[part], dtype) @ signs
            n_queries = len(products)
            relevant = _share_label(device_labels[part], labels)
            # n_bits - product is twice the distance, so the lowest bit is free for the relevance.
            keys = (n_bins - 1) - products.to(torch.int32) + relevant
            keys += torch.arange(n_queries, dtype=torch.int32, device=device)[:, None] * (2 * n_bins)
            counts[part] += torch.bincount(keys.flatten(), minlength=n_queries * 2 * n_bins).view(-1, n_bins, 2)
    return counts.sum(2).cpu().numpy(), counts[:, :, 1].cpu().numpy()


def _to(device: torch.device, array: NDArray[Any]) -> Tensor:
    return torch.tensor(np.ascontiguousarray(array), device=device)  # copies, since torch needs writable memory


def _signs(codes: Tensor, dtype: torch.dtype) -> Tensor:
    """Unpack codes `(n, n_bytes)` to -1 and +1 `(n, n_bits)`; the order of the bits in a byte does not matter."""
    bits = codes[:, :, None] >> torch.arange(8, dtype=torch.uint8, device=codes.device) & 1
    return bits.flatten(1).to(dtype) * 2 - 1


def _labels(labels: NDArray[Any], device: torch.device) -> Tensor:
    """Move labels to the device: classes as int64, multi-hot labels as float32 for the matrix product."""
    return _to(device, labels if labels.ndim == 1 else labels.astype(np.float32))


def _share_label(queries: Tensor, gallery: Tensor) -> Tensor:
    if queries.ndim == 1:
        return queries[:, None] == gallery
    return queries @ gallery.T > 0
