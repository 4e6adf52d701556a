"""The pruned search against the oracle: every way to compare nodes and codes, and at random."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fasthash as fh
import reference
from indices import LEVELS, MODES, WAYS, assert_same, filled, make, simd

# Two to four levels of 16 to 512 bits; the last ones have prefixes of more than 31 bytes, which take another path.
LAYOUTS = [(8, 8), (8, 16, 40), (16, 48), (8, 8, 8, 40), (24, 8, 32), (8, 56, 64), (256, 128, 128), (8, 256, 248)]


def spread(rng, n, n_bytes):
    return rng.integers(0, 256, (n, n_bytes), np.uint8)


def clustered(rng, n, n_bytes):
    centres = rng.integers(0, 256, (5, n_bytes), np.uint8)
    flips = np.packbits(rng.random((n, n_bytes * 8)) < rng.choice([0.01, 0.05, 0.15]), axis=1)
    return centres[rng.integers(0, 5, n)] ^ flips


def one_bit_apart(rng, n, n_bytes):
    codes = np.tile(rng.integers(0, 256, n_bytes, np.uint8), (n, 1))
    bits = rng.integers(0, n_bytes * 8, n)
    codes[np.arange(n), bits // 8] ^= (128 >> bits % 8).astype(np.uint8)
    return codes


def few_prefixes(rng, n, n_bytes):
    """Many rows below each node: some are heavier than a byte can say."""
    codes = rng.integers(0, 256, (n, n_bytes), np.uint8)
    codes[:, : n_bytes - 2] = rng.integers(0, 3, (n, 1)) * 85
    return codes


def few_first_bytes(rng, n, n_bytes):
    """Many nodes below each node of the first level, of one row each: the tree holds the codes as leaves."""
    codes = rng.integers(0, 256, (n, n_bytes), np.uint8)
    codes[:, 0] %= 7
    return codes


def uneven(rng, n, n_bytes):
    """Neighbours that are near on some bytes and far on others, so that cuts part codes of equal distance."""
    rates = rng.choice([0.01, 0.05, 0.2, 0.5], n_bytes)
    flips = np.packbits(rng.random((n, n_bytes, 8)) < rates[:, None], axis=2)[..., 0]
    codes = rng.integers(0, 256, (2, n_bytes), np.uint8)[rng.integers(0, 2, n)] ^ flips
    codes[:, 0] = np.array([3, 3, 7, 31], np.uint8)[rng.integers(0, 4, n)]
    return codes


GALLERIES = {f.__name__: f for f in (spread, clustered, one_bit_apart, few_prefixes, few_first_bytes, uneven)}


def assert_prunes(index, codes, ids, queries, k, layout, keep, mode):
    expected = reference.pruned_search(queries, codes, ids, k, layout, keep, mode)[:2]
    assert_same(index.search(queries, k, keep=keep, keep_mode=mode), expected)


@settings(max_examples=15)
@given(st.data())
def test_pruned_searches_equal_the_oracle_at_random(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    layout = data.draw(st.sampled_from(LAYOUTS))
    n = data.draw(st.sampled_from([1, 5, 63, 65, 300, 1000]))
    codes = GALLERIES[data.draw(st.sampled_from(list(GALLERIES)))](rng, n, sum(layout) // 8)
    codes[rng.random(n) < data.draw(st.sampled_from([0, 0.2]))] = codes[0]
    ids = rng.permutation(n) if data.draw(st.booleans()) else rng.choice(9 * n, n, replace=False)
    queries = np.concatenate([codes[rng.integers(0, n, 3)], ~codes[:1], spread(rng, 3, codes.shape[1])])
    memory, plan = data.draw(st.sampled_from(WAYS))
    index = filled(fh.HierIndex(layout, memory=memory, plan=plan), codes, ids)
    k = data.draw(st.sampled_from([1, 3, 10, n]))
    keep = data.draw(st.sampled_from([0.001, 0.1, 0.3, 0.5, 0.9, 1]))
    assert_prunes(index, codes, ids, queries, k, layout, keep, data.draw(st.sampled_from(MODES)))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("layout", [(256, 128, 128), (128, 128, 64), (248, 8, 64), (8, 240, 64)])
def test_totals_past_a_byte(layout, level):
    """Few prefixes make a coarse tree; the complement of a code is farther from all of them than a byte holds."""
    rng = np.random.default_rng(2)
    codes = GALLERIES["few_prefixes"](rng, 300, sum(layout) // 8)
    ids = rng.permutation(300)
    queries = np.concatenate([codes[:2], ~codes[:2], spread(rng, 2, codes.shape[1])])
    with simd(level):
        index = filled(fh.HierIndex(layout), codes, ids)
        for mode in MODES:
            for k in (1, 10):
                assert_prunes(index, codes, ids, queries, k, layout, 0.001, mode)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("gallery", GALLERIES)
def test_every_instruction_set_prunes_alike(gallery, level):
    rng = np.random.default_rng(1)
    n = 4000
    with simd(level):
        for layout in ((8, 16, 40), (8, 8, 8, 40), (8, 256, 120)):
            codes = GALLERIES[gallery](rng, n, sum(layout) // 8)
            queries = np.concatenate([codes[:2], spread(rng, 2, codes.shape[1])])
            ways = [filled(fh.HierIndex(layout, plan=plan), codes) for plan in ("scan", "prefix", "multi-index")]
            for mode in MODES:
                expected = reference.pruned_search(queries, codes, np.arange(n), 10, layout, 0.3, mode)[:2]
                for index in ways:
                    assert_same(index.search(queries, 10, keep=0.3, keep_mode=mode), expected)


def shared_nodes(rng, n, n_bytes):
    """As few_first_bytes, but some nodes of the second level have several codes, and some codes several entries."""
    codes = few_first_bytes(rng, n, n_bytes)
    codes[: n // 3, 1:3] = codes[rng.integers(0, 200, n // 3), 1:3]
    codes[n // 2 : n // 2 + 200] = codes[0]  # entries that a byte can count
    codes[rng.integers(0, n, n // 20)] = codes[rng.integers(0, n, n // 20)]
    return codes


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("layout", [(8, 16, 40), (8, 24, 8)])
@pytest.mark.parametrize("gallery", [few_first_bytes, shared_nodes])
def test_queries_that_share_a_pass_over_the_leaves(gallery, layout, mode, level):
    """The cut is guessed from the queries before: here near and far ones take turns, so that guesses are wrong."""
    rng = np.random.default_rng(3)
    n, n_bytes = 12_500, sum(layout) // 8  # a pass needs 1,024 distinct codes for each of the k
    codes, ids = gallery(rng, n, n_bytes), rng.permutation(n)
    near = codes[rng.integers(0, n, 6)] ^ np.packbits(rng.random((6, n_bytes * 8)) < 0.05, axis=1)
    queries = np.stack([near, ~codes[:6], spread(rng, 6, n_bytes)], axis=1).reshape(-1, n_bytes)
    queries[-1] = 0  # empty places at the end of the last group are zeros
    with simd(level):
        index = filled(fh.HierIndex(layout, plan="scan"), codes, ids)
        for keep in (0.3, 0.45, 0.9):
            for k in (1, 10):
                assert_prunes(index, codes, ids, queries, k, layout, keep, mode)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("mode", ["node_ratio", "gallery_ratio"])
def test_a_guess_beyond_the_cut(mode, level):
    """Codes within the guess bring the threshold down, but the cut drops them: too few of the nearer ones are kept."""
    rng = np.random.default_rng(4)
    n, layout = 12_500, (8, 16, 40)
    far, near = spread(rng, 40, 8), spread(rng, 4, 8)
    far[:, 0], near[:, 0] = 255, 0
    between = np.repeat(near, 12, axis=0)  # nearer than other codes, but far on the second level
    between[:, 1:3] ^= np.packbits(rng.permuted(np.tile(np.arange(16) < 10, (len(between), 1)), axis=1), axis=1)
    codes = np.concatenate([few_first_bytes(rng, n - 52, 8), near, between])
    ids = rng.permutation(n)
    with simd(level):
        index = filled(fh.HierIndex(layout, plan="scan"), codes, ids)
        index.search(far, 10, keep=0.3, keep_mode=mode)  # the cut of these is the next guess
        assert_prunes(index, codes, ids, near, 10, layout, 0.3, mode)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("layout", [(8, 16, 40), (8, 8, 8, 40), (8, 16, 24)])
def test_leaves_in_place_of_small_nodes(layout, mode, level):
    """First-level nodes have fewer codes than a group: where many are kept, codes are compared in place of nodes."""
    rng = np.random.default_rng(5)
    n, n_bytes = 4000, sum(layout) // 8
    codes, ids = shared_nodes(rng, n, n_bytes), rng.permutation(n)
    codes[:, 0] = rng.integers(0, 65, n)  # in a coarse tree, a node has at least 32 codes
    queries = np.concatenate([codes[:3], ~codes[:2], spread(rng, 5, n_bytes)])
    with simd(level):
        index = filled(fh.HierIndex(layout, plan="scan"), codes, ids)
        for keep in (0.1, 0.3, 0.6):
            for k in (1, 10, 200):
                assert_prunes(index, codes, ids, queries, k, layout, keep, mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("plan", "gallery"), [("auto", "spread"), ("multi-index", "spread"), ("auto", "clustered")])
def test_batches_prune_as_single_queries_do(plan, gallery, mode):
    """Queries of a batch share the codes in the cache; many of them, and codes for several chunks."""
    rng = np.random.default_rng(2)
    layout, n = (8, 16, 40), 20_000
    codes = GALLERIES[gallery](rng, n, 8)
    queries = np.concatenate([codes[:150], spread(rng, 150, 8)])
    index = filled(fh.HierIndex(layout, plan=plan), codes)
    one_by_one = [index.search(query[None], 10, keep=0.3, keep_mode=mode) for query in queries]
    for n_queries in (1, 7, 300):
        found = index.search(queries[:n_queries], 10, keep=0.3, keep_mode=mode)
        np.testing.assert_array_equal(found.ids, np.concatenate([one.ids for one in one_by_one[:n_queries]]))
    expected = reference.pruned_search(queries[149:151], codes, np.arange(n), 10, layout, 0.3, mode)[:2]
    assert_same(index.search(queries[149:151], 10, keep=0.3, keep_mode=mode), expected)


def test_a_search_with_a_filter_for_each_query_compacts_the_index():
    """Once, not in each call."""
    codes, queries, ids = make(6, (8, 16, 40), 20_000, "clustered", nq=3)
    index = fh.HierIndex((8, 16, 40))
    index.add(codes[:19_990], ids[:19_990])
    index.add(codes[19_990:], ids[19_990:])
    some, others = fh.IdFilter(ids[::2]), fh.IdFilter(ids[1::2])
    assert index.stats()["n_segments"] == 2
    found = index.search(queries, 5, keep=0.3, allow=[some, others, None])
    assert index.stats()["n_segments"] == 1
    for q, allow in enumerate((some, others, None)):
        alone = index.search(queries[q : q + 1], 5, keep=0.3, allow=allow)
        assert_same([found.distances[q : q + 1], found.ids[q : q + 1]], alone)


def test_what_has_no_levels_to_prune_is_not_compacted():
    codes, queries, ids = make(6, (64,), 20_000, "clustered", nq=2)
    index = fh.HierIndex(64)
    index.add(codes[:19_990], ids[:19_990])
    index.add(codes[19_990:], ids[19_990:])
    for allow in (None, [ids[:9], ids[9:]]):
        index.search(queries, 5, keep=0.3, allow=allow)
        assert index.stats()["n_segments"] == 2


@pytest.mark.parametrize("mode", MODES)
def test_several_segments_and_removals_prune_as_one(mode):
    rng = np.random.default_rng(3)
    codes = spread(rng, 4000, 8)
    index = fh.HierIndex((8, 16, 40))
    for begin in range(0, 4000, 1000):
        index.add(codes[begin : begin + 1000])
    index.remove(np.arange(0, 4000, 3))
    left = np.setdiff1d(np.arange(4000), np.arange(0, 4000, 3))
    queries = spread(rng, 7, 8)
    assert_prunes(index, codes[left], left, queries, 10, (8, 16, 40), 0.3, mode)
    allowed = left[::2]
    expected = reference.pruned_search(queries, codes[allowed], allowed, 10, (8, 16, 40), 0.3, mode)[:2]
    assert_same(index.search(queries, 10, keep=0.3, keep_mode=mode, allow=allowed), expected)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("plan", ["clusters", "prefix", "multi-index"])
@pytest.mark.parametrize("layout", [(8, 16, 40), (8, 8, 8, 40), (16, 48)])
def test_near_neighbours_come_from_exact_search(layout, plan, mode):
    """Neighbours that no cut can drop are found by the plan, which visits fewer nodes; others by the tree."""
    rng = np.random.default_rng(7)
    n = 4000
    flips = np.packbits(rng.random((n, 64)) < 0.05, axis=1)
    flips[rng.random(n) < 0.97, :2] = 0  # many rows below each node of the first level
    codes = rng.integers(0, 256, (4, 8), np.uint8)[rng.integers(0, 4, n)] ^ flips
    ids = rng.permutation(n)
    queries = np.concatenate([codes[:20], codes[20:30] ^ flips[:10], spread(rng, 5, 8)])
    planned = filled(fh.HierIndex(layout, plan=plan), codes, ids)
    by_the_tree = filled(fh.HierIndex(layout, plan="scan"), codes, ids)
    work = [index.search(queries[:20], 1, keep=0.45, keep_mode=mode, stats=True)[1] for index in (planned, by_the_tree)]
    assert {*work[0].plan} == {"pruned"}
    assert work[0].nodes_visited.sum() < work[1].nodes_visited.sum()
    for keep, k in [(0.05, 1), (0.3, 4), (0.6, 100), (1, n + 1)]:
        assert_prunes(planned, codes, ids, queries, k, layout, keep, mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("layout", [(8, 16, 40), (8, 24, 16), (8, 8, 8, 40), (8, 16, 232)])
def test_scattered_neighbours_come_from_exact_search(layout, mode):
    """Far apart, and yet kept for certain: by the cut of the first level, and by counts of nodes on the next byte."""
    rng = np.random.default_rng(8)
    n, n_bytes = 6000, sum(layout) // 8
    flips = np.packbits(rng.random((n, n_bytes * 8)) < 0.12, axis=1)
    flips[:, 0] = 0
    centres = rng.integers(0, 256, (40, n_bytes), np.uint8)
    centres[:, 0] = np.array([0, 15], np.uint8)[np.arange(40) % 2]
    codes = centres[rng.integers(0, 40, n)] ^ flips
    codes[rng.random(n) < 0.05] = codes[0]
    ids = rng.permutation(n)
    queries = np.concatenate([codes[:40], codes[:20] ^ flips[20:40], codes[:20] ^ 1, spread(rng, 5, n_bytes)])
    planned = filled(fh.HierIndex(layout, plan="clusters"), codes, ids)
    by_the_tree = filled(fh.HierIndex(layout, plan="scan"), codes, ids)
    work = [index.search(queries, 5, keep=0.45, keep_mode=mode, stats=True)[1] for index in (planned, by_the_tree)]
    by_search = (work[0].nodes_visited < work[1].nodes_visited).mean()
    assert by_search > 0.4 or layout == (8, 8, 8, 40)  # whose second level has few nodes
    for keep, k in [(0.02, 1), (0.3, 10), (0.5, 100), (1, n + 1)]:
        assert_prunes(planned, codes, ids, queries, k, layout, keep, mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("layout", [(8, 16, 40), (8, 24, 32), (8, 16, 232), (16, 48)])
@pytest.mark.parametrize("gaps", [False, True])
def test_a_large_share_is_answered_by_a_scan(gaps, layout, mode):
    """Of scanned codes, where no neighbour can be dropped; the tree answers what is left."""
    rng = np.random.default_rng(11)
    n, n_bytes = 3000, sum(layout) // 8
    codes = spread(rng, n, n_bytes)
    codes[:, : layout[0] // 8] %= 6
    codes[rng.random(n) < 0.1] = codes[0]
    codes[rng.random(n) < 0.2] ^= 1
    ids = np.arange(n) * 3 if gaps else rng.permutation(n)  # in the order of the codes, or of the ids
    near = codes[:60] ^ np.packbits(rng.random((60, n_bytes * 8)) < 0.1, axis=1)
    index = filled(fh.HierIndex(layout, plan="scan"), codes, ids)
    by_a_scan = index.search(near, 3, keep=0.9, keep_mode=mode, stats=True)[1].nodes_visited == 0
    assert by_a_scan.mean() > 0.5
    for keep, k in [(0.5, 1), (0.6, 10), (0.8, 3), (0.95, 150), (1, n + 1)]:
        queries = np.concatenate([near[:20], spread(rng, 3, n_bytes), ~near[:3]])
        assert_prunes(index, codes, ids, queries, k, layout, keep, mode)
        assert_prunes(index, codes, ids, queries[:1], k, layout, keep, mode)


@pytest.mark.parametrize("layout", [(8, 16, 40), (8, 24, 32)])
def test_many_dropped_codes_end_an_exact_search(layout):
    """They are nearer than the kept ones, so that it would look at the whole gallery; the tree answers at once."""
    rng = np.random.default_rng(9)
    n = 200_000
    codes = np.packbits(rng.random((n, 64)) < 0.04, axis=1)
    codes[:, 0] = rng.integers(0, 256, n)
    queries = np.packbits(rng.random((10, 64)) < 0.04, axis=1)
    queries[:, 0] = rng.integers(0, 256, 10)
    index = filled(fh.HierIndex(layout, plan="clusters"), codes, np.arange(n))
    for queries_of_a_call in (queries, queries[:1]):
        work = index.search(queries_of_a_call, 2, keep=0.06, keep_mode="radius", stats=True)[1]
        assert work.codes_compared.max() < n / 3
        assert_prunes(index, codes, np.arange(n), queries_of_a_call, 2, layout, 0.06, "radius")


def test_a_small_share_that_fails_does_not_slow_a_large_one():
    rng = np.random.default_rng(10)
    codes = np.packbits(rng.random((20_000, 64)) < 0.04, axis=1)
    codes[:, 0] = rng.integers(0, 256, len(codes))
    queries = codes[:100].copy()
    queries[:, 1] = 255  # far from all codes on the second level
    index = filled(fh.HierIndex((8, 16, 40), plan="clusters"), codes, np.arange(len(codes)))

    def nodes_visited(keep):
        return index.search(queries, 2, keep=keep, keep_mode="radius", stats=True)[1].nodes_visited.mean()

    alone = nodes_visited(0.9)
    for _ in range(8):
        nodes_visited(0.01)
    assert nodes_visited(0.9) == alone


def test_a_share_that_fails_does_not_slow_one_half_as_large_again():
    rng = np.random.default_rng(10)
    index = filled(fh.HierIndex((8, 16, 40)), rng.integers(0, 256, (30_000, 8), dtype=np.uint8), np.arange(30_000))
    queries = rng.integers(0, 256, (100, 8), dtype=np.uint8)

    def nodes_visited(keep):
        return index.search(queries, 10, keep=keep, stats=True)[1].nodes_visited.mean()

    assert nodes_visited(0.9) == 0  # a scan proves the result
    for _ in range(8):
        assert nodes_visited(0.6) > 0
    assert nodes_visited(0.9) == 0


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("layout", [(8, 16, 40), (8, 8, 8, 40), (8, 16, 8)])
@pytest.mark.parametrize("plan", ["clusters", "scan"])
def test_uneven_neighbours_are_judged_one_by_one(plan, layout, mode):
    """Near codes lie about the bounds: were a bound one bit too large, codes that the tree drops would be kept."""
    n, n_seeds = (8000, 3) if plan == "clusters" else (4000, 1)
    for seed in range(n_seeds):
        rng = np.random.default_rng(seed)
        codes = uneven(rng, n, sum(layout) // 8)
        codes[:, 0] = np.where(rng.random(n) < 0.8, 3, 7)  # and thousands of nodes below each
        codes[:, 1] ^= rng.integers(0, 256, n, np.uint8) & rng.integers(0, 256, n, np.uint8)
        repeated = rng.random(n) < 0.5
        codes[repeated] = codes[rng.integers(0, 100, repeated.sum())]
        index = filled(fh.HierIndex(layout, plan=plan), codes, np.arange(n))
        for keep in 10 ** rng.uniform(-3.5 if plan == "clusters" else -0.3, 0, 12):
            queries = codes[rng.integers(0, n, 12)] ^ np.packbits(rng.random((12, codes.shape[1] * 8)) < 0.05, axis=1)
            assert_prunes(index, codes, np.arange(n), queries, int(rng.choice([1, 3, 10])), layout, keep, mode)
