"""The manifest of a store: the names, lengths and checksums of the files of a commit, and the settings of the store.

It is one small file, replaced by each commit in one step: a line of JSON, and a line with its SHA-256. docs/format.md
has all fields.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fasthash._core import FormatError
from fasthash._hier_index import HierIndex
from fasthash._index_files import is_index_file
from fasthash._index_options import IndexSettings, Memory, Metric, Plan
from fasthash.store.kinds import KINDS
from fasthash.store.signed import read_signed, signed

__all__ = [
    "MANIFEST",
    "OUR_FILES",
    "FileFacts",
    "Manifest",
    "RemovedFacts",
    "SegmentFacts",
    "file_facts",
    "manifest_text",
    "parse_manifest",
    "read_manifest",
]

MANIFEST = "manifest"
OUR_FILES = re.compile(r"(segment|keys|removed|manifest)-[0-9a-f]{16}\.(fh|keys|removed|draft|commit)")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_HEAD = 128  # bytes of the headers of segments and keys, which hold the checksums of the rest


@dataclass(frozen=True)
class FileFacts:
    """One file."""

    name: str
    n_bytes: int
    sha256: str  # of the first 128 bytes; of removed entries and of manifests, of all

    @classmethod
    def of(cls, name: str, size: int, head: bytes) -> FileFacts:
        """`head`: the bytes under the checksum, or more."""
        whole = name.endswith((".removed", ".commit"))
        return cls(name, size, hashlib.sha256(head if whole else head[:_HEAD]).hexdigest())

    def check(self, path: Path, content: bytes, size: int) -> None:
        """Check a file against these facts.

        Raises:
            FormatError: another length or checksum.
        """
        if size != self.n_bytes:
            raise FormatError(f"{path} has {size} bytes, its store expects {self.n_bytes}")
        if FileFacts.of(self.name, size, content) != self:
            raise FormatError(f"{path} is damaged, or of another store: its checksum does not match")


@dataclass(frozen=True)
class RemovedFacts:
    """Removed entries of a segment: n numbers of a file, from the number `begin` on."""

    file: FileFacts
    begin: int
    n: int


@dataclass(frozen=True)
class SegmentFacts:
    """One segment."""

    file: FileFacts
    n_codes: int
    keys: FileFacts | None
    removed: tuple[RemovedFacts, ...] = ()

    @property
    def n_removed(self) -> int:
        return sum(each.n for each in self.removed)

    def files(self) -> Iterable[str]:
        yield self.file.name
        if self.keys:
            yield self.keys.name
        yield from (each.file.name for each in self.removed)


@dataclass(frozen=True)
class Manifest:
    """One commit of a store."""

    id: str
    commit: int
    level_bits: tuple[int, ...]
    memory: Memory
    plan: Plan
    keys: str | None  # kind of the keys, "none" if entries have none, None until the first entry
    next_id: int
    segments: tuple[SegmentFacts, ...] = ()
    metric: Metric = "hamming"

    @property
    def n_bits(self) -> int:
        return sum(self.level_bits)

    @property
    def settings(self) -> IndexSettings:
        """Settings of the index that the store is searched as."""
        return {"level_bits": self.level_bits, "memory": self.memory, "plan": self.plan, "metric": self.metric}

    def files(self) -> set[str]:
        """Names of all files of this commit, beside the manifest."""
        return {name for segment in self.segments for name in segment.files()}

    @property
    def file_bytes(self) -> int:
        """Bytes of all files of this commit, beside the manifest."""
        sizes = {
            file.name: file.n_bytes
            for segment in self.segments
            for file in (segment.file, segment.keys, *(each.file for each in segment.removed))
            if file is not None
        }
        return sum(sizes.values())

    def next(self, segments: Iterable[SegmentFacts], keys: str | None, next_id: int) -> Manifest:
        """The manifest of the next commit."""
        return replace(self, commit=self.commit + 1, segments=tuple(segments), keys=keys, next_id=next_id)

    def text(self) -> bytes:
        """The content of the file."""
        return signed("Store", asdict(self))


def read_manifest(folder: Path, name: str = MANIFEST) -> Manifest:
    """Read the manifest of a store; `name` is that of the file, for a shard.

    Raises:
        FileNotFoundError: the folder holds no store.
        FormatError: the manifest is damaged, or of a newer fasthash.
    """
    return parse_manifest(folder, manifest_text(folder, name), name)


def manifest_text(folder: Path, name: str = MANIFEST) -> bytes:
    """The content of a manifest, which differs from that of every other commit; raises as `read_manifest`."""
    try:
        return (folder / name).read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(f"path={str(folder)!r} {_no_store(folder, name)}") from error


def _no_store(folder: Path, name: str) -> str:
    if is_index_file(folder):
        return "is an index file; fasthash.load opens it"
    return f"holds no store: {f'{name} is missing' if folder.exists() else 'it does not exist'}"


def parse_manifest(folder: Path, text: bytes, name: str = MANIFEST) -> Manifest:
    """The manifest with this content; raises as `read_manifest`."""
    return read_signed(folder / name, text, "Store", "a store", _checked)


def _checked(content: dict[str, Any]) -> Manifest:
    segments = tuple(_segment(each) for each in content.pop("segments"))
    manifest = Manifest(**content | {"level_bits": tuple(content["level_bits"])}, segments=segments)
    _check("id", isinstance(manifest.id, str))
    _check("commit", _whole(manifest.commit))
    HierIndex(**manifest.settings)  # raises for settings that no index has
    _check("keys", manifest.keys in (None, "none", *KINDS))
    _check("next_id", _whole(manifest.next_id) and manifest.next_id <= 2**63)
    names = [name for each in segments for name in (each.file.name, each.keys.name if each.keys else "")]
    named = [name for name in names if name]
    _check("segments", len(set(named)) == len(named))
    _check("keys of segments", all((each.keys is not None) == (manifest.keys in KINDS) for each in segments))
    _check("removed", all(each.n_removed < each.n_codes for each in segments))
    return manifest


def _segment(content: Mapping[str, Any]) -> SegmentFacts:
    removed = tuple(
        RemovedFacts(file_facts(each["file"], ".removed"), _number(each["begin"]), _number(each["n"]))
        for each in content["removed"]
    )
    keys = None if content["keys"] is None else file_facts(content["keys"], ".keys")
    return SegmentFacts(file_facts(content["file"], ".fh"), _number(content["n_codes"]), keys, removed)


def file_facts(content: Mapping[str, Any], ending: str) -> FileFacts:
    """Read the object of a file in a manifest; `ending` is that of its name.

    Raises:
        FormatError, KeyError, TypeError: it is none.
    """
    facts = FileFacts(content["name"], _number(content["n_bytes"]), content["sha256"])
    # A path out of the folder is refused.
    _check("name", bool(OUR_FILES.fullmatch(facts.name)) and facts.name.endswith(ending))
    _check("sha256", bool(_DIGEST.fullmatch(facts.sha256)))
    return facts


def _number(value: Any) -> int:
    _check("a number", _whole(value))
    return int(value)


def _whole(value: Any) -> bool:
    return type(value) is int and value >= 0


def _check(name: str, holds: bool) -> None:
    if not holds:
        raise FormatError(f"its field {name!r} is not what a store writes")
