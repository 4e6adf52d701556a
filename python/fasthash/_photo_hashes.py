"""The perceptual hashes of the photos of a folder, kept in a folder of their own from run to run.

Called by `fasthash.dedup`. A hash counts for a file of the same path, size, time and content, of which a sample is
read: sizes and times alone are equal where files were swapped, or unpacked with their old times.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fasthash._photo_files import check_regular
from fasthash._saved_folder import CARD_NAME, Card, check_file, write_folder
from fasthash._saved_kinds import HASH_KINDS, check_photos, load_codes, load_folder
from fasthash.index import HierIndex

__all__ = ["PhotoHashes", "Stamp", "stamp_of"]

_KIND = "PhotoHashes"
_END = 1 << 16  # bytes at both ends of a file that are looked at
_N_SAMPLES, _SAMPLE = 16, 1 << 12  # and pieces between


class Stamp(NamedTuple):
    """Identify a file and its content."""

    n_bytes: int
    time: int
    """When it was last written, in nanoseconds."""

    sample: str
    """Checksum of a sample of its bytes; empty for one that no file has, as of a state of the first release."""


def stamp_of(path: str | os.PathLike[str]) -> Stamp:
    """The stamp of a file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not a regular file.
    """
    n_bytes = check_regular(path)
    digest = hashlib.blake2b(digest_size=8)
    with open(path, "rb", buffering=0) as file:
        digest.update(file.read(_END))
        between = n_bytes - 2 * _END
        for number in range(_N_SAMPLES if between > 0 else 0):
            file.seek(_END + between * number // _N_SAMPLES)
            digest.update(file.read(_SAMPLE))
        file.seek(max(_END, n_bytes - _END))
        digest.update(file.read(_END))
        facts = os.fstat(file.fileno())
    return Stamp(facts.st_size, facts.st_mtime_ns, digest.hexdigest())


class PhotoHashes:
    """Codes of photos by their paths, each with the stamp of the file.

    Args:
        folder: of the photos.
        hash_bits: width of the codes.
        background: of transparent photos, as `#rrggbb`.
        turned: whether the codes can be turned, see `fasthash._phash`.
    """

    def __init__(self, folder: str, hash_bits: int, background: str = "#ffffff", turned: bool = False) -> None:
        self.folder, self.hash_bits, self.background = os.path.realpath(folder), hash_bits, background
        self.turned = turned
        # One entry is the whole of a change, so that an interruption leaves each photo as it was or as it is.
        self._photos: dict[str, tuple[Stamp, NDArray[np.uint8]]] = {}
        self.n_unsaved = 0

    def __len__(self) -> int:
        return len(self._photos)

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
        self._check_same(card, os.fspath(state))
        for (path, _, n_bytes, time, *sample), code in zip(card["photos"], codes, strict=True):
            self._photos[path] = Stamp(n_bytes, time, *(sample or [""])), code

    def _check_same(self, card: Card, state: str) -> None:
        before = {"background": self.background} | card | {"turned": card["hash"] == HASH_KINDS[True]}
        for name in ("hash_bits", "turned", "background"):
            if (was := before[name]) != (now := getattr(self, name)):
                raise ValueError(
                    f"{name} must be {was}, as in the state {state!r}, got {now}; such hashes need a state of their own"
                )
        was = card.get("folder", self.folder)
        if was != self.folder and os.path.isdir(was) and not os.path.samefile(was, self.folder):
            raise ValueError(
                f"folder must be {was!r}, whose hashes the state {state!r} holds, got {self.folder!r}; "
                "each folder needs a state of its own"
            )

    def save(self, state: str | os.PathLike[str]) -> None:
        """Write all into a folder, as a whole."""
        photos = [(path, id, *self._photos[path][0]) for id, path in enumerate(self._photos)]
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
        index.add(self.codes_of(self._photos))
        return index

    @property
    def paths(self) -> list[str]:
        """Of all photos, in the order of the ids."""
        return list(self._photos)

    def codes_of(self, paths: Iterable[str]) -> NDArray[np.uint8]:
        """Codes `(n, hash_bits / 8)` of some photos."""
        return np.array([self._photos[path][1] for path in paths], np.uint8).reshape(-1, self.hash_bits // 8)

    def stamp(self, path: str) -> Stamp | None:
        """The stamp that a file had when it was hashed; None for one that is not known."""
        found = self._photos.get(path)
        return found and found[0]

    def put(self, path: str, stamp: Stamp, code: NDArray[np.uint8]) -> None:
        """Take in the code of a photo, in place of an earlier one."""
        self._photos[path] = stamp, code
        self.n_unsaved += 1

    def drop(self, path: str) -> None:
        """Forget a photo, if it is known."""
        self._photos.pop(path, None)

    def keep_only(self, paths: Collection[str]) -> None:
        """Forget the photos that are not among these."""
        kept = set(paths)
        self._photos = {path: photo for path, photo in self._photos.items() if path in kept}
