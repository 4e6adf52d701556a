"""IDHNLoss: its formula as loops, and its arguments."""

import pytest

pytest.importorskip("torch", reason="the losses need torch, which the extra 'train' brings")

import loss_formulas as formulas
from fasthash.losses import IDHNLoss
from loss_cases import assert_formula, assert_refused, each_labels, each_pairs


@each_labels
@each_pairs
@pytest.mark.parametrize(
    ("options", "of_formula"),
    [
        ({}, {}),
        ({"gamma": 0.7, "quantization": 0.3}, {"gamma": 0.7, "quantization": 0.3}),
    ],
    ids=str,
)
def test_equals_its_formula(options, of_formula, pairs, labels):
    assert_formula(IDHNLoss(pairs=pairs, **options), formulas.idhn, labels, pairs=pairs, **of_formula)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: IDHNLoss(gamma=-1), ValueError, "gamma must be finite and not negative, got -1"),
    ],
)
def test_bad_arguments(make, error, message):
    assert_refused(make, error, message)
