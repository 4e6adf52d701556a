"""Searches of text embeddings by `RescoringIndex`, faiss, usearch and sentence-transformers: recall, time, bytes.

    python benchmarks/rescoring.py --embeddings FILE.npy [--queries 1000] [--rounds 5] [--fill]

FILE.npy holds float vectors `(n, n_dims)` in random order, for example those of `sentences.py`; the last ones are the
queries. Prints a table; `--fill` puts it into docs/embeddings.md. Packages that are not installed are left out. All
searches run on one thread of one core and take turns.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

import fasthash as fh
from pages import fill_page, share, table, versions
from workloads import cpu_name, interleaved, one_by_one

PAGE = Path(__file__).parent.parent / "docs" / "embeddings.md"
K = 10
N_ONE_BY_ONE = 50
COMPARED = {
    name: package
    for name, package in {
        "faiss": "faiss-cpu",
        "usearch": "usearch",
        "sentence_transformers": "sentence-transformers",
    }.items()
    if importlib.util.find_spec(name)
}

Search = Callable[[np.ndarray, int], np.ndarray]  # queries, k -> ids


@dataclass
class Case:
    """A search and the bytes that it needs for each vector; those of a file are outside of `in_memory`."""

    search: Search
    in_memory: float
    in_file: float = 0


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def best(queries: np.ndarray, vectors: np.ndarray, candidates: np.ndarray, k: int) -> np.ndarray:
    """The k candidates of largest inner product; `vectors` `(nq, n, n_dims)` are those of the candidates."""
    scores = np.einsum("ij,ikj->ik", queries, vectors)
    return np.take_along_axis(candidates, np.argsort(-scores, axis=1)[:, :k], axis=1)


def exact_search(gallery: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    scores = queries @ gallery.T
    some = np.argpartition(-scores, k, axis=1)[:, :k]
    return np.take_along_axis(some, np.argsort(-np.take_along_axis(scores, some, 1), axis=1), 1)


def int8_steps(gallery: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What `quantize_embeddings(precision="int8")` makes, and the width of the steps of each dimension."""
    start = gallery.min(axis=0)
    width = (gallery.max(axis=0) - start) / 255
    return ((gallery - start) / width - 128).astype(np.int8), width


# The searches of each library


