"""Folders in which every sub-folder is a class: the layout of torchvision's ImageFolder."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torchvision.datasets.folder import make_dataset

from fasthash._photo_files import Broken, check_photo_folder, is_photo_file
from fasthash._shown import counted, for_terminal
from fasthash.data.draw import held_out
from fasthash.data.images import ImageSet, Transform
from fasthash.data.split import Split

__all__ = ["load_folder", "read_folder"]


def load_folder(
    path: str | os.PathLike[str], seed: int = 0, transform: Transform | None = None, progress: bool = False
) -> Split:
    """Load a folder of photos in which every sub-folder is a class (the layout of torchvision's ImageFolder).

    A split published with the images is used: where the sub-folders `train` and `test`, `val` or `validation` hold
    class folders, `test` (without it the validation images) gives the queries, `train` the training set, and
    all images but the queries the gallery. Otherwise a tenth of each class, at least 1 and at most 50 images, are
    drawn as queries, and all the others are both training set and gallery.

    A file is a photo by its suffix, or by its content if the suffix is unknown. Every photo is decoded once; those that
    fail are left out, listed in `Split.skipped` and warned of.

    Args:
        path: the folder.
        seed: of the random choice of queries; a published split does not need it.
        transform: see `ImageSet`.
        progress: show a progress bar while the files are checked.

    Raises:
        FileNotFoundError: `path` is not a folder.
        ValueError: `path` holds no images, fewer than two classes, or a class with too few images.
    """
    root = _check_folder(path)
    parts = {name: root / name for name in ("train", "val", "validation", "test") if _folders_in(root / name)}
    published = "train" in parts and len(parts) > 1
    if not published:
        parts = {"": root}
    class_names = sorted({name for folder in parts.values() for name in _folders_in(folder)})
    if len(class_names) < 2:
        raise ValueError(
            f"path={str(path)!r} must hold two or more class folders, found {class_names}; photos without classes: "
            "fasthash encode package PHOTOS codes.npz --save DIR"
        )

    images, part_of, skipped = _readable_images(root, parts, class_names, transform, progress)
    if not len(images):
        raise ValueError(f"path={str(path)!r} holds no readable images ({counted(len(skipped), 'broken file')})")
    if skipped:
        shown = [for_terminal(f"{file} ({why})") for file, why in skipped[:3]]
        names = ", ".join(shown) + (", ..." if len(skipped) > 3 else "")
        warnings.warn(f"skipped {counted(len(skipped), 'image file')} that cannot be read: {names}", stacklevel=2)

    if published:
        query_part = [name for name in ("val", "validation", "test") if name in parts][-1]
        query, train = part_of == query_part, part_of == "train"
        _check_classes(images.labels[train], class_names, at_least=1, where=str(parts["train"]))
        if not query.any():
            raise ValueError(f"{parts[query_part]} must hold the query images, but no image there is readable")
        protocol = (
            f"published split of {root.name}: queries from {query_part}, training set train, gallery all the rest."
        )
    else:
        _check_classes(images.labels, class_names, at_least=2, where=str(root))
        query = held_out(images.labels, seed, lambda n: min(max(n // 10, 1), 50))
        train = ~query
        protocol = (
            f"{root.name}: a tenth of each class (1 to 50 images), drawn with seed {seed}, are the queries; "
            f"the other {train.sum()} are both training set and gallery."
        )
    sets = images.subset(train), images.subset(~query), images.subset(query)
    return Split(*sets, protocol, tuple(file for file, _ in skipped), seed=None if published else seed)


def read_folder(path: str | os.PathLike[str], transform: Transform | None = None) -> ImageSet:
    """Read the names of images in a folder in which every sub-folder is a class; no image is decoded.

    A file that cannot be read raises when it is asked for; `read_folder(path).readable()` leaves such files out.

    For a data set that comes in parts, such as `train` and `val` of ImageNet, call it for each.

    Args:
        path: the folder.
        transform: see `ImageSet`.

    Returns:
        Images in the order of their names, which are "folder/class/file", where folder is the last part of `path`.

    Raises:
        FileNotFoundError: `path` is not a folder.
        ValueError: `path` holds no class folders, or no images.
    """
    root = _check_folder(path)
    class_names = sorted(_folders_in(root))
    found = _find({"": root}, class_names)
    if not found:
        raise ValueError(f"path={str(path)!r} must hold class folders with images")
    files, labels, _ = zip(*found, strict=True)
    names = [f"{root.resolve().name}/{_inside(file, root)}" for file in files]
    return ImageSet(files, np.array(labels, np.int64), class_names, transform, names)


def _folders_in(folder: Path) -> list[str]:
    # Hidden folders are never classes: notebooks and file managers leave some behind.
    return (
        [entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != "."] if folder.is_dir() else []
    )


def _readable_images(
    root: Path, parts: dict[str, Path], class_names: list[str], transform: Transform | None, progress: bool
) -> tuple[ImageSet, NDArray[np.str_], Broken]:
    """Find the images of all parts: those that can be decoded, the part of each of these, and the other files."""
    found = _find(parts, class_names)
    files, labels, _ = zip(*found, strict=True) if found else ((), (), ())
    names = [_inside(file, root) for file in files]
    images, skipped = ImageSet(files, np.array(labels, np.int64), class_names, transform, names).readable(progress)
    left_out = {file for file, _ in skipped}
    return images, np.array([part for file, _, part in found if file not in left_out], str), skipped


def _find(parts: dict[str, Path], class_names: list[str]) -> list[tuple[str, int, str]]:
    """Path, class and part of every image file."""
    class_to_index = {name: index for index, name in enumerate(class_names)}
    return [
        (file, label, part)
        for part, folder in parts.items()
        for file, label in make_dataset(str(folder), class_to_index, is_valid_file=is_photo_file, allow_empty=True)
    ]


def _inside(file: str, root: Path) -> str:
    return Path(file).relative_to(root).as_posix()


def _check_folder(path: str | os.PathLike[str]) -> Path:
    return Path(check_photo_folder("path", path))


def _check_classes(labels: NDArray[np.int64], class_names: list[str], at_least: int, where: str) -> None:
    counts = np.bincount(labels, minlength=len(class_names))
    small = [f"{name} ({count})" for name, count in zip(class_names, counts, strict=True) if count < at_least]
    if small:
        raise ValueError(
            f"{where} must hold {at_least} or more readable images of each class; too few: {', '.join(small)}"
        )
