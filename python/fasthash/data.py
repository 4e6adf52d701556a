"""Labelled images and their split into training set, gallery and queries."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fasthash._extras import needs_extra

with needs_extra("train"):
    import torch
    from PIL import Image
    from torch.utils.data import Dataset
    from torchvision.datasets.folder import make_dataset
    from torchvision.transforms.v2.functional import pil_to_tensor
    from tqdm import tqdm

    from fasthash.folders import IMAGE_SUFFIXES, read_photo

__all__ = ["ImageSet", "Split", "load_digits", "load_folder"]

Transform = Callable[[Image.Image], torch.Tensor]
_SUFFIXES = tuple(sorted(IMAGE_SUFFIXES))


class ImageSet(Dataset[tuple[torch.Tensor, int]]):
    """Images with one class each, read when they are asked for.

    Args:
        images: paths of image files, or uint8 arrays `(H, W)` or `(H, W, 3)`.
        labels: integers `(n,)`, the class of each image as an index into `class_names`; kept as int64.
        class_names: name of each class.
        transform: from a PIL RGB image to a tensor, such as `HashEncoder.transform`; None gives uint8 `(3, H, W)`.

    Raises:
        TypeError: `labels` are not integers.
        ValueError: `labels` has another length than `images`, or a value without a class name.
    """

    def __init__(
        self,
        images: Sequence[str | os.PathLike[str] | NDArray[np.uint8]],
        labels: ArrayLike,
        class_names: Sequence[str],
        transform: Transform | None = None,
    ) -> None:
        labels = np.asarray(labels)
        if labels.dtype.kind not in "iu":
            raise TypeError(f"labels must be integers, got dtype {labels.dtype}")
        if labels.shape != (len(images),):
            raise ValueError(f"labels must have shape ({len(images)},), one for each image, got {labels.shape}")
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(class_names):
            raise ValueError(
                f"labels must be 0 to {len(class_names) - 1}, as there are {len(class_names)} class_names, "
                f"got {labels.min()} to {labels.max()}"
            )
        self.images = images
        self.labels: NDArray[np.int64] = labels.astype(np.int64)
        self.class_names = tuple(class_names)
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return (self.transform or pil_to_tensor)(self.image(index)), int(self.labels[index])

    def image(self, index: int) -> Image.Image:
        """Image as it is, without the transform, in RGB: for display."""
        image = self.images[index]
        return Image.fromarray(image).convert("RGB") if isinstance(image, np.ndarray) else read_photo(image)

    def subset(self, chosen: NDArray[np.bool_]) -> ImageSet:
        """Set of the images where the bool array `chosen (n,)` is true, in the same order."""
        images = [self.images[index] for index in np.flatnonzero(chosen).tolist()]
        return ImageSet(images, self.labels[chosen], self.class_names, self.transform)


@dataclass(frozen=True)
class Split:
    """Sets of a retrieval experiment.

    Attributes:
        train: images that the encoder learns from.
        gallery: images that are searched.
        query: images that are searched for; never in `train` or `gallery`.
        protocol: how the split was made, in one sentence.
        skipped: image files that could not be read and are in no set.
    """

    train: ImageSet
    gallery: ImageSet
    query: ImageSet
    protocol: str
    skipped: tuple[str, ...] = ()


def load_digits(seed: int = 0, transform: Transform | None = None) -> Split:
    """Load the 1,797 handwritten digits that ship with scikit-learn, 8 x 8 px, in 10 classes.

    20 random images of each class are the queries, all the others both training set and gallery: the layout of the
    protocol `cifar10-2`.

    Args:
        seed: of the random choice of queries.
        transform: see `ImageSet`.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    with needs_extra("demo"):
        from sklearn import datasets

    digits = datasets.load_digits()
    pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)
    images = ImageSet(pixels, digits.target, [str(name) for name in digits.target_names], transform)
    query = _held_out(images.labels, seed, lambda n: 20)
    rest = images.subset(~query)
    protocol = (
        f"scikit-learn's digits: 20 images of each class, drawn with seed {seed}, are the queries; "
        f"the other {len(rest)} are both training set and gallery."
    )
    return Split(rest, rest, images.subset(query), protocol)


