"""The codes that benchmarks run on, how they take time, and where."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

ORB = Path(__file__).parent.parent.parent / "shared" / "data" / "orb_descriptors"


def cpu_name():
    with open("/proc/cpuinfo") as file:
        return next(line.split(":")[1].strip() for line in file if line.startswith("model name"))


def learned_like(n, n_queries, p, n_bits=64, seed=0):
    """Codes and queries around 100 uniformly drawn centres, every bit flipped with probability p; uniform for None."""
    rng = np.random.default_rng(seed)
    n_bytes = n_bits // 8
    if p is None:
        both = rng.integers(0, 256, (n + n_queries, n_bytes), dtype=np.uint8)
        return both[:n], both[n:]
    centres = rng.integers(0, 256, (100, n_bytes), dtype=np.uint8)
    both = np.empty((n + n_queries, n_bytes), np.uint8)
    for rows in np.array_split(np.arange(n + n_queries), max(1, n // 500_000)):
        noise = np.packbits(rng.random((len(rows), n_bits), dtype=np.float32) < p, axis=1)
        both[rows] = centres[rng.integers(0, 100, len(rows))] ^ noise
    return both[:n], both[n:]


def orb():
    """1,000,000 real ORB descriptors of 256 bits and 10,000 queries, or None where they are not at hand."""
    if not ORB.exists():
        return None
    return np.load(ORB / "base_1M_x256bit.npy"), np.load(ORB / "query_10k_x256bit.npy")


def interleaved(calls: dict[str, Callable[[], object]], rounds: int = 5) -> dict[str, float]:
    """Median seconds of each call; the calls take turns, so that what else the machine does hits them alike."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values) for name, values in seconds.items()}


def one_by_one(search, queries, k=10):
    """A call that searches each query by itself."""

    def call():
        for i in range(len(queries)):
            search(queries[i : i + 1], k)

    return call
