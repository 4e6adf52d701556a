"""Packed binary codes: from floats, bits or integers to `uint8 (n, n_bits / 8)`, and back.

Bit j of a code is bit `7 - j % 8` of byte `j // 8`: the order of `numpy.packbits`, so that the bytes of a coarse level
come first and a level is a byte range. A width that is no multiple of 8 takes n_bits / 8 bytes, rounded up; the low
bits of the last byte, which no bit uses, are zero.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fasthash._arrays import as_array
from fasthash._checks import check_codes, check_width, code_bytes, hint_of_floats

__all__ = ["pack_bits", "pack_signs", "sign_codes", "unpack_bits"]

_FEW = 64  # values that may all be positive by chance


def pack_bits(bits: ArrayLike) -> NDArray[np.uint8]:
    """Pack zeros and ones into codes.

    Args:
        bits: bool or integer array of zeros and ones, `(n, n_bits)` or `(n_bits,)` for one code; n_bits at least 1.

    Returns:
        uint8 array `(n, n_bits / 8)`, or `(n_bits / 8,)` for one code; the bytes are rounded up, and padded with zeros.

    Raises:
        TypeError: `bits` holds neither booleans nor integers.
        ValueError: the shape does not fit, or a value is neither 0 nor 1.

    Examples:
        >>> pack_bits([[1, 0, 0, 0, 0, 0, 0, 1]])
        array([[129]], dtype=uint8)
        >>> pack_bits([1, 1, 1])
        array([224], dtype=uint8)
    """
    array = as_array("bits", bits)
    if array.dtype.kind not in "biu":
        hint = hint_of_floats("bits", array) if array.dtype.kind == "f" else ""
        if array.dtype.kind == "U":
            hint = "; fasthash.pack_bits([[int(bit) for bit in text] for text in bits]) packs text of 0 and 1"
        raise TypeError(f"bits must be a bool or integer array of zeros and ones, got dtype {array.dtype}{hint}")
    _check_bit_axis("bits", array.shape)
    if array.dtype.kind != "b" and array.size and (array.min() < 0 or array.max() > 1):
        wrong = array[(array < 0) | (array > 1)].flat[0]
        hint = "; fasthash.pack_bits(bits >= 0) packs signs" if array.min() == -1 and array.max() <= 1 else ""
        raise ValueError(f"bits must hold only zeros and ones, found {wrong}{hint}")
    return np.packbits(array.astype(bool, copy=False), axis=-1)


def unpack_bits(codes: ArrayLike, n_bits: int | None = None) -> NDArray[np.uint8]:
    """Unpack codes into zeros and ones, the inverse of `pack_bits`.

    Args:
        codes: uint8 array `(n, n_bits / 8)` or `(n_bits / 8,)`.
        n_bits: width of the codes in bits, checked against their shape; None takes 8 for each byte.

    Returns:
        uint8 array of zeros and ones, `(n, n_bits)` or `(n_bits,)`.

    Raises:
        TypeError: `codes` is not uint8, or `n_bits` not an integer.
        ValueError: the shape does not fit `n_bits`, or the bits that pad a code are not zero.

    Examples:
        >>> unpack_bits(np.array([129], dtype=np.uint8))
        array([1, 0, 0, 0, 0, 0, 0, 1], dtype=uint8)
        >>> unpack_bits(np.array([224], dtype=np.uint8), n_bits=3)
        array([1, 1, 1], dtype=uint8)
    """
    array = as_array("codes", codes)
    if array.dtype != np.uint8:
        raise TypeError(f"codes must be a uint8 array of packed bits, got dtype {array.dtype}")
    if array.ndim not in (1, 2) or array.shape[-1] == 0:
        raise ValueError(f"codes must have shape (n, n_bits / 8) or (n_bits / 8,), got {array.shape}")
    if n_bits is None:
        return np.unpackbits(array, axis=-1)
    if code_bytes(check_width("n_bits", n_bits)) != array.shape[-1]:
        raise ValueError(f"codes of shape {array.shape} hold {array.shape[-1] * 8} bits, but n_bits = {n_bits!r}")
    check_codes("codes", np.atleast_2d(array), n_bits)
    return np.unpackbits(array, axis=-1, count=n_bits)


def sign_codes(z: ArrayLike) -> NDArray[np.uint8]:
    """Pack the signs of the outputs of a network: bit j is 1 where `z[:, j] >= 0`.

    Zero and minus zero count as positive. A batch of codes without any negative value is warned of.

    Args:
        z: float array `(n, n_bits)` or `(n_bits,)`; n_bits at least 1.

    Returns:
        uint8 array `(n, n_bits / 8)` or `(n_bits / 8,)`; the bytes are rounded up, and padded with zeros.

    Raises:
        TypeError: `z` is not a float array.
        ValueError: the shape does not fit, or `z` holds NaN.

    Examples:
        >>> sign_codes(np.array([0.3, -1.0, -2.0, -0.1, -0.5, -7.0, -1.0, 0.0]))
        array([129], dtype=uint8)
    """
    array = as_array("z", z)
    codes = pack_signs(array)
    if codes.ndim == 2 and len(codes) > 1 and array.size >= _FEW and array.min() >= 0:
        warnings.warn(
            "no value of z is negative, so every bit is 1; subtract a threshold first, such as 0.5 for outputs of a "
            "sigmoid",
            stacklevel=2,
        )
    return codes


def pack_signs(z: ArrayLike) -> NDArray[np.uint8]:
    """Pack as `sign_codes` does, without its warning: a batch of one class may be all positive."""
    array = as_array("z", z)
    if array.dtype.kind != "f":
        raise TypeError(f"z must be a float array, got dtype {array.dtype}{_packer(array)}")
    _check_bit_axis("z", array.shape)
    if np.isnan(array).any():
        row = np.argwhere(np.isnan(array))[0].tolist()
        raise ValueError(f"z must not hold NaN, found one at index {row}")
    return np.packbits(array >= 0, axis=-1)


def _packer(array: NDArray[Any]) -> str:
    """The line that packs the bits or signs of an array that is not of floats."""
    if array.dtype.kind not in "biu" or not array.size:
        return ""
    if array.min() < 0:
        return "; fasthash.pack_bits(z >= 0) packs the signs of integers"
    return "; fasthash.pack_bits(z) packs zeros and ones" if array.max() <= 1 else ""


def _check_bit_axis(name: str, shape: tuple[int, ...]) -> None:
    if len(shape) not in (1, 2):
        raise ValueError(f"{name} must have shape (n, n_bits) or (n_bits,), got {shape}")
    if shape == (0,):
        raise ValueError(f"{name} must tell the width of a code, got shape (0,); for no codes, give shape (0, n_bits)")
    if shape[-1] == 0:
        raise ValueError(f"{name} must have at least one bit in its last axis, got shape {shape}")
