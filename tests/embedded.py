"""Embeddings around few centres, indices of them, and the slow path that scores every vector."""

import itertools

import numpy as np

import fasthash as fh

DTYPES = ["int8", "float16", "float32"]
KINDS = list(itertools.product(DTYPES, ["cosine", "inner_product"]))


def embeddings(n=300, n_dims=40, seed=0):
    """Around few centres, as those of texts are."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((10, n_dims))
    return (centres[rng.integers(0, 10, n)] + 0.7 * rng.standard_normal((n, n_dims))).astype(np.float32)


def brute_force(index, ids, queries, k):
    """The slow path: every stored vector scored one by one, in double precision."""
    vectors = index.reconstruct(ids).astype(np.float64)
    all_scores, all_ids = [], []
    for query in queries.astype(np.float64):
        if index.metric == "cosine":
            query = query / np.sqrt((query**2).sum())
        scores = [float(query @ vector) for vector in vectors]
        best = sorted(range(len(ids)), key=lambda i: (-np.float32(scores[i]), ids[i]))[:k]
        all_scores.append([scores[i] for i in best])
        all_ids.append([ids[i] for i in best])
    return np.array(all_scores), np.array(all_ids)


def filled(dtype="float32", metric="cosine", n=300, ids=None, **options):
    index = fh.RescoringIndex(40, dtype=dtype, metric=metric, **options)
    index.add(embeddings(n), ids)
    return index


def same(found, expected):
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_array_equal(found.scores, expected.scores)
