"""MIHashLoss: its formula as loops, and its arguments."""

import pytest

pytest.importorskip("torch", reason="the losses need torch, which the extra 'train' brings")

import loss_formulas as formulas
from fasthash.losses import MIHashLoss
from loss_cases import assert_formula, assert_refused, each_labels, each_pairs


@each_labels
@each_pairs
@pytest.mark.parametrize(
    ("options", "of_formula"),
    [
        ({}, {}),
        ({"n_bins": 3}, {"n_bins": 3}),
    ],
    ids=str,
)
def test_equals_its_formula(options, of_formula, pairs, labels):
    assert_formula(MIHashLoss(pairs=pairs, **options), formulas.mihash, labels, pairs=pairs, **of_formula)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: MIHashLoss(n_bins=1), ValueError, "n_bins must be at least 2, got 1"),
    ],
)
def test_bad_arguments(make, error, message):
    assert_refused(make, error, message)
