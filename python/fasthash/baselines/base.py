"""The contract of all baselines, and the few steps that several of them share."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.random import RandomState
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from fasthash._checks import as_array, check_width
from fasthash.codes import sign_codes

__all__ = [
    "Baseline",
    "Floats",
    "SignBaseline",
    "Training",
    "check_features",
    "check_varied",
    "in_blocks",
    "label_matrix",
    "mean_distance",
    "principal_axes",
    "random_rotation",
    "rbf",
    "squared_distances",
]

Floats = NDArray[np.float64]
AnyBaseline = TypeVar("AnyBaseline", bound="Baseline")

# Rows that are computed at a time, so that what lies between features and codes stays small.
_BLOCK = 4096


class Training(NamedTuple):
    """What a baseline learns from."""

    centred: Floats  # features less their mean, (n, D), n at least 1
    mean: Floats  # (D,)
    labels: ArrayLike | None  # as given; `label_matrix` checks them
    random: RandomState


class Baseline(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """Codes from features, learned by `fit`.

    As scikit-learn has it, the constructor only stores its arguments, and `fit` checks them; what was learned is in
    attributes that end with an underscore. All is computed in float64, so that float32 features and their copy in
    float64 have the same codes. A subclass implements `learn` and `encode_centred`.

    Attributes:
        mean_: float64 `(D,)`, mean of the training features, subtracted from all features.
        n_features_in_: D.
    """

    n_bits: int
    random_state: int | RandomState | None
    mean_: Floats
    n_features_in_: int

    def fit(self: AnyBaseline, features: ArrayLike, labels: ArrayLike | None = None) -> AnyBaseline:
        """Learn from features.

        Args:
            features: float32 or float64 `(n, D)`, finite.
            labels: integer `(n,)` classes, or multi-hot `(n, C)` of zeros and ones, C at least 2; two items are similar
                where they share a label. Methods that learn without labels do not look at them.

        Returns:
            The estimator itself.

        Raises:
            TypeError: an array has another dtype, or an argument of the constructor has the wrong type.
            ValueError: a shape does not fit, a feature is not finite, there are too few samples, labels are needed but
                None, or an argument of the constructor is out of range.
        """
        check_width("n_bits", self.n_bits)
        array = check_features("features", features)
        if len(array) == 0:
            raise ValueError(f"features must hold at least 1 sample, got shape {array.shape}")
        try:
            random = check_random_state(self.random_state)
        except ValueError as error:
            raise ValueError(
                f"random_state must be None, an int from 0 to 2**32 - 1 or a RandomState, got {self.random_state!r}"
            ) from error
        mean = array.mean(axis=0, dtype=np.float64)
        self.learn(Training(array - mean, mean, labels, random))
        self.mean_ = mean
        self.n_features_in_ = array.shape[1]
        return self

    def encode(self, features: ArrayLike) -> NDArray[np.uint8]:
        """Codes of features.

        Args:
            features: float32 or float64 `(n, D)`, finite; n may be 0.

        Returns:
            uint8 `(n, n_bits / 8)`.

        Raises:
            NotFittedError: `fit` was not called.
            TypeError: `features` has another dtype.
            ValueError: the shape does not fit, or a feature is not finite.
        """
        return self._centred_blocks(self.encode_centred, features)

    def transform(self, features: ArrayLike) -> NDArray[np.uint8]:
        """`encode` under the name that a scikit-learn pipeline calls, for `HammingNeighbors(packed=True)`."""
        return self.encode(features)

    def learn(self, data: Training) -> None:
        """Learn from checked features. Other checks come first: a refused call changes nothing."""
        raise NotImplementedError(f"{type(self).__name__} must implement learn")

    def encode_centred(self, centred: Floats) -> NDArray[np.uint8]:
        """Codes of some features less `mean_`."""
        raise NotImplementedError(f"{type(self).__name__} must implement encode_centred")

    def _centred_blocks(self, compute: Callable[[Floats], NDArray[Any]], features: ArrayLike) -> NDArray[Any]:
        check_is_fitted(self)
        array = check_features("features", features, self.n_features_in_)
        return in_blocks(lambda block: compute(block - self.mean_), array)


class SignBaseline(Baseline):
    """A baseline whose bits are signs of real values: bit j is 1 where `project(features)[:, j] >= 0`.

    Bits are in the order of `numpy.packbits`. A subclass implements `learn` and `project_centred`.
    """

    def project(self, features: ArrayLike) -> Floats:
        """The real values whose signs are the code.

        Args:
            features: float32 or float64 `(n, D)`, finite; n may be 0.

        Returns:
            float64 `(n, n_bits)`.

        Raises:
            NotFittedError: `fit` was not called.
            TypeError: `features` has another dtype.
            ValueError: the shape does not fit, or a feature is not finite.
        """
        return self._centred_blocks(self.project_centred, features)

    def encode_centred(self, centred: Floats) -> NDArray[np.uint8]:
        """Signs of `project_centred`, packed."""
        return sign_codes(self.project_centred(centred))

    def project_centred(self, centred: Floats) -> Floats:
        """The real values of some features less `mean_`."""
        raise NotImplementedError(f"{type(self).__name__} must implement project_centred")


def check_features(name: str, features: ArrayLike, n_features: int | None = None) -> NDArray[np.floating[Any]]:
    """Finite float32 or float64 features `(n, n_features)`, or of any width from 1, as a contiguous array."""
    array = as_array(name, features)
    if array.dtype not in (np.float32, np.float64):
        raise TypeError(f"{name} must be a float32 or float64 array, got dtype {array.dtype}")
    if array.ndim != 2 or array.shape[1] == 0:
        raise ValueError(f"{name} must have shape (n, D) with D at least 1, got {array.shape}")
    if n_features is not None and array.shape[1] != n_features:
        raise ValueError(f"{name} must have the {n_features} columns of the training features, got {array.shape[1]}")
    if not np.isfinite(array).all():
        row, column = np.argwhere(~np.isfinite(array))[0].tolist()
        raise ValueError(f"{name} must be finite, found {array[row, column]} at index [{row}, {column}]")
    return np.ascontiguousarray(array)  # sums depend on the layout in their last digit


def check_varied(centred: Floats) -> None:
    """Features that are not all the same: a method that measures their extent has nothing to measure else."""
    if (centred == centred[0]).all():
        raise ValueError(f"features must not all be equal, got {len(centred)} equal rows")


def label_matrix(labels: ArrayLike | None, n: int) -> Floats:
    """Labels of n items as zeros and ones `(n, C)`: a column for each class that occurs, or the multi-hot columns."""
    if labels is None:
        raise ValueError("labels must be given, as this method learns from them, got None")
    array = as_array("labels", labels)
    # One column is refused as the likely slip of classes kept as (n, 1), which would make nearly all items similar.
    if array.ndim not in (1, 2) or array.shape[1:] in ((0,), (1,)):
        raise ValueError(f"labels must have shape (n,), or (n, C) with C at least 2, got {array.shape}")
    if len(array) != n:
        raise ValueError(f"labels must match the {n} rows of features, got {len(array)}")
    if array.ndim == 1:
        if array.dtype.kind not in "iu":
            raise TypeError(f"labels of shape (n,) must be integer classes, got dtype {array.dtype}")
        return (array[:, None] == np.unique(array)).astype(np.float64)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"labels of shape (n, C) must be zeros and ones, got dtype {array.dtype}")
    wrong = array[(array != 0) & (array != 1)]
    if wrong.size:
        raise ValueError(f"labels of shape (n, C) must be zeros and ones, found {wrong[0]}")
    return array.astype(np.float64)


def in_blocks(compute: Callable[[NDArray[Any]], NDArray[Any]], rows: NDArray[Any]) -> NDArray[Any]:
    """`compute(rows)`, some thousand rows at a time."""
    return np.concatenate([compute(rows[start : start + _BLOCK]) for start in range(0, max(len(rows), 1), _BLOCK)])


def principal_axes(centred: Floats, n_axes: int) -> Floats:
    """The directions of largest variance, largest first, as orthonormal columns `(D, n_axes)`; n_axes at most D."""
    return np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :n_axes]  # eigh sorts by rising eigenvalues


def random_rotation(n: int, random: RandomState) -> Floats:
    """A random orthogonal matrix `(n, n)`."""
    return np.linalg.qr(random.standard_normal((n, n)))[0]


def squared_distances(a: Floats, b: Floats) -> Floats:
    """Squared Euclidean distances `(len(a), len(b))`. Features should be centred: what all share costs digits here."""
    distances = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * (a @ b.T)
    return np.maximum(distances, 0, out=distances)


def mean_distance(centred: Floats, points: Floats) -> float:
    """Root of the mean squared distance between features of mean 0 and some points."""
    # The products of both, which the squares hold too, have mean 0.
    return math.sqrt((centred**2).sum(axis=1).mean() + (points**2).sum(axis=1).mean())


def rbf(features: Floats, anchors: Floats, sigma: float) -> Floats:
    """Gaussian kernel `exp(-|x - a|² / (2 sigma²))` of features and anchors, `(len(features), len(anchors))`."""
    return np.exp(squared_distances(features, anchors) / (-2 * sigma**2))
