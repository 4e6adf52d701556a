"""Photos for pages: the photo that a key names, and small pictures inside a URL.

Used by reports of duplicates, by the server and by `fasthash search --html`.
"""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path

from fasthash._photos import Limits, read_photo
from fasthash._pixels import WHITE, Colour

__all__ = ["photo_below", "thumbnail"]

_ENDINGS = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp"}  # what browsers show
_SIZE = 128  # px


def photo_below(folder: Path, key: str) -> Path | None:
    """The photo below `folder` that a key names; None if there is none, or if it lies outside, also by a link."""
    root = os.path.realpath(folder)
    try:
        path = os.path.realpath(os.path.join(root, key))
        inside = os.path.commonpath([root, path]) == root and os.path.isfile(path)
    except ValueError:  # a zero byte, or another drive
        inside = False
    return Path(path) if inside and os.path.splitext(path)[1].lower() in _ENDINGS else None


def thumbnail(path: str | os.PathLike[str], limits: Limits, background: Colour = WHITE) -> str | None:
    """The photo as a small JPEG inside a URL; None if it cannot be read."""
    from PIL import Image

    try:
        image = read_photo(path, limits, background)
    except Exception:  # of any kind: Pillow has many for broken files
        return None
    image.thumbnail((_SIZE, _SIZE), Image.Resampling.BICUBIC)
    with io.BytesIO() as file:
        image.save(file, "JPEG", quality=70)
        return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
