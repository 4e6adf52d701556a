"""Search several indices at once, without merging them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fasthash._checks import check_queries
from fasthash._index_base import Index
from fasthash._index_options import check_k

__all__ = ["SearchAllResult", "search_all"]


class SearchAllResult(NamedTuple):
    """The k nearest codes of each query in several indices, ordered by (distance, index, id)."""

    distances: NDArray[Any]
    """`(nq, k)`, as of `SearchResult`; in places without a neighbour the missing distance of the indices."""

    indices: NDArray[np.int64]
    """`(nq, k)`, place in the list of indices of the one that holds the code; -1 in places without a neighbour."""

    ids: NDArray[np.int64]
    """`(nq, k)`, id in that index; -1 in places without a neighbour."""

    def per_query(self) -> Iterator[tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]]:
        """Distances, indices and ids of each query, in order, as views without the places that have no neighbour."""
        n_found = (self.indices != -1).sum(axis=1)
        for distances, indices, ids, found in zip(*self, n_found, strict=True):
            yield distances[:found], indices[:found], ids[:found]


def search_all(indices: Sequence[Index], queries: ArrayLike, k: int = 10) -> SearchAllResult:
    """Find the k nearest codes of each query in several indices, exactly, ordered by (distance, index, id).

    The same id may be in several indices: each is an entry of its own. Each index is searched on all threads, one after
    the other.

    Args:
        indices: at least one `FlatIndex` or `HierIndex`, all of the same width and metric.
        queries: uint8 array `(nq, n_bits / 8)`, or one code `(n_bits / 8,)` as a batch of one.
        k: number of neighbours, at least 1; may exceed the number of codes.

    Returns:
        `SearchAllResult`, whose arrays have shape `(nq, k)`.

    Raises:
        TypeError: `indices` does not hold indices, wrong dtype of `queries`, or `k` is not an integer.
        ValueError: no indices, indices of several widths or metrics, wrong shape of `queries`, or `k` out of range.
        MemoryError: the results would take more memory than there is.

    Examples:
        >>> old = FlatIndex.from_arrays(np.array([[0], [7]], dtype=np.uint8))
        >>> new = FlatIndex.from_arrays(np.array([[1], [0]], dtype=np.uint8))
        >>> search_all([old, new], np.array([[0]], dtype=np.uint8), k=3)
        SearchAllResult(distances=array([[0, 0, 1]], dtype=int32), indices=array([[0, 1, 1]]), ids=array([[0, 1, 0]]))
    """
    if not isinstance(indices, Sequence) or isinstance(indices, (str, bytes)):
        raise TypeError(f"indices must be a sequence of indices, got {type(indices).__name__}")
    if not indices:
        raise ValueError("indices must hold at least one index, got none")
    for i, index in enumerate(indices):
        if not isinstance(index, Index):
            raise TypeError(f"indices must be FlatIndex or HierIndex objects, got {type(index).__name__} at {i}")
        if index.n_bits != indices[0].n_bits:
            raise ValueError(
                f"indices must have one width, got {indices[0].n_bits} bits at 0 and {index.n_bits} at {i}"
            )
        if index.metric != indices[0].metric:
            raise ValueError(f"indices must have one metric, got {indices[0].metric} at 0 and {index.metric} at {i}")
    codes = check_queries(queries, indices[0].n_bits)
    k = check_k(k, len(codes) * len(indices))
    found = [index._search(codes, k, None, "node_ratio", None, False) for index in indices]
    distances = np.concatenate([result[0] for result in found], axis=1)
    ids = np.concatenate([result[1] for result in found], axis=1)
    places = np.where(ids == -1, -1, np.repeat(np.arange(len(found)), k))
    # Stable: equal distances stay in the order of the indices, and of the ids in each. Missing ones are the largest.
    nearest = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return SearchAllResult(*(np.take_along_axis(values, nearest, axis=1) for values in (distances, places, ids)))
