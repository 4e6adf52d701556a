"""CSQLoss: its formula as loops, and its arguments."""

import pytest

pytest.importorskip("torch", reason="the losses need torch, which the extra 'train' brings")

import loss_formulas as formulas
from fasthash.losses import CSQLoss, class_codes
from loss_cases import LABEL_SETS, Z, assert_formula, assert_refused, each_labels

CODES = class_codes(4, 4)


@each_labels
@pytest.mark.parametrize(
    ("options", "of_formula"),
    [
        ({}, {}),
        ({"quantization": 0.7}, {"quantization": 0.7}),
    ],
    ids=str,
)
def test_equals_its_formula(options, of_formula, labels):
    loss = CSQLoss(4, 4, **options)
    assert_formula(loss, formulas.csq, labels, codes=loss.codes.tolist(), ties=loss.ties.tolist(), **of_formula)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: CSQLoss(4, 0), ValueError, "n_classes must be at least 1, got 0"),
        (lambda: CSQLoss(4, 3, codes=CODES), ValueError, r"codes must be a tensor \(3, 4\) of -1 and \+1"),
        (lambda: CSQLoss(4, 4, codes=CODES * 2), ValueError, r"codes must be a tensor \(4, 4\) of -1 and \+1"),
        (lambda: CSQLoss(4, 4)(Z[:, :3], LABEL_SETS), ValueError, "z must have n_bits = 4 columns, got 3"),
    ],
)
def test_bad_arguments(make, error, message):
    assert_refused(make, error, message)
