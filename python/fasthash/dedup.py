"""Near-duplicate photos in a folder: found by perceptual hashes, listed, and shown on a contact sheet."""

from __future__ import annotations

import os
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fasthash._checks import check_bool, check_int
from fasthash._durable import check_writable
from fasthash._extras import needs_extra
from fasthash._progress import is_watched
from fasthash._saved_kinds import HASH_BITS
from fasthash.duplicates import near_duplicates, perceptual_codes
from fasthash.threads import get_num_threads

with needs_extra("dedup"):
    import imagehash
    from tqdm import tqdm

from fasthash._photo_files import Broken, check_photo_folder, find_photos, reason
from fasthash._photo_hashes import PhotoHashes, Stamp, stamp_of
from fasthash._photos import MAX_BYTES, MAX_PIXELS, Limits, read_photo
from fasthash._pixels import Colour, as_hex, check_colour

__all__ = ["HASH_BITS", "Duplicates", "Photo", "find_duplicates", "hash_photo"]

_SAVE_EVERY = 1000  # photos hashed, and a tenth of all that are known: saving takes as long as there are photos

# The stamp and the code of a photo, or what is wrong with it; None where its code is known.
_Outcome = tuple[Stamp, NDArray[np.uint8]] | str | None


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

    n_others: int = 0
    """Files passed over, which are no photos by name or content."""


def hash_photo(
    path: str | os.PathLike[str],
    hash_bits: int = 64,
    *,
    background: str | Colour = "white",
    max_bytes: int = MAX_BYTES,
    max_pixels: int = MAX_PIXELS,
) -> NDArray[np.uint8]:
    """The pHash of an image file, upright as its EXIF data says, as a code.

    Args:
        path: of an image file that Pillow reads; of an animation the first picture counts.
        hash_bits: 64 or 256.
        background: of the transparent parts of a photo: the name of a colour, `#rrggbb`, or three integers.
        max_bytes, max_pixels: a file of more bytes, or an image of more pixels, is refused.

    Returns:
        uint8 array `(hash_bits / 8,)`: the bits of `imagehash.phash`.

    Raises:
        ValueError: `hash_bits` is neither, a limit is exceeded, `background` is no colour, or the photo would be hashed
            as a blank one though it is not: shapes of the background's colour, 16-bit pixels within a step of 8 bits.
        Exception: whatever Pillow raises on broken files.
    """
    side = int(_check_hash_bits(hash_bits) ** 0.5)
    photo = read_photo(path, Limits(max_bytes, max_pixels), check_colour("background", background))
    return perceptual_codes([imagehash.phash(photo, hash_size=side)])[0]


def find_duplicates(
    folder: str | bytes | os.PathLike[str],
    radius: int | None = None,
    *,
    hash_bits: int = 64,
    state: str | os.PathLike[str] | None = None,
    background: str | Colour = "white",
    max_bytes: int = MAX_BYTES,
    max_pixels: int = MAX_PIXELS,
    progress: bool = True,
) -> Duplicates:
    """Find near-duplicate photos in a folder and below; see `near_duplicates` for what a group is.

    Args:
        folder: of photos. Files count as photos by their suffixes; where a suffix does not tell, by their content.
        radius: largest distance in bits between near-duplicates; None takes a sixteenth of `hash_bits`.
        hash_bits: width of the pHash: 64, or 256, which tells apart photos of similar layout.
        state: folder in which codes and paths are kept, made if missing; one for each `folder`. With it only photos
            that are new or have changed are read, and those that have gone are dropped; the result is that of a run
            from nothing. A photo has changed if its size, its time of writing or a sample of its bytes has. The
            state is saved while photos are hashed, and when the call is interrupted.
        background: of the transparent parts of photos: the name of a colour, `#rrggbb`, or three integers.
        max_bytes, max_pixels: files of more bytes and images of more pixels count as broken when they are read.
        progress: show a progress bar.

    Returns:
        `Duplicates`.

    Raises:
        TypeError: an argument of another type.
        ValueError: `radius` is negative or above `hash_bits`, a limit is below 1, `hash_bits` is neither 64 nor 256,
            `background` is no colour, or the state is of another `hash_bits`, `background` or `folder`.
        FormatError: the state is damaged.
        OSError: `folder` is no folder, or the state cannot be read or written.
    """
    _check_hash_bits(hash_bits)
    radius = hash_bits // 16 if radius is None else check_int("radius", radius, minimum=0, maximum=hash_bits)
    check_bool("progress", progress)
    colour = check_colour("background", background)
    options = {"background": colour, **asdict(Limits(max_bytes, max_pixels))}
    folder = check_photo_folder("folder", folder)
    known = PhotoHashes(folder, hash_bits, as_hex(colour))
    if state is not None:
        check_writable("state", state)
        known.load(state)
    paths, broken, n_others = find_photos(folder)
    known.keep_only(paths)
    n_hashed = 0
    try:
        with closing(_hashed(known, folder, paths, options, progress)) as outcomes:
            for path, outcome in outcomes:
                if isinstance(outcome, str):
                    broken.append((path, outcome))
                    known.drop(path)
                elif outcome is not None:
                    known.put(path, *outcome)
                    n_hashed += 1
                if state is not None and known.n_unsaved >= max(_SAVE_EVERY, len(known) // 10):
                    known.save(state)
    finally:  # Ctrl-C, too, loses no code
        if state is not None:
            known.save(state)

    names = known.paths
    groups = [sorted(names[id] for id in group.tolist()) for group in near_duplicates(known.index(), radius)]
    shown = [_photos(known, sorted_paths) for sorted_paths in sorted(groups)]
    return Duplicates(shown, sorted(broken), len(known), n_hashed, radius, hash_bits, n_others)


def _photos(known: PhotoHashes, paths: list[str]) -> list[Photo]:
    codes = known.codes_of(paths)
    distances = np.unpackbits(codes ^ codes[0], axis=1).sum(axis=1).tolist()
    sizes = [stamp.n_bytes for path in paths if (stamp := known.stamp(path))]
    return [Photo(*facts) for facts in zip(paths, sizes, distances, strict=True)]


def _hashed(
    known: PhotoHashes, folder: str, paths: list[str], options: dict[str, Any], progress: bool
) -> Generator[tuple[str, _Outcome], None, None]:
    """Each path, in order, with what came of it."""

    def attempt(path: str) -> tuple[str, _Outcome]:
        place = os.path.join(folder, path)
        try:
            stamp = stamp_of(place)
            if known.stamp(path) == stamp:
                return path, None
            return path, (stamp, hash_photo(place, known.hash_bits, **options))
        except Exception as error:  # Pillow's decoders raise anything from OSError to SyntaxError on broken files
            return path, reason(error)

    pool = ThreadPoolExecutor(get_num_threads())
    try:
        yield from tqdm(
            pool.map(attempt, paths),
            total=len(paths),
            desc="hash",
            unit="photo",
            disable=not (progress and is_watched()),
        )
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C waits for the photos at hand, not for all


def _check_hash_bits(hash_bits: Any) -> int:
    if check_int("hash_bits", hash_bits) not in HASH_BITS:
        raise ValueError(f"hash_bits must be one of {', '.join(map(str, HASH_BITS))}, got {hash_bits}")
    return int(hash_bits)
