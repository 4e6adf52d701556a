"""The fast order of ties by features is that of the slow path, a stable sort of pairs."""

from __future__ import annotations

import numpy as np
import pytest

from fasthash.metrics import ranking


def cases(dtype):
    rng = np.random.default_rng(0)
    for n, n_distances in ((1, 1), (2, 1), (50, 3), (400, 65), (3000, 4097), (3000, 2**16), (300, 2**40)):
        near, relevant = rng.integers(0, n_distances, n), rng.random(n) < 0.3
        if np.issubdtype(dtype, np.integer):
            yield near, rng.integers(-9, 9, n).astype(dtype), relevant
            continue
        drawn = rng.normal(size=n).astype(dtype)
        yield near, drawn, relevant
        yield near, np.round(drawn, 1), relevant  # many ties, and both zeros
        special = rng.choice([0.0, -0.0, np.inf, -np.inf, np.finfo(dtype).tiny, -np.finfo(dtype).tiny], n).astype(dtype)
        yield near, special, relevant


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8, np.int64])
def test_equals_a_stable_sort_of_pairs(dtype):
    for near, keys, relevant in cases(dtype):
        expected = ranking.ranked_by_lexsort(near, keys, relevant)
        np.testing.assert_array_equal(ranking.ranked_relevance(near, keys, relevant), expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint64])
def test_without_keys_the_columns_decide(dtype):
    for near, keys, relevant in cases(np.int8):
        near = (near % 200).astype(dtype)
        expected = ranking.ranked_by_lexsort(near, np.zeros_like(keys), relevant)
        np.testing.assert_array_equal(ranking.ranked_relevance(near, None, relevant), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_keys_without_ties_need_no_stable_sort_of_pairs(dtype, monkeypatch):
    monkeypatch.setattr(ranking, "ranked_by_lexsort", None)
    rng = np.random.default_rng(1)
    near, keys, relevant = rng.integers(0, 65, 999), rng.permutation(999).astype(dtype), rng.random(999) < 0.3
    assert ranking.ranked_relevance(near, keys, relevant).sum() == relevant.sum()
