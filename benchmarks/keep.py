"""Times HDHash's pruned search (`keep=`, all modes) beside the scan of FlatIndex.

    python benchmarks/keep.py [--keep 0.3] [--gaps] [--large]

Prints a table: CPU microseconds of a query, one query a call and in batches of 1,000, one thread, k = 10, medians of
rounds in which all searches take turns. Levels of 8, 16 and 40 bits. Real codes are those of ../shared/data, where they
are at hand. `--gaps`: every third id, and columns of exact search. `--large` adds ten million codes.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

import fasthash as fh
from pages import table
from workloads import cpu_name, interleaved, learned_like, real_codes

K, KEEP, ROUNDS = 10, 0.3, 5
LEVELS = [8, 16, 40]
MODES = ("node_ratio", "gallery_ratio", "radius")
NAMES = {"flat": "FlatIndex", "exact": "HierIndex, exact"}


def galleries(large):
    """Name, codes and queries."""
    for name, (codes, queries) in real_codes(("ITQ", "pHash")).items():
        yield f"{len(codes):,}, {name}", codes, queries
    for n, p in (
        (1_000_000, 0.04),
        (1_000_000, 0.12),
        (1_000_000, None),
        (30_000, None),
        (10_000, None),
        (10_000, 0.04),
    ):
        yield f"{n:,}, {'uniform' if p is None else f'p = {p}'}", *learned_like(n, 1000, p)
    if large:
        for p in (0.04, None):
            yield f"10,000,000, {'uniform' if p is None else f'p = {p}'}", *learned_like(10_000_000, 1000, p)


def row(name, codes, queries, keep, gaps):
    flat, tree = fh.FlatIndex(64), fh.HierIndex(LEVELS)
    for index in (flat, tree):
        index.add(codes, np.arange(len(codes)) * 3 if gaps else None)
    few = queries[:50]
    kinds = {"flat": (flat, {})} | ({"exact": (tree, {})} if gaps else {})
    kinds |= {mode: (tree, {"keep": keep, "keep_mode": mode}) for mode in MODES}
    searches = {}
    for kind, (index, options) in kinds.items():
        index.search(queries, K, **options)  # builds the tree of levels
        searches[kind, "one"] = lambda index=index, options=options: [
            index.search(few[q : q + 1], K, **options) for q in range(len(few))
        ]
        searches[kind, "batch"] = lambda index=index, options=options: index.search(queries, K, **options)
    took = interleaved(searches, ROUNDS, time.thread_time)
    times = [took[kind, way] / n * 1e6 for kind in kinds for way, n in (("one", len(few)), ("batch", len(queries)))]
    return {"codes": name, "plan": tree.stats()["plan"], "kinds": list(kinds), "us": times}


def rows(large, keep=KEEP, *, gaps=False):
    return [row(*gallery, keep, gaps) for gallery in galleries(large)]


def as_table(measured):
    columns = [f"{NAMES.get(kind, kind)} {way}" for kind in measured[0]["kinds"] for way in ("one", "batch")]
    cells = [[f"{us:.3g}" if us < 1000 else f"{us:,.0f}" for us in each["us"]] for each in measured]
    return table(
        ["codes", "plan", *columns],
        [[each["codes"], each["plan"], *of_row] for each, of_row in zip(measured, cells, strict=True)],
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=float, default=KEEP)
    parser.add_argument("--gaps", action="store_true")
    parser.add_argument("--large", action="store_true")
    options = parser.parse_args()
    fh.set_num_threads(1)
    print(f"{cpu_name()}, {fh.simd_level()}; fasthash {fh.__version__}; one thread, k = {K}, keep = {options.keep}\n")
    print(as_table(rows(options.large, options.keep, gaps=options.gaps)))


if __name__ == "__main__":
    main()
