"""Gradient checkpointing and mixup: the same gradients from less memory, and losses of mixed images."""

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra 'train'")
timm = pytest.importorskip("timm", reason="training needs the extra 'train'")
pytest.importorskip("accelerate", reason="training needs the extra 'train'")

from torch.utils.data import TensorDataset

from fasthash import losses
from fasthash._recomputing import recomputing
from fasthash._training_run import Task
from fasthash.backbones import make_backbone
from fasthash.encoder import HashEncoder
from fasthash.experiment import Experiment
from fasthash.heads import HashHead
from fasthash.train import train

# Gradient checkpointing


def step(network, images):
    """Gradients, statistics, and the bytes that are kept for the backward pass."""
    network = network.train()
    kept, weights = {}, {parameter.data_ptr() for parameter in network.parameters()}

    def keep(tensor):
        if tensor.data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    torch.manual_seed(0)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        value = network(images).square().sum()
    value.backward()
    gradients = {name: parameter.grad.clone() for name, parameter in network.named_parameters()}
    network.zero_grad()
    return gradients, dict(network.named_buffers()), sum(kept.values())


@pytest.mark.parametrize("name", ["hrnet_w18_small", "tf_efficientnet_lite0", "resnet10t"])
def test_gradients_and_statistics_are_the_same(name):
    torch.manual_seed(0)
    usual = make_backbone(name, False)
    other, images = copy.deepcopy(usual), torch.randn(2, 3, 64, 64)
    gradients, buffers, kept = step(usual, images)
    with recomputing(other):
        again, statistics, less = step(other, images)
    assert set(gradients) == set(again)
    assert buffers.keys() == statistics.keys()
    for key, gradient in gradients.items():
        torch.testing.assert_close(again[key], gradient, rtol=1e-4, atol=1e-5 * float(gradient.abs().max() + 1))
    for key, buffer in buffers.items():
        assert torch.equal(statistics[key], buffer), key
    assert less < 0.8 * kept  # the stem is not recomputed
    assert "forward" not in {key for module in other.modules() for key in vars(module)}


def make():
    torch.manual_seed(0)
    return HashEncoder("resnet10t", (8,), image_size=32)


def images(n=24):
    generator = torch.Generator().manual_seed(0)
    return TensorDataset(torch.randn(n, 3, 32, 32, generator=generator), torch.arange(n) % 3)


def options(**given):
    return {"epochs": 2, "batch_size": 8, "lr": 1e-3, "progress": False} | given


def test_trainings_with_it_end_alike(tmp_path):
    usual, other = make(), make()
    first = train(usual, losses.HashNetLoss(), images(), **options())
    state = tmp_path / "state"
    train(other, losses.HashNetLoss(), images(), **options(epochs=1), state=state)
    second = train(other, losses.HashNetLoss(), images(), **options(gradient_checkpointing=True), state=state)
    assert second.losses == pytest.approx(first.losses, rel=1e-4)
    assert usual.encode(images()).tolist() == other.encode(images()).tolist()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gradient_checkpointing": True, "backbone": "vgg16"}, "must be False for backbone='vgg16'"),
        ({"gradient_checkpointing": True, "freeze_backbone": True}, "gradient_checkpointing must be False with freeze"),
        ({"gradient_checkpointing": 2}, "gradient_checkpointing must be True or False, got 2"),
        ({"mixup": -1}, "mixup must be .*got -1"),
        ({"mixup": 0.5, "loss": "dsdh"}, "mixup must be 0 with loss='dsdh', which stores a value for each image"),
    ],
)  # fmt: skip
def test_settings_are_checked_before_anything_is_read(settings, message):
    with pytest.raises((TypeError, ValueError), match=message):
        Experiment(**settings).check_here()


def test_train_checks_them_too():
    head, data = HashHead(4, (8,)), TensorDataset(torch.zeros(8, 4), torch.arange(8) % 2)
    with pytest.raises(ValueError, match="gradient_checkpointing must be False where only a head is trained"):
        train(head, losses.HashNetLoss(), data, **options(gradient_checkpointing=True))
    with pytest.raises(ValueError, match="mixup must be 0 with a DSDHLoss"):
        train(head, losses.DSDHLoss(data.tensors[1], 8), data, **options(mixup=0.5))


# Mixup


def test_the_loss_counts_both_labels(monkeypatch):
    torch.manual_seed(0)
    head, loss = HashHead(4, (8,)), losses.HashNetLoss()
    inputs, labels, index = torch.randn(6, 4), torch.tensor([0, 1, 2, 0, 0, 1]), torch.arange(6)
    drawn = []
    monkeypatch.setattr(np.random, "beta", lambda a, b: drawn.append((a, b)) or 0.75)
    value = Task(head, loss, mixup=0.4)(inputs, labels, index)
    z = head(0.75 * inputs + 0.25 * inputs.flip(0))
    assert drawn == [(0.4, 0.4)]
    assert value.item() == pytest.approx((0.75 * loss(z, labels) + 0.25 * loss(z, labels.flip(0))).item())


def test_mixing_depends_on_the_seed_alone(tmp_path):
    data = TensorDataset(torch.randn(24, 4, generator=torch.Generator().manual_seed(0)), torch.arange(24) % 3)

    def found(seed, stopped=False):
        torch.manual_seed(0)
        head, state = HashHead(4, (8,)), tmp_path / f"{seed}{stopped}"
        settings = options(mixup=0.5, seed=seed, batch_size=24, lr=0.1)  # one batch, whose order does not matter
        if stopped:
            train(head, losses.HashNetLoss(), data, **settings | {"epochs": 1}, state=state)
        return train(head, losses.HashNetLoss(), data, **settings, state=state).losses

    assert found(0) == found(0, stopped=True) != found(1)
