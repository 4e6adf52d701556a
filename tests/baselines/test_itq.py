"""ITQ against the formula, its objective, and the mAP of real features."""

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the baselines need scikit-learn, which the extra 'baselines' brings")

from scipy.linalg import orthogonal_procrustes
from sklearn.decomposition import PCA

import fasthash as fh
from fasthash.baselines import ITQ
from fasthash.metrics import mean_average_precision
from real_data import shared


def objective(components, rotation):
    values = components @ rotation
    return ((np.sign(values) - values) ** 2).sum()


@pytest.mark.parametrize("seed", range(5))
def test_equals_the_formula(seed, clusters):
    """From the same first rotation, with scikit-learn's PCA and scipy's Procrustes."""
    features, _ = clusters(seed=seed)
    itq = ITQ(16, n_iter=20, random_state=seed).fit(features)
    pca = PCA(16, svd_solver="full").fit(features)
    np.testing.assert_allclose(np.abs(itq.projection_), np.abs(pca.components_.T), atol=1e-9)

    components = (features - features.mean(axis=0)) @ itq.projection_
    rotation = ITQ(16, n_iter=0, random_state=seed).fit(features).rotation_
    objectives = []
    for _ in range(20):
        codes = np.sign(components @ rotation)
        rotation = orthogonal_procrustes(components, codes)[0]
        objectives.append(((codes - components @ rotation) ** 2).sum())
    np.testing.assert_allclose(itq.rotation_, rotation, atol=1e-9)
    np.testing.assert_allclose(itq.objective_, objectives)
    np.testing.assert_allclose(itq.project(features), components @ rotation, atol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_objective_never_rises(seed, clusters):
    features, _ = clusters(seed=seed)
    itq = ITQ(16, random_state=seed).fit(features)
    components = (features - features.mean(axis=0)) @ itq.projection_
    first = ITQ(16, n_iter=0, random_state=seed).fit(features)
    assert first.objective_ == []
    values = [objective(components, first.rotation_), *itq.objective_]
    assert len(values) == 51
    assert (np.diff(values) <= 1e-9 * values[0]).all()
    assert values[-1] < 0.98 * values[0]
    assert objective(components, itq.rotation_) <= itq.objective_[-1] * (1 + 1e-12)
    np.testing.assert_allclose(itq.rotation_ @ itq.rotation_.T, np.eye(16), atol=1e-12)


def test_the_transposed_rotation_is_worse(clusters):
    """The slip of taking V for its transpose in an SVD, as some public code does, makes the objective rise."""
    features, _ = clusters()
    itq = ITQ(16, random_state=0).fit(features)
    components = (features - features.mean(axis=0)) @ itq.projection_
    rotation = ITQ(16, n_iter=0, random_state=0).fit(features).rotation_
    wrong = []
    for _ in range(50):
        left, _, right = np.linalg.svd(np.sign(components @ rotation).T @ components)
        rotation = right @ left.T  # right is V' already
        wrong.append(objective(components, rotation))
    assert max(np.diff(wrong)) > 0
    assert min(wrong) > itq.objective_[-1]


def test_a_rotated_cube_is_found():
    """Corners of a cube, rotated: the codes that are the corners leave no error."""
    rng = np.random.default_rng(0)
    corners = np.where(rng.random((400, 8)) < 0.5, 1.0, -1.0)
    corners -= corners.mean(axis=0)
    errors = [
        ITQ(8, random_state=seed).fit(corners @ np.linalg.qr(rng.normal(size=(8, 8)))[0]).objective_[-1]
        for seed in range(8)
    ]
    assert min(errors) < 0.02 * corners.size


def test_more_bits_than_dimensions(clusters):
    features, _ = clusters(n_features=20)
    with pytest.raises(ValueError, match="n_bits must be at most n_features = 20, the columns of X, got 24"):
        ITQ(24).fit(features)
    ITQ(16).fit(features[:, :16])


def test_too_few_samples(clusters):
    features, _ = clusters(n=16)
    with pytest.raises(ValueError, match="X must hold more samples than n_bits = 16, got n_samples = 16"):
        ITQ(16).fit(features)
    ITQ(8).fit(features[:9])


@pytest.fixture(scope="module")
def real():
    """CIFAR-10 under MobileNet: training, gallery and query features, and relevance of the gallery for the queries."""
    with np.load(shared("deep_features_mobilenet", "cifar10_mobilenetv1.npz"), allow_pickle=False) as data:
        features, labels = data["pca128"].astype(np.float32), data["labels"]
        train, gallery, queries = (data[f"{name}_index"] for name in ("train", "database", "query"))
    return features[train], features[gallery], features[queries], labels[queries][:, None] == labels[gallery]


@pytest.mark.parametrize(("n_bits", "expected"), [(16, 0.2462), (32, 0.2565), (48, 0.2660), (64, 0.2691)])
def test_map_of_real_features(n_bits, expected, real):
    """The mAP@ALL that came with the data, of an ITQ that is not ours."""
    train, gallery, queries, relevance = real
    itq = ITQ(n_bits, random_state=0).fit(train)
    signs = [1 - 2 * fh.unpack_bits(itq.encode(rows)).astype(np.float32) for rows in (queries, gallery)]
    distances = ((n_bits - signs[0] @ signs[1].T) / 2).astype(np.uint16)
    assert mean_average_precision(distances, relevance) == pytest.approx(expected, abs=0.01)