def load_folder(
    path: str | os.PathLike[str], seed: int = 0, transform: Transform | None = None, progress: bool = False
) -> Split:
    """Load a folder of photos in which every sub-folder is a class (the layout of torchvision's ImageFolder).

    A split published with the images is used: where the sub-folders `train` and `test`, `val` or `validation` hold
    class folders, `test` (without it the validation images) gives the queries, `train` the training set, and
    all images but the queries the gallery. Otherwise a tenth of each class, at least 1 and at most 50 images, are
    drawn as queries, and all the others are both training set and gallery.

    Every file is decoded once; those that fail are left out, listed in `Split.skipped` and warned of.

    Args:
        path: the folder.
        seed: of the random choice of queries; a published split does not need it.
        transform: see `ImageSet`.
        progress: show a progress bar while the files are checked.

    Raises:
        FileNotFoundError: `path` is not a folder.
        ValueError: `path` holds no images, fewer than two classes, or a class with too few images.
    """
    root = Path(path)
    if not root.is_dir():
        raise FileNotFoundError(f"path={str(path)!r} is not a folder")
    parts = {name: root / name for name in ("train", "val", "validation", "test") if _folders_in(root / name)}
    published = "train" in parts and len(parts) > 1
    if not published:
        parts = {"": root}
    class_names = sorted({name for folder in parts.values() for name in _folders_in(folder)})
    if len(class_names) < 2:
        raise ValueError(f"path={str(path)!r} must hold two or more class folders, found {class_names}")

    images, part_of, skipped = _readable_images(parts, class_names, transform, progress)
    if not len(images):
        raise ValueError(f"path={str(path)!r} holds no readable images ({', '.join(_SUFFIXES)})")
    if skipped:
        names = ", ".join(skipped[:3]) + (", ..." if len(skipped) > 3 else "")
        warnings.warn(f"skipped {len(skipped)} image files that cannot be read: {names}", stacklevel=2)

    if published:
        query_part = [name for name in ("val", "validation", "test") if name in parts][-1]
        query, train = part_of == query_part, part_of == "train"
        _check_classes(images.labels[train], class_names, at_least=1, where=str(parts["train"]))
        if not query.any():
            raise ValueError(f"{parts[query_part]} must hold the query images, but no image there is readable")
        protocol = (
            f"published split of {root.name}: queries from {query_part}, training set train, gallery all the rest."
        )
    else:
        _check_classes(images.labels, class_names, at_least=2, where=str(root))
        query = _held_out(images.labels, seed, lambda n: min(max(n // 10, 1), 50))
        train = ~query
        protocol = (
            f"{root.name}: a tenth of each class (1 to 50 images), drawn with seed {seed}, are the queries; "
            f"the other {train.sum()} are both training set and gallery."
        )
    return Split(images.subset(train), images.subset(~query), images.subset(query), protocol, tuple(skipped))


def _folders_in(folder: Path) -> list[str]:
    # Hidden folders are never classes: notebooks and file managers leave some behind.
    return (
        [entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != "."] if folder.is_dir() else []
    )


def _readable_images(
    parts: dict[str, Path], class_names: list[str], transform: Transform | None, progress: bool
) -> tuple[ImageSet, NDArray[np.str_], list[str]]:
    """Find the images of all parts: those that can be decoded, the part of each of these, and the other files."""
    class_to_index = {name: index for index, name in enumerate(class_names)}
    found = [
        (file, label, part)
        for part, folder in parts.items()
        for file, label in make_dataset(str(folder), class_to_index, extensions=_SUFFIXES, allow_empty=True)
    ]
    good, skipped = [], []
    for item in tqdm(found, desc="check images", unit="image", disable=not progress):
        try:
            # Image.verify would be cheaper, but passes truncated JPEG files.
            read_photo(item[0])
            good.append(item)
        except Exception:  # Pillow's decoders raise anything from OSError to SyntaxError on broken files
            skipped.append(item[0])
    files, labels, part_of = zip(*good, strict=True) if good else ((), (), ())
    return ImageSet(files, np.array(labels, np.int64), class_names, transform), np.array(part_of, str), skipped


def _check_classes(labels: NDArray[np.int64], class_names: list[str], at_least: int, where: str) -> None:
    counts = np.bincount(labels, minlength=len(class_names))
    small = [f"{name} ({count})" for name, count in zip(class_names, counts, strict=True) if count < at_least]
    if small:
        raise ValueError(
            f"{where} must hold {at_least} or more readable images of each class; too few: {', '.join(small)}"
        )


def _held_out(labels: NDArray[np.int64], seed: int, count: Callable[[int], int]) -> NDArray[np.bool_]:
    """Draw `count(n)` of the n images of each class; true for those drawn."""
    generator = np.random.default_rng(seed)
    drawn = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        drawn[generator.permutation(members)[: count(len(members))]] = True
    return drawn
