"""What all baselines promise: conventions of scikit-learn, determinism, and no surprise on bad input."""

import importlib
import math
import pickle
import re
import sys

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the baselines need scikit-learn, which the extra 'baselines' brings")

import scipy.sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import fasthash as fh
from fasthash import MissingExtraError
from fasthash.baselines import ITQ, KSH, LSH, OPQ, SDH, Baseline, SignBaseline, SpectralHashing

# Small enough for many runs.
OPTIONS = {
    LSH: {},
    SpectralHashing: {},
    ITQ: {"n_iter": 5},
    KSH: {"n_anchors": 40, "n_labelled": 100, "max_iter": 5},
    SDH: {"n_anchors": 60},
    OPQ: {"n_iter": 3},
}
METHODS = list(OPTIONS)
SUPERVISED = [KSH, SDH]
SIGNS = [method for method in METHODS if method is not OPQ]
every_method = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
every_supervised = pytest.mark.parametrize("method", SUPERVISED, ids=lambda method: method.__name__)

FEATURES = np.linspace(-1, 1, 96).reshape(12, 8) ** 3
BAD_FEATURES = [
    (FEATURES.astype(complex), ValueError, "Complex data not supported"),
    (np.full((12, 8), "cat"), ValueError, "could not convert string to float"),
    (None, ValueError, "Expected 2D array, got scalar array instead"),
    ("abc", ValueError, "dtype='numeric' is not compatible|could not convert|Expected 2D array"),
    (np.ma.masked_array(FEATURES, FEATURES > 0), TypeError, "X must be an array without a mask"),
    (scipy.sparse.csr_matrix(FEATURES), TypeError, "Sparse data was passed"),
    (scipy.sparse.coo_array(FEATURES), TypeError, "Sparse data was passed"),
    ([[1.0, 2.0], [3.0]], ValueError, "X must be an array, or lists of one length, got "),
    (FEATURES[0], ValueError, "Expected 2D array, got 1D array instead"),
    (FEATURES[None], ValueError, "Found array with dim 3"),
    (FEATURES[:, :0], ValueError, r"Found array with 0 feature\(s\)"),
    (np.where(FEATURES == 1, np.nan, FEATURES), ValueError, "Input X contains NaN"),
    (np.where(FEATURES == -1, np.inf, FEATURES), ValueError, "Input X contains infinity"),
]


def make(method, n_bits=16, **options):
    return method(n_bits, **({"random_state": 0} | OPTIONS[method] | options))


def raises(error, message):
    """pytest.raises, of a message that begins so."""
    return pytest.raises(error, match="^" + re.escape(message))


@every_method
def test_codes(method, clusters):
    features, labels = clusters()
    baseline = make(method)
    assert baseline.fit(features, labels) is baseline
    codes = baseline.encode(features)
    assert codes.dtype == np.uint8
    assert codes.shape == (300, 2)
    assert baseline.n_features_in_ == 20
    np.testing.assert_allclose(baseline.mean_, features.mean(axis=0))
    np.testing.assert_array_equal(baseline.transform(features), codes)
    assert len(np.unique(codes, axis=0)) > 4
    near = (labels[:, None] == labels) & ~np.eye(300, dtype=bool)
    if method is not OPQ:
        distances = (fh.unpack_bits(codes)[:, None] != fh.unpack_bits(codes)).sum(axis=2)
        assert distances[near].mean() < distances[~near].mean()


@pytest.mark.parametrize("method", SIGNS)
def test_bits_are_signs_of_the_projection(method, clusters):
    features, labels = clusters()
    baseline = make(method).fit(features, labels)
    values = baseline.project(features)
    assert values.dtype == np.float64
    assert values.shape == (300, 16)
    bits = [[int(value >= 0) for value in row] for row in values]
    np.testing.assert_array_equal(baseline.encode(features), fh.pack_bits(bits))


