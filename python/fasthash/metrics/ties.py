"""Tie groups: the items at one distance from a query. A metric needs only their numbers."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Counts", "Floats", "TieGroups", "draw_ranking", "harmonic_difference", "hypergeometric", "tie_groups"]

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]

_HARMONIC = np.concatenate(([0.0], np.cumsum(1.0 / np.arange(1, 65))))


class TieGroups(NamedTuple):
    """The tie groups of one query that begin within a cut, by ascending distance: int64 arrays of equal length."""

    size: Counts
    relevant: Counts
    size_before: Counts  # items of all groups before this one
    relevant_before: Counts
    slots: Counts  # ranks of this group within the cut: its size, or less for the last group


def tie_groups(size: Counts, relevant: Counts, cut: int) -> TieGroups:
    """Make the groups among the first `cut` ranks from counts by distance; empty groups are left out."""
    size, relevant = size[size > 0], relevant[size > 0]
    size_before, relevant_before = np.cumsum(size) - size, np.cumsum(relevant) - relevant
    slots = np.minimum(size, cut - size_before)
    return TieGroups(*(column[slots > 0] for column in (size, relevant, size_before, relevant_before, slots)))


def draw_ranking(groups: TieGroups, random: np.random.Generator) -> NDArray[np.bool_]:
    """Draw one order of the tied items, uniformly; return the relevance by rank, up to the cut."""
    group = np.repeat(np.arange(groups.size.size), groups.size)
    rank = np.arange(group.size)
    relevant = rank < (groups.size_before + groups.relevant)[group]
    shuffled = relevant[np.argsort(group + random.random(group.size))]  # fractions below 1 keep items in their group
    return shuffled[: groups.slots.sum()]


def harmonic_difference(first: Any, last: Any) -> Floats:
    """Sum 1 / j over first < j <= last, for arrays of integers of at least 0.

    The difference of two running sums would lose digits for large j. After the first 64 terms, the function uses the
    difference of the asymptotic series H(n) = log n + c + 1/2n - 1/12n² + ..., which is exact to double precision.
    """
    first, last = np.broadcast_arrays(np.asarray(first), np.asarray(last))
    end = _HARMONIC.size - 1
    near = _HARMONIC[np.minimum(last, end)] - _HARMONIC[np.minimum(first, end)]
    a, b = np.maximum(first, end).astype(float), np.maximum(last, end).astype(float)
    series = [1 / (12 * n**2) - 1 / (120 * n**4) + 1 / (252 * n**6) for n in (a, b)]
    return near + (np.log1p((b - a) / a) - (b - a) / (2 * a * b) + (series[0] - series[1]))


def hypergeometric(size: int, relevant: int, slots: int) -> tuple[Counts, Floats]:
    """Return the possible numbers of relevant items in `slots` places drawn from a group, and their probabilities."""
    n_relevant = np.arange(max(0, slots + relevant - size), min(relevant, slots) + 1)
    x = n_relevant[:-1].astype(float)
    # Sums logarithms of ratios of neighbours: factorials overflow, and their logarithms lose digits.
    log_ratios = np.log((relevant - x) * (slots - x) / ((x + 1) * (size - relevant - slots + x + 1)))
    logs = np.concatenate(([0.0], np.cumsum(log_ratios)))
    weights = np.exp(logs - logs.max())
    return n_relevant, weights / weights.sum()
