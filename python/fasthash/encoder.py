"""`HashEncoder`: a network from images to codes, made of a backbone and a hash layer.

The network combines HHNet (HRNet features and a linear hash layer) with the parallel levels of HDHash. Every level is
computed from the same features. The code of an image holds the signs of all levels side by side.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fasthash._checkpoint import brief
from fasthash._checks import check_choice, check_int
from fasthash._extras import needs_extra
from fasthash._saved_folder import Card
from fasthash.folders import MAX_BYTES, MAX_PIXELS, EncodedFolder, Limits, encode_folder

with needs_extra("train"):
    import torch
    from PIL import Image
    from torch.utils.data import Dataset

    from fasthash._hasher import Batches, Hasher, check_precision, evaluating, in_batches
    from fasthash._pixels import check_array
    from fasthash._preprocessing import (
        INTERPOLATIONS,
        Images,
        ImageTransform,
        as_set,
        check_image_size,
        image_transform,
        three_numbers,
    )
    from fasthash.backbones import FEATURE_WIDTHS, check_backbone, describe_weights, make_backbone, preprocessing_of
    from fasthash.heads import HEAD_KINDS, HashHead

__all__ = ["EncodedFolder", "HashEncoder", "ImageTransform", "check_image_size", "image_transform"]


class HashEncoder(Hasher):
    """Network from images to hash codes of one or more levels.

    Args:
        backbone: one of `FEATURE_WIDTHS`, or the name of any other timm model. HRNets and AlexNet take images of any
            size and pad them with zeros (the mean colour) at the right and at the bottom: HRNets to multiples of 32 px,
            AlexNet to at least 63 px. VGG needs at least 32 px. The name of a timm model may end with the tag of its
            weights: `hrnet_w18.ms_in1k` are those of the papers, `hrnet_w18` alone takes timm's newest.
        level_bits: bits of each level, coarse first; positive multiples of 8, 8 to 4096 in total. An integer means one
            level.
        pretrained: False for random weights, True for ImageNet weights (downloaded by timm or torchvision), or
            `"package"` for the ImageNet weights of tf_efficientnet_lite0 or tf_efficientnet_lite2 in an installed
            package (extra `weights`, no network). A path names a saved encoder with this backbone, or a local
            `.safetensors`, `.pt` or `.pth` file with its weights, in the layout of timm, torchvision or HRNet's code;
            the prefixes `module.`, `model.` and `backbone.` are stripped, and the weights of a classifier ignored.
        image_size: side in pixels of the square images that `transform` makes, from 1 to 4096.
        mean, std: normalisation of the three channels in `transform`; by default those of the backbone's published
            weights, as timm names them.
        interpolation: how `transform` resizes, "bilinear" or "bicubic"; the default is chosen likewise.
        head: `"linear"` or `"sliced"`, see `HashHead`.
        batch_norm: whether batch norm follows the head, see `HashHead`.
        stem_stride: for HRNets, how far the stem scales an image down: 4 as published (None), or 2 or 1 for small
            images, whose finest branch would else be a few pixels wide. Published weights fit all of them. HRNets then
            pad to multiples of 16 or 8 px.
        cut_branches: for HRNets, how many of the finest branches the features leave out, 0 to 3; for comparisons.

    Attributes:
        backbone: module from images `(B, 3, H, W)` to features `(B, width)`.
        head: the `HashHead` from features to outputs.
        initial_weights: a few words that name the checkpoint with which the backbone began.
        record: the training record of the loaded checkpoint, or None.

    Raises:
        ConnectionError: `pretrained=True`, and the weights cannot be downloaded.
        FileNotFoundError: the path in `pretrained` does not exist.
        MissingExtraError: `pretrained="package"`, and the package is not installed.
        TypeError, ValueError: an argument is not as described, which the message names, or the weights do not fit the
            backbone: the message names the first key that differs.

    Examples:
        >>> encoder = HashEncoder("hrnet_w18_small", level_bits=(8, 16, 40), image_size=32)
        >>> encoder.encode(torch.rand(5, 3, 32, 32)).shape
        (5, 8)
    """

    _CARD_FIELDS: ClassVar = ("backbone", "level_bits", "image_size", "mean", "std", "head", "batch_norm")
    _ADDED_FIELDS: ClassVar = {"interpolation": "bilinear", "stem_stride": None, "cut_branches": 0}

    def __init__(
        self,
        backbone: str = "hrnet_w18",
        level_bits: int | Sequence[int] = (8, 16, 40),
        pretrained: bool | str | os.PathLike[str] = False,
        *,
        image_size: int = 224,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        interpolation: str | None = None,
        head: str = "linear",
        batch_norm: bool = False,
        stem_stride: int | None = None,
        cut_branches: int = 0,
    ) -> None:
        super().__init__(level_bits)
        self.image_size = check_image_size(image_size)
        check_backbone(backbone)
        usual = preprocessing_of(backbone)
        self.mean = three_numbers("mean", usual.mean if mean is None else mean)
        self.std = three_numbers("std", usual.std if std is None else std)
        if min(self.std) <= 0:
            raise ValueError(f"std must be positive, got {std!r}")
        self.interpolation = usual.interpolation if interpolation is None else interpolation
        check_choice("interpolation", self.interpolation, INTERPOLATIONS)
        check_choice("head", head, HEAD_KINDS)

        self._backbone_name, self.stem_stride, self.cut_branches = backbone, stem_stride, cut_branches
        self.backbone = make_backbone(backbone, pretrained, stem_stride, cut_branches)
        self.initial_weights = describe_weights(backbone, pretrained)
        self._feature_widths: dict[tuple[int, int], int] = {}  # by image size, filled by _feature_width
        width = self._feature_width(image_size, image_size)
        expected = FEATURE_WIDTHS.get(backbone.partition(".")[0], width)
        if width != expected:
            raise RuntimeError(f"{backbone} must give {expected} features, here it gives {width}")
        self.head = HashHead(width, level_bits, kind=head, batch_norm=batch_norm)

    @property
    def backbone_name(self) -> str:
        """Name of the backbone, as in the class argument."""
        return self._backbone_name

    @property
    def transform(self) -> ImageTransform:
        """Preprocessing: PIL image or uint8 array `(H, W, 3)` to float32 tensor `(3, image_size, image_size)`.

        A PIL image of any mode gives the pixels that `encode_folder` reads: 16 bits become 8, transparent parts become
        white. It is not rotated by its EXIF orientation; `fasthash.folders.read_photo` reads a file upright.

        Follows HHNet: scales the shorter side to 256 px, crops the centre of 224 px, scales values to [0, 1] and
        normalises them. Other image sizes keep the ratio of 256 to 224.
        """
        return image_transform(self.image_size, self.mean, self.std, self.interpolation)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the raw outputs, before any tanh or sign.

        Args:
            images: float tensor `(B, 3, H, W)`, as `transform` makes them.

        Returns:
            float tensor `(B, n_bits)`, the levels side by side, coarse first.

        Raises:
            TypeError, ValueError: `images` has another dtype or shape, or a size that the backbone cannot take.
        """
        self._check_images(images)
        z: torch.Tensor = self.head(self.backbone(images))
        return z

    def encode(
        self,
        images: Images,
        batch_size: int = 64,
        progress: bool = False,
        *,
        num_workers: int = 0,
        mixed_precision: str = "no",
    ) -> NDArray[np.uint8]:
        """Compute packed codes in eval mode, without gradients, on the device of the encoder.

        Args:
            images: photos: a path, a PIL image or a uint8 array `(H, W, 3)`, a list of such, or a uint8 array
                `(n, H, W, 3)`; they are read as in `encode_folder` and go through `transform`. Or what is transformed
                already: a float tensor `(n, 3, H, W)`, or a torch Dataset of float tensors `(3, H, W)` or of pairs
                (tensor, label).
            batch_size: images per step. The codes do not depend on it, except for rounding of outputs near zero.
            progress: show a progress bar.
            num_workers: processes that read the images; 0 reads them in the calling process.
            mixed_precision: precision of the network: "no", "bf16", or "fp16" on a GPU. Signs of outputs near zero may
                change.

        Returns:
            uint8 array `(n, n_bits / 8)`: the signs of the outputs, see `fasthash.sign_codes`.

        Raises:
            OSError: a photo cannot be read; the message names it.
            TypeError, ValueError: `images` has another type, dtype or shape, an output is NaN, `batch_size` < 1, or
                this machine lacks the precision.

        Examples:
            >>> codes = encoder.encode(["a.jpg", "b.png"])
        """
        check_precision(mixed_precision)
        return self._codes(self._batches(images, batch_size, num_workers), "images", progress, mixed_precision)

    def outputs(
        self,
        images: Images,
        batch_size: int = 64,
        progress: bool = False,
        *,
        num_workers: int = 0,
        mixed_precision: str = "no",
    ) -> NDArray[np.float32]:
        """Compute the raw outputs whose signs are the codes: `encode(images) == sign_codes(outputs(images))`.

        Some protocols break ties in Hamming distance by the outputs, see
        `fasthash.metrics.mean_average_precision_of_outputs`.

        Args:
            images, batch_size, progress, num_workers, mixed_precision: as in `encode`.

        Returns:
            float32 array `(n, n_bits)`.

        Raises:
            TypeError, ValueError: as in `encode`.
        """
        check_precision(mixed_precision)
        batches = self._outputs(self._batches(images, batch_size, num_workers), "images", progress, mixed_precision)
        return np.concatenate([np.empty((0, self.n_bits), np.float32), *batches])

    def encode_folder(
        self,
        folder: str | os.PathLike[str],
        *,
        batch_size: int = 64,
        num_workers: int = 0,
        max_bytes: int = MAX_BYTES,
        max_pixels: int = MAX_PIXELS,
        progress: bool = True,
        mixed_precision: str = "no",
    ) -> EncodedFolder:
        """Compute packed codes of all images in a folder and its subfolders.

        Only one batch of images is in memory at a time. A photo is a file with a suffix of
        `fasthash.folders.IMAGE_SUFFIXES`, in upper or lower case, or of a plugin of Pillow, or a file of another name
        whose content begins as a photo does. Every photo is in one of two lists: `paths` (encoded files) or `broken`.
        A file is broken if

        - it cannot be read completely as an image,
        - it exceeds `max_bytes` or `max_pixels`,
        - its longer side is more than 100 times its shorter side,
        - its pixels are float or 32-bit numbers, whose range is unknown, or
        - 8-bit RGB would show it blank.

        `broken` also lists subfolders that cannot be read. Links to files are followed; links to folders are not. EXIF
        orientation is applied, 16-bit values are reduced to 8 bits, transparent parts become white, and only the first
        frame of an animation is encoded.

        Args:
            folder: folder to search for images.
            batch_size: images per step, see `encode`.
            num_workers: processes that read images; 0 reads them in the calling process.
            max_bytes: largest size of a file in bytes.
            max_pixels: largest number of pixels of an image. Each reading process needs about 12 bytes of memory for
                each pixel. A number above the default raises Pillow's own limit.
            progress: show a progress bar.
            mixed_precision: as in `encode`.

        Returns:
            Codes uint8 `(n, n_bits / 8)`; `paths`, relative to `folder`, in sorted order, one for each code; and
            `broken`, sorted pairs (path, reason).

        Raises:
            FileNotFoundError: `folder` is not a folder.
            PermissionError: `folder` itself cannot be read.
            TypeError, ValueError: an argument is not as described, `folder` holds no image files, or an output is NaN.
        """
        check_precision(mixed_precision)
        encode = partial(self._codes, name="images", progress=False, mixed_precision=mixed_precision)
        limits = Limits(max_bytes, max_pixels)
        return encode_folder(folder, self.transform, encode, batch_size, num_workers, limits, progress)

    def export(self, form: str, path: str | os.PathLike[str]) -> Path:
        """Write the network to a file for programs without fasthash.

        The file takes a batch of images as `transform` makes them, of any number and of `image_size`, and gives the raw
        outputs, whose signs are the code: bit j is 1 where output j is 0 or above, see `fasthash.sign_codes`.

        Args:
            form: "onnx" (extra `export`), whose input is named "images" and whose output "outputs", or "torchscript".
            path: the file; a file that exists is replaced.

        Returns:
            The path.

        Raises:
            FileNotFoundError: the folder of the file does not exist.
            MissingExtraError: the packages of the extra `export` are not installed.
            TypeError, ValueError: an argument is not as described.

        Examples:
            >>> encoder.export("onnx", "encoder.onnx")
        """
        from fasthash._export import export

        return export(self, self.image_size, form, path)

    def _batches(self, images: Images, batch_size: int, num_workers: int) -> Batches:
        check_int("batch_size", batch_size, 1)
        check_int("num_workers", num_workers, 0)
        if isinstance(images, (torch.Tensor, Dataset)):
            if isinstance(images, torch.Tensor):
                self._check_images(images)
            return in_batches(images, batch_size, num_workers)
        if isinstance(images, np.ndarray) and images.dtype == np.uint8:
            images = list(images) if images.ndim == 4 else [check_array("images", images)]
        if isinstance(images, (str, os.PathLike, Image.Image)):
            images = [images]
        if not isinstance(images, (list, tuple)):
            given: Any = images
            is_array = isinstance(given, np.ndarray)
            got = f"a {given.dtype} array of shape {given.shape}" if is_array else type(given).__name__
            raise TypeError(
                "images must be a float tensor (n, 3, H, W), a torch Dataset, or photos: a path, a PIL image, a uint8 "
                f"array (H, W, 3) or (n, H, W, 3), or a list of photos, got {got}"
            )
        return in_batches(as_set(images, self.transform), batch_size, num_workers) if images else []

    def _arguments(self) -> dict[str, Any]:
        return {
            "backbone": self.backbone_name,
            "level_bits": self.level_bits,
            "image_size": self.image_size,
            "mean": self.mean,
            "std": self.std,
            "interpolation": self.interpolation,
            "head": self.head.kind,
            "batch_norm": self.head.batch_norm,
            "stem_stride": self.stem_stride,
            "cut_branches": self.cut_branches,
        }

    def _notes(self) -> dict[str, Any]:
        return {"initial_weights": self.initial_weights}

    def _take_notes(self, card: Card) -> None:
        self.initial_weights = str(card.get("initial_weights", "unknown weights"))

    def _check_images(self, images: torch.Tensor) -> None:
        dtype = self._weight().dtype
        if images.dtype != dtype:
            raise TypeError(f"images must be {dtype} like the weights (see transform), got {images.dtype}")
        if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape[2:]:
            raise ValueError(f"images must have shape (n, 3, H, W), got {tuple(images.shape)}")
        self._feature_width(*images.shape[2:])

    def _feature_width(self, height: int, width: int) -> int:
        """Return the width of the features of images of this size; the first call for a size runs the backbone once."""
        if (height, width) not in self._feature_widths:
            parameter = next(self.backbone.parameters())
            image = torch.zeros(1, 3, height, width, dtype=parameter.dtype, device=parameter.device)
            try:
                with evaluating(self.backbone), torch.no_grad():
                    features = self.backbone(image)
            except (RuntimeError, AssertionError) as error:
                raise ValueError(
                    f"{self.backbone_name} cannot take images of {height} x {width} px (VGG needs 32 px or more): "
                    f"{brief(error)}"
                ) from error
            if features.ndim != 2:
                raise ValueError(
                    f"backbone={self.backbone_name!r} gives no feature vectors but {tuple(features.shape)}"
                )
            self._feature_widths[height, width] = features.shape[1]
        return self._feature_widths[height, width]
