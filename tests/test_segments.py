"""Segments of an index that changes: when they are merged, what searches of several find, and their memory."""

import functools

import numpy as np
import pytest

import fasthash as fh
import reference
from bad_input import CODES
from galleries import clustered, uniform
from indices import KINDS, MODES, any_kind, assert_same, empty, empty_index, filled, shuffled_ids  # noqa: F401

LAYOUT = (8, 16, 40)


def segments(index):
    stats = index.stats()
    return stats["n_segments"], stats["n_removed"]


def test_what_is_added_bit_by_bit_is_collected(index):
    """In a segment of at most 4096 codes, as long as the rest is 32 times as many."""
    codes = clustered(np.random.default_rng(0), 5000, 8)
    index.add(codes[:4000])
    for i in range(125):
        index.add(codes[4000 + i : 4001 + i])
        assert segments(index) == (2, 0)
    index.add(codes[4125:4126])
    assert segments(index) == (1, 0)
    index.add(codes[4126:])
    assert segments(index) == (1, 0)
    assert_same(index.to_arrays(), (codes, np.arange(5000)))


@pytest.mark.parametrize("kind", ["flat", ("default", "auto"), ("compact", "prefix")], ids=str)
def test_small_segments_hold_at_most_64_kib(kind):
    codes = clustered(np.random.default_rng(0), 5000, 512)
    index = filled(empty(kind, (4096,)), codes[:4500])
    for n, expected in [(128, 2), (129, 2), (130, 3), (257, 3)]:
        index.add(codes[len(index) : 4500 + n])
        assert segments(index) == (expected, 0)


def test_removed_codes_are_dropped_when_they_are_more_than_an_eighth(index):
    codes, ids = clustered(np.random.default_rng(0), 4100, 8), np.arange(4100)
    index.add(codes[:4000])
    index.add(codes[4000:])
    index.remove(ids[:500])
    assert segments(index) == (2, 500)
    index.remove(ids[500:501])
    assert segments(index) == (2, 0)
    index.remove(ids[4000:4012])
    assert segments(index) == (2, 12)
    index.remove(ids[4012:4013])
    assert segments(index) == (2, 0)
    index.remove(ids[4013:])
    assert segments(index) == (1, 0)
    index.remove(ids[501:700])
    assert segments(index) == (1, 199)
    index.compact()
    assert segments(index) == (1, 0)
    assert_same(index.to_arrays(), (codes[700:4000], ids[700:4000]))
    index.remove(ids[700:4000])
    assert segments(index) == (0, 0)
    index.compact()
    assert segments(index) == (0, 0)


def test_the_first_segment_may_go_before_the_others(index):
    codes = clustered(np.random.default_rng(0), 4100, 8)
    index.add(codes[:4000])
    index.add(codes[4000:])
    index.remove(np.arange(4000))
    assert segments(index) == (1, 0)
    expected = reference.search(CODES, codes[4000:], np.arange(4000, 4100), 20)
    assert_same(index.search(CODES, 20), expected)
    index.add(codes[:10])
    index.remove(np.arange(4100, 4110))
    assert_same(index.search(CODES, 20), expected)


@pytest.mark.parametrize("mode", MODES)
def test_a_pruned_search_brings_the_codes_together(mode):
    codes = clustered(np.random.default_rng(0), 4100, 8)
    index = filled(fh.HierIndex(LAYOUT), codes[:4000])
    index.add(codes[4000:])
    index.remove([5, 4050])
    assert segments(index) == (2, 2)
    kept = np.delete(np.arange(4100), [5, 4050])
    found = index.search(CODES, 20, keep=0.2, keep_mode=mode)
    assert segments(index) == (1, 0)
    assert_same(found, reference.pruned_search(CODES, codes[kept], kept, 20, LAYOUT, 0.2, mode)[:2])


@functools.cache
def three_segments():
    """Pieces that stay segments, ids to remove from each, what is held then, queries, and what they find."""
    rng = np.random.default_rng(1)
    codes = clustered(rng, 138_300, 8, 40, 0.04)
    codes[138_100:138_110] = codes[135_000:135_010] = codes[:10]
    removed = np.unique([*range(5), 135_000, 138_000, 138_103, *rng.integers(20, 134_000, 2000)])
    kept = np.delete(np.arange(len(codes)), removed)
    held, ids = np.concatenate([codes[kept], codes[:3]]), np.concatenate([kept, [3, 4, 0]])
    queries = np.concatenate([codes[:1], codes[-4:-1] ^ np.uint8(1), uniform(rng, 1, 8)])
    found = {k: reference.search(queries, held, ids, k) for k in (1, 10, 3000)}
    within = {radius: reference.range_search(queries, held, ids, radius) for radius in (0, 1, 6, 20)}
    return np.split(codes, [134_000, 138_100]), removed, len(ids), queries, found, within


