"""Codes of many images as a folder of parts: a card that describes the run, and a file for each part.

A part is written as a whole or not at all and never changes, so the existing files tell which parts are done.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fasthash._checks import check_path, code_bytes, differences
from fasthash._core import FormatError
from fasthash._durable import named_in_errors, put
from fasthash._folder_lock import locked
from fasthash._npy import read_npz
from fasthash._saved_folder import CARD_NAME, refuse_others, write_folder
from fasthash._saved_kinds import load_folder

__all__ = ["EncodedPart", "EncodedParts"]

_KIND = "EncodedParts"


class EncodedPart(NamedTuple):
    """Codes of the images of a part.

    Attributes:
        codes: uint8 `(n, n_bits / 8)`.
        keys: of the n images: a path, `shard.tar/member`, `file.parquet/row`, or what a key column holds.
        broken: pairs (key, reason) of what could not be read.
    """

    codes: NDArray[np.uint8]
    keys: list[str]
    broken: list[tuple[str, str]]


class EncodedParts:
    """The output of `encode_images`: a sequence of parts in the order of the source, read one at a time.

    Args:
        folder: where it was written.

    Attributes:
        folder: the same.
        level_bits: bits of each level of the codes, coarse first.
        source: where the images were.

    Raises:
        FileNotFoundError: `folder` has no card.
        FormatError: the card is that of something else, or damaged.

    Examples:
        >>> parts = EncodedParts("codes")
        >>> index = fh.HierIndex(parts.level_bits)
        >>> for codes, keys, broken in parts:
        ...     index.add(codes)
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        check_path("folder", folder)
        self.folder = Path(folder)
        self._card = load_folder(folder, _KIND, lambda card: card)
        self.level_bits: tuple[int, ...] = tuple(self._card["level_bits"])
        self.source: str = self._card["source"]

    @classmethod
    def begin(cls, folder: str | os.PathLike[str], facts: Mapping[str, Any]) -> EncodedParts:
        """Make a folder for the run that these facts describe, or go on with the parts that are there.

        Raises:
            FileExistsError: `folder` holds something else, or parts without a card.
            ValueError: it holds the parts of a run with other facts.
        """
        folder = Path(folder)
        if not (folder / CARD_NAME).exists():
            if folder.is_dir() and any(folder.glob("part-*.npz")):
                raise FileExistsError(f"output={os.fspath(folder)!r} holds parts without a {CARD_NAME}")
            refuse_others("output", folder)
            write_folder(folder, _KIND, facts, {}, replace=False)
        try:
            parts = cls(folder)
        except FormatError as error:
            raise FileExistsError(f"output={os.fspath(folder)!r} holds something else: {error}") from error
        if differ := differences(facts, parts._card):
            raise ValueError(f"output={os.fspath(folder)!r} holds codes of another run: {'; '.join(differ)}")
        return parts

    def __len__(self) -> int:
        """Number of parts, those included that are missing yet."""
        return self._card["n_parts"]

    @property
    def missing(self) -> list[int]:
        """Numbers of the parts that are not encoded yet."""
        there = {entry.name for entry in os.scandir(self.folder)}
        return [number for number in range(len(self)) if self._path(number).name not in there]

    @property
    def broken(self) -> list[tuple[str, str]]:
        """Pairs (key, reason) of all that could not be read, sorted; folders below the source included."""
        found = [tuple(pair) for pair in self._card["unreadable"]]
        return sorted(found + [pair for part in self for pair in part.broken])

    def __iter__(self) -> Iterator[EncodedPart]:
        """Read one part after the other.

        Raises:
            ValueError: some are missing; encode again, which goes on where it stopped.
            FormatError: as of `parts[number]`.
        """
        if missing := self.missing:
            raise ValueError(f"{self.folder} lacks {len(missing)} of {len(self)} parts: encoding was stopped")
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, number: int) -> EncodedPart:
        """Read a part.

        Raises:
            FormatError: its file is damaged.
            IndexError: there is no part of this number.
            FileNotFoundError: it is missing.
        """
        if not 0 <= number < len(self):
            raise IndexError(f"number must be 0 to {len(self) - 1}, got {number}")
        path = self._path(number)
        try:
            arrays = read_npz(path, {"codes": ("u", 2), "keys": ("U", 1), "broken": ("U", 2)})
            codes, keys, broken = (arrays[name] for name in EncodedPart._fields)
            if (
                codes.dtype != np.uint8
                or codes.shape != (len(keys), code_bytes(sum(self.level_bits)))
                or broken.shape[1] != 2
            ):
                raise FormatError(f"{path} holds codes of shape {codes.shape} and {len(keys)} keys")
            return EncodedPart(codes, keys.tolist(), [(key, reason) for key, reason in broken.tolist()])
        except ValueError as error:  # FormatError, and text that is none
            raise FormatError(f"{error}; remove it and encode again") from error

    def write(self, number: int, part: EncodedPart) -> None:
        """Write the file of a part; a kill leaves no part of it that `missing` would take for the whole.

        Raises:
            OSError: the operating system refused a step; nothing is left.
        """
        path = self._path(number)
        draft = path.with_suffix(".tmp")
        keys = np.array(part.keys, np.str_)
        broken = np.array(part.broken, np.str_).reshape(-1, 2)
        with locked(self.folder):  # another run may be writing the same part
            try:
                with named_in_errors(draft), open(draft, "wb") as file:
                    np.savez_compressed(file, codes=part.codes, keys=keys, broken=broken)
                put(draft, path)
            except BaseException:
                draft.unlink(missing_ok=True)
                raise

    def _path(self, number: int) -> Path:
        return self.folder / f"part-{number:06}.npz"
