"""Checks of arguments: each error names the argument, its value and the expected value. Nothing is cast."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasthash import _core
from fasthash._arrays import as_array, as_int64, as_integers, check_one_axis, hint_of_keys, in_words
from fasthash._columns import codes_of_cells
from fasthash._shown import short

__all__ = [
    "LEVEL_BITS",
    "MAX_BITS",
    "check_bool",
    "check_callable",
    "check_choice",
    "check_codes",
    "check_codes_and_layout",
    "check_codes_of_any_width",
    "check_fraction",
    "check_ids",
    "check_int",
    "check_layout",
    "check_level_bits",
    "check_not_negative",
    "check_path",
    "check_positive",
    "check_queries",
    "check_radius",
    "check_real",
    "check_share",
    "check_whole_bytes",
    "check_width",
    "code_bytes",
    "differences",
    "hint_of_floats",
    "is_int64",
    "looks_like_bits",
    "of_ids",
    "own_ids",
    "path_bytes",
    "whole_radius",
]

MAX_BITS = 4096
LEVEL_BITS = (8, 16, 40)  # default of HierIndex
_UINT8 = np.dtype(np.uint8)


def own_ids(ids: Any, n: int | None = None) -> NDArray[np.int64]:
    """Check ids as `check_ids` does; return a copy."""
    return check_ids(np.array(as_integers("ids", ids)), n)  # a copy, as own_array makes it


def code_bytes(n_bits: int) -> int:
    """Bytes of a packed code: n_bits / 8, rounded up."""
    return -(-n_bits // 8)


def check_codes(name: str, codes: Any, n_bits: int) -> NDArray[np.uint8]:
    """Check packed codes `(n, n_bits / 8)`, the bytes rounded up and padded with zeros.

    Returns:
        A contiguous uint8 array, copied only if necessary.
    """
    array = codes if type(codes) is np.ndarray and codes.dtype is _UINT8 else _packed(name, codes)
    n_bytes = code_bytes(n_bits)
    if array.ndim != 2 or array.shape[1] != n_bytes:
        hint = "; for a single code use code[None]" if array.shape == (n_bytes,) else ""
        if array.shape[-1:] in ((n_bits,), (8 * n_bytes,)) and array.size and array.max() <= 1:
            hint = f"; fasthash.pack_bits({name}) packs zeros and ones"
        raise ValueError(f"{name} must have shape (n, {n_bytes}) for {n_bits} bits, got {array.shape}{hint}")
    array = array if array.flags.c_contiguous else np.ascontiguousarray(array)
    if n_bits % 8:
        _core.check_padding(name, array, n_bits)
    return array


def check_queries(queries: Any, n_bits: int) -> NDArray[np.uint8]:
    """Check queries as `check_codes` does codes; one code `(n_bits / 8,)` is a batch of one."""
    if type(queries) is np.ndarray and queries.ndim == 2:
        return check_codes("queries", queries, n_bits)
    array = codes_of_cells("queries", as_array("queries", queries))
    return check_codes("queries", array[None] if array.shape == (code_bytes(n_bits),) else array, n_bits)


def check_codes_of_any_width(
    name: str, codes: Any, *, known: bool = False, expression: str | None = None
) -> NDArray[np.uint8]:
    """Check packed codes `(n, n_bytes)` of any width; return a contiguous uint8 array.

    Args:
        known: the caller has named the width elsewhere; otherwise unpacked zeros and ones are refused.
        expression: of codes in a file, the Python that reads them, for advice. None takes the name of an argument.
    """
    array = _packed(name, codes, expression)
    written = name if expression is None else expression
    if array.ndim != 2 or not 1 <= array.shape[1] <= MAX_BITS // 8:
        hint = f"; fasthash.pack_bits({written}) packs zeros and ones" if looks_like_bits(array) else ""
        raise ValueError(
            f"{name} must have shape (n, n_bytes) with 1 to {MAX_BITS // 8} bytes, got {array.shape}{hint}"
        )
    if not known and looks_like_bits(array):
        n_bits = array.shape[1] * 8
        named = f"go into an index whose width is named, such as FlatIndex({n_bits})"
        raise ValueError(
            f"{name} must be packed, but all of its {array.shape} bytes are zero or one; fasthash.pack_bits({written}) "
            f"packs bits; codes that are so all the same {named if expression is None else f'need n_bits={n_bits}'}"
        )
    return np.ascontiguousarray(array)


def check_codes_and_layout(codes: Any, level_bits: Any, n_bits: Any) -> tuple[NDArray[np.uint8], tuple[int, ...]]:
    """Check the codes of a new index and the widths of its levels; with neither width the codes have one level."""
    named = level_bits is not None or n_bits is not None
    array = check_codes_of_any_width("codes", codes, known=named)
    if not named:
        return array, (array.shape[1] * 8,)
    return array, check_layout(LEVEL_BITS if level_bits is None else level_bits, n_bits)


def looks_like_bits(array: NDArray[Any]) -> bool:
    """Whether an array of integers holds zeros and ones alone, both of them, in rows of 16 bits or more.

    The bytes of codes look so by chance once in 10^33 codes, and all together never; codes of zeros alone do not count.
    """
    if array.dtype.kind not in "iu" or array.ndim != 2 or not len(array) or array.shape[1] < 16 or array.shape[1] % 8:
        return False
    first = array[0]  # spares the rest of most arrays
    return bool(first.min() >= 0 and first.max() <= 1 and array.min() == 0 and array.max() == 1)


def _packed(name: str, codes: Any, expression: str | None = None) -> NDArray[Any]:
    array = codes_of_cells(name, as_array(name, codes))
    if array.dtype != np.uint8:
        expression = name if expression is None else expression
        converter = _converter(expression, array)
        listed = codes if isinstance(codes, (list, tuple)) else ()
        if array.dtype.kind in "fO" and listed and all(isinstance(each, int) for each in listed):
            converter = f"; fasthash.codes_from_ints({expression}, n_bits) makes codes of integers"
        raise TypeError(f"{name} must be a uint8 array of packed bits, got dtype {array.dtype}{converter}")
    return array


def _converter(name: str, array: NDArray[Any]) -> str:
    """The line that makes codes of an array of another type, where there is one."""
    kind, size = array.dtype.kind, array.dtype.itemsize
    if kind == "b":
        return "; fasthash.pack_bits packs booleans"
    if kind == "f":
        return hint_of_floats(name, array)
    if kind in "US" and array.ndim < 2:
        hashes = name if array.ndim else f"[{name}]"
        read = "reads hexadecimal digits" if kind == "U" else "makes codes of bytes"
        return f"; fasthash.perceptual_codes({hashes}) {read}"
    if kind not in "iu":
        return ""
    if not array.size:
        return "; np.empty((0, n_bits // 8), dtype=np.uint8) holds no codes"
    low, high = array.min(), array.max()
    if low >= 0 and high <= 1:
        return f"; fasthash.pack_bits({name}) packs zeros and ones"
    if low == -1 and high == 1:
        return f"; fasthash.pack_bits({name} >= 0) packs signs"
    if kind == "i" and size == 1:
        return f"; {name}.view(np.uint8) ^ 128 makes codes of the int8 'binary' embeddings of sentence-transformers"
    if array.ndim == 2 and low >= 0 and high <= 255:
        return f"; np.asarray({name}, dtype=np.uint8) makes bytes of them"
    if array.ndim == 1:
        return f"; fasthash.codes_from_ints({name}, n_bits) makes codes of integers"
    return ""


def hint_of_floats(name: str, array: NDArray[Any]) -> str:
    """The line that makes codes of an array of floats: the signs of zeros and ones would all be 1."""
    if array.size and ((array == 0) | (array == 1)).all():
        return f"; fasthash.pack_bits({name} > 0) packs zeros and ones"
    return f"; fasthash.sign_codes({name}) makes codes of real numbers by their signs"


def check_ids(ids: Any, n: int | None = None) -> NDArray[np.int64]:
    """Check the dtype and shape of ids, `(n,)` or any length; return a contiguous int64 array.

    The index checks the values.
    """
    array = as_integers("ids", ids)
    if array.dtype.kind not in "iu":
        raise TypeError(f"ids must be an integer array, got dtype {array.dtype}{hint_of_keys(array)}")
    array = as_int64("ids", array)
    if n is None or (n == 1 and array.ndim == 0):
        check_one_axis("ids", array)
    elif array.shape != (n,):
        raise ValueError(f"ids must have shape ({n},), one for each code, got {array.shape}")
    return in_words(array)


def of_ids(ids: Any, find: Callable[[NDArray[Any]], NDArray[Any]]) -> NDArray[Any]:
    """The rows that `find` returns for ids `(n,)`; of one id, its row. `find` checks the ids."""
    given = as_integers("ids", ids)
    return find(given[None])[0] if given.ndim == 0 else find(given)


def check_int(name: str, value: Any, minimum: int | None = None, maximum: int | None = None) -> int:
    """Check an integer between two inclusive bounds, each optional; booleans and floats are refused."""
    number = value if type(value) is int else _whole(name, value)
    if minimum is not None and number < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {short(number)}")
    if maximum is not None and number > maximum:
        raise ValueError(f"{name} must be at most {maximum}, got {short(number)}")
    return number


def _whole(name: str, value: Any) -> int:
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be an integer, got {short(value)}")
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {short(value)}") from None


def is_int64(number: int) -> bool:
    """Return whether an integer fits into int64."""
    return -(2**63) <= number < 2**63


def check_real(name: str, value: Any) -> float:
    """Check a real number, including NaN and infinities; booleans are refused."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} must be a number, got {short(value)}")
    try:
        return float(value)
    except OverflowError:  # an integer beyond all floats
        return math.inf if value > 0 else -math.inf