def test_searches_of_three_segments(index):
    """Large, middling and small, each with a few codes removed; some codes stand in all three."""
    pieces, removed, n, queries, found, within = three_segments()
    for piece in pieces:
        index.add(piece)
    assert segments(index) == (3, 0)
    index.remove(removed)
    assert segments(index) == (3, len(removed))
    index.add(pieces[0][:3], [3, 4, 0])  # other codes than they had
    assert segments(index) == (3, len(removed) - 1)  # what was removed from the last one is gone
    assert len(index) == n
    for k, expected in found.items():
        assert_same(index.search(queries, k), expected)
        if k <= 10:
            assert_same(index.search(np.tile(queries, (40, 1)), k), [np.tile(rows, (40, 1)) for rows in expected])
    for radius, expected in within.items():
        assert_same(index.range_search(queries, radius), expected)
        assert_same([index.count_within(queries, radius)], [np.diff(expected[0])])


def test_memory_comes_back(index, kind):
    rng = np.random.default_rng(2)
    ids = rng.permutation(60_000)
    index.add(clustered(rng, len(ids), 8), ids)
    left = ids[-1000:]
    index.remove(ids[:-1000])
    fresh = filled(empty(kind, LAYOUT), index.reconstruct(left), left)
    assert index.nbytes <= fresh.nbytes * 1.5
    index.compact()
    assert index.nbytes <= fresh.nbytes
    index.remove(left)
    assert index.nbytes == 0


def test_ids_that_are_gone_take_no_memory(index, kind):
    """One of 2^62 would have all take eight bytes."""
    index.add(np.zeros((2000, 8), np.uint8), [*range(1999), 2**62])
    index.remove([2**62])
    index.compact()
    fresh = filled(empty(kind, LAYOUT), np.zeros((1999, 8), np.uint8), np.arange(1999))
    assert index.nbytes == fresh.nbytes


def test_memory_stays_what_the_index_may_spend():
    """Six times the bytes of the codes, and a little for looking up ids."""
    codes = clustered(np.random.default_rng(0), 138_100, 8, 100, 0.04)
    index = filled(fh.HierIndex((64,), memory="fast"), codes[:134_000])
    index.add(codes[134_000:])
    assert index.nbytes <= len(index) * 48
    index.remove(np.arange(133_900))
    assert index.nbytes <= len(index) * (48 + 4)


def test_a_segment_that_has_become_the_smaller_one_is_merged():
    codes = clustered(np.random.default_rng(0), 138_100, 8, 40, 0.04)
    index = filled(fh.HierIndex(LAYOUT, memory="fast"), codes[:134_000])
    index.add(codes[134_000:])
    assert segments(index) == (2, 0)
    index.remove(np.arange(133_900))  # of the first 100 are left, of the second 4,100
    assert segments(index) == (1, 0)


def test_updates_again_and_again_take_no_memory(kind):
    rng = np.random.default_rng(3)
    n = 8000
    codes, ids = clustered(rng, n, 8), shuffled_ids(rng, n)
    index = filled(empty(kind, LAYOUT), codes, ids)
    before = index.nbytes
    for _ in range(20):
        rows = rng.choice(n, 300, replace=False)
        codes[rows] = clustered(rng, 300, 8)
        index.update(ids[rows], codes[rows])
        n_segments, n_removed = segments(index)
        assert n_segments <= 2
        assert n_removed <= n / 7
        assert index.nbytes <= 2 * before
    order = np.argsort(ids)
    assert_same(index.to_arrays(), (codes[order], ids[order]))


def test_a_mapped_index_changes_and_its_file_does_not(kind, tmp_path):
    rng = np.random.default_rng(4)
    codes, ids = clustered(rng, 3000, 8), shuffled_ids(rng, 3000)
    filled(empty(kind, LAYOUT), codes, ids).save(tmp_path / "index.fh")
    data = (tmp_path / "index.fh").read_bytes()
    index = fh.load(tmp_path / "index.fh", mmap=True)
    assert index.stats()["mapped_bytes"] == len(data)
    assert fh.load(tmp_path / "index.fh").stats()["mapped_bytes"] == 0
    index.remove(ids[:50])
    index.update(ids[50:60], codes[:10])
    index.add(codes[:50], ids[:50])
    assert (tmp_path / "index.fh").read_bytes() == data
    now = np.concatenate([codes[60:], codes[:10], codes[:50]]), np.concatenate([ids[60:], ids[50:60], ids[:50]])
    queries = uniform(rng, 4, 8)
    assert index.stats()["mapped_bytes"] == len(data)
    assert_same(index.search(queries, 30), reference.search(queries, *now, 30))
    assert_same(index.range_search(queries, 20), reference.range_search(queries, *now, 20))
    index.compact()
    assert index.stats()["mapped_bytes"] == 0
    (tmp_path / "index.fh").unlink()
    assert_same(index.search(queries, 30), reference.search(queries, *now, 30))
