"""OrthoHashLoss: its formula as loops, and its arguments."""

import pytest

pytest.importorskip("torch", reason="the losses need torch, which the extra 'train' brings")

import loss_formulas as formulas
from fasthash.losses import OrthoHashLoss
from loss_cases import CLASSES, PROXIES, Z, assert_formula, assert_refused, each_labels


@each_labels
@pytest.mark.parametrize(
    ("options", "of_formula"),
    [
        ({}, {}),
        ({"scale": 3.0, "margin": 0.5, "codes": PROXIES}, {"scale": 3.0, "margin": 0.5}),
    ],
    ids=["defaults", "options"],
)
def test_equals_its_formula(options, of_formula, labels):
    loss = OrthoHashLoss(4, 4, **options)
    assert_formula(loss, formulas.orthohash, labels, codes=loss.codes.tolist(), ties=loss.ties.tolist(), **of_formula)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: OrthoHashLoss(4, 4, scale=0), ValueError, "scale must be positive and finite, got 0"),
        (lambda: OrthoHashLoss(4, 4)(Z[:, :3], CLASSES), ValueError, "z must have n_bits = 4 columns, got 3"),
    ],
)
def test_bad_arguments(make, error, message):
    assert_refused(make, error, message)
