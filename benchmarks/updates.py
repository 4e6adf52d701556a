"""Measures what adding, removing, filters, radius search and files cost, and how searches fare meanwhile.

    python benchmarks/updates.py [--quick]

writes updates.md into benchmarks/results/. Codes of 64 bits around 100 centres, each bit flipped with p = .04; searches
one by one on one thread, k = 10; changes on all threads. Some three minutes and 4 GB; --quick: a tenth of the codes.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import multiprocessing
import os
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import faiss
import numpy as np

import fasthash as fh
from workloads import cpu_name, interleaved, learned_like, one_by_one

RESULTS = Path(__file__).parent / "results"
LEVEL_BITS = (8, 16, 40)
BATCH = 1000
CHECKS = 6  # of searches while an index grows


@contextmanager
def one_thread():
    before = fh.get_num_threads()
    fh.set_num_threads(1)
    try:
        yield
    finally:
        fh.set_num_threads(before)


def ms(seconds):
    return f"{seconds * 1e3:,.3g}"


def us(seconds, n=1):
    return f"{seconds / n * 1e6:,.3g}"


def table(head, rows):
    lines = [f"| {' | '.join(head)} |", f"| --- |{' ---: |' * (len(head) - 1)}"]
    return "\n".join([*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows)])


def timed(call):
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def growing(make, codes, extra, queries, n_checks):
    """Seconds of each add, and at some moments the ratio of a search to one in an index built at once."""
    index = make()
    index.add(codes)
    seconds, ratios, segments = [], [], []
    n_batches = len(extra) // BATCH
    # Moments spread so that each finds another state: just before a merge, just after, and between.
    moments = set(np.linspace(1, n_batches - 1, n_checks, dtype=int).tolist())
    for batch in range(n_batches):
        rows = extra[batch * BATCH : (batch + 1) * BATCH]
        seconds.append(timed(lambda rows=rows: index.add(rows)))
        if batch in moments:
            fresh = make()
            fresh.add(np.concatenate([codes, extra[: (batch + 1) * BATCH]]))
            with one_thread():
                result = interleaved(
                    {"grown": one_by_one(index.search, queries), "fresh": one_by_one(fresh.search, queries)}, 7
                )
            for grown, built in zip(index.search(queries, 10), fresh.search(queries, 10), strict=True):
                assert (grown == built).all()
            ratios.append(result["grown"] / result["fresh"])
            segments.append(index.stats()["n_segments"] if len(codes) < 2_000_000 else index._impl.n_segments())
    return index, np.array(seconds), np.array(ratios), segments


def changes(codes, extra, queries):
    rows = []
    for name, make in {
        "HierIndex": lambda: fh.HierIndex(LEVEL_BITS),
        "FlatIndex": lambda: fh.FlatIndex(64),
    }.items():
        few = queries[:20] if name == "FlatIndex" else queries
        index, seconds, ratios, segments = growing(make, codes, extra, few, CHECKS)
        rng = np.random.default_rng(1)
        ids = rng.permutation(len(codes))[: len(codes) // 20]
        first = timed(lambda index=index, ids=ids: index.remove(ids[:1]))
        ones = [timed(lambda index=index, one=one: index.remove(one)) for one in ids[1:2001, None]]
        many = timed(lambda index=index, ids=ids: index.remove(ids[2001:]))
        fresh = make()
        fresh.add(*index.to_arrays())
        with one_thread():
            after = interleaved({"left": one_by_one(index.search, few), "fresh": one_by_one(fresh.search, few)}, 7)
        rows.append(
            [
                name,
                ms(seconds.mean()),
                ms(np.median(seconds)),
                ms(seconds.max()),
                f"{np.median(ratios):.2f} / {ratios.max():.2f}",
                max(segments),
                ms(first),
                ms(np.mean(ones)),
                ms(many / (len(ids) - 2001)),
                f"{after['left'] / after['fresh']:.2f}",
            ]
        )
    return table(
        [
            "index",
            "add 1,000: mean, ms",
            "median",
            "longest",
            f"search / search in a fresh index, median / worst of {CHECKS}",
            "segments, most",
            "first remove, ms",
            "then one by one",
            "each of many at once",
            "search with 5 % removed / fresh",
        ],
        rows,
    )


def filters(codes, queries):
    rows = []
    n = len(codes)
    rng = np.random.default_rng(2)
    for name, index in {"HierIndex": fh.HierIndex(LEVEL_BITS), "FlatIndex": fh.FlatIndex(64)}.items():
        index.add(codes)
        few = queries[:20] if name == "FlatIndex" else queries
        for n_allowed in (n // 2, n // 10, n // 100, 10):
            ids = rng.permutation(n)[:n_allowed]
            allowed = fh.IdFilter(ids)
            with one_thread():
                prepared = timed(lambda index=index, allowed=allowed, few=few: index.search(few[:1], allow=allowed))
                index.search(few[:1], allow=ids)  # makes the map of ids, once
                seconds = interleaved(
                    {
                        "all": one_by_one(index.search, few),
                        "filter": one_by_one(lambda q, k, index=index, a=allowed: index.search(q, k, allow=a), few),
                    }
                )
                plain = timed(lambda index=index, ids=ids, few=few: index.search(few[:1], allow=ids))
            rows.append(
                [
                    f"{name}, {n_allowed:,} ids",
                    us(seconds["all"], len(few)),
                    us(seconds["filter"], len(few)),
                    f"{seconds['filter'] / seconds['all']:.2f}",
                    ms(prepared),
                    ms(plain),
                ]
            )
    return table(
        [
            f"of {n:,}",
            "unfiltered, us",
            "`IdFilter`, us",
            "ratio",
            "first search with it, ms",
            "one search with an array, ms",
        ],
        rows,
    )


def radius(codes, queries):
    rows = []
    hier, flat, rival = fh.HierIndex(LEVEL_BITS), fh.FlatIndex(64), faiss.IndexBinaryFlat(64)
    for index in (hier, flat, rival):
        index.add(codes)
    faiss.omp_set_num_threads(1)
    few = queries[:10]
    with one_thread():
        for r in (0, 1, 2, 3, 4):
            seconds = interleaved(
                {
                    "faiss": lambda r=r: rival.range_search(few, r + 1),  # its radius is exclusive
                    "flat": lambda r=r: flat.range_search(few, r),
                    "hier": lambda r=r: hier.range_search(few, r),
                    "count": lambda r=r: hier.count_within(few, r),
                }
            )
            found = hier.count_within(few, r)
            assert (np.diff(rival.range_search(few, r + 1)[0]) == found).all()
            rows.append(
                [
                    r,
                    f"{found.mean():,.0f}",
                    us(seconds["faiss"], len(few)),
                    us(seconds["flat"], len(few)),
                    us(seconds["hier"], len(few)),
                    us(seconds["count"], len(few)),
                    f"{seconds['faiss'] / seconds['hier']:,.0f}",
                ]
            )
        growth = []
        for n in (len(codes) // 100, len(codes) // 10, len(codes)):
            index = fh.HierIndex(LEVEL_BITS)
            index.add(codes[:n])
            growth.append(interleaved({"count": lambda index=index: index.count_within(few, 2)}, 9)["count"] / len(few))
    exponent = np.log(growth[-1] / growth[0]) / np.log(100)
    head = ["radius", "found", "faiss Flat, us", "FlatIndex", "HierIndex", "count_within", "faiss / HierIndex"]
    return (
        table(head, rows) + f"\n\n`count_within` at radius 2 grows as n^{exponent:.2f} over a factor of 100 of codes."
    )


def resident():
    """Bytes of this process's memory that are its own."""
    with open("/proc/self/smaps_rollup") as file:
        private = [int(line.split()[1]) for line in file if line.startswith("Private_")]
    return sum(private) * 1024


