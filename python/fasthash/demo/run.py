"""`run_demo`: the steps of the demo in order, from images to codes, an index, search results and a report."""

from __future__ import annotations

import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate.utils import set_seed
from torchvision.transforms import v2

from fasthash._durable import check_writable
from fasthash._shown import command, counted, for_terminal
from fasthash.backbones import preprocessing_of
from fasthash.data import Split, load_digits, load_folder
from fasthash.demo.measure import Codes
from fasthash.demo.plan import LEVEL_BITS, Plan, make_plan
from fasthash.demo.provenance import command_line, serve_command
from fasthash.demo.report import (
    K,
    describe_data,
    describe_model,
    describe_run,
    describe_searches,
    loss_name,
    write_report,
)
from fasthash.encoder import HashEncoder, image_transform
from fasthash.index import HierIndex, load
from fasthash.store import Store
from fasthash.train import train

__all__ = ["run_demo"]


# Long: all steps of the demo in one function.
def run_demo(
    images: str | os.PathLike[str] | None = None,
    output: str | os.PathLike[str] = "demo-report",
    *,
    digits: bool = False,
    backbone: str | None = None,
    pretrained: bool | str | os.PathLike[str] | None = None,
    image_size: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    seed: int = 0,
    progress: bool = True,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train an HDHash model, index a gallery, search it with held-out queries and write a report.

    Args:
        images: folder of class sub-folders, see `fasthash.data.load_folder`; None takes the photos of the repository,
            or scikit-learn's digits where these photos or the weights of the extra `weights` are missing.
        output: folder for index.html, report.json, the pictures, the trained encoder and the index, and of photos a
            store; made if missing.
        digits: take scikit-learn's digits.
        backbone: name of the network, see `HashEncoder`; None takes tf_efficientnet_lite0 for photos if its weights are
            installed, and else hrnet_w18_small.
        pretrained: weights to start from, see `HashEncoder`; None takes those of an installed package for
            tf_efficientnet_lite0 by default, and else random weights.
        image_size: side of the images in pixels; None takes 32 for the digits, and for a folder 96, or 64 for random
            weights.
        epochs: passes over the training images; None takes 14 for the photos of the repository and 8 for others, or 12
            for random weights.
        batch_size: images per step of the optimizer; None takes 32, or 64 for random weights.
        lr: learning rate of the backbone, which falls to 0 along a cosine; None takes 1e-3 and ten times as much for
            the hash layer, or 5e-4 for both for random weights.
        seed: random seed of the split, the weights and the order of the images.
        progress: show progress bars.
        say: called with each line of progress.

    Returns:
        The report, as written to report.json.

    Raises:
        ValueError: the folder does not hold enough images, or an argument is out of range.
        OSError: a file cannot be read or written.
    """
    # Check the arguments before images are read and weights are downloaded.
    plan = make_plan(
        images, digits, backbone, pretrained, image_size, seed, epochs=epochs, batch_size=batch_size, lr=lr
    )
    check_writable("output", output)
    folder = Path(output)
    clock = _Clock()

    if plan.note:
        say(for_terminal(plan.note))
    with clock("load"):
        split = _load(plan, seed, progress)
    folder.mkdir(parents=True, exist_ok=True)  # now that the images are known to do: a refused call leaves nothing
    set_seed(seed)  # for the random weights
    encoder = HashEncoder(plan.backbone, LEVEL_BITS, plan.pretrained, image_size=plan.image_size)
    _tell_sizes(plan.name, split, say)

    loss = plan.loss(len(split.train.class_names))
    begins = for_terminal(f"training {plan.backbone} from {encoder.initial_weights}")
    say(f"{begins} with {loss_name(loss)} losses on levels of {LEVEL_BITS} bits")
    augment = None if plan.images is None else _photo_augmentation(plan.image_size)
    with clock("train"):
        record = train(encoder, loss, split.train, settings=plan.settings, augment=augment, progress=progress)
    encoder.save(folder / "encoder", record)

    say("encoding gallery and queries")
    with clock("encode"):
        gallery = encoder.encode(split.gallery, progress=progress)
        queries = encoder.encode(split.query, progress=progress)

    say("building, saving and reloading the index, searching it")
    index = _build_and_reload(gallery, folder / "gallery.fh")
    if plan.images is not None:
        _make_store(gallery, split.gallery.names, folder / "gallery.fhs")
    options = {
        "images": images,
        "digits": plan.images is None,
        "output": output,
        "backbone": plan.backbone,
        "weights": "imagenet" if plan.pretrained is True else plan.pretrained or None,
        "image_size": plan.image_size,
        "epochs": plan.settings.epochs,
        "batch_size": plan.settings.batch_size,
        "lr": plan.settings.lr,
        "seed": seed,
    }
    report = {
        "command": command_line(**options),
        "program": command(),
        "serve": None if plan.images is None else serve_command(folder, plan.images),
        "seed": seed,
        "note": plan.note,
        **describe_data(plan.name, split),
        **describe_model(encoder, loss, record),
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


def _load(plan: Plan, seed: int, progress: bool) -> Split:
    transform = image_transform(plan.image_size, *preprocessing_of(plan.backbone))
    if plan.images is None:
        return load_digits(seed, transform)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about unreadable files: the caller lists them
        return load_folder(plan.images, seed, transform, progress)


def _photo_augmentation(image_size: int) -> v2.Transform:
    """Make random flips and small shifts, for photos only: a flip would change a digit."""
    shift = v2.RandomCrop(image_size, padding=image_size // 8, padding_mode="reflect")
    return v2.Compose([v2.RandomHorizontalFlip(), shift])


def _make_store(gallery: Codes, names: Sequence[str | None], path: Path) -> None:
    """Make a store of the gallery, whose keys are the names of the photos; an earlier demo's store is replaced."""
    if (path / "manifest").exists():
        shutil.rmtree(path)
    with Store(path, "w", level_bits=LEVEL_BITS) as store:
        store.add(gallery, keys=list(names))
        store.commit()


def _build_and_reload(gallery: Codes, path: Path) -> HierIndex:
    """Build an index, save it, and return the index loaded from the file."""
    built = HierIndex(LEVEL_BITS)
    built.add(gallery)
    built.save(path)
    index = load(path)
    assert isinstance(index, HierIndex)
    return index
