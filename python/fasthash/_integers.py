"""Codes as integers: the first bit of a code is the highest of its number, as databases and imagehash have it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fasthash._arrays import as_array, check_one_axis
from fasthash._checks import check_bool, check_codes, check_codes_of_any_width, check_width, code_bytes
from fasthash._code_text import bytes_of_int
from fasthash._shown import short

__all__ = ["codes_from_ints", "codes_of_ints", "codes_to_ints"]


def codes_from_ints(values: ArrayLike | Sequence[int], n_bits: int) -> NDArray[np.uint8]:
    """Make codes of integers; the highest of the n_bits bits of a number is the first bit of its code.

    Args:
        values: integers `(n,)`: an array of any integer dtype, or a sequence of Python integers of any width. A
            negative number stands for its two's complement of n_bits bits, as databases with signed integers have it.
        n_bits: width of the codes in bits, from 1 to 4096.

    Returns:
        uint8 array `(n, n_bits / 8)`; the bytes are rounded up, and padded with zeros.

    Raises:
        TypeError: a value is not an integer, or `n_bits` is not.
        ValueError: a value does not fit n_bits bits, `values` does not have one axis, or `n_bits` is out of range.

    Examples:
        >>> codes_from_ints([1, 2**42 - 1, -1], n_bits=42)
        array([[  0,   0,   0,   0,   0,  64],
               [255, 255, 255, 255, 255, 192],
               [255, 255, 255, 255, 255, 192]], dtype=uint8)
    """
    return codes_of_ints(values, check_width("n_bits", n_bits), "values", "values[{}]".format)


def codes_of_ints(values: Any, n_bits: int, name: str, place: Callable[[int], str]) -> NDArray[np.uint8]:
    """`codes_from_ints` for callers whose errors name another argument; `place(i)` names value i."""
    if isinstance(values, (str, bytes, Mapping, Set)) or not isinstance(values, Iterable):
        raise TypeError(f"{name} must be a sequence of integers, got {type(values).__name__}")
    if hasattr(values, "dtype") or hasattr(values, "__array__"):  # columns of Arrow have no dtype
        array = as_array(name, values)
        check_one_axis(name, array)
        if array.dtype != object:
            return _of_array(array, n_bits, name, place)
    rows = []
    for i, value in enumerate(values):
        if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
            raise TypeError(f"{place(i)}: expected an integer, got {short(value)}")
        row = bytes_of_int(int(value), n_bits)
        if row is None:
            raise _too_wide(place(i), n_bits, value)
        rows.append(row)
    return np.frombuffer(bytearray(b"".join(rows)), np.uint8).reshape(-1, code_bytes(n_bits))


def codes_to_ints(codes: ArrayLike, n_bits: int | None = None, *, signed: bool = False) -> NDArray[Any] | list[int]:
    """Make integers of codes, the inverse of `codes_from_ints`.

    Args:
        codes: uint8 array `(n, n_bits / 8)`.
        n_bits: width of the codes in bits; None takes 8 for each byte.
        signed: give a code whose first bit is set as a negative number, for databases with signed integers.

    Returns:
        uint64 array `(n,)`, or int64 if `signed`; for more than 64 bits a list of n Python integers.

    Raises:
        TypeError: `codes` is not uint8, `n_bits` is not an integer, or `signed` not a bool.
        ValueError: the shape does not fit `n_bits`, or the bits that pad a code are not zero.

    Examples:
        >>> codes_to_ints(np.array([[0, 64], [255, 192]], dtype=np.uint8), n_bits=10)
        array([   1, 1023], dtype=uint64)
    """
    check_bool("signed", signed)
    array = check_codes_of_any_width("codes", codes, known=True)
    n_bits = array.shape[1] * 8 if n_bits is None else check_width("n_bits", n_bits)
    array = check_codes("codes", array, n_bits)
    if n_bits > 64:
        padding = array.shape[1] * 8 - n_bits
        beyond = 1 << n_bits
        numbers = [int.from_bytes(row.tobytes(), "big") >> padding for row in array]
        return [number - beyond if signed and 2 * number >= beyond else number for number in numbers]
    words = np.zeros((len(array), 8), np.uint8)
    words[:, : array.shape[1]] = array
    numbers64 = words.view(">u8").reshape(-1).astype(np.uint64)
    return numbers64.view(np.int64) >> (64 - n_bits) if signed else numbers64 >> np.uint64(64 - n_bits)


def _of_array(array: NDArray[Any], n_bits: int, name: str, place: Callable[[int], str]) -> NDArray[np.uint8]:
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers, got dtype {array.dtype}")
    if n_bits > 64:
        return codes_of_ints(array.tolist(), n_bits, name, place)
    if array.size:
        low, high = int(array.min()), int(array.max())
        if low < -(1 << n_bits - 1) or high >= 1 << n_bits:
            wrong = int(np.argmax((array == low) if low < -(1 << n_bits - 1) else (array == high)))
            raise _too_wide(place(wrong), n_bits, array[wrong])
    words = array.astype(np.uint64 if array.dtype.kind == "u" else np.int64).view(np.uint64)
    words = (words << np.uint64(64 - n_bits)).astype(">u8")
    return np.ascontiguousarray(words.view(np.uint8).reshape(-1, 8)[:, : code_bytes(n_bits)])


def _too_wide(place: str, n_bits: int, value: Any) -> ValueError:
    return ValueError(f"{place}: expected a whole number of {n_bits} bits, got {short(int(value))}")
