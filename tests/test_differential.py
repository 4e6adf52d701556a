"""Exact means exact: every id of every search is that of the slow path, where ties decide and where plans give up."""

import numpy as np
import pytest

import fasthash as fh
import reference
from differential import Count, Problem, Ranking, check, distances, run
from fasthash.distributed import merge
from fasthash.distributed.shard import Shard
from galleries import GALLERIES, clustered, uniform
from indices import MEMORIES, PLANS, assert_same, empty, filled, shuffled_ids, threads


@pytest.mark.parametrize("kind", GALLERIES)
@pytest.mark.parametrize("n_bytes", [1, 3, 8, 17])
def test_the_slow_path_is_the_reference(kind, n_bytes):
    rng = np.random.default_rng(n_bytes)
    codes, ids = GALLERIES[kind](rng, 300, n_bytes), shuffled_ids(rng, 300)
    queries = np.concatenate([codes[:2], ~codes[2:3], uniform(rng, 3, n_bytes)])
    ranking = Ranking(queries, codes, ids)
    np.testing.assert_array_equal(distances(queries, codes), reference.hamming(queries, codes))
    some = rng.random(300) < 0.3
    kept = np.isin(ids, ranking.ids[some])
    for k in (1, 50, 301):
        assert_same(ranking.nearest(k), reference.search(queries, codes, ids, k))
        assert_same(ranking.nearest(k, some), reference.search(queries, codes[kept], ids[kept], k))
    for radius in (0, n_bytes, 8 * n_bytes):
        assert_same(ranking.within(radius), reference.range_search(queries, codes, ids, radius))
        assert_same(ranking.within(radius, some), reference.range_search(queries, codes[kept], ids[kept], radius))


@pytest.mark.parametrize("first", range(0, 1000, 100))
def test_searches_of_many_kinds(first):
    count = run(10_000, first, largest=40_000)
    assert count.gave_up > 0, count


@pytest.mark.parametrize("seed", [1007, 1010, 1013, 1040])
def test_searches_of_large_galleries(seed):
    check(Problem.of(seed, largest=300_000), Count())


@pytest.mark.parametrize("n_bytes", [2, 3, 4])
def test_mapped_codes_whose_plan_gives_up(n_bytes, tmp_path):
    rng = np.random.default_rng(0)
    codes, queries = uniform(rng, 20_000, n_bytes), uniform(rng, 500, n_bytes)
    filled(fh.HierIndex((8 * n_bytes,)), codes).save(tmp_path / "index.fh")
    index = fh.load(tmp_path / "index.fh", mmap=True)
    ranking = Ranking(queries, codes, np.arange(len(codes)))
    for k in (50, 77, 400):
        assert_same(index.search(queries, k), ranking.nearest(k))


@pytest.mark.parametrize("step", [1, 7])  # ids that are computed, and ids that are stored
@pytest.mark.parametrize("n_bytes", [1, 2, 8, 40])
@pytest.mark.parametrize("descend", [False, True])
def test_ties_of_ids_in_order(n_bytes, step, descend):
    rng = np.random.default_rng(n_bytes)
    codes = np.repeat(uniform(rng, 3_000, n_bytes), 2, axis=0)  # farther and nearer ones in turns, and ties of all
    ids = np.arange(len(codes))[:: -1 if descend else 1] * step
    queries = uniform(rng, 80, n_bytes)
    ranking = Ranking(queries, codes, ids)
    for index in (fh.FlatIndex(8 * n_bytes), fh.HierIndex((8 * n_bytes,))):
        index.add(codes, ids)
        for k in (1, 3, 10, 60, 200):
            assert_same(index.search(queries, k), ranking.nearest(k))
            assert_same(index.search(queries[:1], k), Ranking(queries[:1], codes, ids).nearest(k))


