"""Measures a store beside the disk that it is on: commits, opening, look-ups, searches, memory of reader processes.

    python benchmarks/store.py [--codes N] [--without-keys] [--folder FOLDER] [--rounds N]

Makes a store of N codes of 64 bits around 100 centres (p = .04), with paths as keys unless told otherwise, in a new
folder inside FOLDER, and removes it at the end. Prints a table: what was measured, the value, and the target of a store
where there is one. The disk is measured in the same run: a flush of a new file of 4 KiB, and a sequential write of 256
MiB. Medians of rounds; searches on one thread, one query a call, k = 10.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import fasthash as fh
from workloads import cpu_name, learned_like

PER_COMMIT = 1_000
PER_FIRST_COMMITS = 10_000_000  # so that keys need not fit memory
N_READERS = 4
MIB = 1 << 20

# Without a store if its path is "-": what Python and numpy take.
READER = """
import sys, numpy as np, fasthash as fh
store = None if sys.argv[1] == "-" else fh.Store(sys.argv[1])
queries = np.load(sys.argv[2])
for first in range(len(queries) if store else 0):
    store.search(queries[first : first + 1], k=10)
print("ready", flush=True)
sys.stdin.readline()
"""

SEARCHER = """
import sys, time, numpy as np, fasthash as fh
store, queries, times = fh.Store(sys.argv[1]), np.load(sys.argv[2]), []
fh.set_num_threads(1)
print("ready", flush=True)
seconds, pause = map(float, sys.argv[3:])
end = time.perf_counter() + seconds
while (begin := time.perf_counter()) < end:
    store.refresh()
    store.search(queries[len(times) % len(queries)][None], k=10)
    times.append(time.perf_counter() - begin)
    if pause:
        time.sleep(pause)
