"""Hashed photos of several folders, or of a list of hashes, and their groups and pairs of near-duplicates.

Called by `fasthash.dedup`. Photos of reference folders come first, so that a group begins with one if it has one.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fasthash._shown import for_csv
from fasthash.duplicates import near_duplicates, near_pairs
from fasthash.turning import TURNS, turned_codes

__all__ = ["Photo", "PhotoSet"]


class Photo(NamedTuple):
    """A photo of a group."""

    path: str
    """Relative to the folder."""

    n_bytes: int | None
    """None where the file is not there, as may be with hashes from a file."""

    distance: int
    """In bits from the first photo of its group; may exceed the radius where others lie between."""

    folder: str = ""
    """As the caller named it."""

    time: int | None = None
    """When the file was last written, in nanoseconds since 1970; None as `n_bytes`."""

    turn: str = TURNS[0]
    """What makes the first photo of the group this one, one of `fasthash.turning.TURNS`."""

    is_reference: bool = False
    """Whether its folder is a reference: it is to be kept."""

    @property
    def place(self) -> str:
        """The path with the folder."""
        return os.path.join(self.folder, self.path)


class PhotoSet:
    """Photos with their codes. Add reference folders before the others, and each folder in the order of its paths."""

    def __init__(self, turned: bool) -> None:
        self.turned = turned
        self.photos: list[Photo] = []
        self._codes: list[NDArray[np.uint8]] = []

    def add(self, photos: Iterable[Photo], codes: NDArray[np.uint8]) -> None:
        """Append photos with their codes `(n, n_bytes)`."""
        self.photos += photos
        self._codes.append(codes)

    def groups(self, radius: int) -> list[list[Photo]]:
        """The groups with at least one photo that is no reference."""
        if not self.photos:
            return []
        codes = self._all_codes()
        groups = near_duplicates(codes, radius, turned=self.turned)
        return [self._group(group, codes[group]) for group in groups if not self.photos[group[-1]].is_reference]

    def write_pairs(self, path: str | os.PathLike[str], radius: int) -> None:
        """Write all pairs but those of two references to a CSV file, chunk by chunk."""
        n_references = sum(photo.is_reference for photo in self.photos)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with open(path, "w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(["first", "second", "distance", "turn"])
            if n_references == len(self.photos):
                return
            codes = self._all_codes()
            ids = np.arange(n_references, len(codes))
            new, old = codes[n_references:], codes[:n_references]
            places = [for_csv(photo.place) for photo in self.photos]
            for gallery in [None, old] if n_references else [None]:
                for pairs in near_pairs(new, radius, ids, gallery=gallery, turned=self.turned):
                    columns = (column.tolist() for column in pairs)
                    for first, second, distance, turn in zip(*columns, strict=True):
                        rows.writerow([places[first], places[second], distance, TURNS[turn]])

    def _all_codes(self) -> NDArray[np.uint8]:
        return np.concatenate(self._codes)

    def _group(self, rows: NDArray[np.int64], codes: NDArray[np.uint8]) -> list[Photo]:
        first = turned_codes(codes[:1]) if self.turned else codes[None, :1]
        distances = np.unpackbits(first ^ codes, axis=2).sum(axis=2)  # (turns, photos)
        turns = distances.argmin(axis=0)
        return [
            self.photos[row]._replace(distance=int(distances[turn, i]), turn=TURNS[turn])
            for i, (row, turn) in enumerate(zip(rows.tolist(), turns.tolist(), strict=True))
        ]
