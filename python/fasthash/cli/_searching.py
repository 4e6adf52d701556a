"""The search loop of `fasthash search`: searches block by block and prints results."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import typer
from numpy.typing import NDArray

from fasthash import FlatIndex, HierIndex, IdFilter, Store
from fasthash._checks import code_bytes, whole_radius
from fasthash.cli import _codes, _results
from fasthash.results import SearchStats

if TYPE_CHECKING:
    from fasthash.distributed import ShardedIndex

__all__ = ["finder", "printer", "search_blocks"]

FEW = 10  # largest number of queries printed as a table
BLOCK = 4096  # queries of one call

Find: TypeAlias = Callable[[Any], tuple[_results.Result, SearchStats]]
Show: TypeAlias = Callable[[_results.Result, int], object]


def finder(
    index: FlatIndex | HierIndex | Store | ShardedIndex,
    k: int,
    radius: float | None,
    keep: float | None,
    keep_mode: Any,
    allow: Path | None,
) -> Find:
    """Make the function that searches one block of queries with the given options."""
    allowed: Any = None
    if allow is not None:
        ids = _codes.read_array(allow)
        index.count_within(np.empty((0, code_bytes(index.n_bits)), np.uint8), 0, allow=ids)  # raises if it does not fit
        allowed = IdFilter(ids)
    if radius is not None:
        within: Any = whole_radius(radius, index.metric)
        return lambda queries: index.range_search(queries, within, allow=allowed, stats=True)
    if keep is None:
        return lambda queries: index.search(queries, k, allow=allowed, stats=True)
    if isinstance(index, FlatIndex):
        raise ValueError(f"keep must be left out for a flat index, got {keep}")
    mode: Any = "node_ratio" if keep_mode is None else keep_mode.value
    return lambda queries: index.search(queries, k, keep=keep, keep_mode=mode, allow=allowed, stats=True)


def printer(n_queries: int, as_json: bool, as_csv: bool, with_keys: bool = False) -> Show:
    """Print the header, and return the function that prints a result; it takes the number of the first query."""
    lines = _results.json_lines
    if as_csv or (not as_json and n_queries <= FEW):
        lines = _results.csv_lines if as_csv else _results.table
        names = ["query", "rank", "distance", "id", *(["key"] if with_keys else [])]
        typer.echo((",".join if as_csv else "  ".join)(names))

    def show(result: _results.Result, first: int) -> None:
        if text := "\n".join(lines(result, first)):
            typer.echo(text)

    return show


def search_blocks(
    find: Find, queries: NDArray[np.uint8], show: Show, *, shown: bool
) -> tuple[list[SearchStats], float]:
    """Search for all queries in blocks, and show each result.

    Args:
        find: see `finder`.
        queries: uint8 `(nq, n_bytes)`.
        show: called with each result and the number of its first query.
        shown: whether a progress bar may be shown.

    Returns:
        The work of each block, and the seconds of all searches.
    """
    works, seconds = [], 0.0
    with _codes.bar(len(queries), "searching", shown=shown) as step:
        for first in range(0, len(queries), BLOCK):
            block = queries[first : first + BLOCK]
            begin = time.perf_counter()
            result, work = find(block)
            seconds += time.perf_counter() - begin
            works.append(work)
            show(result, first)
            step(len(block))
    return works, seconds
