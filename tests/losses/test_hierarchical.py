"""HierarchicalLoss against sums over the levels written by hand."""

import math

import pytest

torch = pytest.importorskip("torch", reason="the losses need torch, which the extra 'train' brings")

from fasthash.losses import DPSHLoss, HashLoss, HashNetLoss, HierarchicalLoss, OutputBank

LEVEL_BITS = (8, 16, 8)
LABELS = torch.tensor([0, 1, 0, 2, 2, 0])


@pytest.fixture
def z():
    return torch.randn(6, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_parallel_levels(z):
    base = HashNetLoss()
    loss = HierarchicalLoss(base, LEVEL_BITS, weights=(3, 2, 1))
    expected = (3 * base(z[:, :8], LABELS) + 2 * base(z[:, 8:24], LABELS) + base(z[:, 24:], LABELS)) / 6
    assert loss(z, LABELS).item() == pytest.approx(expected.item(), rel=1e-12)


def test_prefix_levels(z):
    base = HashNetLoss()
    loss = HierarchicalLoss(base, LEVEL_BITS, weights=(3, 2, 1), mode="prefix")
    expected = (3 * base(z[:, :8], LABELS) + 2 * base(z[:, :24], LABELS) + base(z, LABELS)) / 6
    assert loss(z, LABELS).item() == pytest.approx(expected.item(), rel=1e-12)


def test_weights_default_to_halves(z):
    base = HashNetLoss()
    loss = HierarchicalLoss(base, LEVEL_BITS)
    assert loss.weights == pytest.approx((4 / 7, 2 / 7, 1 / 7))
    assert loss(z, LABELS) == HierarchicalLoss(base, LEVEL_BITS, weights=(1, 0.5, 0.25), mode="parallel")(z, LABELS)


def test_equal_weights_are_allowed():
    assert HierarchicalLoss(HashNetLoss(), LEVEL_BITS, weights=(5, 5, 5)).weights == pytest.approx((1 / 3,) * 3)


def test_one_level_is_the_base(z):
    base = HashNetLoss()
    for mode in ("parallel", "prefix"):
        assert HierarchicalLoss(base, (32,), mode=mode)(z, LABELS) == base(z, LABELS)


def test_decorrelation_is_the_mean_squared_covariance_of_two_bits(z):
    u = torch.tanh(z).tolist()
    means = [sum(column) / 6 for column in zip(*u, strict=True)]
    total = 0.0
    for i in range(32):
        for j in range(32):
            if i != j:
                total += (sum((row[i] - means[i]) * (row[j] - means[j]) for row in u) / 6) ** 2
    alone = HierarchicalLoss(HashNetLoss(), LEVEL_BITS)(z, LABELS)
    together = HierarchicalLoss(HashNetLoss(), LEVEL_BITS, decorrelation=2.5)(z, LABELS)
    assert (together - alone).item() == pytest.approx(2.5 * total / (32 * 31), rel=1e-9)


def test_bits_that_repeat_each_other_are_correlated():
    base = HashNetLoss()
    plain, spread = HierarchicalLoss(base, (8, 8)), HierarchicalLoss(base, (8, 8), decorrelation=1.0)
    level = 3 * torch.tensor([[1.0, -1.0] * 4, [-1.0, 1.0] * 4] * 3)
    repeated = torch.cat([level, level], dim=1)
    assert spread(repeated, LABELS) - plain(repeated, LABELS) > 0.9  # tanh(3) is nearly 1
    image = repeated[:1]
    assert spread(image, LABELS[:1]) == plain(image, LABELS[:1])  # one image has no covariance


@pytest.mark.parametrize("mode", ["parallel", "prefix"])
def test_gradients(z, mode):
    loss = HierarchicalLoss(HashNetLoss(scale=1.0), LEVEL_BITS, mode=mode, decorrelation=3.0)
    assert torch.autograd.gradcheck(lambda z: loss(z, LABELS), z.requires_grad_())


def test_step_reaches_the_base_once(z):
    base = HashNetLoss(step_size=1)
    loss = HierarchicalLoss(base, LEVEL_BITS)
    loss.step()
    assert base.iteration.item() == 1

    resumed = HierarchicalLoss(HashNetLoss(step_size=1), LEVEL_BITS)
    resumed.load_state_dict(loss.state_dict())
    assert resumed(z, LABELS) == loss(z, LABELS)


def test_half_precision_is_computed_in_float32(z):
    half = z.half()
    loss = HierarchicalLoss(HashNetLoss(), LEVEL_BITS)
    assert loss(half, LABELS).dtype == torch.float32
    assert loss(half, LABELS) == loss(half.float(), LABELS)


def test_any_loss_can_be_the_base(z):
    class Mean(HashLoss):
        def batch_loss(self, z, labels, index):
            return z.mean()

    expected = (z[:, :8].mean() + z[:, 8:].mean()) / 2
    assert HierarchicalLoss(Mean(), (8, 24), weights=(1, 1))(z, LABELS).item() == pytest.approx(expected.item())


def test_z_must_hold_all_levels(z):
    loss = HierarchicalLoss(HashNetLoss(), LEVEL_BITS)
    with pytest.raises(ValueError, match=r"z must have sum\(level_bits\) = 32 columns, got 8"):
        loss(z[:, :8], LABELS)
    with pytest.raises(ValueError, match="labels must match the 6 rows of z, got 5"):
        loss(z, LABELS[:5])


def test_a_base_given_several_times_steps_once():
    base = HashNetLoss(step_size=1)
    HierarchicalLoss([base] * 3, LEVEL_BITS).step()
    assert base.iteration.item() == 1


def test_a_base_that_remembers_images_serves_one_level():
    with pytest.raises(ValueError, match="base must hold one loss for each level where it remembers images"):
        HierarchicalLoss(DPSHLoss(pairs=OutputBank(LABELS, 8)), (8, 8))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"base": torch.nn.Identity()}, TypeError, r"base must be a HashLoss or a sequence of them, got Identity\(\)"),
        ({"level_bits": ()}, ValueError, r"level_bits must name at least one level, got \(\)"),
        ({"level_bits": (8, 0, 8)}, ValueError, "level_bits must be at least 8, got 0"),
        ({"level_bits": (8, 3.0, 8)}, TypeError, "level_bits must be an integer, got 3.0"),
        ({"level_bits": 64.0}, TypeError, "level_bits must be a sequence of integers, got 64.0"),
        ({"level_bits": {8, 16}}, TypeError, "level_bits must be a sequence of integers"),
        ({"weights": (1, "a", 1)}, TypeError, "weights must be a number, got 'a'"),
        ({"weights": (1, 1)}, ValueError, r"one weight for each of the 3 levels, got \(1, 1\)"),
        ({"weights": (1, 0.5, 0)}, ValueError, r"weights must be positive and finite, got \(1, 0.5, 0\)"),
        ({"weights": (math.inf, 1, 1)}, ValueError, r"weights must be positive and finite, got \(inf, 1, 1\)"),
        ({"weights": (1, math.nan, 1)}, ValueError, r"weights must be positive and finite, got \(1, nan, 1\)"),
        ({"weights": (1, 2, 3)}, ValueError, r"weights must not increase .* got \(1, 2, 3\)"),
        ({"weights": (2, 1, 1.5)}, ValueError, r"weights must not increase .* got \(2, 1, 1.5\)"),
        ({"decorrelation": -1}, ValueError, "decorrelation must be finite and not negative, got -1"),
        ({"decorrelation": math.nan}, ValueError, "decorrelation must be finite and not negative, got nan"),
        ({"decorrelation": "10"}, TypeError, "decorrelation must be a number, got '10'"),
        ({"mode": "nested"}, ValueError, "mode must be one of 'parallel', 'prefix', got 'nested'"),
    ],
)
def test_bad_options(options, error, message):
    with pytest.raises(error, match=message):
        HierarchicalLoss(**({"base": HashNetLoss(), "level_bits": LEVEL_BITS} | options))
