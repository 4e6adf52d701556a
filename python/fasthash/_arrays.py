"""Values of callers as numpy arrays: converted, copied if the caller could change them, and laid out for the core.

Called before the checks of dtype, shape and values.
"""

from __future__ import annotations

import array as arrays
import os
import sys
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasthash._shown import short

__all__ = [
    "as_array",
    "as_int64",
    "as_integers",
    "check_one_axis",
    "counted_ids",
    "hint_of_keys",
    "in_words",
    "own_array",
]

_WITHOUT_BOOLS = (range, memoryview, arrays.array)  # sequences of integers alone, which may be long
_KEYS = (str, bytes, uuid.UUID, os.PathLike)


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
    except ValueError as error:
        # numpy's own text of lists of unequal lengths names neither the argument nor its value.
        expected = "an array, or lists of one length" if isinstance(value, (list, tuple)) else f"an array: {error}"
        raise ValueError(f"{name} must be {expected}, got {short(value)}") from None
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


def as_integers(name: str, value: Any) -> NDArray[Any]:
    """Convert a value as `as_array` does. Lists of integers become int64 where numpy makes floats or objects of them:
    of one beyond int64, or of both int and numpy.uint64.

    Raises:
        TypeError: a sequence of integers has a bool among them, which numpy takes as 0 or 1.
    """
    array = as_array(name, value)
    if array.dtype.kind in "iu" and isinstance(value, Sequence) and not isinstance(value, _WITHOUT_BOOLS):
        if any(isinstance(each, (bool, np.bool_)) for each in value):
            raise TypeError(f"{name} must be integers, got a {type(value).__name__} with a bool: {short(value)}")
        return array
    if array.dtype.kind not in "fO" or hasattr(value, "dtype"):
        return array
    numbers = np.asarray(value, dtype=object)
    if not all(isinstance(each, (int, np.integer)) and not isinstance(each, (bool, np.bool_)) for each in numbers.flat):
        return array
    for each in numbers.flat:
        if not -(2**63) <= each < 2**63:
            raise ValueError(f"{name} must fit int64, got {short(int(each))}")
    return numbers.astype(np.int64)


def counted_ids(first: int, n: int) -> NDArray[np.int64]:
    """The ids first .. first + n - 1, which must fit int64; `first` need not if n is 0."""
    return first + np.arange(n, dtype=np.int64) if n else np.empty(0, np.int64)


def as_int64(name: str, array: NDArray[Any]) -> NDArray[np.int64]:
    """Return integers as int64; copies unless they are. Raises ValueError for one that does not fit."""
    if array.dtype.kind == "u" and array.size and array.max() > np.iinfo(np.int64).max:
        raise ValueError(f"{name} must fit int64, got {array.max()}")
    return array.astype(np.int64, copy=False)


def check_one_axis(name: str, array: NDArray[Any]) -> None:
    """Check for an array with one axis; of a single value, the error shows the list that holds it."""
    if array.ndim != 1:
        hint = f"; use [{short(array.item())}] for a single one" if array.ndim == 0 and array.dtype.kind != "b" else ""
        raise ValueError(f"{name} must have one axis, got shape {array.shape}{hint}")


def hint_of_keys(array: NDArray[Any]) -> str:
    """What an error adds where ids are expected and an array holds something that may be keys, such as strings."""
    keys = array.dtype.kind in "US" or (array.dtype.kind == "O" and array.size and isinstance(array.flat[0], _KEYS))
    return "; ids(keys) of a Store or KeyedIndex returns the ids of keys" if keys else ""


def in_words(array: NDArray[Any]) -> NDArray[Any]:
    """Return the array C-contiguous and aligned; copies only if necessary."""
    return np.require(array, requirements=["C", "A"])