@every_method
def test_same_random_state_same_codes(method, clusters):
    features, labels = clusters()
    codes = make(method, random_state=3).fit(features, labels).encode(features)
    again = make(method, random_state=3).fit(features, labels).encode(features)
    of_state = make(method, random_state=np.random.RandomState(3)).fit(features, labels).encode(features)
    np.testing.assert_array_equal(again, codes)
    np.testing.assert_array_equal(of_state, codes)
    other = make(method, random_state=4).fit(features, labels).encode(features)
    assert np.array_equal(other, codes) == (method is SpectralHashing)  # which draws nothing
    make(method, random_state=None).fit(features, labels)


@every_method
def test_codes_do_not_depend_on_the_batch(method, clusters):
    features, labels = clusters(n=4500)  # more than one block
    baseline = make(method).fit(features[:300], labels[:300])
    codes = baseline.encode(features)
    for size in (1, 7, 300):
        rows = np.concatenate([baseline.encode(features[start : start + size]) for start in range(0, 300, size)])
        np.testing.assert_array_equal(rows[:300], codes[: len(rows)][:300])
    np.testing.assert_array_equal(baseline.encode(features[4000:]), codes[4000:])
    np.testing.assert_array_equal(baseline.encode(features[::-1]), codes[::-1])
    assert baseline.encode(features[:0]).shape == (0, 2)


@every_method
def test_features_of_any_form(method, clusters):
    features, labels = clusters()
    features = features.astype(np.float32)
    before = features.copy()
    codes = make(method).fit(features, labels).encode(features)
    wide = np.repeat(features, 2, axis=1)
    read_only = features.copy()
    read_only.flags.writeable = False
    for form in (features.astype(np.float64), np.asfortranarray(features), wide[:, ::2], read_only, features.tolist()):
        np.testing.assert_array_equal(make(method).fit(form, labels).encode(form), codes)
    np.testing.assert_array_equal(features, before)


@every_method
@pytest.mark.parametrize("kind", [np.float16, ">f4", np.int8, np.int64, np.uint8, bool, object])
def test_numbers_of_any_type(method, kind, clusters):
    """All but float32 become float64, which holds each of these as it is."""
    features, labels = clusters()
    numbers = np.round(np.abs(features) * 9).astype(np.float32)
    form = numbers > 20 if kind is bool else numbers.astype(kind)
    expected = make(method).fit(form.astype(np.float64), labels).encode(form.astype(np.float64))
    np.testing.assert_array_equal(make(method).fit(form, labels).encode(form), expected)


@every_method
def test_by_name(method, clusters):
    features, labels = clusters()
    codes = make(method).fit(X=features, y=labels).encode(X=features)
    np.testing.assert_array_equal(make(method).fit_transform(X=features, y=labels), codes)
    np.testing.assert_array_equal(make(method).fit(features, labels).transform(X=features), codes)


@every_method
def test_data_frames(method, clusters):
    pandas = pytest.importorskip("pandas", reason="data frames need pandas")
    features, labels = clusters()
    frame = pandas.DataFrame(features, columns=[f"f{i}" for i in range(20)])
    baseline = make(method).fit(frame, labels)
    codes = make(method).fit(features, labels).encode(features)
    assert baseline.feature_names_in_.tolist() == frame.columns.tolist()
    np.testing.assert_array_equal(baseline.encode(frame), codes)
    calls = [baseline.encode, baseline.transform]
    calls += [baseline.project] if method is not OPQ else [lambda queries: baseline.search(queries, codes, 1)]
    for wrong in (frame[frame.columns[::-1]], frame[[*frame.columns[1:], "f0"]], frame.rename(columns={"f3": "g3"})):
        for call in calls:
            with raises(ValueError, "The feature names should match those that were passed during fit."):
                call(wrong)
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        np.testing.assert_array_equal(baseline.encode(features), codes)
    assert not hasattr(baseline.fit(features, labels), "feature_names_in_")


@every_method
def test_names_of_the_bytes(method, clusters):
    pytest.importorskip("pandas", reason="data frames need pandas")
    features, labels = clusters()
    baseline = make(method, n_bits=16).fit(features, labels)
    names = [f"{method.__name__.lower()}{i}" for i in range(2)]
    assert baseline.get_feature_names_out().tolist() == names
    codes = baseline.transform(features)
    frame = baseline.set_output(transform="pandas").transform(features)
    assert (frame.columns.tolist(), set(frame.dtypes)) == (names, {np.dtype(np.uint8)})
    np.testing.assert_array_equal(frame.to_numpy(), codes)
    assert isinstance(baseline.encode(features), np.ndarray)
    pipeline = make_pipeline(StandardScaler(), make(method)).set_output(transform="pandas").fit(features, labels)
    assert pipeline.get_feature_names_out().tolist() == names
    assert pipeline.transform(features).columns.tolist() == names


