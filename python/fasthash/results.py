"""The named tuples that searches and checks of files return."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fasthash._html import html_table

__all__ = ["FileInfo", "FileReport", "FileSection", "RangeResult", "RescoredResult", "SearchResult", "SearchStats"]


_SHOWN_QUERIES, _SHOWN_NEIGHBOURS = 10, 5  # of a result in a notebook


class SearchResult(NamedTuple):
    """The k nearest codes of each query, ordered by (distance, id).

    As every named tuple it unpacks into its fields, `distances, ids = result`; `per_query` iterates over the queries.
    """

    distances: NDArray[Any]
    """`(nq, k)`, int32 Hamming distances in bits; n_bits + 1 in places without a neighbour. Of the metric `"jaccard"`
    float32 from 0 to 1; infinity in places without a neighbour."""

    ids: NDArray[np.int64]
    """`(nq, k)`; -1 in places without a neighbour."""

    def per_query(self) -> Iterator[tuple[NDArray[Any], NDArray[np.int64]]]:
        """Distances and ids of each query, in order, as views without the places that have no neighbour.

        Examples:
            >>> index = FlatIndex.from_arrays(np.array([[0], [1]], dtype=np.uint8))
            >>> for distances, ids in index.search(np.array([[0], [3]], dtype=np.uint8), k=5).per_query():
            ...     print(distances, ids)
            [0 1] [0 1]
            [1 2] [1 0]
        """
        for distances, ids, found in zip(self.distances, self.ids, (self.ids != -1).sum(axis=1), strict=True):
            yield distances[:found], ids[:found]

    def _repr_html_(self) -> str:
        """A small table for notebooks: the first neighbours of the first queries, as `id (distance)`."""
        n, k = self.ids.shape
        head = ["query", *(f"neighbour {rank}" for rank in range(min(k, _SHOWN_NEIGHBOURS)))]
        shown = SearchResult(self.distances[:_SHOWN_QUERIES], self.ids[:_SHOWN_QUERIES])
        rows = []
        for query, (distances, ids) in enumerate(shown.per_query()):
            pairs = zip(ids[:_SHOWN_NEIGHBOURS].tolist(), distances[:_SHOWN_NEIGHBOURS].tolist(), strict=True)
            rows.append([query, *(f"{id} ({distance})" for id, distance in pairs)])
        return html_table(f"SearchResult of {n:,} queries, {k:,} neighbours each", head, rows)


class RangeResult(NamedTuple):
    """All codes within a radius of each query: query q has the rows `offsets[q]` to `offsets[q + 1]`.

    `per_query` iterates over the queries.
    """

    offsets: NDArray[np.int64]
    """`(nq + 1,)`, from 0 to the number of results."""

    distances: NDArray[Any]
    """`(offsets[-1],)`, int32 Hamming distances in bits, or float32 Jaccard distances; the rows of a query are ordered
    by (distance, id)."""

    ids: NDArray[np.int64]
    """`(offsets[-1],)`, ids in the same order."""

    @property
    def n_queries(self) -> int:
        """Number of queries; `len(result)` is that of the fields, as of every named tuple."""
        return len(self.offsets) - 1

    def per_query(self) -> Iterator[tuple[NDArray[Any], NDArray[np.int64]]]:
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
    """The k best embeddings of each query, ordered by (score descending, id)."""

    scores: NDArray[np.float32]
    """`(nq, k)`, cosines or inner products; minus infinity in places without a neighbour."""

    ids: NDArray[np.int64]
    """`(nq, k)`; -1 in places without a neighbour."""


class SearchStats(NamedTuple):
    """The work of each query."""

    plan: NDArray[np.str_]
    """`(nq,)`, the plan used in the largest segment: `"scan"`, `"prefix"`, `"multi-index"` or `"clusters"`.
    `"prefix+scan"` and `"multi-index+scan"`: the plan cost more than a scan, and the search finished as a scan.
    `"pruned"`: a search with `keep=`."""

    nodes_visited: NDArray[np.int64]
    """`(nq,)`, visited clusters, or prefixes or buckets of substrings that hold codes. With `keep=`: nodes that were
    kept at their level or whose codes were compared, the root included; or those that an exact search visited, if it
    answered the query. 0 in a scan."""

    codes_compared: NDArray[np.int64]
    """`(nq,)`, full codes whose distance was computed. Equal codes of a `HierIndex` count once; with several substrings
    a code may be compared once for each, and after a plan that gave up all codes count once more. With `keep=`, codes
    below the kept nodes; where these are scanned, also others near them in the order of the codes."""

    exact_to: NDArray[np.int32]
    """`(nq,)`, the certificate of a search with `max_compared=`: all results up to this distance are those of the exact
    search, in number and order; nearer codes than the first result beyond it may be missing. -1: nothing is proven;
    n_bits: the whole result is exact. A search with `keep=` proves nothing."""

    def __repr__(self) -> str:
        with np.printoptions(threshold=_SHOWN_QUERIES):  # of more queries, the first and the last ones
            return f"SearchStats({', '.join(f'{name}={values!r}' for name, values in self._asdict().items())})"


class FileInfo(NamedTuple):
    """The header of an index file."""

    kind: str
    """`"flat"` or `"hier"`."""

    level_bits: tuple[int, ...]
    """Widths of the levels in bits, coarse first; one level in a flat index."""

    n_codes: int
    has_ids: bool
    """False if the ids are consecutive in the order of the codes, so that the file does not store them."""

    format_version: str
    file_bytes: int
    memory: str | None = None
    """The memory that a `HierIndex` may spend for speed: `"compact"`, `"default"` or `"fast"`; None of a flat index."""

    n_clusters: int = 0
    """Clusters that the codes are stored in; 0 if they are in another order."""

    has_id_map: bool = False
    """Whether the file holds the id map, so that loading it need not build one."""

    metric: str = "hamming"
    """`"hamming"` or `"jaccard"`."""

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
    """XXH64 of the section, from the header."""

    intact: bool
    """Whether the bytes match the checksum."""


class FileReport(NamedTuple):
    """The result of a check of an index file."""

    info: FileInfo
    sections: tuple[FileSection, ...]
    fault: str
    """Description of the fault; empty if the file is intact."""
