"""The counting of `fasthash.metrics.histograms` by torch, made for GPUs: distances are products of signs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["count"]

# Numbers that an intermediate result may have, and codes of the gallery that are compared at a time.
_NUMBERS = 1 << 24
_BLOCK = 1 << 16

# float16 holds all integers up to here, and so the products of as many signs.
_EXACT_IN_HALF = 2048


def count(
    queries: NDArray[np.uint8],
    gallery: NDArray[np.uint8],
    query_labels: NDArray[Any],
    gallery_labels: NDArray[Any],
    device: torch.device,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Arguments that are checked already; returns all and relevant items by distance."""
    nq, n_bytes = queries.shape
    n_bins = n_bytes * 8 + 1
    half = device.type == "cuda" and n_bytes * 8 <= _EXACT_IN_HALF
    dtype = torch.float16 if half else torch.float32
    query_codes = _to(device, queries)
    query_labels_there = _labels(query_labels, device)
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
            n_here = len(products)
            relevant = _share_label(query_labels_there[part], labels)
            # n_bits - product is twice the distance: beside it there is room for the relevance.
            keys = (n_bins - 1) - products.to(torch.int32) + relevant
            keys += torch.arange(n_here, dtype=torch.int32, device=device)[:, None] * (2 * n_bins)
            counts[part] += torch.bincount(keys.flatten(), minlength=n_here * 2 * n_bins).view(-1, n_bins, 2)
    return counts.sum(2).cpu().numpy(), counts[:, :, 1].cpu().numpy()


def _to(device: torch.device, array: NDArray[Any]) -> Tensor:
    return torch.tensor(np.ascontiguousarray(array), device=device)  # a copy: torch wants no memory it may not change


def _signs(codes: Tensor, dtype: torch.dtype) -> Tensor:
    """Packed codes `(n, n_bytes)` as -1 and +1 `(n, n_bits)`, the bits of a byte in any order."""
    bits = codes[:, :, None] >> torch.arange(8, dtype=torch.uint8, device=codes.device) & 1
    return bits.flatten(1).to(dtype) * 2 - 1


def _labels(labels: NDArray[Any], device: torch.device) -> Tensor:
    """Classes as int64, several labels an item as zeros and ones that can be multiplied."""
    return _to(device, labels if labels.ndim == 1 else labels.astype(np.float32))


def _share_label(queries: Tensor, gallery: Tensor) -> Tensor:
    if queries.ndim == 1:
        return queries[:, None] == gallery
    return queries @ gallery.T > 0
