"""Kernels, exhaustive and hierarchical search beside other libraries, with pytest-benchmark: part of `make bench`.

200,000 codes, one thread, 100 queries a call, k = 10. faiss-cpu, usearch and pynear take part where they are installed
(extra `bench`), on the same arrays. benchmarks/report.py measures the figures of docs/figures.md.
"""

import numpy as np
import pytest

import fasthash as fh
from fasthash import _core
from workloads import learned_like

N_CODES, N_QUERIES, K = 200_000, 100, 10


@pytest.fixture(autouse=True)
def one_thread():
    before = fh.get_num_threads()
    fh.set_num_threads(1)
    yield
    fh.set_num_threads(before)


def faiss_flat(codes):
    faiss = pytest.importorskip("faiss", reason="faiss-cpu is not installed")
    faiss.omp_set_num_threads(1)
    index = faiss.IndexBinaryFlat(codes.shape[1] * 8)
    index.add(codes)
    return lambda queries: index.search(queries, K)[0]


def usearch_exact(codes):
    index_module = pytest.importorskip("usearch.index", reason="usearch is not installed")
    return lambda queries: index_module.search(
        codes, queries, K, index_module.MetricKind.Hamming, exact=True, threads=1
    ).distances.astype(np.int32)


def pynear_exact(codes):
    pynear = pytest.importorskip("pynear", reason="pynear is not installed")
    names = {64: "VPTreeBinaryIndex64", 128: "VPTreeBinaryIndex128", 256: "VPTreeBinaryIndex256"}
    name = names.get(codes.shape[1] * 8)
    if name is None or not hasattr(pynear, name):
        pytest.skip("pynear has no index of this width")
    index = getattr(pynear, name)()
    index.set(codes)
    return lambda queries: np.array([row[::-1] for row in index.searchKNN(queries, K)[1]])


def flat(codes):
    index = fh.FlatIndex(codes.shape[1] * 8)
    index.add(codes)
    return lambda queries: index.search(queries, K).distances


def hier(memory="default", plan="auto"):
    def make(codes):
        index = fh.HierIndex((codes.shape[1] * 8,), memory=memory, plan=plan)
        index.add(codes)
        return lambda queries: index.search(queries, K).distances

    return make


def run(benchmark, make, codes, queries):
    search = make(codes)
    distances = np.sort(np.asarray(benchmark(search, queries)), axis=1)
    np.testing.assert_array_equal(distances, flat(codes)(queries))


@pytest.mark.parametrize("level", _core.simd_levels())
@pytest.mark.parametrize("n_bits", [16, 32, 64, 128, 256, 512, 1024])
def test_kernels(benchmark, level, n_bits):
    benchmark.group = f"kernels, {n_bits} bits"
    before = fh.simd_level()
    _core.set_simd_level(level)
    try:
        run(benchmark, flat, *learned_like(N_CODES, N_QUERIES, None, n_bits))
    finally:
        _core.set_simd_level(before)


@pytest.mark.parametrize("make", [flat, faiss_flat, usearch_exact], ids=lambda make: make.__name__)
@pytest.mark.parametrize("n_bits", [64, 256])
def test_flat(benchmark, make, n_bits):
    benchmark.group = f"flat, {n_bits} bits"
    run(benchmark, make, *learned_like(N_CODES, N_QUERIES, None, n_bits))


HIER = {
    "auto": hier(),
    "fast": hier("fast"),
    "compact": hier("compact"),
    "scan": hier(plan="scan"),
    "prefix": hier(plan="prefix"),
    "multi-index": hier(plan="multi-index"),
    "faiss_flat": faiss_flat,
    "pynear": pynear_exact,
}


@pytest.mark.parametrize("name", HIER)
@pytest.mark.parametrize("p", [0.02, 0.04, 0.12], ids=lambda p: f"p={p}")
def test_hier(benchmark, name, p):
    benchmark.group = f"hierarchical, exact, p={p}"
    if name == "pynear" and p > 0.1:
        pytest.skip("takes minutes on codes that are not clustered")
    run(benchmark, HIER[name], *learned_like(N_CODES, N_QUERIES, p))


@pytest.mark.parametrize("mode", ["node_ratio", "gallery_ratio", "radius"])
@pytest.mark.parametrize("p", [0.02, 0.04], ids=lambda p: f"p={p}")
def test_pruned(benchmark, mode, p):
    benchmark.group = f"pruned, keep=0.3, p={p}"
    codes, queries = learned_like(N_CODES, N_QUERIES, p)
    index = fh.HierIndex((8, 16, 40))
    index.add(codes)
    index.search(queries[:1], K, keep=0.3)  # builds the tree of the levels
    benchmark(index.search, queries, K, keep=0.3, keep_mode=mode)


@pytest.mark.parametrize("memory", ["compact", "default", "fast"])
def test_build(benchmark, memory):
    benchmark.group = "build"
    codes, _ = learned_like(N_CODES, 1, 0.04)
    benchmark(lambda: fh.HierIndex((8, 16, 40), memory=memory).add(codes))
