"""Near-duplicates among codes of any origin: perceptual hashes such as pHash and PDQ, or codes of a network."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fasthash._checks import check_int
from fasthash.index import FlatIndex, HierIndex
from fasthash.perceptual import perceptual_codes

__all__ = ["near_duplicates", "perceptual_codes"]

_BATCH = 1 << 10  # queries of one range search


def near_duplicates(
    codes: ArrayLike | FlatIndex | HierIndex, radius: int, ids: ArrayLike | None = None
) -> list[NDArray[np.int64]]:
    """Group near-duplicates: two codes within the radius are in the same group.

    Groups chain: a group may hold two codes farther apart than the radius, if other codes connect them. With a radius
    that is too large, all codes form one group. A code without a near-duplicate is in no group. Repeated codes add no
    cost: neighbours are searched once for each distinct code.

    Args:
        codes: uint8 array `(n, n_bits / 8)`, see `perceptual_codes`; or an index of codes.
        radius: largest distance in bits between two near-duplicates, at least 0; 0 groups equal codes. Usual values are
            31 of 256 bits for PDQ, and 4 of 64 or 16 of 256 bits for pHash.
        ids: int64 array `(n,)` of distinct ids; None takes the row numbers of `codes`. Must be None for an index.

    Returns:
        A list of int64 arrays: the ids of each group, at least two, in ascending order. The groups are ordered by their
        first ids. The order of the codes does not matter.

    Raises:
        TypeError: wrong dtype of `codes` or `ids`, or `radius` is not an integer.
        ValueError: wrong shape, ids that are repeated or given with an index, or `radius` is negative.

    Examples:
        >>> near_duplicates(perceptual_codes(["00ff", "ff00", "00fe", "01fe"]), radius=1)
        [array([0, 2, 3])]
    """
    radius = check_int("radius", radius, minimum=0)
    if isinstance(codes, (FlatIndex, HierIndex)):
        if ids is not None:
            raise ValueError("ids must be None for an index, which has its own")
        index = codes
    else:
        index = HierIndex.from_arrays(codes, ids)
    array, all_ids = index.to_arrays()
    labels = np.arange(len(all_ids))
    distinct, first = np.unique(array, axis=0, return_index=True)  # search once for each distinct code
    for i in range(0, len(distinct), _BATCH):
        result = index.range_search(distinct[i : i + _BATCH], radius)
        near = np.searchsorted(all_ids, result.ids)
        labels = _joined(labels, np.repeat(first[i : i + _BATCH], np.diff(result.offsets)), near)
    order = np.argsort(labels, kind="stable")  # a label is the first row of its group, so the groups are sorted too
    groups = np.split(all_ids[order], np.flatnonzero(np.diff(labels[order])) + 1)
    return [group for group in groups if len(group) > 1]


def _joined(labels: NDArray[np.int64], a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.int64]:
    """Merge the groups of rows `a[i]` and `b[i]` for all i; the label of a group is its smallest row."""
    while True:
        low, high = np.minimum(labels[a], labels[b]), np.maximum(labels[a], labels[b])
        if (low == high).all():
            return labels
        labels = labels.copy()
        np.minimum.at(labels, high, low)
        while ((above := labels[labels]) != labels).any():
            labels = above
