"""`KeyMap`: the keys of entries in memory, in both directions; of the draft of a writer, and of a `KeyedIndex`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fasthash.store.kinds import Key

__all__ = ["KeyMap"]


class KeyMap:
    """Keys by id, and ids by key.

    The map also holds keys of removed entries, for results of earlier searches: the index of these entries says which
    of them are there. `keys` never changes for an id, so that all moments share the map. `ids` is only a hint: the id
    of a removed key may belong to another key by now, which `keys` tells.
    """

    def __init__(self, keys: dict[int, Key] | None = None, ids: dict[Key, int] | None = None) -> None:
        self.keys: dict[int, Key] = {} if keys is None else keys
        self.ids: dict[Key, int] = {} if ids is None else ids

    def __len__(self) -> int:
        return len(self.keys)

    def plus(self, ids: NDArray[np.int64], keys: Sequence[Key]) -> KeyMap:
        """Return a map with these entries too: this one, or a copy if an id was that of a removed entry."""
        numbers = ids.tolist()
        after = self if self.keys.keys().isdisjoint(numbers) else KeyMap(dict(self.keys), self.ids)
        after.keys.update(zip(numbers, keys, strict=True))
        after.ids.update(zip(keys, numbers, strict=True))
        return after

    def only(self, ids: NDArray[np.int64]) -> KeyMap:
        """Return a new map of these entries alone."""
        keys = {id: self.keys[id] for id in ids.tolist()}
        return KeyMap(keys, {key: id for id, key in keys.items()})

    def ids_of(self, keys: Sequence[Key]) -> NDArray[np.int64]:
        """The id of each key, -1 for one that has none; it may be that of a removed entry."""
        id_of, key_of = self.ids.get, self.keys.get
        found = [id_of(key, -1) for key in keys]
        return np.array([id if key_of(id) == key else -1 for id, key in zip(found, keys, strict=True)], np.int64)
