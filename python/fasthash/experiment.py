"""Experiments by name: what the command line trains, as plain values in a TOML file."""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib import resources
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fasthash._checks import check_choice, check_fraction, check_int, check_level_bits, check_real
from fasthash._extras import needs_extra
from fasthash._shown import for_terminal
from fasthash.metrics import histograms
from fasthash.metrics.from_histograms import Empty

with needs_extra("train"):
    import torch
    from torchvision.transforms import v2

    from fasthash import losses
    from fasthash.data import (
        ImageSet,
        Split,
        audit,
        draw_split,
        load_digits,
        load_folder,
        load_lists,
        read_cifar10,
        read_folder,
    )
    from fasthash.data.draw import held_out
    from fasthash.encoder import HashEncoder
    from fasthash.record import TrainingRecord
    from fasthash.train import train

if sys.version_info >= (3, 11):
    import tomllib
else:
    with needs_extra("cli"):
        import tomli as tomllib

__all__ = [
    "AUGMENTATIONS",
    "DATA",
    "LOSSES",
    "PRESETS",
    "Experiment",
    "Ties",
    "read_config",
    "run_training",
]

DATA = ("digits", "folder", "cifar10", "parts", "lists", "split")
PRESETS = ("hhnet", "hashnet", "hdhash", "hyp2", "wglhh")
AUGMENTATIONS = ("none", "flip", "crop_flip")
Ties = Literal["expected", "best", "worst", "feature"]

# Those that learn from labels alone.
LOSSES: dict[str, Callable[..., losses.HashLoss]] = {
    "cel": losses.CELLoss,
    "csq": losses.CSQLoss,
    "dch": losses.DCHLoss,
    "dhn": losses.DHNLoss,
    "dnnh": losses.DNNHLoss,
    "dpn": losses.DPNLoss,
    "dpsh": losses.DPSHLoss,
    "dsdh": losses.DSDHLoss,
    "dsh": losses.DSHLoss,
    "dtsh": losses.DTSHLoss,
    "greedyhash": losses.GreedyHashLoss,
    "hashnet": losses.HashNetLoss,
    "hyp2": losses.HyP2Loss,
    "idhn": losses.IDHNLoss,
    "mihash": losses.MIHashLoss,
    "orthohash": losses.OrthoHashLoss,
    "wglhh": losses.WGLHHLoss,
}
_STATE = "state.safetensors"
_SUBSETS, _SUBSET_SIZE, _SUBSET_QUERIES = 5, 1000, 0.1  # of validation, as in HHNet's code


