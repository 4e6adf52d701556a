"""Small indices of every kind of file, and how a loaded one is compared with the saved one."""

import numpy as np
import pytest

import fasthash as fh
from galleries import clustered, uniform


def flat():
    return fh.FlatIndex.from_arrays(clustered(np.random.default_rng(0), 100, 8))


def flat_with_ids():
    rng = np.random.default_rng(0)
    return fh.FlatIndex.from_arrays(clustered(rng, 100, 8), rng.permutation(1000)[:100])


def hier():
    rng = np.random.default_rng(0)
    codes = np.concatenate([clustered(rng, 90, 8), np.zeros((10, 8), np.uint8)])
    return fh.HierIndex.from_arrays(codes, rng.permutation(1000)[:100], level_bits=(8, 16, 40))


def distinct():
    rng = np.random.default_rng(0)
    ids = rng.integers(-(2**63), 2**63 - 1, 100)
    return fh.HierIndex.from_arrays(uniform(rng, 100, 8), ids, level_bits=(8, 16, 40), memory="compact")


def in_pieces(index):
    """Several segments, some codes of which are gone."""
    rng = np.random.default_rng(0)
    codes = clustered(rng, 5500, 8)
    ids = rng.permutation(20_000)[:5500] - 7000
    ids[ids == -1] = 30_000
    for begin, end in ((0, 5000), (5000, 5100), (5100, 5150), (5150, 5400)):
        index.add(codes[begin:end], ids[begin:end])
        index.remove(ids[begin : begin + (end - begin) // 20])
    index.update(ids[4000:4010], codes[5400:5410])
    assert index.stats()["n_segments"] > 1
    assert index.stats()["n_removed"] > 0
    return index


def flat_in_pieces():
    return in_pieces(fh.FlatIndex(64))


def hier_in_pieces():
    return in_pieces(fh.HierIndex())


def clusters():
    rng = np.random.default_rng(0)
    codes = np.concatenate([clustered(rng, 90, 8), np.zeros((10, 8), np.uint8)])
    return fh.HierIndex.from_arrays(codes, rng.permutation(1000)[:100], level_bits=(8, 16, 40), plan="clusters")


def clusters_in_pieces():
    return in_pieces(fh.HierIndex(plan="clusters"))


CASES = [flat, flat_with_ids, hier, distinct, clusters, flat_in_pieces, hier_in_pieces, clusters_in_pieces]


# Fixtures, which tests import and name by their `name`:


@pytest.fixture(name="index", params=CASES, ids=lambda case: case.__name__)
def any_index(request):
    return request.param()


@pytest.fixture(name="saved")
def saved_index(index, tmp_path):
    index.save(tmp_path / "index.fh")
    return tmp_path / "index.fh"


def load_mapped(path):
    return fh.load(path, mmap=True)


def assert_same_index(a, b):
    queries = np.random.default_rng(1).integers(0, 256, (5, a.n_bits // 8), dtype=np.uint8)
    assert type(a) is type(b)
    assert a.level_bits == b.level_bits
    assert len(a) == len(b)
    for x, y in zip(a.to_arrays(), b.to_arrays(), strict=True):
        np.testing.assert_array_equal(x, y)
    for x, y in zip(a.search(queries, len(a) + 1), b.search(queries, len(a) + 1), strict=True):
        np.testing.assert_array_equal(x, y)
    assert a.to_bytes() == b.to_bytes()
