"""Timing of benchmarks, and the name of the processor."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

__all__ = ["cpu_name", "interleaved", "one_by_one"]

_SHORT = 0.01  # seconds


def cpu_name() -> str:
    """Return the model name of the processor."""
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def interleaved(
    calls: dict[str, Callable[[], object]], rounds: int = 5, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Return the median seconds of each call; the calls take turns, so that other load affects all of them alike.

    A short call runs once before it is timed. Otherwise it would be slow because the call before filled the caches.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            if not seconds[name] or seconds[name][-1] < _SHORT:
                call()
            begin = clock()
            call()
            seconds[name].append(clock() - begin)
    return {name: statistics.median(values) for name, values in seconds.items()}


def one_by_one(search: Callable[[Any, int], object], queries: Any, k: int = 10) -> Callable[[], None]:
    """Return a function that searches the queries one at a time."""

    def call() -> None:
        for i in range(len(queries)):
            search(queries[i : i + 1], k)

    return call
