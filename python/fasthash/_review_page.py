"""Reports of near-duplicate photos: JSON, CSV, and one self-contained page on which people choose what to delete.

The page holds previews of the first photos; later ones are shown from their own files, as they scroll into sight. It
deletes nothing: what is ticked becomes a text file of paths.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from fasthash._durable import check_writable
from fasthash._photo_groups import Photo
from fasthash._photos import DEFAULT_LIMITS, Limits, photo_size, read_photo
from fasthash._pixels import Colour, check_colour
from fasthash._review_cards import (
    MAX_PER_GROUP,
    REPORT_FILES,
    Card,
    Group,
    as_jpeg,
    link_to,
    marks,
    page,
    when_written,
)
from fasthash._shown import counted, for_csv, in_bytes
from fasthash.dedup import Duplicates
from fasthash.threads import get_num_threads
from fasthash.turning import TURNS

__all__ = ["as_dict", "check_output", "write_report"]

_SIDES = ((500, 480), (1_000, 400), (0, 320))  # px of previews, for up to so many photos; 0: for more
MAX_PREVIEWS = 2_000  # some 40 MB; photos beyond are shown from their own files
_BY_BROWSERS = (".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")


def as_dict(found: Duplicates) -> dict[str, Any]:
    """Return groups and broken files as plain values, ready for JSON."""
    return {
        "folders": list(found.folders),
        "radius": found.radius,
        "hash": "phash",
        "hash_bits": found.hash_bits,
        "turned": found.turned,
        "n_photos": found.n_photos,
        "n_hashed": found.n_hashed,
        "n_others": found.n_others,
        "groups": [[photo._asdict() for photo in group] for group in found.groups],
        "broken": [{"path": path, "reason": why} for path, why in found.broken],
    }


def check_output(output: str | os.PathLike[str]) -> None:
    """Check, before photos are hashed, that `write_report` will be able to write.

    Raises:
        OSError: it will not.
    """
    check_writable("output", output, REPORT_FILES)


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
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    as_html, as_json, as_csv = (output / name for name in REPORT_FILES)
    as_json.write_text(json.dumps(as_dict(found), indent=1) + "\n", encoding="utf-8")
    with open(as_csv, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["group", "path", "bytes", "distance", "turn", "folder", "reference"])
        for number, group in enumerate(found.groups, start=1):
            for photo in group:
                facts = [number, for_csv(photo.path), photo.n_bytes, photo.distance]
                rows.writerow([*facts, photo.turn, for_csv(photo.folder), int(photo.is_reference)])
    as_html.write_text(_page(found, output, limits, check_colour("background", background)), encoding="utf-8")
    return as_html, as_json, as_csv


class _Preview(NamedTuple):
    """What the page shows of a file."""

    source: str | None
    """URL of a picture; None if there is none."""

    size: tuple[int, int] | None
    """Width and height of the photo in pixels; None if it cannot be read."""


def _page(found: Duplicates, output: Path, limits: Limits, background: Colour) -> str:
    # The surest first. The distance of a group is that of its farthest photo.
    groups = sorted(found.groups, key=lambda group: max(photo.distance for photo in group))
    photos = [photo for group in groups for photo in group[:MAX_PER_GROUP]]
    side = next(side for n, side in _SIDES if len(photos) <= n or n == 0)

    def preview(numbered: tuple[int, Photo]) -> _Preview:
        number, photo = numbered
        return _embedded(photo, limits, background, side) if number < MAX_PREVIEWS else _linked(photo, output)

    with ThreadPoolExecutor(get_num_threads()) as pool:
        previews = pool.map(preview, enumerate(photos))
        shown = [_group(n, group, previews, found, output) for n, group in enumerate(groups, start=1)]
    turned = ", turned and mirrored copies included" if found.turned else ""
    return page(
        "photo",
        shown,
        found.broken,
        found.folders,
        lead=f"{counted(found.n_photos, 'photo')} in {', '.join(found.folders)}: {counted(len(groups), 'group')} of "
        f"photos whose pHashes of {found.hash_bits} bits are within {counted(found.radius, 'bit')} of one another, "
        f"from one to the next{turned}. The surest groups come first.",
        note="“bits” is its distance from the first photo of the group: 0 for the same picture, and above "
        f"{found.radius} only where photos between tie it to the group.",
        ticked="all but",
        shape="photos",
    )


def _group(number: int, group: list[Photo], previews: Iterator[_Preview], found: Duplicates, output: Path) -> Group:
    """What the page shows of a group; takes its previews."""
    photos = group[:MAX_PER_GROUP]
    taken = [next(previews) for _ in photos]
    areas = [preview.size[0] * preview.size[1] if preview.size else 0 for preview in taken]
    sizes = [(area, photo.n_bytes or 0) for area, photo in zip(areas, photos, strict=True)]
    marked = marks(sizes, [photo.is_reference for photo in photos])
    cards = [
        Card(
            photo.place,
            photo.place if len(found.folders) > 1 or photo.is_reference else photo.path,
            link_to(photo.place, output),
            [preview.source] if preview.source else [],
            photo.n_bytes or 0,
            _facts(photo, preview),
            _tags(photo, is_first=photo is photos[0]),
            photo.is_reference,
            is_largest,
            is_kept,
        )
        for photo, preview, (is_largest, is_kept) in zip(photos, taken, marked, strict=True)
    ]
    farthest = max(photo.distance for photo in group)
    apart = f"up to {counted(farthest, 'bit')} apart" if farthest else "equal hashes"
    return Group(f"Group {number}: {len(group)} photos, {apart}", cards, len(group) - len(photos))


def _facts(photo: Photo, preview: _Preview) -> list[str]:
    return [
        f"{preview.size[0]:,} × {preview.size[1]:,} px" if preview.size else "",
        "" if photo.n_bytes is None else in_bytes(photo.n_bytes),
        "" if photo.time is None else when_written(photo.time),
    ]


def _tags(photo: Photo, is_first: bool) -> list[str]:
    return ["" if is_first else counted(photo.distance, "bit"), photo.turn if photo.turn != TURNS[0] else ""]


def _linked(photo: Photo, output: Path) -> _Preview:
    size = photo_size(photo.place)
    is_shown = size is not None and os.path.splitext(photo.path)[1].lower() in _BY_BROWSERS
    return _Preview(link_to(photo.place, output) if is_shown else None, size)


def _embedded(photo: Photo, limits: Limits, background: Colour, side: int) -> _Preview:
    try:
        image = read_photo(photo.place, limits, background)
    except Exception:  # of any kind, as when it was hashed; it was sound then
        return _Preview(None, None)
    size = image.size
    return _Preview(as_jpeg(image, side), size)
