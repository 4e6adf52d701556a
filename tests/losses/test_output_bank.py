"""OutputBank: the latest outputs of all images, with which a batch makes pairs."""

import pytest

torch = pytest.importorskip("torch", reason="the losses need torch, which the extra 'train' brings")

from fasthash.losses import DPSHLoss, OutputBank
from loss_cases import CLASSES, INDEX, LABEL_SETS, Z, assert_refused


def test_a_bank_holds_the_latest_outputs_of_all_images():
    bank = OutputBank(LABEL_SETS, 4)
    loss = DPSHLoss(quantization=0.3, pairs=bank)
    loss(10 * Z[:3], LABEL_SETS[:3], torch.tensor([0, 1, 2]))
    index = torch.tensor([4, 1, 3])  # 5 has not been seen
    z = Z[index].clone().requires_grad_()
    value = loss(z, LABEL_SETS[index], index)
    value.backward()

    stored = torch.stack([10 * Z[0], Z[1], 10 * Z[2], Z[3], Z[4]]).float().double()
    assert bank.seen.tolist() == [True] * 5 + [False]
    assert (bank.outputs[:5] == stored.float()).all()
    similar = (LABEL_SETS[index].float() @ LABEL_SETS[:5].float().T > 0).double()
    expected = z.detach().clone().requires_grad_()
    theta = expected @ stored.T / 2
    signs = torch.where(expected >= 0, 1.0, -1.0)
    by_formula = (theta.exp().log1p() - similar * theta).mean() + 0.3 * (expected - signs).square().sum(dim=1).mean()
    by_formula.backward()
    assert value.item() == pytest.approx(by_formula.item())
    torch.testing.assert_close(z.grad, expected.grad)


def test_a_bank_can_be_asked_twice_before_a_backward():
    loss = DPSHLoss(pairs=OutputBank(LABEL_SETS, 4))
    z = Z.clone().requires_grad_()
    (loss(z[:3], LABEL_SETS[:3], INDEX[:3]) + loss(z[3:], LABEL_SETS[3:], INDEX[3:])).backward()
    assert z.grad.isfinite().all()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: OutputBank([0, 1], 4), TypeError, "labels must be a torch tensor, got list"),
        (lambda: OutputBank(CLASSES[0], 4), ValueError, r"labels must have shape \(n,\) or \(n, C\), got \(\)"),
    ],
)
def test_bad_arguments(make, error, message):
    assert_refused(make, error, message)
