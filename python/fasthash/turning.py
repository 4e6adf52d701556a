"""Codes of turned and mirrored pictures, from the code of the upright one."""

from __future__ import annotations

from math import isqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fasthash._arrays import as_array
from fasthash._checks import check_codes_of_any_width

__all__ = ["TURNS", "check_turnable", "turned", "turned_codes"]

TURNS = (
    "upright",
    "mirrored left to right",
    "mirrored top to bottom",
    "turned by 180°",
    "mirrored along the diagonal",
    "turned left by 90°",
    "turned right by 90°",
    "mirrored along the other diagonal",
)
"""The eight orientations, in the order of `turned_codes`."""


def turned_codes(codes: ArrayLike) -> NDArray[np.uint8]:
    """Turn codes of a cosine transform, such as pHash, to those of the picture in all eight orientations.

    A bit of such a code is the sign of a frequency. Mirroring a picture changes the signs of its odd frequencies, and
    exchanging rows with columns transposes them. This is exact where bits are signs, as in the codes of
    `fasthash.dedup.hash_photo(path, turned=True)`. The bits of `imagehash.phash` compare with the median instead of
    zero, so that of 256 bits about 6 are wrong on photos, at most 32 of 400 photos; of 64 about 3, at most 12. PDQ,
    dHash and others are laid out differently: this function is not for their codes.

    Args:
        codes: uint8 array `(n, n_bits / 8)`; n_bits is the square of an even side, such as 64 or 256. The bits are the
            rows of the square, lowest frequencies first, as `imagehash` has them.

    Returns:
        uint8 array `(8, n, n_bits / 8)`, the orientations in the order of `TURNS`.

    Raises:
        TypeError: wrong dtype.
        ValueError: wrong shape, or `n_bits` is no square.

    Examples:
        >>> turned_codes(pack_bits([[1, 0, 1, 1] * 4]))[:2]
        array([[[187, 187]],
        <BLANKLINE>
               [[238, 238]]], dtype=uint8)
    """
    return turned(check_turnable("codes", codes))


def check_turnable(name: str, codes: ArrayLike) -> NDArray[np.uint8]:
    """Check codes that are to be turned; `name` is what errors call them.

    Raises:
        TypeError, ValueError: as `turned_codes`.
    """
    array = check_codes_of_any_width(name, as_array(name, codes))
    n_bits = array.shape[1] * 8
    if isqrt(n_bits) ** 2 != n_bits:
        raise ValueError(
            f"{name} must have a square number of bits to be turned, such as 64 or 256, got {array.shape[1]} bytes"
        )
    return array


def turned(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`turned_codes` of codes that have been checked."""
    n, n_bits = len(codes), codes.shape[1] * 8
    side = isqrt(n_bits)
    bits = np.unpackbits(codes, axis=1).astype(bool).reshape(n, side, side)
    odd = np.arange(side) % 2 == 1
    columns, rows = odd[None, :], odd[:, None]
    upright = [bits, bits ^ columns, bits ^ rows, bits ^ columns ^ rows]
    turns = np.array([*upright, *(turn.transpose(0, 2, 1) for turn in upright)])
    return np.packbits(turns.reshape(len(TURNS), n, n_bits), axis=-1)
