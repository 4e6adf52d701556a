"""Groups of near-duplicates among codes, whatever made them: perceptual hashes such as pHash and PDQ, or a network."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fasthash._checks import check_int
from fasthash.index import FlatIndex, HierIndex
from fasthash.perceptual import perceptual_codes

__all__ = ["near_duplicates", "perceptual_codes"]

_BATCH = 1 << 10  # codes whose neighbours are listed at once


def near_duplicates(
    codes: ArrayLike | FlatIndex | HierIndex, radius: int, ids: ArrayLike | None = None
) -> list[NDArray[np.int64]]:
    """Group codes that are near one another: every two within the radius come into one group.

    Nearness chains: a group may hold codes that are farther apart than the radius, if others lie between them. So the
    radius decides more than it does for a pair, and with one that is too large everything becomes one group.

    Equal codes cost no more than one. A code that has no other near it is in no group.

    Args:
        codes: uint8 array `(n, n_bits / 8)`, see `perceptual_codes`; or an index of them, which may be one that grows.
        radius: largest distance in bits between two near-duplicates, from 0, which groups equal codes. For PDQ 31 of
            256 bits is customary; for pHash 4 of 64, 16 of 256.
        ids: int64 array `(n,)`, distinct; None for the rows of `codes`. An index has its own.

    Returns:
        A list of int64 arrays: the ids of each group, at least two, in ascending order. The groups are ordered by their
        first ids, and do not depend on the order of the codes.

    Raises:
        TypeError: wrong dtype of `codes` or `ids`, or `radius` is not an integer.
        ValueError: wrong shape, ids that are not distinct or given beside an index, or `radius` is negative.

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
    array, names = index.to_arrays()
    labels = np.arange(len(names))
    distinct, first = np.unique(array, axis=0, return_index=True)  # neighbours of equal codes are listed once
    for i in range(0, len(distinct), _BATCH):
        found = index.range_search(distinct[i : i + _BATCH], radius)
        near = np.searchsorted(names, found.ids)
        labels = _joined(labels, np.repeat(first[i : i + _BATCH], np.diff(found.offsets)), near)
    order = np.argsort(labels, kind="stable")  # a label is the first row of its group, so groups come in order, too
    groups = np.split(names[order], np.flatnonzero(np.diff(labels[order])) + 1)
    return [group for group in groups if len(group) > 1]


def _joined(labels: NDArray[np.int64], a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.int64]:
    """Labels with the groups of rows `a[i]` and `b[i]` made one; each is the smallest row of its group."""
    while True:
        low, high = np.minimum(labels[a], labels[b]), np.maximum(labels[a], labels[b])
        if (low == high).all():
            return labels
        labels = labels.copy()
        np.minimum.at(labels, high, low)
        while ((above := labels[labels]) != labels).any():
            labels = above
