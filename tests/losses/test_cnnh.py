"""The codes of CNNH's first stage against the objective written out in full."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the losses need torch, which the extra 'train' brings")

from fasthash.losses import CNNHLoss, cnnh, cnnh_codes

LABELS = torch.tensor([0, 1, 0, 2, 2, 0, 1, 1, 2, 0])


def similarities(labels):
    if labels.ndim == 1:
        return np.where(labels[:, None] == labels, 1.0, -1.0)
    return np.where((labels @ labels.T > 0) | np.eye(len(labels), dtype=bool), 1.0, -1.0)


def objective(s, h):
    return np.square(s - h @ h.T / h.shape[1]).sum()


@pytest.mark.parametrize("n", [2, 3, 10])
def test_a_step_is_that_of_newton(n):
    """Derivatives by finite differences of the whole objective; a step also never leaves [-1, 1]."""
    rng = np.random.default_rng(n)
    labels = LABELS.numpy()[:n]
    s = similarities(labels)
    n_newton = 0
    for _ in range(20):
        h = rng.uniform(-1, 1, (n, 4))
        i, k = rng.integers(n), rng.integers(4)

        def along(x, h=h, i=i, k=k):
            moved = h.copy()
            moved[i, k] += x
            return objective(s, moved)

        slope = (along(1e-5) - along(-1e-5)) / 2e-5
        curvature = (along(1e-3) - 2 * along(0) + along(-1e-3)) / 1e-6
        step = cnnh.newton_step(h[i], h.T @ h, (s @ h)[i], k)
        low, high = -1 - h[i, k], 1 - h[i, k]
        if curvature > 1e-3:
            n_newton += 1
            assert step == pytest.approx(np.clip(-slope / curvature, low, high), abs=1e-4)
        elif curvature < -1e-3:
            assert step == pytest.approx(low if slope > 0 else high)
    assert n < 10 or n_newton > 5


@pytest.mark.parametrize("labels", [LABELS, torch.eye(3, dtype=torch.int64)[LABELS], torch.zeros(10, 3)])
def test_a_sweep_keeps_its_sums(labels):
    """The sums that a sweep carries along are those of the H it leaves; the objective falls over the sweeps."""
    classes = labels.numpy()
    s = similarities(classes)
    rng = np.random.default_rng(0)
    h = rng.uniform(-1, 1, (10, 8))
    values = [objective(s, h)]
    for _ in range(4):
        cnnh._sweep(h, classes, rng)
        values.append(objective(s, h))
        assert abs(h).max() <= 1
        assert cnnh._objective(h, classes) + np.square(s).sum() == pytest.approx(values[-1])
    assert values[-1] < 0.9 * values[0]
    assert values == sorted(values, reverse=True)


def test_a_sweep_equals_steps_that_carry_nothing():
    classes = LABELS.numpy()
    s = similarities(classes)
    h = np.random.default_rng(5).uniform(-1, 1, (10, 8))
    slow = h.copy()
    cnnh._sweep(h, classes, np.random.default_rng(6))
    rng = np.random.default_rng(6)
    for i in rng.permutation(10):
        for k in rng.permutation(8):
            slow[i, k] += cnnh.newton_step(slow[i], slow.T @ slow, (s @ slow)[i], k)
    np.testing.assert_allclose(h, slow, atol=1e-9)


def test_codes_of_classes_are_equal_within_and_far_between():
    codes = cnnh_codes(torch.arange(60) % 4, 16)
    assert codes.dtype == torch.float32
    assert set(codes.flatten().tolist()) == {-1.0, 1.0}
    distances = (16 - codes @ codes.T) / 2
    same = (torch.arange(60) % 4)[:, None] == torch.arange(60) % 4
    assert distances[same].max() < distances[~same].min()
    assert (codes == cnnh_codes(torch.arange(60) % 4, 16, seed=0)).all()
    assert (codes != cnnh_codes(torch.arange(60) % 4, 16, seed=1)).any()
    assert (cnnh_codes(LABELS, 8, sweeps=1) != cnnh_codes(LABELS, 8)).any()


def test_a_sweep_that_raises_the_objective_is_undone(monkeypatch):
    def worse(h, classes, rng):
        h[:] = 1.0

    before = np.random.default_rng(0).uniform(-1, 1, (10, 8))
    monkeypatch.setattr(cnnh, "_sweep", worse)
    codes = cnnh_codes(LABELS, 8)
    assert (codes.numpy() == np.where(before >= 0, 1, -1)).all()


def test_the_second_stage_regresses_the_codes():
    codes = cnnh_codes(LABELS, 8)
    loss = CNNHLoss(codes)
    z = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    index = torch.tensor([7, 0, 3])
    assert loss(z, LABELS[index], index) == pytest.approx((torch.tanh(z) - codes[index]).square().mean().item())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: cnnh_codes([0, 1], 8), TypeError, "labels must be a torch tensor, got list"),
        (lambda: cnnh_codes(LABELS[0], 8), ValueError, r"labels must have shape \(n,\) or \(n, C\), got \(\)"),
        (lambda: cnnh_codes(LABELS, 0), ValueError, "n_bits must be at least 1, got 0"),
        (lambda: cnnh_codes(LABELS, 8, sweeps=0), ValueError, "sweeps must be at least 1, got 0"),
        (lambda: CNNHLoss([[1.0]]), TypeError, "codes must be a torch tensor, got list"),
        (lambda: CNNHLoss(torch.zeros(3, 4)), ValueError, r"codes must have shape \(n, n_bits\) and hold -1 and \+1"),
        (
            lambda: CNNHLoss(torch.ones(3, 4))(torch.zeros(2, 8), LABELS[:2], torch.arange(2)),
            ValueError,
            "z must have the 4 columns of the codes, got 8",
        ),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()
