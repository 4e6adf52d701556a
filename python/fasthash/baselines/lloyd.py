"""Lloyd's method and nearest centroids, for `OPQ`: float32 screens, float64 decides; results are those of float64.

`nearest_in_float64` and `lloyd_in_float64` are the slow paths, to which tests hold the fast ones equal.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from fasthash.baselines.base import Floats, in_blocks, squared_distances

__all__ = ["lloyd", "lloyd_in_float64", "nearest_centroids", "nearest_in_float64"]

_CACHED = 512  # points whose scores for 256 centroids fit the second-level cache
_FEW = 0.3  # share of changed centroids up to which the others are not compared again

Numbers = NDArray[np.int64]


def nearest_centroids(points: Floats, centroids: Floats) -> Numbers:
    """Return the number of the nearest centroid of each point; the smallest number on a tie."""
    return _Points(points).nearest(centroids)


def lloyd(points: Floats, centroids: Floats, n_iter: int) -> tuple[Floats, Numbers]:
    """Improve centroids by iterations of Lloyd's method; the error of the points never rises.

    Returns:
        The centroids, and the number of the nearest of them for each point.
    """
    screened = _Points(points)
    nearest = screened.nearest(centroids)
    for _ in range(n_iter):
        moved = _means(points, nearest, centroids)
        changed = (moved != centroids).any(axis=1)
        if not changed.any():
            break  # nothing would change any more
        centroids = moved
        screened.update(nearest, centroids, changed)
    return centroids, nearest


def nearest_in_float64(points: Floats, centroids: Floats) -> Numbers:
    """Return the same as `nearest_centroids`, from all distances."""
    return in_blocks(lambda block: squared_distances(block, centroids).argmin(axis=1), points)


def lloyd_in_float64(points: Floats, centroids: Floats, n_iter: int) -> tuple[Floats, Numbers]:
    """Return the same as `lloyd`, from all distances in every iteration."""
    for _ in range(n_iter):
        centroids = _means(points, nearest_in_float64(points, centroids), centroids)
    return centroids, nearest_in_float64(points, centroids)


def _means(points: Floats, nearest: Numbers, centroids: Floats) -> Floats:
    """Return the mean of the points of each centroid."""
    sizes = np.bincount(nearest, minlength=len(centroids))
    # One row for each point: the product sums the points of a centroid in their order.
    rows = np.arange(len(points) + 1)
    members = csr_matrix((np.ones(len(points)), nearest, rows), shape=(len(points), len(centroids)))
    means: Floats = (members.T @ points) / np.maximum(sizes, 1)[:, None]
    # Move a centroid without points to the point with the largest error, which cannot raise the error.
    empty = np.flatnonzero(sizes == 0)
    if len(empty):
        errors = ((points - centroids[nearest]) ** 2).sum(axis=1)
        means[empty] = points[np.argsort(-errors, kind="stable")[: len(empty)]]
    return means


class _Points:
    """Points in float32, whose scores find the nearest centroids up to rounding.

    The score of point x and centroid c is |c|² - 2 x c, which is |x - c|² less what is the same for all c.
    """

    def __init__(self, points: Floats) -> None:
        self._points = points
        self._longest = _longest(points)
        self._rows = np.ones((len(points), points.shape[1] + 1), np.float32)
        if 0 < self._longest < 1e12:
            self._rows[:, :-1] = points

    def nearest(self, centroids: Floats, chosen: Numbers | None = None) -> Numbers:
        """Return the nearest centroid of all points, or of those with the numbers `chosen`."""
        points = self._points if chosen is None else self._points[chosen]
        rows = self._rows if chosen is None else self._rows[chosen]
        margin = self._margin(centroids)
        if margin is None:
            return nearest_in_float64(points, centroids)
        tables = _tables(centroids).T
        nearest = np.empty(len(points), np.int64)
        for start in range(0, len(points), _CACHED):
            block = slice(start, start + _CACHED)
            scores = rows[block] @ tables
            best = nearest[block] = scores.argmin(axis=1)
            close = scores <= scores[np.arange(len(best)), best, None] + margin
            if np.count_nonzero(close) > len(best):  # more than each nearest itself
                unclear = start + np.flatnonzero(close.sum(axis=1) > 1)
                nearest[unclear] = nearest_in_float64(points[unclear], centroids)
        return nearest

    def update(self, nearest: Numbers, centroids: Floats, changed: NDArray[np.bool_]) -> None:
        """Bring `nearest` up to date after some centroids changed; late iterations change few."""
        margin = self._margin(centroids)
        if margin is None or changed.mean() > _FEW:
            nearest[:] = self.nearest(centroids)
            return
        tables = _tables(centroids)
        stale = changed[nearest]
        for start in range(0, len(nearest), _CACHED):
            block = slice(start, start + _CACHED)
            rows = self._rows[block]
            own = np.einsum("ij,ij->i", rows, tables[nearest[block]])
            stale[block] |= (tables[changed] @ rows.T).min(axis=0) <= own + margin
        rest = np.flatnonzero(stale)
        nearest[rest] = self.nearest(centroids, rest)

    def _margin(self, centroids: Floats) -> np.float32 | None:
        """Return more than the rounding of a difference of scores; None if they leave the range of float32."""
        longest = max(self._longest, _longest(centroids))
        if not 1e-12 < longest < 1e12:
            return None
        # Each of D + 1 products and sums rounds at most 3 longest², and so do the inputs; two scores differ.
        return np.float32(6 * (centroids.shape[1] + 3) * np.finfo(np.float32).eps * longest**2)


def _tables(centroids: Floats) -> NDArray[np.float32]:
    """Return rows (-2 c, |c|²), whose products with (x, 1) are scores."""
    return np.column_stack((-2 * centroids, (centroids**2).sum(axis=1))).astype(np.float32)


def _longest(vectors: Floats) -> float:
    return math.sqrt(np.einsum("ij,ij->i", vectors, vectors).max(initial=0))
