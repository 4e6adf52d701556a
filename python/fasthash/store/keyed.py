"""`KeyedIndex`: an index in memory, or on a GPU, whose entries have keys as those of a `Store` have."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from copy import deepcopy
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fasthash._checks import check_codes, check_ids
from fasthash._flat_index import FlatIndex
from fasthash._hier_index import HierIndex
from fasthash._index_base import Index
from fasthash._locks import ChangeLock
from fasthash.store.copying import store_index
from fasthash.store.held import Held
from fasthash.store.keymap import KeyMap
from fasthash.store.kinds import Key
from fasthash.store.reading import Readable

if TYPE_CHECKING:
    from typing_extensions import Self

    from fasthash.gpu import GpuFlatIndex, GpuHierIndex

__all__ = ["KeyedIndex", "keyed_index"]

_SOME = 1024  # keys of removed entries that a map may always hold


class KeyedIndex(Readable):
    """An index in memory with keys for its codes: the methods of a `Store`, without its folder and its commits.

    An index keeps ids; this class keeps the key of each id as well: a path, a name, or a key of a database. All changes
    go through it. Searches return what the index returns, with `keys`.

    Any number of threads may search while others change the index. A search sees each change completely or not at all,
    and its result has the keys of that moment.

    Args:
        index: a `FlatIndex`, a `HierIndex`, or a copy of one on a GPU. The keyed index works on a copy of it, which
            shares its memory (copy on write).
        keys: a key for each code in `index`, in the order of `index.ids()`, as in `add`. None if it is empty.

    Raises:
        TypeError: `index` is no index, or keys are not of one kind.
        ValueError: keys are missing, too many, or not distinct.

    Examples:
        >>> index = KeyedIndex(FlatIndex(16))
        >>> index.add(np.array([[0, 0], [255, 255]], dtype=np.uint8), keys=["a.jpg", "b.jpg"])
        array([0, 1])
        >>> index.search(np.array([[0, 1]], dtype=np.uint8), k=2).keys
        array([['a.jpg', 'b.jpg']], dtype=object)
    """

    def __init__(self, index: FlatIndex | HierIndex | GpuFlatIndex | GpuHierIndex, keys: Any = None) -> None:
        empty = _State(_copied(index), KeyMap(), None)
        kind, given = empty.new_keys(keys, len(empty))
        ids = empty.index.ids() if given else np.empty(0, np.int64)
        self._begin(_State(empty.searched, KeyMap().plus(ids, given or []), kind))

    def _begin(self, state: _State) -> None:
        self._state = state
        self._lock = ChangeLock()  # one change at a time; a search uses the state at its start

    @classmethod
    def _of(cls, state: _State) -> Self:
        made = cls.__new__(cls)
        made._begin(state)
        return made

    @property
    def _view(self) -> _State:
        return self._state

    # ---- changes ----

    def add(self, codes: ArrayLike, keys: Any = None, *, ids: ArrayLike | None = None) -> NDArray[np.int64]:
        """Add codes.

        Args:
            codes: uint8 array `(n, n_bits / 8)`.
            keys: a key for each code, new to the index: str, bytes, integers of 64 bits or `uuid.UUID`, at most 65,535
                bytes each. The first addition decides about the kind of all keys.
            ids: integer array `(n,)` of ids, as in `HierIndex.add`. None counts on from the largest so far.

        Returns:
            The ids, int64 `(n,)`.

        Raises:
            TypeError: wrong dtype, or a key of another kind.
            ValueError: wrong shape, or keys or ids that are missing, or not new and distinct. Nothing is added.
        """
        array = check_codes("codes", codes, self.n_bits)
        given_ids = None if ids is None else check_ids(ids, len(array))
        with self._lock("add"):
            state = self._state
            kind, given = state.new_keys(keys, len(array))
            numbers = state.new_ids(given_ids, len(array))
            if given:
                index = state.changed(lambda index: index.add(array, numbers))
                self._state = _State(index, state.map.plus(numbers, given), kind)
            return numbers

    def update(self, keys: Any = None, codes: ArrayLike | None = None, *, ids: ArrayLike | None = None) -> None:
        """Replace the codes of some keys or ids; these stay.

        Args:
            keys: distinct keys in the index.
            codes: uint8 array `(n, n_bits / 8)`, the new codes.
            ids: distinct ids in the index, instead of keys.

        Raises:
            TypeError: wrong dtype, or a key of another kind.
            ValueError: wrong shape, or a key or id is not in the index or is given twice. Nothing changes.
        """
        if codes is None:
            raise ValueError("codes must be given")
        array = check_codes("codes", codes, self.n_bits)
        given = None if ids is None else check_ids(ids)
        with self._lock("update"):
            state = self._state
            numbers = state.named(keys, given, len(array))
            self._state = _State(state.changed(lambda index: index.update(numbers, array)), state.map, state.kind_name)

    def remove(self, keys: Any = None, *, ids: ArrayLike | None = None) -> None:
        """Remove entries.

        Args:
            keys: distinct keys in the index.
            ids: distinct ids in the index, instead of keys.

        Raises:
            TypeError: wrong dtype, or a key of another kind.
            ValueError: a key or id is not in the index, or is given twice. Nothing is removed.
        """
        given = None if ids is None else check_ids(ids)
        with self._lock("remove"):
            state = self._state
            numbers = state.named(keys, given)
            after = _State(state.changed(lambda index: index.remove(numbers)), state.map, state.kind_name)
            n_removed = len(after.map) - len(after)
            self._state = after.tidied() if n_removed > max(_SOME, len(after) // 4) else after

    def clear(self) -> None:
        """Remove all entries, in one step; the index is as a new one, and the next addition decides about its keys."""
        with self._lock("clear"):
            self._state = _State(self._state.changed(lambda index: index.clear()), KeyMap(), None)

    def compact(self) -> None:
        """Merge all segments into one, as `HierIndex.compact`, and drop the keys of removed entries."""
        with self._lock("compact"):
            state = self._state
            self._state = _State(state.changed(lambda index: index.compact()), state.map, state.kind_name).tidied()

    # ---- whole indices ----

    def copy(self) -> Self:
        """Return an independent index with the same entries; codes are shared (copy on write), the keys copied."""
        copied = self._of(self._state.tidied())
        vars(copied).update(self._attributes())
        return copied

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        copied = self._of(self._state.tidied())
        memo[id(self)] = copied  # an attribute may refer to this index
        vars(copied).update(deepcopy(self._attributes(), memo))
        return copied

    def _attributes(self) -> dict[str, Any]:
        """The attributes that a caller or a subclass has set."""
        return {name: value for name, value in vars(self).items() if name not in ("_state", "_lock")}

    def to(self, device: Any, *, max_bytes: int | None = None) -> Self:
        """Return an index with the same entries on a GPU; arguments and errors as in `FlatIndex.to`.

        Returns:
            A `KeyedIndex` of a copy on the GPU, or this index if it is on the device already.
        """
        state = self._state
        moved = state.searched.to(device, max_bytes=max_bytes)
        return self if moved is state.searched else self._of(_State(moved, state.tidied().map, state.kind_name))

    def to_index(self) -> FlatIndex | HierIndex | GpuFlatIndex | GpuHierIndex:
        """Return a copy of the index, without keys; codes are shared (copy on write)."""
        index: FlatIndex | HierIndex | GpuFlatIndex | GpuHierIndex = self._state.searched.copy()
        return index

    def to_store(self, path: str | os.PathLike[str]) -> None:
        """Write the entries, with their ids and keys, to a new `Store`; `Store(path)` opens it.

        Args:
            path: folder of the new store.

        Raises:
            FileExistsError: `path` holds a store already, or something else.
            OSError: the operating system refused a step.
        """
        state = self._state
        store_index(path, state.index, state.keys_for(state.index.ids()))

    def save(self, *arguments: Any, **options: Any) -> NoReturn:
        """Raise TypeError: an index file has no place for keys. `to_store` writes both, and pickle works."""
        raise TypeError(
            "save writes index files, which hold no keys; to_store(path) writes a folder with both, and "
            "to_index().save(path) a file without keys"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        state = self._state
        held = state.searched, state.keys_for(state.index.ids()), state.kind_name
        return _rebuilt, (*held, type(self)), self._attributes() or None

    # ---- properties ----

    @property
    def ntotal(self) -> int:
        """Number of codes, the same as `len(index)`."""
        return len(self)

    def __repr__(self) -> str:
        return f"KeyedIndex({self._state.searched!r})"


class _State(Held):
    """A keyed index at one moment.

    Args:
        searched: the index that searches; nobody changes it.
        map: the keys of its entries, and others; changes only add to it.
        kind_name: kind of all keys, None before the first.
    """

    noun = "index"

    def __init__(self, searched: Any, map: KeyMap, kind_name: str | None) -> None:
        index = searched if isinstance(searched, Index) else searched._index  # on the CPU
        super().__init__(index, kind_name, index._impl.next_id())
        self.searched, self.map = searched, map

    def changed(self, change: Callable[[Any], object]) -> Any:
        """A changed copy of the index."""
        copied = self.searched.copy()
        change(copied)
        return copied

    def tidied(self) -> _State:
        """The same with a map of its own, without the keys of removed entries."""
        ids = np.array(list(self.map.keys), np.int64)  # a thread may add to the map
        return _State(self.searched, self.map.only(ids[self.places(ids)[0] >= 0]), self.kind_name)

    # ---- searches ----

    def search(self, queries: Any, k: Any, keep: Any, keep_mode: Any, max_compared: Any, allow: Any, stats: Any) -> Any:
        index = self.searched
        if isinstance(index, HierIndex):
            return index._search(queries, k, keep, keep_mode, allow, stats, max_compared)
        mode = None if isinstance(keep_mode, str) and keep_mode == "node_ratio" else keep_mode
        given = {"keep": keep, "keep_mode": mode, "max_compared": max_compared, "allow": allow}
        return index.search(queries, k, **self._options(index.search, given, stats))

    def range_search(self, queries: Any, radius: Any, allow: Any, stats: Any) -> Any:
        search = self.searched.range_search
        return search(queries, radius, **self._options(search, {"allow": allow}, stats))

    def count_within(self, queries: Any, radius: Any, allow: Any) -> NDArray[np.int64]:
        counts: NDArray[np.int64] = self.searched.count_within(queries, radius, allow=allow)
        return counts

    def _options(self, search: Callable[..., Any], given: dict[str, Any], stats: Any) -> dict[str, Any]:
        """The options that are given.

        Raises:
            ValueError: the search takes no such option.
        """
        options = {name: value for name, value in given.items() if value is not None}
        if stats is not False:
            options["stats"] = stats
        for name, value in options.items():
            if name not in inspect.signature(search).parameters:
                kind = type(self.searched).__name__
                raise ValueError(f"{name} must be left out: a {kind} does not take it, got {value!r}")
        return options

    # ---- keys ----

    def new_keys(self, keys: Any, n: int) -> tuple[str | None, list[Key] | None]:
        if keys is None and n:
            raise ValueError("keys must be given: every entry of this index has one")
        return super().new_keys(keys, n)

    def ids_of(self, keys: Any) -> NDArray[np.int64]:
        if self.kind is None or not len(keys):
            return np.full(len(keys), -1, np.int64)
        self.kind.encoded(keys, self.noun)  # raises for other kinds
        ids = self.map.ids_of(keys)
        known = np.flatnonzero(ids != -1)
        if len(known):
            ids[known[self.places(ids[known])[0] < 0]] = -1  # removed since
        return ids

    def keys_of(self, ids: NDArray[np.int64]) -> NDArray[np.object_]:
        self.held_places(np.ascontiguousarray(ids).ravel())
        return self._keys_of_result(ids)

    @property
    def keys_of_result(self) -> Any:
        return self._keys_of_result

    def _keys_of_result(self, ids: Any) -> NDArray[np.object_]:
        array = ids if isinstance(ids, np.ndarray) else ids.cpu().numpy()  # of a search with queries on a GPU
        keys = np.empty(array.size, object)
        keys[:] = list(map(self.map.keys.get, array.ravel().tolist()))
        return keys.reshape(array.shape)

    def keys_for(self, ids: NDArray[np.int64]) -> Any:
        """The keys of ids, as `add` takes them."""
        keys = list(map(self.map.keys.__getitem__, ids.tolist()))
        return keys if self.kind is None else self.kind.as_argument(keys)


def _copied(index: Any) -> Any:
    """A copy of an index; raises TypeError if it is none."""
    if not isinstance(index, Index):
        from fasthash.gpu import GpuFlatIndex, GpuHierIndex

        if not isinstance(index, (GpuFlatIndex, GpuHierIndex)):
            kind = type(index).__name__
            raise TypeError(f"index must be a FlatIndex or HierIndex, or a copy of one on a GPU, got {kind}")
    return index.copy()


def keyed_index(held: Held) -> KeyedIndex:
    """Make a keyed index with the codes, ids and keys of a store; see `Store.to_keyed`."""
    ids = held.index.ids()
    keys = held.keys_of(ids).tolist() if len(ids) or held.kind_name == "none" else []
    return _rebuilt(held.index, keys if held.kind is None else held.kind.as_argument(keys), held.kind_name)


def _rebuilt(index: Any, keys: Any, kind_name: str | None, made: type[KeyedIndex] = KeyedIndex) -> KeyedIndex:
    state = KeyedIndex(index, keys)._state
    return made._of(_State(state.searched, state.map, kind_name))
