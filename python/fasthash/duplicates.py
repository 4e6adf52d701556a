"""Near-duplicates among codes of any origin: perceptual hashes such as pHash and PDQ, learned codes, fingerprints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fasthash._checks import check_bool, check_choice, check_codes, check_codes_of_any_width, check_radius, code_bytes
from fasthash._index_options import METRICS, Metric
from fasthash.index import FlatIndex, HierIndex
from fasthash.perceptual import perceptual_codes
from fasthash.turning import check_turnable
from fasthash.turning import turned as turned_by_all

__all__ = ["Pairs", "near_duplicates", "near_pairs", "perceptual_codes"]

_BATCH = 1 << 10  # largest number of queries of one range search
_PAIRS = 1 << 20  # neighbours listed at once, about
_DENSE = 1 << 8  # neighbours of a code from which on its group is followed alone
# As `_BATCH` where codes are taken in the order of their ids: a dense cluster may begin with any batch.
_BATCH_IN_ORDER = 1 << 8
_FIRST_BATCH = 16  # before it is known how many neighbours a code has


class Pairs(NamedTuple):
    """Some pairs of near-duplicates, ordered by (first id, distance, second id)."""

    first: NDArray[np.int64]
    """`(n,)`, ids. Of pairs inside one set, the smaller id of a pair."""

    second: NDArray[np.int64]
    """`(n,)`, ids; of the gallery, if there is one."""

    distances: NDArray[Any]
    """`(n,)`, int32 in bits; with `turned=True` the least over all orientations. Of the metric `"jaccard"` float32."""

    turns: NDArray[np.int8]
    """`(n,)`, rows of `fasthash.turning.TURNS`: what makes the first picture the second; 0 for upright."""


def near_duplicates(
    codes: ArrayLike | FlatIndex | HierIndex,
    radius: float,
    ids: ArrayLike | None = None,
    *,
    turned: bool = False,
    metric: Metric | None = None,
) -> list[NDArray[np.int64]]:
    """Group near-duplicates: two codes within the radius are in the same group.

    Groups chain: a group may hold two codes farther apart than the radius, if other codes connect them. With a radius
    that is too large, all codes form one group. A code without a near-duplicate is in no group. `near_pairs` lists the
    pairs with their distances.

    Repeated codes cost no more than one. A dense cluster, such as the hashes of near-blank pictures, costs little more
    than its distinct codes.

    Args:
        codes: uint8 array `(n, n_bits / 8)`, see `perceptual_codes`; or an index of codes.
        radius: largest distance in bits between two near-duplicates, at least 0; 0 groups equal codes. Usual values are
            31 of 256 bits for PDQ, and 4 of 64 or 32 of 256 bits for pHash. With the metric `"jaccard"` a number, as in
            `range_search`: 0.2 groups fingerprints with a Tanimoto similarity of at least 0.8.
        ids: integer array `(n,)` of distinct ids; None takes the row numbers of `codes`. Must be None for an index.
        turned: also group turned and mirrored copies; for codes that `turned_codes` accepts.
        metric: distance between codes, as in `FlatIndex`. None takes that of the index, and `"hamming"` for an array.

    Returns:
        A list of int64 arrays: the ids of each group, at least two, in ascending order. The groups are ordered by their
        first ids. The order of the codes does not matter.

    Raises:
        TypeError: wrong dtype of `codes` or `ids`, or `radius` is not an integer (`"jaccard"`: not a number).
        ValueError: wrong shape, ids that are repeated or given with an index, an index of another metric, `turned` with
            the metric `"jaccard"`, or `radius` is negative.

    Examples:
        >>> near_duplicates(perceptual_codes(["00ff", "ff00", "00fe", "01fe"]), radius=1)
        [array([0, 2, 3])]
    """
    metric = _metric_of(metric, codes=codes)
    array, names = _entries(codes, ids, turned, metric)
    radius = check_radius(radius, metric, array.shape[1] * 8)
    distinct, row_of = np.unique(array, axis=0, return_inverse=True)
    labels = _labels(distinct, radius, turned, metric)[row_of.reshape(-1)]  # numpy 2.0 gave the inverse a second axis
    _, first, label_of = np.unique(labels, return_index=True, return_inverse=True)
    labels = first[label_of]  # groups in the order of their first ids
    order = np.argsort(labels, kind="stable")
    groups = np.split(names[order], np.flatnonzero(np.diff(labels[order])) + 1)
    return [group for group in groups if len(group) > 1]


def near_pairs(
    codes: ArrayLike | FlatIndex | HierIndex,
    radius: float,
    ids: ArrayLike | None = None,
    *,
    gallery: ArrayLike | FlatIndex | HierIndex | None = None,
    turned: bool = False,
    metric: Metric | None = None,
) -> Iterator[Pairs]:
    """List all pairs of near-duplicates with their distances, chunk by chunk: inside a set, or between new and old.

    Memory holds one chunk at a time, about a million pairs. Every pair comes once; over all chunks, pairs are ordered
    by (first id, distance, second id), for any order of the codes.

    Args:
        codes: uint8 array `(n, n_bits / 8)`, or an index.
        radius: largest distance of a pair, at least 0: in bits, or with the metric `"jaccard"` a number.
        ids: integer array `(n,)` of distinct ids; None takes the row numbers of `codes`. Must be None for an index.
        gallery: None pairs the codes with one another. An array or an index: each code is paired with the codes of the
            gallery instead, and an array has its row numbers as ids. A pair of equal ids is then a pair like others.
        turned: also pair turned and mirrored copies; for codes that `turned_codes` accepts.
        metric: as in `near_duplicates`; None takes that of whichever index is given.

    Returns:
        An iterator of `Pairs`, none of them empty. Changes of an index after the call do not count.

    Raises:
        TypeError, ValueError: as `near_duplicates`, for `gallery`, too; raised by the call itself.

    Examples:
        >>> codes = perceptual_codes(["00ff", "ff00", "00fe", "01fe"])
        >>> for pairs in near_pairs(codes, radius=2):
        ...     print(pairs.first, pairs.second, pairs.distances)
        [0 0 2] [2 3 3] [1 2 1]
        >>> for pairs in near_pairs(codes[:1], radius=1, gallery=codes[1:]):
        ...     print(pairs.first, pairs.second, pairs.distances)
        [0] [1] [1]
    """
    metric = _metric_of(metric, codes=codes, gallery=gallery)
    array, names = _entries(codes, ids, turned, metric)
    radius = check_radius(radius, metric, array.shape[1] * 8)
    if gallery is None:
        # Ranks in place of ids, so that the second of a pair is one whose rank is larger.
        return _pairs(array, names, _index_of(array, metric), names, radius, turned)
    if isinstance(gallery, (FlatIndex, HierIndex)):
        old: FlatIndex | HierIndex = gallery.copy()
    else:
        old = _index_of(check_codes_of_any_width("gallery", gallery, known=True), metric)
    return _pairs(array, names, _same_width(old, array), None, radius, turned)


def _metric_of(metric: Metric | None, **given: Any) -> Metric:
    """The metric that is named, or that of the indices among some arguments; it must be that of all of them."""
    if metric is not None:
        check_choice("metric", metric, METRICS)
    for name, index in given.items():
        if not isinstance(index, (FlatIndex, HierIndex)):
            continue
        if metric not in (None, index.metric):
            raise ValueError(f"{name} must have the metric {metric!r}, got an index with {index.metric!r}")
        metric = index.metric
    return "hamming" if metric is None else metric


def _entries(
    codes: ArrayLike | FlatIndex | HierIndex, ids: ArrayLike | None, turned: bool, metric: Metric
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Codes and their ids, in ascending order of the ids; `turned` is checked for them."""
    check_bool("turned", turned)
    if turned and metric != "hamming":
        raise ValueError(
            f"turned must be False with the metric {metric!r}: turning a picture changes which bits are set"
        )
    if isinstance(codes, (FlatIndex, HierIndex)):
        if ids is not None:
            raise ValueError("ids must be None for an index, which has its own")
        index = codes
    else:
        index = HierIndex.from_arrays(codes, ids)
    array, names = index.to_arrays()
    if turned and index.n_bits % 8:
        raise ValueError(f"codes must have whole bytes to be turned, such as 64 or 256 bits, got {index.n_bits} bits")
    if turned:
        check_turnable("codes", array[:0])
    return array, names