def fasthash_cases(gallery: np.ndarray) -> dict[str, Case]:
    n, n_dims = gallery.shape
    ranges = np.stack([gallery.min(axis=0), gallery.max(axis=0)])
    third, half = n_dims // 24 * 8, n_dims // 16 * 8
    widths = third, -(-n_dims // 8) * 8 - third
    kinds: dict[str, tuple[dict[str, Any], tuple[int, ...], float | None]] = {
        "float32": ({"dtype": "float32"}, (4, 16), None),
        "float16": ({"dtype": "float16"}, (2, 4, 8, 16), None),
        "int8": ({"dtype": "int8"}, (2, 4, 8, 16, 32), None),
        "int8, `ranges=`": ({"dtype": "int8", "ranges": ranges}, (16,), None),
        'int8, `center="mean"`': ({"dtype": "int8", "center": "mean"}, (2, 4, 8, 16), None),
        f"int8, `level_bits=({half},)`": ({"dtype": "int8", "level_bits": (half,)}, (4, 16), None),
        f"int8, `level_bits={widths}`, `keep=.1`": ({"dtype": "int8", "level_bits": widths}, (4, 16), 0.1),
    }
    cases = {}
    for kind, (options, multipliers, keep) in kinds.items():
        index = fh.RescoringIndex(n_dims, **options)
        index.add(gallery)
        search = partial(_rescored, index, keep)
        search(1, gallery[:1], 1)  # a pruned search builds its tree
        vectors = 2.0 ** {"float32": 2, "float16": 1, "int8": 0}[index.dtype] * n_dims
        vectors += 8 * (index.dtype == "int8" and index.ranges is None)
        for multiplier in multipliers:
            case = Case(partial(search, multiplier), (index.codes.nbytes + 16 * n) / n, vectors)  # ids, rows
            cases[f"fasthash {kind}, {multiplier} k scored"] = case
    return cases


def _rescored(index: fh.RescoringIndex, keep: float | None, multiplier: int, queries: np.ndarray, k: int) -> np.ndarray:
    return index.search(queries, k, rescore_multiplier=multiplier, keep=keep).ids


def faiss_cases(gallery: np.ndarray) -> dict[str, Case]:
    import faiss

    faiss.omp_set_num_threads(1)
    n, n_dims = gallery.shape
    cases = {}

    def size(index: faiss.Index) -> float:
        return len(faiss.serialize_index(index)) / n

    flat = faiss.IndexFlatIP(n_dims)
    flat.add(gallery)
    cases["faiss `IndexFlatIP`"] = Case(lambda queries, k: flat.search(queries, k)[1], n_dims * 4)

    binary = faiss.IndexBinaryFlat(n_dims)
    binary.add(np.packbits(gallery > 0, axis=1))

    def rescored(multiplier: int, queries: np.ndarray, k: int) -> np.ndarray:
        found = binary.search(np.packbits(queries > 0, axis=1), k * multiplier)[1]
        return best(queries, gallery[found], found, k)

    for multiplier in (4, 16):
        name = f"faiss `IndexBinaryFlat`, {multiplier} k scored by float32 in numpy"
        cases[name] = Case(partial(rescored, multiplier), n_dims / 8, n_dims * 4)

    hnsw = faiss.IndexHNSWFlat(n_dims, 32, faiss.METRIC_INNER_PRODUCT)
    hnsw.hnsw.efConstruction = 100
    hnsw.add(gallery)
    for ef in (16, 64, 256):
        parameters = faiss.SearchParametersHNSW(efSearch=ef)
        search = partial(_faiss_search, hnsw, parameters)
        cases[f"faiss `IndexHNSWFlat`, M = 32, efSearch = {ef}"] = Case(search, size(hnsw))

    n_lists = 2 ** round(np.log2(n**0.5))
    quantisers = f"PQ{n_dims // 4}x4fs", f"PQ{n_dims // 4}x4fs,Refine(SQ8)", "RaBitQ", "RaBitQ,Refine(SQ8)", "SQ8"
    for quantiser in quantisers:
        name = f"IVF{n_lists},{quantiser}"
        index = faiss.index_factory(n_dims, name, faiss.METRIC_INNER_PRODUCT)
        index.train(gallery[:50_000])
        index.add(gallery)
        for n_probes in (16, 64):
            parameters = faiss.SearchParametersIVF(nprobe=n_probes)
            if "Refine" in name:
                parameters = faiss.IndexRefineSearchParameters(k_factor=8, base_index_params=parameters)
            note = ", 8 k scored" if "Refine" in name else ""
            case = Case(partial(_faiss_search, index, parameters), size(index))
            cases[f"faiss `{name}`, {n_probes} lists{note}"] = case
    return cases


def _faiss_search(index, parameters, queries: np.ndarray, k: int) -> np.ndarray:
    return index.search(queries, k, params=parameters)[1]


def usearch_cases(gallery: np.ndarray) -> dict[str, Case]:
    """Codes searched by usearch, exactly, and int8 vectors scored: the published recipe of sentence-transformers."""
    from usearch.index import Index

    n, n_dims = gallery.shape
    steps, width = int8_steps(gallery)
    codes, vectors = Index(ndim=n_dims, metric="hamming", dtype="b1"), Index(ndim=n_dims, metric="ip", dtype="i8")
    codes.add(np.arange(n), np.packbits(gallery > 0, axis=1), threads=1)
    vectors.add(np.arange(n), steps, threads=1)

    def rescored(multiplier: int, exact: bool, queries: np.ndarray, k: int) -> np.ndarray:
        packed = np.packbits(queries > 0, axis=1)
        found = np.atleast_2d(codes.search(packed, k * multiplier, exact=exact, threads=1).keys).astype(np.int64)
        # The inner product of the query with the steps, as sentence-transformers multiplies them.
        stored = np.array(vectors.get(found.ravel()), np.float32).reshape(*found.shape, n_dims)
        return best(queries * width, stored, found, k)

    n_bytes = codes.serialized_length / n, vectors.serialized_length / n
    cases = {
        f"usearch b1, {multiplier} k scored by int8": Case(partial(rescored, multiplier, True), *n_bytes)
        for multiplier in (4, 16)
    }
    cases["usearch b1, graph, 16 k scored by int8"] = Case(partial(rescored, 16, False), *n_bytes)
    graph = Index(ndim=n_dims, metric="cos", dtype="f16")
    graph.add(np.arange(n), gallery, threads=1)

    def approximate(queries: np.ndarray, k: int) -> np.ndarray:
        return np.atleast_2d(graph.search(queries, k, threads=1).keys).astype(np.int64)

    cases["usearch f16, graph, default settings"] = Case(approximate, graph.serialized_length / n)
    return cases


def sentence_transformers_cases(gallery: np.ndarray) -> dict[str, Case]:
    """`semantic_search_usearch` itself. With ubinary it keeps no vectors: it scores the query with the bits."""
    from sentence_transformers.util.quantization import quantize_embeddings, semantic_search_usearch

    n = len(gallery)
    ranges = np.stack([gallery.min(axis=0), gallery.max(axis=0)])
    cases = {}
    for precision, multipliers in {"ubinary": (2, 4, 16), "int8": (2,)}.items():
        options = {"corpus_precision": precision, "ranges": ranges if precision == "int8" else None}
        corpus = quantize_embeddings(gallery, precision=precision, ranges=options["ranges"])
        index = semantic_search_usearch(gallery[:1], corpus, output_index=True, **options)[2]

        def search(multiplier: int, index, options, queries: np.ndarray, k: int) -> np.ndarray:
            options = options | {"corpus_index": index, "top_k": k, "rescore_multiplier": multiplier}
            found = semantic_search_usearch(queries, **options)[0]
            return np.array([[hit["corpus_id"] for hit in row] for row in found])

        for multiplier in multipliers:
            name = f"`semantic_search_usearch`, {precision}, {multiplier} k scored"
            cases[name] = Case(partial(search, multiplier, index, options), index.serialized_length / n)
    return cases


def measured(gallery: np.ndarray, queries: np.ndarray, rounds: int) -> str:
    """A table: recall of the ten largest cosines of the floats, times, bytes."""
    exact = exact_search(gallery, queries, K)
    cases = {"numpy float32": Case(partial(exact_search, gallery), gallery.shape[1] * 4)} | fasthash_cases(gallery)
    makers = {"faiss": faiss_cases, "usearch": usearch_cases, "sentence_transformers": sentence_transformers_cases}
    for name, make in makers.items():
        if name in COMPARED:
            cases |= make(gallery)
    recalls = {name: recall(exact, case.search(queries, K)) for name, case in cases.items()}
    batch = interleaved({name: partial(case.search, queries, K) for name, case in cases.items()}, rounds)
    few = queries[:N_ONE_BY_ONE]
    single = interleaved({name: one_by_one(case.search, few, K) for name, case in cases.items()}, rounds)
    rows = [
        [
            name,
            share(recalls[name]) if recalls[name] < 0.9995 else "1.000",
            f"{batch[name] / len(queries) * 1e6:,.0f}",
            f"{single[name] / len(few) * 1e6:,.0f}",
            f"{case.in_memory:,.0f}",
            f"{case.in_file:,.0f}" if case.in_file else "–",
        ]
        for name, case in cases.items()
    ]
    head = ["search", "recall@10", f"µs a query, {len(queries):,} a call", "µs, one a call", "bytes: codes or index"]
    return table([*head, "vectors"], rows)


def recall(exact: np.ndarray, found: np.ndarray) -> float:
    return float(np.mean([np.isin(truth, row).mean() for truth, row in zip(exact, found, strict=True)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--embeddings", type=Path, required=True)
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--fill", action="store_true")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):  # the search of sentence-transformers takes all cores, without a choice
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    fh.set_num_threads(1)
    embeddings = unit(np.load(options.embeddings, allow_pickle=False))
    gallery, queries = embeddings[: -options.queries], embeddings[-options.queries :]
    used = f"Python {platform.python_version()}, {versions('numpy', 'fasthash-search', *COMPARED.values())}"
    machine = f"{cpu_name()}, one thread, medians of {options.rounds} rounds; {used}."
    data = f"{len(gallery):,} vectors of {gallery.shape[1]} dimensions, {len(queries):,} queries."
    with threadpool_limits(1):
        parts = {"text machine": f"{machine} {data}", "text": measured(gallery, queries, options.rounds)}
    fill_page(PAGE, parts, only_print=not options.fill)


if __name__ == "__main__":
    main()
