"""CIFAR-10 in torchvision's layout."""

from __future__ import annotations

import os

from torchvision.datasets import CIFAR10

from fasthash._checks import check_path
from fasthash.data.images import ImageSet, Transform

__all__ = ["read_cifar10"]


def read_cifar10(folder: str | os.PathLike[str], transform: Transform | None = None) -> tuple[ImageSet, ImageSet]:
    """Read CIFAR-10 (Krizhevsky, 2009): 50,000 training and 10,000 test images, 32 x 32 px, in 10 classes.

    Images are named "train/00000" to "test/09999", by their place in the batches.

    Args:
        folder: holds `cifar-10-batches-py`, as `torchvision.datasets.CIFAR10` downloads it. The batches are pickles,
            which can run code: torchvision opens them after their MD5 sums are found to be those of the original.
        transform: see `ImageSet`.

    Returns:
        Training images and test images.

    Raises:
        FileNotFoundError: `folder` lacks `cifar-10-batches-py`.
        ValueError: a file is missing there or is not the original.
    """
    check_path("folder", folder)
    if not os.path.isdir(os.path.join(folder, CIFAR10.base_folder)):
        raise FileNotFoundError(f"folder={os.fspath(folder)!r} must hold {CIFAR10.base_folder}, which is missing")
    return _read(folder, True, transform), _read(folder, False, transform)


def _read(folder: str | os.PathLike[str], train: bool, transform: Transform | None) -> ImageSet:
    try:
        data = CIFAR10(os.fspath(folder), train=train)
    except RuntimeError as error:  # torchvision's for files that are missing or have another MD5 sum
        raise ValueError(f"folder={os.fspath(folder)!r} does not hold CIFAR-10 whole and unchanged: {error}") from error
    part = "train" if train else "test"
    return ImageSet(
        data.data, data.targets, data.classes, transform, [f"{part}/{index:05}" for index in range(len(data.data))]
    )
