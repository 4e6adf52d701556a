"""GreedyHashLoss: its formula as loops, the gradient it passes on, and its arguments."""

import pytest

torch = pytest.importorskip("torch", reason="the losses need torch, which the extra 'train' brings")

import loss_formulas as formulas
from fasthash.losses import GreedyHashLoss
from loss_cases import CLASSES, LABEL_SETS, Z, as_sets, assert_refused


def test_equals_its_formula():
    loss = GreedyHashLoss(4, 4, alpha=0.3)
    weight = loss.classifier.weight.tolist()
    for labels, multi_label in ((LABEL_SETS, True), (CLASSES, False)):
        expected = formulas.greedyhash(Z.tolist(), as_sets(labels), weight, 0.3, multi_label)
        assert loss(Z, labels).item() == pytest.approx(expected, rel=1e-6)


def test_it_passes_the_gradient_of_the_signs():
    loss = GreedyHashLoss(4, 3, alpha=0.0).double()
    z = Z.clone().requires_grad_()
    loss(z, CLASSES).backward()
    signs = torch.where(Z >= 0, 1.0, -1.0).double().requires_grad_()
    torch.nn.functional.cross_entropy(signs @ loss.classifier.weight.T, CLASSES).backward()
    torch.testing.assert_close(z.grad, signs.grad)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: GreedyHashLoss(4, 4, alpha=-1), ValueError, "alpha must be finite and not negative, got -1"),
        (lambda: GreedyHashLoss(4, 4)(Z[:, :3], CLASSES), ValueError, "z must have n_bits = 4 columns, got 3"),
    ],
)
def test_bad_arguments(make, error, message):
    assert_refused(make, error, message)
