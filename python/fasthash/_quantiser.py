"""Checks embeddings, scales them to length 1 for cosines, and encodes them as int8, float16 or float32.

Called by `RescoringIndex`. Encoded vectors are finite, and so are all their scores.
"""

from __future__ import annotations

import warnings
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fasthash._arrays import own_array

__all__ = [
    "DTYPES",
    "MAX_DIMS",
    "MAX_SIZE",
    "METRICS",
    "Center",
    "Floats",
    "Form",
    "Metric",
    "Scales",
    "Steps",
    "VectorDtype",
    "check_center",
    "check_ranges",
    "check_vectors",
    "form_of",
    "pack_signs",
]

VectorDtype: TypeAlias = Literal["int8", "float16", "float32"]
Metric: TypeAlias = Literal["cosine", "inner_product"]
Floats: TypeAlias = NDArray[np.float32]
Center: TypeAlias = Floats | Literal["mean"] | None

DTYPES = ("int8", "float16", "float32")
METRICS = ("cosine", "inner_product")
MAX_DIMS = 1 << 16
MAX_SIZE = 1e15  # largest absolute value, so that no score overflows
_SHORTEST = 1e-150  # the squares of shorter embeddings are too small to be exact
_HEAD_BYTES = 8  # two float32 before the numbers of a row
_MARGIN = 16  # a value this many steps outside the ranges costs little
_MAX_OUTSIDE = 0.01  # share of values farther outside, above which a warning is given
_FLOATS = (np.float16, np.float32, np.float64)
_LARGEST_FLOAT16 = 65504


class Plain:
    """Vectors as floats of one width."""

    def __init__(self, n_dims: int, dtype: VectorDtype) -> None:
        self.n_columns, self.dtype = n_dims, dtype
        self._rounding, self._least = (2.0**-11, 2.0**-25) if dtype == "float16" else (0.0, 0.0)

    def encode(self, vectors: Floats) -> NDArray[Any]:
        return vectors.astype(self.dtype)

    def decode(self, stored: NDArray[Any]) -> Floats:
        return _widened(stored) if self.dtype == "float16" else stored.astype(np.float32, copy=False)

    def scores(self, queries: Floats, stored: NDArray[Any]) -> Floats:
        """Inner products `(nq, n)` of queries `(nq, n_dims)` with stored vectors `(nq, n, n_columns)`."""
        return _products(queries, self.decode(stored))

    def bounds(self, stored: NDArray[Any]) -> tuple[Floats, Floats]:
        """Between which values a vector was before it was stored."""
        vectors = self.decode(stored)
        error = np.abs(vectors) * np.float32(self._rounding) + np.float32(self._least)
        return vectors - error, vectors + error


class Steps:
    """int8: 256 steps of equal width in each dimension, as sentence-transformers makes them."""

    dtype: VectorDtype = "int8"

    def __init__(self, ranges: Floats) -> None:
        self.ranges = ranges  # (2, n_dims), smallest and largest values
        self.n_columns = ranges.shape[1]
        self.starts = ranges[0]
        widths = (ranges[1] - ranges[0]) / 255
        self.widths = np.where(widths == 0, np.float32(1), widths)
        self.middles = self.starts + np.float32(128.5) * self.widths  # the value that an int8 of 0 encodes

    def encode(self, vectors: Floats) -> NDArray[np.int8]:
        steps = np.floor((vectors - self.starts) / self.widths)
        outside = ((steps < -_MARGIN) | (steps > 255 + _MARGIN)).mean() if steps.size else 0
        if outside > _MAX_OUTSIDE:
            warnings.warn(
                f"{outside:.1%} of the values of embeddings lie far outside ranges and are moved to their ends, which "
                "makes scores wrong; give ranges= of all embeddings, or none, which gives each embedding its own scale",
                stacklevel=3,
            )
        return (np.clip(steps, 0, 255) - 128).astype(np.int8)

    def decode(self, stored: NDArray[Any]) -> Floats:
        return stored.astype(np.float32) * self.widths + self.middles

    def scores(self, queries: Floats, stored: NDArray[Any]) -> Floats:
        """See `Plain.scores`. Steps are decoded on the side of the query: q . (w * v + m) = (q * w) . v + q . m"""
        products = _products(queries * self.widths, stored.astype(np.float32))
        return products + np.einsum("ij,j->i", queries, self.middles)[:, None]

    def bounds(self, stored: NDArray[Any]) -> tuple[Floats, Floats]:
        """See `Plain.bounds`. The first and the last step stand for all that lies beyond, too."""
        vectors, error = self.decode(stored), 2 * self.widths
        low, high = vectors - error, vectors + error
        low[stored == -128], high[stored == 127] = -np.inf, np.inf
        return low, high


