"""The settings of an experiment; they make its split, network and loss.

Called by `fasthash.experiment`, which reads settings from files and trains. A wrong setting raises on construction, or
in `check_here` if the check depends on this machine. Nothing large is read or made before these checks.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np

from fasthash._checks import (
    check_bool,
    check_choice,
    check_level_bits,
    check_not_negative,
    check_path,
    check_real,
)
from fasthash._extras import needs_extra
from fasthash.metrics.from_histograms import Empty
from fasthash.settings import TrainingSettings

with needs_extra("train"):
    import torch

    from fasthash import losses
    from fasthash._augmentation import AUGMENTATIONS
    from fasthash._recomputing import check_recomputable
    from fasthash.backbones import (
        check_backbone,
        check_cut_branches,
        check_pretrained,
        check_stem_stride,
        make_backbone,
    )
    from fasthash.data import (
        PROTOCOLS,
        ImageSet,
        Split,
        draw_split,
        load_digits,
        load_folder,
        load_lists,
        read_cifar10,
        read_folder,
    )
    from fasthash.data.protocols import find_protocol
    from fasthash.encoder import HashEncoder, check_image_size
    from fasthash.heads import HEAD_KINDS
    from fasthash.losses.hierarchical import Mode, normalised_weights
    from fasthash.teaching import check_teacher
    from fasthash.train import check_precision

__all__ = ["AUGMENTATIONS", "DATA", "LOSSES", "Experiment", "Ties"]

DATA = ("digits", "folder", "cifar10", "parts", "lists", "split")
Ties = Literal["expected", "best", "worst", "feature"]

# Losses that need only labels.
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
_CHOICES = {
    "data": DATA,
    "head": HEAD_KINDS,
    "loss": LOSSES,
    "variant": ("original", "hhnet"),
    "level_mode": ("parallel", "prefix"),
    "augment": AUGMENTATIONS,
    "ties": get_args(Ties),
    "empty": get_args(Empty),
}
_DRAWN = ("cifar10", "parts")  # data with a split drawn by a protocol
_LISTED = ("lists", "split")  # data whose split is in files
_CIFAR10 = "cifar10-hhnet"  # default protocol
_TOLD = {"n_bits", "n_classes", "labels"}  # arguments of a loss that the experiment fills in


@dataclass(frozen=True)
class Experiment(TrainingSettings):
    """Settings of an experiment as plain values: training, data, network and loss.

    `optimizer`, `epochs`, `batch_size`, `lr` and so on are fields of `TrainingSettings`; `patience` needs validation
    images.

    Attributes:
        data: "digits" (scikit-learn's), "folder" (see `load_folder`), "cifar10" (torchvision's files), "parts" (folders
            `train` and `test` of class folders below `root`, split by `protocol`), "lists" (see `load_lists`), or
            "split" (a file that `Split.save` wrote).
        root: folder of the images.
        lists: folder or npz file of the lists, or the split file, for "lists" and "split".
        protocol: name in `fasthash.data.PROTOCOLS`, for "cifar10", "parts" and "lists".
        backbone, weights, image_size, stem_stride, cut_branches, head, batch_norm, level_bits: see `HashEncoder`;
            weights are None or "none", "imagenet", "package", or a path.
        teacher: "package" or the folder of a saved encoder, see `fasthash.teaching.load_teacher`; the backbone learns
            to predict its features, beside the loss or before it, see `teacher_weight` and `teacher_epochs`.
        loss: name in `LOSSES`; `loss_options` are its arguments.
        variant: "original", or "hhnet" for the form in HHNet's code. Pair losses without this variant then take all
            pairs of a batch.
        level_mode, level_weights, decorrelation: see `HierarchicalLoss`, which is used for several levels.
        augment: "none", "flip", "crop_flip" for random crops of the image padded by an eighth, "resized_crop" for crops
            of any scale, or "rand_augment" or "trivial_augment" for torchvision's; all but the first with flips.
        hold_out: share of each class of the training set that is held out for validation; 0 takes the validation images
            of the protocol, if it has any.
        skip_broken: leave out images whose files cannot be read, instead of ending at the first. All images are then
            decoded once before the training, as "folder" always does.
        ties: treatment of ties in `evaluate`: "expected", "best", "worst", or "feature" for the order in HHNet's code,
            see `fasthash.metrics.mean_average_precision_of_outputs`.
        empty: treatment of queries without relevant images: "zero", or "drop" as in HashNet's code.

    Raises:
        TypeError, ValueError: a setting is not as described; the message names it.
    """

    data: str = "digits"
    root: str | None = None
    lists: str | None = None
    protocol: str | None = None
    backbone: str = "hrnet_w18"
    weights: str | None = None
    image_size: int = 224
    stem_stride: int | None = None
    cut_branches: int = 0
    teacher: str | None = None
    head: str = "linear"
    batch_norm: bool = False
    level_bits: list[int] = field(default_factory=lambda: [64])
    loss: str = "hashnet"
    variant: str = "original"
    loss_options: dict[str, Any] = field(default_factory=dict)
    level_mode: str = "parallel"
    level_weights: list[float] | None = None
    decorrelation: float = 0.0
    augment: str = "none"
    hold_out: float = 0.0
    skip_broken: bool = False
    ties: Ties = "expected"
    empty: Empty = "zero"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, choices in _CHOICES.items():
            check_choice(name, getattr(self, name), choices)
        for name in ("root", "lists", "weights", "teacher"):  # "imagenet", "package" and "none" look like paths
            if getattr(self, name) is not None:
                check_path(name, getattr(self, name))
                self._keep(name, str(getattr(self, name)))
        check_backbone(self.backbone)
        check_stem_stride(self.stem_stride, self.backbone)
        check_cut_branches(self.cut_branches, self.backbone)
        if self.teacher_epochs and self.teacher is None:
            raise ValueError(f"teacher_epochs must be 0 without a teacher, got {self.teacher_epochs}")
        if self.teacher_weight != TrainingSettings.teacher_weight and self.teacher is None:
            usual_weight = TrainingSettings.teacher_weight
            raise ValueError(f"teacher_weight must be {usual_weight} without a teacher, got {self.teacher_weight}")
        if self.teacher_epochs >= self.epochs:  # the hash layer would not learn
            raise ValueError(f"teacher_epochs must be below epochs={self.epochs}, got {self.teacher_epochs}")
        if self.freeze_backbone and (self.teacher is not None or self.augment != "none"):
            name = "augment" if self.teacher is None else "teacher"
            usual = "'none'" if self.teacher is None else "None"
            raise ValueError(f"{name} must be {usual} with freeze_backbone, got {getattr(self, name)!r}")
        if self.freeze_backbone and self.gradient_checkpointing:
            raise ValueError("gradient_checkpointing must be False with freeze_backbone, got True")
        check_bool("batch_norm", self.batch_norm)
        check_bool("skip_broken", self.skip_broken)
        if not 0 <= check_real("hold_out", self.hold_out) < 1:
            raise ValueError(f"hold_out must be at least 0 and below 1, got {self.hold_out!r}")
        self._keep("image_size", check_image_size(self.image_size))
        self._keep("level_bits", list(check_level_bits(self.level_bits)))
        self._keep("hold_out", float(self.hold_out))
        if self.level_weights is not None and len(self.level_bits) > 1:
            normalised_weights("level_weights", self.level_weights, len(self.level_bits))
            self._keep("level_weights", [float(weight) for weight in self.level_weights])
        self._keep("decorrelation", check_not_negative("decorrelation", self.decorrelation))
        if self.decorrelation and len(self.level_bits) == 1:
            raise ValueError(f"decorrelation must be 0 for a code of one level, got {self.decorrelation}")
        self._check_loss_options()
        self._check_data()

    def _check_data(self) -> None:
        if self.lists is not None and self.data not in _LISTED:
            raise ValueError(f"lists must be None for data={self.data!r}, which has none, got {self.lists!r}")
        rules = None if self.protocol is None else find_protocol(self.protocol)
        if rules is not None and self.data not in (*_DRAWN, "lists"):
            raise ValueError(f"protocol must be None for data={self.data!r}, which has none, got {self.protocol!r}")
        if self.data in ("folder", "cifar10", "parts") and self.root is None:
            raise ValueError(f"root must name the folder of the images for data={self.data!r}, got None")
        if self.data in _LISTED and self.lists is None:
            raise ValueError(f"lists must name the lists or the split file for data={self.data!r}, got None")
        if self.data == "parts" and self.protocol is None:
            raise ValueError("protocol must say how the images are split for data='parts', got None")
        if rules is not None and rules.draw == "lists" and self.data in _DRAWN:
            raise ValueError(
                f"protocol must be one that is drawn for data={self.data!r}, got {self.protocol!r}, which is published "
                "as lists alone; see data='lists'"
            )

    def _check_loss_options(self) -> None:
        options = self.loss_options
        if not isinstance(options, dict):
            raise TypeError(f"loss_options must be a table of options, got {options!r}")
        known = sorted(set(inspect.signature(LOSSES[self.loss]).parameters) - _TOLD)
        if wrong := sorted(set(options) - set(known)):
            raise ValueError(f"loss_options must be among {known} for {self.loss}, got {wrong}")

    @property
    def pretrained(self) -> bool | str:
        """Initial weights of the backbone, as an argument of `HashEncoder`."""
        if self.weights in (None, "none"):
            return False
        return self.weights == "imagenet" or str(self.weights)

    @property
    def validates(self) -> bool | None:
        """Whether the experiment has validation images; None if only the lists or the split file can tell."""
        if self.hold_out:
            return True
        if self.data in _DRAWN:
            return PROTOCOLS[self.protocol or _CIFAR10].n_validation > 0
        return None if self.data in _LISTED else False

    def check_here(self) -> None:
        """Check the settings against this machine and the loss, before images are read or weights are downloaded.

        Raises:
            FileNotFoundError: the weights do not exist.
            TypeError, ValueError: the weights have an unsupported format, the loss refuses an option or mixup, the
                backbone has no blocks for gradient checkpointing, the precision needs a GPU, or `patience` is set
                without validation images.
        """
        check_precision(self.mixed_precision)
        self.check_patience(self.validates)
        check_pretrained(self.pretrained, self.backbone)
        if self.teacher is not None:
            check_teacher(self.teacher)
        if self.gradient_checkpointing:
            with torch.device("meta"):  # the modules without their weights
                check_recomputable(make_backbone(self.backbone, False), self.backbone)
        with torch.random.fork_rng(devices=[]):
            loss = self.make_loss(
                ImageSet([None] * 2, np.arange(2), "ab")
            )  # two classes are enough to check the options
        if self.mixup and loss.needs_index:
            raise ValueError(f"mixup must be 0 with loss={self.loss!r}, which stores a value for each image")

    def check_patience(self, validates: bool | None) -> None:
        """Check that `patience` has validation images; `validates` as in the property.

        Raises:
            ValueError: `patience` is set, and no validation images exist.
        """
        if self.patience is not None and validates is False:
            raise ValueError(
                f"patience must be None, got {self.patience}: it needs validation images, and data={self.data!r} has "
                "none here; hold_out=0.1 holds some out, and some protocols have them"
            )

    def split(self, transform: Callable[[Any], torch.Tensor] | None) -> Split:
        """Load the images of the experiment."""
        split = self._whole_split(transform)
        return split.readable() if self.skip_broken else split

    def _whole_split(self, transform: Callable[[Any], torch.Tensor] | None) -> Split:
        root = self.root or ""
        if self.data == "digits":
            return load_digits(self.seed, transform)
        if self.data == "folder":
            return load_folder(root, self.seed, transform)
        if self.data == "cifar10":
            images = read_cifar10(root, transform)
            return draw_split(self.protocol or _CIFAR10, *images, seed=self.seed)
        if self.data == "parts":
            assert self.protocol is not None  # __post_init__ has checked it
            images = read_folder(Path(root) / "train", transform), read_folder(Path(root) / "test", transform)
            return draw_split(self.protocol, *images, seed=self.seed)
        assert self.lists is not None  # __post_init__ has checked it
        if self.data == "lists":
            return load_lists(self.lists, self.protocol, root, transform)
        return Split.load(self.lists, self.root, transform)

    def make_encoder(self) -> HashEncoder:
        """Make the network with its initial weights."""
        torch.manual_seed(self.seed)
        return HashEncoder(
            self.backbone,
            self.level_bits,
            self.pretrained,
            image_size=self.image_size,
            head=self.head,
            batch_norm=self.batch_norm,
            stem_stride=self.stem_stride,
            cut_branches=self.cut_branches,
        )

    def make_loss(self, images: ImageSet) -> losses.HashLoss:
        """Make the loss for a training set."""
        torch.manual_seed(self.seed)
        if len(self.level_bits) == 1:
            return self._level_loss(self.level_bits[0], images)
        widths = accumulate(self.level_bits) if self.level_mode == "prefix" else self.level_bits
        levels = [self._level_loss(width, images) for width in widths]
        mode = cast(Mode, self.level_mode)
        return losses.HierarchicalLoss(levels, self.level_bits, self.level_weights, mode, self.decorrelation)

    def _level_loss(self, n_bits: int, images: ImageSet) -> losses.HashLoss:
        """Make the loss of one level; fill in width, number of classes and labels if it has these arguments."""
        make = LOSSES[self.loss]
        known = {"n_bits": n_bits, "n_classes": len(images.class_names), "labels": torch.from_numpy(images.labels)}
        accepted = inspect.signature(make).parameters
        options = dict(self.loss_options)
        if self.variant == "hhnet":
            options = (
                {"variant": "hhnet"} if "variant" in accepted else {"pairs": "all"} if "pairs" in accepted else {}
            ) | options
        return make(**{name: known[name] for name in known if name in accepted}, **options)
