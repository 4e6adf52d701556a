"""Folders of photos of all sorts: found, read one by one whatever is wrong with them, and encoded."""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fasthash._checkpoint import brief
from fasthash._checks import check_bool, check_int
from fasthash._extras import needs_extra

with needs_extra("train"):
    import torch
    from PIL import ExifTags, Image
    from torch.utils.data import DataLoader, Dataset
    from tqdm import tqdm

__all__ = ["IMAGE_SUFFIXES", "EncodedFolder", "encode_folder", "read_photo"]

# What Pillow decodes by itself: for others it runs programs (EPS) or reads headers alone (MPEG, HDF5). The format is
# told from a file's bytes, so the list holds for files that are named .jpg, too. Some builds of Pillow lack some.
Image.init()
_WANTED = "AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP"
_FORMATS = tuple(name for name in _WANTED if name in Image.OPEN)

# Suffixes of image files in lower case, as Pillow registers them: .jpg, .png, .tif, .webp, .gif and so on.
IMAGE_SUFFIXES = frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in _FORMATS)

# A strip of 1 x 65535 px would grow to gigabytes where its shorter side is brought to that of the network.
_MAX_RATIO = 100

# From the orientation in EXIF data to what turns the image upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

Broken = list[tuple[str, str]]
_Batch = tuple[list[str], list[torch.Tensor], Broken]


class EncodedFolder(NamedTuple):
    """Codes of the images in a folder.

    Attributes:
        codes: uint8 `(n, n_bits / 8)`.
        paths: of the n images, relative to the folder, in sorted order.
        broken: pairs (path, reason) of what could not be read, in sorted order.
    """

    codes: NDArray[np.uint8]
    paths: list[str]
    broken: Broken


def encode_folder(
    folder: str | os.PathLike[str],
    transform: Callable[[Image.Image], torch.Tensor],
    encode: Callable[[Iterable[torch.Tensor]], NDArray[np.uint8]],
    batch_size: int,
    num_workers: int,
    progress: bool,
) -> EncodedFolder:
    """Encode a folder; see `HashEncoder.encode_folder`.

    Args:
        transform: from a PIL RGB image to a tensor.
        encode: from batches of such tensors to codes.
    """
    if not isinstance(folder, (str, os.PathLike)):
        raise TypeError(f"folder must be a path, got {folder!r}")
    check_int("batch_size", batch_size, 1)
    check_int("num_workers", num_workers, 0)
    check_bool("progress", progress)
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"folder={os.fspath(folder)!r} is not a folder")
    found, broken = _find(folder)
    if not found and not broken:
        suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
        raise ValueError(f"folder={os.fspath(folder)!r} holds no image files ({suffixes})")
    paths: list[str] = []

    def batches() -> Iterator[torch.Tensor]:
        loader = DataLoader(_Photos(folder, found, transform), batch_size, num_workers=num_workers, collate_fn=_collate)
        with tqdm(total=len(found), desc="encode", unit="image", disable=not progress) as bar:
            for good, images, bad in loader:
                paths.extend(good)
                broken.extend(bad)
                if good:
                    yield images
                bar.update(len(good) + len(bad))

    return EncodedFolder(encode(batches()), paths, sorted(broken))


def read_photo(path: str | os.PathLike[str]) -> Image.Image:
    """Read an image file as 8-bit RGB, upright as its EXIF data says; of an animation the first picture.

    Raises:
        Exception: whatever Pillow raises on broken files; ValueError where this function finds fault.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError("not a regular file")  # opening a pipe would wait for ever
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd metadata; images too large to be photos are errors
        with Image.open(path, formats=_FORMATS) as image:
            if max(image.size) > _MAX_RATIO * min(image.size):
                raise ValueError(f"{image.width} x {image.height} px is more than {_MAX_RATIO} times as long as wide")
            image.load()
            turn = _UPRIGHT.get(_orientation(image))
            rgb = _eight_bits(image).convert("RGB")
            return rgb if turn is None else rgb.transpose(turn)


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # any kind, from broken EXIF data: the picture itself is sound
        return 1


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16 bits to 8, which Pillow's `convert` would cut off at 255."""
    if image.mode == "F":
        raise ValueError("pixels are floats, whose range is not known")
    if not image.mode.startswith("I"):
        return image
    if image.mode == "I" and image.format not in ("PNG", "PPM"):  # which Pillow reads so for want of a mode of 16 bits
        raise ValueError("pixels have 32 bits, whose range is not known")
    pixels = np.asarray(image)
    if pixels.min() < 0 or pixels.max() > 65535:
        raise ValueError("pixels have 32 bits, whose range is not known")
    return Image.fromarray((pixels // 257).astype(np.uint8))


class _Photos(Dataset[_Batch]):
    """Each image file as a batch of one: its path and its tensor, or its path and what is wrong."""

    def __init__(
        self, folder: str | os.PathLike[str], paths: list[str], transform: Callable[[Image.Image], torch.Tensor]
    ) -> None:
        self.folder, self.paths, self.transform = folder, paths, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> _Batch:
        path = self.paths[index]
        try:
            return [path], [self.transform(read_photo(os.path.join(self.folder, path)))], []
        except Exception as error:  # Pillow's decoders raise anything from OSError to SyntaxError on broken files
            return [], [], [(path, _reason(error))]


def _collate(items: list[_Batch]) -> tuple[list[str], torch.Tensor, Broken]:
    paths, images, broken = ([entry for part in parts for entry in part] for parts in zip(*items, strict=True))
    return paths, torch.stack(images) if images else torch.empty(0), broken


def _find(folder: str | os.PathLike[str]) -> tuple[list[str], Broken]:
    """Paths of all image files, relative to the folder and sorted, and the folders below that cannot be read."""
    paths, broken = [], []

    def unreadable(error: OSError) -> None:
        inside = os.path.relpath(error.filename, folder)
        if inside == os.curdir:
            raise error
        broken.append((inside, _reason(error)))

    for place, _, names in os.walk(folder, onerror=unreadable):
        inside = os.path.relpath(place, folder)
        paths += [
            os.path.normpath(os.path.join(inside, name))
            for name in names
            if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES
        ]
    return sorted(paths), broken


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {brief(error)}"
