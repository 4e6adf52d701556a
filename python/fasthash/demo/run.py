"""`run_demo`: the steps of the demo in order, from images to codes, an index, search results and a report."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate.utils import set_seed
from torchvision.transforms import v2

from fasthash._shown import counted, for_terminal
from fasthash.backbones import check_backbone, check_pretrained
from fasthash.data import Split, load_digits, load_folder
from fasthash.demo.measure import Codes
from fasthash.demo.provenance import command_line
from fasthash.demo.report import K, describe_data, describe_model, describe_run, describe_searches, write_report
from fasthash.encoder import HashEncoder, check_image_size, image_transform
from fasthash.index import HierIndex, load
from fasthash.losses import HashNetLoss, HierarchicalLoss
from fasthash.settings import TrainingSettings
from fasthash.train import train

__all__ = ["run_demo"]

LEVEL_BITS = (8, 16, 40)


# Long: all steps of the demo in one function.
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
        seed: random seed of the split, the weights and the order of the images.
        progress: show progress bars.
        say: called with each line of progress.

    Returns:
        The report, as written to report.json.

    Raises:
        ValueError: the folder does not hold enough images, or an argument is out of range.
        OSError: a file cannot be read or written.
    """
    settings = TrainingSettings(
        epochs=epochs, batch_size=batch_size, lr=lr, hash_lr_mult=1.0, schedule="cosine", seed=seed
    )
    if image_size is None:
        image_size = 32 if images is None else 64
    # Check the arguments before images are read and weights are downloaded.
    check_backbone(backbone)
    check_pretrained(pretrained, backbone)
    check_image_size(image_size)
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    clock = _Clock()

    with clock("load"):
        split = _load(images, image_size, seed, progress)
    set_seed(seed)  # for the random weights
    encoder = HashEncoder(backbone, LEVEL_BITS, pretrained, image_size=image_size)
    name = "scikit-learn's handwritten digits" if images is None else Path(images).resolve().name
    _tell_sizes(name, split, say)

    say(f"training {for_terminal(backbone)} with HashNet losses on levels of {LEVEL_BITS} bits")
    # Prefix mode trains what the pruned search ranks by: all levels up to each one.
    loss = HierarchicalLoss(HashNetLoss(), LEVEL_BITS, mode="prefix")
    augment = None if images is None else _photo_augmentation(image_size)
    with clock("train"):
        record = train(encoder, loss, split.train, settings=settings, augment=augment, progress=progress)
    encoder.save(folder / "encoder", record)

    say("encoding gallery and queries")
    with clock("encode"):
        gallery = encoder.encode(split.gallery, progress=progress)
        queries = encoder.encode(split.query, progress=progress)

    say("building, saving and reloading the index, searching it")
    index = _build_and_reload(gallery, folder / "gallery.fh")
    options = {
        "images": images,
        "output": output,
        "backbone": backbone,
        "weights": "imagenet" if pretrained is True else pretrained or None,
        "image_size": image_size,
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": lr,
        "seed": seed,
    }
    report = {
        "command": command_line(**options),
        "seed": seed,
        **describe_data(name, split),
        **describe_model(encoder, pretrained, loss, record),
        **describe_searches(index, folder / "gallery.fh", split, gallery, queries),
        **describe_run(clock.seconds, len(gallery) + len(queries), record),
    }
    say("drawing the report")
    write_report(folder, report, split, index.search(queries, K))
    return report


def _tell_sizes(name: str, split: Split, say: Callable[[str], None]) -> None:
    for path in split.skipped:
        say(f"left out, cannot be read: {for_terminal(path)}")
    n_train, n_queries = counted(len(split.train), "training image"), counted(len(split.query), "query", "queries")
    sizes = f"{n_train}, {len(split.gallery):,} in the gallery, {n_queries}"
    say(f"{for_terminal(name)}: {sizes}")


class _Clock:
    """Measures the seconds of each named step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[part] = time.perf_counter() - start


def _load(images: str | os.PathLike[str] | None, image_size: int, seed: int, progress: bool) -> Split:
    transform = image_transform(image_size)
    if images is None:
        return load_digits(seed, transform)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about unreadable files: the caller lists them
        return load_folder(images, seed, transform, progress)


def _photo_augmentation(image_size: int) -> v2.Transform:
    """Make random flips and small shifts, for photos only: a flip would change a digit."""
    shift = v2.RandomCrop(image_size, padding=image_size // 8, padding_mode="reflect")
    return v2.Compose([v2.RandomHorizontalFlip(), shift])


def _build_and_reload(gallery: Codes, path: Path) -> HierIndex:
    """Build an index, save it, and return the index loaded from the file."""
    built = HierIndex(LEVEL_BITS)
    built.add(gallery)
    built.save(path)
    index = load(path)
    assert isinstance(index, HierIndex)
    return index
