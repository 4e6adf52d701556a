"""What a folder or file holds: for errors where an index file was expected, and before a file is written there.

Called wherever an index file is read, and by the commands for their outputs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fasthash._core import FormatError
from fasthash._saved_folder import CARD_NAME, parsed

__all__ = ["NO_INDEX", "SHARDS_BEGINNING", "class_in_card", "folders_named", "kind_of_folder", "saved_folder_above"]

SHARDS_BEGINNING = b'{"class": "ShardedIndex"'  # the first bytes of the manifest of an index in shards
NO_INDEX = re.compile(r"(.+): file (has \d+ bytes, fewer than a header|does not begin with 'FASTHASH')", re.DOTALL)
_MANIFEST_BEGINNING = b'{"class": '  # of a store or of an index in shards
_LARGEST_CARD = 1 << 24  # bytes; only a state of many photos has a larger one

# The call that opens a saved folder, for each class that its card may name.
_OPENERS = {
    "EncodedParts": "fasthash.distributed.EncodedParts",
    "HashEncoder": "fasthash.encoder.HashEncoder.load",
    "HashHead": "fasthash.heads.HashHead.load",
    "RescoringIndex": "fasthash.RescoringIndex.load",
    "ShardedIndex": "fasthash.distributed.ShardedIndex.load",
}


@contextmanager
def folders_named(path: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> Iterator[None]:
    """If the block cannot read a path, as it is a folder or another file, say what opens it or makes an index."""
    try:
        yield
    except FormatError as error:
        if not NO_INDEX.fullmatch(str(error)):
            raise
        raise FormatError(f"{error}; from_arrays of FlatIndex and HierIndex makes an index of codes") from None
    except OSError as error:
        if not os.path.isdir(path):
            raise
        name = os.fsdecode(path)
        raise IsADirectoryError(f"{name} is {kind_of_folder(Path(name))}") from error


def saved_folder_above(path: str | os.PathLike[str]) -> str:
    """The saved folder or store in which a path lies, at any depth; empty if there is none."""
    for folder in Path(os.path.realpath(path)).parents:
        if class_in_card(folder / CARD_NAME) or _begins(folder / "manifest", _MANIFEST_BEGINNING):
            return os.fspath(folder)
    return ""


def kind_of_folder(folder: Path) -> str:
    """What a folder holds and what opens it, as the end of a sentence."""
    manifest = folder / "manifest"
    if _begins(manifest, SHARDS_BEGINNING):
        return "an index in shards; fasthash.distributed.ShardedIndex.open opens it"
    if _begins(manifest, b""):
        return "a store; fasthash.Store opens it"
    kind = class_in_card(folder / CARD_NAME)
    return f"a saved {kind}; {_OPENERS[kind]} opens it" if kind in _OPENERS else "a folder, not an index file"


def _begins(file: Path, with_bytes: bytes) -> bool:
    """Whether a file is there, can be read, and begins with some bytes."""
    try:
        with open(file, "rb") as opened:
            return opened.read(len(with_bytes)) == with_bytes
    except OSError:
        return False


def class_in_card(card: Path) -> str:
    """The class that a card names, unchecked; empty if there is none."""
    try:
        with open(card, "rb") as file:
            return str(parsed(file.read(_LARGEST_CARD).decode())["class"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""
