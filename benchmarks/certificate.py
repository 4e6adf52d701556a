"""Recall over time of searches with a budget, beside faiss's inverted lists.

    python benchmarks/certificate.py [--draw FILE.svg]

Prints a table for each gallery of ../shared/data that is at hand, and for generated codes. HierIndex(plan="clusters")
has several max_compared=, IndexBinaryIVF several nprobe. Columns: microseconds of a query in batches, one thread,
medians of rounds in which all take turns; recall@10; of ours the share of queries whose whole result is proven exact.
Recall counts the results that are as near as the tenth of the exact search, so that ties do not matter.
"""

from __future__ import annotations

import sys
from pathlib import Path

import faiss
import numpy as np

import fasthash as fh
from workloads import cpu_name, interleaved, learned_like, orb

DATA = Path(__file__).parent.parent.parent / "shared" / "data"
K = 10
SHARES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
PROBES = (1, 4, 16, 64, 128, 256, 512, 1024)


def galleries():
    """Name, codes and queries."""
    if (real := orb()) is not None:
        yield "ORB 256, 1 M", real[0], real[1][:200]
    hashes = DATA / "perceptual_hashes/tiny_imagenet_phash.npz"
    if hashes.exists():
        with np.load(hashes) as arrays:
            codes = np.ascontiguousarray(arrays["phash64"])
        yield "pHash 64, 109,000", codes[1000:], codes[:1000]
    yield "generated 64, 1 M, p = 0.12", *learned_like(1_000_000, 1000, 0.12)


def inverted_lists(codes):
    n_bits = codes.shape[1] * 8
    n_lists = int(4 * len(codes) ** 0.5)
    quantizer = faiss.IndexBinaryFlat(n_bits)
    index = faiss.IndexBinaryIVF(quantizer, n_bits, n_lists)
    index.train(codes[:: max(1, len(codes) // (50 * n_lists))])
    index.add(codes)
    index.keep = quantizer  # faiss does not hold it
    return index


def curves(codes, queries):
    """Rows of (index, setting, microseconds, recall, share proven)."""
    ours = fh.HierIndex(codes.shape[1] * 8, plan="clusters")
    ours.add(codes)
    lists = inverted_lists(codes)
    kth = ours.search(queries, K).distances[:, -1:]
    calls, rows = {"exact": lambda: ours.search(queries, K)}, []

    def probing(n):
        lists.nprobe = n
        return lists.search(queries, K)

    for share in SHARES:
        calls[f"max_compared={share}"] = lambda share=share: ours.search(queries, K, max_compared=share)
    for n in PROBES:
        calls[f"nprobe={n}"] = lambda n=n: probing(n)
    took = interleaved(calls, 3)
    for name, call in calls.items():
        found = call()[0]
        recall = ((found <= kth) & (found >= 0)).mean()
        proven = ""
        if name.startswith("max"):
            work = ours.search(queries, K, max_compared=float(name.partition("=")[2]), stats=True)[1]
            proven = f"{(work.exact_to >= kth[:, 0]).mean():.3f}"
        index = "faiss IVF" if name.startswith("nprobe") else f"clusters ({ours.stats()['n_clusters']})"
        rows.append((index, name, took[name] / len(queries) * 1e6, recall, proven))
    return rows


def draw(path, all_curves):
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(all_curves), figsize=(4 * len(all_curves), 3.2), squeeze=False)
    for axis, (name, rows) in zip(axes[0], all_curves.items(), strict=True):
        for index in dict.fromkeys(row[0] for row in rows):
            points = sorted((row[2], row[3]) for row in rows if row[0] == index)
            axis.plot(*zip(*points, strict=True), "o-", markersize=3, label=index)
        axis.set(title=name, xlabel="microseconds a query, batch, one thread", xscale="log", ylim=(0, 1.02))
        axis.legend(frameon=False, loc="lower right")
    axes[0][0].set_ylabel("recall@10")
    figure.tight_layout()
    figure.savefig(path)


def main():
    fh.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    print(f"{cpu_name()}, {fh.simd_level()}; faiss-cpu {faiss.__version__}; one thread, k = {K}, batches\n")
    all_curves = {}
    for name, codes, queries in galleries():
        all_curves[name] = curves(codes, queries)
        print(f"| {name} | setting | us a query | recall@10 | proven whole |\n| --- | --- | ---: | ---: | ---: |")
        for index, setting, us, recall, proven in all_curves[name]:
            print(f"| {index} | `{setting}` | {us:.3g} | {recall:.4f} | {proven} |", flush=True)
        print()
    if "--draw" in sys.argv:
        draw(sys.argv[sys.argv.index("--draw") + 1], all_curves)


if __name__ == "__main__":
    main()
