"""Searches and makes indices for long, and sees that memory does not grow.

    python tests/soak.py [--searches 1000000] [--cycles 10000]

Exit code 1 if the resident size after everything is more than 1 % above that after the first hundredth.
"""

from __future__ import annotations

import argparse
import gc
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import fasthash as fh
from galleries import clustered

LAYOUT = (8, 16, 40)
ALLOWED_GROWTH = 0.01


def resident():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def indices(rng):
    codes = clustered(rng, 20_000, 8, 50, 0.05)
    made = [fh.FlatIndex(64), *(fh.HierIndex(LAYOUT, plan=plan) for plan in ("scan", "prefix", "multi-index"))]
    for index in made:
        index.add(codes)
        index.add(codes[:500], rng.permutation(500) + 10**6)
        index.remove(np.arange(100))
    return made, codes


def searches(n):
    """Calls of every kind, in turn; yields after each."""
    rng = np.random.default_rng(0)
    made, codes = indices(rng)
    allowed = fh.IdFilter(rng.permutation(20_000)[:500])
    done = 0
    while done < n:
        query, index = codes[done % 20_000][None], made[done % 4]
        for _ in (
            index.search(query, 10),
            index.search(query, 10, allow=allowed),
            index.range_search(query, 4),
            index.count_within(query, 6),
            index.search(query, 3, allow=[1, 2, 500]),
        ):
            done += 1
            yield


def cycles(n, folder):
    """Makes, changes, saves, maps, copies and drops an index; yields after each."""
    rng = np.random.default_rng(1)
    codes = clustered(rng, 3000, 8, 20, 0.05)
    path = folder / "index.fh"
    for cycle in range(n):
        index = fh.FlatIndex(64) if cycle % 3 == 0 else fh.HierIndex(LAYOUT, plan=("auto", "multi-index")[cycle % 2])
        index.add(codes)
        index.add(codes[:20])
        index.remove(np.arange(10))
        index.search(codes[:1], 5, allow=fh.IdFilter(np.arange(50)))
        same = index.copy()
        same.compact()
        if cycle % 10 == 0:  # a file is flushed to disk, which takes longer than all the rest
            index.save(path)
            fh.load(path, mmap=True).search(codes[:1], 5)
        fh.FlatIndex.from_bytes(index.to_bytes()) if cycle % 3 == 0 else fh.HierIndex.from_bytes(index.to_bytes())
        yield


def soak(name, steps, n):
    begin = time.monotonic()
    for done, _ in enumerate(steps, 1):
        if done == max(1, n // 100):
            before = resident()
    after = resident()
    growth = after / before - 1
    print(
        f"{n:,} {name}: resident {before / 2**20:.1f} MiB after the first hundredth, {after / 2**20:.1f} MiB at the "
        f"end, {growth:+.2%}, {time.monotonic() - begin:.0f} s"
    )
    return growth <= ALLOWED_GROWTH


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--searches", type=int, default=1_000_000)
    parser.add_argument("--cycles", type=int, default=10_000)
    options = parser.parse_args()
    good = soak("searches", searches(options.searches), options.searches)
    with tempfile.TemporaryDirectory() as folder:
        good = soak("cycles", cycles(options.cycles, Path(folder)), options.cycles) and good
    sys.exit(not good)


if __name__ == "__main__":
    main()
