"""Measures one index that grows to a billion codes of 64 bits: time to build, memory, searches, files.

    python benchmarks/billion.py WORK [--most N] [--quick]

fills the second half of docs/scaling.md. Codes lie around 100 centres, each bit flipped with p = .04 or .02; ids are
counted. The gallery doubles from a million codes to N, 1,000,000,000 if not said. Each point is a process of its own,
so that its memory is. The answers to 100 queries are compared with a scan of all codes by numpy.

WORK is a folder for 8 bytes a code, the index file of the largest gallery and points.json. What stands there is not
made again: a run that was stopped goes on where it was. A billion codes take some 15 minutes on two cores, 14 GB of
memory and 20 GB of disk. --quick: to 4 million codes, printed.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from tqdm import tqdm

import fasthash as fh
from pages import fill_page, table, versions
from workloads import cpu_name

DOCS = Path(__file__).parent.parent / "docs"
PLOT = DOCS / "images" / "billion.png"
FLIPS = (0.04, 0.02)
FIRST = 1_000_000
CHUNK = 1 << 20  # codes that are made at once
BLOCK = 1 << 17  # codes that are compared at once by numpy, so that they stay in the cache
N_CENTRES, N_TIMED, N_CHECKED, K, RADIUS = 100, 1_000, 100, 10, 2


# ---- codes ----


def flipped(centres: np.ndarray, n: int, p: float, rng: np.random.Generator) -> np.ndarray:
    """Codes uint64 `(n,)` around random centres. Each digit of p, in base 2, takes one draw of 64 bits for a code."""
    digits = round(p * 65536)
    noise = np.zeros(n, np.uint64)
    for digit in range(16):
        drawn = rng.integers(0, 1 << 64, n, np.uint64)
        noise = noise | drawn if digits >> digit & 1 else noise & drawn
    return noise ^ centres[rng.integers(0, len(centres), n)]


def chunk_of(p: float, number: int, n: int = CHUNK) -> np.ndarray:
    """A chunk of the gallery, uint64; chunk -1 are the queries."""
    centres = np.random.default_rng(0).integers(0, 1 << 64, N_CENTRES, np.uint64)
    return flipped(centres, n, p, np.random.default_rng([1 + round(p * 1000), 1 + number]))


def queries_of(p: float) -> np.ndarray:
    return chunk_of(p, -1, N_TIMED)


def make_codes(path: Path, p: float, n: int) -> None:
    """Write the first n codes of the gallery, or what is missing of them."""
    with open(path, "ab") as file, ThreadPoolExecutor(2) as pool:
        n_made = file.tell() // (8 * CHUNK)
        file.truncate(8 * CHUNK * n_made)
        numbers = range(n_made, -(-n // CHUNK))
        for chunk in tqdm(pool.map(lambda i: chunk_of(p, i), numbers), f"codes, p = {p}", len(numbers), unit="chunk"):
            chunk.tofile(file)


# ---- one point, in a process of its own ----


class Peak:
    """The most memory of its own that the process had meanwhile; what is mapped from files can be taken back."""

    def __enter__(self) -> Peak:
        gc.collect()
        self.before = self.bytes = self._now()
        self._done = threading.Event()
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._watcher.join()
        self.bytes = max(self.bytes, self._now()) - self.before

    def _watch(self) -> None:
        while not self._done.wait(0.005):
            self.bytes = max(self.bytes, self._now())

    @staticmethod
    def _now() -> int:
        status = Path("/proc/self/status").read_text()
        return int(status.split("RssAnon:")[1].split()[0]) * 1024


def each_timed(call, queries: np.ndarray) -> dict[str, float]:
    """Microseconds of single calls."""
    times = []
    for q in range(len(queries)):
        begin = time.perf_counter()
        call(queries[q : q + 1])
        times.append((time.perf_counter() - begin) * 1e6)
    return {"median": float(np.median(times)), "p99": float(np.quantile(times, 0.99)), "worst": max(times)}


def scanned(codes: np.ndarray, queries: np.ndarray) -> tuple[list[list[tuple[int, int]]], list[int]]:
    """The K nearest (distance, id) of each query, and how many are within RADIUS, by comparing all codes."""

    def scan(query: np.uint64) -> tuple[list[tuple[int, int]], int]:
        nearest: list[tuple[int, int]] = []
        n_within, limit = 0, 64
        for begin in range(0, len(codes), BLOCK):
            distances = np.bitwise_count(codes[begin : begin + BLOCK] ^ query)
            near = np.flatnonzero(distances <= max(limit, RADIUS))
            if len(near) == 0:
                continue
            of_near = distances[near]
            n_within += int(np.count_nonzero(of_near <= RADIUS))
            best = np.lexsort((near, of_near))[:K]
            found = zip(of_near[best].tolist(), (near[best] + begin).tolist(), strict=True)
            nearest = sorted([*nearest, *found])[:K]
            limit = nearest[-1][0] - 1 if len(nearest) == K else 64  # ids ascend: ties come too late
        return nearest, n_within

    with ThreadPoolExecutor(2) as pool:
        found = list(tqdm(pool.map(scan, queries), "scan by numpy", len(queries), unit="query"))
    return [nearest for nearest, _ in found], [n for _, n in found]


def measure(path: Path, p: float, n: int, save_to: Path | None) -> dict:
    codes = np.memmap(path, np.uint64, "r")[:n]
    rows = codes.view(np.uint8).reshape(n, 8)
    queries = queries_of(p)
    packed = queries.view(np.uint8).reshape(-1, 8)
    index = fh.HierIndex((64,))
    with Peak() as peak, tqdm(total=1.0, desc=f"building {n:,}", bar_format="{l_bar}{bar}| {elapsed}") as shown:
        begin = time.perf_counter()
        index.add(rows, progress=lambda done: shown.update(done - shown.n))
        point = {"n": n, "p": p, "build_s": time.perf_counter() - begin}
    stats = index.stats()
    point |= {
        "bytes": stats["bytes_per_code"],
        "distinct": stats["n_distinct_codes"],
        "peak": peak.bytes / index.nbytes,
    }
    point |= {"plan": stats["plan"], "n_substrings": stats["n_substrings"], "substring_bits": stats["substring_bits"]}
    fh.set_num_threads(1)
    index.search(packed[:100], k=K)
    point["search"] = each_timed(lambda query: index.search(query, k=K), packed)
    point["count"] = each_timed(lambda query: index.count_within(query, RADIUS), packed)
    point["range"] = each_timed(lambda query: index.range_search(query, RADIUS), packed[:N_CHECKED])
    fh.set_num_threads(2)
    nearest, n_within = scanned(codes, queries[:N_CHECKED])
    found = index.search(packed[:N_CHECKED], k=K)
    same = [list(zip(*row, strict=True)) for row in zip(found.distances.tolist(), found.ids.tolist(), strict=True)]
    counts = index.count_within(packed[:N_CHECKED], RADIUS).tolist()
    if same != nearest or counts != n_within:
        raise AssertionError(f"an answer for {n:,} codes, p = {p}, is not that of the scan")
    point["found"] = float(np.mean(n_within))
    if save_to is not None:
        begin = time.perf_counter()
        index.save(save_to)
        point["save_s"] = time.perf_counter() - begin
        del index  # there is memory for one
        point |= filed(save_to, packed, found)
    return point


def filed(path: Path, packed: np.ndarray, found: fh.SearchResult) -> dict:
    """Load the index from its file, and map it; both give the same answers."""
    point: dict = {"file_bytes": path.stat().st_size}
    for name, mmap in (("load", False), ("mmap", True)):
        begin = time.perf_counter()
        loaded = fh.load(path, mmap=mmap)
        point[f"{name}_s"] = time.perf_counter() - begin
        again = loaded.search(packed[:N_CHECKED], k=K)
        if not ((again.ids == found.ids).all() and (again.distances == found.distances).all()):
            raise AssertionError(f"the {name}ed index answers otherwise")
        fh.set_num_threads(1)
        point[f"{name}_search"] = each_timed(lambda query, loaded=loaded: loaded.search(query, k=K), packed)
        fh.set_num_threads(2)
        del loaded
    path.unlink()
    return point


# ---- all points ----


def points_of(work: Path, most: int) -> list[dict]:
    kept = work / "points.json"
    points = json.loads(kept.read_text()) if kept.exists() else []
    sizes = [FIRST << i for i in range(64) if FIRST << i < most] + [most]
    for p in FLIPS:
        wanted = [n for n in sizes if not any(point["n"] == n and point["p"] == p for point in points)]
        codes = work / f"codes-{p}.u64"
        if wanted:
            make_codes(codes, p, most)
        for n in wanted:
            save = [str(work / "index.fh")] if n == most else []
            command = [sys.executable, __file__, str(work), "--point", str(codes), str(p), str(n), *save]
            points.append(json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout))
            kept.write_text(json.dumps(points, indent=1))
        codes.unlink(missing_ok=True)  # the next ones need its place
    return points


def exponent(points: list[dict], of: str) -> float:
    """The b of a n^b that fits best, on logarithmic axes, from 16 million codes on."""
    large = [point for point in points if point["n"] >= 16 * FIRST] or points
    sizes, times = [point["n"] for point in large], [point[of]["median"] for point in large]
    return float(np.polyfit(np.log(sizes), np.log(times), 1)[0])


def draw(points: list[dict], path: Path) -> None:
    figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    for p, colour in zip(FLIPS, ("C0", "C1"), strict=True):
        own = [point for point in points if point["p"] == p]
        n = [point["n"] for point in own]
        for of, style, name in (("search", "o-", "10 nearest"), ("count", "s:", f"count within {RADIUS}")):
            label = f"{name}, p = {p}: n^{exponent(own, of):.2f}"
            axes.loglog(n, [point[of]["median"] for point in own], style, color=colour, markersize=4, label=label)
    axes.set(xlabel="codes of 64 bits", ylabel="µs a query (median, one thread)")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    figure.savefig(path, dpi=120)


def page(points: list[dict]) -> dict[str, str]:
    head = ["codes", "p", "built in s", "bytes a code", "peak / index", "distinct", "plan", "10-NN median, p99 µs"]
    head += [f"count within {RADIUS}, µs", f"list within {RADIUS}, µs", "found"]

    def row(q: dict) -> list[str]:
        plan = f"{q['plan']} {q['n_substrings']} × {q['substring_bits']}" if q["n_substrings"] else q["plan"]
        cells = [f"{q['n']:,}", f"{q['p']}".lstrip("0"), f"{q['build_s']:.1f}", f"{q['bytes']:.1f}", f"{q['peak']:.2f}"]
        cells += [f"{q['distinct'] / q['n']:.2f} n", plan, f"{q['search']['median']:.0f}, {q['search']['p99']:.0f}"]
        return [*cells, f"{q['count']['median']:.0f}", f"{q['range']['median']:,.0f}", f"{q['found']:,.0f}"]

    files = [
        f"{q['n']:,} codes, p = {q['p']}: saved in {q['save_s']:.0f} s as {q['file_bytes'] / 1e9:.2f} GB, loaded in"
        f" {q['load_s']:.0f} s (then {q['load_search']['median']:.0f} µs a query) or mapped in {q['mmap_s']:.0f} s"
        f" (then {q['mmap_search']['median']:.0f} µs)."
        for q in points
        if "save_s" in q
    ]
    machine = f"{cpu_name()}, 2 threads to build, one to search; {versions('numpy', 'fasthash-search')}."
    return {
        "machine of billion": machine,
        "billion": table(head, [row(point) for point in points]),
        "billion files": "\n\n".join(files),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--most", type=int, default=1_000_000_000)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--point", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.point:
        codes, p, n, *save_to = args.point
        print(json.dumps(measure(Path(codes), float(p), int(n), Path(save_to[0]) if save_to else None)))
        return
    args.work.mkdir(parents=True, exist_ok=True)
    points = points_of(args.work, 4 * FIRST if args.quick else args.most)
    points.sort(key=lambda point: (-point["p"], point["n"]))  # of a run that went on where it was
    if not args.quick:
        draw(points, PLOT)
    fill_page(DOCS / "scaling.md", page(points), only_print=args.quick)


if __name__ == "__main__":
    main()
