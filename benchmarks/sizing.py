"""Measures what a gallery takes in memory and on disk, and computes it for larger ones: the table of docs/store.md.

    python benchmarks/sizing.py [--measured N ...] [--computed N ...] [--bits B ...]

For each number of codes, width and memory= setting: bytes of a `HierIndex` in memory, of the compact store of the same
codes without keys, and the plan. Codes stray from 100 centres with p = .04 (learned) or are uniform. What is computed
takes the bytes a code of the largest measured gallery, and one byte more for ids if there are more than 2^24.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import fasthash as fh
from workloads import cpu_name, learned_like

MEMORIES = ("compact", "default", "fast")


def codes_of(kind, n, bits):
    if kind == "uniform":
        return np.random.default_rng(0).integers(0, 256, (n, bits // 8), dtype=np.uint8)
    return learned_like(n, 1, 0.04, bits)[0]


def measured(codes, memory, folder):
    """Plan, bytes in memory, bytes on disk, seconds of building the store."""
    path = folder / f"{memory}.fhs"
    begin = time.perf_counter()
    with fh.Store(path, "w", n_bits=codes.shape[1] * 8, memory=memory) as store:
        store.add(codes)
        store.commit()
        seconds = time.perf_counter() - begin
        on_disk = store.info()["file_bytes"]
    index = fh.HierIndex.from_arrays(codes, level_bits=(codes.shape[1] * 8,), memory=memory)
    return index.stats()["plan"], index.nbytes, on_disk, seconds


def shown(n_bytes):
    return f"{n_bytes / 1e9:.2f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.0f} MB"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measured", type=int, nargs="+", default=[1_000_000, 10_000_000], help="numbers of codes")
    parser.add_argument("--computed", type=int, nargs="+", default=[50_000_000, 500_000_000], help="numbers of codes")
    parser.add_argument("--bits", type=int, nargs="+", default=[64, 256], help="widths of the codes")
    options = parser.parse_args()
    print(f"{cpu_name()}, {os.cpu_count()} cores; {' '.join(sys.argv)}\n")
    print("| codes | bits | kind | memory | plan | in memory | store | built in s |")
    print("| ---: | ---: | --- | --- | --- | ---: | ---: | ---: |")
    for bits in options.bits:
        for kind in ("learned", "uniform"):
            largest = {}
            for n in options.measured:
                codes = codes_of(kind, n, bits)
                for memory in MEMORIES:
                    with tempfile.TemporaryDirectory(dir=".") as folder:
                        plan, in_memory, on_disk, seconds = measured(codes, memory, Path(folder))
                    row = [f"{n:,}", bits, kind, memory, plan, shown(in_memory), shown(on_disk), f"{seconds:.1f}"]
                    print("| " + " | ".join(map(str, row)) + " |", flush=True)
                    largest[memory] = (n, plan, in_memory, on_disk)
            for n in options.computed:
                for memory, (of, plan, in_memory, on_disk) in largest.items():
                    wider = n * (n > 1 << 24 >= of)
                    memory_bytes, disk_bytes = (each / of * n + wider for each in (in_memory, on_disk))
                    row = [f"{n:,}", bits, kind, memory, plan, shown(memory_bytes), shown(disk_bytes), "computed"]
                    print("| " + " | ".join(map(str, row)) + " |", flush=True)


if __name__ == "__main__":
    main()
