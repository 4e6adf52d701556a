"""Relevance by rank: sorts the items of a query by distance, then by a second key, then by column.

Called by `from_matrices` for rankings without ties. `ranked_by_lexsort` is the slow path, to which tests hold
`ranked_relevance` equal.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["ranked_by_lexsort", "ranked_relevance"]

_Bools = NDArray[np.bool_]


def ranked_relevance(near: NDArray[Any], keys: NDArray[Any] | None, relevant: _Bools) -> _Bools:
    """Return the relevance of the items `(n,)` by rank.

    Args:
        near: integer distances `(n,)`, not negative.
        keys: real numbers `(n,)` that order items at one distance, none of them NaN; None for the order of columns.
        relevant: bool `(n,)`.
    """
    if keys is None:
        return relevant[np.argsort(_narrow(near), kind="stable")]
    position_bits = max(1, (len(near) - 1).bit_length())
    if keys.dtype in (np.float16, np.float32) and int(near.max()).bit_length() + 32 + position_bits < 64:
        return relevant[_sorted_words(near, keys, position_bits)]
    ranked = _sorted_twice(near, keys, relevant)
    return ranked_by_lexsort(near, keys, relevant) if ranked is None else ranked


def ranked_by_lexsort(near: NDArray[Any], keys: NDArray[Any], relevant: _Bools) -> _Bools:
    """Return the same as `ranked_relevance`, by one stable sort of pairs."""
    return relevant[np.lexsort((keys, near))]


def _sorted_words(near: NDArray[Any], keys: NDArray[Any], position_bits: int) -> NDArray[np.int64]:
    """Return positions by rank from sorted words of distance, key and position.

    A sort of words is vectorised, unlike one of pairs: some ten times as fast.
    """
    bits = (keys.astype(np.float32) + np.float32(0)).view(np.int32)  # the sum turns -0.0 into 0.0, its equal
    ordered = bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))  # integers in the order of the floats
    words = near.astype(np.int64) << 32
    words += ordered
    words += 2**31
    words <<= position_bits
    words += np.arange(len(words))
    words.sort()
    words &= (1 << position_bits) - 1
    return words


def _sorted_twice(near: NDArray[Any], keys: NDArray[Any], relevant: _Bools) -> _Bools | None:
    """Sort by key, then stably by distance; None if keys tie, whose order the first sort does not keep."""
    by_key = np.argsort(keys)
    sorted_keys = keys[by_key]
    if (sorted_keys[1:] == sorted_keys[:-1]).any():
        return None
    return relevant[by_key[np.argsort(_narrow(near[by_key]), kind="stable")]]


def _narrow(near: NDArray[Any]) -> NDArray[Any]:
    """Return distances as int16 where they fit: numpy sorts those by their digits."""
    return near.astype(np.int16) if near.max() < 2**15 else near
