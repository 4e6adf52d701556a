"""What all baselines promise: conventions of scikit-learn, determinism, and no surprise on bad input."""

import importlib
import math
import pickle
import re
import sys

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the baselines need scikit-learn, which the extra 'baselines' brings")

from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

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
    (FEATURES.astype(np.float16), TypeError, "features must be a float32 or float64 array, got dtype float16"),
    (FEATURES.astype(">f4"), TypeError, "features must be a float32 or float64 array, got dtype >f4"),
    (FEATURES.astype(np.int64), TypeError, "features must be a float32 or float64 array, got dtype int64"),
    (FEATURES.astype(complex), TypeError, "features must be a float32 or float64 array, got dtype complex128"),
    (FEATURES.astype(object), TypeError, "features must be a float32 or float64 array, got dtype object"),
    (None, TypeError, "features must be a float32 or float64 array, got dtype object"),
    ("abc", TypeError, "features must be a float32 or float64 array, got dtype <U3"),
    (np.ma.masked_array(FEATURES, FEATURES > 0), TypeError, "features must be an array without a mask"),
    ([[1.0, 2.0], [3.0]], ValueError, "features must be an array: "),
    (FEATURES[0], ValueError, "features must have shape (n, D) with D at least 1, got (8,)"),
    (FEATURES[None], ValueError, "features must have shape (n, D) with D at least 1, got (1, 12, 8)"),
    (FEATURES[:, :0], ValueError, "features must have shape (n, D) with D at least 1, got (12, 0)"),
    (np.where(FEATURES == 1, np.nan, FEATURES), ValueError, "features must be finite, found nan at index [11, 7]"),
    (np.where(FEATURES == -1, np.inf, FEATURES), ValueError, "features must be finite, found inf at index [0, 0]"),
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
    with raises(error, message):
        baseline.fit(features, labels)
    good = np.random.default_rng(0).normal(size=(12, 8))
    with raises(error, message):
        baseline.fit(good, labels).encode(features)


@every_method
def test_wrong_width(method, clusters):
    features, labels = clusters()
    baseline = make(method).fit(features, labels)
    for wrong in (features[:, :19], np.hstack((features, features))):
        with raises(ValueError, f"features must have the 20 columns of the training features, got {wrong.shape[1]}"):
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
    with raises(ValueError, "features must hold at least 1 sample, got shape (0, 8)"):
        make(method).fit(FEATURES[:0], np.zeros(0, np.int64))


@every_method
def test_refused_fit_changes_nothing(method, clusters):
    features, labels = clusters()
    baseline = make(method).fit(features, labels)
    before = pickle.dumps(vars(baseline))
    with pytest.raises(ValueError, match="must be finite"):
        baseline.fit(features * np.nan, labels)
    if method in SUPERVISED:
        with pytest.raises(ValueError, match="labels must"):
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
        (None, ValueError, "labels must be given, as this method learns from them, got None"),
        (np.arange(11), ValueError, "labels must match the 12 rows of features, got 11"),
        (np.ones((11, 3), int), ValueError, "labels must match the 12 rows of features, got 11"),
        (np.zeros((12, 1), int), ValueError, "labels must have shape (n,), or (n, C) with C at least 2, got (12, 1)"),
        (np.zeros((12, 0), int), ValueError, "labels must have shape (n,), or (n, C) with C at least 2, got (12, 0)"),
        (np.zeros((12, 2, 2)), ValueError, "labels must have shape (n,), or (n, C) with C at least 2, got (12, 2, 2)"),
        (np.arange(12.0), TypeError, "labels of shape (n,) must be integer classes, got dtype float64"),
        (np.ones(12, bool), TypeError, "labels of shape (n,) must be integer classes, got dtype bool"),
        (["cat"] * 12, TypeError, "labels of shape (n,) must be integer classes, got dtype <U3"),
        (np.full((12, 2), "1"), TypeError, "labels of shape (n, C) must be zeros and ones, got dtype <U1"),
        (np.full((12, 2), 2), ValueError, "labels of shape (n, C) must be zeros and ones, found 2"),
        (np.full((12, 2), np.nan), ValueError, "labels of shape (n, C) must be zeros and ones, found nan"),
    ],
)
def test_bad_labels(method, labels, error, message):
    with raises(error, message):
        make(method, n_bits=8).fit(FEATURES, labels)


@every_supervised
def test_labels_of_any_form(method, clusters):
    features, labels = clusters()
    codes = make(method).fit(features, labels).encode(features)
    hot = labels[:, None] == np.arange(5)
    forms = (labels.astype(np.int8), labels.tolist(), labels * 1000 - 2000, hot, hot.astype(np.float32), hot.tolist())
    for form in forms:
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
