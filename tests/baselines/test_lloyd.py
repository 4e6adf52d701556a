"""Nearest centroids by float32 and few comparisons are those of float64 and all comparisons."""

from __future__ import annotations

import numpy as np
import pytest

from fasthash.baselines import lloyd as fast


def points_of(kind, rng):
    points = rng.normal(size=(700, 5))
    return {
        "usual": points,
        "ties": np.round(points),  # many points twice, and centroids at one distance
        "near ties": np.round(points) + 1e-9 * points,
        "one point": np.ones((300, 3)),
        "zeros": np.zeros((40, 2)),
        "tiny": points * 1e-30,
        "huge": points * 1e30,
        "one far away": np.concatenate((points, np.full((1, 5), 1e6))),
        "one dimension": points[:, :1],
    }[kind]


KINDS = ["usual", "ties", "near ties", "one point", "zeros", "tiny", "huge", "one far away", "one dimension"]


@pytest.mark.parametrize("n_centroids", [1, 2, 40])
@pytest.mark.parametrize("kind", KINDS)
def test_equals_float64(kind, n_centroids):
    points = points_of(kind, np.random.default_rng(0))
    centroids = points[:n_centroids]
    np.testing.assert_array_equal(fast.nearest_centroids(points, centroids), fast.nearest_in_float64(points, centroids))
    for n_iter in (0, 1, 3, 30):
        found, expected = (method(points, centroids, n_iter) for method in (fast.lloyd, fast.lloyd_in_float64))
        np.testing.assert_array_equal(found[1], expected[1])
        np.testing.assert_array_equal(found[0], expected[0])


def test_late_iterations_compare_few(monkeypatch):
    """They take the path that compares the changed centroids alone, and stop where nothing changes."""
    rng = np.random.default_rng(1)
    points = rng.normal(size=(2000, 8)) + 3 * rng.integers(-2, 3, (2000, 8))
    shares = []
    update = fast._Points.update
    monkeypatch.setattr(
        fast._Points, "update", lambda self, *args: (shares.append(args[2].mean()), update(self, *args))
    )
    found = fast.lloyd(points, points[:64], 200)
    assert len(shares) < 200
    assert min(shares) < fast._FEW
    expected = fast.lloyd_in_float64(points, points[:64], 200)
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_array_equal(found[0], expected[0])
