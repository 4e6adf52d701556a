"""Labels of both forms (one class per image, or multi-hot), and the relevance that follows from them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fasthash._arrays import as_array

__all__ = ["check_labels", "relevance"]

# Rows of a product computed at a time: the float32 product of all rows would take four times the memory of the result.
_ROWS = 256


def relevance(query_labels: ArrayLike, gallery_labels: ArrayLike) -> NDArray[np.bool_]:
    """Compute which gallery images are relevant to which queries: those that share a class.

    This is the rule of every hashing paper that we know. An image without labels is relevant to no query.

    Args:
        query_labels: integers `(nq,)`, the class of each image; or zeros and ones `(nq, C)`, integers or booleans.
        gallery_labels: the same for the gallery, `(n,)` or `(n, C)`.

    Returns:
        Bool `(nq, n)`, the argument `relevance` of the functions in `fasthash.metrics`.

    Raises:
        TypeError: the labels are neither integers nor booleans `(n, C)`.
        ValueError: the labels have different forms or widths, or labels `(n, C)` hold values other than 0 and 1.

    Examples:
        >>> relevance([[1, 0, 1]], [[0, 1, 0], [0, 1, 1]])
        array([[False,  True]])
    """
    queries, gallery = check_labels("query_labels", query_labels), check_labels("gallery_labels", gallery_labels)
    if queries.shape[1:] != gallery.shape[1:]:
        raise ValueError(
            f"query_labels and gallery_labels must both be classes (n,) or both have shape (n, C) with the same C, "
            f"got {queries.shape} and {gallery.shape}"
        )
    if queries.ndim == 1:
        return queries[:, None] == gallery
    # float32, so that BLAS computes the product; exact up to 2^24 classes.
    columns = gallery.T.astype(np.float32)
    result = np.empty((len(queries), len(gallery)), bool)
    for start in range(0, len(queries), _ROWS):
        rows = slice(start, start + _ROWS)
        np.greater(queries[rows].astype(np.float32) @ columns, 0, out=result[rows])
    return result


def check_labels(name: str, labels: Any) -> NDArray[Any]:
    """Check labels; return classes `(n,)` as int64, or zeros and ones `(n, C)` as uint8."""
    array = as_array(name, labels)
    if array.dtype.kind not in ("iub" if array.ndim == 2 else "iu"):
        raise TypeError(f"{name} must be integers, got dtype {array.dtype}")
    if array.ndim not in (1, 2):
        raise ValueError(f"{name} must have shape (n,) or (n, C), got {array.shape}")
    if array.ndim == 1:
        return array.astype(np.int64)
    if array.size and not 0 <= array.min() <= array.max() <= 1:
        raise ValueError(f"{name} of shape (n, C) must be 0 or 1, got {array.min()} to {array.max()}")
    return array.astype(np.uint8)