@dataclass(frozen=True)
class Experiment:
    """Settings of an experiment, plain values all.

    Attributes:
        data: "digits" (scikit-learn's), "folder" (see `load_folder`), "cifar10" (torchvision's files), "parts" (folders
            `train` and `test` of class folders below `root`, split by `protocol`), "lists" (see `load_lists`), or
            "split" (a file that `Split.save` wrote).
        root: folder of the images.
        lists: folder or npz file of the lists, or the split file.
        protocol: name in `fasthash.data.PROTOCOLS`.
        backbone, weights, image_size, head, batch_norm, level_bits: see `HashEncoder`; weights are None or "none",
            "imagenet", or a path.
        loss: name in `LOSSES`; `loss_options` are arguments of it.
        variant: "original", or "hhnet" for the form of HHNet's code: for losses on pairs that have no such variant, all
            pairs of a batch.
        level_mode, level_weights: see `HierarchicalLoss`, which takes part where there are several levels.
        optimizer, epochs, batch_size, lr, hash_lr_mult, loss_lr_mult: see `fasthash.train.train`.
        weight_decay, schedule, mixed_precision, num_workers: likewise.
        augment: "none", "flip", or "crop_flip" for random crops of the image padded by an eighth, and flips.
        hold_out: share of each class of the training set that is held out for validation; 0 takes the protocol's
            validation images, if it has some.
        patience: epochs without a better validation mAP after which training ends; needs validation images.
        ties: how `evaluate` counts items at one distance: "expected", "best", "worst", or "feature" for the order of
            HHNet's code, see `fasthash.metrics.mean_average_precision_of_outputs`.
        empty: what becomes of queries without relevant images: "zero", or "drop" as in HashNet's code.
        seed: of split, weights, order and augmentation.
    """

    data: str = "digits"
    root: str | None = None
    lists: str | None = None
    protocol: str | None = None
    backbone: str = "hrnet_w18"
    weights: str | None = None
    image_size: int = 224
    head: str = "linear"
    batch_norm: bool = False
    level_bits: list[int] = field(default_factory=lambda: [64])
    loss: str = "hashnet"
    variant: str = "original"
    loss_options: dict[str, Any] = field(default_factory=dict)
    level_mode: str = "parallel"
    level_weights: list[float] | None = None
    optimizer: str = "adam"
    epochs: int = 20
    batch_size: int = 128
    lr: float = 1e-5
    hash_lr_mult: float = 10.0
    loss_lr_mult: float | None = None
    weight_decay: float = 5e-4
    schedule: str = "constant"
    mixed_precision: str = "no"
    num_workers: int = 0
    augment: str = "none"
    hold_out: float = 0.0
    patience: int | None = None
    ties: Ties = "expected"
    empty: Empty = "zero"
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("data", self.data, DATA)
        check_choice("loss", self.loss, LOSSES)
        check_choice("augment", self.augment, AUGMENTATIONS)
        check_choice("variant", self.variant, ("original", "hhnet"))
        check_choice("level_mode", self.level_mode, ("parallel", "prefix"))
        check_choice("ties", self.ties, get_args(Ties))
        check_choice("empty", self.empty, get_args(Empty))
        check_level_bits(self.level_bits)
        check_int("seed", self.seed, 0)
        if check_real("hold_out", self.hold_out) != 0:
            check_fraction("hold_out", self.hold_out)
        if self.data != "digits" and self.data != "split" and self.root is None and self.lists is None:
            raise ValueError(f"root must name the folder of the images for data={self.data!r}, got None")
        if self.data in ("lists", "split") and self.lists is None:
            raise ValueError(f"lists must name the lists or the split file for data={self.data!r}, got None")

    def split(self, transform: Callable[[Any], torch.Tensor] | None) -> Split:
        """The images of the experiment."""
        root = self.root or ""
        if self.data == "digits":
            return load_digits(self.seed, transform)
        if self.data == "folder":
            return load_folder(root, self.seed, transform)
        if self.data == "cifar10":
            images = read_cifar10(root, transform)
            return draw_split(self.protocol or "cifar10-hhnet", *images, seed=self.seed)
        if self.data == "parts":
            if self.protocol is None:
                raise ValueError("protocol must say how the images are split for data='parts', got None")
            images = read_folder(Path(root) / "train", transform), read_folder(Path(root) / "test", transform)
            return draw_split(self.protocol, *images, seed=self.seed)
        assert self.lists is not None  # __post_init__ has checked it
        if self.data == "lists":
            return load_lists(self.lists, self.protocol, root, transform)
        return Split.load(self.lists, self.root, transform)

    def make_encoder(self) -> HashEncoder:
        """The network, before any training."""
        torch.manual_seed(self.seed)
        weights: bool | str = False
        if self.weights not in (None, "none"):
            weights = self.weights == "imagenet" or str(self.weights)
        return HashEncoder(
            self.backbone,
            self.level_bits,
            weights,
            image_size=self.image_size,
            head=self.head,
            batch_norm=self.batch_norm,
        )

    def make_loss(self, images: ImageSet) -> losses.HashLoss:
        """The loss, for a training set."""
        torch.manual_seed(self.seed)
        if len(self.level_bits) == 1:
            return self._level_loss(self.level_bits[0], images)
        widths = accumulate(self.level_bits) if self.level_mode == "prefix" else self.level_bits
        levels = [self._level_loss(width, images) for width in widths]
        return losses.HierarchicalLoss(levels, self.level_bits, self.level_weights, self.level_mode)  # type: ignore[arg-type]

    def _level_loss(self, n_bits: int, images: ImageSet) -> losses.HashLoss:
        """The loss of one level; it is told the width, the number of classes or the labels if it asks."""
        make = LOSSES[self.loss]
        known = {"n_bits": n_bits, "n_classes": len(images.class_names), "labels": torch.from_numpy(images.labels)}
        asked = inspect.signature(make).parameters
        wrong = sorted(set(self.loss_options) - (set(asked) - set(known)))
        if wrong:
            raise ValueError(
                f"loss_options must be among {sorted(set(asked) - set(known))} for {self.loss}, got {wrong}"
            )
        options = dict(self.loss_options)
        if self.variant == "hhnet":
            options = (
                {"variant": "hhnet"} if "variant" in asked else {"pairs": "all"} if "pairs" in asked else {}
            ) | options
        return make(**{name: known[name] for name in known if name in asked}, **options)


