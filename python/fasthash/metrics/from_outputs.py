"""mAP of rankings that real outputs refine: first by Hamming distance, then by cosine."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fasthash._checks import as_array
from fasthash._labels import check_labels, relevance
from fasthash.metrics.average_precision import Denominator
from fasthash.metrics.from_histograms import Empty, counted_queries
from fasthash.metrics.from_matrices import mean_average_precision

__all__ = ["mean_average_precision_of_outputs"]

_ROWS = 64  # queries that are ranked together


def mean_average_precision_of_outputs(
    query_outputs: ArrayLike,
    gallery_outputs: ArrayLike,
    query_labels: ArrayLike,
    gallery_labels: ArrayLike,
    at: int | None = None,
    denominator: Denominator = "retrieved",
    *,
    empty: Empty = "zero",
) -> float:
    """mAP@R as the code of HHNet (arXiv 2403.13747) measures it: items at one Hamming distance are ranked by cosine.

    Not retrieval by codes alone: a system that ranked so would have to keep the real outputs of its gallery. Short
    codes, which tie most, gain most. It is `mean_average_precision(..., ties="feature")`, a few queries at a time.

    Args:
        query_outputs: raw outputs of the network, float `(nq, n_bits)`; their signs are the codes.
        gallery_outputs: likewise, `(n, n_bits)`.
        query_labels, gallery_labels: as of `histograms`.
        at, denominator, empty: as of `mean_average_precision`.

    Returns:
        A number from 0 to 1.

    Raises:
        TypeError: outputs are no floats, or labels neither integers nor booleans.
        ValueError: the shapes do not fit or are empty, an output is NaN, or all queries are dropped.

    Examples:
        >>> gallery = np.array([[1.0] * 8, [2.0] * 4 + [1.0] * 4])
        >>> mean_average_precision_of_outputs(gallery[1:], gallery, [0], [1, 0])
        1.0
    """
    queries, gallery, wanted, labels = _checked(query_outputs, gallery_outputs, query_labels, gallery_labels)
    signs, rays = _signs_and_rays(gallery)
    sums, counted = 0.0, 0
    for start in range(0, len(queries), _ROWS):
        rows = slice(start, start + _ROWS)
        query_signs, query_rays = _signs_and_rays(queries[rows])
        distances = ((gallery.shape[1] - query_signs @ signs.T) / 2).astype(np.int32)
        relevant = relevance(wanted[rows], labels)
        chosen = relevant.any(axis=1) if empty == "drop" else np.ones(len(relevant), bool)
        if chosen.any():
            part = mean_average_precision(
                distances[chosen],
                relevant[chosen],
                at,
                "feature",
                denominator,
                feature_distances=-(query_rays @ rays.T)[chosen],
            )
            sums, counted = sums + part * np.count_nonzero(chosen), counted + np.count_nonzero(chosen)
    counted_queries(np.full((1, 1), counted), empty)  # refuses to take a mean of nothing
    return sums / counted


def _checked(
    query_outputs: ArrayLike, gallery_outputs: ArrayLike, query_labels: ArrayLike, gallery_labels: ArrayLike
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    queries, gallery = _outputs("query_outputs", query_outputs), _outputs("gallery_outputs", gallery_outputs)
    if queries.shape[1] != gallery.shape[1]:
        raise ValueError(f"query_outputs must be {gallery.shape[1]} wide, as the gallery's, got {queries.shape[1]}")
    wanted, labels = check_labels("query_labels", query_labels), check_labels("gallery_labels", gallery_labels)
    if len(wanted) != len(queries) or len(labels) != len(gallery):
        raise ValueError(
            f"query_labels and gallery_labels must be of {len(queries)} and {len(gallery)} items, "
            f"got {len(wanted)} and {len(labels)}"
        )
    return queries, gallery, wanted, labels


def _outputs(name: str, outputs: ArrayLike) -> NDArray[Any]:
    array = as_array(name, outputs)
    if array.dtype.kind != "f":
        raise TypeError(f"{name} must be a float array, got dtype {array.dtype}")
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"{name} must have shape (n, n_bits) with n and n_bits at least 1, got {array.shape}")
    if np.isnan(array).any():
        raise ValueError(f"{name} must not hold NaN, found one at {np.argwhere(np.isnan(array))[0].tolist()}")
    return array


def _signs_and_rays(outputs: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """Signs, zero counting as positive, and outputs of length 1; a zero vector stays one."""
    lengths = np.linalg.norm(outputs, axis=1, keepdims=True)
    signs = np.where(outputs >= 0, np.float32(1), np.float32(-1))
    return signs, outputs / np.where(lengths > 0, lengths, 1)
