"""The photos that keys name, shown on the page; and photos that people send, as codes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasthash._thumbnails import photo_below
from fasthash.serving.limits import Limits, RefusedError

__all__ = ["MakeCodes", "codes_of_photo", "photo_of_key", "reader_of"]

MakeCodes = Callable[[Any], NDArray[np.uint8]]
"""From a PIL image to its code, `(1, n_bits / 8)`."""


def photo_of_key(folder: Path, key: str) -> Path:
    """The file below `folder` that a key names.

    Raises:
        RefusedError: there is none, it is no photo that browsers show, or it lies outside, also by a link.
    """
    path = photo_below(folder, key)
    if path is None:
        raise RefusedError(404, f"key must name a photo in the folder of images, got {key[:60]!r}")
    return path


def reader_of(encoder: str | os.PathLike[str], n_bits: int) -> MakeCodes:
    """Load an encoder.

    Raises:
        ValueError: its codes have another width than those of the store.
        OSError, FormatError: it cannot be read.
    """
    from fasthash.encoder import HashEncoder

    loaded = HashEncoder.load(encoder)
    if loaded.n_bits != n_bits:
        raise ValueError(f"encoder must make codes of {n_bits} bits like those of the store, got {loaded.n_bits} bits")

    def make(image: Any) -> NDArray[np.uint8]:
        return loaded.encode([image])

    return make


def codes_of_photo(data: bytes, make_codes: MakeCodes | None, limits: Limits) -> NDArray[np.uint8]:
    """The code of a photo.

    Raises:
        RefusedError: the server has no encoder, or the photo is broken or too large.
    """
    if make_codes is None:
        raise RefusedError(404, "the server was started without an encoder: give codes or keys")
    from fasthash._photos import Limits as PhotoLimits
    from fasthash._photos import decode_photo

    try:
        image = decode_photo(data, "photo", PhotoLimits(limits.body_bytes, limits.pixels))
    except MemoryError:
        raise
    except Exception as error:  # Pillow has many for broken files
        raise RefusedError(422, f"the photo cannot be read: {error}") from None
    return make_codes(image)
