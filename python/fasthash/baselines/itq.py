"""Iterative quantisation: rotates the principal components to make them nearly binary."""

from __future__ import annotations

import numpy as np
from numpy.random import RandomState

from fasthash._checks import check_int
from fasthash.baselines.base import Floats, SignBaseline, Training, check_scale, principal_axes, random_rotation

__all__ = ["ITQ"]


class ITQ(SignBaseline):
    """Signs of rotated principal components, `sign((x - mean) P R)`.

    Let V be the first n_bits principal components of the training features, not whitened. The method minimises
    `|B - V R|²` over codes B of -1 and 1 and rotations R in turn: B is the sign of V R, and R solves the orthogonal
    Procrustes problem.

    Gong and Lazebnik, Iterative Quantization: A Procrustean Approach to Learning Binary Codes, CVPR 2011.

    Args:
        n_bits: width of the codes, a multiple of 8 and at most D.
        n_iter: iterations, at least 0; 0 keeps the random rotation.
        random_state: None, int or RandomState, for the initial rotation.

    Attributes:
        projection_: float64 `(D, n_bits)`, P.
        rotation_: float64 `(n_bits, n_bits)`, R, orthogonal.
        objective_: list of float, `|B - V R|²` after each iteration; never rises.
        mean_, n_features_in_: see `Baseline`.

    Raises (in `fit`):
        TypeError: `n_iter` is not an integer.
        ValueError: `n_bits` is above D or not below the number of samples, or `n_iter` is out of range.

    Examples:
        >>> features = np.random.default_rng(0).normal(size=(100, 32))
        >>> itq = ITQ(n_bits=16, random_state=0).fit(features)
        >>> itq.objective_[-1] <= itq.objective_[0]
        True
    """

    projection_: Floats
    rotation_: Floats
    objective_: list[float]

    def __init__(self, n_bits: int = 64, *, n_iter: int = 50, random_state: int | RandomState | None = None) -> None:
        self.n_bits = n_bits
        self.n_iter = n_iter
        self.random_state = random_state

    def learn(self, data: Training) -> None:
        """See `Baseline.fit`."""
        n_iter = check_int("n_iter", self.n_iter, minimum=0)
        n, n_features = data.centred.shape
        if self.n_bits > n_features:
            raise ValueError(f"n_bits must be at most n_features = {n_features}, the columns of X, got {self.n_bits}")
        if n <= self.n_bits:  # n centred samples have n - 1 principal components
            raise ValueError(f"X must hold more samples than n_bits = {self.n_bits}, got n_samples = {n}")

        check_scale(data.centred)
        projection = principal_axes(data.centred, self.n_bits)
        components = data.centred @ projection
        rotation = random_rotation(self.n_bits, data.random)
        objective = []
        for _ in range(n_iter):
            codes = np.where(components @ rotation >= 0, 1.0, -1.0)
            rotation = procrustes(components, codes)
            objective.append(float(((codes - components @ rotation) ** 2).sum()))
        self.projection_, self.rotation_, self.objective_ = projection, rotation, objective

    def project_centred(self, centred: Floats) -> Floats:
        """See `SignBaseline.project`."""
        return centred @ self.projection_ @ self.rotation_


def procrustes(source: Floats, target: Floats) -> Floats:
    """Return the orthogonal R that minimises `|target - source R|²`.

    Schönemann, A Generalized Solution of the Orthogonal Procrustes Problem, Psychometrika 1966.
    """
    left, _, right = np.linalg.svd(source.T @ target)  # source' target = left S right
    return left @ right
