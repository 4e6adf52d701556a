"""Published lists of images: text files with a path and labels on each line, and the same lists as npz files."""

from __future__ import annotations

import os
import posixpath
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasthash._checks import check_path
from fasthash._labels import check_labels
from fasthash.data.draw import every_second
from fasthash.data.images import ImageSet, Transform
from fasthash.data.protocols import Protocol, find_protocol
from fasthash.data.split import Split

__all__ = ["load_lists", "read_image_list"]

# Names of the sets of a split in published lists.
_FILES = {"query": "test", "train": "train", "gallery": "database", "validation": "validation"}

# A larger number is probably an id, and would create as many classes.
_MAX_CLASS = 999_999

_Names = list[str] | None
_List = tuple[_Names, NDArray[Any]]


def read_image_list(
    path: str | os.PathLike[str],
    root: str | os.PathLike[str] = "",
    class_names: Sequence[str] | None = None,
    transform: Transform | None = None,
) -> ImageSet:
    """Read a text file with one image per line: `path 0 1 0 ...` with a column for each class, or `path class`.

    The lists of HashNet, DeepHash and most others have this form. No image is opened.

    Args:
        path: the text file, UTF-8.
        root: folder that the paths are relative to.
        class_names: name of each class; None takes their numbers.
        transform: see `ImageSet`.

    Raises:
        OSError: the file cannot be read.
        ValueError: a line does not have this form (the message gives its number), or the file holds no images.
    """
    check_path("path", path)
    check_path("root", root)
    names, labels = _read_text(Path(path))
    return _image_set((names, labels), _numbered(labels) if class_names is None else class_names, root, transform)


def load_lists(
    path: str | os.PathLike[str],
    protocol: str | Protocol | None = None,
    root: str | os.PathLike[str] = "",
    transform: Transform | None = None,
) -> Split:
    """Load a split that was published as lists. No image is opened.

    Lists are not corrected: use `audit` to find their problems. If the list of the gallery is missing, the gallery is
    empty.

    Args:
        path: folder with `train.txt`, `test.txt` (the queries), `database.txt` (the gallery) and optionally
            `validation.txt`, see `read_image_list`. Or an npz file with arrays `train_names (n,)` and
            `train_labels (n,)` or `(n, C)`, the same for `test`, `database` and `validation`, and optionally `classes`.
            If the names of a set are missing, only its labels are known.
        protocol: name in `PROTOCOLS` of the protocol of the lists. If it has one class per image, zeros and ones are
            converted to classes. `imagenet100-hhnet` takes every second query as a validation image, as HHNet's code
            does.
        root: folder that the paths are relative to.
        transform: see `ImageSet`.

    Raises:
        OSError: a file cannot be read, or `train.txt` or `test.txt` is missing.
        ValueError: a file does not have this form, the lists have different classes, or their classes differ from the
            protocol.
    """
    check_path("path", path)
    check_path("root", root)
    rules = None if protocol is None else find_protocol(protocol)
    where = f"path={os.fspath(path)!r}"
    lists, class_names = _read_folder(Path(path)) if Path(path).is_dir() else _read_npz(Path(path), where)
    if rules is not None and not rules.multi_label:
        lists = {part: (names, _as_classes(labels, f"{where}, {part}")) for part, (names, labels) in lists.items()}
    if class_names is None:
        # The lists may lack images of the last classes.
        at_least = 0 if rules is None or rules.multi_label else rules.n_classes
        class_names = max((_numbered(labels, at_least) for _, labels in lists.values()), key=len)
    if rules is not None and len(class_names) != rules.n_classes:
        raise ValueError(
            f"{where} must have {rules.n_classes} classes for protocol {rules.name!r}, got {len(class_names)}"
        )
    try:
        parts = {part: _image_set(found, class_names, root, transform) for part, found in lists.items()}
    except ValueError as error:
        raise ValueError(f"{where} has lists that do not fit together: {error}") from error
    if rules is not None and rules.draw == "official" and rules.n_validation and "validation" not in parts:
        parts["query"], parts["validation"] = every_second(parts["query"])
    nothing = parts["train"].subset(np.zeros(len(parts["train"]), bool))
    sentence = f"published lists {Path(path).name}" + ("." if rules is None else f" for {rules}.")
    return Split(
        parts["train"],
        parts.get("gallery", nothing),
        parts["query"],
        sentence,
        validation=parts.get("validation"),
        rules=rules,
    )


