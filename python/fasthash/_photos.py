"""Photos of all sorts: found in a folder, and read one by one whatever is wrong with them."""

from __future__ import annotations

import io
import os
import stat
import textwrap
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fasthash._checks import check_int
from fasthash._extras import needs_extra

with needs_extra("dedup"):
    from PIL import ExifTags, Image

__all__ = [
    "DEFAULT_LIMITS",
    "IMAGE_SUFFIXES",
    "MAX_BYTES",
    "MAX_PIXELS",
    "Broken",
    "Limits",
    "check_regular",
    "decode_photo",
    "find_files",
    "find_photos",
    "is_photo",
    "read_photo",
    "reason",
]

MAX_BYTES = 1 << 28  # 256 MiB
MAX_PIXELS = 1 << 27  # 134 million: phones of 108 megapixels pass

# What Pillow decodes by itself: for others it runs programs (EPS) or reads headers alone (MPEG, HDF5). The format is
# told from a file's bytes, so the list holds for files that are named .jpg, too. Some builds of Pillow lack some.
Image.init()
_WANTED = "AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP"
_FORMATS = tuple(name for name in _WANTED if name in Image.OPEN)

# Suffixes of image files in lower case, as Pillow registers them: .jpg, .png, .tif, .webp, .gif and so on.
IMAGE_SUFFIXES = frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in _FORMATS)

# A strip of 1 x 65535 px would grow to gigabytes where its shorter side is brought to that of the network.
_MAX_RATIO = 100

# Characters of an error that are looked at: a message may quote a file of any length.
_MAX_REASON = 10_000

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

# Pairs (path, reason).
Broken = list[tuple[str, str]]


@dataclass(frozen=True)
class Limits:
    """What one image may take; checked before its bytes are read, and before its pixels are decoded.

    Args:
        max_bytes: of an image file, wherever it lies: in a folder, in a tar, in a row of a parquet file.
        max_pixels: of the image; decoding takes some 12 bytes of memory for each. Beside it holds the limit of Pillow
            itself, twice `PIL.Image.MAX_IMAGE_PIXELS`.

    Raises:
        TypeError, ValueError: a limit is not an integer of at least 1.
    """

    max_bytes: int = MAX_BYTES
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        check_int("max_bytes", self.max_bytes, 1)
        check_int("max_pixels", self.max_pixels, 1)

    def check_bytes(self, n_bytes: int) -> None:
        """Raise ValueError for an image file of so many bytes, if that is too many."""
        if n_bytes > self.max_bytes:
            raise ValueError(f"{n_bytes} bytes are more than max_bytes={self.max_bytes}")

    def check_size(self, width: int, height: int) -> None:
        """Raise ValueError for an image of this size, if that is too large."""
        if width * height > self.max_pixels:
            raise ValueError(f"{width} x {height} px are more than max_pixels={self.max_pixels}")


DEFAULT_LIMITS = Limits()


def read_photo(path: str | os.PathLike[str], limits: Limits = DEFAULT_LIMITS) -> Image.Image:
    """Read an image file as 8-bit RGB, upright as its EXIF data says; of an animation the first picture.

    Raises:
        Exception: whatever Pillow raises on broken files; ValueError where this function finds fault.
    """
    limits.check_bytes(check_regular(path))
    return _read(path, limits)


def decode_photo(data: bytes, name: str, limits: Limits = DEFAULT_LIMITS) -> Image.Image:
    """The same of the bytes of an image file; `name` is what errors call it.

    Raises:
        Exception: as `read_photo`.
    """
    limits.check_bytes(len(data))
    return _read(_NamedBytes(data, name), limits)


def check_regular(path: str | os.PathLike[str]) -> int:
    """Size in bytes of a regular file.

    Raises:
        OSError: it cannot be looked at.
        ValueError: it is a pipe, a device or a folder. Opening a pipe would wait for ever.
    """
    facts = os.stat(path)
    if not stat.S_ISREG(facts.st_mode):
        raise ValueError("not a regular file")
    return facts.st_size


class _NamedBytes(io.BytesIO):
    """Pillow's errors show what it read from: a name, where bytes would show their address, which changes."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self._name = name

    def __repr__(self) -> str:
        return repr(self._name)


def _read(source: str | os.PathLike[str] | io.BytesIO, limits: Limits) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd metadata; images too large to be photos are errors
        with Image.open(source, formats=_FORMATS) as image:
            limits.check_size(*image.size)
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


def is_photo(name: str) -> bool:
    """Whether a file's name ends as that of an image."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def find_photos(folder: str | os.PathLike[str]) -> tuple[list[str], Broken]:
    """Paths of all image files, relative to the folder and sorted, and the folders below that cannot be read."""
    return find_files(folder, is_photo)


def find_files(folder: str | os.PathLike[str], wanted: Callable[[str], bool]) -> tuple[list[str], Broken]:
    """As `find_photos`, of files whose names are wanted."""
    paths: list[str] = []
    broken: Broken = []

    def unreadable(error: OSError) -> None:
        inside = os.path.relpath(error.filename, folder)
        if inside == os.curdir:
            raise error
        broken.append((inside, reason(error)))

    for place, _, names in os.walk(folder, onerror=unreadable):
        inside = os.path.relpath(place, folder)
        paths += [os.path.normpath(os.path.join(inside, name)) for name in names if wanted(name)]
    return sorted(paths), sorted(broken)


def reason(error: Exception) -> str:
    """What is wrong, on one line."""
    return f"{type(error).__name__}: {textwrap.shorten(str(error)[:_MAX_REASON], width=300)}"
