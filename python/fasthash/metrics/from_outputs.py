"""mAP of rankings by Hamming distance in which the cosine of real outputs breaks ties."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fasthash._arrays import as_array
from fasthash._checks import check_choice
from fasthash._labels import check_labels, relevance
from fasthash.metrics.average_precision import Denominator
from fasthash.metrics.from_histograms import Empty, counted_queries
from fasthash.metrics.from_matrices import mean_average_precision

__all__ = ["mean_average_precision_of_outputs"]

_ROWS = 64  # queries ranked at a time


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
    """Compute mAP@R as HHNet's code (arXiv 2403.13747) does: items at one Hamming distance are ranked by cosine.

    This is not retrieval by codes alone: such a system must store the real outputs of its gallery. Short codes have the
    most ties and gain most. Equals `mean_average_precision(..., ties="feature")`, computed for a few queries at a time.

    Args:
        query_outputs: raw outputs of the network, float `(nq, n_bits)`; their signs are the codes.
        gallery_outputs: raw outputs of the gallery, float `(n, n_bits)`.
        query_labels, gallery_labels: as in `histograms`.
        at, denominator, empty: as in `mean_average_precision`.

    Returns:
        A number from 0 to 1.

    Raises:
        TypeError: outputs are not floats, or labels are neither integers nor booleans.
        ValueError: the shapes do not fit or are empty, an output is not finite, or all queries are dropped.

    Examples:
        >>> gallery = np.array([[1.0] * 8, [2.0] * 4 + [1.0] * 4])
        >>> mean_average_precision_of_outputs(gallery[1:], gallery, [0], [1, 0])
        1.0
    """
    check_choice("empty", empty, get_args(Empty))
    queries, gallery, of_queries, labels = _checked(query_outputs, gallery_outputs, query_labels, gallery_labels)
    signs, rays = _signs_and_rays(gallery)
    sums, counted = 0.0, 0
    for start in range(0, len(queries), _ROWS):
        rows = slice(start, start + _ROWS)
        relevant = relevance(of_queries[rows], labels)
        chosen = relevant.any(axis=1) if empty == "drop" else np.ones(len(relevant), bool)
        if chosen.any():
            query_signs, query_rays = _signs_and_rays(queries[rows][chosen])
            # Twice the distances order items as well, and cost one pass less over a large matrix.
            distances = (-query_signs @ signs.T).astype(np.int32)
            distances += gallery.shape[1]
            cosines = -query_rays @ rays.T
            mean = mean_average_precision(
                distances, relevant[chosen], at, "feature", denominator, feature_distances=cosines
            )
            sums, counted = sums + mean * len(distances), counted + len(distances)
    counted_queries(np.full((1, 1), counted), empty)  # raises if no query counts
    return sums / counted


def _checked(
    query_outputs: ArrayLike, gallery_outputs: ArrayLike, query_labels: ArrayLike, gallery_labels: ArrayLike
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    queries, gallery = _outputs("query_outputs", query_outputs), _outputs("gallery_outputs", gallery_outputs)
    if queries.shape[1] != gallery.shape[1]:
        raise ValueError(f"query_outputs must be {gallery.shape[1]} wide, as the gallery's, got {queries.shape[1]}")
    of_queries, labels = check_labels("query_labels", query_labels), check_labels("gallery_labels", gallery_labels)
    if len(of_queries) != len(queries) or len(labels) != len(gallery):
        raise ValueError(
            f"query_labels and gallery_labels must be of {len(queries)} and {len(gallery)} items, "
            f"got {len(of_queries)} and {len(labels)}"
        )
    return queries, gallery, of_queries, labels


def _outputs(name: str, outputs: ArrayLike) -> NDArray[Any]:
    array = as_array(name, outputs)
    if array.dtype.kind != "f":
        raise TypeError(f"{name} must be a float array, got dtype {array.dtype}")
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"{name} must have shape (n, n_bits) with n and n_bits at least 1, got {array.shape}")
    if not np.isfinite(array).all():
        place = tuple(np.argwhere(~np.isfinite(array))[0].tolist())
        raise ValueError(f"{name} must be finite, found {array[place]} at {list(place)}")
    return array.astype(np.float32) if array.dtype == np.float16 else array  # too coarse to compute with


def _signs_and_rays(outputs: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """Return the signs (zero counts as positive), and the outputs scaled to length 1; a zero vector stays zero."""
    signs = np.where(outputs >= 0, np.float32(1), np.float32(-1))
    largest = np.abs(outputs).max(axis=1, keepdims=True)
    rays = outputs / np.where(largest > 0, largest, 1)  # squares of large outputs could overflow
    lengths = np.linalg.norm(rays, axis=1, keepdims=True)
    return signs, rays / np.where(lengths > 0, lengths, 1)