def test_iterations_of_ksh(clusters):
    features, labels = clusters()
    assert make(KSH, max_iter=0).fit(features, labels).n_iter_ == 0
    assert make(KSH, max_iter=1).fit(features, labels).n_iter_ == 1
    n_iter = make(KSH, max_iter=500).fit(features, labels).n_iter_
    assert 1 < n_iter < 500
    enough, one_less = (make(KSH, max_iter=n).fit(features, labels) for n in (n_iter, n_iter - 1))
    np.testing.assert_array_equal(enough.projection_, make(KSH, max_iter=500).fit(features, labels).projection_)
    assert (enough.projection_ != one_less.projection_).any()


class WideITQ(ITQ):
    """ITQ on data of the checks, which have too few columns for 8 bits: as many more are made of them."""

    @staticmethod
    def wider(centred):
        return np.hstack([centred, np.sin(centred[:, :1] * np.arange(1, 9))])

    def learn(self, data):
        super().learn(data._replace(centred=self.wider(data.centred)))

    def project_centred(self, centred):
        return super().project_centred(self.wider(centred))


def not_expected(estimator):
    """Checks that estimators may fail, with the reasons."""
    if type(estimator) is ITQ:
        few = "ITQ takes at most as many bits as columns, codes have at least 8 bits, and the data have fewer columns"
        return dict.fromkeys(TOO_NARROW_FOR_ITQ, few)
    return {}


TOO_NARROW_FOR_ITQ = [
    "check_dict_unchanged",
    "check_dont_overwrite_parameters",
    "check_estimators_dtypes",
    "check_estimators_fit_returns_self",
    "check_estimators_nan_inf",
    "check_estimators_overwrite_params",
    "check_estimators_pickle",
    "check_f_contiguous_array_estimator",
    "check_fit2d_predict1d",
    "check_fit_check_is_fitted",
    "check_fit_idempotent",
    "check_fit_score_takes_y",
    "check_methods_sample_order_invariance",
    "check_methods_subset_invariance",
    "check_n_features_in",
    "check_n_features_in_after_fitting",
    "check_pipeline_consistency",
    "check_positive_only_tag_during_fit",
    "check_readonly_memmap_input",
    "check_transformer_data_not_an_array",
    "check_transformer_general",
]


@parametrize_with_checks(
    [*(make(method, n_bits=8) for method in METHODS), WideITQ(8, n_iter=5, random_state=0)],
    expected_failed_checks=not_expected,
)
def test_checks_of_scikit_learn(estimator, check):
    if isinstance(estimator, KSH) and check.func.__name__ == "check_methods_subset_invariance":
        pytest.skip("20 samples are all anchors: some projections are 0 but for rounding, which depends on the batch")
    check(estimator)


@every_method
def test_scale_of_features_does_not_matter(method, clusters):
    """With the default options, and exactly so for a power of two."""
    features, labels = clusters()
    codes = make(method).fit(features, labels).encode(features)
    for scale in (2.0**-20, 2.0**20):
        np.testing.assert_array_equal(make(method).fit(features * scale, labels).encode(features * scale), codes)


@every_method
def test_offset_of_features_does_not_matter(method, clusters):
    """Exactly so where the mean loses no digit."""
    features, labels = clusters(n=256)
    features = np.round(features * 2**10) / 2**10
    codes = make(method).fit(features, labels).encode(features)
    moved = features + 2.0**20
    np.testing.assert_array_equal(make(method).fit(moved, labels).encode(moved), codes)


@every_method
def test_not_fitted(method):
    with pytest.raises(NotFittedError):
        make(method).encode(FEATURES)
    with pytest.raises(NotFittedError):
        make(method).transform(FEATURES)
    with pytest.raises(NotFittedError):
        make(method).project(FEATURES) if method is not OPQ else make(method).search(FEATURES, FEATURES, 1)


