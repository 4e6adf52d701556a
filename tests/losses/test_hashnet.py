"""HashNetLoss against golden values, a loop over the pairs written from the formula, and numerical gradients."""

import importlib
import math
import sys

import pytest

torch = pytest.importorskip("torch", reason="the losses need torch, which the extra 'train' brings")

import loss_formulas as formulas
from fasthash._extras import MissingExtraError
from fasthash.losses import HashLoss, HashNetLoss

Z = torch.tensor(formulas.Z, dtype=torch.float64)
LABEL_SETS = torch.tensor(formulas.LABEL_SETS)
CLASSES = torch.tensor([0, 1, 0, 2, 2, 0])


def by_hand(z, labels, *, scale=None, beta=1.0, weights="balanced", similar_fraction=None, pairs="offdiag"):
    """The loss as a loop over the pairs, in Python floats."""
    codes = [[math.tanh(beta * value) for value in row] for row in z.tolist()]
    sets = [{k for k, on in enumerate(row) if on} if isinstance(row, list) else {row} for row in labels.tolist()]
    scale = scale or 10 / len(codes[0])
    chosen = [(i, j) for i in range(len(codes)) for j in range(len(codes)) if i != j or pairs == "all"]
    p = similar_fraction
    if p is None:
        p = sum(bool(sets[i] & sets[j]) for i, j in chosen) / max(len(chosen), 1)
    p = min(max(p, 1e-6), 1 - 1e-6)

    total = 0.0
    for i, j in chosen:
        similar = bool(sets[i] & sets[j])
        x = scale * sum(a * b for a, b in zip(codes[i], codes[j], strict=True))
        weight = 1.0
        if weights != "none":
            weight = 1 / p if similar else 1 / (1 - p)
        if weights == "jaccard" and similar:
            weight *= len(sets[i] & sets[j]) / len(sets[i] | sets[j])
        total += weight * (math.log1p(math.exp(x)) - x * similar)
    return total / max(len(chosen), 1)


@pytest.mark.parametrize(
    ("options", "pairs", "expected"),
    [
        ({}, "all", 2.3204215595),
        ({}, "offdiag", 2.8625269623),
        ({"weights": "none", "scale": 0.1}, "all", 0.6869199047),
        ({"weights": "none", "scale": 0.1}, "offdiag", 0.6990631757),
    ],
)
def test_golden_values(options, pairs, expected):
    assert HashNetLoss(pairs=pairs, **options)(Z, LABEL_SETS).item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("labels", [LABEL_SETS, CLASSES], ids=["label_sets", "classes"])
@pytest.mark.parametrize("pairs", ["offdiag", "all"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scale": 0.7},
        {"weights": "jaccard"},
        {"weights": "none"},
        {"similar_fraction": 0.05},
        {"similar_fraction": 0.0},
        {"similar_fraction": 1.0},
        {"weights": "jaccard", "similar_fraction": 0.3},
    ],
    ids=str,
)
def test_equals_the_loop_over_pairs(options, pairs, labels):
    loss = HashNetLoss(pairs=pairs, **options)
    assert loss(Z, labels).item() == pytest.approx(by_hand(Z, labels, pairs=pairs, **options), rel=1e-12)


def test_defaults():
    assert HashNetLoss()(Z, LABEL_SETS) == HashNetLoss(
        scale=10 / 4, step_size=200, power=0.5, weights="balanced", similar_fraction=0.4, pairs="offdiag"
    )(Z, LABEL_SETS)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float32])
def test_label_sets_of_any_dtype(dtype):
    for weights in ("balanced", "jaccard"):
        loss = HashNetLoss(weights=weights)
        assert loss(Z, LABEL_SETS.to(dtype)) == loss(Z, LABEL_SETS)


def test_jaccard_weights_of_classes_are_balanced_weights():
    expected = HashNetLoss()(Z, CLASSES)
    assert HashNetLoss(weights="jaccard")(Z, CLASSES) == expected
    one_hot = torch.nn.functional.one_hot(CLASSES)
    assert HashNetLoss(weights="jaccard")(Z, one_hot).item() == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize("options", [{}, {"weights": "jaccard", "pairs": "all"}, {"weights": "none"}], ids=str)
def test_gradients(options):
    loss = HashNetLoss(scale=1.0, **options)
    assert torch.autograd.gradcheck(lambda z: loss(z, LABEL_SETS), Z.clone().requires_grad_())


def test_continuation_schedule():
    loss = HashNetLoss(step_size=3, power=0.5)
    betas = []
    for _ in range(7):
        betas.append(loss.beta)
        assert loss(Z, CLASSES).item() == pytest.approx(by_hand(Z, CLASSES, beta=betas[-1]), rel=1e-12)
        loss.step()
    assert betas == [1, 1, 1, math.sqrt(2), math.sqrt(2), math.sqrt(2), math.sqrt(3)]

    by_default = HashNetLoss()
    by_default.iteration.fill_(600)
    assert by_default.beta == 2

    constant = HashNetLoss(step_size=1, power=0.0)
    constant.step()
    assert constant.beta == 1


