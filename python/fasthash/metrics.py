"""Retrieval metrics for integer distances: exact expected values under ties, from per-distance histograms.

Hamming distances tie all the time, and a ranking that leaves ties to a sort depends on the order of the database. Here
a metric is by default its mean over all orders of the tied items, so that shuffling the database changes nothing. The
items at one distance form a tie group; its size and its number of relevant items are all that the formulas need.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fasthash._checks import check_choice, check_int

__all__ = ["PrecisionRecallCurve", "mean_average_precision", "precision_at_k", "precision_recall_curve"]

Integers = NDArray[np.integer[Any]]
Ties = Literal["expected", "stable"]
Denominator = Literal["retrieved", "min(R,total)", "total"]

# A histogram has one bin per distance. Distances this large are no Hamming distances and are replaced by their ranks.
_MAX_BINS = 1 << 16


class PrecisionRecallCurve(NamedTuple):
    """Precision and recall of Hamming balls of growing radius, three arrays `(n_bits + 1,)`."""

    radii: NDArray[np.int64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]


def mean_average_precision(
    distances: ArrayLike,
    relevance: ArrayLike,
    at: int | None = None,
    ties: Ties = "expected",
    denominator: Denominator = "retrieved",
) -> float:
    """Mean over the queries of the average precision of the first R items (mAP@R).

    AP@R is the sum of `rel(j) * hits(j) / j` over the ranks j = 1..R, divided by the denominator; `hits(j)` counts the
    relevant items among the first j. A query without relevant items counts 0.

    The expected value over tie orders follows McSherry and Najork (Computing Information Retrieval Performance Measures
    Efficiently in the Presence of Tied Scores, ECIR 2008). It is exact also where R cuts through a tie group, and the
    denominator "retrieved" is itself random.

    Args:
        distances: integer array `(nq, n)`, not negative; the smaller, the earlier the item is ranked.
        relevance: bool array `(nq, n)`.
        at: R, at least 1; a value beyond n, like None, ranks all n items.
        ties: "expected" averages over all orders of items at equal distance; "stable" keeps them in column order.
        denominator: "retrieved", the relevant items among the first R (the convention of the hashing literature);
            "min(R,total)", the most that R items could hold; or "total", all relevant items.

    Returns:
        A number from 0 to 1.

    Raises:
        TypeError: `distances` holds no integers, `relevance` no booleans, or `at` is no integer.
        ValueError: the shapes differ or are empty, a distance is negative, or an option is unknown.

    Example:
        >>> mean_average_precision([[0, 1, 1]], [[False, True, False]])
        0.41666666666666663
    """
    distances, relevance = _check_ranking(distances, relevance)
    check_choice("ties", ties, get_args(Ties))
    check_choice("denominator", denominator, get_args(Denominator))
    n = distances.shape[1]
    cut = n if at is None else min(check_int("at", at, 1), n)
    reciprocals = 1.0 / np.arange(1, cut + 1)  # of the ranks
    average_precision = _expected_ap if ties == "expected" else _stable_ap
    rows = zip(distances, relevance, strict=True)
    return float(np.mean([average_precision(*row, reciprocals, denominator) for row in rows]))


def precision_at_k(distances: ArrayLike, relevance: ArrayLike, k: int) -> float:
    """Mean over the queries of the share of relevant items among the first k, expected over all orders of tied items.

    Args:
        distances: integer array `(nq, n)`, not negative.
        relevance: bool array `(nq, n)`.
        k: from 1 to n.

    Returns:
        A number from 0 to 1.

    Raises:
        TypeError: `distances` holds no integers, `relevance` no booleans, or `k` is no integer.
        ValueError: the shapes differ or are empty, a distance is negative, or `k` is out of range.

    Example:
        >>> precision_at_k([[0, 1, 1]], [[False, True, False]], k=2)
        0.25
    """
    distances, relevance = _check_ranking(distances, relevance)
    k = check_int("k", k, 1, distances.shape[1])
    groups = (_tie_groups(*row, k) for row in zip(distances, relevance, strict=True))
    return float(np.mean([np.sum(group.relevant / group.size * group.slots) / k for group in groups]))


def precision_recall_curve(distances: ArrayLike, relevance: ArrayLike, n_bits: int) -> PrecisionRecallCurve:
    """Precision and recall of the items within each Hamming radius, summed over the queries (micro average).

    Where no query retrieves anything, precision is 1 and recall 0: the end point that scikit-learn gives its curves
    too. Without any relevant item recall is 0.

    Args:
        distances: integer array `(nq, n)`, from 0 to n_bits.
        relevance: bool array `(nq, n)`.
        n_bits: width of the codes in bits, the last radius.

    Returns:
        A `PrecisionRecallCurve` of the radii 0..n_bits, inclusive.

    Raises:
        TypeError: `distances` holds no integers, `relevance` no booleans, or `n_bits` is no integer.
        ValueError: the shapes differ or are empty, `n_bits` is below 1, or a distance is out of range.

    Example:
        >>> precision_recall_curve([[0, 1, 1]], [[True, True, False]], n_bits=2).recall
        array([0.5, 1. , 1. ])
    """
    distances, relevance = _check_ranking(distances, relevance)
    n_bits = check_int("n_bits", n_bits, 1)
    if distances.max() > n_bits:
        raise ValueError(f"distances must be at most n_bits = {n_bits}, found {distances.max()}")
    per_radius = sum(_histogram(*row, n_bits + 1) for row in zip(distances, relevance, strict=True))
    retrieved, hits = np.cumsum(per_radius, axis=1)
    precision = np.divide(hits, retrieved, out=np.ones(n_bits + 1), where=retrieved > 0)
    return PrecisionRecallCurve(np.arange(n_bits + 1), precision, hits / max(hits[-1], 1))


class _TieGroups(NamedTuple):
    """The non-empty tie groups that begin within the cut, by ascending distance; int64 arrays of one length."""

    size: NDArray[np.int64]
    relevant: NDArray[np.int64]
    size_before: NDArray[np.int64]  # items of all groups before this one
    relevant_before: NDArray[np.int64]
    slots: NDArray[np.int64]  # ranks of this group within the cut: the size, but for a last group that is cut


def _tie_groups(distances: Integers, relevance: NDArray[np.bool_], cut: int) -> _TieGroups:
    if distances.max() >= _MAX_BINS:
        distances = np.unique(distances, return_inverse=True)[1]
    histogram = _histogram(distances, relevance, int(distances.max()) + 1)
    size, relevant = histogram[:, histogram[0] > 0]
    size_before, relevant_before = np.cumsum(size) - size, np.cumsum(relevant) - relevant
    slots = np.minimum(size, cut - size_before)
    return _TieGroups(*(column[slots > 0] for column in (size, relevant, size_before, relevant_before, slots)))


def _histogram(distances: Integers, relevance: NDArray[np.bool_], n_bins: int) -> NDArray[np.int64]:
    """Counts by distance: row 0 of all items, row 1 of the relevant ones."""
    other, relevant = np.bincount(distances.astype(np.int64) * 2 + relevance, minlength=2 * n_bins).reshape(-1, 2).T
    return np.stack((other + relevant, relevant))


def _expected_ap(
    distances: Integers, relevance: NDArray[np.bool_], reciprocals: NDArray[np.float64], denominator: Denominator
) -> float:
    """AP of one query, expected over uniformly random orders of the items in each tie group."""
    cut = reciprocals.size
    groups = _tie_groups(distances, relevance, cut)
    # Summed group by group: differences of one running sum would cancel, and lose digits far down the ranking.
    harmonic = np.add.reduceat(reciprocals, groups.size_before)
    gains = _expected_gain(groups, harmonic)
    if denominator != "retrieved":
        divisor = _fixed_divisor(relevance, cut, denominator)
        return float(gains.sum() / divisor) if divisor else 0.0

    # How many relevant items the last group shows is random where it is cut, and certain where it is not. Given their
    # number, its slots are a tie group of their own.
    last = _TieGroups(*(column[-1:] for column in groups))
    found, probability = _hypergeometric(last.size.item(), last.relevant.item(), last.slots.item())
    last_gain = _expected_gain(last._replace(size=last.slots, relevant=found), harmonic[-1:])
    hits = last.relevant_before + found
    values = np.divide(gains[:-1].sum() + last_gain, hits, out=np.zeros(hits.size), where=hits > 0)
    return float(probability @ values)


def _expected_gain(groups: _TieGroups, harmonic: NDArray[np.float64]) -> NDArray[np.float64]:
    """Expected sum of `rel(j) * hits(j) / j` over the slots of each group; `harmonic` sums 1 / j over them.

    Slot i of a group, at rank j = N + i after N items with P hits, holds a relevant item with probability r / n, and
    then expects P + 1 + (i - 1) (r - 1) / (n - 1) hits.
    """
    share = groups.relevant / groups.size
    share_of_others = (groups.relevant - 1) / np.maximum(groups.size - 1, 1)
    offsets = groups.slots - (groups.size_before + 1) * harmonic  # sum of (i - 1) / j
    return share * ((groups.relevant_before + 1) * harmonic + share_of_others * offsets)


def _hypergeometric(size: int, relevant: int, slots: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Possible numbers of relevant items in `slots` places drawn from a group, and their probabilities."""
    found = np.arange(max(0, slots + relevant - size), min(relevant, slots) + 1)
    x = found[:-1].astype(float)
    # From the ratio of neighbours, in logarithms: factorials overflow, and logarithms of them lose digits.
    log_ratios = np.log((relevant - x) * (slots - x) / ((x + 1) * (size - relevant - slots + x + 1)))
    logs = np.concatenate(([0.0], np.cumsum(log_ratios)))
    weights = np.exp(logs - logs.max())
    return found, weights / weights.sum()


