"""DTSHLoss: golden values, its formula as loops, and its arguments."""

import pytest

pytest.importorskip("torch", reason="the losses need torch, which the extra 'train' brings")

import loss_formulas as formulas
from fasthash.losses import DTSHLoss
from loss_cases import U, assert_formula, assert_golden, assert_refused, each_labels


def test_golden_values():
    assert_golden(DTSHLoss(quantization=0), 5.1990070443, U)


@each_labels
@pytest.mark.parametrize("options", [{}, {"margin": 0.5, "quantization": 0.2}], ids=str)
def test_equals_its_formula(options, labels):
    assert_formula(DTSHLoss(**options), formulas.dtsh, labels, **options)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: DTSHLoss(margin=-1), ValueError, "margin must be finite and not negative, got -1"),
    ],
)
def test_bad_arguments(make, error, message):
    assert_refused(make, error, message)
