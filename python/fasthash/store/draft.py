"""What a writer has added since the last commit: an index in memory, and the keys of its entries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasthash._core import HierIndex
from fasthash.store.keymap import KeyMap

__all__ = ["Draft"]


@dataclass(frozen=True, eq=False)
class Draft:
    """Entries that are not yet committed. Never changes: a change makes another one, which shares memory."""

    index: HierIndex
    map: KeyMap  # the keys of the entries, and others

    def __len__(self) -> int:
        return len(self.index)

    def changed(self, change: Callable[[HierIndex], object]) -> Draft:
        """The draft after a change of its index."""
        index = self.index.copy()
        change(index)
        return Draft(index, self.map)

    def plus(self, codes: NDArray[np.uint8], ids: NDArray[np.int64], keys: list[Any] | None) -> Draft:
        """The draft with more entries.

        Raises:
            ValueError: an id is -1, is given twice, or is in the draft.
        """
        index = self.changed(lambda index: index.add(codes, ids)).index
        return Draft(index, self.map if keys is None else self.map.plus(ids, keys))
