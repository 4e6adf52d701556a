"""The manifest of a folder of shards: the settings of the index, and the commit of every shard that counts.

One small file, replaced by each commit of a `ShardedIndex` in one step, so that a commit counts in all shards or in
none. Needs no Ray. docs/format.md has all fields.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from fasthash._checks import check_int
from fasthash._core import FormatError
from fasthash._folder_kinds import SHARDS_BEGINNING
from fasthash._hier_index import HierIndex
from fasthash._index_options import IndexSettings, Memory, Metric, Plan
from fasthash._saved_folder import stranger_in
from fasthash._saved_kinds import MAX_SHARDS, SHARD_RULE
from fasthash.store.copying import verify_files
from fasthash.store.files import LOCK, put_manifest
from fasthash.store.manifest import MANIFEST, OUR_FILES, FileFacts, file_facts
from fasthash.store.prepared import read_named
from fasthash.store.signed import read_signed, signed

__all__ = [
    "ShardCommit",
    "ShardsManifest",
    "facts_of",
    "holds_shards",
    "read_shards",
    "refuse_others",
    "refuse_stores",
    "shard_folder",
    "verify_shards",
]

_KIND = "ShardedIndex"
_WHAT = "an index in shards"
_DRAFT = re.compile(r"manifest-[0-9a-f]{16}\.draft")
_SHARD = re.compile(r"shard-\d{5}")
_END_OF_IDS = 1 << 63
_MAX_CODES = 2**32 - 1  # of a shard


@dataclass(frozen=True)
class ShardCommit:
    """The commit of one shard that counts."""

    manifest: FileFacts | None = None  # None before the first one: the shard is empty
    n_codes: int = 0


@dataclass(frozen=True)
class ShardsManifest:
    """One commit of an index in shards."""

    level_bits: tuple[int, ...]
    memory: Memory
    plan: Plan
    shards: tuple[ShardCommit, ...]
    next_id: int = 0
    commit: int = 0
    id: str = field(default_factory=lambda: secrets.token_hex(16))
    metric: Metric = "hamming"

    @property
    def settings(self) -> IndexSettings:
        """Settings of each shard and its store."""
        return {"level_bits": self.level_bits, "memory": self.memory, "plan": self.plan, "metric": self.metric}

    def next(self, shards: Mapping[int, ShardCommit], next_id: int) -> ShardsManifest:
        """The manifest of the next commit, which replaces those of some shards."""
        after = tuple(shards.get(number, shard) for number, shard in enumerate(self.shards))
        return replace(self, commit=self.commit + 1, shards=after, next_id=next_id)

    def put(self, folder: Path) -> bool:
        """Replace the manifest of a folder; return whether it is on disk, too.

        Raises:
            OSError: a step was refused; the old manifest is in place.
        """
        return put_manifest(folder, signed(_KIND, asdict(self) | {"shard": SHARD_RULE}), [])


def shard_folder(folder: str | os.PathLike[str], number: int) -> Path:
    """The folder of a shard."""
    return Path(folder) / f"shard-{number:05d}"


def read_shards(folder: Path) -> ShardsManifest:
    """Read the manifest of a folder of shards.

    Raises:
        FileNotFoundError: the folder holds none.
        FormatError: it is damaged, of something else, or of a newer fasthash.
    """
    try:
        text = (folder / MANIFEST).read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(f"folder={str(folder)!r} holds no index in shards: {MANIFEST} is missing") from error
    return read_signed(folder / MANIFEST, text, _KIND, _WHAT, _checked)


def holds_shards(folder: Path) -> bool:
    """Whether the manifest of a folder is that of an index in shards, damaged or not, rather than of a store."""
    try:
        with open(folder / MANIFEST, "rb") as file:
            return file.read(len(SHARDS_BEGINNING)) == SHARDS_BEGINNING
    except OSError:
        return False


def _checked(content: dict[str, Any]) -> ShardsManifest:
    if (rule := content.pop("shard")) != SHARD_RULE:
        raise FormatError(f"its rule of shards is {rule!r}")
    shards = tuple(map(_shard, content.pop("shards")))
    check_int("number of shards", len(shards), minimum=1, maximum=MAX_SHARDS)
    levels = tuple(content.pop("level_bits"))
    if content.keys() != {"memory", "plan", "next_id", "commit", "id", "metric"}:
        raise FormatError(f"its other fields are {', '.join(content)}")
    manifest = ShardsManifest(levels, **content, shards=shards)
    HierIndex(**manifest.settings)  # raises for settings that no index has
    check_int("next_id", manifest.next_id, minimum=0, maximum=_END_OF_IDS)
    check_int("commit", manifest.commit, minimum=0)
    if not re.fullmatch("[0-9a-f]{32}", manifest.id):
        raise FormatError(f"its id is {manifest.id!r}")
    return manifest


def _shard(content: Mapping[str, Any]) -> ShardCommit:
    given, n_codes = content["manifest"], check_int("n_codes", content["n_codes"], minimum=0, maximum=_MAX_CODES)
    if given is None and n_codes:
        raise FormatError(f"a shard of {n_codes} codes has no manifest")
    return ShardCommit(None if given is None else file_facts(given, ".commit"), n_codes)


def refuse_others(folder: Path) -> None:
    """Check that a new index may be made in a folder: it is missing, empty, or holds what a killed attempt left.

    Raises:
        FileExistsError: it holds an index in shards or something else, or is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"store={str(folder)!r} is a file, not a folder")
    names = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    if MANIFEST in names:
        raise FileExistsError(f"store={str(folder)!r} holds an index already; ShardedIndex.open opens one in shards")
    for name in names:
        if _SHARD.fullmatch(name):
            raise FileExistsError(f"store={str(folder)!r} holds shards, but no manifest; restore it or remove them")
    if other := stranger_in(folder, lambda name: name == LOCK or _DRAFT.fullmatch(name)):
        raise FileExistsError(f"store={str(folder)!r} holds something else: {other}")


