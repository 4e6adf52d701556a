"""Backbones from images to features: HRNets and other models of timm, AlexNet and VGG-16 of torchvision."""

from __future__ import annotations

import difflib
import os
import threading
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from fasthash._checkpoint import brief, read_card, weights_path
from fasthash._checks import check_int
from fasthash._extras import needs_extra
from fasthash._saved_folder import read_by_card
from fasthash._weights import PACKAGE, PICKLES, SAFETENSORS, find_packaged, fit, packaged_name, read_tensors

with needs_extra("train"):
    import timm
    import torch
    import torchvision
    from huggingface_hub import constants, try_to_load_from_cache
    from timm.models.hrnet import HighResolutionNet
    from torch import nn
    from torch.nn import functional as F

__all__ = [
    "FEATURE_WIDTHS",
    "Preprocessing",
    "check_backbone",
    "check_cut_branches",
    "check_pretrained",
    "check_stem_stride",
    "describe_weights",
    "make_backbone",
    "preprocessing_of",
]

# Networks of the papers and the width of their features; other timm models are measured when they are made.
FEATURE_WIDTHS = {
    "hrnet_w18": 2048,
    "hrnet_w32": 2048,
    "hrnet_w48": 2048,
    "hrnet_w64": 2048,
    "hrnet_w18_small": 2048,
    "hrnet_w18_small_v2": 2048,
    "alexnet": 4096,
    "vgg16": 4096,
}
STEM_STRIDES = (1, 2, 4)
_TORCHVISION = ("alexnet", "vgg16")
_TORCHVISION_WEIGHTS = "IMAGENET1K_V1"
_SECONDS = 8.0  # within which the host of published weights must answer