def own_memory(path, mmap, queries, pipe):
    before = resident()
    index = fh.load(path, mmap=mmap)
    index.search(queries)
    pipe.send(resident() - before)


def files(codes, queries):
    rows = []
    n = len(codes)
    rng = np.random.default_rng(3)
    for name, index, ids in (
        ("HierIndex", fh.HierIndex(LEVEL_BITS), None),
        ("HierIndex, ids at random", fh.HierIndex(LEVEL_BITS), rng.integers(-(2**62), 2**62, n)),
        ("FlatIndex", fh.FlatIndex(64), None),
        ("FlatIndex, ids shuffled", fh.FlatIndex(64), rng.permutation(n)),
    ):
        index.add(codes, ids)
        with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
            path = Path(folder) / "index.fh"
            save = timed(lambda index=index, path=path: index.save(path))
            seconds = interleaved(
                {"load": lambda path=path: fh.load(path), "mmap": lambda path=path: fh.load(path, mmap=True)}, 5
            )
            few = queries[:20]
            with one_thread():
                mapped = fh.load(path, mmap=True)
                searches = interleaved(
                    {"memory": one_by_one(index.search, few), "mapped": one_by_one(mapped.search, few)}, 5
                )
            memory = []
            for mmap in (False, True):
                ours, theirs = multiprocessing.Pipe()
                process = multiprocessing.get_context("spawn").Process(
                    target=own_memory, args=(path, mmap, few, theirs)
                )
                process.start()
                memory.append(ours.recv())
                process.join()
            rows.append(
                [
                    name,
                    f"{path.stat().st_size / n:.1f}",
                    ms(save),
                    ms(seconds["load"]),
                    ms(seconds["mmap"]),
                    us(searches["memory"], len(few)),
                    us(searches["mapped"], len(few)),
                    f"{memory[0] / n:.1f} / {memory[1] / n:.1f}",
                ]
            )
    return table(
        [
            "index",
            "bytes a code",
            "save, ms",
            "load",
            "load(mmap=True)",
            "search, us",
            "search, mapped",
            "own memory of a process, bytes a code: loaded / mapped",
        ],
        rows,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the codes")
    n = 1_000_000 if parser.parse_args().quick else 10_000_000
    both, queries = learned_like(n + n // 15, 200, 0.04)
    codes, extra = both[:n], both[n:]
    parts = {
        f"Changing an index of {n:,} codes": changes(codes, extra, queries),
        "Filters": filters(codes, queries),
        "Radius search": radius(codes, queries),
        f"Files of {n:,} codes": files(codes, queries),
    }
    versions = " ".join(f"{name} {importlib.metadata.version(name)}," for name in ("faiss-cpu", "numpy"))
    intro = (
        f"`python benchmarks/updates.py`: {cpu_name()}, {os.cpu_count()} cores, {fh.simd_level()} kernels, {versions} "
        f"fasthash-search {fh.__version__}. 64 bits, p = .04; searches one by one on one thread, k = 10, changes and "
        "files on all threads; searches are medians of runs that took turns, and were checked against each other."
    )
    text = "\n\n".join(["# Changing, filtering, radius, files", intro, *(f"## {h}\n\n{t}" for h, t in parts.items())])
    (RESULTS / "updates.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
