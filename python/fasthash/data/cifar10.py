"""CIFAR-10 in torchvision's layout."""

from __future__ import annotations

import os

from torchvision.datasets import CIFAR10

from fasthash._checks import check_path
from fasthash.data.images import ImageSet, Transform

__all__ = ["read_cifar10"]


def read_cifar10(folder: str | os.PathLike[str], transform: Transform | None = None) -> tuple[ImageSet, ImageSet]:
    """Read CIFAR-10 (Krizhevsky, 2009): 50,000 training and 10,000 test images, 32 x 32 px, in 10 classes.

    Images are named "train/00000" to "test/09999", by their position in the batches.

    Args:
        folder: folder with `cifar-10-batches-py`, as `torchvision.datasets.CIFAR10` downloads it. The batches are
            pickles, which can run code. torchvision opens them only if their MD5 sums match the originals.
        transform: see `ImageSet`.

    Returns:
        Training images and test images.

    Raises:
        FileNotFoundError: `folder` lacks `cifar-10-batches-py`.
        ValueError: a file is missing or is not the original.
    """
    check_path("folder", folder)
    if not os.path.isdir(os.path.join(folder, CIFAR10.base_folder)):
        raise FileNotFoundError(f"folder={os.fspath(folder)!r} must hold {CIFAR10.base_folder}, which is missing")
    return _read(folder, True, transform), _read(folder, False, transform)


def _read(folder: str | os.PathLike[str], train: bool, transform: Transform | None) -> ImageSet:
    try:
        data = CIFAR10(os.fspath(folder), train=train)
    except RuntimeError as error:  # torchvision raises it for missing files and wrong MD5 sums
        raise ValueError(f"folder={os.fspath(folder)!r} does not hold CIFAR-10 whole and unchanged: {error}") from error
    part = "train" if train else "test"
    return ImageSet(
        data.data, data.targets, data.classes, transform, [f"{part}/{index:05}" for index in range(len(data.data))]
    )
