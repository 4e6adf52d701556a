"""Backbones from images to features: HRNets and other models of timm, AlexNet and VGG-16 of torchvision."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fasthash._checkpoint import brief, read_card, weights_path
from fasthash._core import FormatError
from fasthash._extras import needs_extra
from fasthash._saved_folder import read_by_card

with needs_extra("train"):
    import timm
    import torch
    import torchvision
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    from timm.models.hrnet import HighResolutionNet
    from torch import nn
    from torch.nn import functional as F

__all__ = ["FEATURE_WIDTHS", "check_backbone", "check_pretrained", "make_backbone"]

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
_TORCHVISION = ("alexnet", "vgg16")


def check_backbone(name: str) -> None:
    """Check that a network of this name exists.

    Raises:
        ValueError: the name is unknown; the message lists similar names.
    """
    if name not in _TORCHVISION and not timm.is_model(str(name)):
        near = difflib.get_close_matches(str(name), [*_TORCHVISION, *timm.list_models()]) or FEATURE_WIDTHS
        raise ValueError(f"backbone={name!r} is neither a timm model nor alexnet or vgg16; near: {', '.join(near)}")


def check_pretrained(pretrained: bool | str | os.PathLike[str]) -> None:
    """Check that initial weights exist and have a supported format, without reading them.

    Raises:
        FileNotFoundError, TypeError, ValueError: as in `HashEncoder`.
    """
    if not isinstance(pretrained, (bool, str, os.PathLike)):
        raise TypeError(f"pretrained must be True, False or a path, got {pretrained!r}")
    if isinstance(pretrained, bool):
        return
    path = Path(pretrained)
    if path.is_dir():
        weights_path(path, read_card(path, "HashEncoder"))
    elif path.suffix != ".safetensors":
        raise ValueError(
            f"pretrained={str(path)!r} must be a .safetensors file or a saved encoder: pickles (.pt, .pth, .bin) are "
            "refused, because loading one can run any code in it; convert it once with safetensors.torch.save_file"
        )
    elif not path.is_file():
        raise FileNotFoundError(f"pretrained={str(path)!r} does not exist")


def make_backbone(name: str, pretrained: bool | str | os.PathLike[str]) -> nn.Module:
    """Make a network from images `(B, 3, H, W)` to features; see `HashEncoder` for arguments and errors."""
    check_backbone(name)
    check_pretrained(pretrained)
    try:
        if name in _TORCHVISION:
            network = torchvision.models.get_model(name, weights="IMAGENET1K_V1" if pretrained is True else None)
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
        _load_backbone(backbone, Path(pretrained), [classifier] if isinstance(classifier, str) else classifier or [])
    if isinstance(backbone, HighResolutionNet):
        # HRNet halves the image five times and scales the results back: sides must be multiples of 32.
        backbone.register_forward_pre_hook(partial(_pad, multiple=32))
    elif name == "alexnet":
        backbone.register_forward_pre_hook(partial(_pad, at_least=63))
    return backbone


def _pad(network: nn.Module, inputs: tuple[Any, ...], multiple: int = 1, at_least: int = 1) -> Any:
    """Pad images `(B, 3, H, W)` at the right and the bottom with zeros, the mean colour of normalised images."""
    (images,) = inputs
    height, width = (max(-(-side // multiple) * multiple, at_least) for side in images.shape[2:])
    if (height, width) == images.shape[2:]:
        return None  # the inputs stay unchanged
    return F.pad(images, (0, width - images.shape[3], 0, height - images.shape[2]))


def _load_backbone(backbone: nn.Module, path: Path, classifier: Sequence[str]) -> None:
    """Read the weights of the backbone from a saved encoder or a file; weights of the classifier are ignored."""
    if path.is_dir():
        prefix = "backbone."
        weights = read_by_card(
            lambda: read_card(path, "HashEncoder"), lambda card: _read(weights_path(path, card), path)
        )
        state = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
    else:
        cut_off = tuple(f"{part}." for part in classifier)
        state = {key: value for key, value in _read(path, path).items() if not key.startswith(cut_off)}
    try:
        backbone.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"pretrained={str(path)!r} does not fit the backbone: {brief(error)}") from error


def _read(file: Path, given: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(file)
    except SafetensorError as error:
        raise FormatError(f"pretrained={str(given)!r} is not a safetensors file: {brief(error)}") from error