def check_positive(name: str, value: Any) -> float:
    """Check a finite real number above 0."""
    number = check_real(name, value)
    if not 0 < number < math.inf:
        raise ValueError(f"{name} must be positive and finite, got {short(value)}")
    return number


def check_not_negative(name: str, value: Any) -> float:
    """Check a finite real number of at least 0."""
    number = check_real(name, value)
    if not 0 <= number < math.inf:
        raise ValueError(f"{name} must be finite and not negative, got {short(value)}")
    return number


def check_fraction(name: str, value: Any) -> float:
    """Check a real number above 0 and at most 1."""
    number = value if type(value) is float else check_real(name, value)
    if not 0 < number <= 1:  # refuses NaN too
        raise ValueError(f"{name} must be above 0 and at most 1, got {short(value)}")
    return number


def check_share(name: str, value: Any, n: int) -> float:
    """A share of n things: a float is the share itself, an integer a number of them, as in scikit-learn."""
    if isinstance(value, (float, np.floating)):
        return check_fraction(name, value)
    try:
        number = check_int(name, value, minimum=1)
    except TypeError:
        raise TypeError(f"{name} must be a share, a float, or a number, an integer, got {short(value)}") from None
    return 1.0 if number >= n else number / n


def check_radius(radius: Any, metric: str, n_bits: int) -> Any:
    """Check a radius: with the metric `"jaccard"` a number, else an integer in bits; larger ones become `n_bits`."""
    if metric == "hamming":
        return min(check_int("radius", radius, minimum=0), n_bits)  # no distance is larger
    number = check_real("radius", radius)
    if not number >= 0:  # refuses NaN too
        raise ValueError(f"radius must be at least 0, got {short(radius)}")
    return number


