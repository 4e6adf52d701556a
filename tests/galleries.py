"""Galleries of every kind that a search has to cope with."""

from __future__ import annotations

import numpy as np


def uniform(rng, n, n_bytes):
    return rng.integers(0, 256, (n, n_bytes), dtype=np.uint8)


def clustered(rng, n, n_bytes, n_centres=5, flip=0.05):
    """Learned-like: a random centre with every bit flipped independently."""
    centres = uniform(rng, n_centres, n_bytes)
    noise = np.packbits(rng.random((n, n_bytes * 8)) < flip, axis=1)
    return centres[rng.integers(0, n_centres, n)] ^ noise


def duplicated(rng, n, n_bytes):
    """Few distinct codes, so that ties decide almost everything."""
    return uniform(rng, 3, n_bytes)[rng.integers(0, 3, n)]


def constant(rng, n, n_bytes):
    return np.repeat(uniform(rng, 1, n_bytes), n, axis=0)


GALLERIES = {"uniform": uniform, "clustered": clustered, "duplicated": duplicated, "constant": constant}


# ---- sets of bits, for searches by Jaccard distance ----


def sparse(rng, n, n_bits, share=0.05):
    """Codes whose numbers of bits set vary much, some of them equal, one empty and one full."""
    shares = np.clip(rng.gamma(4, share / 4, n), 0, 1)
    codes = np.packbits(rng.random((n, n_bits)) < shares[:, None], axis=1)
    codes[rng.integers(0, n, n // 10)] = codes[0]
    codes[n // 2], codes[n // 3] = 0, 255
    return codes


def queries_for(rng, codes):
    """Codes, codes with a few bits changed, an empty and a full one, and others."""
    changed = codes[rng.integers(0, len(codes), 6)].copy()
    changed[np.arange(6), rng.integers(0, codes.shape[1], 6)] ^= np.uint8(0x12)
    others = sparse(rng, 4, codes.shape[1] * 8, 0.3)
    return np.concatenate([codes[:2], changed, others, np.zeros_like(codes[:1]), np.full_like(codes[:1], 255)])
