"""KSH against its three steps written out, with the matrix of pairs and without any short cut."""

import math

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the baselines need scikit-learn, which the extra 'baselines' brings")

from scipy.linalg import eigh

import fasthash as fh
from fasthash.baselines import KSH


def kernels_by_hand(features, anchors, squared_width):
    return np.array([[math.exp(-sum((x - a) ** 2) / (2 * squared_width)) for a in anchors] for x in features])


def sign(values):
    return np.where(values >= 0, 1.0, -1.0)


def refine_by_hand(kernels, q, a, max_iter):
    """Nesterov's method on -f'Qf."""

    def f(a):
        return 2 / (1 + np.exp(np.minimum(-kernels @ a, 700))) - 1  # no overflow

    def cost(a):
        return -f(a) @ q @ f(a)

    def gradient(a):
        return -2 * kernels.T @ (q @ f(a) * (1 - f(a) ** 2) / 2)

    before, now, costs, deltas, beta = a, a, [cost(a)], [0.0, 1.0], 1.0
    for _ in range(max_iter):
        v = now + (deltas[-2] - 1) / deltas[-1] * (now - before)
        step = gradient(v)
        for _ in range(50):
            z = v - step / beta
            if cost(z) <= cost(v) + step @ (z - v) + beta / 2 * (z - v) @ (z - v):
                break
            beta *= 2
        else:
            break
        before, now = now, z
        costs.append(cost(z))
        deltas.append((1 + math.sqrt(1 + 4 * deltas[-1] ** 2)) / 2)
        if abs(costs[-1] - costs[-2]) / len(kernels) <= 1e-2:
            break
    return now


def by_hand(features, similar, anchors, n_bits, max_iter):
    """Columns of the projection, where all features are labelled; similarities are 1 or -1."""
    squared_width = np.mean([[sum((x - a) ** 2) for a in anchors] for x in features])
    kernels = kernels_by_hand(features, anchors, squared_width)
    kernels = kernels - kernels.mean(axis=0)
    q = n_bits * similar
    columns, refined = [], []
    for _ in range(n_bits):
        a = eigh(kernels.T @ q @ kernels, kernels.T @ kernels)[1][:, -1]
        a = a * math.sqrt(len(features) / (a @ kernels.T @ kernels @ a))
        y = sign(kernels @ a)
        smooth = refine_by_hand(kernels, q, a, max_iter)
        y_smooth = sign(kernels @ smooth)
        refined.append(y_smooth @ q @ y_smooth > y @ q @ y)
        if refined[-1]:
            a, y = smooth, y_smooth
        q = q - np.outer(y, y)
        columns.append(a)
    return np.stack(columns, axis=1), refined, (q**2).sum()


def fit(features, labels, n_bits=8, **options):
    return KSH(n_bits, **({"n_anchors": 12, "random_state": 0} | options)).fit(features, labels)


@pytest.mark.parametrize("max_iter", [0, 3, 30])
@pytest.mark.parametrize("kind", ["classes", "sets"])
def test_equals_the_formula(kind, max_iter, clusters):
    features, classes = clusters(n=80, n_features=4)
    if kind == "sets":
        labels = np.random.default_rng(1).integers(2, size=(80, 3))
        similar = np.array([[1.0 if any(a & b) else -1.0 for b in labels] for a in labels])
    else:
        labels = classes
        similar = np.array([[1.0 if a == b else -1.0 for b in labels] for a in labels])
    ksh = fit(features, labels, max_iter=max_iter)
    columns, refined, residue = by_hand(features - features.mean(axis=0), similar, ksh.anchors_, 8, max_iter)
    np.testing.assert_array_equal(ksh.refined_, refined)
    signs = np.sign((ksh.projection_ * columns).sum(axis=0))  # of eigenvectors
    np.testing.assert_allclose(ksh.projection_ * signs, columns, rtol=1e-6, atol=1e-6)
    assert ksh.objective_[-1] == pytest.approx(residue / (8 * 80) ** 2)


