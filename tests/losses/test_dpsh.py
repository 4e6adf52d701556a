"""DPSHLoss: golden values, its formula as loops, and its arguments."""

import pytest

pytest.importorskip("torch", reason="the losses need torch, which the extra 'train' brings")

import loss_formulas as formulas
from fasthash.losses import DPSHLoss
from loss_cases import CLASSES, LABEL_SETS, U, Z, assert_formula, assert_golden, assert_refused, each_labels, each_pairs


@pytest.mark.parametrize(
    ("options", "z", "expected"),
    [
        ({"variant": "hhnet", "quantization": 0}, Z, 0.7502469107),
        ({"quantization": 0, "pairs": "all"}, U, 0.6899761086),
        ({"quantization": 0}, U, 0.7466855907),
    ],
)
def test_golden_values(options, z, expected):
    assert_golden(DPSHLoss(**options), expected, z)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 1.0593196230),
    ],
)
def test_golden_values_of_quantisation(options, expected):
    terms = DPSHLoss(quantization=1, **options)(U, LABEL_SETS) - DPSHLoss(quantization=0, **options)(U, LABEL_SETS)
    assert terms.item() == pytest.approx(expected, abs=1e-9)


@each_labels
@each_pairs
@pytest.mark.parametrize(
    ("options", "of_formula"),
    [
        ({}, {}),
        ({"quantization": 0.7}, {"quantization": 0.7}),
        ({"variant": "hhnet"}, {"hhnet": True}),
    ],
    ids=str,
)
def test_equals_its_formula(options, of_formula, pairs, labels):
    assert_formula(DPSHLoss(pairs=pairs, **options), formulas.dpsh, labels, pairs=pairs, **of_formula)


@pytest.mark.parametrize("variant", ["original", "hhnet"])
def test_pairs_default_to_those_of_the_variant(variant):
    default = "all" if variant == "hhnet" else "offdiag"
    assert DPSHLoss(variant=variant)(Z, CLASSES) == DPSHLoss(variant=variant, pairs=default)(Z, CLASSES)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: DPSHLoss(quantization=None), TypeError, "quantization must be a number, got None"),
    ],
)
def test_bad_arguments(make, error, message):
    assert_refused(make, error, message)
