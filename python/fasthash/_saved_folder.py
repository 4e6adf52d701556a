"""Folders that are saved atomically: data files, and a card, card.json, with their names and all other facts.

Every save gives its files new names. So replacing the card is atomic: before it the folder holds the old state, after
it the new one. The card has the length and the SHA-256 of each file, a SHA-256 of a sample of each file, which is quick
to check for files of any size, and a SHA-256 of the card itself.

A save holds the lock of the folder, so it removes only files that no other save needs. A load holds no lock: if the
files of its card are gone, it reads the new card.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from fasthash._checks import check_path
from fasthash._core import FormatError
from fasthash._durable import flush, is_flushed, make_folder, put
from fasthash._folder_lock import locked

__all__ = [
    "CARD_NAME",
    "Card",
    "card_of",
    "check_file",
    "file_entry",
    "is_version",
    "parsed",
    "put_card",
    "reached",
    "read_by_card",
    "read_card",
    "refuse_others",
    "saving",
    "stranger_in",
    "write_folder",
]

Card = dict[str, Any]
_Loaded = TypeVar("_Loaded")
_AnyCard = TypeVar("_AnyCard")

CARD_NAME = "card.json"
_MANIFEST = "manifest"  # of a store
_VERSION = 1
_OUR_FILES = re.compile(r"((codes|shard-\d{5,})-[0-9a-f]{16}\.fh|vectors-[0-9a-f]{16}\.npy|card-[0-9a-f]{16}\.json)")
# A folder may hold these before its first save: the files of a repository, and in the `state` of dedup the states of
# single folders. The drafts of killed saves and the lock of another save are hidden files.
_BESIDE = re.compile(r"\..*|(README|LICENSE)(\.\w+)?|(photos|videos)-[0-9a-f]{16}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_HEAD = 1 << 12  # covers the header of every file that we write; an index header has the checksums of its sections
_N_SAMPLES, _SAMPLE = 256, 1 << 9
_BLOCK = 1 << 20


def write_folder(
    folder: str | os.PathLike[str],
    kind: str,
    facts: Mapping[str, Any],
    writers: Mapping[str, Callable[[Path], object]],
    *,
    replace: bool = True,
) -> Card:
    """Write files and a card to `folder`, made if missing; a save that fails leaves the earlier content.

    Args:
        folder: folder for this state alone; a save removes only files that a save wrote.
        kind: name of the saved object, usually its class.
        facts: other facts for the card, ready for JSON.
        writers: for each name (`"codes.fh"`, `"vectors.npy"`, `"shard-00000.fh"` and so on), a function that writes the
            file at a path. A writer that starts the work elsewhere returns a function; that function waits for the end
            and returns the `file_entry`.
        replace: False keeps an existing card of this kind.

    Returns:
        The new card, or the card that was kept, as `read_card` returns it.

    Raises:
        FileExistsError: `folder` holds something else.
        OSError: the operating system refused a step.
    """
    check_path("folder", folder)
    folder, token = Path(folder), secrets.token_hex(8)
    with saving(folder, _OUR_FILES, _files_of, token):
        if (folder / CARD_NAME).exists():
            try:
                old = read_card(folder, kind)
            except FormatError as error:
                raise FileExistsError(f"folder={os.fspath(folder)!r} holds something else: {error}") from error
            if not replace:
                return old
        draft = folder / f"card-{token}.json"
        paths = {name: folder / f"-{token}.".join(name.split(".")) for name in writers}
        written = {name: write(paths[name]) for name, write in writers.items()}
        files = {name: entry() if callable(entry) else file_entry(paths[name]) for name, entry in written.items()}
        card = {"version": _VERSION, "class": kind, **facts, "files": files}
        draft.write_text(json.dumps(card | {"sha256": _checksum_of(card)}, indent=1, allow_nan=False), encoding="utf-8")
        put_card(draft, paths.values())
        reached("card replaced")
    return parsed(json.dumps(card))


@contextmanager
def saving(folder: Path, ours: re.Pattern[str], files_of: Callable[[Card], set[str]], token: str) -> Iterator[None]:
    """Hold the lock of a folder, made if missing, for a save; at the end remove files that are no longer needed.

    Args:
        folder: output folder.
        ours: pattern of the names of all files that such saves write, except the card.
        files_of: function that returns the file names in a card.
        token: string that only the names of the new files contain.

    Raises:
        FileExistsError: as of `refuse_others`; or the folder is that of a store, or of an index in shards.
    """
    if (folder / _MANIFEST).exists():
        raise FileExistsError(f"folder={os.fspath(folder)!r} holds something else: a {_MANIFEST}, as stores have")
    refuse_others("folder", folder, ours)
    make_folder(folder)
    with locked(folder) as alone:
        try:
            yield
        finally:
            # Until the new card is on disk, the files of the old card may still be needed.
            removable = alone and is_flushed(folder)
            _remove_leftovers(folder, ours, files_of, "" if removable else token)


def refuse_others(name: str, folder: Path, ours: re.Pattern[str] = _OUR_FILES) -> None:
    """Check that a folder, the argument `name`, has a card, or holds no files of others but those of a repository.

    Args:
        ours: pattern of the names of files that saves of this kind write.

    Raises:
        FileExistsError: it holds something else.
    """
    if (folder / CARD_NAME).exists():
        return
    # Another save may have put the card meanwhile.
    if other := stranger_in(folder, lambda name: name == CARD_NAME or ours.fullmatch(name) or _BESIDE.fullmatch(name)):
        raise FileExistsError(f"{name}={os.fspath(folder)!r} holds something else: {other}")


def stranger_in(folder: Path, is_ours: Callable[[str], object]) -> str:
    """The first name in a folder that is not ours; empty if there is none, or no folder."""
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    return next((name for name in names if not is_ours(name)), "")


def read_by_card(read: Callable[[], _AnyCard], load: Callable[[_AnyCard], _Loaded]) -> _Loaded:
    """Load the files of a card; if a save has replaced the card and removed its files meanwhile, load the new card.

    Args:
        read: function that reads the card.
        load: function that reads the files of a card.
    """
    card = read()
    while True:
        reached("card read")
        try:
            return load(card)
        except (FormatError, OSError):
            newest = read()
            if newest == card:
                raise
            card = newest


def reached(point: str) -> None:
    """Do nothing; tests replace this function to run another save or load at this point."""


def file_entry(path: Path) -> dict[str, Any]:
    """Return the entry of a file in a card: its name, length and checksums."""
    return {"name": path.name, "bytes": path.stat().st_size, "sample": _sample(path), "sha256": _checksum(path)}


def put_card(draft: Path, files: Iterable[Path]) -> None:
    """Replace the card of a folder by a draft, atomically.

    The files that the card names, and their names, are flushed first: they must reach the disk before the card.
    """
    for path in files:
        flush(path)
    flush(draft.parent)
    put(draft, draft.with_name(CARD_NAME))


def card_of(folder: str | os.PathLike[str], kind: str) -> Path:
    """Return the path of the card in a folder; `kind` is the name of a class, for the error.

    Raises:
        FileNotFoundError: the folder has no card.
    """
    check_path("folder", folder)
    path = Path(folder) / CARD_NAME
    if not path.is_file():
        raise FileNotFoundError(f"folder={os.fspath(folder)!r} holds no saved {kind}: {CARD_NAME} is missing")
    return path


def read_card(folder: str | os.PathLike[str], kind: str) -> Card:
    """Read the card of a folder and check its entries of files; the caller checks the other fields.

    Raises:
        FileNotFoundError: `folder` lacks card.json.
        FormatError: the card is damaged, or is not of this kind.
    """
    path = card_of(folder, kind)
    try:
        card = parsed(path.read_text(encoding="utf-8"))
        if card["class"] != kind:
            raise FormatError(f"it describes a saved {card['class']}")
        if not is_version(card["version"], (_VERSION,)):
            raise FormatError(f"version is {card['version']!r}, this release reads {_VERSION}")
        if card.pop("sha256") != _checksum_of(card):
            raise FormatError("its checksum does not match")
        for name, entry in card["files"].items():
            _check_entry(name, entry)
        if len(_files_of(card)) != len(card["files"]):
            raise FormatError("it names a file twice")
    except FormatError as error:
        raise FormatError(f"{path} is not the card of a {kind}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise FormatError(f"{path} is not the card of a {kind}: {error!r}") from error
    return card


def check_file(folder: str | os.PathLike[str], card: Mapping[str, Any], name: str, *, whole: bool) -> Path:
    """Check a file that a card names, and return its path: length and a sample, or with `whole` every byte.

    Raises:
        FormatError: the file is missing or damaged, or belongs to another save.
    """
    if name not in card["files"]:
        raise FormatError(f"{Path(folder) / CARD_NAME} names no file {name}")
    entry = card["files"][name]
    path = Path(folder) / entry["name"]
    if not path.is_file():
        raise FormatError(f"{path} is missing, which {CARD_NAME} names")
    if (size := path.stat().st_size) != entry["bytes"]:
        raise FormatError(f"{path} has {size} bytes, expected {entry['bytes']}")
    if _sample(path) != entry["sample"] or (whole and _checksum(path) != entry["sha256"]):
        raise FormatError(f"{path} is damaged, or of another save: its checksum does not match")
    return path


def parsed(text: str) -> Card:
    """Parse the JSON of a card, without checking its fields.

    Raises:
        ValueError: the text is not JSON.
        RecursionError: the JSON is nested too deeply.
    """
    card: Card = json.loads(text, parse_constant=_refuse_constant)
    return card


def is_version(value: Any, known: Collection[int]) -> bool:
    """Whether a value read from JSON is one of these version numbers: `true` and `1.0`, which equal 1, are none."""
    return type(value) is int and value in known


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _check_entry(name: str, entry: Any) -> None:
    """Check an entry of a card against the form of `file_entry`; a path out of the folder is refused."""
    if entry.keys() != {"name", "bytes", "sample", "sha256"}:
        raise FormatError(f"of the file {name} it tells {', '.join(entry)}")
    if not _OUR_FILES.fullmatch(entry["name"]):
        raise FormatError(f"{entry['name']!r} is not the name of a file of ours")
    if type(entry["bytes"]) is not int or not all(_DIGEST.fullmatch(entry[sum]) for sum in ("sample", "sha256")):
        raise FormatError(f"the length or a checksum of the file {name} is none")


def _files_of(card: Card) -> set[str]:
    return {entry["name"] for entry in card["files"].values()}


def _checksum_of(card: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(card, sort_keys=True).encode()).hexdigest()


def _checksum(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _sample(path: Path) -> str:
    """Compute the SHA-256 of the beginning of a file and of pieces spread evenly over it, including the end."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        digest.update(file.read(_HEAD))
        last = max(0, os.fstat(file.fileno()).st_size - _SAMPLE)
        for i in range(_N_SAMPLES):
            file.seek(last * i // (_N_SAMPLES - 1))
            digest.update(file.read(_SAMPLE))
    return digest.hexdigest()


def _remove_leftovers(folder: Path, ours: re.Pattern[str], files_of: Callable[[Card], set[str]], token: str) -> None:
    """Remove files of earlier, failed and killed saves: all files of saves that the card does not name.

    Args:
        folder: folder whose lock this save holds.
        ours: pattern of the names of files that saves write.
        files_of: function that returns the file names in a card.
        token: remove only names that contain this string; empty for all.
    """
    try:
        in_use = files_of(parsed((folder / CARD_NAME).read_text(encoding="utf-8")))
    except FileNotFoundError:
        in_use = set()
    except (OSError, KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return  # not a card of ours: keep the other files too
    with suppress(OSError):  # a later save removes the rest; this save may have succeeded
        for path in list(folder.iterdir()):
            if ours.fullmatch(path.name) and token in path.name and path.name not in in_use:
                with suppress(OSError):
                    path.unlink()
