"""Images with labels, read on access."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from torch.utils.data import Dataset
from torchvision.transforms.v2.functional import pil_to_tensor
from tqdm import tqdm

from fasthash._labels import check_labels
from fasthash._locks import Lazy
from fasthash._photo_files import Broken, reason
from fasthash._photos import read_photo
from fasthash._pixels import check_array, from_array
from fasthash._progress import is_watched, width

__all__ = ["ImageSet", "Transform", "content_hash"]

Transform = Callable[[Image.Image], torch.Tensor]
_Source = str | os.PathLike[str] | NDArray[np.uint8] | None


class ImageSet(Dataset[tuple[torch.Tensor, Any]]):
    """Images with one class each, or with several, read when they are asked for.

    An item is a pair (tensor, label): the label an int, or a uint8 tensor `(C,)` of zeros and ones.

    Args:
        images: paths of image files, uint8 arrays `(H, W)`, `(H, W, 3)` or `(H, W, 4)`, the last with transparency on
            white, or None where only labels are known.
        labels: integers `(n,)`, the class of each image as an index into `class_names`, kept as int64; or zeros and
            ones `(n, C)` with a column for each of `class_names`, integers or booleans, kept as uint8.
        class_names: name of each class.
        transform: from a PIL RGB image to a tensor, such as `HashEncoder.transform`; None gives uint8 `(3, H, W)`.
        names: a unique name of each image, such as its path below the folder of the data set; None where not known.
            Without `names` they are the paths as given, and for arrays the hash of the pixels.

    Raises:
        TypeError: `labels` are not integers, or an array of `images` is not uint8.
        ValueError: an array of `images` has another shape, `labels` or `names` has another length than `images`, or a
            label is no class or not 0 or 1.
    """

    def __init__(
        self,
        images: Sequence[_Source],
        labels: ArrayLike,
        class_names: Sequence[str],
        transform: Transform | None = None,
        names: Sequence[str | None] | None = None,
    ) -> None:
        self.labels: NDArray[Any] = _check_labels(labels, len(images), len(class_names))
        if names is not None and len(names) != len(images):
            raise ValueError(f"names must hold {len(images)} names, one for each image, got {len(names)}")
        _check_images(images)
        self.images = images
        self.class_names = tuple(class_names)
        self.transform = transform
        if names is not None:
            self.names = tuple(names)

    @Lazy
    def names(self) -> tuple[str | None, ...]:
        """Names that identify the images of the data set; see the class."""
        return tuple(content_hash(image) if isinstance(image, np.ndarray) else _path(image) for image in self.images)

    @property
    def multi_label(self) -> bool:
        """Whether labels are zeros and ones `(n, C)`, not classes `(n,)`."""
        return self.labels.ndim == 2

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, Any]:
        return (self.transform or pil_to_tensor)(self.image(index)), self.label(index)

    def label(self, index: int) -> Any:
        """Label of an image, as in an item of the set."""
        label = self.labels[index]
        return torch.from_numpy(label.copy()) if self.multi_label else int(label)

    def image(self, index: int) -> Image.Image:
        """Image as it is, without the transform, in RGB: for display.

        Raises:
            OSError: its file cannot be read; the message names it.
            ValueError: of this image only the labels are known, or its transparent pixels would be blank in RGB.
        """
        image = self.images[index]
        if image is None:
            raise ValueError(f"images[{index}] is None: only the labels of this image are known")
        if isinstance(image, np.ndarray):
            try:
                return from_array(image, name=f"images[{index}]")
            except ValueError as error:  # transparent shapes that would vanish
                raise ValueError(f"images[{index}] cannot be read: {error}") from None
        try:
            return read_photo(image)
        except IsADirectoryError:
            raise IsADirectoryError(
                f"images[{index}] must be an image file, got the folder {os.fspath(image)!r}; "
                "HashEncoder.encode_folder encodes the photos of a folder"
            ) from None
        except Exception as error:  # Pillow's decoders raise anything from OSError to SyntaxError on broken files
            raise OSError(
                f"images[{index}] cannot be read: {os.fspath(image)!r}: {reason(error)}; "
                "ImageSet.readable leaves such images out"
            ) from error

    def readable(self, progress: bool = False) -> tuple[ImageSet, Broken]:
        """Decode every image file once, and leave out those that cannot be read.

        Args:
            progress: show a progress bar.

        Returns:
            Set of the others in the same order, and pairs (path, reason) of those left out.
        """
        good, broken = np.ones(len(self), bool), []
        for row, image in enumerate(
            tqdm(self.images, "check images", unit="image", ncols=width(), disable=not (progress and is_watched()))
        ):
            if image is None or isinstance(image, np.ndarray):
                continue
            try:
                # Image.verify would be cheaper, but passes truncated JPEG files.
                read_photo(image)
            except Exception as error:  # as above
                good[row] = False
                broken.append((os.fspath(image), reason(error)))
        return self.subset(good), broken

    def subset(self, chosen: NDArray[np.bool_]) -> ImageSet:
        """Set of the images where the bool array `chosen (n,)` is true, in the same order."""
        rows = np.flatnonzero(chosen).tolist()
        # Names are passed on where they are at hand; hashes of pixels are not computed just for this.
        names = [self.names[row] for row in rows] if "names" in self.__dict__ else None
        return ImageSet(
            [self.images[row] for row in rows], self.labels[chosen], self.class_names, self.transform, names
        )

    def joined(self, other: ImageSet) -> ImageSet:
        """Set of these images and then those of another set, which has the same classes; this set's transform."""
        if self.class_names != other.class_names or self.multi_label != other.multi_label:
            raise ValueError(f"both sets must have the same classes, got {self.class_names} and {other.class_names}")
        return ImageSet(
            [*self.images, *other.images],
            np.concatenate((self.labels, other.labels)),
            self.class_names,
            self.transform,
            self.names + other.names,
        )


