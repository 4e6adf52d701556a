"""DSDHLoss: its formula, the codes it solves for, and its arguments."""

import pytest

torch = pytest.importorskip("torch", reason="the losses need torch, which the extra 'train' brings")

import loss_formulas as formulas
from fasthash.losses import DSDHLoss
from loss_cases import CLASSES, INDEX, LABEL_SETS, Z, as_sets, assert_refused


def test_it_solves_for_codes_once_in_as_many_images_as_there_are():
    loss = DSDHLoss(LABEL_SETS, 4, mu=2.0, nu=0.5, eta=3.0, sweeps=4, seed=1)
    first = loss.codes.clone()
    assert set(first.flatten().tolist()) == {-1.0, 1.0}
    value = loss(Z, LABEL_SETS, INDEX)
    pairs = formulas.over_pairs(
        Z.tolist(), as_sets(LABEL_SETS), "all", lambda a, b, s: formulas.logistic(formulas.dot(a, b) / 2, s)
    )
    assert value.item() == pytest.approx(pairs + 3.0 / 6 * (Z - first).square().sum(dim=1).mean().item())

    def objective(codes):
        classes = LABEL_SETS.double()
        w = torch.linalg.solve(codes.T @ codes + 0.25 * torch.eye(4, dtype=torch.float64), codes.T @ classes)
        fit = 2.0 * (classes - codes @ w).square().sum() + 0.5 * w.square().sum()
        return (fit + 3.0 * (codes - loss.bank.outputs.double()).square().sum()).item()

    before = objective(first.double())
    loss.step()
    assert objective(loss.codes.double()) < before
    assert loss.n_passed == 0
    # No single bit can be turned to advantage while the map stays.
    codes = loss.codes.double()
    w = torch.linalg.solve(codes.T @ codes + 0.25 * torch.eye(4, dtype=torch.float64), codes.T @ LABEL_SETS.double())

    def fixed(codes):
        return 2.0 * (LABEL_SETS - codes @ w).square().sum() + 3.0 * (codes - loss.bank.outputs).square().sum()

    for i in range(6):
        for k in range(4):
            turned = codes.clone()
            turned[i, k] *= -1
            assert fixed(turned) >= fixed(codes) - 1e-9
    solved = loss.codes.clone()
    loss(Z[:2], LABEL_SETS[:2], INDEX[:2])
    loss.step()
    assert (loss.codes == solved).all()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: DSDHLoss(CLASSES, 4, mu=0), ValueError, "mu must be positive and finite, got 0"),
        (lambda: DSDHLoss(CLASSES, 4, nu=-1), ValueError, "nu must be positive and finite, got -1"),
        (lambda: DSDHLoss(CLASSES, 4, eta=-1), ValueError, "eta must be finite and not negative, got -1"),
        (lambda: DSDHLoss(CLASSES, 4, sweeps=0), ValueError, "sweeps must be at least 1, got 0"),
        (lambda: DSDHLoss(CLASSES, 4)(Z, CLASSES), ValueError, "index must be given"),
        (lambda: DSDHLoss(CLASSES, 4)(Z, CLASSES, INDEX.int()), TypeError, "index must be an int64 tensor"),
        (lambda: DSDHLoss(CLASSES, 4)(Z, CLASSES, INDEX[:5]), ValueError, r"index must have shape \(6,\), got"),
        (lambda: DSDHLoss(CLASSES, 4)(Z, CLASSES, INDEX + 1), ValueError, r"index must lie in 0 \.\. 5, got"),
        (lambda: DSDHLoss(CLASSES, 8)(Z, CLASSES, INDEX), ValueError, "z must have the 8 columns of the bank"),
        (
            lambda: DSDHLoss(CLASSES, 4)(Z, torch.eye(6)[CLASSES], INDEX),
            ValueError,
            r"labels must have shape \(n,\), as those of the bank, got \(6, 6\)",
        ),
        (
            lambda: DSDHLoss(torch.eye(6, dtype=torch.int64)[CLASSES], 4)(Z, CLASSES, INDEX),
            ValueError,
            r"labels must have shape \(n, 6\), as those of the bank, got \(6,\)",
        ),
    ],
)
def test_bad_arguments(make, error, message):
    assert_refused(make, error, message)
