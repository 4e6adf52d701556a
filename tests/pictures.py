"""What is in a picture, whatever its size and format."""

import numpy as np
from PIL import Image


def pixels(path):
    """The picture as uint8 `(height, width, 3)`; it must be whole."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def assert_drawn(path):
    """More than a background and a line."""
    assert len(np.unique(pixels(path).reshape(-1, 3), axis=0)) > 10


def assert_shows(path, colour):
    """A part of the picture has a colour, or one that is near it."""
    off = np.abs(pixels(path).astype(int) - colour).max(axis=2)
    assert (off < 32).mean() > 1e-3