def test_projection_is_that_of_the_kernels(clusters):
    features, labels = clusters(n=60, n_features=4)
    ksh = fit(features, labels)
    centred = features - features.mean(axis=0)
    kernels = kernels_by_hand(centred, ksh.anchors_, ksh.sigma_**2)
    np.testing.assert_allclose(ksh.kernel_mean_, kernels.mean(axis=0))
    np.testing.assert_allclose(ksh.project(features), (kernels - kernels.mean(axis=0)) @ ksh.projection_, atol=1e-9)


def test_objective(clusters):
    """It is the residue of the codes, falls with every bit, and the second step helps."""
    features, labels = clusters()
    similar = np.where(labels[:, None] == labels, 1.0, -1.0)
    relaxed, ksh = (fit(features, labels, 32, n_anchors=60, max_iter=max_iter) for max_iter in (0, 500))
    for found in (relaxed, ksh):
        codes = 2.0 * fh.unpack_bits(found.encode(features)) - 1
        for n in (1, 8, 32):
            residue = ((32 * similar - codes[:, :n] @ codes[:, :n].T) ** 2).mean() / 32**2
            assert found.objective_[n - 1] == pytest.approx(residue)
        assert len(found.objective_) == 32
        assert (np.diff([1, *found.objective_]) < 0).all()
    assert not relaxed.refined_.any()
    assert ksh.refined_.sum() > 16
    assert ksh.objective_[-1] < relaxed.objective_[-1]


def test_anchors_and_labelled_points_are_drawn(clusters):
    features, labels = clusters()
    centred = features - features.mean(axis=0)
    ksh = fit(features, labels, n_anchors=50, n_labelled=100)
    assert ksh.anchors_.shape == (50, 20)
    rows = [np.flatnonzero((centred == anchor).all(axis=1)).item() for anchor in ksh.anchors_]
    assert len(set(rows)) == 50
    assert rows != sorted(rows)
    fewer = fit(features, labels, n_anchors=50, n_labelled=99)
    np.testing.assert_array_equal(fewer.anchors_, ksh.anchors_)
    assert not np.allclose(fewer.projection_, ksh.projection_)
    assert len(KSH(8, random_state=0).fit(features, labels).anchors_) == 300  # no more than there are


def test_width_of_the_kernels(clusters):
    features, labels = clusters()
    ksh = fit(features, labels)
    squares = ((features[:, None] - features.mean(axis=0) - ksh.anchors_) ** 2).sum(axis=2)
    assert ksh.sigma_ == pytest.approx(math.sqrt(squares.mean()))
    assert fit(features, labels, sigma=2).sigma_ == 2
    same = fit(features, labels, sigma=ksh.sigma_)
    np.testing.assert_array_equal(same.encode(features), ksh.encode(features))
    assert (fit(features, labels, sigma=0.5).encode(features) != ksh.encode(features)).any()


def test_singular_kernels(clusters):
    """Anchors that are equal, and fewer labelled points than anchors."""
    features, labels = clusters(n=40)
    twice, labels_twice = np.tile(features, (2, 1)), np.tile(labels, 2)
    for options in ({"n_anchors": 80}, {"n_anchors": 80, "n_labelled": 10}, {"n_labelled": 1}):
        ksh = fit(twice, labels_twice, **options)
        assert np.isfinite(ksh.projection_).all()
        assert np.abs(ksh.project(twice)).max() < 1e6
    two = np.array([[0.0], [1.0]])
    codes = fit(two, [0, 1]).encode(two)
    assert codes[0] == ~codes[1]


def test_one_class(clusters):
    features, _ = clusters()
    assert np.isfinite(fit(features, np.zeros(300, int)).project(features)).all()


def test_features_or_kernels_all_equal(clusters):
    with pytest.raises(ValueError, match="X must not have all rows equal, got n_samples = 300 equal rows"):
        fit(np.full((300, 3), 0.1), np.arange(300))
    with pytest.raises(ValueError, match=r"sigma must tell features from anchors, but with sigma = 1e\+30 all kernels"):
        fit(*clusters(), sigma=1e30)
