"""Measures what exact bounds exclude of codes without near neighbours, beside the time of each plan.

    python benchmarks/bounds.py

For the real codes of ../shared/data, k = 10: the share of groups of codes that a bound cannot exclude, which an exact
search must compare, on average over queries. The groups are halves of halves, split at the median of the first
principal direction of their bits, down to the given size.

- triangle: the distance to the centre (the majority of each bit) less the largest distance of a code of the group from
  it. The centres themselves are compared besides.
- bits: the bits that all codes of the group share, and the query has otherwise.
- bytes: no group is excluded before some of its bytes are compared: the share that still has a code within the tenth
  distance after 6 of 8 bytes, codes in sorted order.
- needed: groups that hold one of the ten nearest; no bound can exclude more.

Times are processor microseconds of a query in batches, one thread, medians of rounds in which all plans take turns.
"""

from __future__ import annotations

import time

import numpy as np

import fasthash as fh
from pages import table
from workloads import cpu_name, interleaved, real_codes

K, N_QUERIES, ROUNDS = 10, 300, 5
SIZES = (64, 16)
PLANS = ("scan", "clusters", "prefix", "multi-index")


def split(bits, rows, size):
    """Divide rows into groups of at most `size` similar codes."""
    if len(rows) <= size:
        return [rows]
    of_rows = bits[rows].astype(np.float32)
    _, directions = np.linalg.eigh(np.cov(of_rows, rowvar=False))
    order = np.argsort(of_rows @ directions[:, -1], kind="stable")
    # The first part is a whole number of groups, so that only one group in all is not full.
    half = (len(rows) // 2 + size - 1) // size * size
    return split(bits, rows[order[:half]], size) + split(bits, rows[order[half:]], size)


def shares(codes, queries, size):
    bits, of_queries = np.unpackbits(codes, axis=1), np.unpackbits(queries, axis=1)
    groups = split(bits, np.arange(len(codes)), size)
    counts = np.array([bits[group].sum(axis=0) for group in groups])
    sizes = np.array([len(group) for group in groups])[:, None]
    centres = (2 * counts > sizes).astype(np.int32)
    radii = np.array([(bits[group] != centre).sum(axis=1).max() for group, centre in zip(groups, centres, strict=True)])
    group_of = np.empty(len(codes), int)
    for number, group in enumerate(groups):
        group_of[group] = number
    in_order = codes[np.lexsort(codes.T[::-1])]
    left = {"triangle": [], "bits": [], "bytes": [], "needed": []}
    for query, of_query in zip(queries, of_queries, strict=True):
        distances = np.bitwise_count(codes ^ query).sum(axis=1)
        tenth = np.partition(distances, K - 1)[K - 1]
        left["triangle"].append(((centres != of_query).sum(axis=1) - radii <= tenth).mean())
        others = np.where(of_query, counts == 0, counts == sizes).sum(axis=1)
        left["bits"].append((others <= tenth).mean())
        partial = np.bitwise_count(in_order[:, :6] ^ query[:6]).sum(axis=1)
        left["bytes"].append((np.minimum.reduceat(partial, np.arange(0, len(partial), size)) <= tenth).mean())
        left["needed"].append(len(np.unique(group_of[np.argsort(distances, kind="stable")[:K]])) / len(groups))
    return {name: np.mean(values) for name, values in left.items()}


def times(codes, queries):
    flat = fh.FlatIndex(64)
    indices = {"FlatIndex": flat} | {plan: fh.HierIndex(64, memory="fast", plan=plan) for plan in PLANS}
    for index in indices.values():
        index.add(codes)
    searches = {name: lambda index=index: index.search(queries, K) for name, index in indices.items()}
    took = interleaved(searches, ROUNDS, time.thread_time)
    return {name: seconds / len(queries) * 1e6 for name, seconds in took.items()}


def main():
    fh.set_num_threads(1)
    print(f"{cpu_name()}, {fh.simd_level()}; fasthash {fh.__version__}; one thread, k = {K}, memory='fast'\n")
    found, took = [], []
    for name, (codes, queries) in real_codes(("ITQ", "pHash")).items():
        for size in SIZES:
            left = shares(codes, queries[:N_QUERIES], size)
            found.append([f"{len(codes):,}, {name}", str(size), *(f"{share:.2f}" for share in left.values())])
        took.append([f"{len(codes):,}, {name}", *(f"{us:.3g}" for us in times(codes, queries).values())])
    print(table(["codes", "codes in a group", "triangle", "bits", "bytes", "needed"], found), end="\n\n")
    print(table(["codes", "FlatIndex", *PLANS], took))


if __name__ == "__main__":
    main()