def read_config(path: str | Path | None = None, preset: str | None = None, **given: Any) -> Experiment:
    """An experiment from a preset, a file and single settings, of which the later ones count.

    Args:
        path: TOML file, or the JSON file that a training leaves beside its checkpoint; None for no file.
        preset: name in `PRESETS`.
        given: settings by name; None leaves them as they are.

    Raises:
        OSError: the file cannot be read.
        TypeError, ValueError: the file is no TOML or JSON, or a setting is unknown or wrong.
    """
    layers: list[dict[str, Any]] = []
    if preset is not None:
        check_choice("preset", preset, PRESETS)
        layers.append(tomllib.loads((resources.files("fasthash") / "presets" / f"{preset}.toml").read_text()))
    if path is not None:
        text = Path(path).read_text(encoding="utf-8")
        try:
            layers.append(json.loads(text) if Path(path).suffix == ".json" else tomllib.loads(text))
        except ValueError as error:
            raise ValueError(f"{path} cannot be read: {error}") from error
    layers.append({name: value for name, value in given.items() if value is not None})
    settings: dict[str, Any] = {}
    for layer in layers:
        if layer.get("loss", settings.get("loss")) != settings.get("loss"):
            settings.pop("loss_options", None)  # they were of another loss
        settings |= layer
    known = {entry.name for entry in dataclasses.fields(Experiment)}
    if unknown := sorted(set(settings) - known):
        raise ValueError(f"settings must be among {', '.join(sorted(known))}, got {', '.join(unknown)}")
    return Experiment(**settings)


def run_training(
    experiment: Experiment, folder: str | Path, say: Callable[[str], None] = print, progress: bool = True
) -> TrainingRecord:
    """Train into a folder, or go on where a training in it was stopped.

    The folder gets `experiment.json`, `split.json`, `encoder` (the checkpoint), `state.safetensors` (to go on) and
    `log` (for TensorBoard).

    Raises:
        ValueError: the folder holds another experiment, or patience is given without validation images.
    """
    folder = Path(folder)
    state, settings, file = folder / _STATE, dataclasses.asdict(experiment), folder / "experiment.json"
    if state.exists() and _essence(json.loads(file.read_text())) != _essence(settings):
        raise ValueError(f"{folder} holds another experiment; take another folder, or remove it")
    encoder = experiment.make_encoder()
    split = experiment.split(encoder.transform)
    writes = int(os.environ.get("RANK", 0)) == 0  # the first of several processes writes for all
    if writes:
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(settings, indent=2) + "\n")
        split.save(folder / "split.json")
        say(f"{for_terminal(split.protocol)}\n{audit(split)}")
    images, validation = split.train, split.validation
    if experiment.hold_out:
        held = _held_out(images, experiment.hold_out, experiment.seed)
        images, validation = images.subset(~held), images.subset(held)
    if experiment.patience is not None and validation is None:
        raise ValueError("patience needs validation images: a protocol that has some, or hold_out")
    validate = None
    if validation is not None:
        validate = partial(_validation_map, images=validation, seed=experiment.seed)
    record = train(
        encoder,
        experiment.make_loss(images),
        images,
        optimizer=experiment.optimizer,
        epochs=experiment.epochs,
        batch_size=experiment.batch_size,
        lr=experiment.lr,
        hash_lr_mult=experiment.hash_lr_mult,
        loss_lr_mult=experiment.loss_lr_mult,
        weight_decay=experiment.weight_decay,
        schedule=experiment.schedule,
        seed=experiment.seed,
        augment=_augmentation(experiment.augment, experiment.image_size),
        mixed_precision=experiment.mixed_precision,
        num_workers=experiment.num_workers,
        validate=validate,
        patience=experiment.patience,
        state=state,
        log_folder=folder / "log",
        progress=progress,
    )
    if writes:
        encoder.save(folder / "encoder", record)
    return record


def _essence(settings: dict[str, Any]) -> Any:
    """What two runs of an experiment must share, as JSON knows it."""
    free = {"num_workers", "patience", "ties", "empty"} | ({"epochs"} if settings["schedule"] == "constant" else set())
    return json.loads(json.dumps({name: value for name, value in settings.items() if name not in free}))


def _held_out(images: ImageSet, share: float, seed: int) -> NDArray[np.bool_]:
    """True for a share of the images: of each class, or of all where they have several."""
    labels = np.zeros(len(images), np.int64) if images.multi_label else images.labels
    return held_out(labels, seed, lambda n: min(max(round(share * n), 1), n - 1))


def _validation_map(encoder: Any, images: ImageSet, seed: int) -> float:
    """Mean mAP@ALL of random subsets of the validation images, a tenth of each as queries."""
    codes = encoder.encode(images)
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(_SUBSETS):
        rows = rng.permutation(len(images))[:_SUBSET_SIZE]
        n_queries = max(1, round(_SUBSET_QUERIES * len(rows)))
        query, gallery = rows[:n_queries], rows[n_queries:]
        counts = histograms(codes[query], codes[gallery], images.labels[query], images.labels[gallery])
        found.append(counts.mean_average_precision())
    return float(np.mean(found))


def _augmentation(name: str, image_size: int) -> Callable[[torch.Tensor], torch.Tensor] | None:
    flip = v2.RandomHorizontalFlip()
    if name == "none":
        return None
    if name == "flip":
        return flip
    return v2.Compose([v2.RandomCrop(image_size, padding=image_size // 8, padding_mode="reflect"), flip])
