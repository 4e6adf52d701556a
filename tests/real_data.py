"""Codes and photos that are real: from the photos that scikit-learn brings, and more in ../shared/data where it is."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest

SHARED = Path(__file__).parent.parent.parent / "shared" / "data"


def shared(*names):
    """Path of a file in ../shared/data, or the test is skipped."""
    path = SHARED.joinpath(*names)
    if not path.exists():
        pytest.skip(f"needs {'/'.join(names)} in ../shared/data")
    return path


@cache
def photo(name):
    """A photo of scikit-learn, `"china"` or `"flower"`, 640 x 427."""
    datasets = pytest.importorskip("sklearn.datasets", reason="needs scikit-learn, for its photos")
    image = pytest.importorskip("PIL.Image", reason="needs Pillow")
    return image.fromarray(datasets.load_sample_image(f"{name}.jpg"))


@cache
def perceptual_hashes(hash_bits):
    """pHash codes of 1,500 windows of both photos, uint8 `(1500, hash_bits / 8)`; windows that overlap are alike."""
    imagehash = pytest.importorskip("imagehash", reason="needs imagehash")
    rng = np.random.default_rng(0)
    codes = []
    for name in ("china", "flower"):
        for _ in range(750):
            size = int(rng.integers(64, 200))
            left, top = int(rng.integers(0, 640 - size)), int(rng.integers(0, 427 - size))
            window = photo(name).crop((left, top, left + size, top + size))
            codes.append(np.packbits(imagehash.phash(window, hash_size=int(hash_bits**0.5)).hash))
    return np.array(codes)


@cache
def binary_descriptors():
    """2,020 descriptors of points of both photos, uint8 `(2020, 32)`: 256 comparisons of two pixels near the point, as
    BRIEF makes them (Calonder et al., ECCV 2010)."""
    rng = np.random.default_rng(1)
    first, second = np.clip(np.rint(rng.normal(0, 6, (2, 256, 2))), -15, 15).astype(int)
    codes = []
    for name in ("china", "flower"):
        grey = np.asarray(photo(name).convert("L"), dtype=int)
        for _ in range(1010):
            point = np.array([rng.integers(15, grey.shape[0] - 15), rng.integers(15, grey.shape[1] - 15)])
            pairs = grey[tuple((point + first).T)] < grey[tuple((point + second).T)]
            codes.append(np.packbits(pairs))
    return np.array(codes)


def write_photos(folder):
    """Three versions of one photo, and four others, as JPEG files."""
    folder.mkdir()
    china, flower = photo("china"), photo("flower")
    for name, image in {
        "china-small": china.resize((160, 107)),
        "china-square": china.resize((256, 256)),
        "china-wide": china.resize((320, 160)),
        "flower": flower,
        "petals": flower.crop((100, 100, 300, 300)),
        "roof": china.crop((80, 40, 380, 240)),
        "water": china.crop((300, 260, 620, 420)),
    }.items():
        image.save(folder / f"{name}.jpg", quality=80)
    return folder