@every_method
def test_parameters_are_stored_untouched(method):
    values = {name: object() for name in make(method).get_params()}
    baseline = method(**values)
    assert all(baseline.get_params()[name] is value for name, value in values.items())
    assert all(getattr(baseline, name) is value for name, value in values.items())
    assert vars(baseline) == values
    assert baseline.set_params(n_bits=32).n_bits == 32


@every_method
def test_clone_and_pickle(method, clusters):
    features, labels = clusters()
    baseline = make(method).fit(features, labels)
    codes = baseline.encode(features)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(baseline)).encode(features), codes)
    twin = clone(baseline)
    assert twin.get_params() == baseline.get_params()
    with pytest.raises(NotFittedError):
        twin.encode(features)
    np.testing.assert_array_equal(twin.fit(features, labels).encode(features), codes)
    assert type(baseline).__name__ in repr(baseline)


@every_method
def test_pipeline(method, clusters):
    features, labels = clusters()
    pipeline = make_pipeline(StandardScaler(), make(method)).fit(features, labels)
    scaled = StandardScaler().fit_transform(features)
    codes = make(method).fit(scaled, labels).encode(scaled)
    np.testing.assert_array_equal(pipeline.transform(features), codes)
    np.testing.assert_array_equal(make(method).fit_transform(scaled, labels), codes)


@every_method
@pytest.mark.parametrize(("features", "error", "message"), BAD_FEATURES)
def test_bad_features(method, features, error, message):
    baseline = make(method, n_bits=8)
    labels = np.arange(12) % 3
    with pytest.raises(error, match=message):
        baseline.fit(features, labels)
    good = np.random.default_rng(0).normal(size=(12, 8))
    with pytest.raises(error, match=message):
        baseline.fit(good, labels).encode(features)


@pytest.mark.parametrize("method", [each for each in METHODS if each is not LSH], ids=lambda method: method.__name__)
@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e160, 1e300])
def test_features_whose_squares_float64_cannot_hold(method, scale, clusters):
    features, labels = clusters()
    with raises(ValueError, "X must have values from 1e-150 to 1e+150, as far as they differ from their mean, got "):
        make(method).fit(features * scale, labels)
    for good in (1e-140, 1e140):
        codes = make(method).fit(features * good, labels).encode(features * good)
        assert len(np.unique(codes, axis=0)) > 1


@every_method
def test_wrong_width(method, clusters):
    features, labels = clusters()
    baseline = make(method).fit(features, labels)
    for wrong in (features[:, :19], np.hstack((features, features))):
        with raises(ValueError, f"X has {wrong.shape[1]} features, but {method.__name__} is expecting 20 features"):
            baseline.encode(wrong)


@every_method
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n_bits": 12}, ValueError, "n_bits must be a multiple of 8, got 12"),
        ({"n_bits": 0}, ValueError, "n_bits must be at least 8, got 0"),
        ({"n_bits": 4104}, ValueError, "n_bits must be at most 4096, got 4104"),
        ({"n_bits": 16.0}, TypeError, "n_bits must be an integer, got 16.0"),
        ({"n_bits": None}, TypeError, "n_bits must be an integer, got None"),
        ({"random_state": -1}, ValueError, "random_state must be None, an int from 0 to 2**32 - 1 or a RandomState"),
        ({"random_state": "0"}, ValueError, "random_state must be None, an int from 0 to 2**32 - 1 or a RandomState"),
    ],
)
def test_bad_options(method, options, error, message, clusters):
    features, labels = clusters()
    baseline = make(method).set_params(**options)  # raises nothing yet
    with raises(error, message):
        baseline.fit(features, labels)


_COUNTS = [
    (0, ValueError, "at least 1, got 0"),
    (1.5, TypeError, "an integer, got 1.5"),
    (True, TypeError, "an integer"),
]
_REALS = [
    (0, ValueError, "positive and finite, got 0"),
    (-1.0, ValueError, "positive and finite, got -1.0"),
    (math.nan, ValueError, "positive and finite, got nan"),
    (math.inf, ValueError, "positive and finite, got inf"),
    ("1", TypeError, "a number, got '1'"),
]