def _index_of(codes: NDArray[np.uint8], metric: Metric) -> HierIndex:
    """An index of codes whose width is known, so that bytes of zeros and ones alone are codes, too."""
    return HierIndex.from_arrays(codes, n_bits=codes.shape[1] * 8, metric=metric)


def _same_width(gallery: FlatIndex | HierIndex, codes: NDArray[np.uint8]) -> FlatIndex | HierIndex:
    if code_bytes(gallery.n_bits) != codes.shape[1]:
        raise ValueError(f"gallery must have codes of {codes.shape[1]} bytes, as codes has, got {gallery.n_bits} bits")
    check_codes("codes", codes, gallery.n_bits)
    return gallery


def _pairs(
    codes: NDArray[np.uint8],
    ids: NDArray[np.int64],
    index: FlatIndex | HierIndex,
    inside: NDArray[np.int64] | None,
    radius: float,
    turned: bool,
) -> Iterator[Pairs]:
    """The pairs of `near_pairs`. `inside`: the ids of the rows that the index holds if these are the codes, or None."""
    place, n_batch = 0, _FIRST_BATCH
    while place < len(codes):
        rows, seconds, distances, turns, n_found = _near(index, codes[place : place + n_batch], radius, turned)
        firsts = rows + place
        if inside is not None:
            kept = seconds > firsts
            firsts, seconds, distances, turns = firsts[kept], inside[seconds[kept]], distances[kept], turns[kept]
        if len(firsts):
            yield Pairs(ids[firsts], seconds, distances, turns)
        place += len(n_found)
        n_batch = _next_batch(n_found, _BATCH_IN_ORDER)


