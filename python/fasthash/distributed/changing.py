"""Changes of a sharded index; each change takes effect in all affected shards, or in none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fasthash._checks import check_codes, own_ids
from fasthash.distributed._ray import shared
from fasthash.distributed.merge import rows_of_shards
from fasthash.distributed.states import Sharded

__all__ = ["Changing"]

_END_OF_IDS = 1 << 63


class Changing(Sharded):
    """Adds, removes and replaces codes."""

    def add(self, codes: ArrayLike, ids: ArrayLike | None = None) -> None:
        """Add codes to the gallery.

        Args:
            codes: uint8 array `(n, n_bits / 8)`, the levels side by side, coarse first.
            ids: integer array `(n,)` of distinct values, new to the index and not -1. None numbers the codes from the
                largest id so far plus one: 0 .. n-1 in a fresh index.

        Raises:
            TypeError: wrong dtype; nothing is cast.
            ValueError: wrong shape or unacceptable ids. The index is unchanged, in all shards.
            ShardLostError: no copy of a shard is left. Nothing changes.
        """
        array = check_codes("codes", codes, self.n_bits)
        given = None if ids is None else own_ids(ids, len(array))
        with self._changing("add"):
            first = self._state.next_id
            if given is None:
                if len(array) > _END_OF_IDS - first:
                    raise ValueError(
                        f"ids must be given: counting {len(array)} on from {first} leaves the range of int64"
                    )
                given = np.uint64(first).astype(np.int64) + np.arange(len(array), dtype=np.int64)
            largest = int(given.max(initial=-1))
            self._change("add", given, lambda rows: (array[rows], given[rows]), max(first, largest + 1))

    def remove(self, ids: ArrayLike) -> None:
        """Remove codes.

        Args:
            ids: integer array `(n,)` of distinct ids in the index.

        Raises:
            TypeError: wrong dtype.
            ValueError: an id is not in the index, or is given twice. Nothing is removed.
            ShardLostError: as in `add`.
        """
        array = own_ids(ids)
        with self._changing("remove"):
            self._change("remove", array, lambda rows: (array[rows],), self._state.next_id)

    def update(self, ids: ArrayLike, codes: ArrayLike) -> None:
        """Replace the codes of some ids, all in one step.

        Args:
            ids: integer array `(n,)` of distinct ids in the index.
            codes: uint8 array `(n, n_bits / 8)`, the new codes.

        Raises:
            TypeError: wrong dtype.
            ValueError: wrong shape, or an id is not in the index or is given twice. Nothing changes.
            ShardLostError: as in `add`.
        """
        array = check_codes("codes", codes, self.n_bits)
        given = own_ids(ids, len(array))
        with self._changing("update"):
            self._change("update", given, lambda rows: (given[rows], array[rows]), self._state.next_id)

    def compact(self) -> None:
        """Compact each shard, as `HierIndex.compact`. No result changes."""
        with self._changing("compact"):
            self._apply(dict.fromkeys(range(self.n_shards), ("compact",)), self._state.next_id)

    def _change(
        self,
        method: str,
        ids: NDArray[np.int64],
        arguments: Callable[[NDArray[np.int64]], tuple[NDArray[Any], ...]],
        next_id: int,
    ) -> None:
        """Call a method on the shards of some ids; `arguments` maps row numbers to the arguments of a shard."""
        rows = rows_of_shards(ids, self.n_shards)
        calls = {
            shard: (method, *map(shared, arguments(of_shard))) for shard, of_shard in enumerate(rows) if len(of_shard)
        }
        if calls:
            self._apply(calls, next_id)
