"""What the tests of the losses share: a batch of six images with codes of 4 bits, and checks of one loss."""

import pytest
import torch

import loss_formulas
from fasthash import losses

Z = torch.tensor(loss_formulas.Z, dtype=torch.float64)
U = torch.tanh(Z)
LABEL_SETS = torch.tensor(loss_formulas.LABEL_SETS)
CLASSES = torch.tensor([0, 1, 0, 2, 2, 0])
FEATURES = torch.tensor(
    [[1.0, 0.2, 0.1], [0.9, 0.1, 0.4], [-0.2, 1.0, 0.3], [0.1, 0.8, -0.5], [-1.0, 0.1, 0.2], [0.7, 0.3, 0.9]],
    dtype=torch.float64,
)
PROXIES = torch.tensor([[1.0, -1, 1, 1], [1, 1, -1, 1], [-1, 1, 1, -1], [1, 1, -1, -1]])
INDEX = torch.arange(6)

each_labels = pytest.mark.parametrize("labels", [LABEL_SETS, CLASSES], ids=["label_sets", "classes"])
each_pairs = pytest.mark.parametrize("pairs", ["offdiag", "all", "cross"])


def hyp2(**options):
    """HyP2 with known proxies."""
    loss = losses.HyP2Loss(4, 4, **({"margin": 0.1} | options))
    with torch.no_grad():
        loss.proxies.copy_(PROXIES)
    return loss


def as_sets(labels):
    return [{k for k, on in enumerate(row) if on} if isinstance(row, list) else {row} for row in labels.tolist()]


def call(loss, z, labels):
    """The loss of the first images of the batch, with what this loss needs beside labels."""
    if isinstance(loss, losses.BiHalfLoss):
        labels = FEATURES[: len(z)]
    return loss(z, labels, INDEX[: len(z)] if loss.needs_index else None)


def assert_formula(loss, formula, labels, **options):
    """The loss of the batch is that of its formula, which is written as loops."""
    expected = formula(Z.tolist(), as_sets(labels), **options)
    assert loss(Z, labels).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


def assert_golden(loss, expected, z=Z):
    """The loss of the batch is a value that was worked out independently."""
    assert loss(z, LABEL_SETS).item() == pytest.approx(expected, abs=1e-9)


def assert_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
