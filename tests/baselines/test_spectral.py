"""Spectral hashing against all eigenfunctions of the box, products over the axes, by brute force."""

import itertools
import math

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the baselines need scikit-learn, which the extra 'baselines' brings")

from sklearn.decomposition import PCA

import fasthash as fh
from fasthash.baselines import SpectralHashing


def by_hand(train, features, n_bits):
    """Bits from the formula: candidates are vectors of modes, and eigenfunctions are products over the axes."""
    pca = PCA(min(n_bits, train.shape[1]), svd_solver="full").fit(train)
    projected, wanted = pca.transform(train), pca.transform(features)
    a, b = projected.min(axis=0), projected.max(axis=0)
    longest = max(b - a)
    candidates = []
    for axis in range(len(a)):
        for m in range(1, math.ceil((n_bits + 1) * (b[axis] - a[axis]) / longest)):
            modes = [m if other == axis else 0 for other in range(len(a))]
            omega = math.sqrt(sum((m * math.pi / (b[d] - a[d])) ** 2 for d, m in enumerate(modes) if m))
            candidates.append((omega, modes))
    bits = []
    for _, modes in sorted(candidates)[:n_bits]:
        values = np.ones(len(features))
        for d, m in enumerate(modes):
            values *= np.sin(math.pi / 2 + m * math.pi / (b[d] - a[d]) * (wanted[:, d] - a[d]))
        bits.append(values >= 0)
    return np.stack(bits, axis=1)


def same_up_to_the_sign_of_axes(bits, expected, modes):
    """A flipped axis is walked from its other end, where sin(pi / 2 + w x) of an odd mode has the other sign."""
    flips = (bits != expected).mean(axis=0)
    return all(flip == 0 or (flip == 1 and m % 2 == 1) for flip, m in zip(flips, modes, strict=True))


@pytest.mark.parametrize(("n_features", "n_bits"), [(1, 8), (2, 16), (3, 8), (12, 8), (20, 24), (5, 64)])
def test_equals_the_formula(n_features, n_bits, clusters):
    train, _ = clusters(n_features=n_features)
    others, _ = clusters(n_features=n_features, seed=1)  # some outside of the box
    spectral = SpectralHashing(n_bits).fit(train)
    assert (np.diff(spectral.omegas_) >= 0).all()
    for features in (train, others):
        bits = fh.unpack_bits(spectral.encode(features)).astype(bool)
        assert same_up_to_the_sign_of_axes(bits, by_hand(train, features, n_bits), spectral.modes_)


def test_modes_are_the_smoothest_of_all_mode_vectors_along_one_axis():
    """Among all vectors of modes, taken by their frequency, those along one axis come in the order of the bits."""
    rng = np.random.default_rng(0)
    spectral = SpectralHashing(8).fit(rng.uniform(size=(2000, 2)) * [3, 1])
    lengths = spectral.modes_ * np.pi / spectral.omegas_
    length = [lengths[spectral.axes_ == axis][0] for axis in (0, 1)]
    every = sorted(
        (math.hypot(m * math.pi / length[0], n * math.pi / length[1]), (m, n))
        for m, n in itertools.product(range(20), repeat=2)
        if (m > 0) != (n > 0)
    )
    expected = [(0, m) if m else (1, n) for _, (m, n) in every[:8]]
    assert list(zip(spectral.axes_, spectral.modes_, strict=True)) == expected


def test_a_line_is_cut_into_equal_stripes():
    """On one axis bit m - 1 is the sign of cos(m pi x), x from 0 to 1."""
    x = np.linspace(0, 1, 1001)
    spectral = SpectralHashing(8).fit(x[:, None])
    assert spectral.modes_.tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    values = spectral.project(x[:, None]) * np.sign(spectral.projection_[0, 0]) ** spectral.modes_
    np.testing.assert_allclose(values, np.cos(np.pi * np.outer(x, np.arange(1, 9))), atol=1e-9)


def test_axes_without_extent_get_no_bit():
    features = np.zeros((50, 6))
    features[:, [1, 4]] = np.random.default_rng(0).normal(size=(50, 2))
    spectral = SpectralHashing(16).fit(features)
    assert set(spectral.axes_) == {0, 1}
    assert np.isfinite(spectral.project(features)).all()


def test_two_samples_are_enough():
    features = np.array([[0.0, 1.0], [1.0, 0.0]])
    assert SpectralHashing(8).fit(features).encode(features).shape == (2, 1)


def test_equal_features():
    with pytest.raises(ValueError, match="X must not have all rows equal, got n_samples = 300 equal rows"):
        SpectralHashing(8).fit(np.full((300, 3), 0.1))
