"""Near-duplicates among codes of any origin: perceptual hashes such as pHash and PDQ, or codes of a network."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fasthash._checks import check_int
from fasthash.index import FlatIndex, HierIndex
from fasthash.perceptual import perceptual_codes

__all__ = ["near_duplicates", "perceptual_codes"]

_BATCH = 1 << 10  # largest number of queries of one range search
_PAIRS = 1 << 20  # neighbours listed at once, about
_DENSE = 1 << 8  # neighbours of a code from which on its group is followed alone


def near_duplicates(
    codes: ArrayLike | FlatIndex | HierIndex, radius: int, ids: ArrayLike | None = None
) -> list[NDArray[np.int64]]:
    """Group near-duplicates: two codes within the radius are in the same group.

    Groups chain: a group may hold two codes farther apart than the radius, if other codes connect them. With a radius
    that is too large, all codes form one group. A code without a near-duplicate is in no group.

    Repeated codes cost no more than one. A dense cluster, such as the hashes of near-blank pictures, costs little more
    than its distinct codes.

    Args:
        codes: uint8 array `(n, n_bits / 8)`, see `perceptual_codes`; or an index of codes.
        radius: largest distance in bits between two near-duplicates, at least 0; 0 groups equal codes. Usual values are
            31 of 256 bits for PDQ, and 4 of 64 or 16 of 256 bits for pHash.
        ids: integer array `(n,)` of distinct ids; None takes the row numbers of `codes`. Must be None for an index.

    Returns:
        A list of int64 arrays: the ids of each group, at least two, in ascending order. The groups are ordered by their
        first ids. The order of the codes does not matter.

    Raises:
        TypeError: wrong dtype of `codes` or `ids`, or `radius` is not an integer.
        ValueError: wrong shape, ids that are repeated or given with an index, an index whose metric is not `"hamming"`,
            or `radius` is negative.

    Examples:
        >>> near_duplicates(perceptual_codes(["00ff", "ff00", "00fe", "01fe"]), radius=1)
        [array([0, 2, 3])]
    """
    radius = check_int("radius", radius, minimum=0)
    if isinstance(codes, (FlatIndex, HierIndex)):
        if ids is not None:
            raise ValueError("ids must be None for an index, which has its own")
        codes._needs_hamming("near_duplicates")
        index = codes
    else:
        index = HierIndex.from_arrays(codes, ids)
    array, names = index.to_arrays()
    distinct, row_of = np.unique(array, axis=0, return_inverse=True)
    labels = _labels(distinct, radius)[row_of.reshape(-1)]  # numpy 2.0 gave the inverse a second axis
    _, first, label_of = np.unique(labels, return_index=True, return_inverse=True)
    labels = first[label_of]  # groups in the order of their first ids
    order = np.argsort(labels, kind="stable")
    groups = np.split(names[order], np.flatnonzero(np.diff(labels[order])) + 1)
    return [group for group in groups if len(group) > 1]


def _labels(codes: NDArray[np.uint8], radius: int) -> NDArray[np.int64]:
    """The group of each of some distinct codes, named by its smallest row.

    Codes are taken in batches, in random order: so one batch shows how many neighbours the next will have. Where they
    have few, all are listed and joined. A code with many is in a dense cluster, in which pairs outnumber codes by far.
    Then its group is followed to its end and taken out of the search, which lists each of its codes about once.
    """
    labels = np.arange(len(codes))
    index = HierIndex.from_arrays(codes)
    order, place, n_batch = np.random.default_rng(0).permutation(len(codes)), 0, 1
    done = np.zeros(len(codes), dtype=bool)
    while place < len(order):
        batch = order[place : place + n_batch]
        place += n_batch
        batch = batch[~done[batch]]
        if len(batch) == 0:
            continue
        found = index.range_search(codes[batch], radius)
        n_found = np.diff(found.offsets)
        labels = _joined(labels, np.repeat(batch, n_found), found.ids)
        if n_found.max() > _DENSE:
            group = _followed(index, codes, radius, batch[n_found.argmax()])
            labels[group], done[group] = group.min(), True
        n_batch = _next_batch(n_found)
    return labels


def _followed(index: HierIndex, codes: NDArray[np.uint8], radius: int, start: np.int64) -> NDArray[np.int64]:
    """The rows of all codes that chain to one, which are removed from the index."""
    group, n_done, n_batch = np.array([start]), 0, 1
    index.remove(group)
    while n_done < len(group):
        batch = group[n_done : n_done + n_batch]
        found = index.range_search(codes[batch], radius)
        new = np.unique(found.ids)
        index.remove(new)
        group, n_done = np.concatenate([group, new]), n_done + len(batch)
        n_batch = _next_batch(np.diff(found.offsets))
    return group


def _next_batch(n_found: NDArray[np.int64]) -> int:
    """Codes to search next, after some that had so many neighbours: at most twice as many."""
    return int(max(1, min(_BATCH, 2 * len(n_found), _PAIRS // max(1, n_found.mean()))))


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
