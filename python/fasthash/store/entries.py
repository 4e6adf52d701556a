"""Sets of entries, as sorted arrays of their numbers.

numpy's own `unique`, `isin` and `setdiff1d` import `numpy.ma` when they are first called: 30 ms, and a child that is
forked meanwhile would wait for ever.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Entries", "difference", "distinct", "no_entries"]

Entries: TypeAlias = NDArray[np.int64]


def no_entries() -> Entries:
    """The empty set."""
    return np.zeros(0, np.int64)


def distinct(numbers: Entries) -> Entries:
    """The different numbers among some, ascending."""
    ascending = np.sort(numbers)
    return ascending[np.flatnonzero(np.diff(ascending, prepend=ascending[:1] - 1))]


def difference(entries: Entries, others: Entries) -> Entries:
    """The different entries that are not among others, ascending."""
    entries, others = distinct(entries), np.sort(others)
    places = np.searchsorted(others, entries)
    places[places == len(others)] = 0
    return entries[others[places] != entries] if len(others) else entries