def _stable_ap(
    distances: Integers, relevance: NDArray[np.bool_], reciprocals: NDArray[np.float64], denominator: Denominator
) -> float:
    """AP of one query whose ties stay in column order."""
    cut = reciprocals.size
    ranked = relevance[np.argsort(distances, kind="stable")[:cut]]
    divisor = ranked.sum() if denominator == "retrieved" else _fixed_divisor(relevance, cut, denominator)
    return float(np.sum(ranked * np.cumsum(ranked) * reciprocals) / divisor) if divisor else 0.0


def _fixed_divisor(relevance: NDArray[np.bool_], cut: int, denominator: Denominator) -> int:
    total = int(np.count_nonzero(relevance))
    return min(cut, total) if denominator == "min(R,total)" else total


def _check_ranking(distances: ArrayLike, relevance: ArrayLike) -> tuple[Integers, NDArray[np.bool_]]:
    distances, relevance = np.asarray(distances), np.asarray(relevance)
    if distances.dtype.kind not in "iu":
        raise TypeError(f"distances must be an integer array, got dtype {distances.dtype}")
    if relevance.dtype != np.bool_:
        raise TypeError(f"relevance must be a bool array, got dtype {relevance.dtype}")
    if distances.ndim != 2 or distances.size == 0:
        raise ValueError(f"distances must have shape (nq, n) with nq and n at least 1, got {distances.shape}")
    if relevance.shape != distances.shape:
        raise ValueError(f"relevance must have the shape of distances, {distances.shape}, got {relevance.shape}")
    if distances.min() < 0:
        raise ValueError(f"distances must not be negative, found {distances.min()}")
    return distances, relevance
