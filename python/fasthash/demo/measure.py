"""Measurements of the demo: quality of rankings, comparison of searches, memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasthash.index import FlatIndex, HierIndex
from fasthash.metrics import mean_average_precision, precision_recall_curve
from fasthash.results import SearchResult, SearchStats
from fasthash.threads import get_num_threads, set_num_threads

__all__ = ["Codes", "compare_searches", "memory_per_code", "prefix_quality", "right_neighbours"]

Codes = NDArray[np.uint8]
Labels = NDArray[np.int64]
Search = Callable[[Codes], tuple[SearchResult, SearchStats]]


def right_neighbours(result: SearchResult, gallery_labels: Labels, query_labels: Labels) -> NDArray[np.bool_]:
    """Return bool `(nq, k)`: true where a neighbour has the class of the query; ids are rows of the gallery."""
    return (gallery_labels[result.ids] == query_labels[:, None]) & (result.ids >= 0)


def prefix_quality(
    gallery: Codes, gallery_labels: Labels, queries: Codes, query_labels: Labels, level_bits: tuple[int, ...]
) -> list[dict[str, Any]]:
    """Compute mAP@ALL and the precision-recall curve of the codes cut after each level."""
    rows = []
    for n_bits in accumulate(level_bits):
        index = FlatIndex(n_bits)
        index.add(gallery[:, : n_bits // 8])
        result = index.search(queries[:, : n_bits // 8], k=len(gallery))
        relevance = right_neighbours(result, gallery_labels, query_labels)
        curve = precision_recall_curve(result.distances, relevance, n_bits)
        rows.append(
            {
                "n_bits": n_bits,
                "mAP@ALL": mean_average_precision(result.distances, relevance),
                "distinct_gallery_codes": len(np.unique(gallery[:, : n_bits // 8], axis=0)),
                "pr_curve": {"precision": curve.precision.tolist(), "recall": curve.recall.tolist()},
            }
        )
    return rows


def compare_searches(
    index: HierIndex,
    gallery: Codes,
    gallery_labels: Labels,
    queries: Codes,
    query_labels: Labels,
    *,
    k: int,
    keep: float,
    repeats: int = 21,
) -> list[dict[str, Any]]:
    """Compare the scan, the exact search and the three modes of HDHash's pruned search on the same queries.

    Each time is for one call with all queries on one thread. The searches take turns; the result is the median.
    """
    flat = FlatIndex(index.n_bits)
    flat.add(gallery)
    searches: dict[str, Search] = {
        "scan (FlatIndex)": lambda q: flat.search(q, k, stats=True),
        "exact (HierIndex)": lambda q: index.search(q, k, stats=True),
        f"pruned, keep = {keep:g}": lambda q: index.search(q, k, keep=keep, stats=True),
        f"pruned, keep = {keep:g}, gallery_ratio": lambda q: index.search(
            q, k, keep=keep, keep_mode="gallery_ratio", stats=True
        ),
        f"pruned, keep = {keep:g}, radius": lambda q: index.search(q, k, keep=keep, keep_mode="radius", stats=True),
    }
    seconds: dict[str, list[float]] = {name: [] for name in searches}
    n_threads = get_num_threads()
    set_num_threads(1)
    try:
        for _ in range(repeats):
            for name, search in searches.items():
                start = time.perf_counter()
                search(queries)
                seconds[name].append(time.perf_counter() - start)
    finally:
        set_num_threads(n_threads)

    exhaustive = flat.search(queries, k)
    rows = []
    for name, search in searches.items():
        result, stats = search(queries)
        rows.append(
            {
                "search": name,
                f"recall@{k}": _recall(result, exhaustive),
                f"precision@{k}": float(right_neighbours(result, gallery_labels, query_labels).mean()),
                "identical_to_scan": np.array_equal(result.ids, exhaustive.ids)
                and np.array_equal(result.distances, exhaustive.distances),
                "codes_compared": float(stats.codes_compared.mean()),
                "nodes_visited": float(stats.nodes_visited.mean()),
                "microseconds_per_query": statistics.median(seconds[name]) / len(queries) * 1e6,
            }
        )
    return rows


def memory_per_code(index: HierIndex, file: Path) -> list[dict[str, Any]]:
    """List the bytes per gallery code: as floats, in both indices, and in the index file."""
    flat = FlatIndex(index.n_bits)
    flat.add(np.zeros((len(index), index.n_bits // 8), dtype=np.uint8))
    n = len(index)
    return [
        {"form": "±1 as float32, computed", "bytes_per_code": float(index.n_bits * 4)},
        {
            "form": "packed bits in FlatIndex; ids that count up from 0 take no memory",
            "bytes_per_code": flat.nbytes / n,
        },
        {"form": "HierIndex: distinct codes, tables and ids", "bytes_per_code": index.nbytes / n},
        {"form": "index file on disk", "bytes_per_code": file.stat().st_size / n},
    ]


def _recall(result: SearchResult, exhaustive: SearchResult) -> float:
    """Compute recall by id: another id at the same distance does not count as the true neighbour."""
    shares = [np.isin(truth, row).mean() for truth, row in zip(exhaustive.ids, result.ids, strict=True)]
    return float(np.mean(shares))
