"""Exact search by Jaccard distance (1 - Tanimoto) beside faiss, usearch and RDKit.

    python benchmarks/jaccard.py [--codes 1000000]

Codes of 2,048 bits on one thread, medians of rounds in which all take turns. Two galleries: `sparse`, with 3 % of the
bits set, each for itself; and `families`, which resembles Morgan fingerprints: numbers of bits set from 20 to 100, and
families of some 100 codes that share two thirds of theirs. Queries are members of the gallery with a tenth of their
bits replaced. The others take part where they are installed; they get fewer queries, since they take longer. faiss has
this metric for floats alone, 8 KiB a code: it searches 20,000 of the codes, and the time of all is computed from that.
`within .2`: all codes within distance 0.2, which chemists call a threshold of 0.8.
"""

from __future__ import annotations

import argparse

import numpy as np

import fasthash as fh
from workloads import cpu_name, interleaved

N_BITS = 2048
K = 10
FAISS_CODES = 20_000


def drawn(rng, counts):
    """Bool rows with so many bits set at random."""
    return rng.random((len(counts), N_BITS), dtype=np.float32) < (counts / N_BITS)[:, None]


def sparse(rng, n):
    return np.packbits(drawn(rng, np.full(n, 0.03 * N_BITS)), axis=1)


def families(rng, n):
    counts = np.clip(rng.gamma(8, 6, n), 20, 100)
    centres = drawn(rng, np.full(max(1, n // 100), 40.0))
    shared = centres[rng.integers(0, len(centres), n)] & (rng.random((n, N_BITS), dtype=np.float32) < 2 / 3)
    return np.packbits(shared | drawn(rng, counts / 3), axis=1)


def gallery(name, n):
    rng, make = np.random.default_rng(0), {"sparse": sparse, "families": families}[name]
    codes = np.concatenate([make(rng, rows) for rows in np.diff(np.linspace(0, n, n // 50_000 + 2).astype(int))])
    near = codes[rng.integers(0, n, 512)]
    kept = np.unpackbits(near, axis=1).astype(bool) & (rng.random((len(near), N_BITS)) < 0.9)
    return codes, np.packbits(kept | drawn(rng, np.full(len(near), 5.0)), axis=1)


def faiss_of_floats(codes, queries):
    """Name, call and number of queries, as if all codes were searched."""
    import faiss

    def floats(some):
        return np.unpackbits(some, axis=1).astype(np.float32)

    faiss.omp_set_num_threads(1)
    index, few = faiss.IndexFlat(N_BITS, faiss.METRIC_Jaccard), queries[:2]
    index.add(floats(codes[:FAISS_CODES]))
    similarities, _ = index.search(floats(few), K)
    exact = fh.FlatIndex.from_arrays(codes[:FAISS_CODES], metric="jaccard").search(few, K)
    np.testing.assert_allclose(1 - similarities, exact.distances, atol=1e-6)
    label = f"faiss {faiss.__version__}, IndexFlat of floats, computed from {FAISS_CODES:,} codes"
    return label, lambda: index.search(floats(few), K), len(few) * FAISS_CODES / len(codes)


def others(codes, queries):
    """Name, call and number of queries of each library at hand."""
    try:
        yield faiss_of_floats(codes, queries)
    except ImportError:
        print("faiss is not installed")
    try:
        import usearch
        from usearch.index import MetricKind, search

        few = queries[:4]
        yield (
            f"usearch {usearch.__version__}, exact",
            lambda: search(codes, few, K, MetricKind.Tanimoto, exact=True, threads=1),
            4,
        )
    except ImportError:
        print("usearch is not installed")
    try:
        import rdkit
        from rdkit.DataStructs import BulkTanimotoSimilarity, ExplicitBitVect
    except ImportError:
        print("RDKit is not installed")
        return

    def vector(code):
        made = ExplicitBitVect(N_BITS)
        made.SetBitsFromList(np.flatnonzero(np.unpackbits(code)).tolist())
        return made

    theirs, query = [vector(code) for code in codes], vector(queries[0])

    def nearest():
        similarities = np.array(BulkTanimotoSimilarity(query, theirs))
        return np.argpartition(-similarities, K)[:K]

    yield f"RDKit {rdkit.__version__}, BulkTanimotoSimilarity", nearest, 1


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--codes", type=int, default=1_000_000)
    n = parser.parse_args().codes
    fh.set_num_threads(1)
    print(f"{cpu_name()}, {fh.simd_level()}; fasthash {fh.__version__}; one thread, {n:,} x {N_BITS} bits, k = {K}\n")
    print("| gallery | search | µs a query | bytes a code | compared |\n| --- | --- | ---: | ---: | ---: |")
    for name in ("sparse", "families"):
        codes, queries = gallery(name, n)
        index = fh.FlatIndex.from_arrays(codes, metric="jaccard")
        calls = {
            "fasthash, batch": (lambda: index.search(queries, K), len(queries)),
            "fasthash, one query a call": (lambda: [index.search(queries[i : i + 1], K) for i in range(16)], 16),
            "fasthash, batch, within .2": (lambda: index.range_search(queries, 0.2), len(queries)),
            "fasthash, batch, within .5": (lambda: index.range_search(queries, 0.5), len(queries)),
        }
        calls |= {label: (call, size) for label, call, size in others(codes, queries)}
        took = interleaved({label: call for label, (call, _) in calls.items()}, 3)
        compared = {
            "fasthash, batch": index.search(queries, K, stats=True)[1],
            "fasthash, batch, within .2": index.range_search(queries, 0.2, stats=True)[1],
            "fasthash, batch, within .5": index.range_search(queries, 0.5, stats=True)[1],
        }
        for label, (_, size) in calls.items():
            held = index.nbytes / n if label.startswith("fasthash") else N_BITS * 4 if "floats" in label else N_BITS / 8
            share = f"{compared[label].codes_compared.mean() / n:.0%}" if label in compared else ""
            print(f"| {name} | {label} | {took[label] / size * 1e6:,.0f} | {held:.1f} | {share} |", flush=True)


if __name__ == "__main__":
    main()
