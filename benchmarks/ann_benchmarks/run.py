"""Runs adapters as ann-benchmarks does, without docker, and prints recall and queries a second.

    python benchmarks/ann_benchmarks/run.py orb-256-hamming.hdf5

One query at a time on one processor, or with --batch all at once on all; each index is built once, the best of some
runs counts, and recall is by distances: what is as near as the true k-th neighbour is right.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import os
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import yaml

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))  # where `ann_benchmarks.algorithms` is, as in its own repository

EPSILON = 1e-3  # that ann-benchmarks adds to the k-th distance


def definitions(algorithm, metric, dimension, count):
    """Constructor, its arguments and the groups of query arguments of every run in a config.yml for bits."""
    with open(HERE / "algorithms" / algorithm / "config.yml") as file:
        config = yaml.safe_load(file)
    known = {"@metric": metric, "@dimension": dimension, "@count": count}
    for entry in config["bit"][metric]:
        if entry["disabled"]:
            continue
        module = importlib.import_module(f"{entry['module']}.module")
        for group in entry["run_groups"].values():
            for arguments in itertools.product(*group["args"]):
                arguments = [known.get(value, value) for value in [*entry["base_args"], *arguments]]
                queried = list(itertools.product(*group["query_args"])) if "query_args" in group else [()]
                yield getattr(module, entry["constructor"]), arguments, queried


def recall(train, test, distances, results, count):
    """Mean share of `count` results that are as near as the true neighbour of that rank."""
    limits = distances[:, count - 1] + EPSILON
    right = 0
    for ids, query, limit in zip(results, test, limits, strict=True):
        assert len(ids) == len(set(map(int, ids))), "an algorithm returned an index twice"
        right += np.count_nonzero((train[ids[:count]] != query).mean(axis=1) <= limit)
    return right / (count * len(test))


def run(path, algorithms, count=10, runs=3, batch=False):
    """A row for each algorithm and setting."""
    with h5py.File(path, "r") as file:
        metric = file.attrs["distance"]
        train, test, distances = (file[name][:] for name in ("train", "test", "distances"))
    for algorithm in algorithms:
        for constructor, arguments, queried in definitions(algorithm, metric, train.shape[1], count):
            algo = constructor(*arguments)
            before = algo.get_memory_usage()
            begin = time.perf_counter()
            algo.fit(train)
            build_seconds = time.perf_counter() - begin
            after = algo.get_memory_usage()
            for query_arguments in queried:
                if query_arguments:
                    algo.set_query_arguments(*query_arguments)
                best, results = np.inf, []
                for _ in range(runs):
                    begin = time.perf_counter()
                    if batch:
                        algo.batch_query(test, count)
                    else:
                        results = [algo.query(query, count) for query in test]
                    best = min(best, time.perf_counter() - begin)
                if batch:
                    results = algo.get_batch_results()
                yield {
                    "algorithm": str(algo),
                    "recall": recall(train, test, distances, results, count),
                    "queries_per_second": len(test) / best,
                    "build_seconds": build_seconds,
                    "kilobytes": None if before is None else after - before,
                }
            algo.done()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="an HDF5 file of dataset.py, or of ann-benchmarks with point_type bit")
    parser.add_argument("--algorithms", nargs="+", default=["fasthash", "faiss_binary"], help="folders of algorithms/")
    parser.add_argument("--count", type=int, default=10, help="neighbours of each query (10)")
    parser.add_argument("--runs", type=int, default=3, help="of which the best counts (3)")
    parser.add_argument("--batch", action="store_true", help="all queries in one call, on all processors")
    parser.add_argument("--json", action="store_true", help="print a line of JSON for each row")
    options = parser.parse_args()
    if not options.batch and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, [max(os.sched_getaffinity(0))])  # before a library counts processors
    if not options.json:
        print(f"{'algorithm':42s} {f'recall@{options.count}':>10s} {'queries/s':>10s} {'build s':>8s} {'MB':>7s}")
    for row in run(options.data, options.algorithms, options.count, options.runs, options.batch):
        if options.json:
            print(json.dumps(row), flush=True)
            continue
        size = "" if row["kilobytes"] is None else f"{row['kilobytes'] / 1024:.0f}"
        print(
            f"{row['algorithm']:42s} {row['recall']:10.4f} {row['queries_per_second']:10,.0f}"
            f" {row['build_seconds']:8.2f} {size:>7s}",
            flush=True,
        )


if __name__ == "__main__":
    main()
