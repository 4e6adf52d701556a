"""What a writer has added since the last commit: an index in memory, and the keys of its entries."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasthash._core import HierIndex
from fasthash.store.kinds import Key

__all__ = ["Draft"]


class Draft:
    """Entries that are not yet committed.

    `keys` and `ids` also hold entries that were removed from the draft again: views share these dictionaries, and find
    by the index which entries are theirs.
    """

    def __init__(self, index: HierIndex) -> None:
        self.index = index
        self.keys: dict[int, Key] = {}
        self.ids: dict[Key, int] = {}

    def __len__(self) -> int:
        return len(self.index)

    def add(self, codes: NDArray[np.uint8], ids: NDArray[np.int64], keys: list[Any] | None) -> None:
        """Add entries.

        Raises:
            ValueError: an id is -1, is given twice, or is in the draft.
        """
        self.index.add(codes, ids)
        if keys is None:
            return
        numbers = ids.tolist()
        if not self.keys.keys().isdisjoint(numbers):  # removed entries, whose keys views still tell
            self.keys = dict(self.keys)
        self.keys.update(zip(numbers, keys, strict=True))
        self.ids.update(zip(keys, numbers, strict=True))
