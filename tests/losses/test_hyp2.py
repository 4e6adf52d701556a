"""HyP2Loss: golden values, its formula as loops, and its arguments."""

import pytest

pytest.importorskip("torch", reason="the losses need torch, which the extra 'train' brings")

import loss_formulas as formulas
from fasthash.losses import HyP2Loss
from loss_cases import CLASSES, LABEL_SETS, PROXIES, Z, assert_formula, assert_golden, assert_refused, each_labels, hyp2


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"beta": 0.0}, 0.7289316424 + 0.1699369389),
        ({"beta": 1.0}, 0.7289316424 + 0.1699369389 + 0.6183632779),
        ({"beta": 1.0, "pair_filter": "all"}, 0.7289316424 + 0.1699369389 + 0.2357270000),
    ],
)
def test_golden_values(options, expected):
    assert_golden(hyp2(**options), expected)


@each_labels
@pytest.mark.parametrize(
    ("options", "of_formula"),
    [
        ({}, {}),
        ({"margin": -0.3, "beta": 2.0, "pair_filter": "all"}, {"margin": -0.3, "beta": 2.0, "pair_filter": "all"}),
        ({"variant": "hhnet"}, {"hhnet": True, "pair_filter": "all"}),
    ],
    ids=str,
)
def test_equals_its_formula(options, of_formula, labels):
    assert_formula(hyp2(**options), formulas.hyp2, labels, proxies=PROXIES.tolist(), **of_formula)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: HyP2Loss(0, 4), ValueError, "n_bits must be at least 1, got 0"),
        (lambda: HyP2Loss(4, 2.0), TypeError, "n_classes must be an integer, got 2.0"),
        (lambda: HyP2Loss(4, 4, margin=3), ValueError, r"margin must lie in \[-1, 1\], or be None, got 3"),
        (lambda: HyP2Loss(4, 4, beta=-1), ValueError, "beta must be finite and not negative, got -1"),
        (lambda: HyP2Loss(4, 4, pair_filter="no"), ValueError, "pair_filter must be one of 'multi', 'all'"),
        (lambda: hyp2()(Z[:, :3], LABEL_SETS), ValueError, "z must have n_bits = 4 columns, got 3"),
        (lambda: hyp2()(Z, LABEL_SETS[:, :3]), ValueError, "labels must have n_classes = 4 columns, got 3"),
        (lambda: hyp2()(Z, CLASSES + 2), ValueError, r"labels must lie in 0 \.\. 3, got 2 \.\. 4"),
        (lambda: hyp2()(Z, CLASSES - 1), ValueError, r"labels must lie in 0 \.\. 3, got -1 \.\. 1"),
    ],
)
def test_bad_arguments(make, error, message):
    assert_refused(make, error, message)