class Scales:
    """int8: 256 values at equal distances between the smallest and the largest number of each vector less a center.

    A row begins with two float32: the distance between two values, and the value that an int8 of 0 stands for. No
    vector depends on another, so that it does not matter in which batches vectors come.
    """

    dtype: VectorDtype = "int8"

    def __init__(self, n_dims: int, center: Floats | None = None) -> None:
        self.n_columns = _HEAD_BYTES + n_dims
        self.center = np.zeros(n_dims, np.float32) if center is None else center

    def encode(self, vectors: Floats) -> NDArray[np.int8]:
        vectors = vectors - self.center
        lowest = vectors.min(axis=1, keepdims=True)
        widths = (vectors.max(axis=1, keepdims=True) - lowest) / np.float32(255)
        steps = np.rint((vectors - lowest) / np.where(widths == 0, np.float32(1), widths))
        stored = np.empty((len(vectors), self.n_columns), np.int8)
        stored[:, :_HEAD_BYTES] = np.hstack((widths, lowest + 128 * widths)).astype("<f4").view(np.int8)
        stored[:, _HEAD_BYTES:] = np.clip(steps, 0, 255) - 128  # widths below 1e-38 are rounded coarsely
        return stored

    def heads(self, stored: NDArray[Any]) -> tuple[Floats, Floats]:
        """The distance and the middle of each row."""
        heads = np.ascontiguousarray(stored[..., :_HEAD_BYTES]).view("<f4").astype(np.float32, copy=False)
        return heads[..., 0], heads[..., 1]

    def decode(self, stored: NDArray[Any]) -> Floats:
        widths, middles = self.heads(stored)
        numbers = stored[..., _HEAD_BYTES:].astype(np.float32)
        return numbers * widths[..., None] + middles[..., None] + self.center

    def scores(self, queries: Floats, stored: NDArray[Any]) -> Floats:
        """See `Plain.scores`. With center c: q . (w * v + m + c) = w * (q . v) + m * sum(q) + q . c"""
        widths, middles = self.heads(stored)
        products = _products(queries, stored[..., _HEAD_BYTES:].astype(np.float32)) * widths
        of_center = np.einsum("ij,j->i", queries, self.center)[:, None]
        return products + middles * np.einsum("ij->i", queries)[:, None] + of_center

    def bounds(self, stored: NDArray[Any]) -> tuple[Floats, Floats]:
        """See `Plain.bounds`."""
        vectors = self.decode(stored)
        error = np.float32(0.51) * self.heads(stored)[0][..., None] + np.float32(1e-6) * np.abs(vectors)
        return vectors - error, vectors + error


Form: TypeAlias = Plain | Steps | Scales


def form_of(n_dims: int, dtype: VectorDtype, ranges: Floats | None, center: Center = None) -> Form:
    """How vectors are stored."""
    if dtype != "int8":
        return Plain(n_dims, dtype)
    return Scales(n_dims, None if isinstance(center, str) else center) if ranges is None else Steps(ranges)


def _widened(halves: NDArray[np.float16]) -> Floats:
    """`halves.astype(np.float32)`, bit for bit, in a third of the time: numpy converts one number after the other."""
    bits = halves.view(np.int16)
    if bits.size and (bits & 0x7FFF).max() >= 0x7C00:  # infinite or NaN
        return halves.astype(np.float32)
    # Sign, exponent and mantissa move to their places in 32 bits; the biases of the exponents differ by 112.
    wide = bits.astype(np.int32)
    wide <<= 13
    wide &= -0x70002000  # 0x8fffe000: clears the copies of the sign
    floats = wide.view(np.float32)
    floats *= np.float32(2.0**112)
    return floats


