"""LSH against the formula, and what centring is for."""

import math

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the baselines need scikit-learn, which the extra 'baselines' brings")

import fasthash as fh
from fasthash.baselines import LSH


def test_equals_the_formula(clusters):
    features, _ = clusters(n=40)
    lsh = LSH(8, random_state=0).fit(features)
    mean = [sum(column) / 40 for column in features.T.tolist()]
    for row, values in zip(features.tolist(), lsh.project(features).tolist(), strict=True):
        for bit, value in enumerate(values):
            terms = [(x - m) * w for x, m, w in zip(row, mean, lsh.projection_[:, bit].tolist(), strict=True)]
            assert value == pytest.approx(sum(terms), abs=1e-12)


def test_projections_are_standard_normal():
    weights = LSH(1024, random_state=0).fit(np.zeros((1, 200))).projection_
    assert weights.shape == (200, 1024)
    assert abs(weights.mean()) < 0.01
    assert weights.std() == pytest.approx(1, abs=0.01)
    assert np.abs(np.corrcoef(weights[:, :50].T) - np.eye(50)).max() < 0.35


def test_share_of_different_bits_is_the_angle():
    angles = np.array([0.1, 0.5, 1.0, 2.0, 3.0])
    features = np.stack((np.cos(angles), np.sin(angles)), axis=1)
    features = np.concatenate(([[1.0, 0.0]], features))
    lsh = LSH(4096, random_state=0).fit(np.concatenate((features, -features)))  # of mean zero
    bits = fh.unpack_bits(lsh.encode(features)).astype(int)
    assert (bits[1:] != bits[0]).mean(axis=1) == pytest.approx(angles / math.pi, abs=0.03)


def test_centring_keeps_features_of_one_orthant_apart():
    features = np.abs(np.random.default_rng(0).normal(size=(500, 30))) + 1
    lsh = LSH(64, random_state=0).fit(features)
    centred = fh.unpack_bits(lsh.encode(features)).mean(axis=0)
    raw = (features @ lsh.projection_ >= 0).mean(axis=0)
    assert np.abs(centred - 0.5).max() < 0.1
    assert np.abs(raw - 0.5).mean() > 0.4
