"""What searches return."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["FileInfo", "FileReport", "FileSection", "RangeResult", "RescoredResult", "SearchResult", "SearchStats"]


class SearchResult(NamedTuple):
    """The k nearest codes of each query, ordered by (distance, id)."""

    distances: NDArray[np.int32]
    """`(nq, k)`, Hamming distances in bits; n_bits + 1 where fewer than k codes were found."""

    ids: NDArray[np.int64]
    """`(nq, k)`; -1 where fewer than k codes were found."""


class RangeResult(NamedTuple):
    """All codes within a radius of each query: those of query q are rows `offsets[q]` to `offsets[q + 1]`.

    `per_query` goes through the queries.
    """

    offsets: NDArray[np.int64]
    """`(nq + 1,)`, from 0 to the number of results."""

    distances: NDArray[np.int32]
    """`(offsets[-1],)`, Hamming distances in bits, of each query ordered by (distance, id)."""

    ids: NDArray[np.int64]
    """`(offsets[-1],)`"""

    @property
    def n_queries(self) -> int:
        """Number of queries; `len(result)` is that of the fields, as of every named tuple."""
        return len(self.offsets) - 1

    def per_query(self) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int64]]]:
        """Distances and ids of each query, in order, as views.

        Examples:
            >>> index = FlatIndex.from_arrays(np.array([[0], [1], [255]], dtype=np.uint8))
            >>> found = index.range_search(np.array([[0], [128], [254]], dtype=np.uint8), radius=1)
            >>> for distances, ids in found.per_query():
            ...     print(distances, ids)
            [0 1] [0 1]
            [1] [0]
            [1] [2]
        """
        for begin, end in pairwise(self.offsets.tolist()):
            yield self.distances[begin:end], self.ids[begin:end]


class RescoredResult(NamedTuple):
    """The k best embeddings for each query, ordered by (score descending, id)."""

    scores: NDArray[np.float32]
    """`(nq, k)`, cosines or inner products; minus infinity where fewer than k embeddings were found."""

    ids: NDArray[np.int64]
    """`(nq, k)`; -1 where fewer than k embeddings were found."""


class SearchStats(NamedTuple):
    """The work that each query took."""

    plan: NDArray[np.str_]
    """`(nq,)`, what was done in the segment that holds most codes: `"scan"`, `"prefix"`, `"multi-index"`;
    `"prefix+scan"` and `"multi-index+scan"` where the plan did not pay and all codes were compared after all;
    `"pruned"` with `keep=`."""

    nodes_visited: NDArray[np.int64]
    """`(nq,)`, prefixes or parts opened that hold codes; with `keep=` the nodes of the levels that stayed in the race
    or whose codes were compared, the root included; 0 in a scan."""

    codes_compared: NDArray[np.int64]
    """`(nq,)`, full codes whose distance was computed. Equal codes of a `HierIndex` are one; with several parts a code
    may be compared once for each."""


class FileInfo(NamedTuple):
    """What an index file says about itself."""

    kind: str
    """`"flat"` or `"hier"`."""

    level_bits: tuple[int, ...]
    """Widths of the levels in bits, coarse first; one level in a flat index."""

    n_codes: int
    has_ids: bool
    """False where the ids follow one another in the order of the codes and take no room."""

    format_version: str
    file_bytes: int
    memory: str | None = None
    """What a `HierIndex` may spend for speed: `"compact"`, `"default"` or `"fast"`; None of a flat index."""

    @property
    def n_bits(self) -> int:
        """Width of a code in bits."""
        return sum(self.level_bits)


class FileSection(NamedTuple):
    """One section of an index file."""

    name: str
    offset: int
    """First byte in the file."""

    n_bytes: int
    checksum: int
    """XXH64, as the header says."""

    intact: bool
    """Whether the bytes have that checksum."""


class FileReport(NamedTuple):
    """What a check of an index file found."""

    info: FileInfo
    sections: tuple[FileSection, ...]
    fault: str
    """What is wrong with the file; empty if nothing is."""
