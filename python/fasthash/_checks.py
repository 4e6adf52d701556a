"""Checks of arguments: each error names the argument, its value and the expected value. Nothing is cast."""

from __future__ import annotations

import math
import operator
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "MAX_BITS",
    "as_array",
    "check_bool",
    "check_callable",
    "check_choice",
    "check_codes",
    "check_codes_of_any_width",
    "check_fraction",
    "check_ids",
    "check_int",
    "check_level_bits",
    "check_not_negative",
    "check_path",
    "check_positive",
    "check_real",
    "check_width",
    "differences",
    "in_words",
    "is_int64",
    "own_array",
    "own_ids",
]

MAX_BITS = 4096
_UINT8 = np.dtype(np.uint8)


def as_array(name: str, value: Any) -> NDArray[Any]:
    """Convert a value to a numpy array; an empty list, which has no dtype, becomes int64.

    CPU memory exposed by the buffer protocol, `__array__` or DLPack is not copied.
    """
    # Do not touch numpy.ma unless it is loaded: a child forked during its lazy import would wait for ever.
    masked = getattr(sys.modules.get("numpy.ma"), "MaskedArray", ())
    if isinstance(value, masked):
        raise TypeError(f"{name} must be an array without a mask, got a masked array")
    only_dlpack = hasattr(value, "__dlpack__") and not hasattr(value, "__array__")
    try:
        array = np.from_dlpack(value) if only_dlpack else np.asarray(value)
    except ValueError as error:  # lists of unequal lengths
        raise ValueError(f"{name} must be an array: {error}") from None
    except (BufferError, RuntimeError, TypeError) as error:  # memory on a GPU, or a tensor that requires a gradient
        raise TypeError(f"{name} must be an array that numpy can read: {error}") from error
    untyped = array.size == 0 and array.dtype == np.float64 and not hasattr(value, "dtype")
    return array.astype(np.int64) if untyped else array


def own_array(name: str, value: Any) -> NDArray[Any]:
    """Convert a value to a numpy array and copy it, so that the checked values are the values used.

    Without a copy, another thread could write to the array after the check, and an object could return another array at
    the next conversion.
    """
    return np.array(as_array(name, value))


def own_ids(ids: Any, n: int | None = None) -> NDArray[np.int64]:
    """Check ids as `check_ids` does; return a copy."""
    return check_ids(own_array("ids", ids), n)


def check_codes(name: str, codes: Any, n_bytes: int) -> NDArray[np.uint8]:
    """Check packed codes `(n, n_bytes)`; return a contiguous uint8 array, copied only if necessary."""
    array = codes if type(codes) is np.ndarray and codes.dtype is _UINT8 else _packed(name, codes)
    if array.ndim != 2 or array.shape[1] != n_bytes:
        hint = "; for a single code use code[None]" if array.ndim == 1 else ""
        raise ValueError(f"{name} must have shape (n, {n_bytes}) for {n_bytes * 8} bits, got {array.shape}{hint}")
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)


def check_codes_of_any_width(name: str, codes: Any) -> NDArray[np.uint8]:
    """Check packed codes `(n, n_bytes)` of any width; return a contiguous uint8 array."""
    array = _packed(name, codes)
    if array.ndim != 2 or not 1 <= array.shape[1] <= MAX_BITS // 8:
        raise ValueError(f"{name} must have shape (n, n_bytes) with 1 to {MAX_BITS // 8} bytes, got {array.shape}")
    return np.ascontiguousarray(array)


def _packed(name: str, codes: Any) -> NDArray[Any]:
    array = as_array(name, codes)
    if array.dtype != np.uint8:
        hint = "; fasthash.pack_bits packs booleans" if array.dtype == bool else ""
        raise TypeError(f"{name} must be a uint8 array of packed bits, got dtype {array.dtype}{hint}")
    return array


