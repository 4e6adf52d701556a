"""Images to codes to index to results to a report, in the order in which it happens."""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from accelerate.utils import set_seed
from torchvision.transforms import v2

from fasthash._shown import for_terminal
from fasthash.data import Split, load_digits, load_folder
from fasthash.demo.measure import Codes, compare_searches, memory_per_code, prefix_quality
from fasthash.demo.page import write_page
from fasthash.demo.provenance import command_line, machine, versions
from fasthash.encoder import HashEncoder
from fasthash.index import HierIndex, load
from fasthash.losses import HashNetLoss, HierarchicalLoss
from fasthash.plots import choose_queries, draw_map, draw_neighbours, draw_pr_curves, draw_searches
from fasthash.results import SearchResult
from fasthash.train import train

__all__ = ["run_demo"]

LEVEL_BITS = (8, 16, 40)
K = 10
KEEP = 0.3


def run_demo(
    images: str | os.PathLike[str] | None = None,
    output: str | os.PathLike[str] = "demo-report",
    *,
    backbone: str = "hrnet_w18_small",
    pretrained: bool | str | os.PathLike[str] = False,
    image_size: int | None = None,
    epochs: int = 12,
    batch_size: int = 64,
    lr: float = 5e-4,
    seed: int = 0,
    progress: bool = True,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train an HDHash model, index a gallery, search it with held-out queries and write a report.

    Args:
        images: folder of class sub-folders, see `fasthash.data.load_folder`; None takes scikit-learn's digits.
        output: folder for index.html, report.json, the pictures, the trained encoder and the index; made if missing.
        backbone: name of the network, see `HashEncoder`.
        pretrained: weights to start from, see `HashEncoder`.
        image_size: side of the images in pixels; None takes 32 for the digits and 64 for a folder.
        epochs: passes over the training images.
        batch_size: images per step of the optimizer.
        lr: learning rate of the backbone and of the hash layer; it falls to 0 along a cosine.
        seed: of the split, the weights and the order of the images.
        progress: show progress bars.
        say: called with each line of text that tells what goes on.

    Returns:
        The report, as written into report.json.

    Raises:
        ValueError: the folder does not hold what is needed, or an argument is out of range.
        OSError: a file cannot be read or written.
    """
    if image_size is None:
        image_size = 32 if images is None else 64
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    clock = _Clock()

    set_seed(seed)  # for the random weights
    encoder = HashEncoder(backbone, LEVEL_BITS, pretrained, image_size=image_size)
    with clock("load"):
        split = _load(images, encoder, seed, progress)
    name = "scikit-learn's handwritten digits" if images is None else Path(images).resolve().name
    for path in split.skipped:
        say(f"left out, cannot be read: {for_terminal(path)}")
    sizes = f"{len(split.train)} training images, {len(split.gallery)} in the gallery, {len(split.query)} queries"
    say(f"{for_terminal(name)}: {sizes}")

    say(f"training {for_terminal(backbone)} with HashNet losses on levels of {LEVEL_BITS} bits")
    # Prefix mode trains what is searched: the levels up to each one together.
    loss = HierarchicalLoss(HashNetLoss(), LEVEL_BITS, mode="prefix")
    with clock("train"):
        record = train(
            encoder,
            loss,
            split.train,
            epochs=epochs,
            batch_size=batch_size,
            lr=lr,
            hash_lr_mult=1.0,
            schedule="cosine",
            seed=seed,
            augment=None if images is None else _photo_augmentation(image_size),
            progress=progress,
        )
    encoder.save(folder / "encoder", record)

    say("encoding gallery and queries")
    with clock("encode"):
        gallery = encoder.encode(split.gallery, progress=progress)
        queries = encoder.encode(split.query, progress=progress)

    say("building, saving and reloading the index, searching it")
    index = _build_and_reload(gallery, folder / "gallery.fh")
    labels = split.gallery.labels, split.query.labels
    report: dict[str, Any] = {
        "command": command_line(
            images=images,
            output=output,
            backbone=backbone,
            weights="imagenet" if pretrained is True else pretrained or None,
            image_size=image_size,
            epochs=epochs,
            batch_size=batch_size,
            lr=lr,
            seed=seed,
        ),
        "protocol": f"{split.protocol} mAP@ALL with the exact expected value under ties; a neighbour is relevant if it "
        "has the query's class.",
        "seed": seed,
        "data": {"name": name, **_sizes(split)},
        "model": {
            "backbone": backbone,
            "weights": _weights_name(pretrained),
            "level_bits": list(LEVEL_BITS),
            "image_size": image_size,
            "loss": f"HDHash: HashNet losses weighted {loss.weights}, {loss.mode} levels",
            "epoch_losses": record.losses,
            "training": record.settings,
        },
        "k": K,
        "chance": _chance(*labels),
        "quality": prefix_quality(gallery, labels[0], queries, labels[1], LEVEL_BITS),
        "searches": compare_searches(index, gallery, labels[0], queries, labels[1], k=K, keep=KEEP),
        "index": index.stats(),
        "memory": memory_per_code(index, folder / "gallery.fh"),
        "seconds": clock.seconds,
        "milliseconds_per_image": clock.seconds["encode"] / (len(gallery) + len(queries)) * 1e3,
        "machine": machine(record.device),
        "versions": versions(),
    }
    say("drawing the report")
    _write_report(folder, report, split, index.search(queries, K))
    return report


class _Clock:
    """Seconds of each named part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[part] = time.perf_counter() - start


def _load(images: str | os.PathLike[str] | None, encoder: HashEncoder, seed: int, progress: bool) -> Split:
    if images is None:
        return load_digits(seed, encoder.transform)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of files that cannot be read: the caller says them one by one
        return load_folder(images, seed, encoder.transform, progress)


def _photo_augmentation(image_size: int) -> v2.Transform:
    """Flips and small shifts: a photo means the same afterwards, a digit does not."""
    shift = v2.RandomCrop(image_size, padding=image_size // 8, padding_mode="reflect")
    return v2.Compose([v2.RandomHorizontalFlip(), shift])


def _build_and_reload(gallery: Codes, path: Path) -> HierIndex:
    """What is searched is what the file gives back."""
    built = HierIndex(LEVEL_BITS)
    built.add(gallery)
    built.save(path)
    index = load(path)
    assert isinstance(index, HierIndex)
    return index


def _sizes(split: Split) -> dict[str, int]:
    return {
        "n_train": len(split.train),
        "n_gallery": len(split.gallery),
        "n_query": len(split.query),
        "n_classes": len(split.gallery.class_names),
        "n_skipped": len(split.skipped),
    }


def _weights_name(pretrained: bool | str | os.PathLike[str]) -> str:
    if isinstance(pretrained, bool):
        return "ImageNet weights" if pretrained else "random weights"
    return f"the weights in {Path(pretrained).name}"


def _chance(gallery_labels: np.ndarray, query_labels: np.ndarray) -> float:
    """Precision of a random ranking: how often a gallery image has a query's class."""
    share = np.bincount(gallery_labels, minlength=int(query_labels.max()) + 1) / len(gallery_labels)
    return float(share[query_labels].mean())


def _write_report(folder: Path, report: dict[str, Any], split: Split, result: SearchResult) -> None:
    chosen = choose_queries(split, result, report["seed"])
    draw_neighbours(folder / "neighbours.png", split.query, split.gallery, result, chosen)
    draw_map(folder / "map.png", report["quality"], report["chance"])
    draw_pr_curves(folder / "pr_curve.png", report["quality"])
    draw_searches(folder / "searches.png", report["searches"], K)
    write_page(folder, report)
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
