"""The slow path a student can check: what the engine must return, in plain numpy."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

BITS_SET = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1).astype(np.int32)


def hamming(queries, codes):
    """Distances (nq, n) of packed codes."""
    return BITS_SET[queries[:, None, :] ^ codes[None, :, :]].sum(axis=2, dtype=np.int32)


def jaccard(queries, codes):
    """Jaccard distances (nq, n), float64, in which unequal fractions of numbers up to 4096 differ."""
    n_set, n_set_of_code = (BITS_SET[each].sum(axis=1, dtype=np.int64) for each in (queries, codes))
    shared = BITS_SET[queries[:, None, :] & codes[None, :, :]].sum(axis=2, dtype=np.int64)
    united = n_set[:, None] + n_set_of_code - shared
    return (united - shared) / np.maximum(united, 1)


def jaccard_search(queries, codes, ids, k):
    distances = np.full((len(queries), k), np.inf, dtype=np.float32)
    found = np.full((len(queries), k), -1, dtype=np.int64)
    for q, row in enumerate(jaccard(queries, codes)):
        order = np.lexsort((ids, row))[:k]
        distances[q, : len(order)], found[q, : len(order)] = row[order], ids[order]
    return distances, found


def rank(distances, ids, k, n_bits):
    """The k smallest (distance, id) pairs, padded."""
    order = np.lexsort((ids, distances))[:k]
    short = k - len(order)
    return (
        np.concatenate([distances[order], np.full(short, n_bits + 1)]).astype(np.int32),
        np.concatenate([ids[order], np.full(short, -1)]).astype(np.int64),
    )


def search(queries, codes, ids, k):
    n_bits = codes.shape[1] * 8
    rows = [rank(row, ids, k, n_bits) for row in hamming(queries, codes)]
    return _stack(rows, k)


def range_search(queries, codes, ids, radius):
    """All within a radius: offsets (nq + 1,), then distances and ids of all queries, one after the other."""
    n_bits = codes.shape[1] * 8
    rows = [rank(row, ids, int((row <= min(radius, n_bits)).sum()), n_bits) for row in hamming(queries, codes)]
    offsets = np.cumsum([0, *(len(distances) for distances, _ in rows)], dtype=np.int64)
    distances = np.concatenate([np.zeros(0, np.int32), *(row[0] for row in rows)])
    return offsets, distances, np.concatenate([np.zeros(0, np.int64), *(row[1] for row in rows)])


def count_within(queries, codes, radius):
    return (hamming(queries, codes) <= min(radius, codes.shape[1] * 8)).sum(axis=1, dtype=np.int64)


def allowed(codes, ids, allow):
    """What a filter leaves of codes and ids; `allow` holds ids, or is a mask of them."""
    allow = np.asarray(allow)
    kept = np.isin(ids, np.flatnonzero(allow) if allow.dtype == bool else allow)
    return codes[kept], ids[kept]


def pruned_search(queries, codes, ids, k, level_bits, keep, keep_mode):
    """HDHash's coarse-to-fine search as the documentation of `HierIndex.search` words it.

    Also returns how many distinct codes were compared for each query.
    """
    n_bits = sum(level_bits)
    rows, compared = [], []
    for query in queries:
        alive = np.ones(len(codes), dtype=bool)
        end = 0
        for bits in level_bits[:-1]:
            begin, end = end, end + bits // 8
            if not alive.any():
                break
            so_far = hamming(query[None, :end], codes[:, :end])[0]
            on_level = hamming(query[None, begin:end], codes[:, begin:end])[0]
            score = on_level if keep_mode == "radius" else so_far
            # One node per distinct prefix; all codes of a node have the same score.
            _, first, size = np.unique(codes[alive, :end], axis=0, return_index=True, return_counts=True)
            node_score = score[alive][first]
            if keep_mode == "radius":
                cut = math.floor(Fraction(str(keep)) * bits)
            else:
                weight = np.ones_like(size) if keep_mode == "node_ratio" else size
                total = len(size) if keep_mode == "node_ratio" else len(codes)
                cut = _reach(node_score, weight, math.ceil(Fraction(str(keep)) * total))
            cut = max(cut, _reach(node_score, size, min(k, len(codes))))
            alive &= score <= cut
        rows.append(rank(hamming(query[None], codes[alive])[0], ids[alive], k, n_bits))
        compared.append(len(np.unique(codes[alive], axis=0)))
    return (*_stack(rows, k), np.array(compared, dtype=np.int64))


def _reach(scores, weights, needed):
    """Smallest score up to which the weights sum to what is needed, the largest score if they never do."""
    for score in np.unique(scores):
        if weights[scores <= score].sum() >= needed:
            return score
    return scores.max()


def _stack(rows, k):
    distances = np.array([row[0] for row in rows], dtype=np.int32).reshape(-1, k)
    ids = np.array([row[1] for row in rows], dtype=np.int64).reshape(-1, k)
    return distances, ids
