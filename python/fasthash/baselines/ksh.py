"""Supervised hashing with kernels: learns one bit after the other from labelled pairs."""

from __future__ import annotations

import math

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from fasthash._checks import check_int, check_positive
from fasthash.baselines.base import (
    Floats,
    SupervisedBaseline,
    Training,
    draw_anchors,
    in_blocks,
    rbf,
)

__all__ = ["KSH"]

# Nesterov's method stops when the objective, divided by the number of labelled points, changes by no more than this.
_TOLERANCE = 1e-2
_MAX_DOUBLINGS = 50  # halvings of the step length in one iteration


class KSH(SupervisedBaseline):
    """Signs of kernel functions, fitted greedily to the similarity of labelled pairs.

    Let k(x) be the Gaussian kernels of x and the anchors, centred over the training features. Bit i is the sign of
    `k(x) a_i`. Let K be the kernels of l labelled points and S their similarities (1 if two points share a label, else
    -1). The codes H should minimise `|H H' - n_bits S|²`. The method learns one bit y at a time, with the residue
    Q = n_bits S - (sum of y y' so far):

    1. Relax the sign: a is the leading generalised eigenvector of (K'QK, K'K), scaled to |K a|² = l.
    2. From this a, raise `f'Qf` with f = tanh(K a / 2) by Nesterov's accelerated gradient method with backtracking.
    3. Keep the result of step 1 or 2 with the larger `y'Qy`, y = sign(K a), and subtract y y' from Q.

    Liu, Wang, Ji, Jiang and Chang, Supervised Hashing with Kernels, CVPR 2012; defaults are those of the authors' code.

    Args:
        n_bits: width of the codes, a multiple of 8.
        n_anchors: number of anchors, drawn from the training features; all features if there are fewer.
        n_labelled: the number l of labelled points, drawn from the training features; all features if there are fewer.
        sigma: width of the kernels `exp(-|x - a|² / (2 sigma²))`. None takes the root of the mean squared distance
            between training features and anchors, which suits features of any scale. (The paper calls the square of
            this number sigma.)
        max_iter: largest number of iterations of step 2, at least 0; 0 keeps the eigenvectors.
        random_state: None, int or RandomState, for the anchors and the labelled points.

    Attributes:
        anchors_: float64 `(n_anchors, D)`, minus `mean_`.
        sigma_: the width used.
        kernel_mean_: float64 `(n_anchors,)`, mean kernels of the training features.
        projection_: float64 `(n_anchors, n_bits)`, the columns a_i.
        objective_: list of float, `|Q|² / (n_bits l)²` after each bit; it is 1 before the first bit.
        refined_: bool `(n_bits,)`, true where step 2 gave a better bit than step 1.
        n_iter_: largest number of iterations that step 2 took for a bit.
        mean_, n_features_in_: see `Baseline`.

    Raises (in `fit`):
        TypeError: `y` or an argument of the constructor has the wrong type.
        ValueError: `y` is None or does not fit, the features are all equal, or an argument is out of range.

    Examples:
        >>> features = np.random.default_rng(0).normal(size=(100, 32))
        >>> KSH(n_bits=16, random_state=0).fit(features, features.argmax(axis=1)).encode(features).shape
        (100, 2)
    """

    anchors_: Floats
    sigma_: float
    kernel_mean_: Floats
    projection_: Floats
    objective_: list[float]
    refined_: NDArray[np.bool_]
    n_iter_: int

    def __init__(
        self,
        n_bits: int = 64,
        *,
        n_anchors: int = 300,
        n_labelled: int = 2000,
        sigma: float | None = None,
        max_iter: int = 500,
        random_state: int | RandomState | None = None,
    ) -> None:
        self.n_bits = n_bits
        self.n_anchors = n_anchors
        self.n_labelled = n_labelled
        self.sigma = sigma
        self.max_iter = max_iter
        self.random_state = random_state

    def learn(self, data: Training) -> None:
        """See `Baseline.fit`."""
        centred, n = data.centred, len(data.centred)
        n_anchors = min(check_int("n_anchors", self.n_anchors, minimum=1), n)
        n_labelled = min(check_int("n_labelled", self.n_labelled, minimum=1), n)
        max_iter = check_int("max_iter", self.max_iter, minimum=0)
        if self.sigma is not None:
            check_positive("sigma", self.sigma)
        targets = self.label_matrix(data)

        anchors, sigma = draw_anchors(data, n_anchors, self.sigma)
        labelled = data.random.permutation(n)[:n_labelled]
        kernel_mean = in_blocks(lambda block: rbf(block, anchors, sigma).sum(axis=0, keepdims=True), centred)
        kernel_mean = kernel_mean.sum(axis=0) / n
        kernels = rbf(centred[labelled], anchors, sigma) - kernel_mean
        if not kernels.any():
            raise ValueError(f"sigma must tell features from anchors, but with sigma = {sigma} all kernels are equal")

        # In an orthonormal basis of the columns of K, K'K is the identity; in the basis of the anchors it may be
        # singular.
        left, singular, right = np.linalg.svd(kernels, full_matrices=False)
        regular = singular > singular[0] * max(kernels.shape) * np.finfo(np.float64).eps
        basis, to_anchors = left[:, regular], right[regular].T / singular[regular]
        residue = _Residue(targets[labelled], self.n_bits)
        columns, objective, refined, n_iter = [], [], [], 0
        for _ in range(self.n_bits):
            leading = np.linalg.eigh(basis.T @ residue.times(basis))[1][:, -1]
            relaxed = to_anchors @ leading * math.sqrt(n_labelled)
            climbed, n_taken = _refine(kernels, residue, relaxed, max_iter)
            candidates, n_iter = (relaxed, climbed), max(n_iter, n_taken)
            bits = [np.where(kernels @ a >= 0, 1.0, -1.0) for a in candidates]
            best = int(residue.form(bits[1]) > residue.form(bits[0]))
            residue.deflate(bits[best])
            columns.append(candidates[best])
            refined.append(best == 1)
            objective.append(residue.squared_norm / (self.n_bits * n_labelled) ** 2)

        self.anchors_, self.sigma_, self.kernel_mean_ = anchors, float(sigma), kernel_mean
        self.projection_ = np.stack(columns, axis=1)
        self.objective_, self.refined_, self.n_iter_ = objective, np.array(refined), n_iter

    def project_centred(self, centred: Floats) -> Floats:
        """See `SignBaseline.project`."""
        return (rbf(centred, self.anchors_, self.sigma_) - self.kernel_mean_) @ self.projection_


