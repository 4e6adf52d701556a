"""Times the default HierIndex beside scans and inverted lists, on generated and on real codes.

    python benchmarks/clusters.py [--large]

Prints a table: microseconds of a query, one query a call and in batches, one thread, k = 10, medians of rounds in which
all take turns; bytes a code; and of faiss's inverted lists the first setting at which 99.9 % of the queries have all
ten distances right. Every result of ours is compared with the scan. `--large` adds ten million codes. Real codes are
those of ../shared/data, where they are at hand.
"""

from __future__ import annotations

import sys
from pathlib import Path

import faiss
import numpy as np

import fasthash as fh
from workloads import cpu_name, interleaved, learned_like, one_by_one, orb

DATA = Path(__file__).parent.parent.parent / "shared" / "data"
K = 10


def galleries(large):
    """Name, codes and queries."""
    for n in (1_000_000, 10_000_000)[: 1 + large]:
        for p in (0.04, 0.12):
            yield f"{n // 10**6} M, p = {p}", *learned_like(n, 1000, p)
    for name, file, take in (
        (
            "learned, VGG-16 HyP2",
            "learned_codes/cifar10_vgg16_hyp2_64.npz",
            lambda z: (z["gallery"], z["query"][:1000]),
        ),
        ("ITQ 64", "deep_features_mobilenet/cifar10_mobilenetv1.npz", lambda z: (z["itq64"][1000:], z["itq64"][:1000])),
        (
            "pHash 64",
            "perceptual_hashes/tiny_imagenet_phash.npz",
            lambda z: (z["phash64"][1000:], z["phash64"][:1000]),
        ),
    ):
        if (DATA / file).exists():
            with np.load(DATA / file) as arrays:
                yield name, *map(np.ascontiguousarray, take(arrays))
    if (real := orb()) is not None:
        yield "ORB 256", real[0], real[1][:200]


def lists(codes, queries, kth):
    """faiss's inverted lists with the smallest nprobe that finds (almost) all; None if only all lists do."""
    n_lists = int(min(4 * len(codes) ** 0.5, len(codes) / 39))
    quantizer = faiss.IndexBinaryFlat(codes.shape[1] * 8)
    index = faiss.IndexBinaryIVF(quantizer, codes.shape[1] * 8, n_lists)
    index.train(codes[:: max(1, len(codes) // (50 * n_lists))])
    index.add(codes)
    index.keep = quantizer  # faiss does not hold it
    for n_probe in (1, 2, 4, 8, 16, 32, 64, 128, 256):
        index.nprobe = n_probe
        if (index.search(queries, K)[0][:, -1] == kth).mean() >= 0.999:
            return index
    return None


def row(name, codes, queries):
    n_bits = codes.shape[1] * 8
    flat, tree = fh.FlatIndex(n_bits), fh.HierIndex(n_bits)
    for index in (flat, tree):
        index.add(codes)
    expected = flat.search(queries, K)
    found = tree.search(queries, K)
    assert (found.ids == expected.ids).all()
    assert (found.distances == expected.distances).all()
    inverted = lists(codes, queries, expected.distances[:, -1])
    few = queries[:50]
    calls = {}
    scan = faiss.IndexBinaryFlat(n_bits)
    scan.add(codes)
    for key, index in (("hier", tree), ("flat", flat), ("faiss", scan), ("ivf", inverted)):
        if index is not None:
            calls[f"{key} one"] = one_by_one(index.search, few, K)
            calls[f"{key} batch"] = lambda index=index: index.search(queries, K)
    took = interleaved(calls, 7)

    def us(key):
        if f"{key} one" not in took:
            return "–", "–"
        return f"{took[f'{key} one'] / len(few) * 1e6:.3g}", f"{took[f'{key} batch'] / len(queries) * 1e6:.3g}"

    stats = tree.stats()
    cells = [name, stats["plan"], f"{stats['bytes_per_code']:.1f}", *us("hier"), *us("flat"), *us("faiss"), *us("ivf")]
    print("|", " | ".join(cells), "|", flush=True)


def main():
    fh.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    print(f"{cpu_name()}, {fh.simd_level()}; faiss-cpu {faiss.__version__}; one thread, k = {K}, memory='default'\n")
    names = ("HierIndex", "FlatIndex", "faiss Flat", "faiss IVF >= 99.9 %")
    print("| codes | plan | bytes a code |", " | ".join(f"{name} one | batch" for name in names), "|")
    print("| --- | --- | ---: |", " | ".join(["---:"] * 2 * len(names)), "|")
    for gallery in galleries("--large" in sys.argv):
        row(*gallery)


if __name__ == "__main__":
    main()
