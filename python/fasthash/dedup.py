"""Near-duplicate photos in a folder: found by perceptual hashes, listed, and shown on a contact sheet."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fasthash._checks import check_bool, check_int
from fasthash._extras import needs_extra
from fasthash._saved_folder import CARD_NAME, Card, check_file, write_folder
from fasthash._saved_kinds import HASH_BITS, check_photos, load_codes, load_folder
from fasthash.duplicates import near_duplicates, perceptual_codes
from fasthash.index import HierIndex
from fasthash.threads import get_num_threads

with needs_extra("dedup"):
    import imagehash
    from tqdm import tqdm

from fasthash._photos import MAX_BYTES, MAX_PIXELS, Broken, Limits, find_photos, read_photo, reason

__all__ = ["HASH_BITS", "Duplicates", "Photo", "find_duplicates", "hash_photo"]

_KIND = "PhotoHashes"

_Stamp = tuple[int, int]  # of a file: bytes, and nanoseconds when it was last written


class Photo(NamedTuple):
    """A photo of a group."""

    path: str
    """Relative to the folder."""

    n_bytes: int
    distance: int
    """In bits from the first photo of its group; may exceed the radius where others lie between."""


class Duplicates(NamedTuple):
    """The near-duplicates in a folder."""

    groups: list[list[Photo]]
    """Two photos or more each, in the order of their paths; the groups in the order of their first paths."""

    broken: Broken
    """Pairs (path, reason) of what could not be read, in the order of the paths."""

    n_photos: int
    """That were read, now or before."""

    n_hashed: int
    """That were read now: all, or with a state those that are new or have changed."""

    radius: int
    hash_bits: int


def hash_photo(
    path: str | os.PathLike[str],
    hash_bits: int = 64,
    *,
    max_bytes: int = MAX_BYTES,
    max_pixels: int = MAX_PIXELS,
) -> NDArray[np.uint8]:
    """The pHash of an image file, upright as its EXIF data says, as a code.

    Args:
        path: of an image file that Pillow reads; of an animation the first picture counts.
        hash_bits: 64 or 256.
        max_bytes, max_pixels: a file of more bytes, or an image of more pixels, is refused.

    Returns:
        uint8 array `(hash_bits / 8,)`: the bits of `imagehash.phash`.

    Raises:
        ValueError: `hash_bits` is neither, or a limit is exceeded.
        Exception: whatever Pillow raises on broken files.
    """
    side = int(_check_hash_bits(hash_bits) ** 0.5)
    return perceptual_codes([imagehash.phash(read_photo(path, Limits(max_bytes, max_pixels)), hash_size=side)])[0]


def find_duplicates(
    folder: str | os.PathLike[str],
    radius: int | None = None,
    *,
    hash_bits: int = 64,
    state: str | os.PathLike[str] | None = None,
    max_bytes: int = MAX_BYTES,
    max_pixels: int = MAX_PIXELS,
    progress: bool = True,
) -> Duplicates:
    """Find near-duplicate photos in a folder and below; see `near_duplicates` for what a group is.

    Args:
        folder: of photos. Files count as photos by their suffixes.
        radius: largest distance in bits between near-duplicates; None takes a sixteenth of `hash_bits`.
        hash_bits: width of the pHash: 64, or 256, which tells apart photos of similar layout.
        state: folder in which codes and paths are kept, made if missing. With it only photos that are new, or whose
            size or time of writing has changed, are read, and those that have gone are dropped; the result is that of
            a run from nothing.
        max_bytes, max_pixels: files of more bytes and images of more pixels count as broken when they are read.
        progress: show a progress bar.

    Returns:
        `Duplicates`.

    Raises:
        TypeError: an argument of another type.
        ValueError: `radius` is negative, a limit is below 1, or `hash_bits` is neither 64 nor 256, or not that of the
            state.
        FormatError: the state is damaged.
        OSError: `folder` is no folder, or the state cannot be read or written.
    """
    _check_hash_bits(hash_bits)
    radius = hash_bits // 16 if radius is None else check_int("radius", radius, minimum=0)
    check_bool("progress", progress)
    limits = Limits(max_bytes, max_pixels)
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"folder={os.fspath(folder)!r} is not a folder")
    known = _Known.load(state, hash_bits)
    paths, broken = find_photos(folder)
    stamps: dict[str, _Stamp] = {}
    for path in paths:
        try:
            facts = os.stat(os.path.join(folder, path))
            stamps[path] = (facts.st_size, facts.st_mtime_ns)
        except OSError as error:  # it has gone, or is a link to nothing
            broken.append((path, reason(error)))
    fresh = [path for path, stamp in stamps.items() if known.stamps.get(path) != stamp]
    codes, unreadable = _hash_all(folder, fresh, hash_bits, limits, progress)
    known.change(stamps, codes, dict(unreadable))
    if state is not None:
        known.save(state, hash_bits)

    names = {id: path for path, id in known.ids.items()}
    groups = [sorted(names[id] for id in group.tolist()) for group in near_duplicates(known.index, radius)]
    shown = [_photos(known, sorted_paths) for sorted_paths in sorted(groups)]
    return Duplicates(shown, sorted(broken + unreadable), len(known.ids), len(codes), radius, hash_bits)


class _Known:
    """Photos whose codes are known: an index of these, and the id and the stamp of each path."""

    def __init__(self, index: HierIndex, ids: dict[str, int], stamps: dict[str, _Stamp]) -> None:
        self.index, self.ids, self.stamps = index, ids, stamps

    @classmethod
    def load(cls, state: str | os.PathLike[str] | None, hash_bits: int) -> _Known:
        if state is None or not (Path(state) / CARD_NAME).exists():
            return cls(HierIndex((hash_bits,)), {}, {})
        folder = Path(state)

        def of(card: Card) -> _Known:
            index = load_codes(check_file(folder, card, "codes.fh", whole=False), len(card["photos"]))
            check_photos(index, card)
            ids = {path: id for path, id, *_ in card["photos"]}
            return cls(index, ids, {path: (n_bytes, time) for path, _, n_bytes, time in card["photos"]})

        known = load_folder(folder, _KIND, of)
        if known.index.n_bits != hash_bits:
            raise ValueError(
                f"hash_bits must be {known.index.n_bits}, as in the state {os.fspath(state)!r}, got {hash_bits}"
            )
        return known

    def save(self, state: str | os.PathLike[str], hash_bits: int) -> None:
        photos = [(path, id, *self.stamps[path]) for path, id in self.ids.items()]
        facts = {"hash": "phash", "hash_bits": hash_bits, "photos": photos}
        write_folder(state, _KIND, facts, {"codes.fh": self.index.save})

    def change(
        self, stamps: Mapping[str, _Stamp], codes: Mapping[str, NDArray[np.uint8]], broken: Mapping[str, str]
    ) -> None:
        """Go over to the photos of `stamps` but the broken ones, where `codes` has what is new or has changed."""
        gone = [path for path in self.ids if path not in stamps or path in broken]
        self.index.remove(np.array([self.ids.pop(path) for path in gone], dtype=np.int64))
        changed = [path for path in codes if path in self.ids]
        if changed:
            ids = np.array([self.ids[path] for path in changed])
            self.index.update(ids, np.stack([codes[path] for path in changed]))
        new = [path for path in codes if path not in self.ids]
        if new:
            first = self.index.to_arrays()[1].max(initial=-1) + 1
            ids = np.arange(first, first + len(new))
            self.index.add(np.stack([codes[path] for path in new]), ids)
            self.ids |= zip(new, ids.tolist(), strict=True)
        self.stamps = {path: stamps[path] for path in self.ids}


def _photos(known: _Known, paths: list[str]) -> list[Photo]:
    codes = known.index.reconstruct(np.array([known.ids[path] for path in paths]))
    distances = np.unpackbits(codes ^ codes[0], axis=1).sum(axis=1).tolist()
    return [Photo(path, known.stamps[path][0], distance) for path, distance in zip(paths, distances, strict=True)]


def _hash_all(
    folder: str | os.PathLike[str], paths: list[str], hash_bits: int, limits: Limits, progress: bool
) -> tuple[dict[str, NDArray[np.uint8]], Broken]:
    """Codes of the photos that can be read, and the others with the reason."""

    def attempt(path: str) -> NDArray[np.uint8] | str:
        try:
            return hash_photo(os.path.join(folder, path), hash_bits, **asdict(limits))
        except Exception as error:  # Pillow's decoders raise anything from OSError to SyntaxError on broken files
            return reason(error)

    codes: dict[str, NDArray[np.uint8]] = {}
    broken: Broken = []
    pool = ThreadPoolExecutor(get_num_threads())
    try:
        outcomes = tqdm(pool.map(attempt, paths), total=len(paths), desc="hash", unit="photo", disable=not progress)
        for path, outcome in zip(paths, outcomes, strict=True):
            if isinstance(outcome, str):
                broken.append((path, outcome))
            else:
                codes[path] = outcome
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C waits for the photos at hand, not for all
    return codes, broken


def _check_hash_bits(hash_bits: Any) -> int:
    if check_int("hash_bits", hash_bits) not in HASH_BITS:
        raise ValueError(f"hash_bits must be one of {', '.join(map(str, HASH_BITS))}, got {hash_bits}")
    return int(hash_bits)