@pytest.mark.parametrize(
    ("method", "name", "value", "error", "message"),
    [
        (ITQ, "n_iter", -1, ValueError, "at least 0, got -1"),
        (KSH, "max_iter", -1, ValueError, "at least 0, got -1"),
        (SDH, "nu", -1e-9, ValueError, "finite and not negative, got -1e-09"),
        (SDH, "nu", math.nan, ValueError, "finite and not negative, got nan"),
        *((KSH, name, *bad) for name in ("n_anchors", "n_labelled") for bad in _COUNTS),
        *((SDH, name, *bad) for name in ("n_anchors", "n_iter") for bad in _COUNTS),
        *((OPQ, name, *bad) for name in ("n_iter", "n_train") for bad in _COUNTS),
        *((KSH, "sigma", *bad) for bad in _REALS),
        *((m, "sigma", v, ValueError, f"from 1e-150 to 1e+150, got {v}") for m in (KSH, SDH) for v in (1e-300, 1e300)),
        *((SDH, name, *bad) for name in ("sigma", "classifier_ridge", "regression_ridge") for bad in _REALS),
    ],
)
def test_bad_options_of_one_method(method, name, value, error, message, clusters):
    with raises(error, f"{name} must be {message}"):
        make(method, **{name: value}).fit(*clusters())


@pytest.mark.parametrize("method", [KSH, LSH, SDH, SpectralHashing])
def test_more_bits_than_dimensions(method, clusters):
    features, labels = clusters(n_features=3)
    assert make(method, n_bits=32).fit(features, labels).encode(features).shape == (300, 4)


@pytest.mark.parametrize("method", [LSH, OPQ])
def test_one_sample(method):
    features = np.array([[1.0, 2.0, 3.0, 4.0]])
    assert make(method).fit(features).encode(features).shape == (1, 2)


@pytest.mark.parametrize("method", [KSH, LSH, OPQ, SDH, SpectralHashing])
def test_two_samples(method):
    features = np.array([[1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 2.0, 0.0]])
    codes = make(method).fit(features, [0, 1]).encode(features)
    assert (codes[0] != codes[1]).any()


@every_method
def test_no_sample(method):
    with raises(ValueError, "Found array with 0 sample(s) (shape=(0, 8))"):
        make(method).fit(FEATURES[:0], np.zeros(0, np.int64))


@every_method
def test_refused_fit_changes_nothing(method, clusters):
    features, labels = clusters()
    baseline = make(method).fit(features, labels)
    before = pickle.dumps(vars(baseline))
    with pytest.raises(ValueError, match="Input X contains NaN"):
        baseline.fit(features * np.nan, labels)
    if method in SUPERVISED:
        with pytest.raises(ValueError, match="requires y to be passed"):
            baseline.fit(features[:, :9])
    assert pickle.dumps(vars(baseline)) == before


@every_method
def test_fitting_again_forgets(method, clusters):
    features, labels = clusters(seed=1, n_features=18)
    baseline = make(method).fit(*clusters()).fit(features, labels)
    expected = make(method).fit(features, labels).encode(features)
    np.testing.assert_array_equal(baseline.encode(features), expected)


@pytest.mark.parametrize("method", [LSH, SpectralHashing, ITQ, OPQ])
def test_labels_are_not_looked_at(method, clusters):
    features, labels = clusters()
    codes = make(method).fit(features).encode(features)
    np.testing.assert_array_equal(make(method).fit(features, labels).encode(features), codes)
    np.testing.assert_array_equal(make(method).fit(features, "any").encode(features), codes)


