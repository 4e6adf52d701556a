"""Optimised product quantisation: a rotation, and a small codebook for each part of the rotated features."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.random import RandomState
from numpy.typing import ArrayLike, NDArray

from fasthash._checks import check_codes, check_int
from fasthash.baselines.base import Baseline, Floats, Training, in_blocks, random_rotation, squared_distances
from fasthash.baselines.itq import procrustes

__all__ = ["OPQ"]

_MAX_CENTROIDS = 256  # of a part: one byte
_FIRST_LLOYD, _LLOYD = 40, 4  # iterations on the first rotation, and on each later one


class OPQ(Baseline):
    """Bytes that name the nearest centroid of each part of a rotated feature; no Hamming codes.

    The centred features are rotated and cut into n_bits / 8 parts, each with up to 256 centroids, and a code holds one
    byte for each part. Rotation and centroids minimise the squared distance of the features from their reconstruction
    in turn: the centroids by Lloyd's method, from those of the round before; the rotation as an orthogonal Procrustes
    problem. Distances of queries, which are not encoded, are real numbers, read from a table for each part: that is
    what `search` does.

    Where D is no multiple of the number of parts, the first D mod (n_bits / 8) parts have one dimension more.

    Ge, He, Ke and Sun, Optimized Product Quantization for Approximate Nearest Neighbor Search, CVPR 2013 (the
    non-parametric form); Jégou, Douze and Schmid, Product Quantization for Nearest Neighbor Search, TPAMI 2011.

    Args:
        n_bits: width of the codes, a multiple of 8, and at most 8 D.
        n_iter: rounds, at least 1; training ends before where a round gains nothing.
        n_train: training features that are used, drawn from all; all of them where there are fewer.
        random_state: None, int or RandomState; draws the features used, the first rotation and the first centroids.

    Attributes:
        rotation_: float64 `(D, D)`, orthogonal.
        centroids_: list of float64 `(min(256, n), d)`, one array for each part; n training features were used.
        distortion_: list of float, the mean squared distance of the features used from their reconstruction after each
            round; always falls.
        mean_, n_features_in_: see `Baseline`.

    Raises (in `fit`):
        TypeError: an argument of the constructor has the wrong type.
        ValueError: there are more parts than dimensions, or an argument is out of range.

    Examples:
        >>> features = np.random.default_rng(0).normal(size=(1000, 32))
        >>> opq = OPQ(n_bits=16, random_state=0).fit(features)
        >>> distances, ids = opq.search(features[:3], opq.encode(features), k=10)
    """

    rotation_: Floats
    centroids_: list[Floats]
    distortion_: list[float]

    def __init__(
        self,
        n_bits: int = 64,
        *,
        n_iter: int = 50,
        n_train: int = 65_536,
        random_state: int | RandomState | None = None,
    ) -> None:
        self.n_bits = n_bits
        self.n_iter = n_iter
        self.n_train = n_train
        self.random_state = random_state

    def learn(self, data: Training) -> None:
        """See `Baseline.fit`."""
        n_iter = check_int("n_iter", self.n_iter, minimum=1)
        n_train = check_int("n_train", self.n_train, minimum=1)
        n, n_features = data.centred.shape
        n_parts = self.n_bits // 8
        if n_parts > n_features:
            raise ValueError(f"n_bits must be at most 8 * n_features, n_features = {n_features}, got {self.n_bits}")

        used = data.centred[data.random.permutation(n)[:n_train]]
        rotation = random_rotation(n_features, data.random)
        first = data.random.permutation(len(used))[:_MAX_CENTROIDS]
        centroids = np.array_split(used[first] @ rotation, n_parts, axis=1)
        distortion: list[float] = []
        for _ in range(n_iter):
            parts = np.array_split(used @ rotation, n_parts, axis=1)
            n_lloyd = _LLOYD if distortion else _FIRST_LLOYD
            centroids = [_lloyd(*pair, n_lloyd) for pair in zip(parts, centroids, strict=True)]
            nearest = [c[_nearest(part, c)] for part, c in zip(parts, centroids, strict=True)]
            error = sum(float(((part - c) ** 2).sum()) for part, c in zip(parts, nearest, strict=True)) / len(used)
            if distortion and error >= distortion[-1]:  # only rounding can raise it
                break
            distortion.append(error)
            best = rotation, centroids
            rotation = procrustes(used, np.concatenate(nearest, axis=1))
        (self.rotation_, self.centroids_), self.distortion_ = best, distortion

    def encode_centred(self, centred: Floats) -> NDArray[np.uint8]:
        """See `Baseline.encode`."""
        pairs = zip(self._parts(centred), self.centroids_, strict=True)
        return np.stack([_nearest(*pair) for pair in pairs], axis=1).astype(np.uint8)

    def distances(self, queries: ArrayLike, codes: ArrayLike) -> NDArray[np.float32]:
        """Squared Euclidean distances of queries from the reconstructions of codes.

        Args:
            queries: features `(nq, D)` as of `fit`.
            codes: uint8 `(n, n_bits / 8)`, from `encode`.

        Returns:
            float32 `(nq, n)`.

        Raises:
            NotFittedError: `fit` was not called.
            TypeError: an array has another dtype.
            ValueError: a shape does not fit, a feature is not finite, or a code names a centroid that there is not.
        """
        rows = list(self._distances(queries, codes))
        return np.stack(rows) if rows else np.zeros((0, len(np.asarray(codes))), np.float32)

    def search(self, queries: ArrayLike, codes: ArrayLike, k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The k codes nearest to each query, exactly, by the distances of `distances`.

        Args:
            queries: features `(nq, D)` as of `fit`.
            codes: uint8 `(n, n_bits / 8)`, from `encode`.
            k: from 1 to n.

        Returns:
            Distances, float32 `(nq, k)`, and ids, int64 `(nq, k)`: the rows of `codes`, ordered by (distance, id).

        Raises:
            NotFittedError: `fit` was not called.
            TypeError: an array has another dtype, or `k` is no integer.
            ValueError: a shape does not fit, a feature is not finite, a code names a centroid that there is not, or `k`
                is out of range.
        """
        rows = self._distances(queries, codes)
        k = check_int("k", k, minimum=1, maximum=len(np.asarray(codes)))
        found = [(row, _smallest(row, k)) for row in rows]
        ids = np.array([ids for _, ids in found], dtype=np.int64).reshape(-1, k)
        return np.array([row[ids] for row, ids in found], dtype=np.float32).reshape(-1, k), ids

    def _distances(self, queries: ArrayLike, codes: ArrayLike) -> Iterator[NDArray[np.float32]]:
        """Distances of one query after the other, `(n,)`; arguments are checked at once."""
        tables = self._centred_blocks(self._tables, queries)
        columns = check_codes("codes", codes, len(self.centroids_)).T.copy()
        n_centroids = len(self.centroids_[0])
        if columns.size and columns.max() >= n_centroids:
            raise ValueError(f"codes must be below the {n_centroids} centroids of a part, found {columns.max()}")
        # Summed in float64 and rounded once, so that a distance does not depend on the order of the parts.
        return (sum(map(np.take, table, columns)).astype(np.float32) for table in tables)

    def _tables(self, centred: Floats) -> Floats:
        """Squared distances `(nq, parts, centroids)` of each part of queries from the centroids of this part."""
        pairs = zip(self._parts(centred), self.centroids_, strict=True)
        return np.stack([squared_distances(*pair) for pair in pairs], axis=1)

    def _parts(self, centred: Floats) -> list[Floats]:
        return np.array_split(centred @ self.rotation_, len(self.centroids_), axis=1)


