"""Search and count within a radius, against the numpy oracle."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fasthash as fh
import reference
from bad_input import CODE_ARRAYS, CODES, FILTERS, NO_INTEGERS, named
from galleries import GALLERIES, clustered, uniform
from indices import KINDS, any_kind, assert_same, empty, empty_index, filled, indices, problems, shuffled_ids, threads  # noqa: F401

LAYOUT = (8, 16, 40)
HUGE = [1000, 4096, 2**31 - 1, 2**31, 2**63, 2**64, 10**30]


@given(problems(), st.data())
def test_range_search_and_count_equal_the_oracle(problem, data):
    layout, codes, queries, ids, _ = problem
    index = data.draw(indices(layout, codes, ids))
    n_bits = sum(layout)
    near = st.sampled_from(sorted({*reference.hamming(queries, codes).ravel().tolist(), 0}))
    radius = data.draw(st.integers(0, n_bits + 1) | near | st.sampled_from(HUGE), label="radius")
    assert_same(index.range_search(queries, radius), reference.range_search(queries, codes, ids, radius))
    assert_same([index.count_within(queries, radius)], [reference.count_within(queries, codes, radius)])


@given(problems(), st.data())
def test_filtered_range_search_and_count_equal_the_oracle(problem, data):
    layout, codes, queries, ids, _ = problem
    index = data.draw(indices(layout, codes, ids))
    radius = data.draw(st.integers(0, sum(layout) + 1), label="radius")
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    share = data.draw(st.sampled_from([0, 0.01, 0.1, 0.5, 0.99, 1]), label="share")
    allow = rng.permutation(ids)[: round(share * len(ids))]
    codes, ids = reference.allowed(codes, ids, allow)
    for given_as in (allow, fh.IdFilter(allow)):
        found = index.range_search(queries, radius, allow=given_as)
        assert_same(found, reference.range_search(queries, codes, ids, radius))
        counts = index.count_within(queries, radius, allow=given_as)
        assert_same([counts], [reference.count_within(queries, codes, radius)])


def test_the_radius_is_included(index):
    """One code at every distance from 0 to 64."""
    codes = np.packbits(np.tri(65, 64, -1, dtype=np.uint8), axis=1)
    index.add(codes)
    query = codes[:1]
    for radius in [*range(70), *HUGE]:
        last = min(radius, 64)
        found = index.range_search(query, radius)
        assert_same(found, (np.array([0, last + 1]), np.arange(last + 1, dtype=np.int32), np.arange(last + 1)))
        assert_same([index.count_within(query, radius)], [np.array([last + 1])])


def test_every_distance_of_short_codes():
    codes = np.arange(256, dtype=np.uint8)[:, None]
    expected = [reference.range_search(codes, codes, np.arange(256), radius) for radius in range(10)]
    for kind in KINDS:
        index = filled(empty(kind, (8,)), codes)
        for radius in range(10):
            assert_same(index.range_search(codes, radius), expected[radius])
            assert_same([index.count_within(codes, radius)], [np.diff(expected[radius][0])])


def test_rows_of_a_query_stand_between_its_offsets(index):
    """Ordered by distance, equal distances by id."""
    zeros = np.zeros((4, 8), np.uint8)
    zeros[1, 0] = zeros[3, 0] = 1
    index.add(zeros, [9, 5, -4, 3])
    far, near = ~zeros[:1], zeros[:1]
    offsets, distances, ids = index.range_search(np.concatenate([near, far, zeros[1:2], far]), 1)
    assert offsets.tolist() == [0, 4, 4, 8, 8]
    assert distances.tolist() == [0, 0, 1, 1, 0, 0, 1, 1]
    assert ids.tolist() == [-4, 9, 3, 5, 3, 5, -4, 9]
    assert (offsets.dtype, distances.dtype, ids.dtype) == (np.int64, np.int32, np.int64)
    assert index.count_within(np.concatenate([near, far]), 0).tolist() == [2, 0]


def test_results_are_arrays_of_their_own(index):
    index.add(CODES)
    first, second = index.range_search(CODES, 64), index.range_search(CODES, 64)
    for array in (*first, index.count_within(CODES, 64)):
        array[:] = 77
    assert_same(index.range_search(CODES, 64), second)


def test_no_codes_and_no_queries(index):
    nothing = np.zeros(0, np.int32), np.zeros(0, np.int64)
    for _ in range(2):
        assert_same(index.range_search(CODES[:0], 64), (np.zeros(1, np.int64), *nothing))
        assert_same([index.count_within(CODES[:0], 64)], [np.zeros(0, np.int64)])
        index.add(CODES[:0])
        assert_same(index.range_search(CODES, 64), (np.zeros(4, np.int64), *nothing))
        assert_same([index.count_within(CODES, 64)], [np.zeros(3, np.int64)])
        index.add(CODES)
        index.remove(index.to_arrays()[1])
    index.add(CODES)
    _, work = index.range_search(CODES[:0], 64, stats=True)
    assert [len(of_queries) for of_queries in work] == [0] * 4


def test_arguments_by_name(index):
    index.add(CODES)
    found = index.range_search(queries=CODES[:1], radius=8, allow=[0, 2], stats=False)
    assert_same(found, index.range_search(CODES[:1], 8, allow=[0, 2]))
    counts = index.count_within(queries=CODES[:1], radius=8, allow=[0, 2])
    assert_same([counts], [np.diff(found.offsets)])
    for radius in (np.int8(8), np.uint64(8), np.array(8)):
        assert_same(index.range_search(CODES[:1], radius, allow=[0, 2]), found)
        assert_same([index.count_within(CODES[:1], radius, allow=[0, 2])], [counts])


# ---- work ----


def test_a_small_radius_compares_few_of_clustered_codes():
    """And a smaller share of more codes."""
    rng = np.random.default_rng(0)
    codes = clustered(rng, 80_020, 8, 100, 0.05)
    codes, queries = codes[:-20], codes[-20:]
    for kind in [("compact", "prefix"), ("default", "auto"), ("default", "multi-index"), ("fast", "auto")]:
        shares = []
        for n in (20_000, 80_000):
            index = filled(empty(kind, (64,)), codes[:n])
            with threads(2):  # on one, so many queries are scanned together
                result, work = index.range_search(queries, 2, stats=True)
            assert_same(result, reference.range_search(queries, codes[:n], np.arange(n), 2))
            shares.append(work.codes_compared.mean() / n)
        assert shares[1] < shares[0] <= 1
        assert (work.nodes_visited >= 1).all()


@pytest.mark.parametrize("kind", ["flat", ("default", "scan"), ("default", "prefix"), ("fast", "auto")], ids=str)
def test_threads_agree_on_many_codes(kind):
    """One query is shared out by codes, many by queries; in segments that hold ids in order and in none."""
    rng = np.random.default_rng(1)
    n = 420_000
    codes, queries = clustered(rng, n, 8, 100, 0.1), clustered(rng, 70, 8, 100, 0.1)
    queries[:35] = codes[:35]
    for ids in (np.arange(n), shuffled_ids(rng, n)):
        index = empty(kind, LAYOUT)
        for rows in np.split(np.arange(n), [n - 4500, n - 100]):
            index.add(codes[rows], ids[rows])
        index.remove(ids[::50])
        wide = fh.IdFilter(ids[: n // 2])
        for q in (queries[:1], queries):
            results = []
            for n_threads in (1, 2, 7):
                with threads(n_threads):
                    found = index.range_search(q, 7)
                    half = index.range_search(q, 7, allow=wide)
                    assert_same([index.count_within(q, 7)], [np.diff(found.offsets)])
                    assert_same([index.count_within(q, 7, allow=wide)], [np.diff(half.offsets)])
                    results.append((*found, *half, *index.search(q, 20), *index.search(q, 20, allow=wide)))
            for result in results[1:]:
                assert_same(result, results[0])
        held = np.delete(codes, np.s_[::50], axis=0), np.delete(ids, np.s_[::50])
        assert_same(index.range_search(queries[:1], 7), reference.range_search(queries[:1], *held, 7))


@pytest.mark.parametrize("gallery", GALLERIES)
def test_all_codes_may_be_within_the_radius(gallery, kind):
    rng = np.random.default_rng(2)
    codes, ids = GALLERIES[gallery](rng, 3000, 8), shuffled_ids(rng, 3000)
    index = filled(empty(kind, LAYOUT), codes, ids)
    queries = uniform(rng, 2, 8)
    for radius in (20, 32, 63, 64):
        assert_same(index.range_search(queries, radius), reference.range_search(queries, codes, ids, radius))
        assert_same([index.count_within(queries, radius)], [reference.count_within(queries, codes, radius)])


# ---- bad input ----

BAD_ARGUMENTS = [
    *(({"queries": queries}, e, m) for queries, e, m in named("queries", CODE_ARRAYS)),
    *(({"radius": radius}, e, m) for radius, e, m in named("radius", NO_INTEGERS)),
    *(
        ({"radius": radius}, ValueError, f"radius must be at least 0, got {radius}")
        for radius in (-1, np.int64(-1), -(2**31), -(2**64))
    ),
    *(({"allow": allow}, e, m) for allow, e, m in named("allow", FILTERS)),
    ({"allow": [True, False]}, ValueError, "allow must have an entry for every id up to 2, got 2 entries"),
    ({"allow": np.zeros(0, bool)}, ValueError, "allow must have an entry for every id up to 2, got 0 entries"),
]


@pytest.mark.parametrize("kind", ["flat", KINDS[5]], ids=str, indirect=True)
@pytest.mark.parametrize("method", ["range_search", "count_within"])
@pytest.mark.parametrize(("arguments", "error", "message"), BAD_ARGUMENTS)
def test_refused_ranges(index, method, arguments, error, message):
    index.add(CODES)
    with pytest.raises(error, match=re.escape(message)):
        getattr(index, method)(**{"queries": CODES, "radius": 3} | arguments)


@pytest.mark.parametrize("shuffled", [False, True])
def test_repeated_searches_within_small_radii_build_tables(shuffled):
    """Of scattered codes, which k-NN scans: once scans have cost as much as tables; never of memory="compact"."""
    rng = np.random.default_rng(2)
    codes = np.concatenate([uniform(rng, 99_000, 8), uniform(rng, 500, 8).repeat(3, axis=0)])
    few_bits = np.packbits(rng.random((len(codes[::200]), 64)) < 0.04, axis=1)
    queries = np.concatenate([codes[::200] ^ few_bits, uniform(rng, 20, 8)])
    ids = shuffled_ids(rng, len(codes)) if shuffled else np.arange(len(codes))
    flat = filled(fh.FlatIndex(64), codes, ids)
    index, compact = (filled(fh.HierIndex(64, memory=memory), codes, ids) for memory in ("default", "compact"))
    before = index.nbytes
    assert (index.range_search(queries[:1], 2, stats=True)[1].plan == "scan").all()
    expected = flat.range_search(queries, 3)
    for _ in range(20):
        assert_same(index.range_search(queries, 3), expected)
    assert index.nbytes > before
    assert (index.range_search(queries, 3, stats=True)[1].plan == "multi-index").all()
    assert (compact.range_search(queries, 3, stats=True)[1].plan != "multi-index").all()
    index.remove(ids[:1000])
    flat.remove(ids[:1000])
    some = ids[500 : 3 * len(ids) // 4]
    for radius in (0, 1, 2, 5, 12):
        for allow in (None, some):
            expected = flat.range_search(queries, radius, allow=allow)
            assert_same(index.range_search(queries, radius, allow=allow), expected)
            assert_same([index.count_within(queries, radius, allow=allow)], [np.diff(expected.offsets)])
    with threads(3):
        assert_same(index.range_search(queries, 3), flat.range_search(queries, 3))
    assert_same(index.search(queries, 5), flat.search(queries, 5))
