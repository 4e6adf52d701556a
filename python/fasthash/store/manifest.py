"""The manifest of a store: the names, lengths and checksums of the files of a commit, and the settings of the store.

It is one small file, replaced by each commit in one step: a line of JSON, and a line with its SHA-256. docs/format.md
has all fields.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fasthash._checks import MAX_BITS
from fasthash._core import FormatError
from fasthash._index_options import METRICS, Metric
from fasthash._saved_folder import parsed
from fasthash.store.kinds import KINDS

__all__ = ["MANIFEST", "OUR_FILES", "FileFacts", "Manifest", "RemovedFacts", "SegmentFacts", "read_manifest"]

MANIFEST = "manifest"
OUR_FILES = re.compile(r"(segment|keys|removed|manifest)-[0-9a-f]{16}\.(fh|keys|removed|draft)")
_FORMATS = (1, 2)
_DIGEST = re.compile(r"[0-9a-f]{64}")
_HEAD = 128  # bytes of the headers of segments and keys, which hold the checksums of the rest


@dataclass(frozen=True)
class FileFacts:
    """One file."""

    name: str
    n_bytes: int
    sha256: str  # of the first 128 bytes; of a file of removed entries, of all

    @classmethod
    def of(cls, name: str, size: int, head: bytes) -> FileFacts:
        """`head`: the bytes under the checksum, or more."""
        return cls(name, size, hashlib.sha256(head if name.endswith(".removed") else head[:_HEAD]).hexdigest())

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
    memory: str
    plan: str
    keys: str | None  # kind of the keys, "none" if entries have none, None until the first entry
    next_id: int
    segments: tuple[SegmentFacts, ...] = ()
    metric: Metric = "hamming"

    @property
    def format(self) -> int:
        """The oldest format that can say this: 2 names the metric, 1 is without one and means Hamming."""
        return 1 if self.metric == "hamming" else 2

    def files(self) -> set[str]:
        """Names of all files of this commit, beside the manifest."""
        return {name for segment in self.segments for name in segment.files()}

    def next(self, segments: Iterable[SegmentFacts], keys: str | None, next_id: int) -> Manifest:
        """The manifest of the next commit."""
        return replace(self, commit=self.commit + 1, segments=tuple(segments), keys=keys, next_id=next_id)

    def text(self) -> bytes:
        """The content of the file."""
        content = {"class": "Store", "format": self.format} | asdict(self)
        if self.format == 1:
            del content["metric"]
        line = json.dumps(content, allow_nan=False).encode() + b"\n"
        return line + hashlib.sha256(line).hexdigest().encode() + b"\n"


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a store.

    Raises:
        FileNotFoundError: the folder holds no store.
        FormatError: the manifest is damaged, or of a newer fasthash.
    """
    path = folder / MANIFEST
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(f"path={str(folder)!r} holds no store: {MANIFEST} is missing") from error
    try:
        line, end, checksum = text.partition(b"\n")
        content = parsed(line.decode())
        if content.pop("class") != "Store":
            raise FormatError("it is of no store")
        if (version := content.pop("format")) not in _FORMATS:
            raise FormatError(f"format is {version!r}, this release reads {' and '.join(map(str, _FORMATS))}")
        if checksum != hashlib.sha256(line + end).hexdigest().encode() + b"\n":
            raise FormatError("its checksum does not match")
        return _checked(content, version)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise FormatError(f"{path} is damaged, or no manifest of a store: {error!r}") from error


def _checked(content: dict[str, Any], version: int) -> Manifest:
    segments = tuple(_segment(each) for each in content.pop("segments"))
    manifest = Manifest(**content | {"level_bits": tuple(content["level_bits"])}, segments=segments)
    _check("id", isinstance(manifest.id, str))
    _check("commit", _whole(manifest.commit))
    bits = manifest.level_bits
    _check("level_bits", bool(bits) and all(_whole(each) and each > 0 for each in bits))
    _check("level_bits", all(each % 8 == 0 for each in bits[:-1]))
    _check("level_bits", sum(bits) <= MAX_BITS)
    _check("memory", manifest.memory in ("compact", "default", "fast"))
    _check("plan", manifest.plan in ("auto", "scan", "prefix", "multi-index", "clusters"))
    metric = manifest.metric
    _check("metric", metric in METRICS and manifest.format == version and ("metric" in content) == (version == 2))
    _check("metric", metric == "hamming" or (len(bits) == 1 and manifest.plan == "auto"))
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
        RemovedFacts(_file(each["file"], ".removed"), _number(each["begin"]), _number(each["n"]))
        for each in content["removed"]
    )
    keys = None if content["keys"] is None else _file(content["keys"], ".keys")
    return SegmentFacts(_file(content["file"], ".fh"), _number(content["n_codes"]), keys, removed)


def _file(content: Mapping[str, Any], ending: str) -> FileFacts:
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
