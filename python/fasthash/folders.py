"""Encodes the photos of a folder, of any format and mode."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fasthash._checks import check_bool, check_int
from fasthash._extras import needs_extra
from fasthash._progress import is_watched, width

with needs_extra("train"):
    import torch
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset
    from tqdm import tqdm

from fasthash._photo_files import IMAGE_SUFFIXES, Broken, check_photo_folder, find_photos, reason
from fasthash._photos import MAX_BYTES, MAX_PIXELS, Limits, read_photo
from fasthash._shown import counted

__all__ = ["IMAGE_SUFFIXES", "MAX_BYTES", "MAX_PIXELS", "EncodedFolder", "Limits", "encode_folder", "read_photo"]

_Batch = tuple[list[str], list[torch.Tensor], Broken]


class EncodedFolder(NamedTuple):
    """Codes of the images in a folder.

    Attributes:
        codes: uint8 `(n, n_bits / 8)`.
        paths: of the n images, relative to the folder, in sorted order.
        broken: pairs (path, reason) of what could not be read, in sorted order.
    """

    codes: NDArray[np.uint8]
    paths: list[str]
    broken: Broken


def encode_folder(
    folder: str | os.PathLike[str],
    transform: Callable[[Image.Image], torch.Tensor],
    encode: Callable[[Iterable[torch.Tensor]], NDArray[Any]],
    batch_size: int,
    num_workers: int,
    limits: Limits,
    progress: bool,
) -> EncodedFolder:
    """Encode a folder; see `HashEncoder.encode_folder`.

    Args:
        transform: from a PIL RGB image to a tensor.
        encode: from batches of such tensors to codes, or to whatever `codes` of the result should hold.
    """
    folder = check_photo_folder("folder", folder)
    check_int("batch_size", batch_size, 1)
    check_int("num_workers", num_workers, 0)
    check_bool("progress", progress)
    found, broken, n_others = find_photos(folder)
    if not found and not broken:
        raise ValueError(f"no photos below {folder!r} ({counted(n_others, 'file')})")
    paths: list[str] = []

    def batches() -> Iterator[torch.Tensor]:
        loader = DataLoader(
            _Photos(folder, found, transform, limits), batch_size, num_workers=num_workers, collate_fn=_collate
        )
        with tqdm(
            total=len(found), desc="encode", unit="image", ncols=width(), disable=not (progress and is_watched())
        ) as bar:
            for good, images, bad in loader:
                paths.extend(good)
                broken.extend(bad)
                if good:
                    yield images
                bar.update(len(good) + len(bad))

    return EncodedFolder(encode(batches()), paths, sorted(broken))


class _Photos(Dataset[_Batch]):
    """Each image file as a batch of one: its path and its tensor, or its path and what is wrong."""

    def __init__(
        self,
        folder: str | os.PathLike[str],
        paths: list[str],
        transform: Callable[[Image.Image], torch.Tensor],
        limits: Limits,
    ) -> None:
        self.folder, self.paths, self.transform, self.limits = folder, paths, transform, limits

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> _Batch:
        path = self.paths[index]
        try:
            return [path], [self.transform(read_photo(os.path.join(self.folder, path), self.limits))], []
        except Exception as error:  # Pillow's decoders raise anything from OSError to SyntaxError on broken files
            return [], [], [(path, reason(error))]


def _collate(items: list[_Batch]) -> tuple[list[str], torch.Tensor, Broken]:
    paths, images, broken = ([entry for part in parts for entry in part] for parts in zip(*items, strict=True))
    return paths, torch.stack(images) if images else torch.empty(0), broken
