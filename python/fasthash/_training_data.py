"""What a training reads: images with their numbers, seeded augmentation, a cache, and features of a frozen backbone."""

from __future__ import annotations

import hashlib
import math
import mmap
import os
import random
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fasthash._extras import needs_extra

with needs_extra("train"):
    import numpy as np
    import torch
    from torch.utils.data import DataLoader, Dataset, TensorDataset

    from fasthash._hasher import evaluating
    from fasthash.data.images import content_hash

if TYPE_CHECKING:
    from fasthash.data.images import ImageSet
    from fasthash.encoder import HashEncoder

__all__ = ["Cached", "FeatureCache", "Numbered", "features_of"]

Augment = Callable[[torch.Tensor], torch.Tensor]


class Numbered(Dataset[Any]):
    """The data set with augmentation, and with the position of each item, which some losses need.

    The random numbers of an augmentation depend on the epoch and the image alone, not on the process that loads it.
    """

    def __init__(self, dataset: Dataset[Any], augment: Augment | None, labelled: bool = True) -> None:
        self.dataset, self.augment, self.labelled = dataset, augment, labelled
        self._seed = torch.zeros(1, dtype=torch.int64)
        self._seed.share_memory_()  # type: ignore[no-untyped-call]  # for workers that stay alive

    def begin_epoch(self, seed: int) -> None:
        """Take the seed of an epoch."""
        self._seed[0] = seed

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> tuple[torch.Tensor, Any, int]:
        item = self.dataset[index]
        tensor, label = item if self.labelled else (item[0] if isinstance(item, (tuple, list)) else item, 0)
        if self.augment is not None:
            with _seeded(int(self._seed), index):
                tensor = self.augment(tensor)
        return tensor, label, index


@contextmanager
def _seeded(seed: int, index: int) -> Iterator[None]:
    """Seed the generators of Python, numpy and torch within the block, then restore them."""
    kept = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002  # what augmentations use
    (drawn,) = np.random.SeedSequence([seed, index]).generate_state(1).tolist()
    random.seed(drawn)
    np.random.seed(drawn)  # noqa: NPY002
    torch.default_generator.manual_seed(drawn)
    try:
        yield
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])  # noqa: NPY002
        torch.set_rng_state(kept[2])


class Cached(Dataset[Any]):
    """A data set whose tensors are kept in memory, up to a number of bytes, once they have been made.

    Only for data sets that give the same tensor for an index every time. The memory is shared with forked workers; a
    worker that is started anew fills its own.
    """

    def __init__(self, dataset: Dataset[Any], max_bytes: int) -> None:
        self.dataset, self.max_bytes = dataset, max_bytes
        self._allocate()

    def _allocate(self) -> None:
        n = len(self.dataset)  # type: ignore[arg-type]
        first: torch.Tensor = self.dataset[0][0]
        self._shape, self._dtype = first.shape, first.dtype
        n_bytes = first.numel() * first.element_size()
        self._n = min(n, self.max_bytes // max(1, n_bytes))
        # Pages of an anonymous map take memory when they are first written to.
        self._filled = np.frombuffer(mmap.mmap(-1, max(1, self._n)), np.uint8)
        memory = torch.frombuffer(mmap.mmap(-1, max(1, self._n * n_bytes)), dtype=torch.uint8)
        self._rows = memory[: self._n * n_bytes].view(self._dtype).view(self._n, *self._shape)

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> tuple[torch.Tensor, Any]:
        if index < self._n and self._filled[index]:
            return self._rows[index].clone(), self._label(index)
        tensor, label = self.dataset[index]
        if index < self._n and tensor.shape == self._shape and tensor.dtype == self._dtype:
            self._rows[index] = tensor
            self._filled[index] = 1
        return tensor, label

    def _label(self, index: int) -> Any:
        return self.dataset.label(index)  # type: ignore[attr-defined]

    def __getstate__(self) -> dict[str, Any]:
        return {"dataset": self.dataset, "max_bytes": self.max_bytes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._allocate()


def features_of(
    encoder: HashEncoder, dataset: Dataset[Any], device: torch.device, batch_size: int, num_workers: int
) -> TensorDataset:
    """Compute the features of all images once, in eval mode: the inputs of a head whose backbone is frozen.

    Returns:
        Pairs (features, label), in the order of the data set.
    """
    features, labels = [], []
    encoder.to(device)
    with evaluating(encoder), torch.inference_mode():
        for images, label in DataLoader(dataset, batch_size, num_workers=num_workers):
            images = images.to(device).contiguous(memory_format=torch.channels_last)
            features.append(encoder.backbone(images).cpu().clone())
            labels.append(label)
    all_features = torch.cat(features) if features else torch.empty(0, encoder.head.n_features)
    if not math.isfinite(float(all_features.sum())):
        row = int((~torch.isfinite(all_features).all(dim=1)).nonzero()[0])
        raise ValueError(f"dataset must give finite features, found one that is not in number {row}")
    return TensorDataset(all_features.clone(), torch.cat(labels) if labels else torch.empty(0, dtype=torch.int64))


class FeatureCache:
    """Features of images by file or content, for trainings and evaluations that share a frozen backbone.

    It holds those of one backbone and one transform; another pair replaces them. A file is known by its path, size and
    time of change.

    Args:
        file: npz file that keeps the features for later processes, made anew if it is damaged; None keeps them in
            memory alone.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file, self._key = file, ""
        self._rows: dict[str, torch.Tensor] = {}
        if file is None or not file.exists():
            return
        try:
            with file.open("rb") as content, np.load(content, allow_pickle=False) as kept:
                key, names, features = str(kept["key"]), kept["names"].tolist(), torch.from_numpy(kept["features"])
            self._rows, self._key = dict(zip(names, features, strict=True)), key
        except (AttributeError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile):
            pass  # the file is damaged: all features are computed again

    def of(self, encoder: HashEncoder, images: ImageSet, batch_size: int = 64, num_workers: int = 0) -> TensorDataset:
        """Return pairs (features, label) of all images, in their order; compute those that are not known."""
        if (key := _identity(encoder)) != self._key:
            self._key, self._rows = key, {}
        names = [_name(image) for image in images.images]
        new = np.array([name not in self._rows for name in names], bool)
        if new.any():
            device = encoder._weight().device
            (found, _) = features_of(encoder, images.subset(new), device, batch_size, num_workers).tensors
            self._rows.update(zip(np.array(names, object)[new].tolist(), found, strict=True))
            self._save()
        return TensorDataset(torch.stack([self._rows[name] for name in names]), torch.from_numpy(images.labels))

    def _save(self) -> None:
        if self._file is None:
            return
        partial = self._file.with_name(f"{self._file.stem}.half.npz")
        rows = torch.stack(list(self._rows.values())).numpy()
        np.savez(partial, key=self._key, names=np.array(list(self._rows), np.str_), features=rows)
        partial.replace(self._file)


def _name(image: Any) -> str:
    """Identify an image: a photo that replaces another under the same path has another name."""
    if isinstance(image, np.ndarray):
        return str(content_hash(image))
    try:
        found = os.stat(image)
    except (OSError, TypeError):  # reading the image says what is wrong
        return str(image)
    return f"{os.fspath(image)}|{found.st_size}|{found.st_mtime_ns}"


def _identity(encoder: HashEncoder) -> str:
    """Digest of everything that features of an image depend on."""
    settings = [encoder.backbone_name, encoder.image_size, encoder.mean, encoder.std, encoder.interpolation]
    settings += [encoder.stem_stride, encoder.cut_branches]
    digest = hashlib.sha256(repr(settings).encode())
    for name, tensor in encoder.backbone.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