def refuse_stores(folder: Path) -> None:
    """Check that an index may be saved in a folder: its files would mix with those of a store, or of shards on disk.

    Raises:
        FileExistsError: the folder holds a store or an index in shards, whole or in part, or is that of a shard.
    """
    for name in sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []:
        if name == MANIFEST or OUR_FILES.fullmatch(name) or _SHARD.fullmatch(name):
            raise FileExistsError(f"folder={str(folder)!r} holds a store or its shards: {name}; save elsewhere")


# ---- for the commands ----


def facts_of(folder: Path) -> dict[str, Any]:
    """Size and settings of the index in a folder, as a dictionary of plain numbers and names, ready for JSON.

    Raises:
        FileNotFoundError, FormatError: as `read_shards`, or a shard is damaged.
    """
    index = read_shards(folder)
    stores = [
        read_named(shard_folder(folder, number), shard.manifest, index.settings)
        for number, shard in enumerate(index.shards)
        if shard.manifest is not None
    ]
    return {
        "kind": "sharded",
        "codes": sum(shard.n_codes for shard in index.shards),
        "bits": sum(index.level_bits),
        "levels": list(index.level_bits),
        "memory": index.memory,
        "plan": index.plan,
        "metric": index.metric,
        "shards": len(index.shards),
        "commit": index.commit,
        "next_id": index.next_id,
        "segments": sum(len(store.segments) for store in stores),
        "removed": sum(each.n_removed for store in stores for each in store.segments),
        "file_bytes": sum(store.file_bytes for store in stores),
    }


def verify_shards(folder: Path) -> list[tuple[str, int, str]]:
    """Check every byte of every file of the last commit; return name, bytes and fault of each, "" for none.

    Raises:
        FileNotFoundError, FormatError: as `read_shards`.
        OSError: a file cannot be read.
    """
    index = read_shards(folder)
    outcomes = [(MANIFEST, (folder / MANIFEST).stat().st_size, "")]
    for number, shard in enumerate(index.shards):
        if (named := shard.manifest) is None:
            continue
        place = shard_folder(folder, number)
        try:
            store, fault = read_named(place, named, index.settings), ""
        except FormatError as error:
            outcomes.append((f"{place.name}/{named.name}", named.n_bytes, str(error)))
            continue
        files = verify_files(place, store)
        n_codes = sum(each.n_codes - each.n_removed for each in store.segments)
        if n_codes != shard.n_codes:
            fault = f"it has {n_codes} codes, not {shard.n_codes}"
        outcomes.append((f"{place.name}/{named.name}", named.n_bytes, fault))
        outcomes += [(f"{place.name}/{name}", n_bytes, fault) for name, n_bytes, fault in files]
    return outcomes
