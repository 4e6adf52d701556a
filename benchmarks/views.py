"""Features of a million views of real photos: CIFAR-10's images and random crops of them, by an ImageNet network.

    python benchmarks/views.py DATA [--runs runs]

DATA as for benchmarks/images.py. Writes RUNS/views.npy, float16 `(17, 60000, 1280)`: the images as they are, then 16
views of each, by tf_efficientnet_lite0 with ImageNet weights at 64 px. 2.6 GB; half an hour on two cores. Called by
benchmarks/levels.py.
"""

from __future__ import annotations

import argparse
import io
import itertools
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.transforms.v2.functional import to_dtype, to_image

from fasthash._augmentation import augmentation
from fasthash.backbones import preprocessing_of
from fasthash.encoder import HashEncoder

BACKBONE, SIDE = "tf_efficientnet_lite0", 64
N_VIEWS = 16
BATCH = 32


def classes(data: Path) -> tuple[np.ndarray, list[str]]:
    """The class of each image of CIFAR-10, and the names of the classes."""
    with np.load(data / "cifar10_jpeg" / "cifar10_jpeg.npz", allow_pickle=False) as file:
        return file["labels"].astype(np.int64), [*map(str, file["classes"])]


def photos(data: Path) -> list[Image.Image]:
    """All images of CIFAR-10."""
    with np.load(data / "cifar10_jpeg" / "cifar10_jpeg.npz", allow_pickle=False) as file:
        blob, offsets = file["blob"], file["offsets"]
    files = (io.BytesIO(blob[begin:end]) for begin, end in itertools.pairwise(offsets))
    return [Image.open(file).convert("RGB") for file in files]


def _batches(data: Path, encoder: HashEncoder, view: int) -> Iterator[torch.Tensor]:
    """The images as the encoder takes them, or one random crop of each."""
    images = photos(data)
    usual = preprocessing_of(BACKBONE)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in usual[:2])
    crop = augmentation("resized_crop", SIDE, usual)
    torch.manual_seed(view)
    for begin in range(0, len(images), BATCH):
        some = images[begin : begin + BATCH]
        if view:
            small = (to_dtype(to_image(image), torch.float32, scale=True) for image in some)
            yield torch.stack([crop((image - mean) / std) for image in small])
        else:
            yield torch.stack([encoder.transform(image) for image in some])


@torch.inference_mode()
def _write(view: int, data: Path, path: Path) -> None:
    torch.set_num_threads(1)
    encoder = HashEncoder(BACKBONE, (64,), "package", image_size=SIDE).eval()
    features = np.load(path, mmap_mode="r+")
    for i, batch in enumerate(_batches(data, encoder, view)):
        rows = encoder.backbone(batch.contiguous(memory_format=torch.channels_last))
        features[view, BATCH * i : BATCH * i + len(batch)] = rows.numpy()
    print("view", view, flush=True)


def make_views(data: Path, runs: Path) -> np.ndarray:
    """Features of the images and their views, `(1 + N_VIEWS, n, width)`, computed if they are not in RUNS yet."""
    path = runs / "views.npy"
    if not path.exists():
        runs.mkdir(parents=True, exist_ok=True)
        shape = (1 + N_VIEWS, len(classes(data)[0]), 1280)
        half = path.with_suffix(".half.npy")
        np.lib.format.open_memmap(half, "w+", np.float16, shape)
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
            list(pool.map(partial(_write, data=data, path=half), range(1 + N_VIEWS)))
        half.rename(path)
    return np.load(path, mmap_mode="r")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    options = parser.parse_args()
    make_views(options.data, options.runs)


if __name__ == "__main__":
    main()
