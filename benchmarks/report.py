"""Measures the figures of docs/figures.md, beside faiss-cpu and usearch on the same arrays, and draws them.

    python benchmarks/report.py [--quick] [--only PART ...]

writes report.json and report.md into benchmarks/results/, the pictures into docs/images/, and the tables into
docs/figures.md, docs/index.md, docs/width.md and README.md. One thread and k = 10 unless a row says otherwise; medians
of runs that took turns in one process. Some fifteen minutes and 4 GB; --quick: a tenth of the codes, and no pictures or
pages.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import subprocess
import sys
import time
from pathlib import Path

import faiss
import numpy as np

import fasthash as fh
import keep
from fasthash import _core
from pages import fill_page
from report_page import draw, figures, first_page, page, readme, widths
from report_rows import exact_share, fixed_costs, inverted_lists, ivf_curve, on_real_codes, us, within_radius
from workloads import cpu_name, interleaved, learned_like, one_by_one

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
LEVEL_BITS = (8, 16, 40)
NAMES = {None: "uniform", 0.02: "p = .02", 0.04: "p = .04", 0.12: "p = .12"}

BUILD = """
import resource, sys, time
import numpy as np
import fasthash as fh
from workloads import learned_like

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

n, p, memory, n_threads = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
codes, _ = learned_like(n, 1, None if p == "None" else float(p))
fh.set_num_threads(n_threads)
open("/proc/self/clear_refs", "w").write("5")  # the peak is counted anew from here
before = resident()
index = fh.HierIndex((8, 16, 40), memory=memory)
begin = time.perf_counter()
index.add(codes)
seconds = time.perf_counter() - begin
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024
print(seconds, index.nbytes / n, (resident() - before) / n, (peak - before) / index.nbytes)
"""


def faiss_flat(codes):
    index = faiss.IndexBinaryFlat(codes.shape[1] * 8)
    index.add(codes)
    return index


def flat(codes):
    index = fh.FlatIndex(codes.shape[1] * 8)
    index.add(codes)
    return index


def hier(codes, memory, level_bits=LEVEL_BITS):
    index = fh.HierIndex(level_bits, memory=memory)
    index.add(codes)
    return index


def flat_widths(n):
    rows = []
    for n_bits in (16, 32, 64, 128, 256, 512, 1024):
        codes, queries = learned_like(n, 1000, None, n_bits)
        rival, own = faiss_flat(codes), flat(codes)
        n_rival = 1000 if n_bits <= 64 else 200
        seconds = interleaved(
            {"faiss": lambda: rival.search(queries[:n_rival], 10), "own": lambda: own.search(queries, 10)}, 5
        )
        row = {"bits": n_bits, "faiss": us(seconds["faiss"], n_rival), "fasthash": us(seconds["own"], 1000)}
        rows.append(row | {"ratio": row["faiss"] / row["fasthash"]})
    return rows


def flat_single(n):
    codes, queries = learned_like(n, 200, None)
    rival, own = faiss_flat(codes), flat(codes)
    few = queries[:50]
    rows = []
    for level in reversed(_core.simd_levels()):
        _core.set_simd_level(level)
        seconds = interleaved({"faiss": one_by_one(rival.search, few), "own": one_by_one(own.search, few)})
        rows.append({"row": f"one query a call, {level}", **compare(seconds, len(few))})
    _core.set_simd_level(_core.simd_levels()[-1])
    seconds = interleaved({"faiss": lambda: rival.search(queries, 1000), "own": lambda: own.search(queries, 1000)})
    rows.append({"row": "k = 1,000, batch of 200", **compare(seconds, len(queries))})
    return rows


def compare(seconds, n_queries):
    rival, own = us(seconds["faiss"], n_queries), us(seconds["own"], n_queries)
    return {"faiss": rival, "fasthash": own, "ratio": rival / own}


def two_threads(n):
    codes, queries = learned_like(n, 20, None)
    own = flat(codes)

    def with_threads(n_threads):
        def call():
            fh.set_num_threads(n_threads)
            one_by_one(own.search, queries)()

        return call

    seconds = interleaved({"one": with_threads(1), "two": with_threads(2)}, 7)
    fh.set_num_threads(1)
    return {"one": us(seconds["one"], 20), "two": us(seconds["two"], 20), "ratio": seconds["one"] / seconds["two"]}


def hierarchical(n):
    rows = []
    for p in (0.02, 0.04, 0.12, None):
        codes, queries = learned_like(n, 1000, p)
        rival, own_flat = faiss_flat(codes), flat(codes)
        exact = own_flat.search(queries, 10)
        n_lists = 1024 if n <= 1_000_000 else 4096
        ivf = None if p is None else inverted_lists(codes, queries, exact.distances, n_lists)
        few, fewer = queries[:300], queries[:8]
        for memory in ("compact", "default", "fast"):
            index = hier(codes, memory)
            result, work = index.search(queries, 10, stats=True)
            np.testing.assert_array_equal(result.ids, exact.ids)
            stats = index.stats()
            seconds = interleaved(
                {
                    "faiss": one_by_one(rival.search, fewer),
                    "flat": one_by_one(own_flat.search, fewer),
                    "flat batch": lambda: own_flat.search(queries, 10),
                    "one": one_by_one(index.search, few if p is not None or memory == "fast" else fewer),
                    "batch": lambda index=index: index.search(queries, 10),
                },
                3,
            )
            one = us(seconds["one"], len(few) if p is not None or memory == "fast" else len(fewer))
            row = {
                "n": n,
                "codes": NAMES[p],
                "memory": memory,
                "plan": stats["plan"],
                "substrings": f"{stats['n_substrings']} x {stats['substring_bits']}" if stats["n_substrings"] else "",
                "bytes_per_code": stats["bytes_per_code"],
                "one": one,
                "batch": us(seconds["batch"], 1000),
                "faiss_one": us(seconds["faiss"], len(fewer)),
                "flat_one": us(seconds["flat"], len(fewer)),
                "flat_batch": us(seconds["flat batch"], 1000),
                "to_faiss": us(seconds["faiss"], len(fewer)) / one,
                "to_flat": us(seconds["flat"], len(fewer)) / one,
                "codes_compared": float(work.codes_compared.mean()),
                "ivf": ivf,
            }
            rows.append(row)
            print(f"  {n:>10,} {NAMES[p]:8s} {memory:8s} {one:8.1f} us", flush=True)
    return rows


def builds(n):
    rows = []
    for p in (0.04, 0.12, None):
        for memory in ("compact", "default", "fast"):
            times = []
            for n_threads in (1, 2):
                run = subprocess.run(
                    [sys.executable, "-c", BUILD, str(n), str(p), memory, str(n_threads)],
                    capture_output=True,
                    text=True,
                    check=True,
                    cwd=Path(__file__).parent,
                )
                seconds, nbytes, resident, peak = map(float, run.stdout.split())
                times.append(seconds)
            rows.append(
                {
                    "codes": NAMES[p],
                    "memory": memory,
                    "seconds_1": times[0],
                    "seconds_2": times[1],
                    "bytes_per_code": nbytes,
                    "resident_per_code": resident,
                    "peak_to_result": peak,
                }
            )
    return rows


def scaling(largest):
    sizes = [n for n in (10_000, 31_623, 100_000, 316_228, 1_000_000, 3_162_278, 10_000_000) if n <= largest]
    rows = []
    for n in sizes:
        row, calls, n_queries = {"n": n}, {}, {}
        for p, memory in ((0.04, "default"), (0.12, "default"), (0.12, "fast")):
            codes, queries = learned_like(n, 500, p)
            name = f"{NAMES[p]}, {memory}"
            calls[name], n_queries[name] = one_by_one(hier(codes, memory).search, queries), len(queries)
        few = queries[: max(20, 10_000_000 // n)]  # of a scan; enough that the first, with cold caches, does not count
        for name, index in (("FlatIndex", flat(codes)), ("faiss IndexBinaryFlat", faiss_flat(codes))):
            calls[name], n_queries[name] = one_by_one(index.search, few), len(few)
        seconds = interleaved(calls, 5)
        rows.append(row | {name: us(seconds[name], n_queries[name]) for name in calls})
    logs = np.log([row["n"] for row in rows])
    exponents = {
        name: float(np.polyfit(logs, np.log([row[name] for row in rows]), 1)[0]) for name in rows[0] if name != "n"
    }
    return {"rows": rows, "exponents": exponents}


def recall_against_time(n):
    """All contestants on codes of medium difficulty; the approximate ones at several settings."""
    codes, queries = learned_like(n, 500, 0.12)
    exact = flat(codes).search(queries, 10)
    curves = {
        "faiss IndexBinaryIVF": [
            (point.exact, us(point.one)) for point in ivf_curve(codes, queries, exact.distances, 512)
        ]
    }
    index = faiss.IndexBinaryHNSW(64, 16)
    index.hnsw.efConstruction = 80
    index.add(codes)
    curves["faiss IndexBinaryHNSW"] = []
    for ef in (16, 32, 64, 128, 256):
        index.hnsw.efSearch = ef
        share = exact_share(index.search(queries, 10)[0], exact.distances)
        curves["faiss IndexBinaryHNSW"].append(
            (share, us(interleaved({"hnsw": one_by_one(index.search, queries)}, 3)["hnsw"], len(queries)))
        )
    try:
        from usearch.index import Index
    except ImportError:
        pass
    else:
        index = Index(ndim=64, metric="hamming", dtype="b1", connectivity=16, expansion_add=80)
        index.add(np.arange(n), codes, threads=2)
        curves["usearch HNSW"] = []
        for ef in (16, 64, 256):
            index.expansion_search = ef
            distances = np.asarray(index.search(queries, 10, threads=1).distances, dtype=np.int64)

            def search(query, k, index=index):
                return index.search(query, k, threads=1)

            seconds = interleaved({"usearch": one_by_one(search, queries)}, 3)["usearch"]
            curves["usearch HNSW"].append((exact_share(distances, exact.distances), us(seconds, len(queries))))
    for memory in ("default", "fast"):
        own = hier(codes, memory)
        seconds = interleaved({"own": one_by_one(own.search, queries)}, 3)["own"]
        curves[f"fasthash HierIndex, {memory}"] = [(1.0, us(seconds, len(queries)))]
    return {"n": n, "curves": curves}


def worst_cases(n):
    rng = np.random.default_rng(0)
    half = np.zeros((n, 64), np.uint8)
    half[:, :32] = 1
    galleries = {
        "all codes equal": np.zeros((n, 8), np.uint8),
        "all at one distance": np.packbits(rng.permuted(half, axis=1), axis=1),
        "one code a prefix": learned_like(n, 1, None)[0],
    }
    queries = np.zeros((8, 8), np.uint8)
    queries[1:] = rng.integers(0, 256, (7, 8), dtype=np.uint8)
    rows = []
    for name, codes in galleries.items():
        own_flat = flat(codes)
        for memory in ("default", "fast"):
            index = hier(codes, memory)
            for k in (10, n):
                some = queries if k == 10 else queries[:2]
                seconds = interleaved(
                    {
                        "scan": lambda k=k, some=some: own_flat.search(some[:1], k),
                        "hier": lambda k=k, some=some, index=index: index.search(some[:1], k),
                    },
                    3,
                )
                rows.append(
                    {
                        "codes": name,
                        "memory": memory,
                        "k": "n" if k == n else k,
                        "scan": us(seconds["scan"]),
                        "hier": us(seconds["hier"]),
                        "ratio": seconds["hier"] / seconds["scan"],
                    }
                )
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the codes")
    parser.add_argument("--only", nargs="+", metavar="PART", default=(), help="measure these anew, keep the others")
    options = parser.parse_args()
    quick, path = options.quick, RESULTS / "report.json"
    kept = json.loads(path.read_text()) if options.only else {}
    n, n_large = (100_000, 1_000_000) if quick else (1_000_000, 10_000_000)
    faiss.omp_set_num_threads(1)
    fh.set_num_threads(1)
    RESULTS.mkdir(exist_ok=True)
    report = {
        "command": "python benchmarks/report.py" + (" --quick" if quick else ""),
        "cpu": cpu_name(),
        "simd": fh.simd_level(),
        "python": platform.python_version(),
        "versions": {
            name: importlib.metadata.version(name) for name in ("fasthash-search", "faiss-cpu", "usearch", "numpy")
        },
        "n": n,
        "n_large": n_large,
    }
    if changed := [name for name in report if name in kept and kept[name] != report[name]]:
        parser.error(f"--only: {', '.join(changed)} of {path} differ; measure all parts")
    begin = time.perf_counter()
    parts = {
        "flat_widths": lambda: flat_widths(n),
        "flat_single": lambda: flat_single(n),
        "two_threads": lambda: two_threads(n_large),
        "fixed_costs": fixed_costs,
        "real": on_real_codes,
        "radius": lambda: within_radius(n_large // 2),
        "hierarchical": lambda: hierarchical(n) + hierarchical(n_large),
        "keep": lambda: keep.rows(large=False),
        "builds": lambda: builds(n_large),
        "scaling": lambda: scaling(n_large),
        "recall": lambda: recall_against_time(n // 5),
        "worst_cases": lambda: worst_cases(n),
    }
    if unknown := set(options.only) - set(parts):
        parser.error(f"--only: {', '.join(sorted(unknown))} are none of the parts {', '.join(parts)}")
    for name, measure in parts.items():
        measured = not options.only or name in options.only
        report[name] = measure() if measured else kept[name]
        print(f"{name}: {f'{time.perf_counter() - begin:.0f} s' if measured else 'kept'}", flush=True)
        if not options.only:
            path.write_text(json.dumps(report, indent=1) + "\n")
    path.write_text(json.dumps(report, indent=1) + "\n")
    (RESULTS / "report.md").write_text(page(report))
    if quick:
        return
    draw(report, ROOT / "docs" / "images")
    fill_page(ROOT / "docs" / "figures.md", figures(report))
    fill_page(ROOT / "README.md", readme(report))
    fill_page(ROOT / "docs" / "index.md", first_page(report))
    fill_page(ROOT / "docs" / "width.md", widths(report))


if __name__ == "__main__":
    main()
