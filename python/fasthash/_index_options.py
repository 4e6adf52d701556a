"""The options of indices: their names and types, and the matching values of the core."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict

from fasthash import _core
from fasthash._checks import check_choice, check_fraction, check_int

if TYPE_CHECKING:
    from collections.abc import Sequence, Set

    from numpy.typing import ArrayLike

    from fasthash.filters import IdFilter

__all__ = [
    "KEEP_MODES",
    "MAX_K",
    "MEMORIES",
    "MEMORY_NAMES",
    "METRICS",
    "PLANS",
    "PLAN_NAMES",
    "Allow",
    "IndexSettings",
    "KeepMode",
    "Memory",
    "Metric",
    "Plan",
    "StrPath",
    "check_k",
    "check_keep",
]

KeepMode: TypeAlias = Literal["node_ratio", "gallery_ratio", "radius"]
Memory: TypeAlias = Literal["compact", "default", "fast"]
Metric: TypeAlias = Literal["hamming", "jaccard"]
Plan: TypeAlias = Literal["auto", "scan", "prefix", "multi-index", "clusters"]
Allow: TypeAlias = (
    "ArrayLike | Set[int] | range | IdFilter | Sequence[ArrayLike | Set[int] | range | IdFilter | None] | None"
)
StrPath: TypeAlias = "str | bytes | os.PathLike[str] | os.PathLike[bytes]"

KEEP_MODES: dict[str, _core.KeepMode] = {
    "node_ratio": _core.KeepMode.node_ratio,
    "gallery_ratio": _core.KeepMode.gallery_ratio,
    "radius": _core.KeepMode.radius,
}
MEMORIES: dict[str, _core.Memory] = {
    "compact": _core.Memory.compact,
    "default": _core.Memory.standard,
    "fast": _core.Memory.fast,
}
METRICS: dict[str, _core.Metric] = {"hamming": _core.Metric.hamming, "jaccard": _core.Metric.jaccard}
PLANS: dict[str, _core.Plan | None] = {
    "auto": None,
    "scan": _core.Plan.scan,
    "prefix": _core.Plan.prefix,
    "multi-index": _core.Plan.multi_index,
    "clusters": _core.Plan.clusters,
}
PLAN_NAMES = {plan: name for name, plan in PLANS.items() if plan is not None}
MEMORY_NAMES = {memory: name for name, memory in MEMORIES.items()}
MAX_K = 2**31 - 1
MAX_RESULTS = 2**24  # of one call without a look at the memory
_RESULT_BYTES = 12  # an id and a distance


class IndexSettings(TypedDict):
    """What makes an empty `HierIndex`, and a shard or a store of the same kind."""

    level_bits: tuple[int, ...]
    memory: Memory
    plan: Plan
    metric: Metric


def check_k(k: Any, n_queries: int) -> int:
    """Check k, the number of columns of the results of some queries."""
    k = check_int("k", k, minimum=1, maximum=MAX_K)
    n_bytes = _RESULT_BYTES * k * n_queries
    if k * n_queries > MAX_RESULTS and n_bytes > (available := _available_memory()):
        raise MemoryError(
            f"k={k:,} makes {n_bytes / 1e9:,.1f} GB of results with queries.shape[0]={n_queries:,}, more than the "
            f"{available / 1e9:,.1f} GB of memory at hand; search with a smaller k, fewer queries at once or a radius"
        )
    return k


def _available_memory() -> float:
    """Bytes of memory that could be had without swapping; infinite where the system does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return math.inf


def check_keep(keep: Any, keep_mode: Any) -> float | None:
    """Check the options of a pruned search; return the share, or None for an exact search, which has no mode."""
    check_choice("keep_mode", keep_mode, KEEP_MODES)
    if keep is not None:
        return check_fraction("keep", keep)
    if keep_mode != "node_ratio":
        raise ValueError(f"keep_mode must be left out without keep, which it explains, got {keep_mode!r}")
    return None
