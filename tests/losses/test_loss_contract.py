"""What holds for every loss: numerical gradients, hopeless batches, learning, states that are complete."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the losses need torch, which the extra 'train' brings")

from fasthash import losses, metrics
from loss_cases import LABEL_SETS, PROXIES, Z, call, each_labels, hyp2

# Losses of codes of 4 bits, of 4 classes at most, with their defaults and with other options.
SMOOTH = {
    "cel": lambda: losses.CELLoss(margin=0.1),
    "cnnh": lambda: losses.CNNHLoss(losses.cnnh_codes(LABEL_SETS, 4)),
    "csq": lambda: losses.CSQLoss(4, 4),
    "csq 0.7": lambda: losses.CSQLoss(4, 4, quantization=0.7),
    "dch": losses.DCHLoss,
    "dch gamma 3": lambda: losses.DCHLoss(gamma=3, quantization=0.7),
    "dch hhnet": lambda: losses.DCHLoss(variant="hhnet"),
    "dhn": losses.DHNLoss,
    "dhn 0.7": lambda: losses.DHNLoss(quantization=0.7),
    "dhn hhnet": lambda: losses.DHNLoss(variant="hhnet"),
    "dnnh": losses.DNNHLoss,
    "dnnh 0.2": lambda: losses.DNNHLoss(epsilon=0.2),
    "dpn": lambda: losses.DPNLoss(4, 4, margin=2.0),
    "dpn seed": lambda: losses.DPNLoss(4, 4, seed=3),
    "dpsh": losses.DPSHLoss,
    "dpsh 0.7": lambda: losses.DPSHLoss(quantization=0.7),
    "dpsh hhnet": lambda: losses.DPSHLoss(variant="hhnet"),
    "dsh": losses.DSHLoss,
    "dsh options": lambda: losses.DSHLoss(margin=3, quantization=0.7),
    "dtsh": losses.DTSHLoss,
    "dtsh options": lambda: losses.DTSHLoss(margin=0.5, quantization=0.2),
    "hashnet": losses.HashNetLoss,
    "hyp2": hyp2,
    "hyp2 options": lambda: hyp2(margin=-0.3, beta=2.0, pair_filter="all"),
    "hyp2 hhnet": lambda: hyp2(variant="hhnet"),
    "idhn": losses.IDHNLoss,
    "idhn options": lambda: losses.IDHNLoss(gamma=0.7, quantization=0.3),
    "mihash": losses.MIHashLoss,
    "mihash 3 bins": lambda: losses.MIHashLoss(n_bins=3),
    "orthohash": lambda: losses.OrthoHashLoss(4, 4),
    "orthohash options": lambda: losses.OrthoHashLoss(4, 4, scale=3.0, margin=0.5, codes=PROXIES),
    "wglhh": losses.WGLHHLoss,
    "wglhh options": lambda: losses.WGLHHLoss(alpha=0.3, pos_weight=0.7, quantization=0.2),
    "wglhh hhnet": lambda: losses.WGLHHLoss(variant="hhnet"),
}
# Their gradients are not those of their values: they pass signs straight through, or remember images.
OTHERS = {
    "bihalf": losses.BiHalfLoss,
    "dpsh bank": lambda: losses.DPSHLoss(pairs=losses.OutputBank(LABEL_SETS, 4)),
    "dsdh": lambda: losses.DSDHLoss(LABEL_SETS, 4),
    "greedyhash": lambda: losses.GreedyHashLoss(4, 4),
}
MAKERS = SMOOTH | OTHERS


def test_every_loss_is_here_and_has_a_file_of_its_own():
    named = {name.removesuffix("Loss").lower() for name in losses.__all__ if name.endswith("Loss")} - {"hash"}
    assert {name.split()[0] for name in MAKERS} == named - {"hierarchical"}
    for name in named:
        assert (Path(__file__).parent / f"test_{name}.py").exists(), name


@each_labels
@pytest.mark.parametrize("name", SMOOTH)
def test_gradients(name, labels):
    loss = MAKERS[name]()
    z = Z.clone()
    if name.startswith("dpn"):
        z = z + 0.01  # a value of 1 is where the hinge bends
    assert torch.autograd.gradcheck(lambda z: call(loss, z, labels), z.requires_grad_())


def test_scaled_losses_have_scaled_gradients():
    for name, make in MAKERS.items():
        gradients = []
        for factor in (1, 1024):
            torch.manual_seed(0)
            z = Z.clone().requires_grad_()
            (factor * call(make(), z, LABEL_SETS)).backward()
            gradients.append(z.grad / factor)
        torch.testing.assert_close(*gradients, msg=name)


@pytest.mark.parametrize(
    ("z", "labels"),
    [
        (Z, torch.eye(6, 4)),
        (Z, torch.tensor([[1, 0, 0, 0]] * 6)),
        (Z, torch.ones(6, 4)),
        (Z, torch.zeros(6, 4)),
        (torch.zeros(6, 4), LABEL_SETS),
        (torch.cat([torch.zeros(3, 4), Z[:3].float()]), LABEL_SETS),
        (Z[:1], LABEL_SETS[:1]),
        (Z[:2], LABEL_SETS[:2]),
        (Z[:0], LABEL_SETS[:0]),
        (Z * 1e4, LABEL_SETS),
        (Z.float() * 1e4, LABEL_SETS),
        (Z.half(), LABEL_SETS),
        (Z.sign(), LABEL_SETS),
        (Z[:1].expand(6, 4), LABEL_SETS),
    ],
    ids=[
        *("none_similar", "one_class", "all_labels", "no_labels", "zero_z", "some_zero_z", "batch_of_1", "batch_of_2"),
        *("batch_of_0", "large_z", "large_float32", "half", "signs", "equal_rows"),
    ],
)
@pytest.mark.parametrize("name", MAKERS)
def test_degenerate_batches_are_finite(name, z, labels):
    loss = MAKERS[name]()
    z = z.clone().requires_grad_()
    value = call(loss, z, labels)
    value.backward()
    assert value.ndim == 0
    assert value.dtype == (torch.float64 if z.dtype == torch.float64 else torch.float32)
    assert value.isfinite()
    assert z.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in loss.parameters() if p.grad is not None)
    loss.step()


@pytest.mark.parametrize("name", MAKERS)
def test_only_classes_that_share_a_label_attract(name):
    """The loss falls when an image moves towards the others of its class."""
    loss = MAKERS[name]()
    z = Z.clone().requires_grad_()
    call(loss, z, LABEL_SETS).backward()
    assert z.grad.abs().sum() > 0


N_BITS, N_CLASSES = 16, 5
LEARNABLE = {
    "cel": lambda y: losses.CELLoss(N_CLASSES),
    "dch": lambda y: losses.DCHLoss(),
    "dhn": lambda y: losses.DHNLoss(),
    "dpsh": lambda y: losses.DPSHLoss(),
    "dpsh bank": lambda y: losses.DPSHLoss(pairs=losses.OutputBank(y, N_BITS)),
    "hashnet": lambda y: losses.HashNetLoss(),
    "hashnet cross": lambda y: losses.HashNetLoss(pairs="cross"),
    "wglhh": lambda y: losses.WGLHHLoss(pos_weight=5),
    "hyp2": lambda y: losses.HyP2Loss(N_BITS, N_CLASSES),
    **{
        f"{name} hhnet": lambda y, make=make: make(variant="hhnet")
        for name, make in {
            "dch": losses.DCHLoss,
            "dhn": losses.DHNLoss,
            "dpsh": losses.DPSHLoss,
            "wglhh": losses.WGLHHLoss,
            "hyp2": lambda **o: losses.HyP2Loss(N_BITS, N_CLASSES, **o),
        }.items()
    },
    "cnnh": lambda y: losses.CNNHLoss(losses.cnnh_codes(y, N_BITS)),
    "dnnh": lambda y: losses.DNNHLoss(),
    "dtsh": lambda y: losses.DTSHLoss(),
    "csq": lambda y: losses.CSQLoss(N_BITS, N_CLASSES),
    "orthohash": lambda y: losses.OrthoHashLoss(N_BITS, N_CLASSES),
    "dpn": lambda y: losses.DPNLoss(N_BITS, N_CLASSES, codes=losses.class_codes(N_CLASSES, N_BITS)),
    "greedyhash": lambda y: losses.GreedyHashLoss(N_BITS, N_CLASSES),
    "dsh": lambda y: losses.DSHLoss(),
    "dsdh": lambda y: losses.DSDHLoss(y, N_BITS, eta=0.1),  # 55 is for thousands of images
    "idhn": lambda y: losses.IDHNLoss(),
    "mihash": lambda y: losses.MIHashLoss(),
    "bihalf": lambda y: losses.BiHalfLoss(gamma=0.1),  # 6 holds outputs that share no network where they are
    "hdhash": lambda y: losses.HierarchicalLoss(losses.HashNetLoss(), (8, 8)),
    "hdhash hyp2": lambda y: losses.HierarchicalLoss([losses.HyP2Loss(8, N_CLASSES) for _ in range(2)], (8, 8)),
}


@pytest.mark.parametrize(
    ("name", "multi_label"),
    # Cosines of features do not say who shares a label of several.
    [
        (name, multi_label)
        for name in LEARNABLE
        for multi_label in (False, True)
        if (name, multi_label) != ("bihalf", True)
    ],
)
def test_one_batch_is_learned(name, multi_label):
    torch.manual_seed(0)
    labels = torch.arange(60) % N_CLASSES
    relevance = labels[:, None] == labels
    if multi_label:
        # A pair of neighbouring labels; who shares one is relevant.
        labels = torch.nn.functional.one_hot(labels, N_CLASSES) | torch.nn.functional.one_hot(
            (labels + 1) % N_CLASSES, N_CLASSES
        ) * (torch.arange(60)[:, None] < 20)
        relevance = labels.float() @ labels.float().T > 0
    loss = LEARNABLE[name](labels)
    z = (0.3 * torch.randn(60, N_BITS)).requires_grad_()
    centres = torch.randn(N_CLASSES, 32)
    features = centres[torch.arange(60) % N_CLASSES]
    optimizer = torch.optim.Adam([z, *loss.parameters()], lr=0.1)
    for _ in range(80):
        value = loss(z, features if name == "bihalf" else labels, torch.arange(60))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        loss.step()
    signs = torch.where(z >= 0, 1, -1)
    distances = (N_BITS - signs @ signs.T) // 2
    assert metrics.mean_average_precision(distances.numpy(), relevance.numpy()) > 0.95


@pytest.mark.parametrize("name", MAKERS)
def test_state_dict_is_complete(name):
    torch.manual_seed(0)
    loss = MAKERS[name]()
    call(loss, Z, LABEL_SETS)
    loss.step()
    torch.manual_seed(1)
    resumed = MAKERS[name]()
    resumed.load_state_dict(loss.state_dict())
    assert call(resumed, Z, LABEL_SETS) == call(loss, Z, LABEL_SETS)
