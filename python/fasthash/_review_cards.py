"""The report on near-duplicates, of whatever kind of file: a page for review with a card for each, and two lists.

Called by `_review_page` for photos and by `_video_page`. The page deletes nothing: what is ticked becomes a text file
of paths, or of row numbers. Every text on it is escaped.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, TypeVar
from urllib.parse import quote

from fasthash._durable import check_writable
from fasthash._extras import needs_extra
from fasthash._photo_files import Broken
from fasthash._shown import counted, for_csv, for_html

with needs_extra("dedup"):
    import jinja2
    from PIL import Image

__all__ = [
    "REPORT_FILES",
    "Card",
    "Group",
    "Review",
    "as_jpeg",
    "check_output",
    "link_to",
    "page",
    "review",
    "when_written",
    "write_lists",
]

REPORT_FILES = "index.html", "duplicates.json", "duplicates.csv"
MAX_PER_GROUP = 24
_KEEPERS = "reference", "largest", "first"


class File(Protocol):
    """A photo or a video."""

    @property
    def folder(self) -> str: ...
    @property
    def place(self) -> str: ...
    @property
    def n_bytes(self) -> int | None: ...
    @property
    def is_reference(self) -> bool: ...


_File = TypeVar("_File", bound=File)


@dataclass(frozen=True)
class Review(Generic[_File]):
    """A group, and which of its files are shown, marked and kept; numbers count its files from 0."""

    files: list[_File]

    shown: list[int]
    """Numbers of the files on the page, ascending: the first and the largest are among them."""

    largest: int | None
    """Number of the largest file, the first of several; None if no size is known."""

    has_largest: bool
    """Whether `largest` is larger than another file, so that it is marked on the page."""

    keeper: str
    """What the buttons keep: every "reference", else the "largest" file, or the "first" if none is larger than another
    one."""

    chosen: set[int]
    """Numbers of the files that `keeper` names; a symbolic link only where no other file will do."""

    kept: set[int]
    """Those that the buttons leave unticked: the chosen ones, and files that a chosen link leads to."""

    links: set[int]
    """Those that are symbolic links."""

    def is_kept(self, number: int) -> bool:
        """Whether the buttons leave this file unticked."""
        return number in self.kept

    def marks(self, number: int) -> list[str]:
        """What the page says about this file within its group."""
        marks = {
            "reference, kept": self.files[number].is_reference,
            "largest": self.has_largest and number == self.largest,
            "first": self.keeper == "first" and number in self.chosen,
            "same file as a kept one": number in self.kept - self.chosen,
        }
        return [text for text, holds in marks.items() if holds]

    def tags(self, number: int) -> list[str]:
        """What kind of file this is, where that matters."""
        return ["link"] if number in self.links else []


def review(group: list[_File], sizes: Sequence[Any]) -> Review[_File]:
    """Choose what is shown, marked and kept of a group.

    Args:
        group: the files.
        sizes: of the files, which are compared; None where a size is not known.
    """
    trails = [[] if file.n_bytes is None else _trail(file.place) for file in group]
    links = {i for i, trail in enumerate(trails) if len(trail) > 1}
    preferred = sorted(range(len(group)), key=lambda i: (i in links, i))
    first = preferred[0]
    known = [i for i in preferred if sizes[i] is not None]
    largest = max(known, key=sizes.__getitem__) if known else None  # the first of several
    has_largest = largest is not None and any(size != sizes[largest] for size in sizes)
    references = {i for i, file in enumerate(group) if file.is_reference}
    if references:
        keeper, chosen = "reference", references
    elif largest is not None and has_largest:
        keeper, chosen = "largest", {largest}
    else:
        keeper, chosen = "first", {first}
    needed = {place for i in chosen for place in trails[i]}
    kept = chosen | {i for i, trail in enumerate(trails) if trail and trail[0] in needed}
    # References come first in a group. Where it is too large, they give way to files that can be ticked.
    order = sorted(range(len(group)), key=lambda i: (i not in (0, first, largest), group[i].is_reference, i))
    return Review(group, sorted(order[:MAX_PER_GROUP]), largest, has_largest, keeper, chosen, kept, links)


def _trail(place: str) -> list[str]:
    """The place of a file. A symbolic link needs all places that it leads to, so they belong to it, too."""
    trail: list[str] = []
    place = _in_real_folder(place)
    while place not in trail:
        trail.append(place)
        if os.path.islink(place):
            place = _in_real_folder(os.path.join(os.path.dirname(place), os.readlink(place)))
    return trail


def _in_real_folder(place: str) -> str:
    """The path of a name without links to folders in it; a link that the name itself is stays."""
    folder, name = os.path.split(place)
    return os.path.join(os.path.realpath(folder), name)


class Card(NamedTuple):
    """What the page shows of a file."""

    entry: str
    """Its line of the saved list: the path with the folder, or a row number."""

    shown: str
    """The path as people read it."""

    link: str
    """URL of the file; empty if there is none."""

    pictures: Sequence[str]
    """URLs, side by side."""

    n_bytes: int | None
    facts: Sequence[str]
    marks: Sequence[str]
    tags: Sequence[str]
    is_reference: bool
    is_kept: bool
    """Whether the buttons leave this one unticked."""

    @property
    def listed(self) -> str | None:
        """The bytes of the entry, quoted; None for a path that would be two lines of a list."""
        if "\n" in self.entry or "\r" in self.entry:
            return None
        is_option = self.entry.startswith("-")  # for the commands that may read the list
        return quote(os.fsencode(os.path.join(os.curdir, self.entry) if is_option else self.entry))


class Group(NamedTuple):
    """Near-duplicates of one another."""

    heading: str
    keeper: str
    """As of `Review`."""

    cards: list[Card]
    n_files: int
    """Files of the group, also those without a card."""

    @property
    def has_pictures(self) -> bool:
        """Whether any card has."""
        return any(card.pictures for card in self.cards)

    @property
    def has_hidden(self) -> bool:
        """Whether some files have no card."""
        return len(self.cards) < self.n_files


def check_output(output: str | os.PathLike[str]) -> None:
    """Check, before files are hashed, that a report can be written.

    Raises:
        FileExistsError: the folder holds an index.html that no report has written.
        OSError: a report cannot be written.
    """
    check_writable("output", output, REPORT_FILES)
    as_html, as_json, _ = (Path(output) / name for name in REPORT_FILES)
    if as_html.exists() and not as_json.exists():  # a report writes the list before the page
        raise FileExistsError(
            f"output={os.fspath(output)!r} holds an {as_html.name} that is not of an earlier report, as it has no "
            f"{as_json.name}; choose another folder or remove the file"
        )


def write_lists(
    output: Path,
    report: dict[str, Any],
    names: Sequence[str],
    reviews: Iterable[Review[_File]],
    facts: Callable[[_File, _File], Sequence[Any]],
) -> tuple[Path, Path, Path]:
    """Write duplicates.json and duplicates.csv into a folder, made if missing; return the paths of `REPORT_FILES`.

    Args:
        output: the folder.
        report: what duplicates.json holds.
        names: of the columns of duplicates.csv that this kind of files has.
        reviews: the groups.
        facts: of the first file of a group and any file of it, the values of these columns.
    """
    output.mkdir(parents=True, exist_ok=True)
    as_html, as_json, as_csv = (output / name for name in REPORT_FILES)
    as_json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    with open(as_csv, "w", newline="", encoding="utf-8") as table:
        rows = csv.writer(table)
        rows.writerow(["group", "path", "bytes", *names, "folder", "reference", "largest"])
        for group, each in enumerate(reviews, start=1):
            for number, file in enumerate(each.files):
                ends = [for_csv(file.folder), int(file.is_reference), int(number == each.largest)]
                rows.writerow([group, for_csv(file.place), file.n_bytes, *facts(each.files[0], file), *ends])
    return as_html, as_json, as_csv


def page(
    groups: list[Group],
    broken: Broken,
    *,
    any_links: bool,
    where: str,
    searched: str,
    criterion: str,
    note: str,
    plural: str,
    order: str,
    ticked: str,
    shape: str,
    entries: str = "paths",
) -> str:
    """The page as HTML.

    Args:
        groups: the surest first.
        broken: pairs (path, reason).
        any_links: whether any files of the groups are symbolic links.
        where: what was searched, for the title.
        searched: how many files were searched, in what.
        criterion: which files make a group: "photos whose ...".
        note: how to open a file, and how to read the distances.
        plural: "photos", "videos" or "hashes".
        order: of the files of a group: "paths" or "rows".
        ticked: what the buttons tick of a group, before "the largest": all but those that are kept.
        shape: CSS class of the groups with pictures: "photos" side by side, "videos" one above the other.
        entries: what the saved list holds: "paths" or "row numbers".
    """
    template = files("fasthash").joinpath("review_page.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, finalize=for_html)
    if groups:
        lead = f"{searched}: {counted(len(groups), 'group')} of {criterion}. The surest groups come first."
    else:
        lead = f"{searched}: no {criterion}."
    return environment.from_string(template).render(
        counted=counted,
        groups=groups,
        broken=broken,
        where=where,
        lead=lead,
        note=note,
        plural=plural,
        order=f"{order}, links last" if any_links else order,
        ticked=ticked,
        keepers=" or ".join(word for word in _KEEPERS if any(group.keeper == word for group in groups)),
        shape=shape,
        entries=entries,
        any_hidden=any(group.has_hidden for group in groups),
        max_per_group=MAX_PER_GROUP,
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
    """A time of writing as people read it; empty for one beyond the calendar of the system."""
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(nanoseconds // 10**9))
    except (OSError, OverflowError, ValueError):
        return ""
