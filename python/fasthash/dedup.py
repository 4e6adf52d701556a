"""Near-duplicate photos and videos in folders, found by perceptual hashes.

`find_duplicate_videos` needs the extra `video`, everything else the extra `dedup`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fasthash._checks import check_bool, check_codes_of_any_width, check_int, check_path
from fasthash._durable import check_writable
from fasthash._hashed_files import Run, check_folders, hash_files, loaded
from fasthash._phash import phash
from fasthash._photo_files import Broken, check_regular, find_photos
from fasthash._photo_groups import Photo, PhotoSet
from fasthash._photo_hashes import PhotoHashes
from fasthash._photos import MAX_BYTES, MAX_PIXELS, Limits, read_photo
from fasthash._pixels import Colour, as_hex, check_colour
from fasthash._saved_kinds import HASH_BITS
from fasthash._videos import DuplicateVideos, Video, VideoPair, find_duplicate_videos

__all__ = [
    "HASH_BITS",
    "RADIUS",
    "DuplicateVideos",
    "Duplicates",
    "Photo",
    "Video",
    "VideoPair",
    "find_duplicate_videos",
    "find_duplicates",
    "group_hashes",
    "hash_photo",
]

RADIUS = {64: 4, 256: 32}
"""The usual radius for each width of the hash; docs/dedup.md has the measurement."""

_Path = str | bytes | os.PathLike[str]


class Duplicates(NamedTuple):
    """The near-duplicates in some folders."""

    groups: list[list[Photo]]
    """Two photos or more each: photos of reference folders first, then by folder and path; the groups in the order of
    their first photos. A group of references alone is left out."""

    broken: Broken
    """Pairs (path, reason) of the photos that could not be read, in the order of the paths; with several folders,
    paths with their folders."""

    n_photos: int
    """That were read, now or before."""

    n_hashed: int
    """That were read now: all, or with a state those that are new or have changed."""

    radius: int
    hash_bits: int

    n_others: int = 0
    """Files passed over, which are no photos by name or content."""

    folders: tuple[str, ...] = ()
    """Reference folders first."""

    turned: bool = False

    source: str | None = None
    """Of `group_hashes`, the name of the file that holds the hashes, or an empty string; None for photos that were
    read."""

    has_paths: bool = True
    """Whether the paths are those of photos; else they count hashes: `row 0`, `row 1`, ..."""


def hash_photo(
    path: str | os.PathLike[str],
    hash_bits: int = 256,
    *,
    turned: bool = False,
    background: str | Colour = "white",
    max_bytes: int = MAX_BYTES,
    max_pixels: int = MAX_PIXELS,
) -> NDArray[np.uint8]:
    """The pHash of an image file, upright as its EXIF data says, as a code.

    Args:
        path: of an image file that Pillow reads; of an animation the first picture counts.
        hash_bits: 64 or 256.
        turned: the code from which `turned_codes` makes those of the turned and mirrored photo; its bits compare with
            zero instead of the median.
        background: of the transparent parts of a photo: the name of a colour, `#rrggbb`, or three integers.
        max_bytes, max_pixels: a file of more bytes, or an image of more pixels, is refused.

    Returns:
        uint8 array `(hash_bits / 8,)`: the bits of `imagehash.phash`, unless `turned`.

    Raises:
        ValueError: `hash_bits` is neither, a limit is exceeded, `background` is no colour, or the photo would be hashed
            as a blank one though it is not: shapes of the background's colour, 16-bit pixels within a step of 8 bits.
        Exception: whatever Pillow raises on broken files.
    """
    hash_bits = _check_hash_bits(hash_bits)
    check_bool("turned", turned)
    photo = read_photo(path, Limits(max_bytes, max_pixels), check_colour("background", background))
    return phash(photo, hash_bits, turned)


def find_duplicates(
    folder: _Path | Sequence[_Path],
    radius: int | None = None,
    *,
    reference: _Path | Sequence[_Path] = (),
    hash_bits: int = 256,
    turned: bool = False,
    state: str | os.PathLike[str] | None = None,
    pairs: str | os.PathLike[str] | None = None,
    background: str | Colour = "white",
    max_bytes: int = MAX_BYTES,
    max_pixels: int = MAX_PIXELS,
    progress: bool = True,
) -> Duplicates:
    """Find near-duplicate photos in folders and below; see `near_duplicates` for what a group is.

    Args:
        folder: of photos, or several. Files count as photos by their suffixes; where a suffix does not tell, by their
            content.
        radius: largest distance in bits between near-duplicates; None takes that of `RADIUS`.
        reference: folder or folders whose photos are to be kept: they come first in their groups, and groups and pairs
            of them alone are left out.
        hash_bits: width of the pHash: 256, or 64, which takes photos of similar layout for duplicates.
        turned: also find turned and mirrored copies. The hashes are of another kind and need a state of their own.
        state: folder in which codes and paths are kept, made if missing. With it only photos that are new or have
            changed are read, and those that have gone are dropped; the result is that of a run from nothing. A photo
            has changed if its size, its time of writing or a sample of its bytes has. The state is saved while photos
            are hashed, and when the call is interrupted. A state is of one folder; with several, it holds one for each.
        pairs: CSV file to which all pairs within the radius are written.
        background: of the transparent parts of photos: the name of a colour, `#rrggbb`, or three integers.
        max_bytes, max_pixels: files of more bytes and images of more pixels count as broken when they are read.
        progress: show a progress bar.

    Returns:
        `Duplicates`.

    Raises:
        TypeError: an argument of another type.
        ValueError: `radius` is negative or above `hash_bits`, a limit is below 1, `hash_bits` is neither 64 nor 256,
            `background` is no colour, a folder lies in another, or the state is of another `hash_bits`, `turned`,
            `background` or `folder`.
        FormatError: the state is damaged.
        OSError: `folder` is no folder, or the state cannot be read or written.
    """
    check_pairs(pairs)
    found, photos = find_with_photos(
        folder,
        radius,
        reference=reference,
        hash_bits=hash_bits,
        turned=turned,
        state=state,
        background=background,
        max_bytes=max_bytes,
        max_pixels=max_pixels,
        progress=progress,
    )
    if pairs is not None:
        photos.write_pairs(pairs, found.radius)
    return found


def find_with_photos(
    folder: _Path | Sequence[_Path],
    radius: int | None,
    *,
    reference: _Path | Sequence[_Path],
    turned: bool,
    state: str | os.PathLike[str] | None,
    background: str | Colour,
    progress: bool,
    hash_bits: int = 256,
    max_bytes: int = MAX_BYTES,
    max_pixels: int = MAX_PIXELS,
) -> tuple[Duplicates, PhotoSet]:
    """As `find_duplicates`, with the photos, for a caller that writes their pairs after checks of its own."""
    hash_bits = _check_hash_bits(hash_bits)
    radius = _check_radius(radius, hash_bits)
    check_bool("progress", progress)
    check_bool("turned", turned)
    colour = check_colour("background", background)
    options = {"turned": turned, "background": colour, **asdict(Limits(max_bytes, max_pixels))}
    references, folders = check_folders(reference, folder)
    every = references + folders
    jobs = []
    for each in every:
        known = PhotoHashes(each, hash_bits, as_hex(colour), turned)
        jobs.append(_Job(each, known, loaded(known, state, "photos", alone=len(every) == 1)))
    photos, n_hashed, n_others = PhotoSet(turned), 0, 0
    broken: Broken = []
    for number, job in enumerate(jobs):
        n_new, faults, n_passed = job.hash_all(options, progress)
        n_hashed, n_others = n_hashed + n_new, n_others + n_passed
        broken += [(path if len(every) == 1 else os.path.join(job.folder, path), why) for path, why in faults]
        photos.add(job.photos(is_reference=number < len(references)), job.known.codes_of(sorted(job.known.paths)))
    n_photos = len(photos.photos)
    found = Duplicates(
        photos.groups(radius), broken, n_photos, n_hashed, radius, hash_bits, n_others, tuple(every), turned
    )
    return found, photos


def check_pairs(pairs: str | os.PathLike[str] | None) -> None:
    """Check that a file of pairs can be written, before photos are hashed.

    Raises:
        OSError: it cannot.
    """
    if pairs is not None:
        check_path("pairs", pairs)
        check_writable("pairs", Path(pairs).parent, [Path(pairs).name])


def group_hashes(
    codes: ArrayLike,
    paths: Sequence[str] | None = None,
    radius: int | None = None,
    *,
    folder: _Path = "",
    turned: bool = False,
    pairs: str | os.PathLike[str] | None = None,
    source: str = "",
) -> Duplicates:
    """Group photos whose hashes are known, as of another program, for the page and the lists of `fasthash dedup`.

    Args:
        codes: uint8 array `(n, n_bits / 8)`, see `perceptual_codes` and `fasthash.code_files.read_codes`.
        paths: of the photos, in the order of the codes; they need not be there. Sizes are those of files that are.
            Without paths, the hashes are called `row 0`, `row 1`, ...
        radius: largest distance in bits between near-duplicates; None takes that of `RADIUS` for 64 and 256 bits.
        folder: that the paths are relative to.
        turned: also group turned and mirrored copies, see `turned_codes`: only for codes of `hash_photo(turned=True)`.
        pairs: CSV file to which all pairs within the radius are written.
        source: name of the file that holds the hashes, for the page.

    Returns:
        `Duplicates`.

    Raises:
        TypeError: wrong dtype, or an argument of another type.
        ValueError: another number of paths than of codes, `radius` is out of range, or None for another width.
    """
    array = check_codes_of_any_width("codes", codes)
    hash_bits = array.shape[1] * 8
    if radius is None and hash_bits not in RADIUS:
        raise ValueError(f"radius must be given for hashes of {hash_bits} bits")
    radius = _check_radius(radius, hash_bits)
    check_bool("turned", turned)
    place = os.fsdecode(folder)
    if paths is None:
        order = list(range(len(array)))
        known = [Photo(f"row {row}", None, 0) for row in order]
    elif len(paths) != len(array):
        raise ValueError(f"paths must be as many as codes, {len(array)}, got {len(paths)}")
    else:
        order = sorted(range(len(paths)), key=paths.__getitem__)
        known = [_photo_of(place, paths[i]) for i in order]
    photos = PhotoSet(turned)
    photos.add(known, array[order])
    if pairs is not None:
        photos.write_pairs(pairs, radius)
    settings = radius, hash_bits, 0, (place,), turned
    return Duplicates(photos.groups(radius), [], len(array), 0, *settings, source, paths is not None)


def _photo_of(folder: str, path: str) -> Photo:
    place = os.path.join(folder, path)
    try:
        n_bytes = check_regular(place)
        return Photo(path, n_bytes, 0, folder, os.stat(place).st_mtime_ns)
    except (OSError, ValueError):
        return Photo(path, None, 0, folder)


class _Job(NamedTuple):
    """A folder to hash, what is known of it, and its state."""

    folder: str
    known: PhotoHashes
    state: Path | None
    """Where the hashes are kept."""

    def hash_all(self, options: dict[str, Any], progress: bool) -> tuple[int, Broken, int]:
        """Hash what is new or has changed; how many that were, what is broken, and the number of other files."""

        def hash_one(path: str, _: Run) -> NDArray[np.uint8]:
            return hash_photo(path, self.known.hash_bits, **options)

        found = find_photos(self.folder)
        n_hashed, broken = hash_files(self.folder, self.known, self.state, found, hash_one, "photo", progress)
        return n_hashed, broken, found.n_others

    def photos(self, is_reference: bool) -> Iterator[Photo]:
        """Its photos in the order of their paths."""
        for path in sorted(self.known.paths):
            stamp = self.known.stamp(path)
            if stamp is not None:
                yield Photo(path, stamp.n_bytes, 0, self.folder, stamp.time, is_reference=is_reference)


def _check_hash_bits(hash_bits: Any) -> int:
    if check_int("hash_bits", hash_bits) not in HASH_BITS:
        raise ValueError(f"hash_bits must be one of {', '.join(map(str, HASH_BITS))}, got {hash_bits}")
    return int(hash_bits)


def _check_radius(radius: Any, hash_bits: int) -> int:
    return RADIUS[hash_bits] if radius is None else check_int("radius", radius, minimum=0, maximum=hash_bits)
