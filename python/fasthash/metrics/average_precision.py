"""Average precision of one query, under every treatment of ties.

AP@R is the sum of `rel(j) * hits(j) / j` over the ranks j = 1..R, divided by the denominator; `hits(j)` counts the
relevant items among the first j.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fasthash._checks import check_choice, check_int
from fasthash.metrics.ties import (
    Counts,
    Floats,
    TieGroups,
    draw_ranking,
    harmonic_difference,
    hypergeometric,
    tie_groups,
)

__all__ = ["Denominator", "GroupTies", "Ties", "ap_of_ranking", "average_precisions"]

GroupTies = Literal["expected", "best", "worst", "random"]
Ties = Literal["expected", "stable", "best", "worst", "random", "feature"]
Denominator = Literal["retrieved", "min(R,total)", "total"]


def ap_of_ranking(ranked: NDArray[np.bool_], total: int, denominator: Denominator) -> float:
    """AP of a ranking that has no ties, or of which they are broken.

    Args:
        ranked: bool `(R,)`, relevance by rank.
        total: relevant items in the whole gallery.
        denominator: see `mean_average_precision`.
    """
    hits = np.cumsum(ranked)
    divisor = _divisor(int(np.count_nonzero(ranked)), ranked.size, total, denominator)
    return float(np.sum(ranked * hits / np.arange(1, ranked.size + 1)) / divisor) if divisor else 0.0


def average_precisions(
    size: Counts, relevant: Counts, cuts: Counts, ties: GroupTies, denominator: Denominator, seed: int
) -> Floats:
    """AP of each query, from its numbers of items and of relevant items by distance.

    Args:
        size: int64 `(nq, n_bins)`, no row all 0.
        relevant: int64 `(nq, n_bins)`, none above `size`.
        cuts: R of each query, `(nq,)`, up to its number of items; where it is 0, AP is 0.
        ties: which of the orders of tied items counts: the mean over all, the best, the worst, or one drawn at random.
        denominator: see `mean_average_precision`.
        seed: of the orders drawn.

    Returns:
        float64 `(nq,)`.
    """
    check_choice("ties", ties, get_args(GroupTies))
    check_choice("denominator", denominator, get_args(Denominator))
    random = np.random.default_rng(check_int("seed", seed, 0))
    rows = zip(size, relevant, cuts.tolist(), strict=True)
    return np.array([_ap_of_counts(*row, ties, denominator, random) if row[2] else 0.0 for row in rows])


def _ap_of_counts(
    size: Counts, relevant: Counts, cut: int, ties: GroupTies, denominator: Denominator, random: np.random.Generator
) -> float:
    total = int(relevant.sum())
    groups = tie_groups(size, relevant, cut)
    if ties == "random":
        return ap_of_ranking(draw_ranking(groups, random), total, denominator)

    # How many relevant items the last group shows is open where it is cut, and certain where it is not. Given their
    # number, its slots are a tie group of their own.
    last = TieGroups(*(column[-1:] for column in groups))
    found, probability = hypergeometric(last.size.item(), last.relevant.item(), last.slots.item())
    before = TieGroups(*(column[:-1] for column in groups))
    gains = _gains(before, ties).sum() + _gains(last._replace(size=last.slots, relevant=found), ties)
    divisor = np.broadcast_to(_divisor(last.relevant_before + found, cut, total, denominator), gains.shape)
    # Rounding must not bring a perfect ranking above 1.
    values = np.minimum(np.divide(gains, divisor, out=np.zeros(gains.size), where=divisor > 0), 1)
    if ties == "expected":
        return float(probability @ values)
    # To show one more relevant item may raise AP or, where it is divided by their number, lower it.
    return float(values.max() if ties == "best" else values.min())


def _gains(groups: TieGroups, ties: GroupTies) -> Floats:
    """Sum of `rel(j) * hits(j) / j` over the slots of each group, none of which is cut.

    After N items with P hits, slot i of a group has the rank j = N + i. It holds a relevant item with probability
    r / n, and then expects P + 1 + (i - 1) (r - 1) / (n - 1) hits. In the best order the relevant items take the first
    slots, and the i-th of them has P + i hits; in the worst order they take the last.
    """
    n, r, before, hits = groups.size, groups.relevant, groups.size_before, groups.relevant_before
    if ties == "expected":
        harmonic = harmonic_difference(before, before + n)
        share_of_others = (r - 1) / np.maximum(n - 1, 1)
        return r / n * (share_of_others * n + (hits + 1 - share_of_others * (before + 1)) * harmonic)
    start = before if ties == "best" else before + n - r
    return r + (hits - start) * harmonic_difference(start, start + r)


def _divisor(hits: Counts | int, cut: int, total: int, denominator: Denominator) -> Counts | int:
    return {"retrieved": hits, "min(R,total)": min(cut, total), "total": total}[denominator]
