"""Spectral hashing: thresholded sine waves along the principal axes."""

from __future__ import annotations

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from fasthash.baselines.base import Floats, SignBaseline, Training, check_varied, principal_axes

__all__ = ["SpectralHashing"]


class SpectralHashing(SignBaseline):
    """Signs of the smoothest eigenfunctions of a box around the data.

    The features are projected on their first min(n_bits, D) principal axes. On each axis they are assumed to be uniform
    between their smallest value a and their largest value b. The eigenfunctions of the Laplacian on such a box are
    products of `sin(pi / 2 + w (x - a))` over the axes, with w = m pi / (b - a) and m = 0, 1, 2, .... The candidates
    are the eigenfunctions with exactly one m above 0; the n_bits candidates with the smallest w become bits. A long
    axis gives several bits, a short one none.

    Weiss, Torralba and Fergus, Spectral Hashing, NIPS 2008. As in the authors' code, an axis has the candidates
    m < ceil((n_bits + 1) r), where r is its length divided by the length of the longest axis.

    Args:
        n_bits: width of the codes, a multiple of 8.
        random_state: unused; present because all baselines have it.

    Attributes:
        projection_: float64 `(D, min(n_bits, D))`, the principal axes.
        axes_: int64 `(n_bits,)`, the axis of each bit, an index into the columns of `projection_`.
        modes_: int64 `(n_bits,)`, m of each bit.
        omegas_: float64 `(n_bits,)`, w of each bit, ascending.
        minima_: float64 `(min(n_bits, D),)`, a of each axis.
        mean_, n_features_in_: see `Baseline`.

    Raises (in `fit`):
        ValueError: the features are all equal.

    Examples:
        >>> features = np.random.default_rng(0).uniform(size=(100, 2)) * [4, 1]
        >>> SpectralHashing(n_bits=8).fit(features).axes_.tolist()
        [0, 0, 0, 1, 0, 0, 0, 0]
    """

    projection_: Floats
    axes_: NDArray[np.int64]
    modes_: NDArray[np.int64]
    omegas_: Floats
    minima_: Floats
    _min_samples = 2

    def __init__(self, n_bits: int = 64, *, random_state: int | RandomState | None = None) -> None:
        self.n_bits = n_bits
        self.random_state = random_state

    def learn(self, data: Training) -> None:
        """See `Baseline.fit`."""
        centred = data.centred
        check_varied(centred)
        projection = principal_axes(centred, min(self.n_bits, centred.shape[1]))
        projected = centred @ projection
        minima = projected.min(axis=0)
        lengths = projected.max(axis=0) - minima
        n_modes = np.ceil((self.n_bits + 1) * lengths / lengths.max()).astype(np.int64)
        axes, modes = np.nonzero(np.arange(self.n_bits + 1) < n_modes[:, None])
        axes, modes = axes[modes > 0], modes[modes > 0]  # mode 0 is constant
        omegas = modes * np.pi / lengths[axes]
        chosen = np.argsort(omegas, kind="stable")[: self.n_bits]

        self.projection_ = projection
        self.minima_ = minima
        self.axes_, self.modes_, self.omegas_ = axes[chosen], modes[chosen], omegas[chosen]

    def project_centred(self, centred: Floats) -> Floats:
        """See `SignBaseline.project`."""
        offsets = (centred @ self.projection_ - self.minima_)[:, self.axes_]
        return np.sin(np.pi / 2 + self.omegas_ * offsets)
