"""What a RescoringIndex refuses, and its pickles."""

import pickle

import numpy as np
import pytest

import fasthash as fh
from embedded import embeddings, filled, same

NAN = embeddings(3)
NAN[1, 2] = np.nan
ZERO = embeddings(3)
ZERO[2] = 0
INFINITE = embeddings(3)
INFINITE[0, 39] = -np.inf


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (embeddings(3).astype(int), TypeError, "must be a float16, float32 or float64 array, got dtype int64"),
        (embeddings(3).astype(np.longdouble), TypeError, "must be a float16, float32 or float64 array, got dtype"),
        (np.packbits(embeddings(3) > 0, axis=1), TypeError, "must be a float16, float32 or float64 array, got dtype"),
        (None, TypeError, "must be a float16, float32 or float64 array, got dtype object"),
        (embeddings(3)[0], ValueError, r"must have shape (n, 40), got (40,); for a single embedding use "),
        (embeddings(3, 41), ValueError, "must have shape (n, 40), got (3, 41)"),
        (NAN, ValueError, "must be finite, found nan at index [1, 2]"),
        (INFINITE, ValueError, "must be finite, found -inf at index [0, 39]"),
        (ZERO, ValueError, "must have lengths from 1e-150 to 1e154 for the metric 'cosine', found 0.0 in row 2"),
        (embeddings(3) * 1e-160, ValueError, "must have lengths from 1e-150 to 1e154 for the metric 'cosine', found"),
    ],
)
def test_what_are_no_embeddings(value, error, message):
    index = filled()
    for name, call in {
        "embeddings": index.add,
        "queries": index.search,
        "embeddings ": lambda value: index.update([0, 1, 2], value),
    }.items():
        with pytest.raises(error) as caught:
            call(value)
        assert str(caught.value).startswith(f"{name.strip()} {message}")
    assert len(index) == 300


@pytest.mark.parametrize("dtype", [">f2", ">f4", ">f8"])
def test_the_order_of_bytes_does_not_matter(dtype):
    index, same_index = fh.RescoringIndex(40), fh.RescoringIndex(40)
    index.add(embeddings(300).astype(dtype))
    same_index.add(embeddings(300).astype(dtype).astype(np.float64))
    queries = embeddings(5, seed=2)
    same(index.search(queries.astype(dtype)), same_index.search(queries.astype(dtype).astype(np.float64)))


def test_ids_at_both_ends(recwarn):
    index = fh.RescoringIndex(40)
    index.add(embeddings(2), [-(2**63), 2**63 - 1])
    np.testing.assert_array_equal(index.search(embeddings(2), 1).ids[:, 0], [-(2**63), 2**63 - 1])
    assert not recwarn.list


def test_numbers_that_the_dtype_cannot_hold():
    index = fh.RescoringIndex(8, metric="inner_product")
    index.add(np.full((1, 8), 65504.0))
    with pytest.raises(ValueError, match=r"^embeddings must be at most 65504 in size for dtype 'float16', found 70000"):
        index.add(np.full((1, 8), 70000.0))
    index = fh.RescoringIndex(8, metric="inner_product", dtype="float32")
    with pytest.raises(ValueError, match=r"^queries must be at most 1e\+15 in size for dtype 'float32', found 1e\+16"):
        index.search(np.full((1, 8), 1e16))
    fh.RescoringIndex(8).add(np.full((1, 8), 1e100))  # of which the direction counts


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n_dims": 0}, ValueError, "n_dims must be at least 1, got 0"),
        ({"n_dims": 65537}, ValueError, "n_dims must be at most 65536, got 65537"),
        ({"n_dims": 8.0}, TypeError, "n_dims must be an integer, got 8.0"),
        ({"dtype": "bfloat16"}, ValueError, "dtype must be one of 'int8', 'float16', 'float32', got 'bfloat16'"),
        ({"metric": "l2"}, ValueError, "metric must be one of 'cosine', 'inner_product', got 'l2'"),
        ({"level_bits": (8, 40)}, ValueError, "level_bits must sum to at most 40 for n_dims = 40, got (8, 40)"),
        ({"level_bits": (7,)}, ValueError, "level_bits must be at least 8, got 7"),
        ({"memory": "huge"}, ValueError, "memory must be one of"),
        ({"ranges": np.zeros((2, 40))}, ValueError, "ranges must be None for dtype = 'float16', got ndarray"),
        ({"dtype": "int8", "ranges": np.zeros((2, 41))}, ValueError, "ranges must have shape (2, 40), got (2, 41)"),
        (
            {"dtype": "int8", "ranges": np.zeros((2, 40), int)},
            TypeError,
            "ranges must be a float16, float32 or float64",
        ),
        (
            {"dtype": "int8", "ranges": -np.arange(80.0).reshape(2, 40)},
            ValueError,
            "ranges must be at most 1e+15 in size",
        ),
        ({"dtype": "int8", "ranges": np.full((2, 40), np.nan)}, ValueError, "ranges must be at most 1e+15 in size"),
    ],
)
def test_what_makes_no_index(options, error, message):
    with pytest.raises(error) as caught:
        fh.RescoringIndex(**{"n_dims": 40} | options)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"k": 0}, ValueError, "k must be at least 1, got 0"),
        ({"k": 2.0}, TypeError, "k must be an integer, got 2.0"),
        ({"rescore_multiplier": 0}, ValueError, "rescore_multiplier must be at least 1, got 0"),
        ({"rescore_multiplier": 1.5}, TypeError, "rescore_multiplier must be an integer, got 1.5"),
        ({"allow": [0.5]}, TypeError, "allow must be an integer array of ids or a bool mask, got dtype float64"),
        ({"allow": [True]}, ValueError, "allow must have an entry for every id up to 299, got 1 entries"),
    ],
)
def test_what_is_no_search(options, error, message):
    with pytest.raises(error) as caught:
        filled().search(embeddings(1), **options)
    assert str(caught.value) == message


def test_nothing_may_be_added_after_the_largest_id():
    index = fh.RescoringIndex(40)
    index.add(embeddings(1), ids=[2**63 - 1])
    index.add(embeddings(0))
    assert len(index) == 1


def test_it_is_no_list():
    index = fh.RescoringIndex(8)
    assert index
    assert repr(index) == "RescoringIndex(8, dtype='float16', metric='cosine', level_bits=(8,)) with 0 embeddings"


def test_pickles_are_indices_of_their_own(tmp_path):
    filled("int8").save(tmp_path)
    index = fh.RescoringIndex.load(tmp_path)
    other = pickle.loads(pickle.dumps(index))
    other.remove(np.arange(100))
    other.add(embeddings(5, seed=4))
    assert (len(index), len(other)) == (300, 205)
    other.add(embeddings(1, seed=5))
    grown = pickle.dumps(other)  # its rows have spare capacity in memory
    assert len(grown) == len(pickle.dumps(pickle.loads(grown)))
    same(index.search(embeddings(5, seed=2)), filled("int8").search(embeddings(5, seed=2)))
