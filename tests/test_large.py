"""Galleries whose codes take more than 2^31 and 2^32 bytes, in memory and in files; `make large`."""

import os

import numpy as np
import pytest

import fasthash as fh

pytestmark = pytest.mark.large

N = 545_000_000  # codes of 8 bytes: a little more than 2^32
CHUNK = 1 << 24
BLOCK = 1 << 17


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    """Random codes in a file, mapped, with neighbours of the queries at both ends of the order and of the file."""
    path = tmp_path_factory.mktemp("large") / "codes.u64"
    rng = np.random.default_rng(0)
    queries = rng.integers(0, 1 << 64, 12, np.uint64)
    queries[0], queries[1] = 0, (1 << 64) - 1  # whose neighbours are the first and the last in the order of the codes
    with open(path, "wb") as file:
        for begin in range(0, N, CHUNK):
            chunk = rng.integers(0, 1 << 64, min(CHUNK, N - begin), np.uint64)
            if begin == 0:
                chunk[:12] = queries ^ np.uint64(1 << 8)
            if begin + CHUNK >= N:
                chunk[-12:] = queries ^ np.uint64(1 << 8)  # ties with the first
            chunk.tofile(file)
    yield np.memmap(path, np.uint64, "r"), queries
    os.unlink(path)


def nearest_by_numpy(codes, query, k):
    """The k nearest (distance, id), by comparing all."""
    nearest, limit = [], 64
    for begin in range(0, len(codes), BLOCK):
        distances = np.bitwise_count(codes[begin : begin + BLOCK] ^ query)
        near = np.flatnonzero(distances <= limit)
        if len(near):
            found = zip(distances[near].tolist(), (near + begin).tolist(), strict=True)
            nearest = sorted([*nearest, *found])[:k]
            limit = nearest[-1][0] if len(nearest) == k else 64
    return nearest


@pytest.fixture(scope="module")
def expected(gallery):
    codes, queries = gallery
    return [nearest_by_numpy(codes, query, 10) for query in queries]


def rows(codes):
    return codes.view(np.uint8).reshape(-1, 8)


def pairs(result):
    return [list(zip(*row, strict=True)) for row in zip(result.distances.tolist(), result.ids.tolist(), strict=True)]


def check(index, gallery, expected):
    codes, queries = gallery
    assert len(index) == N
    assert pairs(index.search(rows(queries), k=10)) == expected  # one pass for all
    for query, nearest in zip(queries, expected, strict=True):  # and the plan of the index
        assert pairs(index.search(rows(query[None]), k=10)) == [nearest]
    within = index.count_within(rows(queries), 1)
    assert (within >= 2).all()  # the planted ones
    found = index.range_search(rows(queries), 1)
    assert (np.diff(found.offsets) == within).all()
    some = np.array([0, 1, N // 2, N - 2, N - 1])
    assert (index.reconstruct(some) == rows(codes[some])).all()


@pytest.mark.parametrize("kind", ["flat", "scan", "default", "compact"])
def test_past_four_gigabytes(kind, gallery, expected, tmp_path):
    codes, queries = gallery
    if kind == "flat":
        index = fh.FlatIndex(64)
    elif kind == "scan":
        index = fh.HierIndex((64,), plan="scan")
    else:
        index = fh.HierIndex((64,), memory=kind)
    index.add(rows(codes))
    check(index, gallery, expected)
    path = tmp_path / "index.fh"
    index.save(path)
    plan = index.stats().get("plan")
    del index
    assert path.stat().st_size > 1 << 32
    assert fh.peek(path).n_codes == N
    index = fh.load(path)
    assert index.stats().get("plan") == plan
    check(index, gallery, expected)
    del index
    index = fh.load(path, mmap=True)
    check(index, gallery, expected)
    index.add(rows(queries))
    again = index.search(rows(queries), k=1)
    assert again.distances.tolist() == [[0]] * len(queries)
    path.unlink()
