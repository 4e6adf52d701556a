"""BiHalfLoss: its formula as loops, the gradient it passes on, and its arguments."""

import pytest

torch = pytest.importorskip("torch", reason="the losses need torch, which the extra 'train' brings")

import loss_formulas as formulas
from fasthash.losses import BiHalfLoss, OutputBank
from loss_cases import CLASSES, FEATURES, LABEL_SETS, Z, assert_refused, each_pairs


@each_pairs
def test_equals_its_formula(pairs):
    for n in (6, 5):
        expected = formulas.bihalf(Z[:n].tolist(), FEATURES[:n].tolist(), pairs)
        assert BiHalfLoss(pairs=pairs)(Z[:n], FEATURES[:n]).item() == pytest.approx(expected, rel=1e-9)


def test_it_passes_the_gradient_of_the_halves():
    def gradient(gamma):
        z = Z.clone().requires_grad_()
        BiHalfLoss(gamma=gamma)(z, FEATURES).backward()
        return z.grad

    halves = torch.full_like(Z, -1).scatter_(0, Z.argsort(dim=0, descending=True)[:3], 1).requires_grad_()
    assert halves.sum() == 0
    cosines = torch.nn.functional.cosine_similarity(halves[:, None], halves, dim=2)
    of_features = torch.nn.functional.cosine_similarity(FEATURES[:, None], FEATURES, dim=2)
    ((cosines - of_features).square().fill_diagonal_(0).sum() / 30).backward()
    torch.testing.assert_close(gradient(0.0), halves.grad)
    torch.testing.assert_close(gradient(6.0), halves.grad + 6 * (Z - halves.detach()) / 24)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: BiHalfLoss(gamma=-1), ValueError, "gamma must be finite and not negative, got -1"),
        (lambda: BiHalfLoss(pairs=OutputBank(CLASSES, 4)), ValueError, "pairs must be .* got a bank"),
        (lambda: BiHalfLoss()(Z, CLASSES), ValueError, r"labels must be the float features \(B, D\)"),
        (lambda: BiHalfLoss()(Z, LABEL_SETS), ValueError, r"labels must be the float features \(B, D\)"),
    ],
)
def test_bad_arguments(make, error, message):
    assert_refused(make, error, message)
