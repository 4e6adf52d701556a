"""The file of a split: JSON with the names and labels of the images in each set, and a SHA-256 of the content.

The hash detects accidents and edits, and identifies an experiment in a report. It is not a signature: an attacker who
changes the file can change the hash too.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasthash._checks import check_path
from fasthash._durable import put
from fasthash._saved_folder import is_version
from fasthash.data.images import ImageSet, Transform
from fasthash.data.protocols import Protocol

__all__ = ["Record", "digest", "load", "make_record", "write"]

Record = dict[str, Any]

_FORMAT = "fasthash split"
_VERSION = 1
_PARTS = ("train", "gallery", "query", "validation")


def make_record(
    parts: Mapping[str, ImageSet], protocol: str, skipped: tuple[str, ...], rules: Protocol | None, seed: int | None
) -> Record:
    """Convert a split without its images to plain values.

    The label of an image is its class; with several labels, the list of their columns.
    """
    classes = {(images.class_names, images.multi_label) for images in parts.values()}
    if len(classes) > 1:
        raise ValueError(f"the sets of a split must have the same classes, got those of {len(classes)} data sets")
    class_names, multi_label = classes.pop()
    return {
        "format": _FORMAT,
        "version": _VERSION,
        "protocol": protocol,
        "rules": None if rules is None else asdict(rules),
        "seed": None if seed is None else int(seed),
        "skipped": list(skipped),
        "class_names": list(class_names),
        "multi_label": multi_label,
        "parts": {
            name: {"names": list(images.names), "labels": _plain(images.labels)} for name, images in parts.items()
        },
    }


def digest(record: Record) -> str:
    """Compute the SHA-256 of the record with sorted keys, so that it does not depend on the layout of the file."""
    text = json.dumps(record, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def write(path: str | os.PathLike[str], record: Record) -> None:
    """Write the record with its hash, atomically: a reader sees the old file or the new one."""
    check_path("path", path)
    path = Path(os.path.realpath(path))  # keeps a symbolic link
    draft = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        draft.write_text(json.dumps({**record, "sha256": digest(record)}) + "\n", encoding="utf-8")
        put(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def _read(path: str | os.PathLike[str]) -> Record:
    """Read the record and check its hash."""
    check_path("path", path)
    where = f"path={os.fspath(path)!r}"
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is no file of a split: {error}") from error
    if not isinstance(record, dict) or record.get("format") != _FORMAT:
        raise ValueError(f"{where} is no file of a split")
    if not is_version(record.get("version"), (_VERSION,)):
        raise ValueError(f"{where} has version {record.get('version')!r}, this release reads {_VERSION}")
    stored, actual = record.pop("sha256", None), digest(record)
    if stored != actual:
        raise ValueError(f"{where} was changed since it was written: its sha256 is {actual}, it says {stored!r}")
    return record


def load(
    path: str | os.PathLike[str], images: str | os.PathLike[str] | ImageSet | None, transform: Transform | None
) -> dict[str, Any]:
    """Read the arguments of a `Split`; see `Split.load`."""
    if not isinstance(images, (str, os.PathLike, ImageSet)) and images is not None:
        raise TypeError(f"images must be a folder or an ImageSet, got {images!r}")
    record = _read(path)
    try:
        if lacking := {"train", "gallery", "query"} - record["parts"].keys():
            raise ValueError(f"it lacks {', '.join(sorted(lacking))}")
        parts = {
            name: _listed(part, record, images, transform) for name, part in record["parts"].items() if name in _PARTS
        }
        rest = {
            "protocol": record["protocol"],
            "skipped": tuple(record["skipped"]),
            "rules": None if record["rules"] is None else Protocol(**record["rules"]),
            "seed": record["seed"],
        }
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"path={os.fspath(path)!r} is no file of a split: {error!r}") from error
    if isinstance(images, ImageSet):
        rows = {name: row for row, name in enumerate(images.names) if name is not None}
        parts = {name: _pick(images, rows, listed, transform) for name, listed in parts.items()}
    return {**parts, **rest}


def _listed(
    part: Record, record: Record, images: str | os.PathLike[str] | ImageSet | None, transform: Transform | None
) -> ImageSet:
    """Make one set from the file; if `images` is not a folder, the names are paths."""
    names = part["names"]
    folder = "" if images is None or isinstance(images, ImageSet) else images
    paths = [None if name is None else os.path.join(folder, name) for name in names]
    return ImageSet(paths, _array(part["labels"], record), record["class_names"], transform, names)


def _pick(images: ImageSet, rows: dict[str, int], listed: ImageSet, transform: Transform | None) -> ImageSet:
    """Pick the images that a file lists from an `ImageSet`, in the order of the file."""
    missing = [name for name in listed.names if name not in rows]
    if missing:
        raise ValueError(
            f"images must hold all {len(listed)} that the file names, but lacks {len(missing)}: {missing[0]!r} ..."
        )
    chosen = [rows[name] for name in listed.names if name is not None]
    labels = images.labels[chosen]
    if labels.shape != listed.labels.shape or (labels != listed.labels).any():
        raise ValueError("images must have the labels that the file gives, got others")
    picked = [images.images[row] for row in chosen]
    return ImageSet(picked, labels, listed.class_names, transform or images.transform, listed.names)


def _plain(labels: NDArray[Any]) -> list[Any]:
    return labels.tolist() if labels.ndim == 1 else [np.flatnonzero(row).tolist() for row in labels]


def _array(labels: list[Any], record: Record) -> NDArray[Any]:
    if not record["multi_label"]:
        return np.array(labels, dtype=None if labels else np.int64)
    array = np.zeros((len(labels), len(record["class_names"])), np.uint8)
    for row, columns in zip(array, labels, strict=True):
        if columns and min(columns) < 0:
            raise ValueError(f"labels must not be negative, got {columns}")
        row[columns] = 1
    return array
