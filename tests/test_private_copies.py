"""What a caller gives is copied before it is checked: nothing that happens to it later reaches an index."""

import copy
import pickle
import threading

import numpy as np
import pytest

import fasthash as fh
from fasthash import _quantiser

N_DIMS = 16


def embeddings(n, seed=0):
    return np.random.default_rng(seed).standard_normal((n, N_DIMS)).astype(np.float32)


class Changing:
    """Gives another array each time, as an object that reads a sensor or a database does."""

    def __init__(self, *arrays):
        self.arrays, self.n_reads = arrays, 0

    def __array__(self, dtype=None, copy=None):
        self.n_reads += 1
        return self.arrays[min(self.n_reads, len(self.arrays)) - 1]


def holds_together(index):
    """Codes are those of the vectors of the same ids."""
    codes, ids = index.codes.to_arrays()
    np.testing.assert_array_equal(index._state.ids, ids)
    np.testing.assert_array_equal(np.packbits(index.reconstruct(ids) > 0, axis=1), codes)


def filled(n=20):
    index = fh.RescoringIndex(N_DIMS, dtype="float32")
    index.add(embeddings(n))
    return index


ONE, OTHER = np.arange(100, 105), np.arange(300, 305)
CALLS = {
    "add": lambda index, ids: index.add(embeddings(5, 1), ids),
    "update": lambda index, ids: index.update(ids, embeddings(5, 1)),
    "remove": lambda index, ids: index.remove(ids),
    "reconstruct": lambda index, ids: index.reconstruct(ids),
}


def before(call):
    index = filled()
    if call != "add":
        index.add(embeddings(5, 2), ONE)
        index.add(embeddings(5, 3), OTHER)
    return index


@pytest.mark.parametrize("call", CALLS)
def test_ids_of_an_object_that_changes_are_read_once(call):
    index, ids = before(call), Changing(ONE, OTHER)
    expected = before(call)
    CALLS[call](index, ids)
    CALLS[call](expected, ONE)
    assert ids.n_reads == 1
    holds_together(index)
    np.testing.assert_array_equal(index._state.ids, expected._state.ids)


@pytest.mark.parametrize("call", CALLS)
def test_ids_that_another_thread_writes(call, monkeypatch):
    """It writes when the codes have been changed, before the vectors are."""
    index, ids = before(call), ONE.copy()

    def write():
        ids[:] = OTHER

    for method in ("add", "update", "remove", "reconstruct"):
        real = getattr(fh.HierIndex, method)

        def changed(codes, *arguments, real=real):
            result = real(codes, *arguments)
            thread = threading.Thread(target=write)
            thread.start()
            thread.join()
            return result

        monkeypatch.setattr(fh.HierIndex, method, changed)
    found = CALLS[call](index, ids)
    monkeypatch.undo()
    assert ids.tolist() == OTHER.tolist()
    holds_together(index)
    if call == "reconstruct":
        np.testing.assert_array_equal(found, index.reconstruct(ONE))
    else:
        assert (ONE[0] in index) == (call != "remove")


def test_embeddings_and_ranges_that_another_thread_writes(monkeypatch):
    """It writes NaN as soon as the private copy is made: what is checked is what is kept."""
    vectors, ranges = embeddings(5, 1), np.array([[-1.0] * N_DIMS, [1.0] * N_DIMS])
    expected = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    real = _quantiser.own_array

    def copied(name, value):
        result = real(name, value)
        thread = threading.Thread(target=lambda: value.fill(np.nan))
        thread.start()
        thread.join()
        return result

    monkeypatch.setattr(_quantiser, "own_array", copied)
    index = fh.RescoringIndex(N_DIMS, dtype="float32")
    index.add(vectors)
    quantised = fh.RescoringIndex(N_DIMS, dtype="int8", ranges=ranges)
    monkeypatch.undo()
    assert np.isnan(vectors).all()
    np.testing.assert_allclose(index.reconstruct(np.arange(5)), expected, atol=1e-6)
    np.testing.assert_array_equal(quantised.ranges, [[-1.0] * N_DIMS, [1.0] * N_DIMS])


def test_embeddings_and_queries_of_an_object_that_changes():
    index = fh.RescoringIndex(N_DIMS, dtype="float32")
    given = Changing(embeddings(5, 1), embeddings(5, 2))
    index.add(given)
    assert given.n_reads == 1
    holds_together(index)
    queries = Changing(embeddings(3, 1), np.full((3, N_DIMS), np.nan))
    assert index.search(queries, 1).ids[:, 0].tolist() == [0, 1, 2]
    assert queries.n_reads == 1


@pytest.mark.parametrize("kind", [fh.FlatIndex, fh.HierIndex])
def test_other_indices_read_once(kind):
    codes, others = np.eye(5, 2, dtype=np.uint8), np.ones((5, 2), np.uint8)
    index = kind(16) if kind is fh.FlatIndex else kind((8, 8))
    given, ids, mask = Changing(codes, others), Changing(ONE, OTHER), Changing(np.zeros(105, bool), np.ones(105, bool))
    index.add(given, ids)
    assert index.search(codes, 1, allow=mask).ids.max() == -1
    index.update(Changing(ONE, OTHER), Changing(others, codes))
    fh.IdFilter(Changing(ONE, OTHER))
    index.remove(Changing(ONE[:2], OTHER))
    assert (given.n_reads, ids.n_reads, mask.n_reads) == (1, 1, 1)
    np.testing.assert_array_equal(index.to_arrays()[0], others[2:])
    np.testing.assert_array_equal(index.to_arrays()[1], ONE[2:])


# Copies of an index share no memory that either of them writes


WAYS = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda index: pickle.loads(pickle.dumps(index)),
    "copy of a copy": lambda index: copy.copy(copy.copy(index)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mapped", [False, True])
def test_copies_are_independent(way, mapped, tmp_path):
    vectors = embeddings(9)
    first = fh.RescoringIndex(N_DIMS, dtype="float32")
    first.add(vectors[:4])
    if mapped:
        first.save(tmp_path)
        first = fh.RescoringIndex.load(tmp_path)
    first.add(vectors[4:5])  # which leaves room behind it
    second = WAYS[way](first)
    first.add(vectors[5:6])
    kept = first.reconstruct([5])
    second.add(vectors[6:7])
    np.testing.assert_array_equal(first.reconstruct([5]), kept)
    second.update([0], vectors[7:8])
    first.add(vectors[8:9])
    holds_together(first)
    holds_together(second)
    assert (len(first), len(second)) == (7, 6)
    normal = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(first.reconstruct(np.arange(7)), normal[[0, 1, 2, 3, 4, 5, 8]], atol=1e-6)
    np.testing.assert_allclose(second.reconstruct(np.arange(6)), normal[[7, 1, 2, 3, 4, 6]], atol=1e-6)


def test_a_copy_takes_no_vectors():
    """Until one of both changes."""
    index = filled()
    assert np.shares_memory(copy.copy(index)._state.rows.buffer, index._state.rows.buffer)


@pytest.mark.parametrize("make", [lambda: fh.FlatIndex(16), lambda: fh.HierIndex((8, 8))])
@pytest.mark.parametrize("way", WAYS)
def test_copies_of_other_indices_are_independent(make, way):
    codes = np.arange(20, dtype=np.uint8).reshape(10, 2)
    first = make()
    first.add(codes[:8])
    second = WAYS[way](first)
    first.add(codes[8:9])
    second.add(codes[9:])
    second.remove([0])
    np.testing.assert_array_equal(first.to_arrays()[0], codes[:9])
    np.testing.assert_array_equal(second.to_arrays()[0], codes[[*range(1, 8), 9]])