_Near = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[Any], NDArray[np.int8], NDArray[np.int64]]


def _near(index: FlatIndex | HierIndex, codes: NDArray[np.uint8], radius: float, turned: bool) -> _Near:
    """Neighbours of some codes: row of the code, id, distance and turn of each, by (row, distance, id).

    Also how many were listed for each code: a neighbour in several orientations is listed as often, and returned once.
    """
    queries = turned_by_all(codes).reshape(-1, codes.shape[1]) if turned else codes
    found = index.range_search(queries, radius)
    n_found = np.diff(found.offsets)
    query = np.repeat(np.arange(len(queries)), n_found)
    turn, row = np.divmod(query, len(codes))
    ids, distances = found.ids, found.distances
    if turned:
        best = np.lexsort((turn, distances, ids, row))
        new = np.ones(len(best), dtype=bool)
        new[1:] = (np.diff(row[best]) != 0) | (np.diff(ids[best]) != 0)
        best = best[new]
        best = best[np.lexsort((ids[best], distances[best], row[best]))]
        row, ids, distances, turn = row[best], ids[best], distances[best], turn[best]
    return row, ids, distances, turn.astype(np.int8), n_found.reshape(-1, len(codes)).sum(axis=0)


def _labels(codes: NDArray[np.uint8], radius: float, turned: bool, metric: Metric) -> NDArray[np.int64]:
    """The group of each of some distinct codes, named by its smallest row.

    Codes are taken in batches, in random order: so one batch shows how many neighbours the next will have. Where they
    have few, all are listed and joined. A code with many is in a dense cluster, in which pairs outnumber codes by far.
    Then its group is followed to its end and taken out of the search, which lists each of its codes about once.
    """
    labels = np.arange(len(codes))
    index = _index_of(codes, metric)
    order, place, n_batch = np.random.default_rng(0).permutation(len(codes)), 0, 1
    done = np.zeros(len(codes), dtype=bool)
    while place < len(order):
        batch = order[place : place + n_batch]
        place += n_batch
        batch = batch[~done[batch]]
        if len(batch) == 0:
            continue
        rows, found, _, _, n_found = _near(index, codes[batch], radius, turned)
        labels = _joined(labels, batch[rows], found)
        if n_found.max() > _DENSE:
            group = _followed(index, codes, radius, turned, batch[n_found.argmax()])
            labels[group], done[group] = group.min(), True
        n_batch = _next_batch(n_found, _BATCH)
    return labels


def _followed(
    index: HierIndex, codes: NDArray[np.uint8], radius: float, turned: bool, start: np.int64
) -> NDArray[np.int64]:
    """The rows of all codes that chain to one, which are removed from the index."""
    group, n_done, n_batch = np.array([start]), 0, 1
    index.remove(group)
    while n_done < len(group):
        batch = group[n_done : n_done + n_batch]
        _, found, _, _, n_found = _near(index, codes[batch], radius, turned)
        new = np.unique(found)
        index.remove(new)
        group, n_done = np.concatenate([group, new]), n_done + len(batch)
        n_batch = _next_batch(n_found, _BATCH)
    return group


def _next_batch(n_found: NDArray[np.int64], most: int) -> int:
    """Codes to search next, after some that had so many neighbours: at most twice as many, and `most`."""
    return int(max(1, min(most, 2 * len(n_found), _PAIRS // max(1, n_found.mean()))))


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
