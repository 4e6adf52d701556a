"""SDH against its steps written out, and its bitwise descent against trying all columns."""

import itertools
import math

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the baselines need scikit-learn, which the extra 'baselines' brings")

from fasthash.baselines import SDH
from fasthash.baselines.sdh import _descend

LAMBDA, NU, DELTA = 1.0, 1e-5, 1e-2


def kernels_by_hand(features, anchors, sigma):
    return np.array([[math.exp(-sum((x - a) ** 2) / (2 * sigma**2)) for a in anchors] for x in features])


def sign(values):
    return np.where(values >= 0, 1.0, -1.0)


def objective(targets, codes, classifier, kernels, projection):
    return (
        ((targets - codes @ classifier) ** 2).sum()
        + LAMBDA * (classifier**2).sum()
        + NU * (((codes - kernels @ projection) ** 2).sum() + DELTA * (projection**2).sum())
    )


def ridge(inputs, outputs, weight):
    return np.linalg.inv(inputs.T @ inputs + weight * np.eye(inputs.shape[1])) @ inputs.T @ outputs


def descend_by_hand(codes, q, classifier):
    codes = codes.copy()
    for _ in range(10):
        before = codes.copy()
        for k in range(codes.shape[1]):
            others = [i for i in range(codes.shape[1]) if i != k]
            codes[:, k] = sign(q[:, k] - codes[:, others] @ classifier[others] @ classifier[k])
        if (codes == before).all():
            break
    return codes


def fit(features, labels, n_bits=8, **options):
    return SDH(n_bits, **({"n_anchors": 15, "random_state": 0} | options)).fit(features, labels)


@pytest.mark.parametrize("kind", ["classes", "sets"])
@pytest.mark.parametrize("n_iter", [1, 5])
def test_equals_the_formula(kind, n_iter, clusters):
    features, labels = clusters(n=60, n_features=4)
    targets = (labels[:, None] == np.arange(5)).astype(float)
    if kind == "sets":
        labels = np.random.default_rng(1).integers(2, size=(60, 3))
        targets = labels.astype(float)
    sdh = fit(features, labels, n_iter=n_iter)

    random = np.random.RandomState(0)
    centred = features - features.mean(axis=0)
    anchors = centred[random.permutation(60)[:15]]
    np.testing.assert_allclose(sdh.anchors_, anchors)
    codes = sign(random.standard_normal((60, 8)))
    kernels = kernels_by_hand(centred, anchors, sdh.sigma_)
    classifier, projection = ridge(codes, targets, LAMBDA), ridge(kernels, codes, DELTA)
    objectives = []
    for _ in range(n_iter):
        codes = descend_by_hand(codes, targets @ classifier.T + NU * kernels @ projection, classifier)
        classifier, projection = ridge(codes, targets, LAMBDA), ridge(kernels, codes, DELTA)
        objectives.append(objective(targets, codes, classifier, kernels, projection))
    np.testing.assert_allclose(sdh.classifier_, classifier, atol=1e-9)
    np.testing.assert_allclose(sdh.projection_, projection, atol=1e-7)
    np.testing.assert_allclose(sdh.objective_, objectives)
    np.testing.assert_allclose(sdh.project(features), kernels @ projection, atol=1e-7)


@pytest.mark.parametrize("seed", range(5))
def test_objective_never_rises(seed, clusters):
    features, labels = clusters(seed=seed, n_classes=8)
    sdh = fit(features, labels, 16, n_anchors=50, n_iter=10, nu=1e-2, random_state=seed)
    assert len(sdh.objective_) == 10
    assert (np.diff(sdh.objective_) <= 1e-9 * sdh.objective_[0]).all()
    assert sdh.objective_[-1] < sdh.objective_[0]


@pytest.mark.parametrize("seed", range(20))
def test_no_column_can_be_better(seed):
    """Of all 2^6 columns, each given the others, the descent ends at a best one."""
    rng = np.random.default_rng(seed)
    classifier, q = rng.normal(size=(4, 3)), rng.normal(size=(6, 4))

    def value(codes):
        return ((codes @ classifier) ** 2).sum() - 2 * (codes * q).sum()

    start = sign(rng.normal(size=(6, 4)))
    codes = _descend(start, q, classifier @ classifier.T)
    assert value(codes) <= value(start)
    assert set(np.unique(codes)) <= {-1.0, 1.0}
    for k, column in itertools.product(range(4), itertools.product((-1.0, 1.0), repeat=6)):
        other = codes.copy()
        other[:, k] = column
        assert value(other) >= value(codes) - 1e-12


def test_one_sweep_is_the_best_of_each_column_in_turn():
    """From the same start, columns tried exhaustively one after the other give the same codes."""
    rng = np.random.default_rng(0)
    classifier, q = rng.normal(size=(5, 3)), rng.normal(size=(4, 5))
    columns = [np.array(column) for column in itertools.product((-1.0, 1.0), repeat=4)]
    start = sign(rng.normal(size=(4, 5)))
    codes, previous = start.copy(), None
    while previous is None or (codes != previous).any():
        previous = codes.copy()
        for k in range(5):
            values = []
            for column in columns:
                codes[:, k] = column
                values.append(((codes @ classifier) ** 2).sum() - 2 * (codes * q).sum())
            codes[:, k] = columns[int(np.argmin(values))]
    np.testing.assert_array_equal(_descend(start, q, classifier @ classifier.T), codes)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("classifier_ridge", 50.0),
        ("nu", 0.1),
        ("regression_ridge", 5.0),
        ("n_iter", 1),
        ("n_anchors", 14),
        ("sigma", 3),
    ],
)
def test_every_option_counts(name, value, clusters):
    features, labels = clusters()
    sdh, other = fit(features, labels), fit(features, labels, **{name: value})
    assert sdh.objective_ != other.objective_


def test_nu_may_be_zero(clusters):
    features, labels = clusters()
    assert np.isfinite(fit(features, labels, nu=0).objective_).all()


def test_width_of_the_kernels(clusters):
    features, labels = clusters()
    sdh = fit(features, labels)
    squares = ((features[:, None] - features.mean(axis=0) - sdh.anchors_) ** 2).sum(axis=2)
    assert sdh.sigma_ == pytest.approx(math.sqrt(squares.mean()))
    assert fit(features, labels, sigma=2).sigma_ == 2


def test_fewer_samples_than_anchors(clusters):
    features, labels = clusters(n=12)
    assert fit(features, labels).anchors_.shape == (12, 20)


def test_equal_features():
    with pytest.raises(ValueError, match="X must not have all rows equal, got n_samples = 300 equal rows"):
        fit(np.full((300, 3), 0.1), np.arange(300))
