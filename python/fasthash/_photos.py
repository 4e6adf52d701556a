"""Reads one photo of any format and mode: upright, 8-bit RGB, within limits. A broken photo raises one kind of error.

Called by every reader of photos: folders, data sets, shards, near-duplicates, contact sheets. `_photo_files` decides
which files are photos, `_pixels` converts any mode to RGB.
"""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from fasthash._checks import check_int, check_path
from fasthash._extras import needs_extra
from fasthash._locks import Condition
from fasthash._photo_files import HEAD, check_regular, readable_formats, why_unreadable
from fasthash._pixels import WHITE, Colour, to_rgb

with needs_extra("dedup"):
    from PIL import ExifTags, Image, TiffImagePlugin

__all__ = [
    "DEFAULT_LIMITS",
    "MAX_BYTES",
    "MAX_PIXELS",
    "Limits",
    "decode_photo",
    "no_warnings",
    "photo_size",
    "read_photo",
]

MAX_BYTES = 1 << 28  # 256 MiB
MAX_PIXELS = 1 << 27  # 134 million: phones of 108 megapixels pass

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
_SIDEWAYS = (5, 6, 7, 8)  # those that exchange width and height


@dataclass(frozen=True)
class Limits:
    """Limits on the size of one image: bytes, checked before reading, and pixels, checked before decoding.

    Args:
        max_bytes: of an image file, wherever it lies: in a folder, in a tar, in a row of a parquet file.
        max_pixels: of the image; decoding takes some 12 bytes of memory for each. More than twice
            `PIL.Image.MAX_IMAGE_PIXELS`, which Pillow refuses by default, is allowed if this limit allows it.

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


def read_photo(
    path: str | os.PathLike[str], limits: Limits = DEFAULT_LIMITS, background: Colour = WHITE
) -> Image.Image:
    """Read an image file as 8-bit RGB, upright as its EXIF data says; of an animation the first picture.

    Args:
        path: of the file.
        limits: of bytes and pixels.
        background: what is seen through transparent parts.

    Raises:
        Exception: whatever Pillow raises on broken files; ValueError where this function finds fault.
    """
    check_path("path", path)
    limits.check_bytes(check_regular(path))
    with open(path, "rb") as file:
        head = file.read(HEAD)
    return _read(path, os.fspath(path), head, limits, background)


def decode_photo(data: bytes, name: str, limits: Limits = DEFAULT_LIMITS, background: Colour = WHITE) -> Image.Image:
    """The same of the bytes of an image file; `name` is what errors call it.

    Raises:
        Exception: as `read_photo`.
    """
    limits.check_bytes(len(data))
    return _read(_NamedBytes(data, name), name, data[:HEAD], limits, background)


def photo_size(path: str | os.PathLike[str], limits: Limits = DEFAULT_LIMITS) -> tuple[int, int] | None:
    """Width and height of an image file as it is shown upright, from its header; None if it cannot be read."""
    try:
        check_regular(path)
        with _opened(path, limits) as image:
            width, height = _stored_size(image)
            return (height, width) if _orientation(image) in _SIDEWAYS else (width, height)
    except Exception:  # of any kind, as of `read_photo`
        return None


class _NamedBytes(io.BytesIO):
    """Pillow's errors show what it read from: a name, where bytes would show their address, which changes."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self._name = name

    def __repr__(self) -> str:
        return repr(self._name)


def _read(
    source: str | os.PathLike[str] | io.BytesIO, name: str, head: bytes, limits: Limits, background: Colour
) -> Image.Image:
    if why := why_unreadable(name, head):
        raise ValueError(why)
    with _opened(source, limits) as image:
        limits.check_size(*image.size)
        if max(image.size) > _MAX_RATIO * min(image.size):
            raise ValueError(f"{image.width} x {image.height} px is more than {_MAX_RATIO} times as long as wide")
        image.load()
        turn = _UPRIGHT.get(_orientation(image))
        rgb = to_rgb(image, background)
        return rgb if turn is None else rgb.transpose(turn)


@contextmanager
def _opened(source: str | os.PathLike[str] | io.BytesIO, limits: Limits) -> Iterator[Image.Image]:
    """An image file in a format that is read; without warnings of odd metadata, and images too large are errors."""
    allowed = _pillow_allows(limits.max_pixels)
    with no_warnings(), allowed, Image.open(source, formats=readable_formats()) as image:
        yield image


_quieting = Condition()
_quiet: list[ExitStack] = []  # what restores the filters of warnings, once for each block that is open


@contextmanager
def no_warnings() -> Iterator[None]:
    """A block without Python warnings, which may be open in many threads at once.

    Most versions of Python have one list of filters for all threads. If each thread saved and restored it, the last one
    could restore the list that another one had changed: so the first block changes it, and the last one restores it.
    """
    if getattr(sys.flags, "context_aware_warnings", False):  # each thread has filters of its own
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
        return
    with _quieting:
        if not _quiet:
            before = ExitStack()
            before.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
        _quiet.append(_quiet[0] if _quiet else before)
    try:
        yield
    finally:
        with _quieting:
            before = _quiet.pop()
            if not _quiet:
                before.close()


_allowing = Condition()
_pillows_own: list[int | None] = []  # its limit while others read, once for each that allows more


@contextmanager
def _pillow_allows(max_pixels: int) -> Iterator[None]:
    """Lift Pillow's limit, one for the whole process, where more pixels than by default were asked for; ours holds."""
    if max_pixels <= MAX_PIXELS:
        yield
        return
    with _allowing:
        _pillows_own.append(_pillows_own[0] if _pillows_own else Image.MAX_IMAGE_PIXELS)
        Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        with _allowing:
            own = _pillows_own.pop()
            if not _pillows_own:
                Image.MAX_IMAGE_PIXELS = own


def _stored_size(image: Image.Image) -> tuple[int, int]:
    """Width and height as the pixels lie in the file: newer versions of Pillow tell those of an upright TIFF."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return image.tag_v2[ExifTags.Base.ImageWidth], image.tag_v2[ExifTags.Base.ImageLength]
    return image.size


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # any kind, from broken EXIF data: the picture itself is sound
        return 1
