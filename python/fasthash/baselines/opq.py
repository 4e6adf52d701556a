"""Optimised product quantisation: a rotation, and a small codebook for each subspace of the rotated features."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.random import RandomState
from numpy.typing import ArrayLike, NDArray

from fasthash._checks import check_codes, check_int
from fasthash.baselines.base import Baseline, Floats, Training, check_scale, random_rotation, squared_distances
from fasthash.baselines.itq import procrustes
from fasthash.baselines.lloyd import lloyd, nearest_centroids

__all__ = ["OPQ"]

_MAX_CENTROIDS = 256  # per part, so that the number of a centroid fits a byte
_FIRST_LLOYD, _LLOYD = 40, 4  # iterations for the first rotation, and for each later one


class OPQ(Baseline):
    """Codes of centroid numbers, one byte for each part of a rotated feature; not Hamming codes.

    The centred features are rotated and divided into n_bits / 8 parts with up to 256 centroids each. A code holds one
    byte for each part: the number of the nearest centroid. Training minimises the squared distance of the features from
    their reconstruction over centroids and rotation in turn: centroids by Lloyd's method, starting from those of the
    previous round; the rotation as an orthogonal Procrustes problem. `search` does not encode queries: it computes
    real-valued distances with one lookup table for each part.

    If D is not a multiple of the number of parts, the first D mod (n_bits / 8) parts have one dimension more.

    Ge, He, Ke and Sun, Optimized Product Quantization for Approximate Nearest Neighbor Search, CVPR 2013 (the
    non-parametric form); Jégou, Douze and Schmid, Product Quantization for Nearest Neighbor Search, TPAMI 2011.

    Args:
        n_bits: width of the codes, a multiple of 8, and at most 8 D.
        n_iter: largest number of rounds, at least 1; training stops early if a round does not lower the error.
        n_train: number of training features to use, drawn at random; all features if there are fewer.
        random_state: None, int or RandomState, for the features used, the initial rotation and the initial centroids.

    Attributes:
        rotation_: float64 `(D, D)`, orthogonal.
        centroids_: list of float64 `(min(256, n), d)`, one array for each part, where n is the number of features used.
        distortion_: list of float, the mean squared distance of the features used from their reconstruction after each
            round; strictly decreasing.
        mean_, n_features_in_: see `Baseline`.

    Raises (in `fit`):
        TypeError: an argument of the constructor has the wrong type.
        ValueError: the number of parts exceeds that of dimensions, or an argument is out of range.

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
        n_subspaces = self.n_bits // 8
        if n_subspaces > n_features:
            raise ValueError(f"n_bits must be at most 8 * n_features, n_features = {n_features}, got {self.n_bits}")

        check_scale(data.centred)
        used = data.centred[data.random.permutation(n)[:n_train]]
        rotation = random_rotation(n_features, data.random)
        first = data.random.permutation(len(used))[:_MAX_CENTROIDS]
        centroids = np.array_split(used[first] @ rotation, n_subspaces, axis=1)
        distortion: list[float] = []
        for _ in range(n_iter):
            parts = [part.copy() for part in np.array_split(used @ rotation, n_subspaces, axis=1)]  # rows side by side
            n_lloyd = _LLOYD if distortion else _FIRST_LLOYD
            found = [lloyd(*pair, n_lloyd) for pair in zip(parts, centroids, strict=True)]
            centroids, nearest = [c for c, _ in found], [c[numbers] for c, numbers in found]
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
        return np.stack([nearest_centroids(*pair) for pair in pairs], axis=1).astype(np.uint8)

    def distances(self, queries: ArrayLike, codes: ArrayLike) -> NDArray[np.float32]:
        """Compute squared Euclidean distances of queries from the reconstructions of codes.

        Args:
            queries: features `(nq, D)` as of `fit`.
            codes: uint8 `(n, n_bits / 8)`, from `encode`.

        Returns:
            float32 `(nq, n)`.

        Raises:
            NotFittedError: `fit` was not called.
            TypeError: an array has another dtype.
            ValueError: a shape does not fit, a feature is not finite, or a code names a centroid that does not exist.
        """
        rows = list(self._distances(queries, codes))
        return np.stack(rows) if rows else np.zeros((0, len(np.asarray(codes))), np.float32)

    def search(self, queries: ArrayLike, codes: ArrayLike, k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find the k codes nearest to each query by the distances of `distances`, exactly.

        Args:
            queries: features `(nq, D)` as of `fit`.
            codes: uint8 `(n, n_bits / 8)`, from `encode`.
            k: number of neighbours, from 1 to n.

        Returns:
            Distances, float32 `(nq, k)`, and ids, int64 `(nq, k)`: the rows of `codes`, ordered by (distance, id).

        Raises:
            NotFittedError: `fit` was not called.
            TypeError: an array has another dtype, or `k` is not an integer.
            ValueError: a shape does not fit, a feature is not finite, a code names a centroid that does not exist, or
                `k` is out of range.
        """
        rows = self._distances(queries, codes)
        k = check_int("k", k, minimum=1, maximum=len(np.asarray(codes)))
        nearest = [(row, _smallest(row, k)) for row in rows]
        ids = np.array([ids for _, ids in nearest], dtype=np.int64).reshape(-1, k)
        return np.array([row[ids] for row, ids in nearest], dtype=np.float32).reshape(-1, k), ids

    def _distances(self, queries: ArrayLike, codes: ArrayLike) -> Iterator[NDArray[np.float32]]:
        """Check the arguments, then yield the distances `(n,)` of one query at a time."""
        tables = self._centred_blocks(self._tables, queries)
        columns = check_codes("codes", codes, len(self.centroids_) * 8).T.copy()
        n_centroids = len(self.centroids_[0])
        if columns.size and columns.max() >= n_centroids:
            raise ValueError(f"codes must be below the {n_centroids} centroids of a part, found {columns.max()}")
        # Summed in float64 and rounded once, so that a distance does not depend on the order of the parts.
        return (sum(map(np.take, table, columns)).astype(np.float32) for table in tables)

    def _tables(self, centred: Floats) -> Floats:
        """Compute squared distances `(nq, parts, centroids)` of each part of the queries from its centroids."""
        pairs = zip(self._parts(centred), self.centroids_, strict=True)
        return np.stack([squared_distances(*pair) for pair in pairs], axis=1)

    def _parts(self, centred: Floats) -> list[Floats]:
        return np.array_split(centred @ self.rotation_, len(self.centroids_), axis=1)


def _smallest(row: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Return the positions of the k smallest values, ordered by (value, position)."""
    candidates = np.flatnonzero(row <= np.partition(row, k - 1)[k - 1])
    return candidates[np.argsort(row[candidates], kind="stable")[:k]]
