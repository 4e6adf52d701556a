"""What the demo shows, and how it trains: images, network and settings, chosen and checked before anything is read."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from fasthash._extras import MissingExtraError
from fasthash._weights import PACKAGE, packaged_name
from fasthash.backbones import check_backbone, check_pretrained
from fasthash.encoder import check_image_size
from fasthash.losses import HashNetLoss, HierarchicalLoss, HyP2Loss
from fasthash.settings import TrainingSettings

__all__ = ["LEVEL_BITS", "Plan", "make_plan", "repository_photos"]

LEVEL_BITS = (8, 16, 40)
_SMALL = "tf_efficientnet_lite0"  # the network of the demo for photos, where its weights are installed
_PHOTOS = "clothing photos (CC0)"


@dataclass(frozen=True)
class Plan:
    """Images, network and settings of a demo.

    Attributes:
        images: folder of class sub-folders; None for scikit-learn's digits.
        name: of the images.
        note: why digits are shown where photos were expected, or empty.
        backbone, pretrained, image_size: see `HashEncoder`.
        settings: of the training.
    """

    images: str | os.PathLike[str] | None
    name: str
    note: str
    backbone: str
    pretrained: bool | str | os.PathLike[str]
    image_size: int
    settings: TrainingSettings

    def loss(self, n_classes: int) -> HierarchicalLoss:
        """Make the loss: in prefix mode, which trains what the pruned search ranks by, all levels up to each one."""
        if self.pretrained is False:
            return HierarchicalLoss(HashNetLoss(), LEVEL_BITS, mode="prefix")
        losses = [HyP2Loss(n_bits=width, n_classes=n_classes) for width in accumulate(LEVEL_BITS)]
        return HierarchicalLoss(losses, LEVEL_BITS, mode="prefix")


def make_plan(
    images: str | os.PathLike[str] | None,
    digits: bool,
    backbone: str | None,
    pretrained: bool | str | os.PathLike[str] | None,
    image_size: int | None,
    seed: int,
    **training: Any,
) -> Plan:
    """Choose images and network, fill in what is None, and check all of it.

    Args:
        images: folder of class sub-folders; None takes the photos of the repository, if they are there and the weights
            of their network are installed, or else the digits.
        digits: take the digits.
        backbone, pretrained, image_size: see `HashEncoder`; None takes the default for the images.
        seed: random seed.
        training: `epochs`, `batch_size` and `lr`; None takes the default for the images.

    Raises:
        FileNotFoundError, TypeError, ValueError: an argument is not as described; the message names it.
    """
    if images is not None and digits:
        raise ValueError(f"digits must be False where images is a folder, got images={os.fspath(images)!r}")
    missing = _missing_weights()
    name, note = "", ""
    if images is not None:
        name = Path(images).resolve().name
    elif not digits and (photos := repository_photos()) is None:
        note = "The photos of the demo are in the repository, which is not here: these are scikit-learn's digits."
    elif not digits and missing and backbone is None:
        note = f"The photos of the demo need weights: {missing}. These are scikit-learn's digits."
    elif not digits:
        images, name = photos, _PHOTOS
    is_photos = images is not None
    if backbone is None:
        backbone = _SMALL if is_photos and not missing and pretrained in (None, PACKAGE) else "hrnet_w18_small"
        pretrained = PACKAGE if backbone == _SMALL else pretrained
    pretrained = False if pretrained is None else pretrained
    usual: dict[str, Any] = {"epochs": 12, "batch_size": 64, "lr": 5e-4, "hash_lr_mult": 1.0}
    if pretrained is not False:
        # The photos of the repository are few, so that 14 epochs take two minutes.
        usual = {"epochs": 14 if name == _PHOTOS else 8, "batch_size": 32, "lr": 1e-3, "hash_lr_mult": 10.0}
    given = {key: value for key, value in training.items() if value is not None}
    settings = TrainingSettings(**usual | given, schedule="cosine", seed=seed)
    if image_size is None:
        image_size = (64 if pretrained is False else 96) if is_photos else 32
    check_backbone(backbone)
    check_pretrained(pretrained, backbone)
    check_image_size(image_size)
    return Plan(images, name or "scikit-learn's handwritten digits", note, backbone, pretrained, image_size, settings)


def repository_photos() -> Path | None:
    """Return the folder of photos in the repository from which fasthash runs; None if it runs from elsewhere."""
    folder = Path(__file__).resolve().parents[3] / "examples" / "photos"
    return folder if folder.is_dir() else None


def _missing_weights() -> str:
    """Say what is missing for the network of the demo; empty if nothing is."""
    try:
        packaged_name(_SMALL)
    except MissingExtraError as error:
        return str(error)
    return ""
