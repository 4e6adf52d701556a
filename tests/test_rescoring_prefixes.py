"""Codes of several prefixes in one `RescoringIndex`, searched coarse to fine, beside plain numpy."""

import numpy as np
import pytest

import fasthash as fh
import reference

LEVELS = (16, 24, 24)
N_DIMS = 72  # more than the codes have bits


def embeddings(n, seed=0):
    """The first dimensions tell most, as in Matryoshka embeddings."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(100).standard_normal((12, N_DIMS))
    vectors = centres[rng.integers(0, 12, n)] + rng.standard_normal((n, N_DIMS))
    return (vectors / np.sqrt(1 + np.arange(N_DIMS))).astype(np.float32)


def expected_ids(gallery, queries, k, multiplier, keep, keep_mode):
    """The pruned search of tests/reference.py over the signs, then the scores of its candidates."""
    codes, signs = (np.packbits(part[:, : sum(LEVELS)] > 0, axis=1) for part in (gallery, queries))
    ids = np.arange(len(gallery))
    candidates = reference.pruned_search(signs, codes, ids, k * multiplier, LEVELS, keep, keep_mode)[1]
    rows = []
    for query, found in zip(queries.astype(np.float64), candidates, strict=True):
        found = found[found != -1]
        vectors = gallery[found].astype(np.float64)
        scores = vectors @ query / np.linalg.norm(vectors, axis=1)
        rows.append(found[np.lexsort((found, -scores))][:k])
    return np.array(rows)


@pytest.mark.parametrize("dtype", ["int8", "float16", "float32"])
@pytest.mark.parametrize(
    ("keep", "keep_mode"),
    [(0.05, "node_ratio"), (0.3, "node_ratio"), (1, "node_ratio"), (0.1, "gallery_ratio"), (0.25, "radius")],
)
def test_levels_are_searched_coarse_to_fine(dtype, keep, keep_mode, tmp_path):
    gallery, queries = embeddings(600), embeddings(30, seed=1)
    index = fh.RescoringIndex(N_DIMS, dtype=dtype, level_bits=LEVELS)
    index.add(gallery[:250])
    index.add(gallery[250:])
    index.save(tmp_path)
    stored = index.reconstruct(np.arange(600))
    for held in (index, fh.RescoringIndex.load(tmp_path)):
        assert held.level_bits == LEVELS
        found = held.search(queries, 5, rescore_multiplier=3, keep=keep, keep_mode=keep_mode)
        # Codes are those of the floats, scores those of the stored vectors.
        close = expected_ids(gallery, queries, 5, 3, keep, keep_mode)
        if dtype == "float32":
            np.testing.assert_array_equal(found.ids, close)
        assert np.mean([np.isin(a, b).mean() for a, b in zip(close, found.ids, strict=True)]) > 0.97
        cosines = np.einsum("ij,ikj->ik", queries, stored[found.ids]) / np.linalg.norm(queries, axis=1)[:, None]
        np.testing.assert_allclose(found.scores, cosines, atol=1e-5)


def test_a_share_prunes_and_1_is_exact():
    gallery, queries = embeddings(2000), embeddings(50, seed=1)
    index = fh.RescoringIndex(N_DIMS, level_bits=LEVELS)
    index.add(gallery)
    exact = index.search(queries, 10).ids
    np.testing.assert_array_equal(index.search(queries, 10, keep=1).ids, exact)
    shares = [np.mean(index.search(queries, 10, keep=keep).ids == exact) for keep in (0.001, 0.05, 0.5)]
    assert shares[0] < 1
    assert shares[0] <= shares[1] <= shares[2]


def test_levels_with_a_filter_and_after_changes():
    gallery, queries = embeddings(400), embeddings(20, seed=1)
    index = fh.RescoringIndex(N_DIMS, dtype="float32", level_bits=LEVELS)
    index.add(gallery[:300])
    index.search(queries, 5, keep=0.1)  # builds the tree
    index.remove(np.arange(0, 300, 3))
    index.add(gallery[300:], ids=np.arange(300, 400))
    left = np.setdiff1d(np.arange(400), np.arange(0, 300, 3))
    expected = left[expected_ids(gallery[left], queries, 5, 4, 0.1, "node_ratio")]
    np.testing.assert_array_equal(index.search(queries, 5, keep=0.1).ids, expected)
    allowed = left[::2]
    found = index.search(queries, 5, keep=0.5, allow=allowed).ids
    assert np.isin(found, allowed).all()


@pytest.mark.parametrize("ids", [np.arange(90), np.arange(90) - 40, np.arange(90) * 2 + 7, np.r_[0:50, 60:100]])
def test_rows_of_ids_with_and_without_gaps(ids):
    ids = np.where(ids == -1, 1000, ids)
    index = fh.RescoringIndex(N_DIMS, dtype="float32")
    index.add(embeddings(90), ids[::-1].copy())
    given = np.random.default_rng(0).permutation(ids)
    expected = embeddings(90)[::-1][np.argsort(ids)][np.searchsorted(np.sort(ids), given)]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(index.reconstruct(given), expected, atol=1e-6)
    found = index.search(expected, 1)
    np.testing.assert_array_equal(found.ids[:, 0], given)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"keep": 0}, ValueError, "keep must be"),
        ({"keep": 1.5}, ValueError, "keep must be"),
        ({"keep": "half"}, TypeError, "keep must be"),
        ({"keep": 0.5, "keep_mode": "share"}, ValueError, "keep_mode must be one of"),
        ({"keep_mode": "share"}, ValueError, "keep_mode must be one of"),
    ],
)
def test_what_is_no_share(options, error, message):
    index = fh.RescoringIndex(N_DIMS, level_bits=LEVELS)
    for n in (0, 20):
        index.add(embeddings(n))
        with pytest.raises(error, match=f"^{message}"):
            index.search(embeddings(1), **options)