class Preprocessing(NamedTuple):
    """How a backbone wants its images: mean and standard deviation of the channels, and how images are resized."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str


def check_backbone(name: str) -> None:
    """Check that a network of this name exists; a name may end with the tag of weights, as in `hrnet_w18.ms_in1k`.

    Raises:
        ValueError: the name or its tag is unknown; the message lists similar names.
    """
    if name in _TORCHVISION:
        return
    if not timm.is_model(str(name)):
        near = difflib.get_close_matches(str(name), [*_TORCHVISION, *timm.list_models()]) or FEATURE_WIDTHS
        raise ValueError(f"backbone={name!r} is neither a timm model nor alexnet or vgg16; near: {', '.join(near)}")
    model, _, tag = name.partition(".")
    if tag:
        tags = [each.partition(".")[2] for each in timm.list_pretrained(f"{model}.*")]
        if tag not in tags:
            raise ValueError(f"backbone={name!r} names no weights of {model}; timm has: {', '.join(tags) or 'none'}")


def check_pretrained(pretrained: bool | str | os.PathLike[str], backbone: str) -> None:
    """Check that initial weights exist and have a supported format, without reading them.

    Raises:
        FileNotFoundError, ImportError, TypeError, ValueError: as in `HashEncoder`.
    """
    if not isinstance(pretrained, (bool, str, os.PathLike)):
        raise TypeError(f"pretrained must be True, False or a path, got {pretrained!r}")
    if isinstance(pretrained, bool):
        if pretrained and backbone not in _TORCHVISION and not _published(backbone):
            raise ValueError(f"pretrained=True: timm has no weights for backbone={backbone!r}")
        return
    if pretrained == PACKAGE:
        packaged_name(backbone)
        return
    path = Path(pretrained)
    if path.is_dir():
        weights_path(path, read_card(path, "HashEncoder"))
    elif path.suffix.lower() not in (SAFETENSORS, *PICKLES):
        raise ValueError(
            f"pretrained={str(path)!r} must be {PACKAGE!r}, a saved encoder, or a file of weights that ends with "
            f"{', '.join((SAFETENSORS, *PICKLES))}"
        )
    elif not path.is_file():
        raise FileNotFoundError(f"pretrained={str(path)!r} does not exist")


def check_stem_stride(stem_stride: int | None, backbone: str) -> None:
    """Check the stride of the stem of an HRNet; None is the usual one, 4.

    Raises:
        TypeError, ValueError: the stride is not 1, 2 or 4, or the network is no HRNet.
    """
    if stem_stride is None:
        return
    if check_int("stem_stride", stem_stride, 1) not in STEM_STRIDES:
        raise ValueError(f"stem_stride must be 1, 2 or 4, got {stem_stride}")
    if not backbone.startswith("hrnet_"):
        raise ValueError(f"stem_stride must be None for backbone={backbone!r}, which is no HRNet, got {stem_stride}")


def check_cut_branches(cut_branches: int, backbone: str) -> None:
    """Check how many of the finest branches of an HRNet its features leave out.

    Raises:
        TypeError, ValueError: the number is not 0 to 3, or the network is no HRNet.
    """
    if not 0 <= check_int("cut_branches", cut_branches, 0) <= 3:
        raise ValueError(f"cut_branches must be 0 to 3, got {cut_branches}")
    if cut_branches and not backbone.startswith("hrnet_"):
        raise ValueError(f"cut_branches must be 0 for backbone={backbone!r}, which is no HRNet, got {cut_branches}")


def describe_weights(name: str, pretrained: bool | str | os.PathLike[str]) -> str:
    """Say in a few words with which weights `make_backbone` begins."""
    if pretrained is False:
        return "random weights"
    if pretrained is True:
        return f"torchvision's {name}.{_TORCHVISION_WEIGHTS}" if name in _TORCHVISION else f"timm's {_full_name(name)}"
    return packaged_name(name) if pretrained == PACKAGE else f"the weights in {Path(pretrained).name}"


def preprocessing_of(name: str) -> Preprocessing:
    """Return the preprocessing with which the published weights of a backbone were trained."""
    config = None if name in _TORCHVISION else timm.get_pretrained_cfg(name)
    if config is None:
        return Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "bilinear")
    known = config.interpolation in ("bilinear", "bicubic")
    return Preprocessing(tuple(config.mean), tuple(config.std), config.interpolation if known else "bilinear")


class _CoarseHRNet(HighResolutionNet):
    """An HRNet whose features leave out the results of its finest branches."""

    cut_branches: int

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        for layer in (self.conv1, self.bn1, self.act1, self.conv2, self.bn2, self.act2):
            x = layer(x)
        branches = self.stages(x)
        features = self.incre_modules[self.cut_branches](branches[self.cut_branches])
        for i in range(self.cut_branches, len(branches) - 1):
            features = self.incre_modules[i + 1](branches[i + 1]) + self.downsamp_modules[i](features)
        return self.final_layer(features)


def make_backbone(
    name: str, pretrained: bool | str | os.PathLike[str], stem_stride: int | None = None, cut_branches: int = 0
) -> nn.Module:
    """Make a network from images `(B, 3, H, W)` to features; see `HashEncoder` for arguments and errors."""
    check_backbone(name)
    check_pretrained(pretrained, name)
    check_stem_stride(stem_stride, name)
    check_cut_branches(cut_branches, name)
    try:
        if pretrained is True:
            _check_within_reach(name)
        if name in _TORCHVISION:
            network = torchvision.models.get_model(name, weights=_TORCHVISION_WEIGHTS if pretrained is True else None)
            # As in HHNet, keep classifier[0:6]: up to the second 4096-wide ReLU, in VGG with the Dropout after it.
            del network.classifier[6]
            backbone: nn.Module = network
        else:
            backbone = timm.create_model(name, pretrained=pretrained is True, num_classes=0)
    except OSError as error:
        raise ConnectionError(
            f"pretrained=True: the weights of {name} could not be downloaded; without a network, give the path of a "
            f"local file, as pretrained='{name}.safetensors' ({brief(error)})"
        ) from error
    if not isinstance(pretrained, bool):
        classifier = "classifier.6" if name in _TORCHVISION else timm.get_pretrained_cfg_value(name, "classifier")
        _load_backbone(backbone, name, pretrained, [classifier] if isinstance(classifier, str) else classifier or [])
    if isinstance(backbone, HighResolutionNet):
        stride = 4 if stem_stride is None else stem_stride
        for convolution, halves in ((backbone.conv1, stride >= 4), (backbone.conv2, stride >= 2)):
            convolution.stride = (2, 2) if halves else (1, 1)
        # After its stem HRNet halves the image three times and scales the results back.
        backbone.register_forward_pre_hook(partial(_pad, multiple=8 * stride))
        if cut_branches:
            _cut(backbone, cut_branches)
    elif name == "alexnet":
        backbone.register_forward_pre_hook(partial(_pad, at_least=63))
    return backbone


def _cut(network: HighResolutionNet, n: int) -> None:
    """Leave the finest branches out of the features. Their layers stay, so that the network's weights fit as before."""
    network.__class__ = _CoarseHRNet
    assert isinstance(network, _CoarseHRNet)
    network.cut_branches = n
    last = network.stage4[-1]
    for unused in (*last.fuse_layers[:n], *network.incre_modules[:n], *network.downsamp_modules[:n]):
        unused.requires_grad_(False)


