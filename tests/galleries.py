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
