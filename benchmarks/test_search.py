"""Time of the searches on learned-like codes, with pytest-benchmark: `make bench`.

Learned-like: 100 uniformly drawn centres, each code a random centre with every bit flipped with probability p. One
thread, 100 queries a call, k = 10.
"""

import numpy as np
import pytest

import fasthash as fh

N_CODES, N_QUERIES, LEVEL_BITS = 200_000, 100, (8, 16, 40)


@pytest.fixture(scope="module", params=[0.02, 0.04, 0.12], ids=lambda p: f"p={p}")
def codes(request):
    rng = np.random.default_rng(0)
    centres = rng.integers(0, 256, (100, 8), dtype=np.uint8)
    n = N_CODES + N_QUERIES
    noise = np.packbits(rng.random((n, 64)) < request.param, axis=1)
    return np.split(centres[rng.integers(0, 100, n)] ^ noise, [N_CODES])


@pytest.fixture(scope="module")
def flat(codes):
    index = fh.FlatIndex(64)
    index.add(codes[0])
    return index


@pytest.fixture(scope="module")
def hier(codes):
    index = fh.HierIndex(LEVEL_BITS)
    index.add(codes[0])
    return index


@pytest.mark.benchmark(group="search")
def test_scan(benchmark, flat, codes):
    benchmark(flat.search, codes[1], 10)


@pytest.mark.benchmark(group="search")
def test_exact_tree(benchmark, hier, flat, codes):
    result = benchmark(hier.search, codes[1], 10)
    np.testing.assert_array_equal(result.ids, flat.search(codes[1], 10).ids)


@pytest.mark.benchmark(group="search")
@pytest.mark.parametrize("mode", ["node_ratio", "gallery_ratio", "radius"])
def test_pruned_tree(benchmark, hier, codes, mode):
    benchmark(hier.search, codes[1], 10, keep=0.3, keep_mode=mode)


@pytest.mark.benchmark(group="build")
def test_build(benchmark, codes):
    benchmark(lambda: fh.HierIndex(LEVEL_BITS).add(codes[0]))
