"""Codes of classes, and the margin that codes of a width allow."""

import math

import pytest

pytest.importorskip("torch", reason="the losses need torch, which the extra 'train' brings")

import torch

from fasthash.losses import CSQLoss, DPNLoss, OrthoHashLoss, class_codes, code_margin
from loss_cases import LABEL_SETS, Z, assert_refused


@pytest.mark.parametrize("n_classes", [4, 5, 16, 17, 21, 64, 80, 100, 128])
def test_margins_follow_known_codes(n_classes):
    columns = {4: 0, 5: 1, 6: 2, 7: 3}
    table = {
        8: (0, 0.5, 0.5, 0.5),
        12: (0, 0.3333, 0.3333, 0.3333),
        16: (0, 0, 0.25, 0.25),
        24: (0, 0, 0.1667, 0.1667),
        32: (0, 0, 0, 0.125),
        36: (0, 0.0556, 0.1111, 0.1111),
        40: (0, 0, 0.1, 0.1),
        48: (0, 0, 0, 0.0833),
        56: (-0.0357, 0, 0, 0.0714),
        64: (-0.0312, 0, 0, 0),
        128: (-0.0625, 0, 0, 0),
    }
    k = math.ceil(math.log2(n_classes))
    for n_bits, row in table.items():
        if k in columns:
            assert code_margin(n_bits, n_classes) == pytest.approx(row[columns[k]], abs=1e-4)


@pytest.mark.parametrize(
    ("n_bits", "n_classes", "d"), [(8, 300, 1), (7, 16, 3), (23, 4096, 7), (15, 2, 15), (6, 4, 4), (3, 8, 1), (2, 1, 2)]
)
def test_margins_beyond_the_table(n_bits, n_classes, d):
    """Hamming, Golay, repetition and parity codes meet or come near Griesmer's bound."""
    assert code_margin(n_bits, n_classes) <= 1 - 2 * d / n_bits


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("n_classes", "n_bits"), [(100, 64), (128, 64), (10, 16), (10, 64), (64, 64), (2, 1), (1, 8)])
def test_hadamard_codes_are_far_apart(n_classes, n_bits, seed):
    codes = class_codes(n_classes, n_bits, seed=seed)
    assert codes.shape == (n_classes, n_bits)
    assert codes.dtype == torch.float32
    assert (codes.abs() == 1).all()
    distances = (n_bits - codes @ codes.T) / 2
    assert distances.fill_diagonal_(n_bits).min() >= n_bits / 2
    if n_classes <= n_bits:
        assert (distances.fill_diagonal_(n_bits / 2) == n_bits / 2).all()
    assert (codes == class_codes(n_classes, n_bits, kind="hadamard", seed=seed)).all()


@pytest.mark.parametrize(("n_classes", "n_bits"), [(10, 64), (10, 32), (5, 16), (21, 64), (20, 128)])
def test_bits_of_hadamard_codes_differ(n_classes, n_bits):
    """The first rows of Sylvester's matrix have 16 different columns of 64 for 10 classes, and four constant ones."""
    n_distinct, n_constant = [], []
    for seed in range(20):
        columns = class_codes(n_classes, n_bits, seed=seed).T
        n_distinct.append(len(torch.unique(columns, dim=0)))
        n_constant.append(int((columns == columns[:, :1]).all(dim=1).sum()))
    possible = min(n_bits, 2**n_classes)
    assert sum(n_distinct) / 20 > 0.7 * possible
    assert sum(n_constant) / 20 < max(1, 2 * n_bits / 2 ** (n_classes - 1))


def test_the_seed_draws_hadamard_codes():
    drawn = [class_codes(10, 64, kind="hadamard", seed=seed) for seed in (0, 0, 1)]
    assert (drawn[0] == drawn[1]).all()
    assert (drawn[0] != drawn[2]).any()
    for loss in (CSQLoss, OrthoHashLoss):
        assert (loss(64, 10).codes == drawn[0]).all()
        assert (loss(64, 10, seed=1).codes == drawn[2]).all()


def test_random_codes():
    random = class_codes(10, 48)
    assert set(random.flatten().tolist()) == {-1.0, 1.0}
    assert (random == class_codes(10, 48, kind="random")).all()
    assert (random != class_codes(10, 48, seed=1)).any()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: class_codes(4, 6, kind="hadamard"), ValueError, "kind='hadamard' needs n_bits to be a power of 2"),
        (lambda: class_codes(9, 4, kind="hadamard"), ValueError, "n_classes at most 2 n_bits"),
        (lambda: class_codes(4, 4, kind="walsh"), ValueError, "kind must be one of"),
        (lambda: code_margin(0, 4), ValueError, "n_bits must be at least 1, got 0"),
    ],
)
def test_bad_arguments(make, error, message):
    assert_refused(make, error, message)


@pytest.mark.parametrize("kind", [CSQLoss, DPNLoss])
def test_images_without_labels_are_left_out(kind):
    loss, labels = kind(4, 4), LABEL_SETS.clone()
    labels[[1, 4]] = 0
    z = Z.clone().requires_grad_()
    value = loss(z, labels)
    value.backward()
    assert z.grad[[1, 4]].abs().sum() == 0
    rows = [0, 2, 3, 5]
    torch.testing.assert_close(value, loss(Z[rows], labels[rows]))
    assert loss(Z, torch.zeros_like(labels)).item() == 0
