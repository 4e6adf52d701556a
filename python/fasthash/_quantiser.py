"""Checks embeddings, scales them to length 1 for cosines, and encodes them as int8, float16 or float32.

Called by `RescoringIndex`. Encoded vectors are finite, and so are all their scores.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fasthash._checks import own_array

__all__ = [
    "DTYPES",
    "MAX_DIMS",
    "MAX_SIZE",
    "METRICS",
    "Floats",
    "Metric",
    "Steps",
    "VectorDtype",
    "check_ranges",
    "check_vectors",
    "encode",
    "pack_signs",
]

VectorDtype: TypeAlias = Literal["int8", "float16", "float32"]
Metric: TypeAlias = Literal["cosine", "inner_product"]
Floats: TypeAlias = NDArray[np.float32]

DTYPES = ("int8", "float16", "float32")
METRICS = ("cosine", "inner_product")
MAX_DIMS = 1 << 16
MAX_SIZE = 1e15  # largest absolute value, so that no score overflows
_FLOATS = (np.float16, np.float32, np.float64)
_LARGEST_FLOAT16 = 65504


class Steps:
    """256 steps of equal width in each dimension, as sentence-transformers makes them."""

    def __init__(self, ranges: Floats) -> None:
        self.ranges = ranges  # (2, n_dims), smallest and largest values
        self.starts = ranges[0]
        widths = (ranges[1] - ranges[0]) / 255
        self.widths = np.where(widths == 0, np.float32(1), widths)
        self.middles = self.starts + np.float32(128.5) * self.widths  # the value that an int8 of 0 encodes

    def encode(self, vectors: Floats) -> NDArray[np.int8]:
        steps = np.clip(np.floor((vectors - self.starts) / self.widths), 0, 255)
        return (steps - 128).astype(np.int8)

    def decode(self, numbers: Floats) -> Floats:
        return numbers * self.widths + self.middles


def encode(vectors: Floats, dtype: VectorDtype, steps: Steps | None) -> NDArray[Any]:
    """Encode vectors in the dtype of an index; int8 without `steps` (an empty index) takes no vectors."""
    if dtype == "int8":
        return np.empty(vectors.shape, np.int8) if steps is None else steps.encode(vectors)
    return vectors.astype(dtype)


def pack_signs(vectors: Floats, n_bits: int) -> NDArray[np.uint8]:
    """Return the codes of vectors: one bit for each of the first dimensions, 1 where the value is above 0."""
    return np.packbits(vectors[:, :n_bits] > 0, axis=1)


def check_vectors(name: str, embeddings: Any, n_dims: int, dtype: VectorDtype, metric: Metric) -> Floats:
    """Check embeddings and copy them to a float32 array, scaled to length 1 if the metric is the cosine."""
    array = own_array(name, embeddings)
    if array.dtype not in _FLOATS:
        raise TypeError(f"{name} must be a float16, float32 or float64 array, got dtype {array.dtype}")
    if array.ndim != 2 or array.shape[1] != n_dims:
        hint = f"; for a single embedding use {name}[None]" if array.ndim == 1 else ""
        raise ValueError(f"{name} must have shape (n, {n_dims}), got {array.shape}{hint}")
    if not np.isfinite(array).all():
        where = np.argwhere(~np.isfinite(array))[0].tolist()
        raise ValueError(f"{name} must be finite, found {array[tuple(where)]} at index {where}")
    if metric == "cosine":
        lengths = np.sqrt(np.einsum("ij,ij->i", array, array, dtype=np.float64))
        if not ((lengths > 0) & np.isfinite(lengths)).all():
            row = int(np.argmin((lengths > 0) & np.isfinite(lengths)))
            raise ValueError(f"{name} must have a length for the metric 'cosine', found {lengths[row]} in row {row}")
        return (array / lengths[:, None]).astype(np.float32)
    limit = _LARGEST_FLOAT16 if dtype == "float16" else MAX_SIZE
    if array.size and (largest := np.abs(array).max()) > limit:
        raise ValueError(f"{name} must be at most {limit:g} in size for dtype {dtype!r}, found {largest}")
    return np.ascontiguousarray(array, dtype=np.float32)


def check_ranges(ranges: Any, n_dims: int) -> Floats:
    """Check ranges `(2, n_dims)` and copy them to a float32 array."""
    array = own_array("ranges", ranges)
    if array.dtype not in _FLOATS:
        raise TypeError(f"ranges must be a float16, float32 or float64 array, got dtype {array.dtype}")
    if array.shape != (2, n_dims):
        raise ValueError(f"ranges must have shape (2, {n_dims}), got {array.shape}")
    if not (np.abs(array) <= MAX_SIZE).all() or (array[0] > array[1]).any():
        raise ValueError(
            f"ranges must be at most {MAX_SIZE:g} in size, with the smallest values in row 0, got {ranges!r}"
        )
    return array.astype(np.float32)
