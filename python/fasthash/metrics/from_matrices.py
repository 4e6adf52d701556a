"""Retrieval metrics of matrices of distances and relevance, of a query a row."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fasthash._checks import as_array, check_choice, check_int
from fasthash.metrics.average_precision import Denominator, Ties, ap_of_ranking, average_precisions
from fasthash.metrics.from_histograms import (
    Average,
    Empty,
    Histograms,
    PrecisionRecallCurve,
    RankCurve,
    counted_queries,
)
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
    """Mean over the queries of the average precision of the first R items (mAP@R).

    AP@R is the sum of `rel(j) * hits(j) / j` over the ranks j = 1..R, divided by the denominator; `hits(j)` counts the
    relevant items among the first j.

    The expected value over tie orders follows McSherry and Najork (Computing Information Retrieval Performance Measures
    Efficiently in the Presence of Tied Scores, ECIR 2008). It is exact also where R cuts through a tie group, and the
    denominator "retrieved" is itself random.

    Args:
        distances: integer array `(nq, n)`, not negative; the smaller, the earlier the item is ranked.
        relevance: bool array `(nq, n)`.
        at: R, at least 1; a value beyond n, like None, ranks all n items.
        ties: "expected" averages over all orders of items at equal distance; "best" and "worst" are the largest and the
            smallest AP of them, query by query; "random" draws one order for each query; "stable" keeps them in column
            order; "feature" orders them by `feature_distances`, and then by column, as HHNet's code does.
        denominator: "retrieved", the relevant items among the first R (the convention of the hashing literature);
            "min(R,total)", the most that R items could hold; or "total", all relevant items.
        empty: "zero" counts queries without any relevant item 0; "drop" leaves them out of the mean. A query that has
            relevant items, but none among the first R, counts 0 in either case.
        seed: of `ties="random"`, at least 0.
        feature_distances: for `ties="feature"`, and only then: real numbers `(nq, n)`, such as distances of the real
            outputs of the network.

    Returns:
        A number from 0 to 1.

    Raises:
        TypeError: `distances` holds no integers, `relevance` no booleans, `feature_distances` no real numbers, or `at`
            or `seed` is no integer.
        ValueError: the shapes differ or are empty, a distance is negative, a feature distance NaN, an option is
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
    """Mean over the queries of the average precision of the items within a Hamming radius (mAP@H<=2).

    Args:
        distances: integer array `(nq, n)`, not negative.
        relevance: bool array `(nq, n)`.
        radius: largest distance that is within, at least 0. A query that has nothing within counts 0.
        ties, denominator, empty, seed, feature_distances: as of `mean_average_precision`; R is the number of items
            within the radius of the query. To rank them by real outputs as DCH and WGLHH do, whatever their Hamming
            distances, give `np.where(distances <= radius, 0, radius + 1)` and `ties="feature"`.

    Returns:
        A number from 0 to 1.

    Raises:
        TypeError, ValueError: as `mean_average_precision`; `radius` is no integer, or negative.

    Examples:
        >>> mean_average_precision_within([[0, 1, 3]], [[False, True, True]])
        0.5
    """
    distances, relevance = _check_ranking(distances, relevance)
    cuts = np.count_nonzero(distances <= check_int("radius", radius, 0), axis=1)
    return _mean_ap(distances, relevance, cuts, ties, denominator, empty, seed, feature_distances)


def precision_at_k(distances: ArrayLike, relevance: ArrayLike, k: int, *, empty: Empty = "zero") -> float:
    """Mean over the queries of the share of relevant items among the first k, expected over all orders of tied items.

    Args:
        distances: integer array `(nq, n)`, not negative.
        relevance: bool array `(nq, n)`.
        k: from 1 to n.
        empty: what becomes of queries without any relevant item, as of `mean_average_precision`.

    Returns:
        A number from 0 to 1.

    Raises:
        TypeError: `distances` holds no integers, `relevance` no booleans, or `k` is no integer.
        ValueError: the shapes differ or are empty, a distance is negative, `k` is out of range, `empty` unknown, or all
            queries are dropped.

    Examples:
        >>> precision_at_k([[0, 1, 1]], [[False, True, False]], k=2)
        0.25
    """
    return _counts(*_check_ranking(distances, relevance)).precision_at_k(k, empty)


def recall_at_k(distances: ArrayLike, relevance: ArrayLike, k: int, *, empty: Empty = "zero") -> float:
    """Mean over the queries of the share of the relevant items that the first k hold, expected over all tie orders.

    Args:
        distances: integer array `(nq, n)`, not negative.
        relevance: bool array `(nq, n)`.
        k: from 1 to n.
        empty: what becomes of queries without any relevant item, as of `mean_average_precision`.

    Returns:
        A number from 0 to 1.

    Raises:
        TypeError, ValueError: as `precision_at_k`.

    Examples:
        >>> recall_at_k([[0, 1, 1]], [[False, True, False]], k=2)
        0.5
    """
    return _counts(*_check_ranking(distances, relevance)).recall_at_k(k, empty)


