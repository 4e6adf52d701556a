"""`max_compared=`: what a search calls exact is exact, and it compares about as many codes as it may."""

import itertools
import re

import numpy as np
import pytest

import fasthash as fh
from differential import Ranking, distances
from galleries import GALLERIES
from indices import assert_same, filled, make, shuffled_ids, threads

SHARES = [1e-9, 0.01, 0.1, 0.4, 1.0]


def in_clusters(codes, ids=None):
    return filled(fh.HierIndex(codes.shape[1] * 8, plan="clusters"), codes, ids)


def assert_certified(found, exact_to, exact, k):
    """The results up to the certified distance are those of the exact search; -1 and n_bits are as documented."""
    for q, certified in enumerate(exact_to):
        proven = found.distances[q] <= certified, exact.distances[q] <= certified
        for mine, all_of_them in zip(found, exact, strict=True):
            np.testing.assert_array_equal(mine[q][proven[0]], all_of_them[q][proven[1]])
    assert (found.distances[:, -1] >= exact.distances[:, -1]).all()
    assert found.ids.shape == (len(exact_to), k)


@pytest.mark.parametrize("kind", GALLERIES)
@pytest.mark.parametrize("n_bytes", [1, 8, 32])
def test_certified_results_are_those_of_the_exact_search(kind, n_bytes):
    codes, queries, ids = make(n_bytes, (8 * n_bytes,), 3000, kind, nq=20)
    index, flat = in_clusters(codes, ids), filled(fh.FlatIndex(8 * n_bytes), codes, ids)
    for k in (1, 10, 500):
        exact = flat.search(queries, k)
        for share, n in itertools.product(SHARES, (1, len(queries))):
            found, stats = index.search(queries[:n], k, max_compared=share, stats=True)
            first = fh.SearchResult(exact.distances[:n], exact.ids[:n])
            assert_certified(found, stats.exact_to, first, k)
            assert (stats.exact_to >= -1).all()
            assert (stats.exact_to <= 8 * n_bytes).all()
            if share == 1:
                assert (stats.exact_to == 8 * n_bytes).all()
                assert_same(found, first)


@pytest.mark.parametrize("n_threads", [1, 3])
def test_results_are_ranked_and_have_their_true_distances(n_threads):
    codes, queries, ids = make(5, (64,), 20_000, "clustered", nq=50)
    index = in_clusters(codes, ids)
    row_of = {id: row for row, id in enumerate(ids.tolist())}
    with threads(n_threads):
        found = index.search(queries, 20, max_compared=0.02)
        one_by_one = [index.search(query[None], 20, max_compared=0.02) for query in queries]
    for q in range(len(queries)):
        for result, row in ((found, q), (one_by_one[q], 0)):
            of_query = result.distances[row], result.ids[row]
            assert sorted(zip(*map(np.ndarray.tolist, of_query), strict=True)) == list(
                zip(*map(np.ndarray.tolist, of_query), strict=True)
            )
            true = distances(queries[q : q + 1], codes[[row_of[id] for id in result.ids[row].tolist()]])
            np.testing.assert_array_equal(true[0], of_query[0])


def test_the_work_follows_the_share_and_the_certificate_is_worth_something():
    rng = np.random.default_rng(6)
    centres = rng.integers(0, 256, (50, 8), dtype=np.uint8)
    both = centres[rng.integers(0, 50, 100_100)] ^ np.packbits(rng.random((100_100, 64)) < 0.1, axis=1)
    codes, queries = both[100:], both[:100]
    index = in_clusters(codes)
    exact = index.search(queries, 10)
    compared, certified = [], []
    for share in (0.001, 0.01, 0.1):
        found, stats = index.search(queries, 10, max_compared=share, stats=True)
        assert (stats.codes_compared <= share * len(codes) + 4096).all()  # one block of codes more at most
        compared.append(stats.codes_compared.mean())
        certified.append((stats.exact_to >= exact.distances[:, -1]).mean())
        assert_certified(found, stats.exact_to, exact, 10)
    assert compared == sorted(compared)
    assert certified == sorted(certified)
    assert certified[-1] > 0.5  # most results are proven whole, from a tenth of the codes


def test_a_number_of_codes_is_its_share():
    codes, queries, _ = make(7, (64,), 20_000, "clustered", nq=30)
    index = in_clusters(codes)
    assert_same(index.search(queries, 5, max_compared=2000), index.search(queries, 5, max_compared=0.1))
    assert_same(index.search(queries, 5, max_compared=10**9), index.search(queries, 5))
    assert_same(index.search(queries, 5, max_compared=np.int64(1)), index.search(queries, 5, max_compared=5e-5))


