"""Locality-sensitive hashing: signs of random projections."""

from __future__ import annotations

from numpy.random import RandomState

from fasthash.baselines.base import Floats, SignBaseline, Training

__all__ = ["LSH"]


class LSH(SignBaseline):
    """Signs of Gaussian random projections of centred features, `sign((x - mean) W)`.

    Two features at angle t about the mean differ in each bit with probability t / pi. Centring matters: without it,
    non-negative features, such as the outputs of a ReLU, lie in one orthant and share most bits.

    Charikar, Similarity Estimation Techniques from Rounding Algorithms, STOC 2002.

    Args:
        n_bits: width of the codes, a multiple of 8.
        random_state: None, int or RandomState, for W.

    Attributes:
        projection_: float64 `(D, n_bits)`, W.
        mean_, n_features_in_: see `Baseline`.

    Examples:
        >>> features = np.random.default_rng(0).normal(size=(100, 32))
        >>> LSH(n_bits=16, random_state=0).fit(features).encode(features).shape
        (100, 2)
    """

    projection_: Floats

    def __init__(self, n_bits: int = 64, *, random_state: int | RandomState | None = None) -> None:
        self.n_bits = n_bits
        self.random_state = random_state

    def learn(self, data: Training) -> None:
        """See `Baseline.fit`."""
        self.projection_ = data.random.standard_normal((data.centred.shape[1], self.n_bits))

    def project_centred(self, centred: Floats) -> Floats:
        """See `SignBaseline.project`."""
        return centred @ self.projection_
