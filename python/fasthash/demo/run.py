"""Images to codes to index to results to a report, in the order in which it happens."""

from __future__ import annotations

import base64
import json
import os
import platform
import shlex
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from accelerate.utils import set_seed
from torchvision.transforms import v2

from fasthash.data import Split, load_digits, load_folder
from fasthash.demo.figures import draw_map, draw_neighbours, draw_pr_curves, draw_searches
from fasthash.demo.measure import compare_searches, memory_per_code, prefix_quality, right_neighbours
from fasthash.encoder import HashEncoder
from fasthash.index import HierIndex, load
from fasthash.losses import HashNetLoss, HierarchicalLoss
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
    command = _command(
        {
            "images": images,
            "output": output,
            "backbone": backbone,
            "weights": "imagenet" if pretrained is True else pretrained or None,
            "image-size": image_size,
            "epochs": epochs,
            "batch-size": batch_size,
            "lr": lr,
            "seed": seed,
        }
    )
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    clock = _Clock()

    set_seed(seed)  # for the random weights
    encoder = HashEncoder(backbone, LEVEL_BITS, pretrained, image_size=image_size)
    with clock("load"):
        split = _load(images, encoder, seed, progress)
    for path in split.skipped:
        say(f"left out, cannot be read: {path}")
    name = "scikit-learn's handwritten digits" if images is None else Path(images).resolve().name
    say(f"{name}: {len(split.train)} training images, {len(split.gallery)} in the gallery, {len(split.query)} queries")

    say(f"training {backbone} with HashNet losses on levels of {LEVEL_BITS} bits")
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
    encoder.save(folder / "encoder")

    say("encoding gallery and queries")
    with clock("encode"):
        gallery = encoder.encode(split.gallery, progress=progress)
        queries = encoder.encode(split.query, progress=progress)

    say("building, saving and reloading the index, searching it")
    built = HierIndex(LEVEL_BITS)
    built.add(gallery)
    built.save(folder / "gallery.fh")
    index = load(folder / "gallery.fh")
    assert isinstance(index, HierIndex)
    result = index.search(queries, K)
    labels = split.gallery.labels, split.query.labels
    with clock("measure"):
        quality = prefix_quality(gallery, labels[0], queries, labels[1], LEVEL_BITS)
        searches = compare_searches(index, gallery, labels[0], queries, labels[1], k=K, keep=KEEP)

    report: dict[str, Any] = {
        "protocol": f"{split.protocol} mAP@ALL with the exact expected value under ties; a neighbour is relevant if it "
        "has the query's class.",
        "data": {
            "name": name,
            "n_train": len(split.train),
            "n_gallery": len(split.gallery),
            "n_query": len(split.query),
            "n_classes": len(split.gallery.class_names),
            "n_skipped": len(split.skipped),
        },
        "model": {
            "backbone": backbone,
            "weights": _weights_name(pretrained),
            "level_bits": list(LEVEL_BITS),
            "image_size": image_size,
            "loss": f"HDHash: HashNet losses weighted {loss.weights}, {loss.mode} levels",
            "epochs": epochs,
            "epoch_losses": record.losses,
            "training": record.settings,
        },
        "k": K,
        "chance": _chance(*labels),
        "quality": quality,
        "searches": searches,
        "index": index.stats(),
        "memory": memory_per_code(index, folder / "gallery.fh"),
        "seconds": clock.seconds,
        "milliseconds_per_image": clock.seconds["encode"] / (len(gallery) + len(queries)) * 1e3,
        "seed": seed,
        "machine": {"cpu": _cpu_name(), "cores": os.cpu_count(), "device": record.device, "search_threads": 1},
        "versions": _versions(),
        "command": command,
    }

    say("drawing the report")
    draw_neighbours(folder / "neighbours.png", split.query, split.gallery, result, _choose(split, result, seed))
    draw_map(folder / "map.png", quality, report["chance"])
    draw_pr_curves(folder / "pr_curve.png", quality)
    draw_searches(folder / "searches.png", searches, K)
    _write_page(folder, report)
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
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


def _weights_name(pretrained: bool | str | os.PathLike[str]) -> str:
    if isinstance(pretrained, bool):
        return "ImageNet weights" if pretrained else "random weights"
    return f"the weights in {Path(pretrained).name}"


def _command(options: dict[str, Any]) -> str:
    """The command line that does what was done."""
    words = [word for name, value in options.items() if value is not None for word in (f"--{name}", str(value))]
    return shlex.join(["fasthash", "demo", *words])


def _chance(gallery_labels: np.ndarray, query_labels: np.ndarray) -> float:
    """Precision of a random ranking: how often a gallery image has a query's class."""
    share = np.bincount(gallery_labels, minlength=int(query_labels.max()) + 1) / len(gallery_labels)
    return float(share[query_labels].mean())


def _choose(split: Split, result: SearchResult, seed: int) -> list[int]:
    """Queries to draw: one of each of at most ten classes, then the one with the most wrong neighbours."""
    rng = np.random.default_rng(seed)
    classes = np.unique(split.query.labels)
    if len(classes) > 10:
        classes = np.sort(rng.choice(classes, 10, replace=False))
    chosen = [int(rng.choice(np.flatnonzero(split.query.labels == label))) for label in classes]
    wrong = K - right_neighbours(result, split.gallery.labels, split.query.labels).sum(axis=1)
    worst = int(wrong.argmax())
    return chosen + [worst] * bool(wrong[worst] and worst not in chosen)


def _write_page(folder: Path, report: dict[str, Any]) -> None:
    template = files("fasthash.demo").joinpath("page.html").read_text(encoding="utf-8")
    pictures = {
        name: "data:image/png;base64," + base64.b64encode((folder / f"{name}.png").read_bytes()).decode()
        for name in ("neighbours", "map", "pr_curve", "searches")
    }
    page = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(template)
    exact = next(row for row in report["searches"] if row["search"].startswith("exact"))
    html = page.render(report=report, pictures=pictures, exact=exact)
    (folder / "index.html").write_text(html, encoding="utf-8")


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    packages = ["fasthash-search", "numpy", "torch", "torchvision", "timm", "accelerate", "scikit-learn"]
    return {"Python": platform.python_version()} | {name: version(name) for name in packages}