def whole_radius(radius: float, metric: str) -> float:
    """A radius that arrived as text: as an integer if distances are bits, else as it is."""
    if metric != "hamming":
        return radius
    if not radius.is_integer():
        raise ValueError(f"radius must be a whole number of bits, got {radius}")
    return int(radius)


def check_width(name: str, value: Any) -> int:
    """Check a width in bits, from 1 to 4096."""
    return check_int(name, value, minimum=1, maximum=MAX_BITS)


def check_whole_bytes(name: str, value: Any) -> int:
    """Check a width in bits that must fill its bytes: a multiple of 8 from 8 to 4096."""
    n_bits = check_int(name, value, minimum=8, maximum=MAX_BITS)
    if n_bits % 8:
        raise ValueError(f"{name} must be a multiple of 8, got {n_bits}")
    return n_bits


def check_level_bits(level_bits: Any, *, any_width: bool = False) -> tuple[int, ...]:
    """Check widths of levels in bits, coarse first: each a positive multiple of 8, together at most 4096.

    Args:
        level_bits: a sequence of integers, or an integer for one level.
        any_width: the last level may have a width that is no multiple of 8.
    """
    if isinstance(level_bits, (int, np.integer)) and not isinstance(level_bits, (bool, np.bool_)):
        level_bits = (level_bits,)
    single = isinstance(level_bits, (str, bytes)) or (isinstance(level_bits, np.ndarray) and level_bits.ndim == 0)
    if single or not isinstance(level_bits, (Sequence, np.ndarray)):
        raise TypeError(f"level_bits must be a sequence of integers, got {short(level_bits)}")
    given = list(level_bits)
    if not given:
        raise ValueError(f"level_bits must name at least one level, got {short(level_bits)}")
    widths = (
        *(check_whole_bytes("level_bits", bits) for bits in given[:-1]),
        (check_width if any_width else check_whole_bytes)("level_bits", given[-1]),
    )
    if sum(widths) > MAX_BITS:
        raise ValueError(f"level_bits must sum to at most {MAX_BITS} bits, got {short(level_bits)}")
    return widths


