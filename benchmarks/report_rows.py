"""Rows of benchmarks/report.py beyond generated codes and k = 10: real codes, searches within a radius, fixed costs."""

from __future__ import annotations

from typing import NamedTuple

import faiss
import numpy as np

import fasthash as fh
from workloads import interleaved, learned_like, one_by_one, orb, real_codes

K = 10
RADIUS = 4


def us(seconds, n_queries=1):
    return seconds / n_queries * 1e6


def filled(index, codes):
    index.add(codes)
    return index


def exact_share(distances, exact):
    """Share of queries whose k distances are all right."""
    return float((np.sort(distances, axis=1) == exact).all(axis=1).mean())


class IvfPoint(NamedTuple):
    """A setting of IndexBinaryIVF: the share of queries whose distances are all right, and seconds a query."""

    nprobe: int
    exact: float
    one: float
    batch: float


def ivf_curve(codes, queries, exact, n_lists):
    """A point for each nprobe of IndexBinaryIVF, up to all queries exact."""
    quantizer = faiss.IndexBinaryFlat(codes.shape[1] * 8)
    index = faiss.IndexBinaryIVF(quantizer, codes.shape[1] * 8, n_lists)
    index.train(codes[:: max(1, len(codes) // (n_lists * 50))])
    index.add(codes)
    curve = []
    for nprobe in (1, 2, 4, 8, 16, 32, 64, 128, 256):
        index.nprobe = nprobe
        distances, _ = index.search(queries, K)
        few = queries[:200]
        calls = {"one": one_by_one(index.search, few), "batch": lambda: index.search(queries, K)}
        seconds = interleaved(calls, 3)
        one, batch = seconds["one"] / len(few), seconds["batch"] / len(queries)
        curve.append(IvfPoint(nprobe, exact_share(distances, exact), one, batch))
        if curve[-1].exact >= 0.9995 or one > 0.01:
            break
    return curve


def inverted_lists(codes, queries, exact, n_lists):
    """IndexBinaryIVF at the first setting at which 99.9 % of the queries are exact, or None: microseconds a query."""
    curve = ivf_curve(codes, queries, exact, n_lists)
    point = next((point for point in curve if point.exact >= 0.999), None)
    return point and {"nprobe": point.nprobe, "exact": point.exact, "one": us(point.one), "batch": us(point.batch)}


def beside_faiss(codes, queries, n_lists):
    """An index of the default memory beside scans and inverted lists; its results are those of the scan."""
    n_bits = codes.shape[1] * 8
    own, flat = filled(fh.HierIndex(n_bits), codes), filled(fh.FlatIndex(n_bits), codes)
    scan = filled(faiss.IndexBinaryFlat(n_bits), codes)
    exact = flat.search(queries, K)
    found = own.search(queries, K)
    np.testing.assert_array_equal(found.ids, exact.ids)
    few, fewer = queries[:50], queries[:20]
    seconds = interleaved(
        {
            "one": one_by_one(own.search, few),
            "batch": lambda: own.search(queries, K),
            "flat_one": one_by_one(flat.search, few),
            "flat_batch": lambda: flat.search(queries, K),
            "faiss_one": one_by_one(scan.search, fewer),
            "faiss_batch": lambda: scan.search(queries[:200], K),
        },
        5,
    )
    n_queries = {"one": 50, "flat_one": 50, "faiss_one": 20, "faiss_batch": 200}
    return {
        "n": len(codes),
        "bits": n_bits,
        "plan": own.stats()["plan"],
        "bytes_per_code": own.stats()["bytes_per_code"],
        **{key: us(value, n_queries.get(key, len(queries))) for key, value in seconds.items()},
        "ivf": inverted_lists(codes, queries, exact.distances, n_lists),
    }


def on_real_codes():
    galleries = real_codes()
    if (both := orb()) is not None:
        galleries["ORB descriptors"] = (np.ascontiguousarray(both[0]), np.ascontiguousarray(both[1][:200]))
    rows = []
    for name, (codes, queries) in galleries.items():
        n_lists = int(min(4 * len(codes) ** 0.5, len(codes) / 39))
        rows.append({"codes": name, **beside_faiss(codes, queries[:1000], n_lists)})
        print(f"  {name}: {rows[-1]['one']:.1f} us", flush=True)
    return rows


def within_radius(n):
    """Searches within a small radius at the default memory, after the few that let the index build its tables."""
    codes, queries = learned_like(n, 1000, None)
    rows = []
    for name, (gallery, asked) in {"uniform": (codes, queries), **real_codes(("pHash",))}.items():
        own, flat = filled(fh.HierIndex(64), gallery), filled(fh.FlatIndex(64), gallery)
        few, fewer = asked[:300], asked[:10]
        expected = flat.range_search(few, RADIUS)
        for _ in range(8):
            found = own.range_search(few, RADIUS)
        np.testing.assert_array_equal(found.ids, expected.ids)

        def one_a_call(index, some):
            def call():
                for query in some[:, None]:
                    index.range_search(query, RADIUS)

            return call

        seconds = interleaved(
            {
                "one": one_a_call(own, few),
                "batch": lambda own=own, asked=asked: own.range_search(asked, RADIUS),
                "flat_one": one_a_call(flat, fewer),
                "flat_batch": lambda flat=flat, few=few: flat.range_search(few, RADIUS),
            },
            5,
        )
        n_queries = {"one": len(few), "batch": len(asked), "flat_one": len(fewer), "flat_batch": len(few)}
        row = {key: us(value, n_queries[key]) for key, value in seconds.items()}
        rows.append({"codes": name, "n": len(gallery), "bytes_per_code": own.stats()["bytes_per_code"], **row})
    return rows


def fixed_costs():
    """64 queries against 1,000 codes, where comparing takes a third of the time."""
    codes, queries = learned_like(1000, 64, None)
    calls = {}
    for name, index in (("FlatIndex", fh.FlatIndex(64)), ("HierIndex", fh.HierIndex(64))):
        index.add(codes)
        calls[name] = lambda index=index: [index.search(queries, K) for _ in range(100)]
    scan = filled(faiss.IndexBinaryFlat(64), codes)
    calls["faiss"] = lambda: [scan.search(queries, K) for _ in range(100)]
    return {name: us(seconds, 100) for name, seconds in interleaved(calls, 9).items()}
