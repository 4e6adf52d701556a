"""The searchers of `fasthash bench`: the indices of fasthash, and those of the compared libraries.

Each library is a function that imports the library and yields searchers for given codes. Libraries that are not
installed are left out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fasthash import FlatIndex, HierIndex, unpack_bits

__all__ = ["LIBRARIES", "Searcher", "own"]

Codes = NDArray[np.uint8]


class Searcher(NamedTuple):
    """One index of one library with one setting, ready to search."""

    name: str
    """Library and index; searchers with the same name are points of one curve."""

    setting: str
    """Search parameter and its value; empty for an index without parameters."""

    exact: bool
    """Whether the library guarantees the true neighbours."""

    search: Callable[[Codes, int], Any]
    """The timed function: takes queries `(nq, n_bytes)` and k; returns the result of the library."""

    ids: Callable[[Any], NDArray[np.int64]]
    """Converts a result to ids `(nq, k)`, rows of the codes; -1 in places without a neighbour."""

    build_seconds: float
    nbytes: int
    threads: int
    """Threads of a search."""

    prepare: Callable[[], object] = lambda: None
    """Applies the setting; called before timed searches."""


def own(codes: Codes, threads: int) -> Iterator[Searcher]:
    """Build both indices of fasthash, `HierIndex` with each memory budget. The caller sets the number of threads."""
    for memory in (None, "compact", "default", "fast"):
        begin = time.perf_counter()
        n_bits = codes.shape[1] * 8
        index: Any = FlatIndex(n_bits) if memory is None else HierIndex((n_bits,), memory=memory)
        index.add(codes)
        seconds = time.perf_counter() - begin
        name = "fasthash FlatIndex" if memory is None else f"fasthash HierIndex, {memory}"
        yield Searcher(name, "", True, index.search, lambda result: result.ids, seconds, index.nbytes, threads)


def faiss(codes: Codes, threads: int) -> Iterator[Searcher]:
    """Build the flat index of faiss, and inverted lists with growing nprobe; the last nprobe is exact."""
    library: Any = import_module("faiss")
    n, n_bits = len(codes), codes.shape[1] * 8
    library.omp_set_num_threads(threads)

    def size(index: Any) -> int:
        return len(library.serialize_index_binary(index))

    begin = time.perf_counter()
    flat = library.IndexBinaryFlat(n_bits)
    flat.add(codes)
    seconds = time.perf_counter() - begin
    yield Searcher(
        "faiss IndexBinaryFlat", "", True, flat.search, lambda result: result[1], seconds, size(flat), threads
    )

    n_lists = int(max(1, min(4 * n**0.5, n / 39)))  # faiss warns if a list has fewer than 39 codes
    begin = time.perf_counter()
    quantizer = library.IndexBinaryFlat(n_bits)
    lists = library.IndexBinaryIVF(quantizer, n_bits, n_lists)
    lists.train(codes[:: max(1, n // (50 * n_lists))])
    lists.add(codes)
    seconds = time.perf_counter() - begin
    for n_probe in sorted({min(n_lists, probed) for probed in (1, 4, 16, 64, n_lists)}):
        yield Searcher(
            f"faiss IndexBinaryIVF, {n_lists} lists",
            f"nprobe {n_probe}",
            n_probe == n_lists,
            lists.search,
            lambda result: result[1],
            seconds,
            size(lists),
            threads,
            partial(setattr, lists, "nprobe", n_probe),
        )


def usearch(codes: Codes, threads: int) -> Iterator[Searcher]:
    """Build the exact search of usearch, and its graph with growing expansion."""
    library: Any = import_module("usearch.index")

    def ids(result: Any) -> NDArray[np.int64]:
        keys = np.atleast_2d(result.keys).astype(np.int64)
        counts: Any = getattr(result, "counts", [keys.shape[1]])  # a query may have fewer than k neighbours
        return np.where(np.arange(keys.shape[1]) < np.asarray(counts)[:, None], keys, -1)

    def exact(queries: Codes, k: int) -> Any:
        return library.search(codes, queries, k, library.MetricKind.Hamming, exact=True, threads=threads)

    yield Searcher("usearch exact", "", True, exact, ids, 0.0, codes.nbytes, threads)

    begin = time.perf_counter()
    graph = library.Index(ndim=codes.shape[1] * 8, metric="hamming", dtype="b1")
    graph.add(np.arange(len(codes)), codes, threads=threads)
    seconds = time.perf_counter() - begin
    for expansion in (16, 64, 256):
        yield Searcher(
            "usearch graph",
            f"expansion {expansion}",
            False,
            lambda queries, k: graph.search(queries, k, threads=threads),
            ids,
            seconds,
            graph.memory_usage,
            threads,
            partial(setattr, graph, "expansion_search", expansion),
        )


def numpy(codes: Codes, threads: int) -> Iterator[Searcher]:
    """Scan with numpy: all distances of a query in one expression, on one thread."""
    words = codes.view(np.uint64) if codes.shape[1] % 8 == 0 else codes

    def search(queries: Codes, k: int) -> NDArray[np.int64]:
        result = np.empty((len(queries), k), np.int64)
        for row, query in enumerate(queries.view(words.dtype)):
            distances = np.bitwise_count(words ^ query).sum(axis=1, dtype=np.int32)
            nearest = np.argpartition(distances, k - 1)[:k]
            result[row] = nearest[np.argsort(distances[nearest], kind="stable")]
        return result

    yield Searcher("numpy", "", True, search, lambda result: result, 0.0, codes.nbytes, 1)


def sklearn(codes: Codes, threads: int) -> Iterator[Searcher]:
    """Build the brute-force search of scikit-learn on unpacked bits, with scipy's Hamming distance."""
    library: Any = import_module("sklearn.neighbors")
    begin = time.perf_counter()
    bits = unpack_bits(codes).astype(bool)
    model = library.NearestNeighbors(algorithm="brute", metric="hamming", n_jobs=threads).fit(bits)
    seconds = time.perf_counter() - begin

    def search(queries: Codes, k: int) -> Any:
        return model.kneighbors(unpack_bits(queries).astype(bool), k, return_distance=False)

    yield Searcher("scikit-learn brute force", "", True, search, lambda result: result, seconds, bits.nbytes, threads)


LIBRARIES: dict[str, tuple[str, Callable[[Codes, int], Iterator[Searcher]]]] = {
    "faiss": ("faiss-cpu", faiss),
    "usearch": ("usearch", usearch),
    "numpy": ("numpy", numpy),
    "sklearn": ("scikit-learn", sklearn),
}
"""For the import name of each library: its distribution, and the function that builds its searchers."""