def test_schedule_is_in_the_state_dict():
    loss = HashNetLoss(step_size=2)
    for _ in range(5):
        loss.step()
    resumed = HashNetLoss(step_size=2)
    resumed.load_state_dict(loss.state_dict())
    assert resumed.iteration.item() == 5
    assert resumed.iteration.dtype == torch.int64
    assert resumed(Z, CLASSES) == loss(Z, CLASSES)


@pytest.mark.parametrize(
    ("z", "labels"),
    [
        (Z, torch.arange(6)),
        (Z, torch.zeros(6, dtype=torch.int64)),
        (Z, torch.zeros(6, 4)),
        (torch.zeros(6, 4), CLASSES),
        (Z[:1], CLASSES[:1]),
        (Z[:0], CLASSES[:0]),
        (Z * 1e6, CLASSES),
        (Z.float() * 1e30, CLASSES),
    ],
    ids=["no_similar", "no_dissimilar", "no_labels", "zero_z", "batch_of_1", "batch_of_0", "large_z", "huge_float32"],
)
@pytest.mark.parametrize("weights", ["balanced", "jaccard", "none"])
@pytest.mark.parametrize("pairs", ["offdiag", "all"])
def test_degenerate_batches_are_finite(z, labels, weights, pairs):
    z = z.clone().requires_grad_()
    value = HashNetLoss(scale=100.0, weights=weights, pairs=pairs)(z, labels)
    value.backward()
    assert value.isfinite()
    assert z.grad.isfinite().all()


def test_one_image_without_pairs_gives_zero():
    z = Z[:1].clone().requires_grad_()
    value = HashNetLoss()(z, CLASSES[:1])
    value.backward()
    assert value.item() == 0
    assert z.grad.eq(0).all()


def test_large_logits_lose_no_digits():
    """A pair far on the right side of the sigmoid costs exp(-|x|), which a thresholded softplus rounds to 0."""
    z = torch.full((2, 4), 40.0)
    value = HashNetLoss(scale=10.0, weights="none")(z, torch.tensor([0, 0]))
    assert value.item() == pytest.approx(math.exp(-40), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    z = Z.to(dtype).requires_grad_()
    lifted = Z.to(dtype).float()
    value = HashNetLoss()(z, CLASSES)
    value.backward()
    assert value.dtype == torch.float32
    assert value == HashNetLoss()(lifted, CLASSES)
    assert z.grad.dtype == dtype
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert HashNetLoss()(lifted, CLASSES) == value


def test_a_loss_must_implement_batch_loss():
    class Empty(HashLoss):
        pass

    with pytest.raises(NotImplementedError, match="Empty must implement batch_loss"):
        Empty()(Z, CLASSES)
    Empty().step()


@pytest.mark.parametrize(
    ("z", "labels", "error", "message"),
    [
        (Z.numpy(), CLASSES, TypeError, "z must be a torch tensor, got ndarray"),
        (Z, CLASSES.tolist(), TypeError, "labels must be a torch tensor, got list"),
        (Z.long(), CLASSES, TypeError, "z must be a float tensor, got torch.int64"),
        (Z[0], CLASSES, ValueError, r"z must have shape \(B, n_bits\).*got \(4,\)"),
        (Z[:, :0], CLASSES, ValueError, r"z must .* at least 1, got \(6, 0\)"),
        (Z, CLASSES.float(), TypeError, r"labels of shape \(B,\) must be int64 classes, got torch.float32"),
        (Z, CLASSES[:, None], ValueError, r"labels must .* C at least 2, got \(6, 1\)"),
        (Z, CLASSES[0], ValueError, r"labels must have shape \(B,\), or \(B, C\) .* got \(\)"),
        (Z, CLASSES[:5], ValueError, "labels must match the 6 rows of z, got 5"),
        (Z, LABEL_SETS[:5], ValueError, "labels must match the 6 rows of z, got 5"),
    ],
)
def test_bad_batches(z, labels, error, message):
    with pytest.raises(error, match=message):
        HashNetLoss()(z, labels)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"scale": 0.0}, ValueError, "scale must be positive and finite, or None, got 0.0"),
        ({"scale": math.inf}, ValueError, "scale must be positive and finite, or None, got inf"),
        ({"step_size": 0}, ValueError, "step_size must be at least 1, got 0"),
        ({"step_size": 1.5}, TypeError, "step_size must be an integer, got 1.5"),
        ({"power": -0.5}, ValueError, "power must be finite and not negative, got -0.5"),
        ({"power": math.nan}, ValueError, "power must be finite and not negative, got nan"),
        ({"weights": "paper"}, ValueError, "weights must be one of 'balanced', 'jaccard', 'none', got 'paper'"),
        ({"similar_fraction": 1.5}, ValueError, r"similar_fraction must lie in \[0, 1\], or be None, got 1.5"),
        (
            {"similar_fraction": 0.5, "weights": "none"},
            ValueError,
            "similar_fraction must be None where weights='none'",
        ),
        ({"pairs": "bank"}, ValueError, "pairs must be one of 'offdiag', 'all', 'cross', got 'bank'"),
    ],
)
def test_bad_options(options, error, message):
    with pytest.raises(error, match=message):
        HashNetLoss(**options)


def test_without_torch_the_extra_is_named(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("fasthash.losses")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"'torch'.*fasthash-search\[train\]"):
        importlib.import_module("fasthash.losses")
