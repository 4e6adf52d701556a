"""HammingNeighbors against scikit-learn's NearestNeighbors, and under scikit-learn's own checks."""

import pickle
import re

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="needs the extra sklearn")

from sklearn.base import clone
from sklearn.cluster import DBSCAN
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import (
    KNeighborsClassifier,
    KNeighborsTransformer,
    NearestNeighbors,
    RadiusNeighborsTransformer,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import fasthash as fh
from fasthash import neighbors as module
from fasthash.baselines import ITQ, LSH, SDH
from fasthash.neighbors import HammingNeighbors, HammingRadiusNeighbors, JaccardNeighbors

WIDTHS = [1, 7, 8, 13, 64, 65]
SEARCHES = ["train", "queries"]


def bits(n, n_bits, seed=0):
    return np.random.default_rng(seed).integers(0, 2, (n, n_bits))


def both(n_bits, **options):
    """Ours and theirs, fitted on the same 120 samples, of which some are equal."""
    train = bits(120, n_bits)
    train[100:] = train[:20]
    theirs = NearestNeighbors(metric="hamming", algorithm="brute").fit(train)
    return HammingNeighbors(**options).fit(train), theirs, train


def by_hand(train, queries, own):
    """Rows of `train` ordered by (distance, row) for each query, without its own row, and their distances in bits."""
    for row, query in enumerate(queries):
        found = [(int((sample != query).sum()), i) for i, sample in enumerate(train) if not (own and i == row)]
        yield zip(*sorted(found), strict=True)


@pytest.mark.parametrize("algorithm", ["auto", "brute"])
@pytest.mark.parametrize("n_bits", WIDTHS)
@pytest.mark.parametrize("search", SEARCHES)
def test_nearest(search, n_bits, algorithm):
    ours, theirs, train = both(n_bits, algorithm=algorithm)
    queries = None if search == "train" else bits(30, n_bits, seed=1)
    distances, rows = ours.kneighbors(queries, 9)
    np.testing.assert_array_equal(distances, theirs.kneighbors(queries, 9)[0])
    assert (distances.dtype, rows.dtype) == (np.float64, np.int64)
    expected = by_hand(train, train if queries is None else queries, queries is None)
    for row, (wanted, wanted_rows) in enumerate(expected):
        assert rows[row].tolist() == list(wanted_rows[:9])
        assert (distances[row] * n_bits).round().tolist() == list(wanted[:9])


@pytest.mark.parametrize("n_bits", WIDTHS)
@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("radius", [0, 1 / 13, 3 / 13, 0.2, 0.5, 1, 7.5])
def test_within_a_radius(radius, search, n_bits):
    ours, theirs, train = both(n_bits)
    queries = None if search == "train" else bits(30, n_bits, seed=1)
    for mode in ("connectivity", "distance"):
        found = ours.radius_neighbors_graph(queries, radius, mode)
        wanted = theirs.radius_neighbors_graph(queries, radius, mode)
        assert found.shape == wanted.shape
        assert found.nnz == wanted.nnz  # edges of length 0 are edges too
        np.testing.assert_array_equal(found.toarray(), wanted.toarray())
    distances, rows = ours.radius_neighbors(queries, radius)
    expected = by_hand(train, train if queries is None else queries, queries is None)
    for row, (wanted, wanted_rows) in enumerate(expected):
        n = sum(distance / n_bits <= radius for distance in wanted)
        assert rows[row].tolist() == list(wanted_rows[:n])
        assert (distances[row] * n_bits).round().tolist() == list(wanted[:n])


def test_results_are_sorted_with_and_without_the_argument():
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2, (200, 12))
    for kind, name in ((HammingNeighbors, "hamming"), (JaccardNeighbors, "jaccard")):
        ours = kind(radius=0.4).fit(bits)
        theirs = NearestNeighbors(radius=0.4, metric=name).fit(bits.astype(bool))
        expected, _ = theirs.radius_neighbors(bits[:5].astype(bool), sort_results=True)
        for sort_results in (True, False):
            distances, rows = ours.radius_neighbors(bits[:5], sort_results=sort_results)
            for row, (one, other) in enumerate(zip(distances, expected, strict=True)):
                np.testing.assert_array_equal(one, other)
                assert rows[row].tolist() == ours.radius_neighbors(bits[:5])[1][row].tolist()
            graph = ours.radius_neighbors_graph(bits, sort_results=sort_results)
            assert (graph != ours.radius_neighbors_graph(bits)).nnz == 0
        for search in (ours.radius_neighbors, ours.radius_neighbors_graph):
            with pytest.raises(TypeError, match="sort_results must be True or False, got 1"):
                search(bits, sort_results=1)


