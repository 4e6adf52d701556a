"""Supervised discrete hashing: learns codes bit by bit, so that a linear classifier predicts labels from codes."""

from __future__ import annotations

import numpy as np
from numpy.random import RandomState

from fasthash._checks import check_int, check_not_negative, check_positive
from fasthash.baselines.base import (
    Floats,
    SupervisedBaseline,
    Training,
    draw_anchors,
    rbf,
)

__all__ = ["SDH"]

_MAX_SWEEPS = 10  # passes over all bits in one B-step


class SDH(SupervisedBaseline):
    """Signs of a kernel regression onto codes that classify well.

    Let F be the Gaussian kernels of the training features and the anchors, and Y the labels as zeros and ones. The
    method minimises

        |Y - B W|² + lambda |W|² + nu (|B - F P|² + delta |P|²)

    over the codes B of -1 and 1, the classifier W and the regression P in turn. W and P are ridge regressions. B is
    computed one column at a time, with the other columns fixed (discrete cyclic coordinate descent). Codes of new
    features are the signs of F P.

    Shen, Shen, Liu and Shen, Supervised Discrete Hashing, CVPR 2015; defaults are those of the authors' code.

    Args:
        n_bits: width of the codes, a multiple of 8.
        n_anchors: number of anchors, drawn from the training features; all features if there are fewer.
        sigma: width of the kernels `exp(-|x - a|² / (2 sigma²))`. None takes the root of the mean squared distance
            between training features and anchors, as `KSH` does; the authors take 0.4 for features of length 1.
        n_iter: rounds of the three steps, at least 1.
        classifier_ridge: lambda, above 0.
        nu: weight of the regression, not negative.
        regression_ridge: delta, above 0.
        random_state: None, int or RandomState, for the anchors and the initial B.

    Attributes:
        anchors_: float64 `(n_anchors, D)`, minus `mean_`.
        sigma_: the width used.
        projection_: float64 `(n_anchors, n_bits)`, P.
        classifier_: float64 `(n_bits, C)`, W.
        objective_: list of float, the objective above after each round; never rises.
        mean_, n_features_in_: see `Baseline`.

    Raises (in `fit`):
        TypeError: `y` or an argument of the constructor has the wrong type.
        ValueError: `y` is None or does not fit, the features are all equal, or an argument is out of range.

    Examples:
        >>> features = np.random.default_rng(0).normal(size=(100, 32))
        >>> SDH(n_bits=16, random_state=0).fit(features, features.argmax(axis=1)).encode(features).shape
        (100, 2)
    """

    anchors_: Floats
    sigma_: float
    projection_: Floats
    classifier_: Floats
    objective_: list[float]

    def __init__(
        self,
        n_bits: int = 64,
        *,
        n_anchors: int = 1000,
        sigma: float | None = None,
        n_iter: int = 5,
        classifier_ridge: float = 1.0,
        nu: float = 1e-5,
        regression_ridge: float = 1e-2,
        random_state: int | RandomState | None = None,
    ) -> None:
        self.n_bits = n_bits
        self.n_anchors = n_anchors
        self.sigma = sigma
        self.n_iter = n_iter
        self.classifier_ridge = classifier_ridge
        self.nu = nu
        self.regression_ridge = regression_ridge
        self.random_state = random_state

    def learn(self, data: Training) -> None:
        """See `Baseline.fit`."""
        centred, n = data.centred, len(data.centred)
        n_anchors = min(check_int("n_anchors", self.n_anchors, minimum=1), n)
        n_iter = check_int("n_iter", self.n_iter, minimum=1)
        classifier_ridge = check_positive("classifier_ridge", self.classifier_ridge)
        nu = check_not_negative("nu", self.nu)
        regression_ridge = check_positive("regression_ridge", self.regression_ridge)
        if self.sigma is not None:
            check_positive("sigma", self.sigma)
        targets = self.label_matrix(data)
        anchors, sigma = draw_anchors(data, n_anchors, self.sigma)

        codes = np.where(data.random.standard_normal((n, self.n_bits)) >= 0, 1.0, -1.0)
        kernels = rbf(centred, anchors, sigma)
        gram = kernels.T @ kernels
        classifier = _ridge(codes.T @ codes, codes.T @ targets, classifier_ridge)
        projection = _ridge(gram, kernels.T @ codes, regression_ridge)
        objective = []
        for _ in range(n_iter):
            pull = targets @ classifier.T + nu * (kernels @ projection)
            codes = _descend(codes, pull, classifier @ classifier.T)
            classifier = _ridge(codes.T @ codes, codes.T @ targets, classifier_ridge)
            projection = _ridge(gram, kernels.T @ codes, regression_ridge)
            errors = ((targets - codes @ classifier) ** 2).sum() + classifier_ridge * (classifier**2).sum()
            errors += nu * (((codes - kernels @ projection) ** 2).sum() + regression_ridge * (projection**2).sum())
            objective.append(float(errors))

        self.anchors_, self.sigma_ = anchors, float(sigma)
        self.projection_, self.classifier_, self.objective_ = projection, classifier, objective

    def project_centred(self, centred: Floats) -> Floats:
        """See `SignBaseline.project`."""
        return rbf(centred, self.anchors_, self.sigma_) @ self.projection_


def _ridge(gram: Floats, product: Floats, ridge: float) -> Floats:
    """Return the regression X that minimises `|T - A X|² + ridge |X|²`, given A'A and A'T."""
    return np.asarray(np.linalg.solve(gram + ridge * np.eye(len(gram)), product), np.float64)


def _descend(codes: Floats, pull: Floats, coupling: Floats) -> Floats:
    """Lower `tr(B coupling B') - 2 tr(B pull')` over B of -1 and 1, one column at a time, until no bit changes.

    With the other columns fixed, the objective is linear in a column. So its optimum is the sign of its coefficients.
    """
    codes = codes.copy()
    for _ in range(_MAX_SWEEPS):
        before = codes.copy()
        for bit in range(codes.shape[1]):
            others = codes @ coupling[:, bit] - codes[:, bit] * coupling[bit, bit]
            codes[:, bit] = np.where(pull[:, bit] - others >= 0, 1.0, -1.0)
        if np.array_equal(codes, before):
            break
    return codes
