"""Measures `ShardedIndex` on this machine, and predicts from that what a cluster would do.

    python benchmarks/sharding.py [--quick]
    python benchmarks/sharding.py --relays [--quick]

fills the part "sharding" of docs/scaling.md, in some three minutes and 4 GB; or the part "relays", in some three
minutes: searches of many shards with few codes, through relays and without. Codes of 64 bits around 100 centres, each
bit flipped with p = .04; k = 10; each shard searches on one thread. The model takes what is measured apart: the time of
a call that finds nothing, of a search in one index without Ray, and of a merge. --quick: a twentieth of the codes,
tables printed.
"""

from __future__ import annotations

import argparse
import math
import os
import pickle
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

import fasthash as fh
from fasthash.distributed import ShardedIndex, _ray, fleet
from fasthash.distributed.merge import merge_nearest, merge_stats
from pages import fill_page, table, versions
from workloads import cpu_name, learned_like

PAGE = Path(__file__).parent.parent / "docs" / "scaling.md"
LEVEL_BITS = (8, 16, 40)
SHARDS = (1, 2, 4)
SHARDS_OF_RELAYS = (4, 16, 36)
K, BLOCK = 10, 1000
N_CODES, N_NODES, N_PER_SHARD = 10**12, 100, 2**32 - 1  # what is predicted; the most codes that a shard can hold
LINK = 10e9 / 8  # bytes a second
PATIENCE = 0.01  # of the tail with a twin that is asked soon
DRAWS = 20_000


class Measured(NamedTuple):
    """Of an index of some shards; seconds."""

    empty: float
    driver: float  # of the driver's processor in an empty call
    singles: np.ndarray  # of searches with one query, one after the other
    block: float  # of a search with BLOCK queries


class Model(NamedTuple):
    """What a search is made of; seconds."""

    fixed: float  # of a call, whatever the number of shards
    per_shard: float  # on one machine, whose processors driver and shards share
    driver: float  # of the driver's processor alone, for each shard
    exponent: float  # of the time of a search against the number of codes
    single: float  # of a query among `n` codes
    block: float
    n: int

    def call(self, n_shards: int) -> float:
        return self.fixed + self.per_shard * n_shards

    def call_of_cluster(self, n_shards: int) -> float:
        """The same where each shard has processors of its own: they answer at once, the driver hears them in turn."""
        return self.fixed + self.per_shard + self.driver * (n_shards - 1)

    def search(self, seconds: float, n: float) -> float:
        """Of a search in one index of n codes, from that of one in `self.n`."""
        return seconds * (n / self.n) ** self.exponent


def seconds_of(call, rounds):
    times = np.empty(rounds)
    for i in range(rounds):
        begin = time.perf_counter()
        call()
        times[i] = time.perf_counter() - begin
    return times


def median_of(call, rounds):
    call()
    return float(np.median(seconds_of(call, rounds)))


