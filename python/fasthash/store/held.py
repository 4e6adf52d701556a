"""`Held`: entries and their keys at one moment, and what changes of them must obey; of a store or a `KeyedIndex`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fasthash._arrays import counted_ids
from fasthash._checks import own_ids
from fasthash._index_base import Index
from fasthash._shown import short
from fasthash.store.kinds import KINDS, Key, KeyKind, as_list, kind_of

__all__ = ["Held"]


class Held:
    """Base class of what a store or a `KeyedIndex` holds at one moment; never changes.

    Args:
        index: the entries.
        kind_name: kind of all keys; "none" for entries without keys, None before the first entry.
        next_id: the next automatic id.
    """

    noun: ClassVar[str] = "store"  # in errors

    def __init__(self, index: Index, kind_name: str | None, next_id: int) -> None:
        self.index = index
        self.kind_name, self.next_id = kind_name, next_id
        self.kind: KeyKind | None = KINDS.get(kind_name or "")

    def __len__(self) -> int:
        return len(self.index)

    # ---- subclasses define these ----

    def ids_of(self, keys: Sequence[Key]) -> NDArray[np.int64]:
        """The id of each key, -1 for one that is not held.

        Raises:
            TypeError: a key is of another kind than those held.
        """
        raise NotImplementedError

    def keys_of(self, ids: NDArray[np.int64]) -> NDArray[np.object_]:
        """The key of each id, in the shape of `ids`.

        Raises:
            ValueError: an id is not held, or the entries have no keys.
        """
        raise NotImplementedError

    @property
    def keys_of_result(self) -> Any:
        """A function that returns the keys of a result, None for the id -1; None if the entries have no keys."""
        raise NotImplementedError

    def search(self, queries: Any, k: Any, keep: Any, keep_mode: Any, max_compared: Any, allow: Any, stats: Any) -> Any:
        """Search as the index does."""
        raise NotImplementedError

    def range_search(self, queries: Any, radius: Any, allow: Any, stats: Any) -> Any:
        """Search by radius as the index does."""
        raise NotImplementedError

    def count_within(self, queries: Any, radius: Any, allow: Any) -> NDArray[np.int64]:
        """Count as the index does."""
        raise NotImplementedError

    # ---- look-ups ----

    def places(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Segment and entry of each id, -1 for one that is not held."""
        return self.index._impl.places(ids)

    def held_places(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Segment and entry of each id.

        Raises:
            ValueError: an id is not held.
        """
        segments, entries = self.places(ids)
        if (lost := np.flatnonzero(segments < 0)).size:
            raise ValueError(f"ids must be in the {self.noun}, but it does not hold {ids[lost[0]]}")
        return segments, entries

    def held_ids(self, keys: Sequence[Key]) -> NDArray[np.int64]:
        """The id of each key.

        Raises:
            TypeError: a key is of another kind than those held.
            ValueError: a key is not held, or the entries have no keys.
        """
        if self.kind_name == "none":
            raise ValueError(f"keys must be left out: the entries of this {self.noun} have ids alone")
        ids = self.ids_of(keys)
        if (lost := np.flatnonzero(ids == -1)).size:
            raise ValueError(f"keys must be in the {self.noun}, but it does not hold {short(keys[lost[0]])}")
        return ids

    # ---- the arguments of changes ----

    def new_keys(self, keys: Any, n: int) -> tuple[str | None, list[Key] | None]:
        """Check the keys of n new entries.

        Returns:
            The kind of all keys from now on, and the new keys; None if there are none.

        Raises:
            TypeError: a key is of another kind than those held.
            ValueError: keys are missing, too many, held already, or given twice; or there must be none.
        """
        if keys is None:
            if self.kind is not None and n:
                raise ValueError(
                    f"keys must be given: the entries of this {self.noun} have keys of the kind {self.kind_name}"
                )
            return ("none" if n else self.kind_name), None
        if self.kind_name == "none":
            raise ValueError(f"keys must be left out: the entries of this {self.noun} have ids alone")
        given = as_list("keys", keys)
        if len(given) != n:
            raise ValueError(f"keys must be {n}, one for each code, got {len(given)}")
        if not n:
            return self.kind_name, None
        kind = self.kind or kind_of(given, keys)
        kind.encoded(given, self.noun)
        _check_distinct("keys", given)
        if self.kind is not None and (held := np.flatnonzero(self.ids_of(given) != -1)).size:
            raise ValueError(f"keys must be new to the {self.noun}, but it holds {short(given[held[0]])} already")
        return kind.name, given

    def new_ids(self, ids: NDArray[np.int64] | None, n: int) -> NDArray[np.int64]:
        """The ids of n new entries; whether they are distinct and not -1 is left to the index.

        Raises:
            ValueError: an id is held already, or none are left to count on.
        """
        if ids is None:
            if self.next_id + n > 2**63:
                raise ValueError(f"ids must be given: {n} more cannot be counted from {self.next_id} on")
            return counted_ids(self.next_id, n)
        numbers = own_ids(ids, n)
        if (held := np.flatnonzero(self.places(numbers)[0] >= 0)).size:
            raise ValueError(f"ids must be new to the {self.noun}, but it holds {numbers[held[0]]} already")
        return numbers

    def named(self, keys: Any, ids: NDArray[np.int64] | None, n_codes: int | None = None) -> NDArray[np.int64]:
        """The distinct ids of the entries that keys or ids name, one for each code.

        Raises:
            TypeError: a key is of another kind than those held.
            ValueError: a key or id is not held or given twice, both or neither are given, or the codes are not as many.
        """
        if (keys is None) == (ids is None):
            raise ValueError("give either keys or ids")
        if ids is not None:
            numbers = own_ids(ids)
            self.held_places(numbers)
            _check_distinct("ids", numbers.tolist())
        else:
            given = as_list("keys", keys)
            numbers = self.held_ids(given)
            _check_distinct("keys", given)
        if n_codes is not None and n_codes != len(numbers):
            raise ValueError(f"codes must be {len(numbers)}, one for each key or id, got {n_codes}")
        return numbers


def _check_distinct(name: str, values: Sequence[Any]) -> None:
    if len(set(values)) == len(values):
        return
    seen: set[Any] = set()
    twice = next(each for each in values if each in seen or seen.add(each))  # type: ignore[func-returns-value]
    raise ValueError(f"{name} must be distinct, got {short(twice)} twice")
