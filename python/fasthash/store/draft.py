"""What a writer has added since the last commit: an index in memory, and the keys of its entries."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasthash._core import HierIndex
from fasthash.store.keymap import KeyMap

__all__ = ["Draft"]


class Draft:
    """Entries that are not yet committed. Views share the map of their keys."""

    def __init__(self, index: HierIndex) -> None:
        self.index = index
        self.map = KeyMap()

    def __len__(self) -> int:
        return len(self.index)

    def add(self, codes: NDArray[np.uint8], ids: NDArray[np.int64], keys: list[Any] | None) -> None:
        """Add entries.

        Raises:
            ValueError: an id is -1, is given twice, or is in the draft.
        """
        self.index.add(codes, ids)
        if keys is not None:
            self.map = self.map.plus(ids, keys)