def measure(codes, queries, n_shards, rounds):
    with ShardedIndex.from_arrays(codes, level_bits=LEVEL_BITS, n_shards=n_shards, threads=1) as index:
        block = queries[:BLOCK]
        expected = fh.HierIndex.from_arrays(codes).search(block[:50], K)
        assert all((a == b).all() for a, b in zip(index.search(block[:50], K), expected, strict=True))
        some = iter(np.resize(np.arange(len(queries)), 20 * rounds + 1))

        def one():
            i = next(some)
            index.search(queries[i : i + 1], K)

        one()
        begin = time.process_time()
        empty = seconds_of(lambda: index.search(queries[:0], K), 10 * rounds)
        return Measured(
            float(np.median(empty)),
            (time.process_time() - begin) / len(empty),
            seconds_of(one, 20 * rounds),
            median_of(lambda: index.search(block, K), max(3, rounds // 5)),
        )


def merging(n_shards, n_queries):
    """Seconds to merge what so many shards found."""
    rng = np.random.default_rng(0)
    parts, works = [], []
    for _ in range(n_shards):
        distances = np.sort(rng.integers(0, 20, (n_queries, K)).astype(np.int32), axis=1)
        parts.append(fh.SearchResult(distances, rng.integers(0, 2**40, (n_queries, K))))
        nothing = np.zeros(n_queries, np.int64)
        works.append(fh.SearchStats(np.full(n_queries, "prefix"), nothing, nothing, np.full(n_queries, 64, np.int32)))
    size = len(pickle.dumps((parts[0], works[0])))
    rounds = max(3, 2000 // (n_shards * n_queries))

    def merge():
        merge_nearest(parts, n_queries, K, 64)
        merge_stats(works, [1] * n_shards, n_queries, 64)

    return median_of(merge, rounds), size


def fitted(codes, queries, measured, rounds):
    """The parts of the model, each measured by itself."""
    fh.set_num_threads(1)
    sizes = [len(codes) // 16, len(codes) // 4, len(codes)]
    singles, blocks = [], []
    for n in sizes:
        index = fh.HierIndex.from_arrays(codes[:n], level_bits=LEVEL_BITS)
        new = iter(queries[:BLOCK, None])  # one twice would find its codes in the cache
        singles.append(median_of(lambda index=index, new=new: index.search(next(new), K), BLOCK - 1))
        blocks.append(median_of(lambda index=index: index.search(queries[:BLOCK], K), max(3, rounds // 5)))
    per_shard, fixed = np.polyfit(SHARDS, [measured[n].empty for n in SHARDS], 1)
    driver = np.polyfit(SHARDS, [measured[n].driver for n in SHARDS], 1)[0]
    exponent = np.polyfit(np.log(sizes), np.log(singles), 1)[0]  # a block may be scanned, or not, by its size
    return Model(float(fixed), float(per_shard), float(driver), float(exponent), singles[-1], blocks[-1], len(codes))


def beside(model, measured):
    """Measured and predicted figures of the indices that there were."""
    cores, rows = os.cpu_count() or 1, []
    base = measured[1].singles - np.median(measured[1].singles)
    for n_shards, found in measured.items():
        turns = math.ceil(n_shards / cores)  # shards that take turns on a processor
        single = model.call(n_shards) + turns * model.search(model.single, model.n / n_shards)
        single += merging(n_shards, 1)[0]
        tail = single + np.quantile(base, 0.99 ** (1 / n_shards))
        block = model.call(n_shards) + turns * model.search(model.block, model.n / n_shards)
        block += merging(n_shards, BLOCK)[0]
        rows.append(
            [
                str(n_shards),
                f"{found.empty * 1e3:.2f} / {model.call(n_shards) * 1e3:.2f}",
                f"{np.median(found.singles) * 1e3:.2f} / {single * 1e3:.2f}",
                f"{np.quantile(found.singles, 0.99) * 1e3:.2f} / {tail * 1e3:.2f}",
                f"{BLOCK / found.block:,.0f} / {BLOCK / block:,.0f}",
            ]
        )
    head = ["shards", "empty call, ms", "one query: median, ms", "p99, ms", f"queries a second, {BLOCK:,} a call"]
    return table(head, rows)


def tails(base, n_shards):
    """Quantiles of the slowest of so many shards: alone, and with a twin that is asked after a while."""
    rng = np.random.default_rng(0)
    alone, twins = np.empty(DRAWS), np.empty(DRAWS)
    for i in range(DRAWS):
        first, second = rng.choice(base, (2, n_shards))
        alone[i] = first.max()
        twins[i] = np.minimum(first, PATIENCE + second).max()
    return [np.quantile(late, (0.5, 0.99)) for late in (alone, twins)]


def predicted(model, measured, bytes_per_code):
    """A trillion codes on a hundred nodes."""
    per_node = math.ceil(N_CODES / N_PER_SHARD / N_NODES)
    n_shards = per_node * N_NODES
    n = N_CODES / n_shards
    (merge_one, size_one), (merge_block, size_block) = merging(n_shards, 1), merging(n_shards, BLOCK)
    call = model.call_of_cluster(n_shards)
    single = call + model.search(model.single, n) + merge_one
    driver = call + merge_block + n_shards * size_block / LINK
    shard = model.search(model.block, n)
    base = np.maximum(0, measured[1].singles - np.median(measured[1].singles))
    alone, twins = tails(base, n_shards)
    rows = [
        ["shards x codes a shard", f"{n_shards} x {n / 1e9:.1f} billion"],
        ["memory a node, one replica / two", f"{bytes_per_code * N_CODES / N_NODES / 1e9:,.0f} GB / twice"],
        ["data to the driver for one query", f"{n_shards * size_one / 1e3:,.0f} kB"],
        [f"for {BLOCK:,} queries, at 10 Gbit/s", f"{n_shards * size_block / LINK * 1e3:,.0f} ms"],
        ["one query: fan-out + search + merge, ms", f"{single * 1e3:,.1f}"],
        ["of which fan-out and merge", f"{(call + merge_one) * 1e3:,.1f}"],
        ["and the slowest shard: median / p99, ms", " / ".join(f"+{late * 1e3:.1f}" for late in alone)],
        [
            f"with a second replica asked after {PATIENCE * 1e3:.0f} ms",
            " / ".join(f"+{late * 1e3:.1f}" for late in twins),
        ],
        ["queries a second that one driver can merge", f"{BLOCK / driver:,.0f}"],
        ["queries a second that the shards can search, one thread each", f"{BLOCK / shard:,.0f}"],
    ]
    return table(["a trillion codes, 100 nodes", "predicted"], rows)


def relays(rounds):
    """Searches of one query straight to the shards and through relays, by turns.

    Returns:
        A table, and the median work of the owner's processor in seconds: for each way, of each number of calls.
    """
    codes, queries = learned_like(20_000, rounds, 0.04)
    rows, owner = [], {"straight": {}, "through relays": {}}
    for n_shards in SHARDS_OF_RELAYS:
        with ShardedIndex.from_arrays(codes, level_bits=LEVEL_BITS, n_shards=n_shards, threads=1) as index:
            ways = {"straight": None, "through relays": index._fleet._relays}
            n_calls = {"straight": n_shards, "through relays": fleet.number_of_relays(n_shards)}
            times, work = {way: [] for way in ways}, {way: [] for way in ways}
            while not all(branch.answers() for branch in index._fleet._relays._branches):
                time.sleep(0.1)
            for query in queries:
                found = []
                for way, index._fleet._relays in ways.items():
                    begin, of_driver = time.perf_counter(), time.process_time()
                    found.append(index.search(query[None], K))
                    times[way].append(time.perf_counter() - begin)
                    work[way].append(time.process_time() - of_driver)
                assert all((a == b).all() for a, b in zip(*found, strict=True))
        for way, calls in n_calls.items():
            owner[way][calls] = median = np.median(work[way])
            figures = np.median(times[way]), np.quantile(times[way], 0.99), median
            rows.append([str(n_shards), way, str(calls), *(f"{seconds * 1e3:.1f}" for seconds in figures)])
    head = ["shards", "searches go", "calls of the owner", "median, ms", "p99, ms", "of the owner's processor, ms"]
    return table(head, rows), owner


def of_processors(owner):
    """Predicted: the work of one processor after the other, where each relay has a processor of its own."""
    (straight, start), (relay, start_of_relays) = (np.polyfit(list(of), list(of.values()), 1) for of in owner.values())
    rows = []
    for n_shards in (100, 300):
        n_relays = round(math.sqrt(n_shards))
        through = start_of_relays + relay * n_relays
        seconds = start + straight * n_shards, through, through + start + straight * n_shards / n_relays
        rows.append([str(n_shards), str(n_relays), *(f"{each * 1e3:.0f}" for each in seconds)])
    return table(
        ["shards", "relays", "the owner alone, ms", "the owner with relays, ms", "owner and relay in turn, ms"], rows
    )


def fill_relays(quick):
    fleet.number_of_relays = math.isqrt  # however few processors there are
    measured, owner = relays(50 if quick else 500)
    text = [
        f"`python benchmarks/sharding.py --relays`: {cpu_name()}, {os.cpu_count()} cores, which other programs used "
        f"too, {versions('ray', 'numpy')}, fasthash-search {fh.__version__}; 20,000 codes of 64 bits, one query at "
        f"a time, k = {K}, all actors on one machine.",
        measured,
        "Predicted from the last column for a cluster, as a line in the number of calls; the shards and the network "
        "come on top:",
        of_processors(owner),
    ]
    fill_page(PAGE, {"relays": "\n\n".join(text)}, only_print=quick)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a twentieth of the codes, tables printed")
    parser.add_argument("--relays", action="store_true", help="searches through relays and without")
    arguments = parser.parse_args()
    quick = arguments.quick
    _ray.start()
    if arguments.relays:
        fill_relays(quick)
        return
    rounds = 10 if quick else 100
    codes, queries = learned_like(200_000 if quick else 4_000_000, 2 * BLOCK, 0.04)
    measured = {n_shards: measure(codes, queries, n_shards, rounds) for n_shards in SHARDS}
    model = fitted(codes, queries, measured, rounds)
    with ShardedIndex.from_arrays(codes, level_bits=LEVEL_BITS, n_shards=4, threads=1) as index:
        bytes_per_code = index.nbytes / len(index)
    text = [
        f"`python benchmarks/sharding.py`: {cpu_name()}, {os.cpu_count()} cores, {versions('ray', 'numpy')}, "
        f"fasthash-search {fh.__version__}; {len(codes):,} codes of 64 bits, p = .04, k = {K}, on one machine. "
        "Each cell: measured / predicted.",
        beside(model, measured),
        f"The model: a call takes {model.fixed * 1e3:.2f} ms and {model.per_shard * 1e3:.3f} ms for each shard, "
        f"{model.driver * 1e3:.3f} ms of them on the driver's processor; a search grows as n^{model.exponent:.2f} "
        f"({model.single * 1e6:,.0f} us a query of {model.n:,} codes, without Ray); shards take turns on the "
        "available processors; the p99 is that of the slowest shard, if each is as late as a single shard. "
        "A trillion codes are far beyond the measured sizes, so trust only the orders of magnitude.",
        predicted(model, measured, bytes_per_code),
    ]
    fill_page(PAGE, {"sharding": "\n\n".join(text)}, only_print=quick)


if __name__ == "__main__":
    main()
