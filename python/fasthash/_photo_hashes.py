"""The perceptual hashes of the photos of a folder, kept in a folder of their own from run to run.

Called by `fasthash.dedup`; `_hashed_files` says when a hash counts for a file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasthash._hashed_files import HashedFiles, Stamp, stamp_of
from fasthash._saved_folder import CARD_NAME, Card, check_file, write_folder
from fasthash._saved_kinds import HASH_KINDS, check_photos, load_codes, load_folder
from fasthash.index import HierIndex

__all__ = ["PhotoHashes", "Stamp", "stamp_of"]

_KIND = "PhotoHashes"


class PhotoHashes(HashedFiles[NDArray[np.uint8]]):
    """Codes of photos by their paths, each with the stamp of the file.

    Args:
        folder: of the photos.
        hash_bits: width of the codes.
        background: of transparent photos, as `#rrggbb`.
        turned: whether the codes can be turned, see `fasthash._phash`.
    """

    def __init__(self, folder: str, hash_bits: int, background: str = "#ffffff", turned: bool = False) -> None:
        super().__init__(folder)
        self.hash_bits, self.background, self.turned = hash_bits, background, turned

    def load(self, state: str | os.PathLike[str]) -> None:
        """Take what `save` has written into `state`; nothing where there is no card yet.

        Raises:
            FormatError: the state is damaged.
            ValueError: it is of another width, kind, background or folder. A folder that is gone may have been moved.
        """
        place = Path(state)
        if not (place / CARD_NAME).exists():
            return

        def of(card: Card) -> tuple[Card, NDArray[np.uint8]]:
            index = load_codes(check_file(place, card, "codes.fh", whole=False), len(card["photos"]))
            check_photos(index, card)
            return card, index.reconstruct(np.array([id for _, id, *_ in card["photos"]], dtype=np.int64))

        card, codes = load_folder(place, _KIND, of)
        # A card of the first release tells no background.
        before = {"background": self.background} | card | {"turned": card["hash"] == HASH_KINDS[True]}
        self._check_same(before, ("hash_bits", "turned", "background"), os.fspath(state))
        for (path, _, n_bytes, time, *sample), code in zip(card["photos"], codes, strict=True):
            self._files[path] = Stamp(n_bytes, time, *(sample or [""])), code

    def save(self, state: str | os.PathLike[str]) -> None:
        """Write all into a folder, as a whole."""
        photos = [(path, id, *self._files[path][0]) for id, path in enumerate(self._files)]
        facts: dict[str, Any] = {
            "hash": HASH_KINDS[self.turned],
            "hash_bits": self.hash_bits,
            "background": self.background,
        }
        write_folder(state, _KIND, facts | {"folder": self.folder, "photos": photos}, {"codes.fh": self.index().save})
        self.n_unsaved = 0

    def index(self) -> HierIndex:
        """The codes; ids count the paths."""
        index = HierIndex((self.hash_bits,))
        index.add(self.codes_of(self._files))
        return index

    def codes_of(self, paths: Iterable[str]) -> NDArray[np.uint8]:
        """Codes `(n, hash_bits / 8)` of some photos."""
        return np.array([self._files[path][1] for path in paths], np.uint8).reshape(-1, self.hash_bits // 8)
