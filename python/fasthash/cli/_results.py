"""Output of search results: tables, JSON lines, CSV and npz files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fasthash.results import RangeResult, SearchResult, SearchStats

__all__ = ["Result", "csv_lines", "json_lines", "summary", "table", "write_npz"]

Result = SearchResult | RangeResult


def neighbours(result: Result) -> Iterator[tuple[list[int], list[int]]]:
    """Yield distances and ids of each query, without padding."""
    if isinstance(result, RangeResult):
        for distances, ids in result.per_query():
            yield distances.tolist(), ids.tolist()
    else:
        for distances, ids in zip(*result, strict=True):
            valid = ids != -1
            yield distances[valid].tolist(), ids[valid].tolist()


def json_lines(result: Result, first: int) -> Iterator[str]:
    """Yield one JSON object for each query; `first` is the number of the first query."""
    for query, (distances, ids) in enumerate(neighbours(result), start=first):
        yield json.dumps({"query": query, "ids": ids, "distances": distances})


def csv_lines(result: Result, first: int) -> Iterator[str]:
    """Yield one line for each neighbour: query, rank, distance, id."""
    for query, pair in enumerate(neighbours(result), start=first):
        for rank, (distance, id) in enumerate(zip(*pair, strict=True), start=1):
            yield f"{query},{rank},{distance},{id}"


def table(result: Result, first: int) -> Iterator[str]:
    """Yield the lines of `csv_lines` in aligned columns."""
    for line in csv_lines(result, first):
        query, rank, distance, id = line.split(",")
        yield f"{query:>5s}  {rank:>4s}  {distance:>8s}  {id}"


def write_npz(path: Path, results: list[Result]) -> None:
    """Write all results to one npz file, with the field names of the result as array names."""
    arrays: dict[str, Any] = {
        name: np.concatenate([getattr(result, name) for result in results]) for name in ("distances", "ids")
    }
    if isinstance(results[0], RangeResult):
        counts = np.concatenate([np.diff(result.offsets) for result in results if isinstance(result, RangeResult)])
        arrays["offsets"] = np.concatenate([[0], np.cumsum(counts)])
    with open(path, "wb") as file:  # given a path, numpy would append .npz if it is missing
        np.savez(file, **arrays)


def summary(works: list[SearchStats], seconds: float, n_threads: int) -> str:
    """Format time, threads and work of the searches on one line."""
    n = sum(len(work.plan) for work in works)
    if n == 0:
        return "no queries"
    plans = Counter(str(plan) for work in works for plan in work.plan)
    plan = ", ".join(name if count == n else f"{name} ({count:,})" for name, count in plans.most_common())
    compared = sum(int(work.codes_compared.sum()) for work in works) / n
    return (
        f"queries: {n:,}, {seconds / n * 1e6:,.1f} us each; threads: {n_threads}; plan: {plan}, "
        f"{compared:,.1f} codes compared a query"
    )
