"""The codes that benchmarks run on; how they take time, and where, is as in `fasthash bench`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fasthash.bench.timing import cpu_name, interleaved, one_by_one

__all__ = ["ORB", "cpu_name", "interleaved", "learned_like", "one_by_one", "orb"]

ORB = Path(__file__).parent.parent.parent / "shared" / "data" / "orb_descriptors"


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
