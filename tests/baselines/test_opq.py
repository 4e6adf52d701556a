"""OPQ: distortion that falls, and search against distances from reconstructions, one by one."""

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the baselines need scikit-learn, which the extra 'baselines' brings")

from fasthash.baselines import OPQ
from fasthash.baselines.lloyd import lloyd

SOME = {"n_iter": 4, "random_state": 0}


def rotated(opq, features):
    return (features - opq.mean_) @ opq.rotation_


def reconstruct(opq, codes):
    """In the rotated space, one part of one code after the other."""
    return np.array([np.concatenate([c[b] for c, b in zip(opq.centroids_, code, strict=True)]) for code in codes])


@pytest.mark.parametrize("n_features", [16, 19, 4])
def test_codes_name_the_nearest_centroids(n_features, clusters):
    features, _ = clusters(n=400, n_features=n_features)
    opq = OPQ(32, **SOME).fit(features)
    widths = [c.shape[1] for c in opq.centroids_]
    assert widths == [n_features // 4 + (part < n_features % 4) for part in range(4)]
    assert all(len(c) == 256 for c in opq.centroids_)
    np.testing.assert_allclose(opq.rotation_ @ opq.rotation_.T, np.eye(n_features), atol=1e-12)
    codes, values = opq.encode(features), rotated(opq, features)
    assert codes.dtype == np.uint8
    assert codes.shape == (400, 4)
    for part, (start, centroids) in enumerate(zip(np.cumsum([0, *widths]), opq.centroids_, strict=False)):
        slices = values[:, None, start : start + centroids.shape[1]]
        np.testing.assert_array_equal(codes[:, part], ((slices - centroids) ** 2).sum(axis=2).argmin(axis=1))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("n", [600, 280])  # as many centroids as make some of them empty, too
def test_distortion_falls(n, seed, clusters):
    features, _ = clusters(n=n, n_features=10, seed=seed)
    opq = OPQ(16, n_iter=20, random_state=seed).fit(features)
    assert len(opq.distortion_) >= 2
    assert (np.diff(opq.distortion_) < 0).all()
    errors = ((rotated(opq, features) - reconstruct(opq, opq.encode(features))) ** 2).sum(axis=1)
    assert opq.distortion_[-1] == pytest.approx(errors.mean())


def test_rounds_continue_one_another(clusters):
    features, _ = clusters(n=600)
    distortions = [OPQ(16, n_iter=n, random_state=0).fit(features).distortion_ for n in (1, 2, 5)]
    assert distortions[0] == distortions[2][:1]
    assert distortions[1] == distortions[2][:2]


def test_rotation_helps(clusters):
    """Features whose variance is all in the first part, which a fixed cut serves badly."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(1000, 8)) * [4, 4, 4, 4, 0.1, 0.1, 0.1, 0.1]
    opq = OPQ(16, n_iter=30, random_state=0).fit(features)
    parts = [opq.rotation_[:, :4], opq.rotation_[:, 4:]]
    shares = [float(((features @ part) ** 2).sum() / (features**2).sum()) for part in parts]
    assert max(shares) < 0.6
    fixed = sum(
        _error(part, lloyd(part, part[rng.permutation(1000)[:256]], 40)[0]) for part in np.split(features, 2, axis=1)
    )
    assert opq.distortion_[-1] < 0.75 * fixed


def _error(points, centroids):
    return ((points[:, None] - centroids) ** 2).sum(axis=2).min(axis=1).mean()


def test_lloyd():
    """Against the two steps written out; the error never rises, whatever it starts from."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(200, 3))
    centroids = points[:20].copy()
    by_hand = centroids.copy()
    for _ in range(7):
        nearest = ((points[:, None] - by_hand) ** 2).sum(axis=2).argmin(axis=1)
        by_hand = np.array([points[nearest == i].mean(axis=0) for i in range(20)])
    np.testing.assert_allclose(lloyd(points, centroids, 7)[0], by_hand)
    np.testing.assert_array_equal(centroids, points[:20])


def test_empty_clusters_move_to_where_the_error_is_largest():
    rng = np.random.default_rng(0)
    points = np.concatenate((rng.normal(size=(100, 2)), rng.normal(size=(5, 2)) + 100))
    centroids = np.concatenate((rng.normal(size=(4, 2)), np.full((6, 2), -1e6)))
    errors = [_error(points, lloyd(points, centroids, n_iter)[0]) for n_iter in range(12)]
    assert (np.diff(errors) <= 1e-12).all()
    final = lloyd(points, centroids, 30)[0]
    nearest = ((points[:, None] - final) ** 2).sum(axis=2).argmin(axis=1)
    assert len(np.unique(nearest)) == 10
    assert len(np.unique(nearest[100:])) >= 1
    assert not set(nearest[:100]) & set(nearest[100:])


def test_few_samples_and_copies(clusters):
    """No more centroids than samples, each of which is a centroid then; copies leave centroids over."""
    features, _ = clusters(n=40)
    opq = OPQ(16, **SOME).fit(features)
    assert [len(c) for c in opq.centroids_] == [40, 40]
    assert opq.distortion_[-1] == pytest.approx(0, abs=1e-12)
    copies = np.tile(features[:7], (60, 1))
    opq = OPQ(16, **SOME).fit(copies)
    assert opq.distortion_[-1] == pytest.approx(0, abs=1e-12)
    np.testing.assert_array_equal(opq.encode(copies), np.tile(opq.encode(features[:7]), (60, 1)))
    constant = OPQ(16, **SOME).fit(np.full((300, 4), 0.1))
    assert constant.distortion_[-1] == pytest.approx(0, abs=1e-12)


def test_training_on_a_sample(clusters):
    features, _ = clusters(n=600)
    opq = OPQ(16, n_train=100, **SOME).fit(features)
    assert [len(c) for c in opq.centroids_] == [100, 100]
    np.testing.assert_allclose(opq.mean_, features.mean(axis=0))
    errors = ((rotated(opq, features) - reconstruct(opq, opq.encode(features))) ** 2).sum(axis=1)
    assert (errors < 1e-12).sum() == 100
    assert errors.max() > 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_features", [16, 19])
def test_search_equals_distances_from_reconstructions(n_features, dtype, clusters):
    features, _ = clusters(n=500, n_features=n_features)
    features = features.astype(dtype)
    opq = OPQ(32, **SOME).fit(features)
    queries, gallery = features[:9] + dtype(0.1), features[9:]
    codes = opq.encode(gallery)
    values, near = rotated(opq, queries), reconstruct(opq, codes)
    expected = np.array([[((q - x) ** 2).sum() for x in near] for q in values])
    distances = opq.distances(queries, codes)
    assert distances.dtype == np.float32
    np.testing.assert_allclose(distances, expected, rtol=1e-6)
    for k in (1, 10, 491):
        found, ids = opq.search(queries, codes, k)
        assert found.dtype == np.float32
        assert ids.dtype == np.int64
        assert found.shape == ids.shape == (9, k)
        order = np.array([sorted(range(491), key=lambda i, row=row: (row[i], i))[:k] for row in distances])
        np.testing.assert_array_equal(ids, order)
        np.testing.assert_array_equal(found, np.take_along_axis(distances, ids, axis=1))


def test_ties_are_ordered_by_id(clusters):
    features, _ = clusters(n=300)
    opq = OPQ(16, **SOME).fit(features)
    codes = opq.encode(features[[5, 3, 5, 3, 5, 5, 3, 8, 3]])
    distances, ids = opq.search(features[[5, 3]], codes, 9)
    assert ids[0].tolist()[:4] == [0, 2, 4, 5]
    assert ids[1].tolist()[:4] == [1, 3, 6, 8]
    assert (np.diff(distances, axis=1) >= 0).all()
    _, few = opq.search(features[[5, 3]], codes, 3)
    np.testing.assert_array_equal(few, ids[:, :3])


def test_empty_queries_and_codes(clusters):
    features, _ = clusters()
    opq = OPQ(16, **SOME).fit(features)
    codes = opq.encode(features)
    assert opq.distances(features[:0], codes).shape == (0, 300)
    assert opq.distances(features[:2], codes[:0]).shape == (2, 0)
    distances, ids = opq.search(features[:0], codes, 4)
    assert distances.shape == ids.shape == (0, 4)
    assert (distances.dtype, ids.dtype) == (np.float32, np.int64)


@pytest.mark.parametrize("name", ["search", "distances"])
@pytest.mark.parametrize(
    ("queries", "codes", "error", "message"),
    [
        (np.zeros((1, 19)), None, ValueError, "X has 19 features, but OPQ is expecting 20 features"),
        (np.zeros((1, 20), complex), None, ValueError, "Complex data not supported"),
        (np.full((1, 20), np.nan), None, ValueError, "Input X contains NaN"),
        (None, np.zeros((3, 3), np.uint8), ValueError, r"codes must have shape \(n, 2\) for 16 bits, got \(3, 3\)"),
        (None, np.zeros((3, 2), np.int64), TypeError, "codes must be a uint8 array of packed bits, got dtype int64"),
        (None, np.full((3, 2), 40, np.uint8), ValueError, "codes must be below the 40 centroids of a part, found 40"),
    ],
)
def test_bad_queries_and_codes(name, queries, codes, error, message, clusters):
    features, _ = clusters(n=40)
    opq = OPQ(16, **SOME).fit(features)
    queries = features if queries is None else queries
    codes = opq.encode(features) if codes is None else codes
    arguments = (queries, codes, 1) if name == "search" else (queries, codes)
    with pytest.raises(error, match=message):
        getattr(opq, name)(*arguments)


@pytest.mark.parametrize(("k", "error"), [(0, ValueError), (41, ValueError), (1.0, TypeError), (None, TypeError)])
def test_bad_k(k, error, clusters):
    features, _ = clusters(n=40)
    opq = OPQ(16, **SOME).fit(features)
    with pytest.raises(error, match="k must be"):
        opq.search(features, opq.encode(features), k)


def test_more_parts_than_dimensions(clusters):
    features, _ = clusters(n_features=3)
    with pytest.raises(ValueError, match=r"n_bits must be at most 8 \* n_features, n_features = 3, got 32"):
        OPQ(32).fit(features)
    OPQ(24, n_iter=1).fit(features)
