"""What shards find by Jaccard distance and send as float32, merged: the order of fractions, ties by id."""

import numpy as np
import pytest

import fasthash as fh
import reference
from fasthash._saved_kinds import load_folder
from fasthash.distributed import merge
from fasthash.distributed.shard import Shard
from galleries import queries_for, sparse
from indices import assert_same, shuffled_ids


def test_different_fractions_round_to_different_numbers():
    """Of all fractions of numbers up to 4096, the largest width: so the order of float32 is that of fractions."""
    n = 4096
    differing, united = np.triu_indices(n + 1)  # differing <= united
    reduced = (np.gcd(differing, united) == 1) & (united > 0)
    differing, united = differing[reduced], united[reduced]
    rounded = np.sort(differing.astype(np.float32) / united.astype(np.float32))
    assert (np.diff(rounded) > 0).all()
    assert len(rounded) > 5_000_000


def in_shards(codes, ids, n_bits, n_shards):
    shards = []
    for rows in merge.rows_of_shards(ids, n_shards):
        shards.append(Shard((n_bits,), "default", "auto", None, "jaccard"))
        shards[-1].load(0, "", {}, 0, n_shards)
        shards[-1].change(0, 1, "add", codes[rows], ids[rows])
    return shards


@pytest.mark.parametrize("n_shards", [1, 2, 5])
@pytest.mark.parametrize("n_bits", [16, 64, 520])
def test_what_shards_find_together_is_what_one_index_finds(n_bits, n_shards):
    rng = np.random.default_rng(n_bits + n_shards)
    codes, ids = sparse(rng, 400, n_bits, 0.3), shuffled_ids(rng, 400)
    shards = in_shards(codes, ids, n_bits, n_shards)
    queries = queries_for(rng, codes)
    for allow in (None, ids[::3], ids[:2], ids[:0]):
        kept = np.ones(400, bool) if allow is None else np.isin(ids, allow)
        for k in (1, 30, 500):
            parts = [shard.search(1, queries, k, None, "node_ratio", None, allow)[0] for shard in shards]
            found = merge.merge_nearest(parts, len(queries), k, n_bits, "jaccard")
            assert_same(found, reference.jaccard_search(queries, codes[kept], ids[kept], k))
        for radius in (0, 0.3, 0.5, 1):
            parts = [shard.range_search(1, queries, radius, None, allow)[0] for shard in shards]
            counts = [shard.count_within(1, queries, radius, None, allow) for shard in shards]
            found = merge.merge_ranges(parts, len(queries), "jaccard")
            one = fh.FlatIndex(n_bits, metric="jaccard")
            one.add(codes, ids)
            assert_same(found, one.range_search(queries, radius, allow=allow))
            assert_same([np.sum(counts, axis=0)], [one.count_within(queries, radius, allow=allow)])


def with_bits(n_bits, *numbers):
    """Codes with the first so many bits set."""
    return np.packbits(np.arange(n_bits) < np.array(numbers)[:, None], axis=1)


@pytest.mark.parametrize(("query", "near", "far"), [(1, 4095, 4096), (4095, 4096, 4094), (2, 4094, 4095)])
def test_neighbouring_fractions_are_no_tie(query, near, far):
    """4094/4095 and 4095/4096 differ by 6e-8: the smaller id of the farther code does not win."""
    codes = with_bits(4096, near, far)
    if reference.jaccard(with_bits(4096, query), codes)[0, 0] > reference.jaccard(with_bits(4096, query), codes)[0, 1]:
        codes = codes[::-1].copy()
    ids = np.array([9, 1])
    number = merge.shard_of(ids, 64)
    assert number[0] != number[1]
    shards = in_shards(codes, ids, 4096, 64)
    parts = [shard.search(1, with_bits(4096, query), 2, None, "node_ratio", None, None)[0] for shard in shards]
    assert merge.merge_nearest(parts, 1, 2, 4096, "jaccard").ids.tolist() == [[9, 1]]


def test_equal_fractions_are_a_tie():
    """1/2 as 1 of 2 and 2 of 4 bits, in two shards: the smaller id is first."""
    other = next(id for id in range(4, 99) if np.diff(merge.shard_of(np.array([3, id]), 2))[0])
    codes, ids = with_bits(64, 4, 1), np.array([3, other])
    shards = in_shards(codes, ids, 64, 2)
    parts = [shard.search(1, with_bits(64, 2), 2, None, "node_ratio", None, None)[0] for shard in shards]
    found = merge.merge_nearest(parts[::-1], 1, 2, 64, "jaccard")
    assert (found.ids.tolist(), found.distances.tolist()) == ([[3, other]], [[0.5, 0.5]])


def test_nothing_found_anywhere():
    found = merge.merge_nearest([], 2, 3, 8, "jaccard")
    assert_same(found, (np.full((2, 3), np.inf, np.float32), np.full((2, 3), -1)))
    expected = (np.zeros(3, np.int64), np.zeros(0, np.float32), np.zeros(0, np.int64))
    assert_same(merge.merge_ranges([], 2, "jaccard"), expected)


@pytest.mark.parametrize("metric", ["hamming", "jaccard"])
def test_a_shard_of_another_metric_is_foreign(tmp_path, metric):
    from hostile_folders import make_shards

    make_shards(tmp_path, 0, "jaccard" if metric == "hamming" else "hamming")

    def load(card):
        other = card | {"metric": metric}
        with pytest.raises(fh.FormatError, match=r"shard-00000\.fh holds HierIndex.*, which is not what card"):
            Shard((16,), "default", "auto", None, metric).load(0, str(tmp_path), other, 0, 3)

    load_folder(tmp_path, "ShardedIndex", load)
