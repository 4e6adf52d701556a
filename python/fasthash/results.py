"""What searches return."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["FileInfo", "SearchResult", "SearchStats"]


class SearchResult(NamedTuple):
    """The k nearest codes of each query, ordered by (distance, id)."""

    distances: NDArray[np.int32]
    """`(nq, k)`, Hamming distances in bits; n_bits + 1 where fewer than k codes were found."""

    ids: NDArray[np.int64]
    """`(nq, k)`; -1 where fewer than k codes were found."""


class SearchStats(NamedTuple):
    """The work that each query took."""

    nodes_visited: NDArray[np.int64]
    """`(nq,)`, tree nodes whose children were compared, the root included; 0 in a flat index."""

    codes_compared: NDArray[np.int64]
    """`(nq,)`, full codes whose distance was computed; a tree compares equal codes once."""


class FileInfo(NamedTuple):
    """What an index file says about itself."""

    kind: str
    """`"flat"` or `"hier"`."""

    level_bits: tuple[int, ...]
    """Widths of the levels in bits, coarse first; one level in a flat index."""

    n_codes: int
    has_ids: bool
    """False where the ids are 0 .. n_codes - 1 in the order of the codes and take no room."""

    format_version: str
    file_bytes: int

    @property
    def n_bits(self) -> int:
        """Width of a code in bits."""
        return sum(self.level_bits)