def _products(queries: Floats, vectors: Floats) -> Floats:
    # Not a product of matrices: its rounding would depend on the other rows of the batch.
    return np.einsum("ij,ikj->ik", queries, vectors)


def pack_signs(vectors: Floats, n_bits: int, center: Floats | None) -> NDArray[np.uint8]:
    """The codes of vectors: a bit for each of the first dimensions, 1 above 0 or that of a center."""
    return np.packbits(vectors[:, :n_bits] > (0 if center is None else center[:n_bits]), axis=1)


def check_vectors(name: str, embeddings: Any, n_dims: int, dtype: VectorDtype, metric: Metric) -> Floats:
    """Check embeddings and copy them to a float32 array, scaled to length 1 if the metric is the cosine."""
    array = own_array(name, embeddings)
    if array.dtype.newbyteorder("=") not in _FLOATS:
        raise TypeError(f"{name} must be a float16, float32 or float64 array, got dtype {array.dtype}")
    if array.ndim != 2 or array.shape[1] != n_dims:
        hint = f"; for a single embedding use {name}[None]" if array.ndim == 1 else ""
        raise ValueError(f"{name} must have shape (n, {n_dims}), got {array.shape}{hint}")
    if not np.isfinite(array).all():
        where = np.argwhere(~np.isfinite(array))[0].tolist()
        raise ValueError(f"{name} must be finite, found {array[tuple(where)]} at index {where}")
    if metric == "cosine":
        lengths = np.sqrt(np.einsum("ij,ij->i", array, array, dtype=np.float64))
        measured = (lengths >= _SHORTEST) & np.isfinite(lengths)
        if not measured.all():
            row = int(np.argmin(measured))
            raise ValueError(
                f"{name} must have lengths from {_SHORTEST:g} to 1e154 for the metric 'cosine', "
                f"found {lengths[row]} in row {row}"
            )
        return (array / lengths[:, None]).astype(np.float32)
    limit = _LARGEST_FLOAT16 if dtype == "float16" else MAX_SIZE
    if array.size and (largest := np.abs(array).max()) > limit:
        raise ValueError(f"{name} must be at most {limit:g} in size for dtype {dtype!r}, found {largest}")
    return np.ascontiguousarray(array, dtype=np.float32)


def check_center(center: Any, n_dims: int) -> Center:
    """The centre, subtracted before signs are taken: None, "mean", or `(n_dims,)` as a private array."""
    if center is None:
        return None
    if isinstance(center, str):
        if center != "mean":
            raise ValueError(f"center must be None, 'mean' or a float array ({n_dims},), got {center!r}")
        return "mean"
    array = own_array("center", center)
    if array.dtype.newbyteorder("=") not in _FLOATS:
        raise TypeError(f"center must be None, 'mean' or a float array ({n_dims},), got dtype {array.dtype}")
    if array.shape != (n_dims,):
        raise ValueError(f"center must have shape ({n_dims},), got {array.shape}")
    if not (np.abs(array) <= MAX_SIZE).all():
        raise ValueError(f"center must be at most {MAX_SIZE:g} in size, got {center!r}")
    return array.astype(np.float32)


def check_ranges(ranges: Any, n_dims: int) -> Floats:
    """Check ranges `(2, n_dims)` and copy them to a float32 array."""
    array = own_array("ranges", ranges)
    if array.dtype.newbyteorder("=") not in _FLOATS:
        raise TypeError(f"ranges must be a float16, float32 or float64 array, got dtype {array.dtype}")
    if array.shape != (2, n_dims):
        raise ValueError(f"ranges must have shape (2, {n_dims}), got {array.shape}")
    if not (np.abs(array) <= MAX_SIZE).all() or (array[0] > array[1]).any():
        raise ValueError(
            f"ranges must be at most {MAX_SIZE:g} in size, with the smallest values in row 0, got {ranges!r}"
        )
    return array.astype(np.float32)
