"""The contract of all baselines, and the few steps that several of them share."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.random import RandomState
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_array, check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from fasthash._arrays import as_array
from fasthash._checks import check_whole_bytes
from fasthash.codes import pack_signs

__all__ = [
    "Baseline",
    "Floats",
    "SignBaseline",
    "SupervisedBaseline",
    "Training",
    "check_scale",
    "check_varied",
    "draw_anchors",
    "in_blocks",
    "label_matrix",
    "principal_axes",
    "random_rotation",
    "rbf",
    "squared_distances",
]

Floats = NDArray[np.float64]
AnyBaseline = TypeVar("AnyBaseline", bound="Baseline")

_DTYPES = (np.float64, np.float32)  # the first for all others

# Rows that are computed at a time, so that what lies between features and codes stays small.
_BLOCK = 4096
_LEAST, _MOST = 1e-150, 1e150  # of values whose squares float64 holds


class Training(NamedTuple):
    """The training data of a baseline."""

    centred: Floats  # features less their mean, (n, D), n at least 1
    mean: Floats  # (D,)
    labels: ArrayLike | None  # as given, y of `fit`; `label_matrix` checks them
    random: RandomState


class Baseline(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]  # untyped
    """Codes from features, learned by `fit`.

    As scikit-learn has it, the constructor only stores its arguments, and `fit` checks them; what was learned is in
    attributes that end with an underscore. All is computed in float64, so that float32 features and their copy in
    float64 have the same codes. `set_output` and `get_feature_names_out` name the bytes of a code. A subclass
    implements `learn` and `encode_centred`.

    Attributes:
        mean_: float64 `(D,)`, mean of the training features, subtracted from all features.
        n_features_in_: D.
        feature_names_in_: names of the columns, where `X` had any. Features with other names, or the same names in
            another order, are then refused.
    """

    n_bits: int
    random_state: int | RandomState | None
    mean_: Floats
    n_features_in_: int
    _n_features_out: int
    _min_samples = 1

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []  # codes are uint8
        return tags

    def fit(self: AnyBaseline, X: ArrayLike, y: ArrayLike | None = None) -> AnyBaseline:
        """Learn from features.

        Args:
            X: features `(n, D)`, finite numbers; all but float32 are converted to float64. An array or a data frame.
            y: labels: classes `(n,)`, integers, strings or booleans; or multi-hot `(n, C)` of zeros and ones, C at
                least 2, which may be sparse. Two items are similar where they share a label. Methods that learn without
                labels do not look at them.

        Returns:
            The estimator itself.

        Raises:
            TypeError: `X` is sparse or masked, or an argument of the constructor has the wrong type.
            ValueError: a shape does not fit, a feature is no number or not finite, there are too few samples, labels
                are needed but None, or an argument of the constructor is out of range.
        """
        check_whole_bytes("n_bits", self.n_bits)
        array = check_array(
            _readable(X), dtype=_DTYPES, order="C", input_name="X", estimator=self, ensure_min_samples=self._min_samples
        )
        try:
            random = check_random_state(self.random_state)
        except ValueError as error:
            raise ValueError(
                f"random_state must be None, an int from 0 to 2**32 - 1 or a RandomState, got {self.random_state!r}"
            ) from error
        mean = array.mean(axis=0, dtype=np.float64)
        self.learn(Training(array - mean, mean, y, random))
        validate_data(self, X, reset=True, skip_check_array=True)  # number and names of the columns
        self.mean_ = mean
        self._n_features_out = self.n_bits // 8
        return self

    def encode(self, X: ArrayLike) -> NDArray[np.uint8]:
        """Codes of features.

        Args:
            X: features `(n, D)` as of `fit`; n may be 0.

        Returns:
            uint8 `(n, n_bits / 8)`.

        Raises:
            NotFittedError: `fit` was not called.
            TypeError: `X` is sparse or masked.
            ValueError: the shape or the names of the columns do not fit, or a feature is no number or not finite.
        """
        return self._centred_blocks(self.encode_centred, X)

    def transform(self, X: ArrayLike) -> NDArray[np.uint8]:
        """`encode` under the name that a scikit-learn pipeline calls, for `HammingNeighbors(packed=True)`.

        After `set_output(transform="pandas")` it returns a data frame with a column for each byte.
        """
        return self.encode(X)

    def learn(self, data: Training) -> None:
        """Learn from checked features. Other checks come first: a refused call changes nothing."""
        raise NotImplementedError(f"{type(self).__name__} must implement learn")

    def encode_centred(self, centred: Floats) -> NDArray[np.uint8]:
        """Codes of some features less `mean_`."""
        raise NotImplementedError(f"{type(self).__name__} must implement encode_centred")

    def _centred_blocks(self, compute: Callable[[Floats], NDArray[Any]], X: ArrayLike) -> NDArray[Any]:
        check_is_fitted(self)
        # Sums depend on the layout in their last digit.
        array = validate_data(self, _readable(X), reset=False, dtype=_DTYPES, order="C", ensure_min_samples=0)
        return in_blocks(lambda block: compute(block - self.mean_), array)


class SignBaseline(Baseline):
    """A baseline whose bits are signs of real values: bit j is 1 where `project(features)[:, j] >= 0`.

    Bits are in the order of `numpy.packbits`. A subclass implements `learn` and `project_centred`.
    """

    def project(self, X: ArrayLike) -> Floats:
        """The real values whose signs are the code.

        Args:
            X: features `(n, D)` as of `fit`; n may be 0.

        Returns:
            float64 `(n, n_bits)`.

        Raises:
            NotFittedError, TypeError, ValueError: as `encode`.
        """
        return self._centred_blocks(self.project_centred, X)

    def encode_centred(self, centred: Floats) -> NDArray[np.uint8]:
        """Signs of `project_centred`, packed."""
        return pack_signs(self.project_centred(centred))

    def project_centred(self, centred: Floats) -> Floats:
        """The real values of some features less `mean_`."""
        raise NotImplementedError(f"{type(self).__name__} must implement project_centred")


class SupervisedBaseline(SignBaseline):
    """A baseline of signs that learns from labels, and from the distances of two features or more."""

    _min_samples = 2

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        return tags

    def label_matrix(self, data: Training) -> Floats:
        """Labels as zeros and ones `(n, C)`: a column for each class that occurs, or the multi-hot columns."""
        if data.labels is None:  # words that the checks of scikit-learn look for
            raise ValueError(f"This {type(self).__name__} estimator requires y to be passed, but the target y is None")
        return label_matrix(data.labels, len(data.centred))


def _readable(X: Any) -> Any:
    """Features that are no data frame as an array, without losing a mask."""
    return X if hasattr(X, "columns") or issparse(X) else as_array("X", X)


def check_scale(centred: Floats) -> None:
    """Check that float64 holds squares and products of the features."""
    if (largest := np.abs(centred).max()) and not _LEAST <= largest <= _MOST:
        raise ValueError(
            f"X must have values from {_LEAST} to {_MOST}, as far as they differ from their mean, got {largest:.3g}; "
            "multiplied by a number, X has the same neighbours"
        )


def check_varied(centred: Floats) -> None:
    """Check that the features are not all equal, for methods that measure their extent."""
    check_scale(centred)
    if (centred == centred[0]).all():
        raise ValueError(f"X must not have all rows equal, got n_samples = {len(centred)} equal rows")


def label_matrix(y: Any, n: int) -> Floats:
    """Labels of n items as zeros and ones `(n, C)`: a column for each class that occurs, or the multi-hot columns."""
    y = y.toarray() if issparse(y) else as_array("y", y)
    array = check_array(y, ensure_2d=False, allow_nd=True, dtype=None, input_name="y", ensure_min_features=0)
    # One column is refused as the likely slip of classes kept as (n, 1), which would make nearly all items similar.
    if array.ndim not in (1, 2) or array.shape[1:] in ((0,), (1,)):
        raise ValueError(f"y must have shape (n,), or (n, C) with C at least 2, got {array.shape}")
    if len(array) != n:
        raise ValueError(f"y must match the {n} rows of X, got {len(array)}")
    if array.ndim == 1:
        if array.dtype == object and len(kinds := {type(label).__name__ for label in array}) > 1:
            raise ValueError(f"y must hold classes of one type, got {', '.join(sorted(kinds))}")
        if array.dtype.kind not in "biufOSU":
            raise TypeError(f"y of shape (n,) must be classes: integers, strings or booleans, got dtype {array.dtype}")
        if array.dtype.kind == "f":  # of others it warns where there are many classes
            check_classification_targets(array)
        try:
            classes = np.unique(array)
        except TypeError:  # objects without an order, such as None
            kind = type(array[0]).__name__
            raise TypeError(f"y of shape (n,) must be classes: integers, strings or booleans, got {kind}") from None
        return (array[:, None] == classes).astype(np.float64)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"y of shape (n, C) must be zeros and ones, got dtype {array.dtype}")
    wrong = array[(array != 0) & (array != 1)]
    if wrong.size:
        raise ValueError(f"y of shape (n, C) must be zeros and ones, found {wrong[0]}")
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


def draw_anchors(data: Training, n_anchors: int, sigma: float | None) -> tuple[Floats, float]:
    """Draw anchors from the training features, and choose the width of their kernels if `sigma` is None."""
    if sigma is not None and not _LEAST <= sigma <= _MOST:
        raise ValueError(f"sigma must be from {_LEAST} to {_MOST}, got {sigma}")
    check_varied(data.centred)
    anchors = data.centred[data.random.permutation(len(data.centred))[:n_anchors]]
    return anchors, mean_distance(data.centred, anchors) if sigma is None else sigma


def rbf(features: Floats, anchors: Floats, sigma: float) -> Floats:
    """Gaussian kernel `exp(-|x - a|² / (2 sigma²))` of features and anchors, `(len(features), len(anchors))`."""
    return np.exp(squared_distances(features, anchors) / (-2 * sigma**2))