def check_ids(ids: Any, n: int | None = None) -> NDArray[np.int64]:
    """Check the dtype and shape of ids, `(n,)` or any length; return a contiguous int64 array.

    The index checks the values.
    """
    array = as_array("ids", ids)
    if array.dtype != np.int64:
        raise TypeError(f"ids must be an int64 array, got dtype {array.dtype}")
    if n is None and array.ndim != 1:
        raise ValueError(f"ids must have one axis, got shape {array.shape}")
    if n is not None and array.shape != (n,):
        raise ValueError(f"ids must have shape ({n},), one for each code, got {array.shape}")
    return in_words(array)


def in_words(array: NDArray[Any]) -> NDArray[Any]:
    """Return the array C-contiguous and aligned; copies only if necessary."""
    return np.require(array, requirements=["C", "A"])


def check_int(name: str, value: Any, minimum: int | None = None, maximum: int | None = None) -> int:
    """Check an integer between two inclusive bounds, each optional; booleans and floats are refused."""
    number = value if type(value) is int else _whole(name, value)
    if minimum is not None and number < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {number}")
    if maximum is not None and number > maximum:
        raise ValueError(f"{name} must be at most {maximum}, got {number}")
    return number


def _whole(name: str, value: Any) -> int:
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None


def is_int64(number: int) -> bool:
    """Return whether an integer fits into int64."""
    return -(2**63) <= number < 2**63


def check_real(name: str, value: Any) -> float:
    """Check a real number, including NaN and infinities; booleans are refused."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} must be a number, got {value!r}")
    return float(value)


def check_positive(name: str, value: Any) -> float:
    """Check a finite real number above 0."""
    number = check_real(name, value)
    if not 0 < number < math.inf:
        raise ValueError(f"{name} must be positive and finite, got {value!r}")
    return number


def check_not_negative(name: str, value: Any) -> float:
    """Check a finite real number of at least 0."""
    number = check_real(name, value)
    if not 0 <= number < math.inf:
        raise ValueError(f"{name} must be finite and not negative, got {value!r}")
    return number


def check_fraction(name: str, value: Any) -> float:
    """Check a real number above 0 and at most 1."""
    number = check_real(name, value)
    if not 0 < number <= 1:  # refuses NaN too
        raise ValueError(f"{name} must be above 0 and at most 1, got {value!r}")
    return number


def check_width(name: str, value: Any) -> int:
    """Check a width in bits: a multiple of 8 from 8 to 4096."""
    n_bits = check_int(name, value, minimum=8, maximum=MAX_BITS)
    if n_bits % 8:
        raise ValueError(f"{name} must be a multiple of 8, got {n_bits}")
    return n_bits


def check_level_bits(level_bits: Any) -> tuple[int, ...]:
    """Check widths of levels in bits, coarse first: each a positive multiple of 8, together at most 4096."""
    if isinstance(level_bits, (str, bytes)) or not isinstance(level_bits, (Sequence, np.ndarray)):
        raise TypeError(f"level_bits must be a sequence of integers, got {level_bits!r}")
    widths = tuple(check_width("level_bits", bits) for bits in level_bits)
    if not widths:
        raise ValueError(f"level_bits must name at least one level, got {level_bits!r}")
    if sum(widths) > MAX_BITS:
        raise ValueError(f"level_bits must sum to at most {MAX_BITS} bits, got {level_bits!r}")
    return widths


def check_bool(name: str, value: Any) -> None:
    """Check for True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {value!r}")


def check_choice(name: str, value: Any, choices: Collection[str]) -> None:
    """Check a string that must be one of `choices`."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def check_callable(name: str, value: Any) -> None:
    """Check that a value can be called."""
    if not callable(value):
        raise TypeError(f"{name} must be callable, got {value!r}")


def check_path(name: str, value: Any) -> None:
    """Check the path of a file or folder: a string or a `pathlib.Path`."""
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"{name} must be a path, got {value!r}")


def differences(now: Mapping[str, Any], was: Mapping[str, Any]) -> list[str]:
    """List the values that differ from an earlier run, as in `lr is 0.02, was 0.01`."""
    return [f"{name} is {now[name]!r}, was {was.get(name)!r}" for name in now if now[name] != was.get(name)]
