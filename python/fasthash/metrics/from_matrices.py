"""Retrieval metrics from matrices of distances and relevance, with one row for each query."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fasthash._arrays import as_array
from fasthash._checks import check_choice, check_int, check_width
from fasthash.metrics.average_precision import Denominator, Ties, ap_of_ranking, average_precisions
from fasthash.metrics.from_histograms import (
    Average,
    Empty,
    Histograms,
    PrecisionRecallCurve,
    RankCurve,
    counted_queries,
)
from fasthash.metrics.ranking import ranked_relevance
from fasthash.metrics.ties import Counts

__all__ = [
    "mean_average_precision",
    "mean_average_precision_within",
    "precision_at_k",
    "precision_recall_by_rank",
    "precision_recall_curve",
    "precision_within",
    "recall_at_k",
]

Integers = NDArray[np.integer[Any]]


def mean_average_precision(
    distances: ArrayLike,
    relevance: ArrayLike,
    at: int | None = None,
    ties: Ties = "expected",
    denominator: Denominator = "retrieved",
    *,
    empty: Empty = "zero",
    seed: int = 0,
    feature_distances: ArrayLike | None = None,
) -> float:
    """Compute mAP@R: the mean over the queries of the average precision of the first R items.

    AP@R is the sum of `rel(j) * hits(j) / j` over the ranks j = 1..R, divided by the denominator; `hits(j)` counts the
    relevant items among the first j.

    The expected value over tie orders follows McSherry and Najork (Computing Information Retrieval Performance Measures
    Efficiently in the Presence of Tied Scores, ECIR 2008). It is exact even if R cuts through a tie group, where the
    denominator "retrieved" is itself random.

    Args:
        distances: integer array `(nq, n)`, not negative; items with smaller distances rank first.
        relevance: bool array `(nq, n)`.
        at: R, at least 1; None, or a value above n, ranks all n items.
        ties: order of items at equal distance. "expected" averages over all orders; "best" and "worst" take the largest
            and the smallest AP for each query; "random" draws one order for each query; "stable" keeps column order;
            "feature" orders by `feature_distances` and then by column, as HHNet's code does.
        denominator: "retrieved", the number of relevant items among the first R (the convention of the hashing
            literature); "min(R,total)", the largest number that R items can hold; or "total", all relevant items.
        empty: "zero" counts a query without relevant items as 0; "drop" leaves it out of the mean. A query with
            relevant items, but none among the first R, counts as 0 in either case.
        seed: random seed of `ties="random"`, at least 0.
        feature_distances: real numbers `(nq, n)`, such as distances of the real outputs of the network; required with
            `ties="feature"`, else None.

    Returns:
        A number from 0 to 1.

    Raises:
        TypeError: `distances` are not integers, `relevance` is not bool, `feature_distances` are not real numbers, or
            `at` or `seed` is not an integer.
        ValueError: the shapes differ or are empty, a distance is negative, a feature distance is NaN, an option is
            unknown, or all queries are dropped.

    Examples:
        >>> mean_average_precision([[0, 1, 1]], [[False, True, False]])
        0.41666666666666663
    """
    distances, relevance = _check_ranking(distances, relevance)
    nq, n = distances.shape
    cuts = np.full(nq, n if at is None else min(check_int("at", at, 1), n))
    return _mean_ap(distances, relevance, cuts, ties, denominator, empty, seed, feature_distances)


def mean_average_precision_within(
    distances: ArrayLike,
    relevance: ArrayLike,
    radius: int = 2,
    ties: Ties = "expected",
    denominator: Denominator = "retrieved",
    *,
    empty: Empty = "zero",
    seed: int = 0,
    feature_distances: ArrayLike | None = None,
) -> float:
    """Compute mAP@H<=2: the mean over the queries of the average precision of the items within a Hamming radius.

    Args:
        distances: integer array `(nq, n)`, not negative.
        relevance: bool array `(nq, n)`.
        radius: largest distance within the radius, at least 0. A query with no item within it counts as 0.
        ties, denominator, empty, seed, feature_distances: as in `mean_average_precision`; R is the number of items
            within the radius of the query. DCH and WGLHH rank these items by real outputs only: for that, pass
            `np.where(distances <= radius, 0, radius + 1)` as distances and `ties="feature"`.

    Returns:
        A number from 0 to 1.

    Raises:
        TypeError, ValueError: as in `mean_average_precision`; `radius` is not an integer, or is negative.

    Examples:
        >>> mean_average_precision_within([[0, 1, 3]], [[False, True, True]])
        0.5
    """
    distances, relevance = _check_ranking(distances, relevance)
    cuts = np.count_nonzero(distances <= check_int("radius", radius, 0), axis=1)
    return _mean_ap(distances, relevance, cuts, ties, denominator, empty, seed, feature_distances)


def precision_at_k(distances: ArrayLike, relevance: ArrayLike, k: int, *, empty: Empty = "zero") -> float:
    """Compute precision@k: the mean share of relevant items among the first k, expected over orders of tied items.

    Args:
        distances: integer array `(nq, n)`, not negative.
        relevance: bool array `(nq, n)`.
        k: number of items, from 1 to n.
        empty: treatment of queries without relevant items, as in `mean_average_precision`.

    Returns:
        A number from 0 to 1.

    Raises:
        TypeError: `distances` are not integers, `relevance` is not bool, or `k` is not an integer.
        ValueError: the shapes differ or are empty, a distance is negative, `k` is out of range, `empty` is unknown, or
            all queries are dropped.

    Examples:
        >>> precision_at_k([[0, 1, 1]], [[False, True, False]], k=2)
        0.25
    """
    return _counts(*_check_ranking(distances, relevance)).precision_at_k(k, empty)


def recall_at_k(distances: ArrayLike, relevance: ArrayLike, k: int, *, empty: Empty = "zero") -> float:
    """Compute recall@k: the mean share of all relevant items that are among the first k, expected over tie orders.

    Args:
        distances: integer array `(nq, n)`, not negative.
        relevance: bool array `(nq, n)`.
        k: number of items, from 1 to n.
        empty: treatment of queries without relevant items, as in `mean_average_precision`.

    Returns:
        A number from 0 to 1.

    Raises:
        TypeError, ValueError: as in `precision_at_k`.

    Examples:
        >>> recall_at_k([[0, 1, 1]], [[False, True, False]], k=2)
        0.5
    """
    return _counts(*_check_ranking(distances, relevance)).recall_at_k(k, empty)


def precision_within(distances: ArrayLike, relevance: ArrayLike, radius: int = 2, *, empty: Empty = "zero") -> float:
    """Compute P@H<=2: the mean over the queries of the share of relevant items within a Hamming radius.

    Args:
        distances: integer array `(nq, n)`, not negative.
        relevance: bool array `(nq, n)`.
        radius: largest distance within the radius, at least 0. A query with no item within it counts as 0.
        empty: treatment of queries without relevant items, as in `mean_average_precision`.

    Returns:
        A number from 0 to 1.

    Raises:
        TypeError, ValueError: as in `precision_at_k`; `radius` is not an integer, or is negative.

    Examples:
        >>> precision_within([[0, 1, 3]], [[False, True, True]])
        0.5
    """
    distances, relevance = _check_ranking(distances, relevance)
    near = distances <= check_int("radius", radius, 0)
    hits, retrieved = np.count_nonzero(near & relevance, axis=1), np.count_nonzero(near, axis=1)
    return float((hits / np.maximum(retrieved, 1))[counted_queries(relevance, empty)].mean())


def precision_recall_curve(
    distances: ArrayLike, relevance: ArrayLike, n_bits: int, *, average: Average = "micro", empty: Empty = "zero"
) -> PrecisionRecallCurve:
    """Compute precision and recall of the items within each Hamming radius.

    Args:
        distances: integer array `(nq, n)`, from 0 to n_bits.
        relevance: bool array `(nq, n)`.
        n_bits: width of the codes in bits, the last radius.
        average: "micro" sums items over the queries before it divides. At a radius where no query retrieves an item,
            precision is 1 and recall 0, like the end point of scikit-learn's curves. "macro" is the mean over the
            queries, where a query that retrieves nothing has precision 0; at radius 2 its precision equals
            `precision_within`.
        empty: treatment of queries without relevant items: "zero" keeps them, with a recall of 0 in the mean; "drop"
            leaves them out.

    Returns:
        A `PrecisionRecallCurve` of the radii 0..n_bits, inclusive.

    Raises:
        TypeError: `distances` are not integers, `relevance` is not bool, or `n_bits` is not an integer.
        ValueError: the shapes differ or are empty, `n_bits` or a distance is out of range, an option is unknown, or all
            queries are dropped.

    Examples:
        >>> precision_recall_curve([[0, 1, 1]], [[True, True, False]], n_bits=2).recall
        array([0.5, 1. , 1. ])
    """
    distances, relevance = _check_ranking(distances, relevance)
    n_bits = check_width("n_bits", n_bits)
    if distances.max() > n_bits:
        raise ValueError(f"distances must be at most n_bits = {n_bits}, found {distances.max()}")
    return _histograms(distances, relevance, n_bits + 1).precision_recall_curve(average, empty)


def precision_recall_by_rank(
    distances: ArrayLike, relevance: ArrayLike, ranks: ArrayLike, *, empty: Empty = "zero"
) -> RankCurve:
    """Compute precision and recall at several ranks, as means over the queries.

    Args:
        distances: integer array `(nq, n)`, not negative.
        relevance: bool array `(nq, n)`.
        ranks: integer array `(m,)`, each from 1 to n.
        empty: treatment of queries without relevant items, as in `mean_average_precision`.

    Returns:
        A `RankCurve`: `precision_at_k` and `recall_at_k` of each rank.

    Raises:
        TypeError, ValueError: as in `precision_at_k`; `ranks` are not integers, or do not have one axis.

    Examples:
        >>> precision_recall_by_rank([[0, 1, 1]], [[False, True, False]], ranks=[2, 3]).recall
        array([0.5, 1. ])
    """
    return _counts(*_check_ranking(distances, relevance)).precision_recall_by_rank(ranks, empty)


def _mean_ap(
    distances: Integers,
    relevance: NDArray[np.bool_],
    cuts: Counts,
    ties: Ties,
    denominator: Denominator,
    empty: Empty,
    seed: int,
    feature_distances: ArrayLike | None,
) -> float:
    """Compute the mAP of the first items; `cuts[i]` is R of query i."""
    check_choice("ties", ties, get_args(Ties))
    check_choice("denominator", denominator, get_args(Denominator))
    check_int("seed", seed, 0)
    secondary = _check_secondary(feature_distances, ties, distances.shape)
    if ties == "stable" or ties == "feature":
        values = np.array(
            [
                ap_of_ranking(
                    ranked_relevance(near, None if secondary is None else secondary[row], right)[: cuts[row]],
                    int(np.count_nonzero(right)),
                    denominator,
                )
                for row, (near, right) in enumerate(zip(distances, relevance, strict=True))
            ]
        )
    else:
        counts = _counts(distances, relevance)
        values = average_precisions(counts.all, counts.relevant, cuts, ties, denominator, seed)
    return float(values[counted_queries(relevance, empty)].mean())


def _counts(distances: Integers, relevance: NDArray[np.bool_]) -> Histograms:
    """Count by distance, or by rank of the distance if distances need more bins than there are items."""
    if distances.max() >= distances.shape[1]:
        distances = np.stack([np.unique(row, return_inverse=True)[1] for row in distances])
    return _histograms(distances, relevance, int(distances.max()) + 1)


def _histograms(distances: Integers, relevance: NDArray[np.bool_], n_bins: int) -> Histograms:
    counts = np.stack(
        [
            np.bincount(near.astype(np.int64) * 2 + right, minlength=2 * n_bins).reshape(-1, 2)
            for near, right in zip(distances, relevance, strict=True)
        ]
    )
    return Histograms(counts.sum(axis=2), counts[:, :, 1])


def _check_ranking(distances: ArrayLike, relevance: ArrayLike) -> tuple[Integers, NDArray[np.bool_]]:
    distances, relevance = as_array("distances", distances), as_array("relevance", relevance)
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


def _check_secondary(feature_distances: ArrayLike | None, ties: Ties, shape: tuple[int, ...]) -> NDArray[Any] | None:
    """Return the sort keys of tied items: the feature distances, or None."""
    if (feature_distances is not None) != (ties == "feature"):
        given = "none" if feature_distances is None else "some"
        raise ValueError(
            f"feature_distances must be given with ties='feature' and only then, got {given} with {ties!r}"
        )
    if feature_distances is None:
        return None
    keys = as_array("feature_distances", feature_distances)
    if keys.dtype.kind not in "iuf":
        raise TypeError(f"feature_distances must be an array of real numbers, got dtype {keys.dtype}")
    if keys.shape != shape:
        raise ValueError(f"feature_distances must have the shape of distances, {shape}, got {keys.shape}")
    if np.isnan(keys).any():
        raise ValueError(f"feature_distances must not hold NaN, found one at {np.argwhere(np.isnan(keys))[0].tolist()}")
    return keys
