"""The results of a store or a `KeyedIndex`: those of an index, and the keys of the entries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasthash.results import RangeResult, SearchResult

__all__ = ["StoreRangeResult", "StoreSearchResult"]

_KeysOf = Callable[[NDArray[np.int64]], NDArray[np.object_]]


class _WithKeys:
    """What both results share. Mixed into tuples, so it has no constructor."""

    _keys_of: _KeysOf | NDArray[np.object_] | None

    @classmethod
    def _with(cls, result: tuple[Any, ...], keys_of: Any) -> Any:
        made: Any = tuple.__new__(cls, result)  # type: ignore[type-var]  # a search may take a few microseconds
        made._keys_of = keys_of
        return made

    @property
    def keys(self) -> NDArray[np.object_]:
        """The keys of the entries when the search began, in the shape of `ids`; None in places without a neighbour.

        They are looked up when they are first asked for.

        Raises:
            ValueError: the entries of the store have no keys.
        """
        return _looked_up(self)

    @property
    def has_keys(self) -> bool:
        """Whether the entries of the store have keys."""
        return self._keys_of is not None

    def __reduce__(self) -> tuple[Any, ...]:
        fields: Any = self
        return _rebuilt, (type(self), tuple(fields), _looked_up(self) if self.has_keys else None)


class StoreSearchResult(_WithKeys, SearchResult):
    """The k nearest codes of each query, ordered by (distance, id); `keys` has the shape of `ids`."""


class StoreRangeResult(_WithKeys, RangeResult):
    """All codes within a radius of each query; `keys` has the shape of `ids`."""


def _looked_up(result: Any) -> NDArray[np.object_]:
    if callable(result._keys_of):
        result._keys_of = result._keys_of(result.ids)
    if result._keys_of is None:
        raise ValueError("keys are those of a store with keys; the entries of this one have ids alone")
    keys: NDArray[np.object_] = result._keys_of
    return keys


def _rebuilt(kind: Any, fields: tuple[Any, ...], keys: NDArray[np.object_] | None) -> Any:
    made = kind(*fields)
    made._keys_of = keys
    return made
