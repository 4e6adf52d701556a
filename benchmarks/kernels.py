"""Measures FlatIndex with the kernels of every instruction set that this machine offers, at several widths.

    python benchmarks/kernels.py [--codes N] [--bits N ...]

fills docs/figures.md with nanoseconds per pair of query and code, k = 10, one thread, for one query a call and for
batches of 1,000; with an option it prints the table instead. The runs of one width take turns; all instruction sets
must return the same results. A minute at 1,000,000 codes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import fasthash as fh
from fasthash import _core
from pages import fill_page, table, versions
from workloads import cpu_name, interleaved, learned_like, one_by_one

PAGE = Path(__file__).parent.parent / "docs" / "figures.md"
WIDTHS = [32, 64, 96, 128, 192, 256, 384, 512, 1024]
N, K = 1_000_000, 10
N_ONE_BY_ONE = 20


def with_level(level, call):
    def run():
        _core.set_simd_level(level)
        return call()

    return run


def nanoseconds(n, n_bits, levels):
    """By (level, mode), nanoseconds per pair."""
    codes, queries = learned_like(n, 1000, None, n_bits)
    index = fh.FlatIndex(n_bits)
    index.add(codes)
    batch, one = lambda: index.search(queries, K), one_by_one(index.search, queries[:N_ONE_BY_ONE])
    results = [with_level(level, batch)() for level in levels]
    for result in results[1:]:
        np.testing.assert_array_equal(result.ids, results[0].ids)
        np.testing.assert_array_equal(result.distances, results[0].distances)
    calls, n_pairs = {}, {}
    for mode, call, n_queries in (("one", one, N_ONE_BY_ONE), ("batch", batch, len(queries))):
        for level in levels:
            calls[level, mode], n_pairs[level, mode] = with_level(level, call), n_queries * n
    return {key: seconds / n_pairs[key] * 1e9 for key, seconds in interleaved(calls, 5).items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--codes", type=int, default=N)
    parser.add_argument("--bits", type=int, nargs="+", default=WIDTHS)
    options = parser.parse_args()
    fh.set_num_threads(1)
    levels = [level for level in _core.simd_levels() if level != "scalar"] or _core.simd_levels()
    rows = []
    for n_bits in options.bits:
        found = nanoseconds(options.codes, n_bits, levels)
        rows.append([str(n_bits), *(f"{found[level, mode]:.3f}" for mode in ("one", "batch") for level in levels)])
    head = ["bits", *(f"{mode}, {level}" for mode in ("one query", "batch") for level in levels)]
    machine = f"`python benchmarks/kernels.py`: {cpu_name()}; {versions('fasthash-search', 'numpy')}."
    text = f"{machine} {options.codes:,} uniform codes, nanoseconds a pair.\n\n{table(head, rows)}"
    fill_page(PAGE, {"kernels": text}, only_print=(options.codes, options.bits) != (N, WIDTHS))


if __name__ == "__main__":
    main()
