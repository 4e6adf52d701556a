"""Exact and pruned search against the numpy oracle: distances, ids and order, byte for byte."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fasthash as fh
import reference
from galleries import GALLERIES
from indices import KINDS, MODES, WAYS, assert_same, empty, filled, indices, make, problems


@given(problems())
def test_exact_search_equals_the_oracle(problem):
    layout, codes, queries, ids, k = problem
    expected = reference.search(queries, codes, ids, k)
    for index in (fh.FlatIndex(sum(layout)), *(fh.HierIndex(layout, memory=m, plan=p) for m, p in WAYS)):
        index.add(codes, ids)
        assert_same(index.search(queries, k), expected)


@given(
    problems(),
    st.sampled_from(MODES),
    st.sampled_from([0.01, 0.1, 0.29, 0.3, 0.5, 0.9, 1.0]),
    st.sampled_from(WAYS),
)
def test_pruned_search_equals_the_oracle(problem, keep_mode, keep, way):
    layout, codes, queries, ids, k = problem
    index = fh.HierIndex(layout, memory=way[0], plan=way[1])
    index.add(codes, ids)
    result, stats = index.search(queries, k, keep=keep, keep_mode=keep_mode, stats=True)
    *expected, compared = reference.pruned_search(queries, codes, ids, k, layout, keep, keep_mode)
    assert_same(result, expected)
    if len(layout) > 1:  # else there is nothing to prune, and the exact search answers
        # Codes that can no longer be among the k are left out. A scan compares others beside those that are kept.
        scanned = stats.codes_compared > compared
        assert (stats.codes_compared[scanned] <= len(np.unique(codes, axis=0))).all()


@pytest.mark.parametrize("kind", GALLERIES)
@pytest.mark.parametrize("layout", [(8, 16, 40), (8, 8)])
def test_tree_and_scan_agree_for_every_k(kind, layout):
    codes, queries, ids = make(1, layout, 60, kind)
    flat, hier = fh.FlatIndex(sum(layout)), fh.HierIndex(layout)
    flat.add(codes, ids)
    hier.add(codes, ids)
    for k in range(1, len(codes) + 6):
        expected = flat.search(queries, k)
        assert_same(expected, reference.search(queries, codes, ids, k))
        assert_same(hier.search(queries, k), expected)


@pytest.mark.parametrize("mode", MODES)
def test_keep_1_is_exact(mode):
    codes, queries, ids = make(2, (8, 16, 40), 500, "clustered")
    index = fh.HierIndex((8, 16, 40))
    index.add(codes, ids)
    assert_same(index.search(queries, 20, keep=1, keep_mode=mode), index.search(queries, 20))


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
    n = 30_000  # of a few thousand codes the tree compares all, which takes less time than leaving some out
    codes, queries, _ = make(5, (8, 16, 40), n, "uniform", nq=20)
    index = fh.HierIndex((8, 16, 40))
    index.add(codes)
    keeps = (0.01, 0.1, 0.3, 1.0)
    works = [index.search(queries, 5, keep=keep, stats=True)[1] for keep in keeps]
    assert {*works[0].plan} == {"pruned"}
    compared = [work.codes_compared.sum() for work in works]
    visited = [work.nodes_visited.sum() for work in works]
    assert compared == sorted(compared)
    assert visited[:-1] == sorted(visited[:-1])
    assert visited[-1] == 0  # an exact search answers where all is kept
    assert compared[0] < compared[-1] / 5
    assert compared[-1] <= n * 20
    _, exact = index.search(queries, 5, stats=True)  # of few codes, which are scanned
    np.testing.assert_array_equal(exact.codes_compared, n)


def families(seed, n):
    """Codes in families of twelve, each one bit away from the family's; queries like them, and ids."""
    rng = np.random.default_rng(seed)
    n_families = n // 12 + 1

    def member_of(family):
        flips = np.uint64(1) << rng.integers(0, 64, len(family), dtype=np.uint64)
        return (of_family[family] ^ flips).view(np.uint8).reshape(-1, 8)

    of_family = rng.integers(0, 2**64, n_families, dtype=np.uint64)
    return member_of(np.arange(n) // 12), member_of(rng.integers(0, n_families, 10)), rng.permutation(n)


def test_stats_of_the_exact_search():
    n = 200_000
    codes, queries, ids = families(6, n)
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
        assert (work.codes_compared < n).all()  # the bound must spare some of them
        assert (work.nodes_visited >= 1).all()
        assert_same(result, flat.search(queries, 10))


def test_a_prefix_search_opens_just_the_prefixes_it_must():
    """Those as near as the k-th distance: any other exact search opens them too, to order ties by id."""
    codes, queries, ids = families(7, 200_000)
    index = fh.HierIndex((64,), plan="prefix")
    index.add(codes, ids)
    result, stats = index.search(queries, 10, stats=True)
    assert (stats.plan == "prefix").sum() > 3  # others may end as a scan
    bits = index.stats()["substring_bits"]
    prefixes = np.packbits(np.unpackbits(codes, axis=1)[:, :bits], axis=1)
    wanted = np.packbits(np.unpackbits(queries, axis=1)[:, :bits], axis=1)
    for query, furthest, plan, visited, compared in zip(wanted, result.distances[:, -1], *stats[:3], strict=True):
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
        assert_same(result, expected)
    # 0.29 * 200 = 57.99999999999999: a node 58 bits away stays, and holds the nearest code.
    query, near, other = np.zeros((3, 26), np.uint8)
    near[:7], near[7] = 255, 0b11
    other[:7], other[7], other[25] = 255, 0b1, 255
    index = fh.HierIndex((200, 8))
    index.add(np.stack([other, near]))
    result = index.search(query[None], 1, keep=0.29, keep_mode="radius")
    assert (result.distances[0, 0], result.ids[0, 0]) == (58, 1)


# ---- relations between searches ----


@given(problems(), st.data())
def test_flipping_the_same_bits_everywhere_changes_nothing(problem, data):
    layout, codes, queries, ids, k = problem
    mask = np.frombuffer(data.draw(st.binary(min_size=sum(layout) // 8, max_size=sum(layout) // 8)), np.uint8)
    index = data.draw(indices(layout, codes, ids))
    flipped = data.draw(indices(layout, codes ^ mask, ids))
    assert_same(flipped.search(queries ^ mask, k), index.search(queries, k))
    radius = data.draw(st.integers(0, sum(layout)), label="radius")
    assert_same(flipped.range_search(queries ^ mask, radius), index.range_search(queries, radius))
    assert_same([flipped.count_within(queries ^ mask, radius)], [index.count_within(queries, radius)])


@given(problems(), st.sampled_from(KINDS), st.integers(0, 2**32))
def test_pieces_and_order_of_adding_change_nothing(problem, kind, seed):
    layout, codes, queries, ids, k = problem
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(codes))
    cuts = np.sort(rng.integers(0, len(codes) + 1, 2))
    whole, pieces = filled(empty(kind, layout), codes, ids), empty(kind, layout)
    for rows in np.split(order, cuts):
        pieces.add(codes[rows], ids[rows])
    assert len(pieces) == len(codes)
    assert_same(pieces.search(queries, k), whole.search(queries, k))
    assert_same(pieces.range_search(queries, k), whole.range_search(queries, k))
    pieces.compact()
    assert_same(pieces.search(queries, k), whole.search(queries, k))


@given(problems(), st.data())
def test_a_larger_k_finds_the_same_and_more(problem, data):
    layout, codes, queries, ids, k = problem
    index = data.draw(indices(layout, codes, ids))
    fewer, more = index.search(queries, k), index.search(queries, k + 1)
    assert_same(fewer, [rows[:, :k] for rows in more])
    assert (np.diff(more.distances) >= 0).all()
    assert (np.diff(more.ids)[(np.diff(more.distances) == 0) & (more.ids[:, 1:] >= 0)] > 0).all()


@given(problems(), st.data())
def test_a_larger_radius_finds_the_same_and_more(problem, data):
    layout, codes, queries, ids, _ = problem
    index = data.draw(indices(layout, codes, ids))
    radius = data.draw(st.integers(0, sum(layout) - 1), label="radius")
    fewer, more = index.range_search(queries, radius), index.range_search(queries, radius + 1)
    nearest = index.search(queries, len(codes) + 1)
    counts = index.count_within(queries, radius)
    assert_same([np.diff(fewer.offsets)], [counts])
    for q, n in enumerate(counts):
        of_fewer, of_more = slice(*fewer.offsets[q : q + 2]), slice(*more.offsets[q : q + 2])
        found = fewer.distances[of_fewer], fewer.ids[of_fewer]
        assert_same(found, (more.distances[of_more][:n], more.ids[of_more][:n]))
        assert_same(found, (nearest.distances[q, :n], nearest.ids[q, :n]))
        assert (more.distances[of_more][n:] == radius + 1).all()


@given(problems(), st.data())
def test_what_is_near_a_query_is_far_from_its_opposite(problem, data):
    layout, codes, queries, ids, _ = problem
    index = data.draw(indices(layout, codes, ids))
    radius = data.draw(st.integers(0, sum(layout) - 1), label="radius")
    near, far = index.count_within(queries, radius), index.count_within(~queries, sum(layout) - radius - 1)
    assert_same([near + far], [np.full(len(queries), len(codes))])


@given(problems(), st.data())
def test_two_filters_share_out_what_is_found(problem, data):
    layout, codes, queries, ids, k = problem
    index = data.draw(indices(layout, codes, ids))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    chosen = rng.random(len(ids)) < rng.random()
    halves = ids[chosen], fh.IdFilter(ids[~chosen])
    radius = data.draw(st.integers(0, sum(layout)), label="radius")
    counts = [index.count_within(queries, radius, allow=half) for half in halves]
    assert_same([sum(counts)], [index.count_within(queries, radius)])
    results = [index.search(queries, k, allow=half) for half in halves]
    both = [np.concatenate(rows, axis=1) for rows in zip(*results, strict=True)]
    order = np.lexsort(both[::-1])[:, :k]
    assert_same(index.search(queries, k), [np.take_along_axis(rows, order, axis=1) for rows in both])


@given(problems(), st.sampled_from(KINDS), st.data())
def test_the_work_is_bounded(problem, kind, data):
    """A scan compares each code once, clusters each distinct code at most once; other plans once for every part."""
    layout, codes, queries, ids, k = problem
    index = filled(empty(kind, layout), codes, ids)
    radius = data.draw(st.integers(0, sum(layout) + 1), label="radius")
    shape = index.stats()
    n = len(codes) if kind == "flat" else shape["n_distinct_codes"]
    for _, work in (index.search(queries, k, stats=True), index.range_search(queries, radius, stats=True)):
        for plan, visited, compared in zip(*work[:3], strict=True):
            if plan == "scan":  # also where a radius is too large for the plan
                assert visited == 0
                assert n <= compared <= len(codes)  # a scan may hold some duplicates apart
            else:
                assert plan.split("+")[0] == shape["plan"]
                assert visited <= compared <= n * (max(1, shape["n_substrings"]) + plan.endswith("+scan"))


@given(problems(), st.data())
def test_a_scan_of_several_segments_compares_all_their_codes(problem, data):
    layout, codes, queries, ids, k = problem
    index = data.draw(indices(layout, codes, ids, ["flat", ("fast", "scan")]))
    stats = index.stats()
    for _, work in (index.search(queries, k, stats=True), index.range_search(queries, 1, stats=True)):
        assert (work.nodes_visited == 0).all()
        assert (work.codes_compared >= len(np.unique(codes, axis=0))).all()
        assert (work.codes_compared <= stats["n_codes"] + stats["n_removed"]).all()
        if stats["kind"] == "flat":
            assert (work.codes_compared == stats["n_codes"] + stats["n_removed"]).all()
