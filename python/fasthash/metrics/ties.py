"""Tie groups: the items at one distance from a query, of which a metric needs only how many there are."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Counts", "Floats", "TieGroups", "draw_ranking", "harmonic_difference", "hypergeometric", "tie_groups"]

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]

_HARMONIC = np.concatenate(([0.0], np.cumsum(1.0 / np.arange(1, 65))))


class TieGroups(NamedTuple):
    """The tie groups of one query that begin within a cut, by ascending distance; int64 arrays of one length."""

    size: Counts
    relevant: Counts
    size_before: Counts  # items of all groups before this one
    relevant_before: Counts
    slots: Counts  # ranks of this group within the cut: the size, but for a last group that is cut


def tie_groups(size: Counts, relevant: Counts, cut: int) -> TieGroups:
    """The groups among the first `cut` ranks, from counts by distance; those without items are left out."""
    size, relevant = size[size > 0], relevant[size > 0]
    size_before, relevant_before = np.cumsum(size) - size, np.cumsum(relevant) - relevant
    slots = np.minimum(size, cut - size_before)
    return TieGroups(*(column[slots > 0] for column in (size, relevant, size_before, relevant_before, slots)))


def draw_ranking(groups: TieGroups, random: np.random.Generator) -> NDArray[np.bool_]:
    """Relevance by rank in one of the orders that the groups allow, all equally likely; cut where they are."""
    group = np.repeat(np.arange(groups.size.size), groups.size)
    rank = np.arange(group.size)
    relevant = rank < (groups.size_before + groups.relevant)[group]
    shuffled = relevant[np.argsort(group + random.random(group.size))]  # fractions below 1 move none to another group
    return shuffled[: groups.slots.sum()]


def harmonic_difference(first: Any, last: Any) -> Floats:
    """Sum of 1 / j over first < j <= last, for arrays of integers, at least 0.

    Differences of one running sum would cancel, and lose digits far down the ranking. Beyond the first terms the
    difference of the asymptotic series of both ends, H(n) = log n + c + 1/2n - 1/12n² + ..., is exact to a double.
    """
    first, last = np.broadcast_arrays(np.asarray(first), np.asarray(last))
    end = _HARMONIC.size - 1
    near = _HARMONIC[np.minimum(last, end)] - _HARMONIC[np.minimum(first, end)]
    a, b = np.maximum(first, end).astype(float), np.maximum(last, end).astype(float)
    series = [1 / (12 * n**2) - 1 / (120 * n**4) + 1 / (252 * n**6) for n in (a, b)]
    return near + (np.log1p((b - a) / a) - (b - a) / (2 * a * b) + (series[0] - series[1]))


def hypergeometric(size: int, relevant: int, slots: int) -> tuple[Counts, Floats]:
    """Possible numbers of relevant items in `slots` places drawn from a group, and their probabilities."""
    found = np.arange(max(0, slots + relevant - size), min(relevant, slots) + 1)
    x = found[:-1].astype(float)
    # From the ratio of neighbours, in logarithms: factorials overflow, and logarithms of them lose digits.
    log_ratios = np.log((relevant - x) * (slots - x) / ((x + 1) * (size - relevant - slots + x + 1)))
    logs = np.concatenate(([0.0], np.cumsum(log_ratios)))
    weights = np.exp(logs - logs.max())
    return found, weights / weights.sum()