@every_supervised
@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (None, ValueError, "This {} estimator requires y to be passed, but the target y is None"),
        (np.arange(11), ValueError, "y must match the 12 rows of X, got 11"),
        (np.ones((11, 3), int), ValueError, "y must match the 12 rows of X, got 11"),
        (np.zeros((12, 1), int), ValueError, "y must have shape (n,), or (n, C) with C at least 2, got (12, 1)"),
        (np.zeros((12, 0), int), ValueError, "y must have shape (n,), or (n, C) with C at least 2, got (12, 0)"),
        (np.zeros((12, 2, 2)), ValueError, "y must have shape (n,), or (n, C) with C at least 2, got (12, 2, 2)"),
        (np.arange(12) + 0.5, ValueError, "Unknown label type: continuous"),
        (np.arange(12).astype("datetime64[D]"), TypeError, "y of shape (n,) must be classes: integers, strings"),
        (np.where(np.arange(12) > 3, np.nan, 1), ValueError, "Input y contains NaN"),
        (np.array(["cat", None] * 6, dtype=object), ValueError, "y must hold classes of one type, got NoneType, str"),
        (np.array(["1", 1] * 6, dtype=object), ValueError, "y must hold classes of one type, got int, str"),
        (np.full(12, None), TypeError, "y of shape (n,) must be classes: integers, strings or booleans, got NoneType"),
        (np.full((12, 2), "1"), TypeError, "y of shape (n, C) must be zeros and ones, got dtype <U1"),
        (np.full((12, 2), 2), ValueError, "y of shape (n, C) must be zeros and ones, found 2"),
        (np.full((12, 2), np.nan), ValueError, "Input y contains NaN"),
    ],
)
def test_bad_labels(method, labels, error, message):
    with raises(error, message.format(method.__name__) if labels is None else message):
        make(method, n_bits=8).fit(FEATURES, labels)


@every_supervised
def test_labels_of_any_form(method, clusters):
    features, labels = clusters()
    codes = make(method).fit(features, labels).encode(features)
    hot = labels[:, None] == np.arange(5)
    names = np.array(["ant", "bee", "cat", "dog", "eel"])[labels]
    forms = (labels.astype(np.int8), labels.tolist(), labels * 1000 - 2000, hot, hot.astype(np.float32), hot.tolist())
    forms += (labels.astype(float), names, names.astype(object), names.tolist())
    forms += (scipy.sparse.csr_matrix(hot.astype(int)), scipy.sparse.csr_array(hot))
    if pandas := sys.modules.get("pandas"):  # which scikit-learn imports where it is
        forms += (pandas.Series(names), pandas.Series(names, dtype="category"), pandas.DataFrame(hot))
    for form in forms:
        np.testing.assert_array_equal(make(method).fit(features, form).encode(features), codes)


@every_supervised
def test_two_classes_of_any_form(method, clusters):
    features, labels = clusters(n_classes=2)
    codes = make(method).fit(features, labels).encode(features)
    for form in (labels.astype(bool), (labels > 0).tolist(), np.where(labels, "yes", "no"), -labels[::1] * -7):
        np.testing.assert_array_equal(make(method).fit(features, form).encode(features), codes)


@every_supervised
def test_label_sets(method):
    """Items are near where they share any label: of the pairs {0, 1}, {1, 2}, {3}, the first two are similar."""
    rng = np.random.default_rng(0)
    sets = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]])
    kind = rng.integers(3, size=300)
    features = 3 * np.eye(3)[kind] + rng.normal(size=(300, 3)) * 0.3
    baseline = make(method).fit(features, sets[kind])
    bits = fh.unpack_bits(baseline.encode(3 * np.eye(3))).astype(int)
    first_second, first_third, second_third = (np.abs(bits[i] - bits[j]).sum() for i, j in ((0, 1), (0, 2), (1, 2)))
    assert first_second < min(first_third, second_third)


def test_what_a_subclass_must_implement():
    baseline = SignBaseline()
    baseline.n_bits, baseline.random_state = 8, None
    with pytest.raises(NotImplementedError, match="SignBaseline must implement learn"):
        baseline.fit(FEATURES)
    with pytest.raises(NotImplementedError, match="SignBaseline must implement project_centred"):
        baseline.project_centred(FEATURES)
    with pytest.raises(NotImplementedError, match="Baseline must implement encode_centred"):
        Baseline().encode_centred(FEATURES)


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    for name in [name for name in sys.modules if name.startswith(("fasthash.baselines", "sklearn"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingExtraError, match=r"'sklearn.*fasthash-search\[baselines\]"):
        importlib.import_module("fasthash.baselines")