def check_layout(level_bits: Any, n_bits: Any = None) -> tuple[int, ...]:
    """The same of an index, whose only level may be named as `n_bits` too."""
    if n_bits is not None:
        if level_bits is not LEVEL_BITS:
            raise ValueError(f"n_bits must be left out beside level_bits, got n_bits = {short(n_bits)}")
        return (check_width("n_bits", n_bits),)
    return check_level_bits(level_bits, any_width=True)


def check_bool(name: str, value: Any) -> None:
    """Check for True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {short(value)}")


def check_choice(name: str, value: Any, choices: Collection[str]) -> None:
    """Check a string that must be one of `choices`."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {short(value)}")


def check_callable(name: str, value: Any) -> None:
    """Check that a value can be called."""
    if not callable(value):
        raise TypeError(f"{name} must be callable, got {short(value)}")


def check_path(name: str, value: Any) -> None:
    """Check the path of a file or folder: a string or a `pathlib.Path`."""
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"{name} must be a path, got {short(value)}")
    if "\0" in os.fsdecode(value):  # the operating system would cut the name here
        raise ValueError(f"{name} must not contain a null byte, got {short(value)}")


def differences(now: Mapping[str, Any], was: Mapping[str, Any]) -> list[str]:
    """List the values that differ from an earlier run, as in `lr is 0.02, was 0.01`."""
    return [f"{name} is {now[name]!r}, was {was.get(name)!r}" for name in now if now[name] != was.get(name)]


def path_bytes(path: Any) -> bytes:
    """The name of a file as the operating system takes it."""
    if not isinstance(path, (str, bytes, os.PathLike)):
        in_memory = hasattr(path, "read") or hasattr(path, "write") or isinstance(path, (bytearray, memoryview))
        hint = "; to_bytes and from_bytes of an index need no file" if in_memory else ""
        raise TypeError(f"path must be the name of a file, got {short(path)}{hint}")
    name = os.fsencode(path)
    if b"\0" in name:  # the operating system would cut the name here
        hint = "; from_bytes of an index takes what a file holds" if isinstance(path, bytes) else ""
        raise ValueError(f"path must not contain a null byte, got {short(path)}{hint}")
    return name
