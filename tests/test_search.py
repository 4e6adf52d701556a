"""Exact and pruned search against the numpy oracle: distances, ids and order, byte for byte."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fasthash as fh
import reference
from galleries import GALLERIES

LAYOUTS = [(8,), (64,), (4096,), (8, 8), (8, 16, 40), (16, 48), (8, 8, 8, 8), (40, 16, 8), (24, 104), (8,) * 12]
MODES = ["node_ratio", "gallery_ratio", "radius"]
# Memory and plan: every form in which codes are held, and every way to search them.
WAYS = [("default", "auto"), ("default", "prefix"), ("compact", "prefix"), ("default", "multi-index"), ("fast", "scan")]


def assert_same(result, distances, ids):
    assert result.distances.dtype == np.int32
    assert result.ids.dtype == np.int64
    np.testing.assert_array_equal(result.distances, distances)
    np.testing.assert_array_equal(result.ids, ids)


def make(seed, layout, n, kind, nq=3):
    """Codes, queries (one of them in the gallery) and shuffled ids, some of them negative."""
    rng = np.random.default_rng(seed)
    n_bytes = sum(layout) // 8
    both = GALLERIES[kind](rng, n + nq, n_bytes)
    codes, queries = both[:n], both[n:].copy()
    if n:
        queries[0] = codes[rng.integers(n)]
    ids = rng.choice(np.arange(-n - 2, 3 * n + 2), n + 2, replace=False) if n else np.arange(2)
    return codes, queries, ids[ids != -1][:n].astype(np.int64)


@st.composite
def problems(draw):
    layout = draw(st.sampled_from(LAYOUTS))
    n = draw(st.integers(0, 60) | st.integers(0, 1500 if sum(layout) < 1000 else 100))
    codes, queries, ids = make(draw(st.integers(0, 2**32)), layout, n, draw(st.sampled_from(list(GALLERIES))))
    return layout, codes, queries, ids, draw(st.integers(1, n + 5))


@settings(max_examples=200, deadline=None)
@given(problems())
def test_exact_search_equals_the_oracle(problem):
    layout, codes, queries, ids, k = problem
    expected = reference.search(queries, codes, ids, k)
    for index in (fh.FlatIndex(sum(layout)), *(fh.HierIndex(layout, memory=m, plan=p) for m, p in WAYS)):
        index.add(codes, ids)
        assert_same(index.search(queries, k), *expected)


@settings(max_examples=200, deadline=None)
@given(
    problems(), st.sampled_from(MODES), st.sampled_from([0.01, 0.1, 0.29, 0.3, 0.5, 0.9, 1.0]), st.sampled_from(WAYS)
)
def test_pruned_search_equals_the_oracle(problem, keep_mode, keep, way):
    layout, codes, queries, ids, k = problem
    index = fh.HierIndex(layout, memory=way[0], plan=way[1])
    index.add(codes, ids)
    result, stats = index.search(queries, k, keep=keep, keep_mode=keep_mode, stats=True)
    *expected, compared = reference.pruned_search(queries, codes, ids, k, layout, keep, keep_mode)
    assert_same(result, *expected)
    if len(layout) > 1:  # else there is nothing to prune, and the exact search answers
        assert (stats.codes_compared <= compared).all()  # what can no longer be among the k is left out


@pytest.mark.parametrize("kind", GALLERIES)
@pytest.mark.parametrize("layout", [(8, 16, 40), (8, 8)])
def test_tree_and_scan_agree_for_every_k(kind, layout):
    codes, queries, ids = make(1, layout, 60, kind)
    flat, hier = fh.FlatIndex(sum(layout)), fh.HierIndex(layout)
    flat.add(codes, ids)
    hier.add(codes, ids)
    for k in range(1, len(codes) + 6):
        expected = flat.search(queries, k)
        assert_same(expected, *reference.search(queries, codes, ids, k))
        assert_same(hier.search(queries, k), *expected)


@pytest.mark.parametrize("mode", MODES)
def test_keep_1_is_exact(mode):
    codes, queries, ids = make(2, (8, 16, 40), 500, "clustered")
    index = fh.HierIndex((8, 16, 40))
    index.add(codes, ids)
    assert_same(index.search(queries, 20, keep=1, keep_mode=mode), *index.search(queries, 20))


@pytest.mark.parametrize("mode", MODES)
def test_pruned_search_always_fills_k(mode):
    codes, queries, _ = make(3, (8, 16, 40), 300, "uniform")
    index = fh.HierIndex((8, 16, 40))
    index.add(codes)
    assert (index.search(queries, 250, keep=0.001, keep_mode=mode).ids >= 0).all()


def test_the_three_modes_differ():
    codes, queries, _ = make(4, (8, 16, 40), 2000, "uniform", nq=20)
    index = fh.HierIndex((8, 16, 40))
    index.add(codes)
    found = {mode: index.search(queries, 5, keep=0.1, keep_mode=mode).distances.tobytes() for mode in MODES}
    assert len(set(found.values())) == 3


def test_smaller_keep_compares_fewer_codes():
    codes, queries, _ = make(5, (8, 16, 40), 3000, "uniform", nq=20)
    index = fh.HierIndex((8, 16, 40))
    index.add(codes)
    keeps = (0.01, 0.1, 0.3, 1.0)
    works = [index.search(queries, 5, keep=keep, stats=True)[1] for keep in keeps]
    assert {*works[0].plan} == {"pruned"}
    compared = [work.codes_compared.sum() for work in works]
    visited = [work.nodes_visited.sum() for work in works]
    assert compared == sorted(compared)
    assert visited == sorted(visited)
    assert compared[0] < compared[-1] / 5
    assert compared[-1] <= 3000 * 20
    _, exact = index.search(queries, 5, stats=True)  # of few codes, which are scanned
    np.testing.assert_array_equal(exact.codes_compared, 3000)


def test_stats_of_the_exact_search():
    n = 50_000
    codes, queries, ids = make(6, (8, 16, 40), n, "clustered", nq=10)
    flat = fh.FlatIndex(64)
    flat.add(codes, ids)
    _, scan = flat.search(queries, 10, stats=True)
    np.testing.assert_array_equal(scan.codes_compared, n)
    np.testing.assert_array_equal(scan.nodes_visited, 0)
    assert set(scan.plan) == {"scan"}
    for plan in ("prefix", "multi-index"):
        hier = fh.HierIndex((8, 16, 40), plan=plan)
        hier.add(codes, ids)
        result, work = hier.search(queries, 10, stats=True)
        assert set(work.plan) == {plan}
        assert (work.codes_compared < n / 2).all()  # clustered codes: the bound must spare many of them
        assert (work.nodes_visited >= 1).all()
        assert_same(result, *flat.search(queries, 10))


def test_a_prefix_search_opens_just_the_prefixes_it_must():
    """Those as near as the k-th distance: any other exact search opens them too, to order ties by id."""
    codes, queries, ids = make(7, (64,), 50_000, "clustered", nq=10)
    index = fh.HierIndex((64,), plan="prefix")
    index.add(codes, ids)
    result, stats = index.search(queries, 10, stats=True)
    assert (stats.plan == "prefix").sum() > 3  # others ended as a scan
    bits = index.stats()["part_bits"]
    prefixes = np.packbits(np.unpackbits(codes, axis=1)[:, :bits], axis=1)
    wanted = np.packbits(np.unpackbits(queries, axis=1)[:, :bits], axis=1)
    for query, furthest, plan, visited, compared in zip(wanted, result.distances[:, -1], *stats, strict=True):
        if plan != "prefix":
            continue
        near = reference.hamming(query[None], prefixes)[0] <= furthest
        assert visited == len(np.unique(prefixes[near], axis=0))
        assert compared == len(np.unique(codes[near], axis=0))


def test_shares_are_not_spoilt_by_rounding():
    """0.07 * 100 is a little more than 7 in binary, 0.29 * 100 a little less than 29."""
    rng = np.random.default_rng(0)
    codes = np.stack([rng.permutation(256)[:100], rng.integers(0, 256, 100)], axis=1).astype(np.uint8)
    queries = rng.integers(0, 256, (300, 2), dtype=np.uint8)
    index = fh.HierIndex((8, 8))
    index.add(codes)
    for mode in MODES:
        result = index.search(queries, 1, keep=0.07, keep_mode=mode)
        *expected, _ = reference.pruned_search(queries, codes, np.arange(100), 1, (8, 8), 0.07, mode)
        assert_same(result, *expected)
    # 0.29 * 200 = 57.99999999999999: a node 58 bits away stays, and holds the nearest code.
    query, near, other = np.zeros((3, 26), np.uint8)
    near[:7], near[7] = 255, 0b11
    other[:7], other[7], other[25] = 255, 0b1, 255
    index = fh.HierIndex((200, 8))
    index.add(np.stack([other, near]))
    result = index.search(query[None], 1, keep=0.29, keep_mode="radius")
    assert (result.distances[0, 0], result.ids[0, 0]) == (58, 1)


@settings(max_examples=100, deadline=None)
@given(problems(), st.integers(0, 255))
def test_flipping_the_same_bits_everywhere_changes_nothing(problem, mask):
    layout, codes, queries, ids, k = problem
    index, flipped = fh.HierIndex(layout), fh.HierIndex(layout)
    index.add(codes, ids)
    flipped.add(codes ^ np.uint8(mask), ids)
    assert_same(flipped.search(queries ^ np.uint8(mask), k), *index.search(queries, k))


@settings(max_examples=100, deadline=None)
@given(problems(), st.integers(0, 2**32))
def test_pieces_and_order_of_adding_change_nothing(problem, seed):
    layout, codes, queries, ids, k = problem
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(codes))
    cuts = np.sort(rng.integers(0, len(codes) + 1, 2))
    for make_index in (
        lambda: fh.HierIndex(layout),
        lambda: fh.HierIndex(layout, memory="compact", plan="prefix"),
        lambda: fh.FlatIndex(sum(layout)),
    ):
        whole, pieces = make_index(), make_index()
        whole.add(codes, ids)
        for rows in np.split(order, cuts):
            pieces.add(codes[rows], ids[rows])
        assert len(pieces) == len(codes)
        assert_same(pieces.search(queries, k), *whole.search(queries, k))
