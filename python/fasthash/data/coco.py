"""COCO's annotations as labels."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fasthash._checks import check_path
from fasthash.data.images import ImageSet, Transform

__all__ = ["read_coco"]


def read_coco(
    folder: str | os.PathLike[str],
    parts: Sequence[str] = ("train2014", "val2014"),
    transform: Transform | None = None,
) -> ImageSet:
    """Read the categories of each image of COCO (Lin et al., ECCV 2014), without opening the images.

    Images without annotations are left out, as in HashNet's lists; 122,218 images of 2014 remain. Crowd annotations
    count. Category ids have gaps, so the 80 columns are numbered in the order of the ids.

    Args:
        folder: folder with `annotations/instances_{part}.json`, and the images in `{part}/`.
        parts: names of the parts.
        transform: see `ImageSet`.

    Returns:
        Images with labels `(n, 80)`, in the order of the parts and of their files, named "train2014/COCO_...jpg".

    Raises:
        FileNotFoundError: an annotation file is missing.
        ValueError: a file is not an annotation file of COCO, or the parts have different categories.
    """
    check_path("folder", folder)
    names: list[str] = []
    rows: list[Any] = []
    categories: dict[int, str] = {}
    for part in parts:
        path = Path(folder) / "annotations" / f"instances_{part}.json"
        try:
            of_part, files, labels = _read(path)
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"{path} is no file of COCO's instances: {error!r}") from error
        if categories and of_part != categories:
            raise ValueError(f"{path} must have the categories of instances_{parts[0]}.json, got others")
        categories = of_part
        names += [f"{part}/{file}" for file in files]
        rows.append(labels)
    if not names:
        raise ValueError(f"parts must name parts of COCO with annotated images, got {parts!r}")
    paths = [os.path.join(folder, name) for name in names]
    return ImageSet(paths, np.concatenate(rows), list(categories.values()), transform, names)


def _read(path: Path) -> tuple[dict[int, str], list[str], Any]:
    """Return the categories, sorted by id; the names of the annotated images; and their labels."""
    content = json.loads(path.read_text(encoding="utf-8"))
    categories = {entry["id"]: str(entry["name"]) for entry in content["categories"]}
    categories = dict(sorted(categories.items()))
    columns = {number: column for column, number in enumerate(categories)}
    rows = {entry["id"]: row for row, entry in enumerate(content["images"])}
    labels = np.zeros((len(rows), len(columns)), np.uint8)
    for entry in content["annotations"]:
        labels[rows[entry["image_id"]], columns[entry["category_id"]]] = 1
    annotated = np.flatnonzero(labels.any(axis=1))
    files = [str(content["images"][row]["file_name"]) for row in annotated]
    return categories, files, labels[annotated]