@pytest.mark.parametrize("plan", PLANS[1:])
@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("flip", [0.1, 0.3, 0.5])
def test_queries_far_from_all_codes(plan, memory, flip):
    rng = np.random.default_rng(3)
    codes = clustered(rng, 12_000, 4, 5, flip)
    queries = np.concatenate([~codes[:100], uniform(rng, 100, 4)])
    ids = shuffled_ids(rng, len(codes))
    index = filled(empty((memory, plan), (32,)), codes, ids)
    ranking = Ranking(queries, codes, ids)
    plans = set()
    for k in (1, 50, 200, 1000):
        expected = ranking.nearest(k)
        assert_same(index.search(queries, k), expected)  # a large batch may be scanned in any case
        for first in range(0, 40, 4):
            some = slice(first, first + 4)
            found, stats = index.search(queries[some], k, stats=True)
            assert_same(found, [part[some] for part in expected])
            plans |= set(stats.plan)
    # Codes without their prefix bytes cannot be scanned in a row, and clusters need no scan: these go on to the end.
    assert f"{plan}+scan" in plans or plan == "clusters" or (memory, plan) == ("compact", "prefix")


@pytest.mark.parametrize("n_threads", [1, 2, 3])
@pytest.mark.parametrize("first_id", [0, 10**6])
def test_one_query_over_several_segments(n_threads, first_id):
    rng = np.random.default_rng(8)
    codes = clustered(rng, 340_000, 8, 3, 0.02)
    queries = np.concatenate([codes[:3], ~codes[3:5]])
    # Ids ascend within both segments; over both, or over what a thread scans of them, they need not.
    ids = np.arange(len(codes))
    ids[:331_000] += first_id
    index = fh.FlatIndex(64)
    for rows in np.split(np.arange(len(codes)), [331_000]):
        index.add(codes[rows], ids[rows])
    assert index.stats()["n_segments"] == 2
    ranking = Ranking(queries, codes, ids)
    for k in (1, 50, 1000):
        expected = ranking.nearest(k)
        with threads(n_threads):
            for one in range(len(queries)):
                some = slice(one, one + 1)
                assert_same(index.search(queries[some], k), [part[some] for part in expected])


@pytest.mark.parametrize("n_shards", [2, 5])
def test_shards_whose_plans_give_up(n_shards):
    rng = np.random.default_rng(4)
    codes, queries = uniform(rng, 30_000, 3), uniform(rng, 200, 3)
    ids = shuffled_ids(rng, len(codes))
    shards = []
    for rows in merge.rows_of_shards(ids, n_shards):
        shards.append(Shard((24,), "default", "prefix", None))
        shards[-1].load(0, "", {}, 0, n_shards)
        shards[-1].change(0, 1, "add", codes[rows], ids[rows])
    ranking = Ranking(queries, codes, ids)
    for k in (50, 400):
        parts = [shard.search(1, queries, k, None, "node_ratio", None, None)[0] for shard in shards]
        assert_same(merge.merge_nearest(parts, len(queries), k, 24), ranking.nearest(k))


@pytest.mark.parametrize("n_dims", [16, 24])
def test_candidates_that_are_scored_again(n_dims):
    rng = np.random.default_rng(5)
    vectors = rng.integers(-3, 4, (20_000, n_dims)).astype(np.float32)  # their products are exact
    queries = rng.integers(-3, 4, (50, n_dims)).astype(np.float32)
    ids = shuffled_ids(rng, len(vectors))
    index = fh.RescoringIndex(n_dims, dtype="float32", metric="inner_product")
    index.add(vectors, ids)
    codes, of_queries = (np.packbits(array > 0, axis=1) for array in (vectors, queries))
    candidates = Ranking(of_queries, codes, ids).nearest(60).ids
    order = np.argsort(ids)
    scores = np.einsum("qd,qcd->qc", queries, vectors[order[np.searchsorted(ids[order], candidates)]])
    best = np.lexsort((candidates, -scores), axis=1)[:, :15]
    found = index.search(queries, 15, rescore_multiplier=4)
    np.testing.assert_array_equal(found.ids, np.take_along_axis(candidates, best, axis=1))
    np.testing.assert_array_equal(found.scores, np.take_along_axis(scores, best, axis=1))
