"""`IdFilter`: the set of ids that a search may return."""

from __future__ import annotations

from collections.abc import Set
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fasthash import _core
from fasthash._arrays import as_array, as_int64, as_integers, check_one_axis, hint_of_keys, in_words
from fasthash._checks import check_choice, check_int, is_int64
from fasthash._shown import counted

__all__ = ["IdFilter", "core_filter"]

_LONGEST_RANGE = 2**32  # an index holds fewer codes


class IdFilter:
    """A set of ids that a search may return, for use in many searches.

    A search with a filter returns the results of an index that holds only these ids. For a narrow filter, the first
    search copies the allowed codes into a small index. The filter keeps that index for later searches, until the main
    index changes. Several threads may use one filter. A pickled filter holds its ids only.

    Args:
        allowed: integer array, list, set or range of ids, in any order; repeated ids are allowed. Or bool array `mask`,
            where `mask[i]` tells whether id i is allowed; `from_bitmap` takes one that is packed. Ids that are not in
            the index have no effect.

    Raises:
        TypeError: neither integers nor bool.
        ValueError: not one-dimensional, an id does not fit int64, a range of more than 2^32 ids, or more than two
            integers that are all 0 or 1, as a mask of another dtype has them.

    Examples:
        >>> index = FlatIndex(n_bits=8)
        >>> index.add(np.array([[0], [1], [3]], dtype=np.uint8))
        >>> index.search(np.array([[0]], dtype=np.uint8), k=1, allow=IdFilter([1, 2]))
        SearchResult(distances=array([[1]], dtype=int32), ids=array([[1]]))
    """

    _impl: _core.IdFilter

    def __init__(self, allowed: ArrayLike | Set[int] | range) -> None:
        self._impl = core_filter("allowed", allowed)
        self._impl.set_reusable()

    @classmethod
    def from_bitmap(cls, bitmap: ArrayLike, *, bitorder: Literal["big", "little"] = "big") -> IdFilter:
        """Make a filter of a packed mask, in which bit i tells whether id i is allowed.

        Args:
            bitmap: uint8 array `(n,)`, as `numpy.packbits` packs a mask of 8 n ids.
            bitorder: as of `numpy.packbits`; `"little"` is that of faiss's `IDSelectorBitmap` and of Arrow.

        Raises:
            TypeError: `bitmap` is not uint8.
            ValueError: `bitmap` does not have one axis, or `bitorder` is unknown.

        Examples:
            >>> IdFilter.from_bitmap(np.packbits([True, False, True]))
            IdFilter of 2 ids
        """
        check_choice("bitorder", bitorder, ("big", "little"))
        array = as_array("bitmap", bitmap)
        if array.dtype != np.uint8:
            raise TypeError(f"bitmap must be a uint8 array of packed bits, got dtype {array.dtype}")
        if array.ndim != 1:
            raise ValueError(f"bitmap must have one axis, got shape {array.shape}")
        return cls(np.unpackbits(array, bitorder=bitorder).astype(bool))

    def __len__(self) -> int:
        return len(self._impl)

    def __bool__(self) -> bool:
        return True  # a filter that allows nothing is a filter

    def __contains__(self, id: Any) -> bool:
        return is_int64(check_int("id", id)) and id in self._impl

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._impl.ids(),)

    def __copy__(self) -> IdFilter:
        return self  # it never changes

    def __deepcopy__(self, memo: dict[int, Any]) -> IdFilter:
        return self

    def __repr__(self) -> str:
        return f"IdFilter of {counted(len(self), 'id')}"

    @property
    def nbytes(self) -> int:
        """Bytes of memory, including the small indices that searches have made."""
        return self._impl.nbytes()


def core_filter(name: str, allowed: Any, n_ids: int = 0) -> _core.IdFilter:
    """Make a filter of the core; a mask must have a value for each of `n_ids` ids."""
    if isinstance(allowed, range):
        allowed = _ids_of_range(name, allowed)
    elif isinstance(allowed, Set):
        allowed = list(allowed)
        if any(isinstance(id, (bool, np.bool_)) for id in allowed):
            raise TypeError(f"{name} must be a set of integers, got one with a bool")
    array = as_integers(name, allowed)
    if array.dtype.kind not in "iub":
        hint = hint_of_keys(array)
        raise TypeError(f"{name} must be an integer array of ids or a bool mask, got dtype {array.dtype}{hint}")
    check_one_axis(name, array)
    if array.dtype.kind != "b":
        if _is_like_mask(array):
            raise ValueError(
                f"{name} must be a list of ids, got {len(array)} integers that are all 0 or 1; a mask must have dtype "
                "bool, and IdFilter.from_bitmap takes a bitmap"
            )
        return _core.IdFilter.of_ids(in_words(as_int64(name, array)))
    array = in_words(array)
    if len(array) < n_ids:
        raise ValueError(f"{name} must have an entry for every id up to {n_ids - 1}, got {len(array)} entries")
    return _core.IdFilter.of_mask(array)


def _is_like_mask(array: NDArray[Any]) -> bool:
    """Whether integers are only zeros and ones, and more than distinct ids could be."""
    # Three distinct ids are not all 0 or 1, so a long list of ids is not read.
    return len(array) > 2 and all(((part == 0) | (part == 1)).all() for part in (array[:3], array))


def _ids_of_range(name: str, ids: range) -> NDArray[np.int64]:
    if not ids:
        return np.empty(0, np.int64)
    if not (is_int64(ids[0]) and is_int64(ids[-1])):
        raise ValueError(f"{name} must fit int64, got {ids}")
    n = (abs(ids[-1] - ids[0])) // abs(ids.step) + 1
    if n > _LONGEST_RANGE:
        raise ValueError(f"{name} must be a range of at most {_LONGEST_RANGE} ids, got {n} in {ids}")
    if n <= 3:  # whose step may be beyond int64
        return np.array(list(ids), np.int64)
    return ids[0] + np.arange(n, dtype=np.int64) * ids.step
