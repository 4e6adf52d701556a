"""DPNLoss: its formula as loops, and its arguments."""

import pytest

torch = pytest.importorskip("torch", reason="the losses need torch, which the extra 'train' brings")

import loss_formulas as formulas
from fasthash.losses import DPNLoss
from loss_cases import LABEL_SETS, Z, assert_formula, assert_refused, each_labels


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


def test_images_without_labels_are_left_out():
    loss, labels = DPNLoss(4, 4), LABEL_SETS.clone()
    labels[[1, 4]] = 0
    z = Z.clone().requires_grad_()
    value = loss(z, labels)
    value.backward()
    assert z.grad[[1, 4]].abs().sum() == 0
    rows = [0, 2, 3, 5]
    torch.testing.assert_close(value, loss(Z[rows], labels[rows]))
    assert loss(Z, torch.zeros_like(labels)).item() == 0


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: DPNLoss(4, 4, margin=0), ValueError, "margin must be positive and finite, got 0"),
    ],
)
def test_bad_arguments(make, error, message):
    assert_refused(make, error, message)
