"""From pictures to tensors: the preprocessing of an encoder, and the kinds of pictures that it takes.

Called by `HashEncoder`, and where images are loaded before a network is made.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasthash._checks import check_int, check_real
from fasthash._extras import needs_extra
from fasthash._pixels import from_array, to_rgb

with needs_extra("train"):
    import torch
    from PIL import Image
    from torch.utils.data import Dataset
    from torchvision.transforms import v2

    from fasthash.data.images import ImageSet

__all__ = [
    "INTERPOLATIONS",
    "ImageTransform",
    "Images",
    "as_set",
    "check_image_size",
    "image_transform",
    "three_numbers",
]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_Photo = str | os.PathLike[str] | Image.Image | NDArray[np.uint8]
Images = torch.Tensor | Dataset[Any] | _Photo | Sequence[_Photo]
INTERPOLATIONS = ("bilinear", "bicubic")
_MAX_IMAGE_SIZE = 4096  # so that a hostile card cannot ask for more memory than a machine has


class ImageTransform(v2.Compose):  # type: ignore[misc]
    """The preprocessing of an encoder, which gives the same tensor for an image every time."""


def check_image_size(image_size: Any) -> int:
    """Check the side of the images in pixels."""
    return check_int("image_size", image_size, 1, _MAX_IMAGE_SIZE)


def image_transform(
    image_size: int,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    interpolation: str = "bilinear",
) -> ImageTransform:
    """Make the preprocessing of an encoder, see `HashEncoder.transform`."""
    return ImageTransform(
        [
            _AsRGB(),  # first, since the next step would lose the palette of an image
            v2.ToImage(),
            v2.Resize(round(image_size * 256 / 224), v2.InterpolationMode(interpolation), antialias=True),
            v2.CenterCrop(image_size),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(mean, std),
            v2.ToPureTensor(),
        ]
    )


class _AsRGB(torch.nn.Module):
    """The pixels of a picture as `read_photo` gives those of a file: 8-bit RGB."""

    def forward(self, image: Any) -> Any:
        if isinstance(image, Image.Image):
            return to_rgb(image)
        if isinstance(image, np.ndarray):
            return from_array(image)
        if not isinstance(image, torch.Tensor):
            raise TypeError(f"image must be a PIL image, a uint8 array or a tensor, got {type(image).__name__}")
        if image.dtype != torch.uint8 and not image.is_floating_point():
            raise TypeError(f"image must be a uint8 or float tensor (C, H, W), got dtype {image.dtype}")
        if image.dtype == torch.uint8 and image.ndim == 3 and len(image) == 4:  # the last is transparency
            return from_array(image.permute(1, 2, 0).cpu().numpy())
        return v2.functional.grayscale_to_rgb(image)


def as_set(photos: Sequence[Any], transform: ImageTransform) -> ImageSet:
    """Make a data set of paths, pictures and arrays of pixels."""
    for index, photo in enumerate(photos):
        if not isinstance(photo, (str, os.PathLike, Image.Image, np.ndarray)):
            raise TypeError(f"images[{index}] must be a path, a PIL image or a uint8 array, got {type(photo).__name__}")
    sources = [_pixels(index, photo) if isinstance(photo, Image.Image) else photo for index, photo in enumerate(photos)]
    return ImageSet(sources, np.zeros(len(sources), np.int64), ["photo"], transform)


def _pixels(index: int, image: Image.Image) -> NDArray[np.uint8]:
    """The pixels of a picture; errors name its number among the images."""
    try:
        return np.asarray(to_rgb(image))
    except ValueError as error:
        raise ValueError(f"images[{index}] cannot be read: {error}") from None
    except OSError as error:  # Pillow reads a file when its pixels are asked for
        raise OSError(f"images[{index}] cannot be read: {error}") from error


def three_numbers(name: str, values: Sequence[float]) -> tuple[float, ...]:
    numbers = tuple(check_real(name, value) for value in values)
    if len(numbers) != 3 or not all(map(math.isfinite, numbers)):
        raise ValueError(f"{name} must be three finite numbers, got {values!r}")
    return numbers