def test_a_search_goes_on_until_it_has_k():
    codes, queries, ids = make(8, (64,), 5000, "clustered", nq=20)
    index = in_clusters(codes, ids)
    assert (index.search(queries, 3000, max_compared=1).ids != -1).all()
    some = np.sort(ids)[::3]
    found, stats = index.search(queries, 40, max_compared=0.01, allow=some, stats=True)
    assert np.isin(found.ids, some).all()
    ranking = Ranking(queries, codes, ids)
    assert_certified(found, stats.exact_to, ranking.nearest(40, np.isin(ranking.ids, some)), 40)


def test_changes_and_removed_codes():
    codes, queries, _ = make(9, (64,), 30_000, "clustered", nq=30)
    rng = np.random.default_rng(0)
    ids = shuffled_ids(rng, len(codes))
    index, flat = in_clusters(codes[:25_000], ids[:25_000]), fh.FlatIndex(64)
    index.add(codes[25_000:29_900], ids[25_000:29_900])
    index.add(codes[29_900:], ids[29_900:])  # stays in the tail
    index.remove(ids[:2000])
    flat.add(codes[2000:], ids[2000:])
    exact = flat.search(queries, 10)
    for share in SHARES:
        found, stats = index.search(queries, 10, max_compared=share, stats=True)
        assert_certified(found, stats.exact_to, exact, 10)


def test_clusters_are_gone_and_recent_additions_left():
    codes, queries, _ = make(11, (64,), 10_005, "clustered", nq=4)
    index = in_clusters(codes[:10_000])
    index.add(codes[10_000:])
    index.remove(np.arange(10_000))
    found, stats = index.search(queries, 3, max_compared=0.5, stats=True)
    assert_same(found, index.search(queries, 3))
    assert (stats.exact_to == 64).all()
    assert (stats.codes_compared == 5).all()
    assert_same(index.search(queries, 3, max_compared=1), found)
    assert_same(
        index.search(queries, 3, max_compared=0.5, allow=[[10_000], [10_001], None, range(10_003)])[:1],
        [index.search(queries, 3, allow=[[10_000], [10_001], None, range(10_003)]).distances],
    )


def test_few_codes_and_none():
    index = fh.HierIndex(64, plan="clusters")
    found, stats = index.search(np.zeros((2, 8), np.uint8), 3, max_compared=0.5, stats=True)
    assert (found.ids == -1).all()
    assert (stats.exact_to == 64).all()
    index.add(np.zeros((2, 8), np.uint8))
    assert index.search(np.zeros((1, 8), np.uint8), 3, max_compared=1).ids.tolist() == [[0, 1, -1]]


def test_bad_arguments():
    codes, queries, _ = make(10, (8, 56), 2000, "clustered")
    index = filled(fh.HierIndex((8, 56), plan="clusters"), codes)
    for wrong in (0, -1, 0.0, 1.5, float("nan"), -0.1):
        with pytest.raises(ValueError, match="max_compared must be"):
            index.search(queries, 5, max_compared=wrong)
    for wrong in ("0.1", "1", [0.1], True, np.array([0.1])):
        message = f"max_compared must be a share, a float, or a number, an integer, got {wrong!r}"
        with pytest.raises(TypeError, match=re.escape(message)):
            index.search(queries, 5, max_compared=wrong)
    with pytest.raises(ValueError, match="max_compared must be left out beside keep"):
        index.search(queries, 5, max_compared=0.1, keep=0.3)
    for plan in ("scan", "prefix", "multi-index"):
        message = (
            f"max_compared must be given to an index in clusters, got a share of 0.1 for one whose plan is {plan}; "
            'plan="clusters" forces clusters'
        )
        with pytest.raises(ValueError, match=re.escape(message)):
            filled(fh.HierIndex(64, plan=plan), codes).search(queries, 5, max_compared=0.1)


def test_numbers_beyond_all_floats():
    codes = np.random.default_rng(0).integers(0, 256, (500, 8), np.uint8)
    index = fh.HierIndex.from_arrays(codes, plan="clusters")
    np.testing.assert_array_equal(index.search(codes, 3, max_compared=10**400).ids, index.search(codes, 3).ids)
    fingerprints = fh.FlatIndex.from_arrays(codes, metric="jaccard")
    assert len(fingerprints.range_search(codes[:1], 10**400).ids) == 500