def _published(name: str) -> Any:
    """Return timm's configuration of published weights, or None if there are none."""
    config = timm.get_pretrained_cfg(name)
    return config if config is not None and (config.hf_hub_id or config.url) else None


def _full_name(name: str) -> str:
    """Name and tag of the weights that timm takes for a network."""
    config = timm.get_pretrained_cfg(name)
    tag = "" if config is None or not config.tag else f".{config.tag}"
    return f"{name.partition('.')[0]}{tag}"


def _check_within_reach(name: str) -> None:
    """Check that published weights are on this machine, or that their host answers; downloads try for a minute.

    Raises:
        OSError: neither is so.
    """
    if name in _TORCHVISION:
        url, hub_id = torchvision.models.get_weight(f"{_CLASSES[name]}.{_TORCHVISION_WEIGHTS}").url, None
    else:
        config = _published(name)
        url, hub_id = config.url, config.hf_hub_id
    if url and (Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]).exists():
        return
    files = ("model.safetensors", "pytorch_model.bin")
    if hub_id and any(isinstance(try_to_load_from_cache(hub_id, file), str) for file in files):
        return
    check_host(constants.ENDPOINT if hub_id else url)


_CLASSES = {"alexnet": "AlexNet_Weights", "vgg16": "VGG16_Weights"}


def check_host(url: str, seconds: float = _SECONDS) -> None:
    """Check that the host of an address answers in time; looking up its name counts.

    Raises:
        OSError: it does not.
    """
    failure: list[OSError] = [TimeoutError(f"{url} does not answer within {seconds:g} s")]

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=seconds):
                failure.clear()
        except urllib.error.HTTPError:  # an answer, too
            failure.clear()
        except OSError as error:
            failure[0] = error

    thread = threading.Thread(target=ask, daemon=True)  # since nothing ends a slow look-up of a name
    thread.start()
    thread.join(seconds)
    if failure:
        raise failure[0]


def _pad(network: nn.Module, inputs: tuple[Any, ...], multiple: int = 1, at_least: int = 1) -> Any:
    """Pad images `(B, 3, H, W)` at the right and the bottom with zeros, the mean colour of normalised images."""
    (images,) = inputs
    height, width = (max(-(-side // multiple) * multiple, at_least) for side in images.shape[2:])
    if (height, width) == images.shape[2:]:
        return None  # the inputs stay unchanged
    return F.pad(images, (0, width - images.shape[3], 0, height - images.shape[2]))


def _load_backbone(
    backbone: nn.Module, name: str, pretrained: str | os.PathLike[str], classifier: list[str] | tuple[str, ...]
) -> None:
    """Read the weights of the backbone from a package, a saved encoder or a file."""
    path = find_packaged(name) if pretrained == PACKAGE else Path(pretrained)
    if path.is_dir():
        state = read_by_card(
            lambda: read_card(path, "HashEncoder"), lambda card: read_tensors(weights_path(path, card), path)
        )
    else:
        state = read_tensors(path, path)
    try:
        backbone.load_state_dict(fit(state, backbone.state_dict(), classifier))
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"pretrained={str(path)!r} does not fit the backbone: {brief(error)}") from error
