"""Pairs of near-duplicates with their distances, inside a set and between two; turned and mirrored copies of codes."""

import numpy as np
import pytest

import fasthash as fh
from fasthash import duplicates
from fasthash.turning import TURNS

RNG = np.random.default_rng(5)


def clustered(n, n_bytes, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.integers(0, 256, (max(1, n // 6), n_bytes), dtype=np.uint8)
    flips = rng.random((n, n_bytes * 8)) < 0.03
    return centres[rng.integers(0, len(centres), n)] ^ np.packbits(flips, axis=1)


def distances(a, b):
    return np.unpackbits(a[:, None] ^ b[None], axis=2).sum(axis=2)


def listed(chunks):
    """All chunks as rows (first, distance, second, turn), in their order; none is empty."""
    chunks = list(chunks)
    assert all(len(pairs.first) for pairs in chunks)
    assert all(pairs.first.dtype == pairs.second.dtype == np.int64 for pairs in chunks)
    return [
        row for pairs in chunks for row in zip(pairs.first, pairs.distances, pairs.second, pairs.turns, strict=True)
    ]


@pytest.mark.parametrize(("n", "n_bytes", "radius"), [(300, 8, 5), (200, 32, 20), (60, 1, 2), (1, 8, 3), (0, 8, 3)])
def test_pairs_inside_a_set(n, n_bytes, radius):
    codes = clustered(n, n_bytes)
    ids = np.random.default_rng(1).permutation(10 * n)[:n]
    far = distances(codes, codes) if n else np.zeros((0, 0))
    expected = sorted(
        (min(ids[i], ids[j]), far[i, j], max(ids[i], ids[j]), 0)
        for i, j in zip(*np.nonzero(np.triu(far <= radius, 1)), strict=True)
    )
    assert listed(fh.near_pairs(codes, radius, ids)) == expected
    for index in (fh.FlatIndex.from_arrays(codes, ids), fh.HierIndex.from_arrays(codes, ids)) if n else ():
        assert listed(fh.near_pairs(index, radius)) == expected


def test_pairs_between_new_and_old():
    new, old = clustered(80, 8, 1), clustered(150, 8, 1)
    far = distances(new, old)
    expected = sorted((i, far[i, j], j, 0) for i, j in zip(*np.nonzero(far <= 6), strict=True))
    assert expected
    assert listed(fh.near_pairs(new, 6, gallery=old)) == expected
    assert listed(fh.near_pairs(new, 6, gallery=fh.FlatIndex.from_arrays(old))) == expected
    named = fh.HierIndex.from_arrays(old, np.arange(150) + 1000)
    assert listed(fh.near_pairs(new, 6, gallery=named)) == [(i, d, j + 1000, turn) for i, d, j, turn in expected]
    assert listed(fh.near_pairs(new, 6, gallery=new))[0] == (0, 0, 0, 0)  # an id may pair with an equal one


def test_pairs_come_in_chunks_and_do_not_see_later_changes(monkeypatch):
    monkeypatch.setattr(duplicates, "_PAIRS", 500)
    codes = np.repeat(clustered(40, 8, 2), 10, axis=0)
    index = fh.HierIndex.from_arrays(codes)
    pairs, across = fh.near_pairs(index, 4), fh.near_pairs(codes, 4, gallery=index)
    index.remove(np.arange(400))
    chunks = list(pairs)
    assert len(chunks) > 10
    assert max(len(chunk.first) for chunk in chunks) < 5000
    assert sum(len(chunk.first) for chunk in chunks) == (np.triu(distances(codes, codes) <= 4, 1)).sum()
    assert sum(len(chunk.first) for chunk in across) == (distances(codes, codes) <= 4).sum()


def test_pairs_and_groups_agree():
    codes = clustered(400, 8, 3)
    parents = list(range(400))

    def root(i):
        while parents[i] != i:
            i = parents[i]
        return i

    for first, _, second, _ in listed(fh.near_pairs(codes, 5)):
        parents[max(root(first), root(second))] = min(root(first), root(second))
    groups = {}
    for i in range(400):
        groups.setdefault(root(i), []).append(i)
    assert [group.tolist() for group in fh.near_duplicates(codes, 5)] == [g for g in groups.values() if len(g) > 1]


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((np.zeros((3, 8), np.uint8), -1), {}, ValueError, "radius must be at least 0, got -1"),
        ((np.zeros((3, 8)), 1), {}, TypeError, "codes must be a uint8 array of packed bits, got dtype float64"),
        ((np.zeros((3, 8), np.uint8), 1, [1, 1, 2]), {}, ValueError, "ids must be distinct, got 1 twice"),
        ((fh.FlatIndex(8), 1, [1]), {}, ValueError, "ids must be None for an index, which has its own"),
        ((np.zeros((3, 8), np.uint8), 1), {"gallery": np.zeros((3, 9))}, TypeError, "gallery must be a uint8 array"),
        (
            (np.zeros((3, 8), np.uint8), 1),
            {"gallery": np.zeros((3, 9), np.uint8)},
            ValueError,
            "gallery must have codes of 8 bytes, as codes has, got 72 bits",
        ),
        ((np.zeros((3, 8), np.uint8), 1), {"turned": 1}, TypeError, "turned must be True or False, got 1"),
        ((np.zeros((3, 9), np.uint8), 1), {"turned": True}, ValueError, "codes must have a square number of bits to"),
    ],
)
def test_what_has_no_pairs(arguments, options, error, message):
    """The call says so, not the first chunk."""
    with pytest.raises(error) as caught:
        fh.near_pairs(*arguments, **options)
    assert str(caught.value).startswith(message)


# Turned and mirrored


def turned_slowly(code):
    """The eight codes, by the signs and places of frequencies."""
    side = int((len(code) * 8) ** 0.5)
    square = np.unpackbits(code).reshape(side, side)
    signs = np.array([[(-1) ** column for column in range(side)] for _ in range(side)])
    waves = np.where(square, 1, -1)
    mirrored, flipped = waves * signs, waves * signs.T
    turns = [waves, mirrored, flipped, mirrored * signs.T]
    return np.array([np.packbits((turn > 0).reshape(-1)) for turn in [*turns, *(turn.T for turn in turns)]])


@pytest.mark.parametrize("n_bytes", [8, 18, 32])
def test_codes_of_all_orientations(n_bytes):
    codes = RNG.integers(0, 256, (20, n_bytes), dtype=np.uint8)
    found = fh.turned_codes(codes)
    assert found.shape == (len(TURNS), 20, n_bytes)
    for i, code in enumerate(codes):
        np.testing.assert_array_equal(found[:, i], turned_slowly(code))
    again = fh.turned_codes(found[5])  # a quarter turn, four times, is none
    np.testing.assert_array_equal(again[6], codes)
    np.testing.assert_array_equal(fh.turned_codes(fh.turned_codes(again[5])[5])[5], codes)
    assert fh.turned_codes(codes[:0]).shape == (8, 0, n_bytes)


@pytest.mark.parametrize("codes", [np.zeros((2, 9), np.uint8), np.zeros((2, 3), np.uint8), np.zeros((1, 16), np.uint8)])
def test_codes_that_are_no_squares(codes):
    with pytest.raises(
        ValueError, match=f"square number of bits to be turned, such as 64 or 256, got {codes.shape[1]} bytes"
    ):
        fh.turned_codes(codes)


def test_pairs_of_codes_that_are_padded():
    codes = fh.codes_from_ints([1, 3, 2**41], n_bits=42)
    for gallery in (fh.HierIndex.from_arrays(codes, level_bits=42), fh.FlatIndex.from_arrays(codes, n_bits=42), codes):
        found = list(fh.near_pairs(codes[:1], 1, gallery=gallery))
        assert [pairs.second.tolist() for pairs in found] == [[0, 1]]
        assert [pairs.distances.tolist() for pairs in found] == [[0, 1]]


def test_pairs_and_groups_of_turned_codes():
    codes = clustered(250, 8, 4)
    turns = RNG.integers(0, 8, 250)
    codes = fh.turned_codes(codes)[turns, np.arange(250)]
    far = np.array([distances(turn, codes) for turn in fh.turned_codes(codes)])
    least, which = far.min(axis=0), far.argmin(axis=0)
    np.testing.assert_array_equal(least, least.T)  # whichever of two is turned
    expected = sorted(
        (i, least[i, j], j, which[i, j]) for i, j in zip(*np.nonzero(np.triu(least <= 5, 1)), strict=True)
    )
    assert listed(fh.near_pairs(codes, 5, turned=True)) == expected
    joined = [set(group.tolist()) for group in fh.near_duplicates(codes, 5, turned=True)]
    assert all(any({i, j} <= group for group in joined) for i, _, j, _ in expected)
    linked = {i for i, _, j, _ in expected} | {j for _, _, j, _ in expected}
    assert linked == set().union(*joined)
    upright = fh.near_duplicates(codes, 5)
    assert len(upright) > len(joined)


def test_dense_clusters_of_turned_codes():
    """Each group is followed once, in every orientation."""
    codes = np.packbits(np.random.default_rng(6).random((3000, 64)) < 0.01, axis=1)
    halves = [codes[:1500], fh.turned_codes(codes[1500:])[3]]
    assert [len(group) for group in fh.near_duplicates(np.concatenate(halves), 4, turned=True)] == [3000]
    assert len(fh.near_duplicates(np.concatenate(halves), 4)) == 2