def _lloyd(points: Floats, centroids: Floats, n_iter: int) -> Floats:
    """Centroids after some iterations of Lloyd's method; the error of the points never rises."""
    for _ in range(n_iter):
        nearest = _nearest(points, centroids)
        sizes = np.bincount(nearest, minlength=len(centroids))
        sums = np.stack([np.bincount(nearest, column, len(centroids)) for column in points.T], axis=1)
        # A centroid that no point is near to goes where the error is largest: it cannot make it larger.
        empty = np.flatnonzero(sizes == 0)
        moved = sums / np.maximum(sizes, 1)[:, None]
        if len(empty):
            errors = ((points - centroids[nearest]) ** 2).sum(axis=1)
            moved[empty] = points[np.argsort(-errors, kind="stable")[: len(empty)]]
        centroids = moved
    return centroids


def _nearest(points: Floats, centroids: Floats) -> NDArray[np.int64]:
    """The centroid nearest to each point, the first of several."""
    return in_blocks(lambda block: squared_distances(block, centroids).argmin(axis=1), points)


def _smallest(row: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Positions of the k smallest values, ordered by (value, position)."""
    candidates = np.flatnonzero(row <= np.partition(row, k - 1)[k - 1])
    return candidates[np.argsort(row[candidates], kind="stable")[:k]]
