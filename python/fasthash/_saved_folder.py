"""Folders that are saved as a whole: files of data, and a card, card.json, that names them and tells all the rest.

Every save gives its files new names, so that putting the new card in place of the old one is the whole change: before
it the folder holds the old state, after it the new one. The card has the length and the SHA-256 of each file and of
itself, and a SHA-256 of a sample of each file, which takes no time however large the file is.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from fasthash._core import FormatError
from fasthash._durable import flush, is_flushed, make_folder, put

__all__ = ["CARD_NAME", "card_of", "check_file", "file_entry", "put_card", "read_card", "write_folder"]

CARD_NAME = "card.json"
_VERSION = 1
_OUR_FILES = re.compile(r"((codes|shard-\d{5,})-[0-9a-f]{16}\.fh|vectors-[0-9a-f]{16}\.npy|card-[0-9a-f]{16}\.json)")
_HEAD = 1 << 12  # holds the header of every file that we write; that of an index file has the checksums of its sections
_N_SAMPLES, _SAMPLE = 256, 1 << 9
_BLOCK = 1 << 20


def write_folder(
    folder: str | os.PathLike[str], kind: str, facts: Mapping[str, Any], writers: Mapping[str, Callable[[Path], object]]
) -> None:
    """Write files and a card into `folder`, which is made if missing; a save that fails leaves what was there.

    Args:
        folder: place of its own for this state; of its files only those that a save wrote are ever removed.
        kind: name of what is saved, such as that of a class.
        facts: what the card tells beside the files, ready for JSON.
        writers: of `"codes.fh"`, `"vectors.npy"`, `"shard-00000.fh"` and so on: writes the file at a path. One that has
            the file written elsewhere, beside the others, gives a function that waits for that and returns what
            `file_entry` says of it.

    Raises:
        FileExistsError: `folder` holds something else that has a card.
        OSError: the operating system refused a step.
    """
    folder = Path(folder)
    make_folder(folder)
    if (folder / CARD_NAME).exists():
        try:
            read_card(folder, kind)
        except FormatError as error:
            raise FileExistsError(f"folder={os.fspath(folder)!r} holds something else: {error}") from error
    token = secrets.token_hex(8)
    draft = folder / f"card-{token}.json"
    try:
        paths = {name: folder / f"-{token}.".join(name.split(".")) for name in writers}
        written = {name: write(paths[name]) for name, write in writers.items()}
        files = {name: entry() if callable(entry) else file_entry(paths[name]) for name, entry in written.items()}
        card = {"version": _VERSION, "class": kind, **facts, "files": files}
        draft.write_text(json.dumps(card | {"sha256": _checksum_of(card)}, indent=1, allow_nan=False), encoding="utf-8")
        put_card(draft, paths.values())
    finally:
        _remove_leftovers(folder, token)


def file_entry(path: Path) -> dict[str, Any]:
    """What a card says of a file: its name, its length and its checksums."""
    return {"name": path.name, "bytes": path.stat().st_size, "sample": _sample(path), "sha256": _checksum(path)}


def put_card(draft: Path, files: Iterable[Path]) -> None:
    """Make a draft the card of its folder, which it replaces as a whole.

    The card must not come to the disk before the files that it names: they and their names are there before.
    """
    for path in files:
        flush(path)
    flush(draft.parent)
    put(draft, draft.with_name(CARD_NAME))


def card_of(folder: str | os.PathLike[str], kind: str) -> Path:
    """The card of a folder that holds something of a kind, the name of a class.

    Raises:
        FileNotFoundError: there is none.
    """
    path = Path(folder) / CARD_NAME
    if not path.is_file():
        raise FileNotFoundError(f"folder={os.fspath(folder)!r} holds no saved {kind}: {CARD_NAME} is missing")
    return path


def read_card(folder: str | os.PathLike[str], kind: str) -> dict[str, Any]:
    """Read the card of a folder that holds this kind.

    Raises:
        FileNotFoundError: `folder` lacks card.json.
        FormatError: it is the card of something else, or damaged.
    """
    path = card_of(folder, kind)
    try:
        card: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if card["class"] != kind:
            raise FormatError(f"it describes a {card['class']}")
        if card["version"] != _VERSION:
            raise FormatError(f"version is {card['version']!r}, this release reads {_VERSION}")
        if card.pop("sha256") != _checksum_of(card):
            raise FormatError("its checksum does not match")
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise FormatError(f"{path} is not the card of a {kind}: {error!r}") from error
    return card


def check_file(folder: str | os.PathLike[str], card: Mapping[str, Any], name: str, *, whole: bool) -> Path:
    """The path of a file that a card names, after a look at its length and a sample of it, or at every byte.

    Raises:
        FormatError: the file is missing, is not the one that the card was written with, or is damaged.
    """
    try:
        entry = card["files"][name]
        if not _OUR_FILES.fullmatch(entry["name"]):  # so never a path that leads elsewhere
            raise ValueError(f"{entry['name']!r} is not the name of a file of ours")
        path = Path(folder) / entry["name"]
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{Path(folder) / CARD_NAME} names no file {name}: {error!r}") from error
    if not path.is_file():
        raise FormatError(f"{path} is missing, which {CARD_NAME} names")
    if (size := path.stat().st_size) != entry["bytes"]:
        raise FormatError(f"{path} has {size} bytes, expected {entry['bytes']}")
    if _sample(path) != entry["sample"] or (whole and _checksum(path) != entry["sha256"]):
        raise FormatError(f"{path} is damaged, or of another save: its checksum does not match")
    return path


def _checksum_of(card: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(card, sort_keys=True).encode()).hexdigest()


def _checksum(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _sample(path: Path) -> str:
    """SHA-256 of the beginning of a file and of pieces that are spread evenly over it, the end included."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        digest.update(file.read(_HEAD))
        last = max(0, os.fstat(file.fileno()).st_size - _SAMPLE)
        for i in range(_N_SAMPLES):
            file.seek(last * i // (_N_SAMPLES - 1))
            digest.update(file.read(_SAMPLE))
    return digest.hexdigest()


def _remove_leftovers(folder: Path, token: str) -> None:
    """Remove what saves left behind, this one and any that was killed: all of our files but those in use.

    If the card may not be on the disk, remove only files with this token, which is in the names of this save's alone.
    """
    removed = "" if is_flushed(folder) else token
    try:
        card = json.loads((folder / CARD_NAME).read_text(encoding="utf-8"))
        in_use = {entry["name"] for entry in card["files"].values()}
    except FileNotFoundError:
        in_use = set()
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return  # not a card that we wrote, so better keep what lies beside it
    for path in folder.iterdir():
        if _OUR_FILES.fullmatch(path.name) and path.name not in in_use and removed in path.name:
            path.unlink(missing_ok=True)