class _Residue:
    """Q = n_bits S - (sum of y y') in factored form: S by distinct sets of labels, the sum by its bits y.

    Q = M' C M, where the rows of M are the members of each set, zeros and ones, and then the bits.
    """

    def __init__(self, targets: Floats, n_bits: int) -> None:
        sets, group = np.unique(targets, axis=0, return_inverse=True)
        self._similarity = n_bits * np.where(sets @ sets.T > 0, 1.0, -1.0)
        self._n_rows = len(sets)
        self._rows = np.empty((len(sets) + n_bits, len(targets)))
        self._rows[: len(sets)] = group.reshape(-1) == np.arange(len(sets))[:, None]  # numpy 2.0 gave it a second axis
        self.squared_norm = float((n_bits * len(targets)) ** 2)

    def sums(self, x: Floats) -> tuple[Floats, Floats]:
        """Compute M x and C M x for a vector `(l,)` or a matrix `(l, m)`."""
        sums = self._rows[: self._n_rows] @ x
        weighted = -sums
        weighted[: len(self._similarity)] = self._similarity @ sums[: len(self._similarity)]
        return sums, weighted

    def times(self, x: Floats) -> Floats:
        """Compute Q x for a vector `(l,)` or a matrix `(l, m)`."""
        return self._rows[: self._n_rows].T @ self.sums(x)[1]

    def form(self, x: Floats) -> float:
        """Compute x'Qx for a vector `(l,)`."""
        sums, weighted = self.sums(x)
        return float(sums @ weighted)

    def form_and_product(self, x: Floats) -> tuple[float, Floats]:
        """Compute x'Qx and Q x for a vector `(l,)`."""
        sums, weighted = self.sums(x)
        return float(sums @ weighted), weighted @ self._rows[: self._n_rows]

    def deflate(self, bit: Floats) -> None:
        """Subtract y y' from Q, for a bit y of -1 and 1."""
        self.squared_norm += len(bit) ** 2 - 2 * self.form(bit)
        self._rows[self._n_rows] = bit
        self._n_rows += 1


def _refine(kernels: Floats, residue: _Residue, start: Floats, max_iter: int) -> tuple[Floats, int]:
    """Lower -f'Qf, f = tanh(K a / 2), starting from `start`; return a and the number of iterations.

    Nesterov, A Method of Solving a Convex Programming Problem with Convergence Rate O(1/k²), 1983. A product with K
    costs most of the time. Points of the method are sums of earlier points and of gradients, so their products are sums
    of earlier products, and an iteration needs two new ones: of K' for the gradient g, and K g.
    """

    def squashed(product: Floats) -> Floats:
        f: Floats = np.tanh(product / 2)
        return f

    previous = current = start
    of_previous = of_current = kernels @ start  # products with K
    value = -residue.form(squashed(of_current))
    momentum_before, momentum = 0.0, 1.0
    curvature = 1.0  # inverse step length
    n_iter = 0
    while n_iter < max_iter:
        n_iter += 1
        weight = (momentum_before - 1) / momentum
        ahead = current + weight * (current - previous)
        of_ahead = of_current + weight * (of_current - of_previous)
        f = squashed(of_ahead)
        form_ahead, product = residue.form_and_product(f)
        gradient = -((1 - f**2) * product) @ kernels
        of_gradient = kernels @ gradient
        slope = float(gradient @ gradient)
        for _ in range(_MAX_DOUBLINGS):
            candidate, of_candidate = ahead - gradient / curvature, of_ahead - of_gradient / curvature
            new_value = -residue.form(squashed(of_candidate))
            if new_value <= -form_ahead - slope / (2 * curvature):
                break
            curvature *= 2
        else:
            break  # no step lowers the objective
        previous, current = current, candidate
        of_previous, of_current = of_current, of_candidate
        momentum_before, momentum = momentum, (1 + math.sqrt(1 + 4 * momentum**2)) / 2
        change, value = abs(new_value - value), new_value
        if change / len(kernels) <= _TOLERANCE:
            break
    return current, n_iter
