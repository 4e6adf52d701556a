"""Reports of near-duplicate photos: JSON, CSV, and one self-contained page with thumbnails."""

from __future__ import annotations

import csv
import json
import os
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fasthash._durable import check_writable
from fasthash._extras import needs_extra
from fasthash._photos import DEFAULT_LIMITS, Limits
from fasthash._pixels import Colour, check_colour
from fasthash._shown import counted, for_csv, for_html
from fasthash._thumbnails import thumbnail
from fasthash.dedup import Duplicates

with needs_extra("dedup"):
    import jinja2

__all__ = ["as_dict", "check_output", "write_report"]

_FILES = "index.html", "duplicates.json", "duplicates.csv"
MAX_PER_GROUP = 24
MAX_THUMBNAILS = 2_000  # some 10 MB; what is beyond has a name and no picture


def as_dict(found: Duplicates) -> dict[str, Any]:
    """Return groups and broken files as plain values, ready for JSON."""
    return {
        "radius": found.radius,
        "hash": "phash",
        "hash_bits": found.hash_bits,
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
    check_writable("output", output, _FILES)


def write_report(
    found: Duplicates,
    folder: str | os.PathLike[str],
    output: str | os.PathLike[str],
    limits: Limits = DEFAULT_LIMITS,
    background: str | Colour = "white",
) -> tuple[Path, Path, Path]:
    """Write index.html, duplicates.json and duplicates.csv.

    Args:
        found: by `find_duplicates`.
        folder: where the photos are.
        output: folder for the three files, made if missing.
        limits: of the photos that are read again for their thumbnails.
        background: of the transparent parts of photos.
    """
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    page, as_json, as_csv = (output / name for name in _FILES)
    as_json.write_text(json.dumps(as_dict(found), indent=1) + "\n", encoding="utf-8")
    with open(as_csv, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["group", "path", "bytes", "distance"])
        for number, group in enumerate(found.groups, start=1):
            rows.writerows([number, for_csv(photo.path), photo.n_bytes, photo.distance] for photo in group)
    page.write_text(_page(found, folder, output, limits, check_colour("background", background)), encoding="utf-8")
    return page, as_json, as_csv


def _page(found: Duplicates, folder: str | os.PathLike[str], output: Path, limits: Limits, background: Colour) -> str:
    room = MAX_THUMBNAILS
    groups = []
    for group in found.groups:
        shown = []
        for photo in group[:MAX_PER_GROUP]:
            path = os.path.join(folder, photo.path)
            picture = thumbnail(path, limits, background) if room > 0 else None
            room -= 1
            shown.append({"link": _link(path, output), "picture": picture, **photo._asdict()})
        groups.append({"photos": shown, "size": len(group)})
    template = files("fasthash").joinpath("contact_sheet.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, finalize=for_html)
    return environment.from_string(template).render(
        counted=counted, found=found, groups=groups, folder=os.fspath(folder), no_pictures=room < 0
    )


def _link(path: str, output: Path) -> str:
    # Relative, so that report and photos may move together; every name is quoted, and none can pass for a scheme.
    return quote(os.fsencode(os.path.join(os.curdir, os.path.relpath(path, output))))