def _read_folder(folder: Path) -> tuple[dict[str, _List], None]:
    needed = {"query", "train"}
    files = {part: folder / f"{name}.txt" for part, name in _FILES.items()}
    return {part: _read_text(file) for part, file in files.items() if part in needed or file.exists()}, None


def _read_text(path: Path) -> tuple[list[str], NDArray[Any]]:
    names: list[str] = []
    rows: list[list[int]] = []
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # programs of Windows write a mark at the start
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} must be UTF-8 text: {error}") from error
    for number, line in enumerate(lines, 1):
        name, *fields = line.split() or [""]
        if not name:
            continue
        try:
            row = [int(field) for field in fields]
        except ValueError:
            row = []
        if not row or not 0 <= min(row) <= max(row) <= (_MAX_CLASS if len(row) == 1 else 1):
            raise ValueError(
                f"{path}, line {number}: expected a path and then a class or zeros and ones, got {line[:60]!r}"
            )
        if rows and len(row) != len(rows[0]):
            raise ValueError(
                f"{path}, line {number}: expected {len(rows[0])} labels as in the lines before, got {len(row)}"
            )
        names.append(posixpath.normpath(name))
        rows.append(row)
    if not rows:
        raise ValueError(f"{path} holds no images")
    labels = np.array(rows, np.int64)
    return names, labels[:, 0] if labels.shape[1] == 1 else labels.astype(np.uint8)


def _read_npz(path: Path, where: str) -> tuple[dict[str, _List], list[str] | None]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            lists = {
                part: (
                    _strings(arrays[f"{name}_names"]) if f"{name}_names" in arrays else None,
                    check_labels(f"{name}_labels", arrays[f"{name}_labels"]),
                )
                for part, name in _FILES.items()
                if f"{name}_labels" in arrays
            }
            class_names = _strings(arrays["classes"]) if "classes" in arrays else None
    except (AttributeError, EOFError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{where} is neither a folder nor an npz file of lists: {error}") from error
    if missing := [f"{_FILES[part]}_labels" for part in ("query", "train") if part not in lists]:
        raise ValueError(f"{where} must hold the arrays train_labels and test_labels, but lacks {', '.join(missing)}")
    return lists, class_names


def _strings(names: NDArray[Any]) -> list[str]:
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names.tolist()]


def _as_classes(labels: NDArray[Any], where: str) -> NDArray[Any]:
    if labels.ndim != 2:
        return labels
    wrong = np.flatnonzero((labels != 0).sum(axis=1) != 1)
    if wrong.size:
        count = np.count_nonzero(labels[wrong[0]])
        raise ValueError(f"{where} must have one class an image, but image {wrong[0]} has {count}")
    return labels.argmax(axis=1)


def _numbered(labels: NDArray[Any], at_least: int = 0) -> list[str]:
    n_classes = labels.shape[1] if labels.ndim == 2 else max(int(labels.max(initial=-1)) + 1, at_least)
    return [str(label) for label in range(n_classes)]


def _image_set(
    found: _List, class_names: Sequence[str], root: str | os.PathLike[str], transform: Transform | None
) -> ImageSet:
    names, labels = found
    if names is None:
        return ImageSet([None] * len(labels), labels, class_names, transform)
    return ImageSet([os.path.join(root, name) for name in names], labels, class_names, transform, names)