@pytest.mark.parametrize("search", SEARCHES)
def test_graph_of_the_nearest(search):
    ours, theirs, _ = both(64)
    queries = None if search == "train" else bits(30, 64, seed=1)
    for mode in ("connectivity", "distance"):
        graph = ours.kneighbors_graph(queries, 4, mode)
        assert graph.shape == theirs.kneighbors_graph(queries, 4, mode).shape
        assert (graph.getnnz(axis=1) == 4).all()
        distances, rows = ours.kneighbors(queries, 4)
        np.testing.assert_array_equal(graph.indices.reshape(rows.shape), rows)
        np.testing.assert_array_equal(graph.data.reshape(rows.shape), distances if mode == "distance" else 1)


@pytest.mark.parametrize("n_same", [3, 6, 40])
def test_a_sample_among_equals_is_not_its_own_neighbour(n_same):
    train = np.vstack([np.tile(bits(1, 16), (n_same, 1)), bits(10, 16, seed=1)])
    distances, rows = HammingNeighbors().fit(train).kneighbors()
    expected = by_hand(train, train, own=True)
    for row, (_, wanted_rows) in enumerate(expected):
        assert rows[row].tolist() == list(wanted_rows[:5])
    np.testing.assert_array_equal(
        distances, NearestNeighbors(metric="hamming", algorithm="brute").fit(train).kneighbors()[0]
    )


