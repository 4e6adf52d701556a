"""Reports of near-duplicate photos, or hashes: JSON, CSV, and one self-contained page on which people choose what to
delete.

The page holds previews of the first photos; later ones are shown from their own files, as they scroll into sight. It
deletes nothing: what is ticked becomes a text file of paths.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fasthash._photo_groups import Photo
from fasthash._photos import DEFAULT_LIMITS, Limits, photo_size, read_photo
from fasthash._pixels import Colour, check_colour
from fasthash._review_cards import (
    Card,
    Group,
    Review,
    as_jpeg,
    check_output,
    link_to,
    page,
    review,
    when_written,
    write_lists,
)
from fasthash._shown import counted, in_bytes
from fasthash.dedup import Duplicates
from fasthash.threads import get_num_threads
from fasthash.turning import TURNS

__all__ = ["as_dict", "check_output", "searched", "write_report"]

_SIDES = ((500, 480), (1_000, 400), (0, 320))  # px of previews, for up to so many photos; 0: for more
MAX_PREVIEWS = 2_000  # some 40 MB; photos beyond are shown from their own files
_BY_BROWSERS = (".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")


def as_dict(found: Duplicates) -> dict[str, Any]:
    """Return groups and broken files as plain values, ready for JSON."""
    return {
        "folders": list(found.folders),
        "source": found.source,
        "radius": found.radius,
        "hash": "phash" if found.source is None else None,
        "hash_bits": found.hash_bits,
        "turned": found.turned,
        "n_photos": found.n_photos,
        "n_hashed": found.n_hashed,
        "n_others": found.n_others,
        "groups": [[photo._asdict() for photo in group] for group in found.groups],
        "broken": [{"path": path, "reason": why} for path, why in found.broken],
    }


def write_report(
    found: Duplicates,
    output: str | os.PathLike[str],
    limits: Limits = DEFAULT_LIMITS,
    background: str | Colour = "white",
) -> tuple[Path, Path, Path]:
    """Write index.html, duplicates.json and duplicates.csv.

    Args:
        found: by `find_duplicates` or `group_hashes`.
        output: folder for the three files, made if missing.
        limits: of the photos that are read again for their previews.
        background: of the transparent parts of photos.
    """
    output, colour = Path(output), check_colour("background", background)
    sizes = _sizes(found, limits)

    def measured(photo: Photo) -> tuple[int, int] | None:
        width, height = sizes.get(photo.place) or (0, 0)
        return None if photo.n_bytes is None else (width * height, photo.n_bytes)

    reviews = [review(group, [measured(photo) for photo in group]) for group in found.groups]
    names = ["distance", "turn"]
    paths = write_lists(output, as_dict(found), names, reviews, lambda _, photo: [photo.distance, photo.turn])
    paths[0].write_text(_page(found, reviews, sizes, output, limits, colour), encoding="utf-8")
    return paths


# Width and height in pixels by the place of a photo; None for one that cannot be read.
_Sizes = dict[str, tuple[int, int] | None]


def _sizes(found: Duplicates, limits: Limits) -> _Sizes:
    """Of all photos of the groups whose files are there."""
    places = [photo.place for group in found.groups for photo in group if photo.n_bytes is not None]
    with ThreadPoolExecutor(get_num_threads()) as pool:
        return dict(zip(places, pool.map(lambda place: photo_size(place, limits), places), strict=True))


def _page(
    found: Duplicates, reviews: list[Review[Photo]], sizes: _Sizes, output: Path, limits: Limits, background: Colour
) -> str:
    # The surest first. The distance of a group is that of its farthest photo.
    reviews = sorted(reviews, key=lambda each: max(photo.distance for photo in each.files))
    photos = [each.files[number] for each in reviews for number in each.shown]
    side = next(side for n, side in _SIDES if len(photos) <= n or n == 0)

    def picture(numbered: tuple[int, Photo]) -> str | None:
        number, photo = numbered
        if photo.n_bytes is None:
            return None
        if number < MAX_PREVIEWS:
            return _embedded(photo, limits, background, side)
        return link_to(photo.place, output) if sizes[photo.place] and _is_shown(photo) else None

    with ThreadPoolExecutor(get_num_threads()) as pool:
        pictures = pool.map(picture, enumerate(photos))
        groups = [_group(n, each, pictures, sizes, found, output) for n, each in enumerate(reviews, start=1)]
    if found.source is None:
        where, same = ", ".join(found.folders), "picture"
        kind = f"photos whose pHashes of {found.hash_bits} bits are"
    else:
        where, same, kind = found.source or "hashes", "hash", "hashes"
    if found.has_paths:
        opening = "A photo opens in full when you click on it. " if any(sizes.values()) else ""
        noun, plural, entries = "photo", "photos", "paths"
        order = "paths" if len(found.folders) == 1 else "folders and paths"
    else:
        opening = "Rows count from 0. "
        noun, plural, entries, order = "hash", "hashes", "row numbers", "rows"
    turned = ", turned and mirrored copies included" if found.turned else ""
    return page(
        groups,
        found.broken,
        any_links=any(each.links for each in reviews),
        where=where,
        searched=searched(found),
        criterion=f"{kind} within {counted(found.radius, 'bit')} of one another{turned}",
        note=f"{opening}“Bits” is the distance from the first {noun} of the group: 0 for the same {same}, and above "
        f"{found.radius} only where others between tie it to the group.",
        plural=plural,
        order=order,
        ticked="all but",
        shape="photos",
        entries=entries,
    )


def searched(found: Duplicates) -> str:
    """What was searched, in words."""
    if found.source is None:
        return f"{counted(found.n_photos, 'photo')} in {', '.join(found.folders)}"
    hashes = f"{_hashes(found.n_photos)} of {found.hash_bits} bits"
    return f"{hashes} in {found.source}" if found.source else hashes


def _hashes(n: int) -> str:
    return counted(n, "hash", "hashes")


def _group(
    number: int, each: Review[Photo], pictures: Iterator[str | None], sizes: _Sizes, found: Duplicates, output: Path
) -> Group:
    """What the page shows of a group; takes its pictures."""
    cards = []
    for i in each.shown:
        photo, picture = each.files[i], next(pictures)
        is_short = len(found.folders) == 1 and not photo.is_reference
        cards.append(
            Card(
                photo.place if found.has_paths else photo.path.removeprefix("row "),
                photo.path if is_short else photo.place,
                "" if photo.n_bytes is None else link_to(photo.place, output),
                [picture] if picture else [],
                photo.n_bytes,
                _facts(photo, sizes.get(photo.place), found.has_paths),
                each.marks(i),
                [*each.tags(i), *_tags(photo, is_first=i == 0)],
                photo.is_reference,
                each.is_kept(i),
            )
        )
    farthest = max(photo.distance for photo in each.files)
    apart = f"up to {counted(farthest, 'bit')} apart" if farthest else "equal hashes"
    n = len(each.files)
    many = counted(n, "photo") if found.has_paths else _hashes(n)
    return Group(f"Group {number}: {many}, {apart}", each.keeper, cards, n)


def _facts(photo: Photo, size: tuple[int, int] | None, has_path: bool) -> list[str]:
    if photo.n_bytes is None:
        return ["no such file"] if has_path else []
    return [
        f"{size[0]:,} × {size[1]:,} px" if size else "",
        in_bytes(photo.n_bytes),
        "" if photo.time is None else when_written(photo.time),
    ]


def _tags(photo: Photo, is_first: bool) -> list[str]:
    return ["" if is_first else counted(photo.distance, "bit"), photo.turn if photo.turn != TURNS[0] else ""]


def _is_shown(photo: Photo) -> bool:
    """Whether browsers show files of this kind."""
    return os.path.splitext(photo.path)[1].lower() in _BY_BROWSERS


def _embedded(photo: Photo, limits: Limits, background: Colour, side: int) -> str | None:
    try:
        return as_jpeg(read_photo(photo.place, limits, background), side)
    except Exception:  # of any kind, as when it was hashed; it was sound then
        return None
