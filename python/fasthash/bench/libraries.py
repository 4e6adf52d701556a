"""The searchers of `fasthash bench`: the indices of fasthash, and those of the compared libraries.

A library is a function from codes to searchers, which imports the library itself. Libraries that are not installed are
left out.
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
    """One way to search, built and ready."""

    name: str
    """Library and index; searchers of one name are points of one curve."""

    setting: str
    """What is set for this point, empty where there is nothing to set."""

    exact: bool
    """Whether the library promises the true neighbours."""

    search: Callable[[Codes, int], Any]
    """What is timed: queries `(nq, n_bytes)` and k, to whatever the library returns."""

    ids: Callable[[Any], NDArray[np.int64]]
    """From that to ids `(nq, k)`, rows of the codes; -1 where none was found."""

    build_seconds: float
    nbytes: int
    threads: int
    """Of a search."""

    prepare: Callable[[], object] = lambda: None
    """Sets the setting, before searches that are timed."""


def own(codes: Codes, threads: int) -> Iterator[Searcher]:
    """Both indices, the hierarchical one with each memory. The number of threads is set by the caller."""
    for memory in (None, "compact", "default", "fast"):
        begin = time.perf_counter()
        n_bits = codes.shape[1] * 8
        index: Any = FlatIndex(n_bits) if memory is None else HierIndex((n_bits,), memory=memory)
        index.add(codes)
        seconds = time.perf_counter() - begin
        name = "fasthash FlatIndex" if memory is None else f"fasthash HierIndex, {memory}"
        yield Searcher(name, "", True, index.search, lambda found: found.ids, seconds, index.nbytes, threads)


def faiss(codes: Codes, threads: int) -> Iterator[Searcher]:
    """The flat index, and inverted lists probed more and more until all of them are, which is exact."""
    library: Any = import_module("faiss")
    n, n_bits = len(codes), codes.shape[1] * 8
    library.omp_set_num_threads(threads)

    def size(index: Any) -> int:
        return len(library.serialize_index_binary(index))

    begin = time.perf_counter()
    flat = library.IndexBinaryFlat(n_bits)
    flat.add(codes)
    seconds = time.perf_counter() - begin
    yield Searcher("faiss IndexBinaryFlat", "", True, flat.search, lambda found: found[1], seconds, size(flat), threads)

    n_lists = int(max(1, min(4 * n**0.5, n / 39)))  # faiss warns of fewer than 39 codes for each list
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
            lambda found: found[1],
            seconds,
            size(lists),
            threads,
            partial(setattr, lists, "nprobe", n_probe),
        )


def usearch(codes: Codes, threads: int) -> Iterator[Searcher]:
    """Its exact search, and its graph with a wider and wider search."""
    library: Any = import_module("usearch.index")

    def ids(found: Any) -> NDArray[np.int64]:
        keys = np.atleast_2d(found.keys).astype(np.int64)
        counts: Any = getattr(found, "counts", [keys.shape[1]])  # of several queries, some may have found fewer
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
    """All distances of a query in one expression, on one thread."""
    words = codes.view(np.uint64) if codes.shape[1] % 8 == 0 else codes

    def search(queries: Codes, k: int) -> NDArray[np.int64]:
        found = np.empty((len(queries), k), np.int64)
        for row, query in enumerate(queries.view(words.dtype)):
            distances = np.bitwise_count(words ^ query).sum(axis=1, dtype=np.int32)
            nearest = np.argpartition(distances, k - 1)[:k]
            found[row] = nearest[np.argsort(distances[nearest], kind="stable")]
        return found

    yield Searcher("numpy", "", True, search, lambda found: found, 0.0, codes.nbytes, 1)


def sklearn(codes: Codes, threads: int) -> Iterator[Searcher]:
    """Its brute-force neighbours on unpacked bits, of which scipy counts those that differ."""
    library: Any = import_module("sklearn.neighbors")
    begin = time.perf_counter()
    bits = unpack_bits(codes).astype(bool)
    model = library.NearestNeighbors(algorithm="brute", metric="hamming", n_jobs=threads).fit(bits)
    seconds = time.perf_counter() - begin

    def search(queries: Codes, k: int) -> Any:
        return model.kneighbors(unpack_bits(queries).astype(bool), k, return_distance=False)

    yield Searcher("scikit-learn brute force", "", True, search, lambda found: found, seconds, bits.nbytes, threads)


LIBRARIES: dict[str, tuple[str, Callable[[Codes, int], Iterator[Searcher]]]] = {
    "faiss": ("faiss-cpu", faiss),
    "usearch": ("usearch", usearch),
    "numpy": ("numpy", numpy),
    "sklearn": ("scikit-learn", sklearn),
}
"""By the name under which a library is imported: its distribution, and what builds its searchers."""
