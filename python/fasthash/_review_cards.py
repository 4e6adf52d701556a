"""The page on which people review near-duplicates, of whatever kind of file: a card for each, in groups.

Called by `_review_page` for photos and by `_video_page`. The page deletes nothing: what is ticked becomes a text file
of paths. Every text on it is escaped.
"""

from __future__ import annotations

import base64
import io
import os
import time
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from fasthash._extras import needs_extra
from fasthash._photo_files import Broken
from fasthash._shown import counted, for_html

with needs_extra("dedup"):
    import jinja2
    from PIL import Image

__all__ = ["MAX_PER_GROUP", "REPORT_FILES", "Card", "Group", "as_jpeg", "link_to", "marks", "page", "when_written"]

REPORT_FILES = "index.html", "duplicates.json", "duplicates.csv"
MAX_PER_GROUP = 24


class Card(NamedTuple):
    """What the page shows of a file."""

    place: str
    """The path with its folder, which goes into the list."""

    shown: str
    """The path as people read it."""

    link: str
    pictures: Sequence[str]
    """URLs, side by side."""

    n_bytes: int
    facts: Sequence[str]
    tags: Sequence[str]
    is_reference: bool
    is_largest: bool
    is_kept: bool
    """Whether the buttons leave this one unticked."""

    @property
    def listed(self) -> str | None:
        """The bytes of the path, quoted; None for a path that would be two lines of a list."""
        return None if "\n" in self.place or "\r" in self.place else quote(os.fsencode(self.place))


class Group(NamedTuple):
    """Near-duplicates of one another."""

    heading: str
    cards: list[Card]
    n_more: int
    """Files of the group that the page leaves out."""


def page(
    noun: str,
    groups: list[Group],
    broken: Broken,
    folders: Sequence[str],
    *,
    lead: str,
    note: str,
    ticked: str,
    shape: str,
) -> str:
    """The page as HTML.

    Args:
        noun: of one file: "photo" or "video".
        groups: the surest first.
        broken: pairs (path, reason).
        folders: as the caller named them.
        lead: what was searched, in what, and how.
        note: how to read the distances.
        ticked: what the buttons tick of a group, before "the largest": all but those that are kept.
        shape: CSS class of the groups: "photos" side by side, "videos" one above the other.
    """
    template = files("fasthash").joinpath("review_page.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, finalize=for_html)
    return environment.from_string(template).render(
        counted=counted,
        noun=noun,
        groups=groups,
        broken=broken,
        folders=", ".join(folders),
        lead=lead,
        note=note,
        ticked=ticked,
        shape=shape,
    )


def link_to(path: str, output: Path) -> str:
    """The URL of a file from a page in `output`."""
    # Relative, so that report and files may move together; every name is quoted, and none can pass for a scheme.
    return quote(os.fsencode(os.path.join(os.curdir, os.path.relpath(path, output))))


def as_jpeg(image: Image.Image, side: int) -> str:
    """A picture as a small JPEG inside a URL; it is shrunk in place."""
    image.thumbnail((side, side), Image.Resampling.BICUBIC)
    with io.BytesIO() as file:
        image.save(file, "JPEG", quality=75)
        return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def when_written(nanoseconds: int) -> str:
    """A time of writing as people read it."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(nanoseconds // 10**9))


def marks(sizes: Sequence[Any], references: Sequence[bool]) -> list[tuple[bool, bool]]:
    """For each file of a group whether it is marked as the largest, and whether it is kept.

    The references are kept; without any the first of the largest files. A mark needs a file that is smaller.
    """
    largest, smallest = max(sizes), min(sizes)
    first = list(sizes).index(largest)
    kept = references if any(references) else [number == first for number in range(len(sizes))]
    return [(size == largest and smallest < largest, is_kept) for size, is_kept in zip(sizes, kept, strict=True)]