def test_packed_codes_are_the_same_samples():
    train, queries = bits(100, 64), bits(20, 64, seed=1)
    of_bits = HammingNeighbors().fit(train)
    packed = HammingNeighbors(packed=True).fit(fh.pack_bits(train))
    assert (of_bits.n_features_in_, packed.n_features_in_) == (64, 8)
    assert of_bits.n_bits_ == packed.n_bits_ == 64
    for a, b in zip(of_bits.kneighbors(queries), packed.kneighbors(fh.pack_bits(queries)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_distances_in_bits():
    train = bits(100, 13)
    shares, in_bits = HammingNeighbors().fit(train), HammingNeighbors(normalize=False, radius=3).fit(train)
    distances, rows = in_bits.kneighbors()
    assert distances.dtype == np.int32
    np.testing.assert_array_equal(distances / 13, shares.kneighbors()[0])
    np.testing.assert_array_equal(rows, shares.kneighbors(return_distance=False))
    within, found = in_bits.radius_neighbors()
    assert max(d.max() for d in within if len(d)) == 3
    for a, b in zip(found, shares.radius_neighbors(radius=3 / 13, return_distance=False), strict=True):
        np.testing.assert_array_equal(a, b)


def test_arguments_of_the_constructor_are_defaults():
    train = bits(100, 16)
    default = HammingNeighbors(n_neighbors=7, radius=0.25).fit(train)
    given = HammingNeighbors().fit(train)
    assert default.kneighbors()[0].shape == (100, 7)
    assert (default.kneighbors_graph() != given.kneighbors_graph(n_neighbors=7)).nnz == 0
    assert default.radius_neighbors_graph().nnz == given.radius_neighbors_graph(radius=0.25).nnz
    assert given.kneighbors()[0].shape == (100, 5)
    assert given.radius_neighbors_graph().nnz == 100 * 99


def test_the_index_below():
    train = bits(100, 13)
    assert isinstance(HammingNeighbors(algorithm="brute").fit(train).index_, fh.FlatIndex)
    index = HammingNeighbors(memory="fast").fit(train).index_
    assert isinstance(index, fh.HierIndex)
    assert (index.memory, index.level_bits) == ("fast", (13,))
    codes, ids = index.to_arrays()
    np.testing.assert_array_equal(ids, np.arange(100))
    np.testing.assert_array_equal(fh.unpack_bits(codes, 13), train)


def test_a_changed_index_needs_another_fit():
    train = bits(100, 13)
    neighbors = HammingNeighbors().fit(train)
    neighbors.index_.remove([7])
    for search in (neighbors.kneighbors, neighbors.radius_neighbors_graph, lambda: neighbors.kneighbors_graph(train)):
        with pytest.raises(ValueError, match="must hold the 100 training samples, but it was changed and holds 99"):
            search()
    neighbors.index_.add(np.packbits(train[7:8], axis=1))  # as many again, but another id
    with pytest.raises(ValueError, match="was changed and holds 100"):
        neighbors.kneighbors()
    assert neighbors.fit(train).kneighbors()[0].shape == (100, 5)


@pytest.mark.parametrize("kind", [bool, np.uint8, np.int8, np.int64, np.float32, np.float64, list, object])
def test_bits_of_any_type(kind):
    train = bits(50, 13)
    form = train.tolist() if kind is list else train.astype(kind)
    found = HammingNeighbors().fit(form).kneighbors(form)
    for a, b in zip(found, HammingNeighbors().fit(train).kneighbors(train), strict=True):
        np.testing.assert_array_equal(a, b)


def test_several_arrays_of_one_length():
    rows = HammingNeighbors(radius=0).fit(np.eye(8)).radius_neighbors(np.eye(8), return_distance=False)
    assert (rows.shape, rows.dtype) == ((8,), object)
    assert [row.tolist() for row in rows] == [[i] for i in range(8)]


BITS = bits(6, 8)


@pytest.mark.parametrize(
    ("options", "samples", "error", "message"),
    [
        ({}, BITS * 2, ValueError, "X must hold only zeros and ones where packed=False, found 2"),
        ({}, BITS - 1, ValueError, "X must hold only zeros and ones where packed=False, found -1"),
        ({}, BITS * 0.5, ValueError, "X must hold only zeros and ones where packed=False, found 0.5"),
        ({}, np.where(BITS, np.nan, 0), ValueError, "Input X contains NaN"),
        ({}, np.ones((3, 4097)), ValueError, "X must have at most 4096 columns, got shape (3, 4097)"),
        ({}, BITS[:0], ValueError, "Found array with 0 sample(s)"),
        ({}, BITS[0], ValueError, "Expected 2D array, got 1D array instead"),
        (
            {"packed": True},
            BITS,
            TypeError,
            "X must be a uint8 array of packed bits where packed=True, got dtype int64",
        ),
        (
            {"packed": True},
            np.ones((3, 513), np.uint8),
            ValueError,
            "X must have at most 512 columns, got shape (3, 513)",
        ),
        ({"packed": 1}, BITS, TypeError, "packed must be True or False, got 1"),
        ({"normalize": "no"}, BITS, TypeError, "normalize must be True or False, got 'no'"),
        ({"n_neighbors": 0}, BITS, ValueError, "n_neighbors must be at least 1, got 0"),
        ({"n_neighbors": 2.0}, BITS, TypeError, "n_neighbors must be an integer, got 2.0"),
        ({"radius": -1}, BITS, ValueError, "radius must be finite and not negative, got -1"),
        ({"radius": "1"}, BITS, TypeError, "radius must be a number, got '1'"),
        ({"algorithm": "ball_tree"}, BITS, ValueError, "algorithm must be one of 'auto', 'brute', got 'ball_tree'"),
        ({"memory": "much"}, BITS, ValueError, "memory must be one of 'compact', 'default', 'fast', got 'much'"),
    ],
)
def test_bad_arguments_of_fit(options, samples, error, message):
    neighbors = HammingNeighbors().fit(np.eye(5))
    before = pickle.dumps(vars(neighbors.set_params(**options)))
    with pytest.raises(error, match="^" + re.escape(message)):
        neighbors.fit(samples)
    assert pickle.dumps(vars(neighbors)) == before


def test_bad_arguments_of_searches():
    neighbors = HammingNeighbors()
    for name in ("kneighbors", "radius_neighbors", "kneighbors_graph", "radius_neighbors_graph"):
        with pytest.raises(NotFittedError):
            getattr(neighbors, name)(BITS)
    neighbors.fit(BITS)
    for call, error, message in [
        (
            lambda: neighbors.kneighbors(n_neighbors=6),
            ValueError,
            "n_neighbors must be at most 5, got 6: n_samples_fit = 6",
        ),
        (lambda: neighbors.kneighbors(BITS, 7), ValueError, "n_neighbors must be at most 6, got 7: n_samples_fit = 6"),
        (lambda: neighbors.kneighbors(BITS, 0), ValueError, "n_neighbors must be at least 1, got 0"),
        (lambda: neighbors.kneighbors(BITS * 2), ValueError, "X must hold only zeros and ones"),
        (
            lambda: neighbors.kneighbors(BITS[:, :7]),
            ValueError,
            "X has 7 features, but HammingNeighbors is expecting 8",
        ),
        (
            lambda: neighbors.radius_neighbors(BITS, np.nan),
            ValueError,
            "radius must be finite and not negative, got nan",
        ),
        (
            lambda: neighbors.kneighbors_graph(BITS, mode="d"),
            ValueError,
            "mode must be one of 'connectivity', 'distance'",
        ),
        (
            lambda: neighbors.radius_neighbors_graph(mode="d"),
            ValueError,
            "mode must be one of 'connectivity', 'distance'",
        ),
    ]:
        with pytest.raises(error, match="^" + re.escape(message)):
            call()
    assert neighbors.kneighbors(n_neighbors=5)[0].shape == (6, 5)
    assert neighbors.kneighbors(BITS, 6)[0].shape == (6, 6)


def test_clone_and_pickle():
    neighbors = HammingNeighbors(n_neighbors=3, radius=0.5, packed=True, normalize=False, algorithm="brute")
    assert clone(neighbors).get_params() == neighbors.get_params()
    neighbors.fit(fh.pack_bits(BITS))
    again = pickle.loads(pickle.dumps(neighbors))
    np.testing.assert_array_equal(again.kneighbors()[1], neighbors.kneighbors()[1])


def test_graphs_serve_other_estimators():
    rng = np.random.default_rng(0)
    classes = rng.integers(3, size=200)
    samples = bits(3, 64)[classes] ^ (rng.random((200, 64)) < 0.1)
    graph = HammingNeighbors(radius=0.35).fit(samples).radius_neighbors_graph(samples, mode="distance")
    np.testing.assert_array_equal(
        DBSCAN(eps=0.35, metric="precomputed").fit_predict(graph),
        DBSCAN(eps=0.35, metric="hamming").fit_predict(samples),
    )
    neighbors = HammingNeighbors(n_neighbors=7).fit(samples[:150])
    knn = KNeighborsClassifier(7, metric="precomputed").fit(neighbors.kneighbors_graph(mode="distance"), classes[:150])
    assert knn.score(neighbors.kneighbors_graph(samples[150:], mode="distance"), classes[150:]) == 1


@pytest.mark.parametrize("method", [ITQ(16, random_state=0), SDH(16, n_anchors=40, random_state=0)])
def test_pipeline_of_features_codes_neighbours(method):
    rng = np.random.default_rng(0)
    labels = rng.integers(4, size=200)
    features = rng.normal(size=(4, 32))[labels] + 0.2 * rng.normal(size=(200, 32))
    pipeline = make_pipeline(StandardScaler(), clone(method), HammingNeighbors(packed=True)).fit(features, labels)
    scaled = StandardScaler().fit_transform(features)
    codes = clone(method).fit(scaled, labels).encode(scaled)
    np.testing.assert_array_equal(pipeline[-1].index_.to_arrays()[0], codes)
    rows = pipeline[-1].kneighbors(pipeline[:-1].transform(features[:9]), return_distance=False)
    np.testing.assert_array_equal(rows, fh.HierIndex.from_arrays(codes).search(codes[:9], 5).ids)


def test_grid_search_over_a_pipeline():
    """The classifier at its end takes the graph of the neighbours; eight random bits are too few for twelve classes."""
    rng = np.random.default_rng(0)
    labels = rng.integers(12, size=240)
    features = rng.normal(size=(12, 32))[labels] + rng.normal(size=(240, 32))
    knn = KNeighborsClassifier(5, metric="precomputed")
    pipeline = make_pipeline(StandardScaler(), LSH(random_state=0), HammingNeighbors(packed=True), knn)
    search = GridSearchCV(pipeline, {"lsh__n_bits": [8, 64]}, cv=3).fit(features, labels)
    narrow, wide = search.cv_results_["mean_test_score"]
    assert narrow + 0.2 < wide
    assert search.best_estimator_[-2].n_bits_ == 64


def test_the_graph_in_a_pipeline_is_that_of_the_neighbours():
    train, queries = bits(100, 16), bits(20, 16, seed=1)
    neighbors = HammingNeighbors(n_neighbors=3)
    wanted = neighbors.fit(train).kneighbors_graph(queries, mode="distance")
    assert (neighbors.transform(queries) != wanted).nnz == 0
    own = neighbors.fit_transform(train)
    assert (own[np.arange(100), np.arange(100)] == 0).all()
    assert (own.indptr == np.arange(101) * 3).all()


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("n_bits", [13, 64])
def test_edges_are_float64(normalize, n_bits):
    train = bits(50, n_bits)
    neighbors = HammingNeighbors(normalize=normalize).fit(train)
    for graph in (
        neighbors.kneighbors_graph(train, mode="distance"),
        neighbors.kneighbors_graph(train),
        neighbors.radius_neighbors_graph(train, 0.2, mode="distance"),
        neighbors.radius_neighbors_graph(radius=0.2),
        neighbors.transform(train),
        HammingRadiusNeighbors(normalize=normalize).fit_transform(train),
    ):
        assert graph.dtype == np.float64
    rows = neighbors.kneighbors_graph(train, mode="distance").data.reshape(50, 5)
    np.testing.assert_array_equal(rows, neighbors.kneighbors(train)[0])


@pytest.mark.parametrize("radius", [0, 0.2, 1])
def test_the_transformer_of_a_radius_is_that_of_scikit_learn(radius):
    train, queries = bits(60, 20), bits(30, 20, seed=1)
    ours = HammingRadiusNeighbors(radius=radius)
    theirs = RadiusNeighborsTransformer(mode="distance", radius=radius, metric="hamming", algorithm="brute")
    for found, wanted in (
        (ours.fit_transform(train), theirs.fit_transform(train)),
        (ours.transform(queries), theirs.transform(queries)),
    ):
        assert (found.shape, found.nnz) == (wanted.shape, wanted.nnz)
        np.testing.assert_array_equal(found.toarray(), wanted.toarray())
    assert (ours.get_feature_names_out()[[0, -1]] == ["hammingradiusneighbors0", "hammingradiusneighbors59"]).all()
    clusters = make_pipeline(HammingRadiusNeighbors(radius=0.2), DBSCAN(eps=0.2, metric="precomputed"))
    np.testing.assert_array_equal(clusters.fit_predict(train), DBSCAN(eps=0.2, metric="hamming").fit_predict(train))


@pytest.mark.parametrize("packed", [False, True])
def test_data_frames(packed):
    pandas = pytest.importorskip("pandas", reason="data frames need pandas")
    samples = fh.pack_bits(bits(40, 64)) if packed else bits(40, 8)
    frame = pandas.DataFrame(samples, columns=list("abcdefgh"))
    neighbors = HammingNeighbors(packed=packed).fit(frame)
    assert neighbors.feature_names_in_.tolist() == list("abcdefgh")
    np.testing.assert_array_equal(
        neighbors.kneighbors(frame)[1], HammingNeighbors(packed=packed).fit(samples).kneighbors(samples)[1]
    )
    for wrong in (frame[frame.columns[::-1]], frame.rename(columns={"a": "z"})):
        for search in (neighbors.kneighbors, neighbors.radius_neighbors_graph, neighbors.transform):
            with pytest.raises(ValueError, match="The feature names should match those that were passed during fit"):
                search(wrong)
    assert neighbors.get_feature_names_out().tolist() == [f"hammingneighbors{i}" for i in range(40)]
    theirs = KNeighborsTransformer(metric="hamming").fit(samples).set_output(transform="pandas")
    for estimator in (neighbors.set_output(transform="pandas"), theirs):  # a graph is sparse
        with pytest.raises(ValueError, match=r"[Ss]parse"):
            estimator.transform(frame)
    assert neighbors.set_output(transform="default").transform(frame).shape == (40, 40)


def test_codes_in_data_frames_go_through_a_pipeline():
    pytest.importorskip("pandas", reason="data frames need pandas")
    features = np.random.default_rng(0).normal(size=(60, 32))
    labels = np.arange(60) % 3
    frames = make_pipeline(StandardScaler(), SDH(16, n_anchors=20, random_state=0), HammingNeighbors(packed=True))
    arrays = clone(frames).fit(features, labels)
    frames[:2].set_output(transform="pandas")
    frames.fit(features, labels)
    assert frames[-1].feature_names_in_.tolist() == ["sdh0", "sdh1"]
    assert (frames.transform(features) != arrays.transform(features)).nnz == 0


@pytest.fixture
def data_of_the_checks_become_bits(monkeypatch):
    """The data of scikit-learn's checks are real numbers: cut at 0, so that all checks apply. Nothing else changes."""
    monkeypatch.setattr(module, "_packed_bits", lambda array: np.packbits(array > 0, axis=1))
    monkeypatch.setattr(module, "_checked_codes", lambda array: (array > 0).astype(np.uint8))


def not_expected(estimator):
    reason = "packed codes are uint8 arrays and nothing else: other dtypes are refused, whatever they hold"
    return {"check_dtype_object": reason} if estimator.packed else {}


@parametrize_with_checks(
    [
        HammingNeighbors(),
        HammingNeighbors(algorithm="brute", normalize=False),
        HammingNeighbors(packed=True),
        HammingRadiusNeighbors(radius=0.3),
    ],
    expected_failed_checks=not_expected,
)
def test_checks_of_scikit_learn(estimator, check, data_of_the_checks_become_bits):
    check(estimator)


# ---- Jaccard distance ----


@pytest.mark.parametrize("radius", [0.3, 0.4, 2 / 3])
def test_jaccard_distances_are_those_of_scikit_learn_to_the_last_digit(radius):
    train = bits(300, 21)
    train = train[train.any(axis=1)]
    theirs = NearestNeighbors(metric="jaccard", algorithm="brute", radius=radius).fit(train.astype(bool))
    wanted = theirs.radius_neighbors_graph(mode="distance").toarray()
    found = JaccardNeighbors(radius=radius).fit(train).radius_neighbors_graph(mode="distance")
    assert found.data.max() <= radius  # estimators drop what is farther
    np.testing.assert_array_equal(found.toarray(), wanted)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("search", SEARCHES)
def test_jaccard_neighbours_are_those_of_scikit_learn(search, packed):
    train, others = bits(120, 64), bits(30, 64, seed=1)
    train[100:], train[7] = train[:20], 0
    theirs = NearestNeighbors(metric="jaccard", algorithm="brute").fit(train.astype(bool))
    codes = np.packbits(train, axis=1) if packed else train
    ours = JaccardNeighbors(n_neighbors=9, packed=packed).fit(codes)
    queries, theirs_of = None, None
    if search == "queries":
        queries, theirs_of = np.packbits(others, axis=1) if packed else others, others.astype(bool)
    distances, rows = ours.kneighbors(queries)
    np.testing.assert_allclose(distances, theirs.kneighbors(theirs_of, 9)[0], atol=1e-7)
    assert (distances.dtype, rows.dtype) == (np.float64, np.int64)
    for radius in (0, 0.5, 2 / 3, 1):
        np.testing.assert_allclose(
            ours.radius_neighbors_graph(queries, radius, "distance").toarray(),
            theirs.radius_neighbors_graph(theirs_of, radius, "distance").toarray(),
            atol=1e-7,
        )
    assert clone(ours).get_params() == {"n_neighbors": 9, "radius": 1.0, "packed": packed, "n_bits": None}
