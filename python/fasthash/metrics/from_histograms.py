"""`Histograms`: retrieval metrics from numbers of items by distance, without sorting or a matrix of distances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fasthash._arrays import as_array
from fasthash._checks import check_choice, check_int
from fasthash.metrics.average_precision import Denominator, GroupTies, average_precisions
from fasthash.metrics.ties import Counts, Floats

__all__ = ["Average", "Empty", "Histograms", "PrecisionRecallCurve", "RankCurve", "counted_queries"]

Empty = Literal["zero", "drop"]
Average = Literal["micro", "macro"]


class PrecisionRecallCurve(NamedTuple):
    """Precision and recall of Hamming balls of growing radius, three arrays `(n_bits + 1,)`."""

    radii: NDArray[np.int64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]


class RankCurve(NamedTuple):
    """Precision and recall of the first items of the ranking, three arrays of one length."""

    ranks: NDArray[np.int64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]


def counted_queries(relevant: NDArray[Any], empty: Empty) -> NDArray[np.bool_]:
    """Return which queries count in a mean; a row of `relevant` that is all zero is a query without relevant items."""
    check_choice("empty", empty, get_args(Empty))
    if empty == "zero":
        return np.ones(len(relevant), dtype=bool)
    counted: NDArray[np.bool_] = np.count_nonzero(relevant, axis=1) > 0
    if not counted.any():
        raise ValueError("empty='drop' needs a query with relevant items, but there is none")
    return counted


@dataclass(frozen=True, eq=False)
class Histograms:
    """Number of items at each distance from each query, and number of relevant items among them.

    Most metrics need only these counts; `fasthash.metrics.histograms` computes them from codes. The methods have the
    names, definitions and errors of the functions of `fasthash.metrics` on matrices of distances. The counts of two
    halves of a gallery can be added: `Histograms(a.all + b.all, a.relevant + b.relevant)`.

    Attributes:
        all: int64 `(nq, n_bits + 1)`, number of items at distances 0..n_bits; each query has at least one item.
        relevant: int64 `(nq, n_bits + 1)`, number of relevant items among them.

    Raises:
        TypeError: an array is not int64.
        ValueError: the shapes differ or are empty, a count is negative, a count of relevant items exceeds that of all
            items, or a query has no items.
    """

    all: Counts
    relevant: Counts

    def __post_init__(self) -> None:
        for name in ("all", "relevant"):
            array = as_array(name, getattr(self, name))
            if array.dtype != np.int64:
                raise TypeError(f"{name} must be an int64 array, got dtype {array.dtype}")
            object.__setattr__(self, name, array)
        if self.all.ndim != 2 or self.all.size == 0:
            raise ValueError(f"all must have shape (nq, n_bits + 1) with nq at least 1, got {self.all.shape}")
        if self.relevant.shape != self.all.shape:
            raise ValueError(f"relevant must have the shape of all, {self.all.shape}, got {self.relevant.shape}")
        if self.relevant.min() < 0:
            raise ValueError(f"relevant must not be negative, found {self.relevant.min()}")
        if (self.relevant > self.all).any():
            row, distance = np.argwhere(self.relevant > self.all)[0].tolist()
            raise ValueError(f"relevant must not exceed all, but does for query {row} at distance {distance}")
        if not self.all.any(axis=1).all():
            raise ValueError(
                f"all must have at least one item a query, found none for query {self.all.any(1).argmin()}"
            )

    @property
    def n_bits(self) -> int:
        """Width of the codes in bits: the distance of the last bin."""
        return self.all.shape[1] - 1

    def mean_average_precision(
        self,
        at: int | None = None,
        ties: GroupTies = "expected",
        denominator: Denominator = "retrieved",
        empty: Empty = "zero",
        seed: int = 0,
    ) -> float:
        """Compute mAP@R; arguments as in `fasthash.metrics.mean_average_precision`.

        Does not support ties "stable" and "feature", because counts cannot tell the items of a tie group apart.
        """
        n = self.all.sum(axis=1)
        cuts = n if at is None else np.minimum(n, min(check_int("at", at, 1), int(n.max())))
        return self._mean_ap(cuts, ties, denominator, empty, seed)

    def mean_average_precision_within(
        self,
        radius: int = 2,
        ties: GroupTies = "expected",
        denominator: Denominator = "retrieved",
        empty: Empty = "zero",
        seed: int = 0,
    ) -> float:
        """Compute the mAP within a Hamming radius, as `fasthash.metrics.mean_average_precision_within`."""
        cuts = self.all[:, : check_int("radius", radius, 0, self.n_bits) + 1].sum(axis=1)
        return self._mean_ap(cuts, ties, denominator, empty, seed)

    def precision_at_k(self, k: int, empty: Empty = "zero") -> float:
        """Compute the expected share of relevant items among the first k, as `fasthash.metrics.precision_at_k`."""
        counted = self._counted(empty)
        return float(np.mean(counted._hits(self._check_rank(k)) / k))

    def recall_at_k(self, k: int, empty: Empty = "zero") -> float:
        """Compute the expected share of all relevant items among the first k, as `fasthash.metrics.recall_at_k`."""
        counted = self._counted(empty)
        return float(np.mean(counted._share_of_relevant(counted._hits(self._check_rank(k)))))

    def precision_within(self, radius: int = 2, empty: Empty = "zero") -> float:
        """Compute the share of relevant items within a radius (P@H<=2), as `fasthash.metrics.precision_within`."""
        counted = self._counted(empty)
        n_bins = check_int("radius", radius, 0, self.n_bits) + 1
        retrieved, hits = (counts[:, :n_bins].sum(axis=1) for counts in (counted.all, counted.relevant))
        return float(np.mean(hits / np.maximum(retrieved, 1)))

    def precision_recall_curve(self, average: Average = "micro", empty: Empty = "zero") -> PrecisionRecallCurve:
        """Compute precision and recall within each radius, as `fasthash.metrics.precision_recall_curve`."""
        check_choice("average", average, get_args(Average))
        counted = self._counted(empty)
        radii = np.arange(self.n_bits + 1)
        retrieved, hits = np.cumsum(counted.all, axis=1), np.cumsum(counted.relevant, axis=1)
        if average == "macro":
            recall = counted._share_of_relevant(hits.T).mean(axis=1)
            return PrecisionRecallCurve(radii, np.mean(hits / np.maximum(retrieved, 1), axis=0), recall)
        retrieved, hits = retrieved.sum(axis=0), hits.sum(axis=0)
        precision = np.divide(hits, retrieved, out=np.ones(radii.size), where=retrieved > 0)
        return PrecisionRecallCurve(radii, precision, hits / max(hits[-1], 1))

    def precision_recall_by_rank(self, ranks: ArrayLike, empty: Empty = "zero") -> RankCurve:
        """Compute precision and recall at some ranks, as `fasthash.metrics.precision_recall_by_rank`."""
        counted = self._counted(empty)
        array = as_array("ranks", ranks)
        if array.dtype.kind not in "iu":
            raise TypeError(f"ranks must be an integer array, got dtype {array.dtype}")
        if array.ndim != 1 or array.size == 0:
            raise ValueError(f"ranks must have shape (m,) with m at least 1, got {array.shape}")
        hits = [counted._hits(self._check_rank(k, "ranks")) for k in array]
        precision = [np.mean(at_k / k) for k, at_k in zip(array, hits, strict=True)]
        recall = [np.mean(counted._share_of_relevant(at_k)) for at_k in hits]
        return RankCurve(array.astype(np.int64), np.array(precision), np.array(recall))

    def _counted(self, empty: Empty) -> Histograms:
        rows = counted_queries(self.relevant, empty)
        return self if rows.all() else Histograms(self.all[rows], self.relevant[rows])

    def _mean_ap(self, cuts: Counts, ties: GroupTies, denominator: Denominator, empty: Empty, seed: int) -> float:
        values = average_precisions(self.all, self.relevant, cuts, ties, denominator, seed)
        return float(values[counted_queries(self.relevant, empty)].mean())

    def _hits(self, k: int) -> Floats:
        """Compute the expected number of relevant items among the first k, `(nq,)`, over all orders of tied items."""
        slots = np.clip(k - (np.cumsum(self.all, axis=1) - self.all), 0, self.all)
        return np.sum(self.relevant * slots / np.maximum(self.all, 1), axis=1)

    def _share_of_relevant(self, hits: NDArray[np.generic]) -> Floats:
        return np.asarray(hits / np.maximum(self.relevant.sum(axis=1), 1))

    def _check_rank(self, k: int, name: str = "k") -> int:
        return check_int(name, k, 1, int(self.all.sum(axis=1).min()))