def content_hash(image: _Source) -> str | None:
    """SHA-256 of an image's pixels, or of the bytes of its file; None if there is no image."""
    if image is None:
        return None
    if isinstance(image, np.ndarray):
        digest = hashlib.sha256(f"{image.shape}".encode())
        digest.update(np.ascontiguousarray(image).data)
        return f"sha256:{digest.hexdigest()}"
    with open(image, "rb") as file:
        return f"sha256:{hashlib.sha256(file.read()).hexdigest()}"


def _check_images(images: Sequence[_Source]) -> None:
    """Check arrays of pixels; files are checked when they are read."""
    if isinstance(images, np.ndarray) and images.dtype.kind not in "OUS":  # pixels: all of them at once
        if images.ndim == 0 or len(images):
            check_array("images", images[0] if images.ndim else images)
        return
    for index, image in enumerate(images):
        if isinstance(image, np.ndarray):
            check_array(f"images[{index}]", image)


def _path(image: str | os.PathLike[str] | None) -> str | None:
    return None if image is None else os.fspath(image)


def _check_labels(labels: ArrayLike, n: int, n_classes: int) -> NDArray[Any]:
    array = check_labels("labels", labels)
    if array.ndim == 1:
        if len(array) != n:
            raise ValueError(f"labels must have shape ({n},), one for each image, got {array.shape}")
        if n and not 0 <= array.min() <= array.max() < n_classes:
            raise ValueError(
                f"labels must be 0 to {n_classes - 1}, as there are {n_classes} class_names, "
                f"got {array.min()} to {array.max()}"
            )
    # One column is refused as the likely slip of classes kept as (n, 1).
    elif array.shape != (n, n_classes) or n_classes == 1:
        raise ValueError(
            f"labels must have shape ({n},), or ({n}, {n_classes}) with a column for each of two or more class_names, "
            f"got {array.shape}"
        )
    return array
