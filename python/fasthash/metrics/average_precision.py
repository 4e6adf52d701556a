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
    """Compute the AP of a ranking without ties.

    Args:
        ranked: bool `(R,)`, relevance by rank.
        total: relevant items in the whole gallery.
        denominator: see `mean_average_precision`.
    """
    ranks = np.flatnonzero(ranked) + 1
    divisor = _divisor(ranks.size, ranked.size, total, denominator)
    return float(np.sum(np.arange(1, ranks.size + 1) / ranks) / divisor) if divisor else 0.0


def average_precisions(
    size: Counts, relevant: Counts, cuts: Counts, ties: GroupTies, denominator: Denominator, seed: int
) -> Floats:
    """Compute the AP of each query from its numbers of items and of relevant items by distance.

    Args:
        size: int64 `(nq, n_bins)`, number of items at each distance; no row is all 0.
        relevant: int64 `(nq, n_bins)`, number of relevant items at each distance, at most `size`.
        cuts: int64 `(nq,)`, R of each query, at most its number of items; R = 0 gives AP 0.
        ties: order of tied items: the mean over all orders, the best, the worst, or one drawn at random.
        denominator: see `mean_average_precision`.
        seed: random seed of the drawn orders.

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

    # If the cut falls into the last group, its number of relevant items within the cut is random. For each possible
    # number, the slots within the cut form a tie group of their own.
    last = TieGroups(*(column[-1:] for column in groups))
    n_relevant, probability = hypergeometric(last.size.item(), last.relevant.item(), last.slots.item())
    before = TieGroups(*(column[:-1] for column in groups))
    gains = _gains(before, ties).sum() + _gains(last._replace(size=last.slots, relevant=n_relevant), ties)
    divisor = np.broadcast_to(_divisor(last.relevant_before + n_relevant, cut, total, denominator), gains.shape)
    # Rounding must not bring a perfect ranking above 1.
    values = np.minimum(np.divide(gains, divisor, out=np.zeros(gains.size), where=divisor > 0), 1)
    if ties == "expected":
        return float(probability @ values)
    # One more relevant item within the cut may raise AP, or lower it if AP is divided by their number.
    return float(values.max() if ties == "best" else values.min())


def _gains(groups: TieGroups, ties: GroupTies) -> Floats:
    """Sum `rel(j) * hits(j) / j` over the slots of each group; no group may be cut.

    Let N items with P hits precede a group of n items, r of them relevant. Slot i of the group has rank j = N + i. It
    holds a relevant item with probability r / n; then the expected number of hits is P + 1 + (i - 1) (r - 1) / (n - 1).
    In the best order the relevant items come first in the group, and the i-th has P + i hits; in the worst order they
    come last.
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
