"""DNNHLoss: golden values, its formula as loops, and its arguments."""

import pytest

pytest.importorskip("torch", reason="the losses need torch, which the extra 'train' brings")

import loss_formulas as formulas
from fasthash.losses import DNNHLoss
from loss_cases import assert_formula, assert_golden, assert_refused, each_labels


def test_golden_values():
    assert_golden(DNNHLoss(), 1.0592181111)


@each_labels
@pytest.mark.parametrize("options", [{}, {"epsilon": 0.2}], ids=str)
def test_equals_its_formula(options, labels):
    assert_formula(DNNHLoss(**options), formulas.dnnh, labels, **options)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: DNNHLoss(epsilon=0), ValueError, r"epsilon must lie in \(0, 0.5\], got 0"),
    ],
)
def test_bad_arguments(make, error, message):
    assert_refused(make, error, message)