def precision_within(distances: ArrayLike, relevance: ArrayLike, radius: int = 2, *, empty: Empty = "zero") -> float:
    """Mean over the queries of the share of relevant items within a Hamming radius (P@H<=2).

    Args:
        distances: integer array `(nq, n)`, not negative.
        relevance: bool array `(nq, n)`.
        radius: largest distance that is within, at least 0. A query that has nothing within counts 0.
        empty: what becomes of queries without any relevant item, as of `mean_average_precision`.

    Returns:
        A number from 0 to 1.

    Raises:
        TypeError, ValueError: as `precision_at_k`; `radius` is no integer, or negative.

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
    """Precision and recall of the items within each Hamming radius.

    Args:
        distances: integer array `(nq, n)`, from 0 to n_bits.
        relevance: bool array `(nq, n)`.
        n_bits: width of the codes in bits, the last radius.
        average: "micro" sums items over the queries before it divides. Where no query retrieves anything, precision is
            1 and recall 0: the end point that scikit-learn gives its curves too. "macro" is the mean over the queries,
            of which one that retrieves nothing has precision 0: at radius 2 it is `precision_within`.
        empty: what becomes of queries without any relevant item: "zero" keeps them, with a recall of 0 in the mean;
            "drop" leaves them out.

    Returns:
        A `PrecisionRecallCurve` of the radii 0..n_bits, inclusive.

    Raises:
        TypeError: `distances` holds no integers, `relevance` no booleans, or `n_bits` is no integer.
        ValueError: the shapes differ or are empty, `n_bits` is below 1, a distance is out of range, an option is
            unknown, or all queries are dropped.

    Examples:
        >>> precision_recall_curve([[0, 1, 1]], [[True, True, False]], n_bits=2).recall
        array([0.5, 1. , 1. ])
    """
    distances, relevance = _check_ranking(distances, relevance)
    n_bits = check_int("n_bits", n_bits, 1)
    if distances.max() > n_bits:
        raise ValueError(f"distances must be at most n_bits = {n_bits}, found {distances.max()}")
    return _histograms(distances, relevance, n_bits + 1).precision_recall_curve(average, empty)


def precision_recall_by_rank(
    distances: ArrayLike, relevance: ArrayLike, ranks: ArrayLike, *, empty: Empty = "zero"
) -> RankCurve:
    """Precision and recall of the first items, for several numbers of items: means over the queries.

    Args:
        distances: integer array `(nq, n)`, not negative.
        relevance: bool array `(nq, n)`.
        ranks: integer array `(m,)`, each from 1 to n.
        empty: what becomes of queries without any relevant item, as of `mean_average_precision`.

    Returns:
        A `RankCurve`: `precision_at_k` and `recall_at_k` of each rank.

    Raises:
        TypeError, ValueError: as `precision_at_k`; `ranks` holds no integers, or has not one axis.

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
    """mAP of the first items, `cuts` of each query."""
    check_choice("ties", ties, get_args(Ties))
    check_choice("denominator", denominator, get_args(Denominator))
    check_int("seed", seed, 0)
    secondary = _check_secondary(feature_distances, ties, distances.shape)
    if ties == "stable" or ties == "feature":
        values = np.array(
            [
                ap_of_ranking(found[np.lexsort((keys, near))[:cut]], int(np.count_nonzero(found)), denominator)
                for near, keys, found, cut in zip(distances, secondary, relevance, cuts, strict=True)
            ]
        )
    else:
        counts = _counts(distances, relevance)
        values = average_precisions(counts.all, counts.relevant, cuts, ties, denominator, seed)
    return float(values[counted_queries(relevance, empty)].mean())


def _counts(distances: Integers, relevance: NDArray[np.bool_]) -> Histograms:
    """Counts by distance, or by rank of the distance where there would be more bins than items."""
    if distances.max() >= distances.shape[1]:
        distances = np.stack([np.unique(row, return_inverse=True)[1] for row in distances])
    return _histograms(distances, relevance, int(distances.max()) + 1)


def _histograms(distances: Integers, relevance: NDArray[np.bool_], n_bins: int) -> Histograms:
    counts = np.stack(
        [
            np.bincount(near.astype(np.int64) * 2 + found, minlength=2 * n_bins).reshape(-1, 2)
            for near, found in zip(distances, relevance, strict=True)
        ]
    )
    return Histograms(counts.sum(axis=2), counts[:, :, 1])


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


def _check_secondary(feature_distances: ArrayLike | None, ties: Ties, shape: tuple[int, ...]) -> NDArray[Any]:
    """The order of tied items: the feature distances, or one key for all."""
    if (feature_distances is not None) != (ties == "feature"):
        given = "none" if feature_distances is None else "some"
        raise ValueError(
            f"feature_distances must be given with ties='feature' and only then, got {given} with {ties!r}"
        )
    if feature_distances is None:
        return np.broadcast_to(np.zeros(1, dtype=np.int8), shape)
    keys = as_array("feature_distances", feature_distances)
    if keys.dtype.kind not in "iuf":
        raise TypeError(f"feature_distances must be an array of real numbers, got dtype {keys.dtype}")
    if keys.shape != shape:
        raise ValueError(f"feature_distances must have the shape of distances, {shape}, got {keys.shape}")
    if np.isnan(keys).any():
        raise ValueError(f"feature_distances must not hold NaN, found one at {np.argwhere(np.isnan(keys))[0].tolist()}")
    return keys
