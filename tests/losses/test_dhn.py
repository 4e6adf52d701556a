"""DHNLoss: golden values, its formula as loops, and its arguments."""

import math

import pytest

pytest.importorskip("torch", reason="the losses need torch, which the extra 'train' brings")

import loss_formulas as formulas
from fasthash.losses import DHNLoss
from loss_cases import CLASSES, LABEL_SETS, Z, assert_formula, assert_golden, assert_refused, each_labels, each_pairs


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"quantization": 0, "pairs": "all"}, 0.7502469107),
        ({"quantization": 0}, 0.8550103003),
    ],
)
def test_golden_values(options, expected):
    assert_golden(DHNLoss(**options), expected)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 0.4937079480),
        ({"variant": "hhnet"}, -3.3579323204),
    ],
)
def test_golden_values_of_quantisation(options, expected):
    terms = DHNLoss(quantization=1, **options)(Z, LABEL_SETS) - DHNLoss(quantization=0, **options)(Z, LABEL_SETS)
    assert terms.item() == pytest.approx(expected, abs=1e-9)


@each_labels
@each_pairs
@pytest.mark.parametrize(
    ("options", "of_formula"),
    [
        ({}, {}),
        ({"quantization": 0.7}, {"quantization": 0.7}),
        ({"variant": "hhnet"}, {"quantization": 0.01, "hhnet": True}),
    ],
    ids=str,
)
def test_equals_its_formula(options, of_formula, pairs, labels):
    assert_formula(DHNLoss(pairs=pairs, **options), formulas.dhn, labels, pairs=pairs, **of_formula)


@pytest.mark.parametrize("variant", ["original", "hhnet"])
def test_pairs_default_to_those_of_the_variant(variant):
    default = "all" if variant == "hhnet" else "offdiag"
    assert DHNLoss(variant=variant)(Z, CLASSES) == DHNLoss(variant=variant, pairs=default)(Z, CLASSES)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: DHNLoss(quantization=math.nan), ValueError, "quantization must be finite .* got nan"),
    ],
)
def test_bad_arguments(make, error, message):
    assert_refused(make, error, message)
