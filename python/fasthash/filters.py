"""`IdFilter`: the set of ids that a search may return."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike

from fasthash import _core
from fasthash._checks import as_array, as_int64, check_int, in_words, is_int64
from fasthash._shown import counted

__all__ = ["IdFilter"]


class IdFilter:
    """A set of ids that a search may return, for use in many searches.

    A search with a filter returns the results of an index that holds only these ids. For a narrow filter, the first
    search copies the allowed codes into a small index. The filter keeps that index for later searches, until the main
    index changes. Several threads may use one filter. A pickled filter holds its ids only.

    Args:
        allowed: integer array of ids, in any order; repeated ids are allowed. Or bool array `mask`, where `mask[i]`
            tells whether id i is allowed. Ids that are not in the index have no effect.

    Raises:
        TypeError: neither int64 nor bool.
        ValueError: not one-dimensional.

    Examples:
        >>> index = FlatIndex(n_bits=8)
        >>> index.add(np.array([[0], [1], [3]], dtype=np.uint8))
        >>> index.search(np.array([[0]], dtype=np.uint8), k=1, allow=IdFilter([1, 2]))
        SearchResult(distances=array([[1]], dtype=int32), ids=array([[1]]))
    """

    _impl: _core.IdFilter

    def __init__(self, allowed: ArrayLike) -> None:
        self._impl = core_filter("allowed", allowed)
        self._impl.set_reusable()

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
    array = as_array(name, allowed)
    if array.dtype.kind not in "iub":
        raise TypeError(f"{name} must be an integer array of ids or a bool mask, got dtype {array.dtype}")
    if array.ndim != 1:
        raise ValueError(f"{name} must have one axis, got shape {array.shape}")
    if array.dtype.kind != "b":
        return _core.IdFilter.of_ids(in_words(as_int64(name, array)))
    array = in_words(array)
    if len(array) < n_ids:
        raise ValueError(f"{name} must have an entry for every id up to {n_ids - 1}, got {len(array)} entries")
    return _core.IdFilter.of_mask(array)
