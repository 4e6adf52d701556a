"""The codes that benchmarks run on; how they take time, and where, is as in `fasthash bench`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fasthash.bench.timing import cpu_name, interleaved, one_by_one

__all__ = ["ORB", "cpu_name", "interleaved", "learned_like", "one_by_one", "orb", "real_codes"]

DATA = Path(__file__).parent.parent.parent / "shared" / "data"
ORB = DATA / "orb_descriptors"
# Real codes of 64 bits: file, arrays of the gallery and of the queries; one array is both, queries first.
REAL = {
    "learned, VGG-16": ("learned_codes/cifar10_vgg16_hyp2_64.npz", "gallery", "query"),
    "ITQ of MobileNet features": ("deep_features_mobilenet/cifar10_mobilenetv1.npz", "itq64", None),
    "pHash of photos": ("perceptual_hashes/tiny_imagenet_phash.npz", "phash64", None),
}


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


def real_codes(beginnings=("",)):
    """By name, codes of 64 bits and 1,000 queries: those that are at hand and whose names begin so."""
    found = {}
    for name, (file, gallery, queries) in REAL.items():
        if not name.startswith(beginnings) or not (DATA / file).exists():
            continue
        with np.load(DATA / file) as arrays:
            codes = arrays[gallery]
            both = (codes, arrays[queries][:1000]) if queries else (codes[1000:], codes[:1000])
            found[name] = tuple(map(np.ascontiguousarray, both))
    return found


def orb():
    """1,000,000 real ORB descriptors of 256 bits and 10,000 queries, or None where they are not at hand."""
    if not ORB.exists():
        return None
    return np.load(ORB / "base_1M_x256bit.npy"), np.load(ORB / "query_10k_x256bit.npy")
