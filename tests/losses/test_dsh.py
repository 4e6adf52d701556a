"""DSHLoss: golden values, its formula as loops, and its arguments."""

import pytest

pytest.importorskip("torch", reason="the losses need torch, which the extra 'train' brings")

import loss_formulas as formulas
from fasthash.losses import DSHLoss
from loss_cases import U, assert_formula, assert_golden, assert_refused, each_labels, each_pairs


@pytest.mark.parametrize(
    ("options", "z", "expected"),
    [
        ({"margin": 8, "quantization": 0, "pairs": "all"}, U, 1.8203595059),
        ({"margin": 8, "quantization": 0}, U, 2.1844314071),
    ],
)
def test_golden_values(options, z, expected):
    assert_golden(DSHLoss(**options), expected, z)


@each_labels
@each_pairs
@pytest.mark.parametrize(
    ("options", "of_formula"),
    [
        ({}, {}),
        ({"margin": 3, "quantization": 0.7}, {"margin": 3, "quantization": 0.7}),
    ],
    ids=str,
)
def test_equals_its_formula(options, of_formula, pairs, labels):
    assert_formula(DSHLoss(pairs=pairs, **options), formulas.dsh, labels, pairs=pairs, **of_formula)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: DSHLoss(margin=0), ValueError, "margin must be positive and finite, got 0"),
    ],
)
def test_bad_arguments(make, error, message):
    assert_refused(make, error, message)
