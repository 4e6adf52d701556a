"""DPNLoss: its formula as loops, and its arguments."""

import pytest

pytest.importorskip("torch", reason="the losses need torch, which the extra 'train' brings")

import loss_formulas as formulas
from fasthash.losses import DPNLoss
from loss_cases import assert_formula, assert_refused, each_labels


@each_labels
@pytest.mark.parametrize(
    ("options", "of_formula"),
    [
        ({"margin": 2.0}, {"margin": 2.0}),
        ({"seed": 3}, {}),
    ],
    ids=str,
)
def test_equals_its_formula(options, of_formula, labels):
    loss = DPNLoss(4, 4, **options)
    assert_formula(loss, formulas.dpn, labels, codes=loss.codes.tolist(), ties=loss.ties.tolist(), **of_formula)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: DPNLoss(4, 4, margin=0), ValueError, "margin must be positive and finite, got 0"),
    ],
)
def test_bad_arguments(make, error, message):
    assert_refused(make, error, message)