print(max(times) * 1e3, np.percentile(times, 99.9) * 1e3, flush=True)
"""


def timed(call, rounds):
    """Median milliseconds."""
    took = []
    for _ in range(rounds):
        begin = time.perf_counter()
        call()
        took.append(time.perf_counter() - begin)
    return statistics.median(took) * 1e3


def flush_of_disk(folder, rounds=30):
    """Milliseconds of a flush of a small new file."""

    def once():
        path = folder / "probe"
        with open(path, "wb", buffering=0) as file:
            file.write(b"x" * 4096)
            os.fsync(file.fileno())
        path.unlink()

    return timed(once, rounds)


def write_of_disk(folder):
    """MiB/s of a sequential write with a flush."""
    block = os.urandom(MIB)
    begin = time.perf_counter()
    with open(folder / "probe", "wb", buffering=0) as file:
        for _ in range(256):
            file.write(block)
        os.fsync(file.fileno())
    seconds = time.perf_counter() - begin
    (folder / "probe").unlink()
    return 256 / seconds


def proportional_kib(process):
    """PSS of a process in KiB, or None where the system does not tell."""
    try:
        text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
    except OSError:
        return None
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))


def readers_pss(store, queries, n):
    """PSS of n processes that read a store, together, in MiB."""
    command = [sys.executable, "-c", READER, str(store), str(queries)]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(n)]
    try:
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        sizes = [proportional_kib(process) for process in processes]
        return None if None in sizes else sum(sizes) / 1024
    finally:
        for process in processes:
            process.communicate("\n")


def new_keys(store, prefix):
    return [f"{prefix}/{i:06d}.jpg" for i in range(PER_COMMIT)] if store.info()["keys"] != "none" else None


def commits(store, folder, codes, rounds):
    """Milliseconds and bytes of commits of PER_COMMIT codes added, and of as many removed."""
    rng = np.random.default_rng(1)
    removed = rng.permutation(len(codes))[: rounds * PER_COMMIT].reshape(rounds, -1)
    added_ms, removed_ms, flush_ms, n_bytes = [], [], [], []
    for i in range(rounds):
        before = set(os.listdir(folder))
        store.add(codes[:PER_COMMIT] ^ np.uint8(i % 256), keys=new_keys(store, f"new/{i}"))
        added_ms.append(timed(store.commit, 1))
        new = {*os.listdir(folder), "manifest"} - before | {"manifest"}
        n_bytes.append(sum((folder / name).stat().st_size for name in new if (folder / name).exists()))
        store._writer.merger.wait()
        store.remove(ids=removed[i])
        removed_ms.append(timed(store.commit, 1))
        store._writer.merger.wait()
        flush_ms.append(flush_of_disk(folder.parent, 3))
    return *(statistics.median(each) for each in (added_ms, removed_ms, flush_ms)), max(n_bytes)


def waits_of_searches(store, folder, queries, pause, seconds=5.0):
    """The longest refresh and search in milliseconds of N_READERS processes: alone, beside computing, beside commits.

    Computing: as much as a commit does, 3 ms at a time, which shows what a busy processor costs.

    `pause`: seconds between the searches of a process, and between commits.
    """
    longest = []
    for beside in ("nothing", "computing", "commits"):
        command = [sys.executable, "-c", SEARCHER, str(folder), str(queries), str(seconds), str(pause)]
        processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(N_READERS)]
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        end, n = time.perf_counter() + seconds, 0
        while beside != "nothing" and time.perf_counter() < end:
            n += 1
            if beside == "commits":
                keys = new_keys(store, f"meanwhile/{pause}/{n}")
                store.add(np.random.default_rng(n).integers(0, 256, (PER_COMMIT, 8), dtype=np.uint8), keys=keys)
                store.commit()
            else:
                until = time.thread_time() + 0.003
                while time.thread_time() < until:
                    pass
            time.sleep(pause)
        longest.append(max(float(process.communicate()[0].split()[0]) for process in processes))
    return longest


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codes", type=int, default=1_000_000, help="number of codes")
    parser.add_argument("--without-keys", action="store_true", help="codes with ids alone")
    parser.add_argument("--folder", type=Path, default=Path(), help="where the store is made; default: here")
    parser.add_argument("--rounds", type=int, default=15, help="commits and searches to take the median of")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as made:
        rows = measure(Path(made), options.codes, options.rounds, not options.without_keys)
    print(f"{options.codes:,} codes of 64 bits; {cpu_name()}, {os.cpu_count()} cores; {' '.join(sys.argv)}\n")
    print("| what | measured | target |\n| --- | ---: | --- |")
    for row in rows:
        print("| " + " | ".join(row) + " |")


def measure(folder, n, rounds, with_keys):
    """Rows of the table."""
    codes, queries = learned_like(n, 1000, 0.04)
    np.save(folder / "queries.npy", queries)
    path = folder / "store.fhs"
    rows = [
        ("flush of a new file of 4 KiB, ms", f"{flush_of_disk(folder):.2f}", ""),
        ("sequential write, MiB/s", f"{write_of_disk(folder):,.0f}", ""),
    ]
    with fh.Store(path, "w", n_bits=64) as store:
        begin, key_bytes = time.perf_counter(), 0
        for first in range(0, n, 1_000_000):
            end = min(first + 1_000_000, n)
            keys = [f"gallery/{i // 1000:06d}/{i:09d}.jpg" for i in range(first, end)] if with_keys else None
            key_bytes += sum(map(len, keys or ()))
            store.add(codes[first:end], keys=keys)
            if end % PER_FIRST_COMMITS == 0 or end == n:
                store.commit()
        rows.append((f"add all, a commit for each {PER_FIRST_COMMITS:,}, s", f"{time.perf_counter() - begin:.1f}", ""))
        store.compact()
        if with_keys:
            size = sum(each.stat().st_size for each in path.iterdir() if each.suffix == ".keys")
            rows.append(("bytes a key beside its own", f"{(size - key_bytes) / n:.2f}", "at most 12"))
    rows += opening(path, with_keys)
    rows += searches(path, codes, queries, rounds)
    with fh.Store(path, "w") as store:
        added, removed, flush, n_bytes = commits(store, path, codes, rounds)
        target = f"at most 5 + 3 flushes = {5 + 3 * flush:.1f}"
        rows.append((f"commit of {PER_COMMIT:,} added, ms", f"{added:.1f}", target))
        rows.append((f"commit of {PER_COMMIT:,} removed, ms", f"{removed:.1f}", target))
        most = 3 * 8 * PER_COMMIT + 64 * 1024
        rows.append(("bytes written by a commit with keys, most", f"{n_bytes:,}", f"at most {most:,}"))
        for pause, how in ((0, "without pause"), (0.01, "pausing 10 ms")):
            longest = waits_of_searches(store, path, folder / "queries.npy", pause)
            what = f"longest search of {N_READERS} processes {how}: alone, beside computing, beside commits, ms"
            rows.append((what, ", ".join(f"{each:.1f}" for each in longest), "at most 2 more"))
    counts = (1, N_READERS)
    with_store, without_store = (
        [readers_pss(each, folder / "queries.npy", count) for count in counts] for each in (path, "-")
    )
    if with_store[0] is not None:
        for what, sizes in (("readers", with_store), ("processes without a store", without_store)):
            rows.append((f"PSS of 1 and 4 {what}, MiB", f"{sizes[0]:,.0f}, {sizes[1]:,.0f}", ""))
        of_store = [a - b for a, b in zip(with_store, without_store, strict=True)]
        ratio = f"{of_store[1]:,.0f} / {of_store[0]:,.0f} = {of_store[1] / of_store[0]:.2f}"
        rows.append(("the same less those without, MiB", ratio, "at most 1.15, with all of it"))
    return rows


def opening(path, with_keys):
    """Times of opening, and of what comes first."""
    open_ms = [timed(lambda check=check: fh.Store(path, check=check), 5) for check in (True, False)]
    first = []
    of_keys = (lambda store: store.ids(["gallery/000000/000000007.jpg"]), lambda store: store.keys(np.array([7])))
    for call in of_keys if with_keys else (lambda store: store.reconstruct(np.array([7])),):
        store = fh.Store(path)
        first.append(timed(lambda call=call, store=store: call(store), 1))
    with fh.Store(path, "w") as store:
        first.append(timed(lambda: store.remove(ids=np.array([11])), 1))
    return [
        ("open, every byte checked, ms", f"{open_ms[0]:.1f}", ""),
        ("open with check=False, ms", f"{open_ms[1]:.1f}", "20 at 10 M, 100 at 100 M"),
        (
            f"first {'id of a key, key of an id' if with_keys else 'code of an id'}, removal, ms",
            ", ".join(f"{each:.2f}" for each in first),
            "at most 20",
        ),
    ]


def searches(path, codes, queries, rounds):
    """Microseconds a query in the mapped store and in an index in memory, which take turns."""
    store, index = fh.Store(path), fh.HierIndex(64)
    index.add(codes)
    fh.set_num_threads(1)
    few = queries[:300]

    def run(searched):
        for i in range(len(few)):
            searched.search(few[i : i + 1], k=10)

    took = {0: [], 1: []}
    for _ in range(rounds):
        for i, searched in enumerate((store, index)):
            took[i].append(timed(lambda searched=searched: run(searched), 1) * 1e3 / len(few))
    mapped, in_memory = (statistics.median(each) for each in took.values())
    fh.set_num_threads(os.cpu_count())
    ratio = f"{mapped:.1f} / {in_memory:.1f} = {mapped / in_memory:.2f}"
    return [("search of the store / of an index in memory, µs", ratio, "at most 1.1")]


if __name__ == "__main__":
    main()
