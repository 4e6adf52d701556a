"""CELLoss: golden values, its formula as loops, and its arguments."""

import pytest

pytest.importorskip("torch", reason="the losses need torch, which the extra 'train' brings")

import loss_formulas as formulas
from fasthash.losses import CELLoss
from loss_cases import assert_formula, assert_golden, assert_refused, each_labels, each_pairs


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"margin": 0.1, "pairs": "all"}, 0.5368462444),
        ({"margin": 0.1}, 0.6442154933),
    ],
)
def test_golden_values(options, expected):
    assert_golden(CELLoss(**options), expected)


@each_labels
@each_pairs
def test_equals_its_formula(pairs, labels):
    assert_formula(CELLoss(margin=0.1, pairs=pairs), formulas.cel, labels, pairs=pairs)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: CELLoss(), ValueError, "n_classes or margin must be given, got None for both"),
        (lambda: CELLoss(0), ValueError, "n_classes must be at least 1, got 0"),
        (lambda: CELLoss(margin=2.0), ValueError, r"margin must lie in \[-1, 1\], got 2.0"),
        (lambda: CELLoss(margin="a"), TypeError, "margin must be a number, got 'a'"),
    ],
)
def test_bad_arguments(make, error, message):
    assert_refused(make, error, message)
