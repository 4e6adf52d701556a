"""Measures how well pHash finds versions of photos: recall for each kind of change, and false pairs, over the radius.

    python benchmarks/dedup.py PHOTOS [--versions 300] [--against HASHES.npz] [--seed 0]

PHOTOS is a folder of different photos. Of some of them versions are made, and each is compared with its photo; all
photos are compared with one another. HASHES.npz holds further codes of different photos, as arrays phash64 and
phash256. Prints the tables of docs/dedup.md. 3,781 photos of 224 pixels take three minutes on one core.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

import fasthash as fh
from fasthash._phash import phash
from fasthash._photo_files import find_photos
from fasthash._photos import read_photo
from fasthash.turning import turned_codes

RADII = {64: (0, 2, 4, 6, 8, 10, 12), 256: (0, 8, 16, 24, 32, 40, 48)}
Codes = NDArray[np.uint8]


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def cropped(image: Image.Image, share: float) -> Image.Image:
    width, height = image.size
    return image.crop(
        (round(width * share), round(height * share), round(width * (1 - share)), round(height * (1 - share)))
    )


def lettered(image: Image.Image) -> Image.Image:
    image = image.copy()
    ImageDraw.Draw(image).text((image.width * 0.55, image.height * 0.92), "© example.org", fill="white", stroke_width=1)
    return image


def framed(image: Image.Image) -> Image.Image:
    edge = round(max(image.size) * 0.03)
    frame = Image.new("RGB", (image.width + 2 * edge, image.height + 2 * edge), "white")
    frame.paste(image, (edge, edge))
    return frame


VERSIONS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "half the size": lambda image: image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC),
    "a quarter of the size": lambda image: image.resize(
        (image.width // 4, image.height // 4), Image.Resampling.BICUBIC
    ),
    "JPEG of quality 30": lambda image: jpeg(image, 30),
    "half the size, JPEG of quality 40": lambda image: jpeg(image.resize((image.width // 2, image.height // 2)), 40),
    "made square": lambda image: image.resize((256, 256), Image.Resampling.BICUBIC),
    "blurred by 1 % of the width": lambda image: image.filter(ImageFilter.GaussianBlur(image.width / 100)),
    "contrast x 1.4": lambda image: ImageEnhance.Contrast(image).enhance(1.4),
    "brightness x 1.3": lambda image: ImageEnhance.Brightness(image).enhance(1.3),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "small letters in a corner": lettered,
    "1 % cropped on each side": lambda image: cropped(image, 0.01),
    "3 % cropped on each side": lambda image: cropped(image, 0.03),
    "a white frame of 3 %": framed,
}


def distances(a: Codes, b: Codes) -> NDArray[np.int64]:
    return np.bitwise_count(a ^ b).sum(axis=-1)


def table(title: str, radii: tuple[int, ...], rows: dict[str, list[str]]) -> None:
    print(f"\n| {title} | " + " | ".join(map(str, radii)) + " |\n| --- |" + " ---: |" * len(radii))
    for name, cells in rows.items():
        print(f"| {name} | " + " | ".join(cells) + " |")


def pairs_within(codes: Codes, radii: tuple[int, ...], turned: bool) -> list[str]:
    counts = np.zeros(codes.shape[1] * 8 + 1, dtype=np.int64)
    for pairs in fh.near_pairs(codes, radii[-1], turned=turned):
        counts += np.bincount(pairs.distances, minlength=len(counts))
    return [f"{counts[: radius + 1].sum():,}" for radius in radii]


def measure(photos: list[Image.Image], chosen: list[int], hash_bits: int, turning: bool, against: Codes | None) -> None:
    radii = RADII[hash_bits]
    codes = np.array([phash(photo, hash_bits, turning) for photo in photos])
    rows, every = {}, []
    for name, change in VERSIONS.items():
        versions = np.array([phash(change(photos[row]), hash_bits, turning) for row in chosen])
        far = distances(versions, codes[chosen])
        rows[name] = [f"{(far <= radius).mean():.3f}" for radius in radii]
        every.append(far)
    if turning:
        turns = list(Image.Transpose)
        halves = [jpeg(photos[row].transpose(turns[row % len(turns)]).resize((112, 112)), 60) for row in chosen]
        far = distances(
            turned_codes(codes[chosen]), np.array([phash(half, hash_bits, turning) for half in halves])
        ).min(axis=0)
        rows["turned or mirrored, 112 x 112, JPEG of quality 60"] = [
            f"{(far <= radius).mean():.3f}" for radius in radii
        ]
    rows["**all but crops of 3 % and frames**"] = [f"{(np.array(every[:-2]) <= radius).mean():.3f}" for radius in radii]
    rows["pairs among the photos"] = pairs_within(codes, radii, turning)
    if against is not None:
        rows[f"pairs among {len(against):,} other photos"] = pairs_within(against, radii, False)
    table(f"{hash_bits} bits{', turned' * turning}; radius", radii, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--versions", type=int, default=300, help="photos of which versions are made")
    parser.add_argument("--against", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    photos = [read_photo(options.photos / path) for path in find_photos(options.photos).paths]
    chosen = np.random.default_rng(options.seed).choice(len(photos), min(options.versions, len(photos)), replace=False)
    print(f"{len(photos):,} photos, versions of {len(chosen):,}; fasthash {fh.__version__}")
    for hash_bits in RADII:
        for turning in (False, True):
            against = None
            if options.against and not turning:
                against = np.load(options.against)[f"phash{hash_bits}"]
            measure(photos, chosen.tolist(), hash_bits, turning, against)


if __name__ == "__main__":
    main()
