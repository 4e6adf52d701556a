"""Pictures of any mode as 8-bit RGB. Every path from a file, a `PIL.Image` or an array to pixels goes through here.

What 8-bit RGB cannot show is refused, so that different pictures never become one blank picture without a word.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fasthash._extras import needs_extra

with needs_extra("dedup"):
    from PIL import Image, ImageColor

__all__ = ["WHITE", "Colour", "as_hex", "check_array", "check_colour", "from_array", "to_rgb"]

Colour = tuple[int, int, int]

WHITE: Colour = (255, 255, 255)

_WIDE = 257  # 65535 / 255: steps of 16 bits in one of 8
_WITH_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
_SHAPES = "(H, W), (H, W, 3) or (H, W, 4)"


def check_colour(name: str, value: Any) -> Colour:
    """A colour as RGB: three whole numbers from 0 to 255, or a name or `#rrggbb` as in CSS."""
    if isinstance(value, str):
        try:
            found = ImageColor.getrgb(value)
        except ValueError:
            raise ValueError(f"{name} must be a colour such as 'white' or '#00ff00', got {value!r}") from None
        if len(found) != 3:
            raise ValueError(f"{name} must be a colour without transparency, got {value!r}")
        return found
    if not isinstance(value, (tuple, list)) or len(value) != 3 or any(type(part) is not int for part in value):
        raise TypeError(f"{name} must be a colour: its name, or three integers, got {value!r}")
    if not 0 <= min(value) <= max(value) <= 255:
        raise ValueError(f"{name} must be three integers from 0 to 255, got {value!r}")
    red, green, blue = value
    return red, green, blue


def as_hex(colour: Colour) -> str:
    """A colour as `#rrggbb`."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def to_rgb(image: Image.Image, background: Colour = WHITE) -> Image.Image:
    """A picture of any mode as 8-bit RGB: 16 bits scaled to 8, transparent parts on a background.

    Raises:
        ValueError: pixels are floats or have 32 bits, whose range is not known; or the picture is not blank, but its
            RGB version would be: 16 bits that differ by less than a step of 8 bits, or shapes of the background's
            colour.
    """
    image = _eight_bits(image)
    if not _is_transparent(image):
        return image.convert("RGB")
    if image.mode == "La":  # which Pillow converts to LA alone
        image = image.convert("LA")
    layer = image if image.mode == "RGBA" else image.convert("RGBA")
    rgb = Image.new("RGB", image.size, background)
    rgb.paste(layer, mask=layer)
    if _is_blank(rgb) and not _is_blank(layer.getchannel("A")):
        raise ValueError(f"transparent, and blank on a background of {as_hex(background)}, the colour of its shapes")
    return rgb


def from_array(array: Any, background: Colour = WHITE, *, name: str = "image") -> Image.Image:
    """A uint8 array `(H, W)`, `(H, W, 3)`, or `(H, W, 4)` with transparency, as 8-bit RGB.

    Raises:
        TypeError, ValueError: as `check_array` and `to_rgb`.
    """
    return to_rgb(Image.fromarray(np.ascontiguousarray(check_array(name, array))), background)


def check_array(name: str, array: Any) -> np.ndarray[Any, Any]:
    """Check an array of pixels; `name` is what errors call it.

    Raises:
        TypeError: it is not uint8.
        ValueError: its shape is not that of a picture.
    """
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} must be a uint8 array, got {type(array).__name__}")
    if array.dtype != np.uint8:
        hint = "; (pixels // 257).astype(np.uint8) scales 16 bits" if array.dtype == np.uint16 else ""
        raise TypeError(f"{name} must be a uint8 array {_SHAPES}, got dtype {array.dtype}{hint}")
    if 0 in array.shape or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
        raise ValueError(f"{name} must have shape {_SHAPES}, got {array.shape}")
    return array


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16 bits to 8, which Pillow's `convert` would cut off at 255; other pictures as they are."""
    if image.mode == "F":
        raise ValueError("pixels are floats, whose range is not known")
    if not image.mode.startswith("I"):
        return image
    if image.mode == "I" and image.format not in ("PNG", "PPM"):  # which Pillow reads so for want of a mode of 16 bits
        raise ValueError("pixels have 32 bits, whose range is not known")
    pixels = np.asarray(image)
    low, high = int(pixels.min()), int(pixels.max())
    if low < 0 or high > 65535:
        raise ValueError("pixels have 32 bits, whose range is not known")
    if low < high and low // _WIDE == high // _WIDE:
        raise ValueError(
            f"16-bit pixels from {low} to {high} of 65535 are all {low // _WIDE} in 8 bits: scale them first"
        )
    grey = Image.fromarray((pixels // _WIDE).astype(np.uint8))
    key = image.info.get("transparency")
    if isinstance(key, int):  # the one value that is transparent
        grey.putalpha(Image.fromarray(np.where(pixels == key, 0, 255).astype(np.uint8)))
    return grey


def _is_transparent(image: Image.Image) -> bool:
    alpha = image.mode in _WITH_ALPHA or "transparency" in image.info
    return alpha or (image.palette is not None and image.palette.mode.endswith("A"))


def _is_blank(image: Image.Image) -> bool:
    extrema: Any = image.getextrema()
    return all(low == high for low, high in (extrema if isinstance(extrema[0], tuple) else (extrema,)))
