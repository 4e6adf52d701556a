"""Experiments of the command line: read their settings from presets and TOML files, and train them."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasthash._checkpoint import check_checkpoint_folder
from fasthash._checks import check_choice, check_path
from fasthash._durable import check_writable
from fasthash._experiment import AUGMENTATIONS, DATA, LOSSES, Experiment, Ties
from fasthash._extras import needs_extra
from fasthash._shown import for_terminal
from fasthash.metrics import histograms
from fasthash.settings import changed_settings

with needs_extra("train"):
    from fasthash._augmentation import augmentation
    from fasthash._resume import read_facts
    from fasthash._training_data import FeatureCache
    from fasthash.backbones import preprocessing_of
    from fasthash.data import ImageSet, Split, audit
    from fasthash.data.draw import held_out
    from fasthash.encoder import image_transform
    from fasthash.record import TrainingRecord
    from fasthash.teaching import load_teacher
    from fasthash.train import train

if sys.version_info >= (3, 11):
    import tomllib
else:
    with needs_extra("cli"):
        import tomli as tomllib

__all__ = [
    "AUGMENTATIONS",
    "DATA",
    "LOSSES",
    "PRESETS",
    "Experiment",
    "Ties",
    "check_resumable",
    "check_same_images",
    "read_config",
    "run_training",
]

PRESETS = ("hhnet", "hashnet", "hdhash", "hyp2", "wglhh")
_SETTINGS, _SPLIT, _STATE = "experiment.json", "split.json", "state.safetensors"
_SUBSETS, _SUBSET_SIZE, _SUBSET_QUERIES = 5, 1000, 0.1  # of validation, as in HHNet's code
_FEW = 100  # with fewer validation images, a tenth of them would be less than ten queries


def read_config(path: str | Path | None = None, preset: str | None = None, **given: Any) -> Experiment:
    """Make an experiment from a preset, a file and single settings; later sources override earlier ones.

    Args:
        path: TOML file, or the JSON file that a training writes beside its checkpoint; None for no file.
        preset: name in `PRESETS`.
        given: settings by name; None does not override.

    Raises:
        OSError: the file cannot be read.
        TypeError, ValueError: the file is not TOML or JSON, or a setting is unknown or wrong.
    """
    layers: list[dict[str, Any]] = []
    if preset is not None:
        check_choice("preset", preset, PRESETS)
        layers.append(tomllib.loads((resources.files("fasthash") / "presets" / f"{preset}.toml").read_text()))
    if path is not None:
        check_path("path", path)
        layers.append(_read(Path(path)))
    layers.append({name: value for name, value in given.items() if value is not None})
    settings: dict[str, Any] = {}
    for layer in layers:
        if layer.get("loss", settings.get("loss")) != settings.get("loss"):
            settings.pop("loss_options", None)  # these were options of another loss
        settings |= layer
    known = {entry.name for entry in dataclasses.fields(Experiment)}
    if unknown := sorted(set(settings) - known):
        raise ValueError(f"settings must be among {', '.join(sorted(known))}, got {', '.join(unknown)}")
    return Experiment(**settings)


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        settings = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{path} must hold settings by name, got {type(settings).__name__}")
    return settings


def run_training(
    experiment: Experiment,
    folder: str | Path,
    say: Callable[[str], None] = print,
    progress: bool = True,
    features: FeatureCache | None = None,
) -> TrainingRecord:
    """Train into a folder, or resume a stopped training in it.

    The folder gets `experiment.json`, `split.json`, `encoder` (the checkpoint), `state.safetensors` (for resuming) and
    `log` (for TensorBoard).

    Args:
        experiment: settings of the experiment.
        folder: output folder, made if missing.
        say: called with each line of progress.
        progress: show a progress bar.
        features: features of a frozen backbone that several trainings share, see `fasthash.train.train`.

    Raises:
        FileNotFoundError: images, lists or weights do not exist.
        TypeError, ValueError: the folder holds another experiment or a training on other images, lies among the images,
            or a setting is wrong; see `Experiment.check_here`.
    """
    check_path("folder", folder)
    folder = Path(folder)
    experiment.check_here()
    check_resumable(experiment, folder)
    writes = int(os.environ.get("RANK", 0)) == 0  # the first of several processes writes for all
    if writes:
        check_writable("folder", folder, (_SETTINGS, _SPLIT, _STATE))
        check_checkpoint_folder(folder / "encoder")
    split = experiment.split(image_transform(experiment.image_size, *preprocessing_of(experiment.backbone)))
    check_same_images(split.sha256, folder)
    images, validation = _training_images(experiment, split)
    loss = experiment.make_loss(images)
    if writes:
        say(f"{for_terminal(split.protocol)}\n{audit(split)}")
    encoder = experiment.make_encoder()
    if writes:
        say(f"{for_terminal(encoder.backbone_name)} begins with {for_terminal(encoder.initial_weights)}")
    teacher = None if experiment.teacher is None else load_teacher(experiment.teacher, experiment.image_size)
    if writes and teacher is not None:
        say(f"teacher: {for_terminal(f'{teacher.backbone_name} with {teacher.initial_weights}')}")
    if writes:  # only now: a training that is refused leaves nothing
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _SETTINGS).write_text(json.dumps(dataclasses.asdict(experiment), indent=2) + "\n")
        split.save(folder / _SPLIT)
    record = train(
        encoder,
        loss,
        images,
        settings=experiment,
        augment=augmentation(experiment.augment, experiment.image_size, preprocessing_of(experiment.backbone)),
        validate=None if validation is None else partial(_validation_map, images=validation, seed=experiment.seed),
        teacher=teacher,
        features=features,
        state=folder / _STATE,
        log_folder=folder / "log",
        progress=progress,
    )
    if writes:
        encoder.save(folder / "encoder", record)
    return record


def check_resumable(experiment: Experiment, folder: Path) -> None:
    """Check that a folder may take this experiment: it holds no training, or a stopped one of this experiment.

    Raises:
        ValueError: it holds another experiment, which the message compares with this one, or one that has trained for
            more epochs; or it lies among the images of the experiment.
    """
    _check_outside(experiment, folder)
    if not (folder / _STATE).exists():
        return
    now, was = (
        json.loads(json.dumps(dataclasses.asdict(one))) for one in (experiment, read_config(folder / _SETTINGS))
    )
    if differ := changed_settings(now, was, ("ties", "empty")):
        raise ValueError(
            f"{folder} holds another experiment: {'; '.join(differ)}; take another folder, or remove this one"
        )
    if experiment.epochs < (done := len(read_facts(folder / _STATE)["losses"])):
        raise ValueError(
            f"epochs must be at least {done}, as the training in {folder} has done so many, got {experiment.epochs}; "
            "take another folder, or remove this one"
        )


def check_same_images(sha256: str, folder: Path) -> None:
    """Check that the training in a folder, if any, has the images of a split with this hash.

    A training that goes on with another split would be evaluated on images that it has trained on.

    Raises:
        ValueError: it has others.
    """
    if (folder / _STATE).exists() and sha256 != Split.load(folder / _SPLIT).sha256:
        raise ValueError(
            f"{folder} holds a training on other images than those that are there now (its {_SPLIT} has another "
            "sha256); take another folder, or remove this one"
        )


def _check_outside(experiment: Experiment, folder: Path) -> None:
    """Check that a folder is not below the class folders of the images: what a training writes would join them."""
    below = {"folder": ("",), "parts": ("train", "test")}.get(experiment.data, ())
    for images in (Path(experiment.root or "", name).resolve() for name in below):
        if folder.resolve().is_relative_to(images):
            raise ValueError(f"folder must lie outside {str(images)!r}, where the images are, got {str(folder)!r}")


def _training_images(experiment: Experiment, split: Split) -> tuple[ImageSet, ImageSet | None]:
    """Return the training images and the validation images, if any.

    Raises:
        ValueError: no two validation images have a label in common: each epoch would get the score 0.
    """
    images, validation = split.train, split.validation
    if experiment.hold_out:
        held = _held_out(images, experiment.hold_out, experiment.seed)
        images, validation = images.subset(~held), images.subset(held)
    experiment.check_patience(validation is not None)
    if validation is not None and not _any_relevant(validation):
        raise ValueError(
            f"hold_out must hold out two or more images with a label in common, got hold_out={experiment.hold_out}, "
            f"which takes {len(validation)} of {len(split.train)} images"
            if experiment.hold_out
            else f"the validation set must have two or more images with a label in common, got {len(validation)} "
            "without; hold_out=0.1 holds out training images instead"
        )
    return images, validation


def _any_relevant(images: ImageSet) -> bool:
    """Whether a label occurs twice."""
    counts = images.labels.sum(axis=0, dtype=np.int64) if images.multi_label else np.bincount(images.labels)
    return int(counts.max(initial=0)) > 1


def _held_out(images: ImageSet, share: float, seed: int) -> NDArray[np.bool_]:
    """Draw a share of the images: of each class, or of all images if they have several labels."""
    labels = np.zeros(len(images), np.int64) if images.multi_label else images.labels
    return held_out(labels, seed, lambda n: min(max(round(share * n), 1), n - 1))


def _validation_map(encoder: Any, images: ImageSet, seed: int) -> float:
    """Mean mAP@ALL over subsets of the validation images, see `_queries_and_gallery`."""
    codes = encoder.encode(images)
    values = []
    for query, gallery in _queries_and_gallery(len(images), seed):
        counts = histograms(codes[query], codes[gallery], images.labels[query], images.labels[gallery])
        values.append(counts.mean_average_precision())
    return float(np.mean(values))


def _queries_and_gallery(n: int, seed: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Draw the rows of queries and gallery from n validation images, several times.

    A tenth of each random subset are queries. Of few images each is a query against all others: a few random queries
    may have no relevant image.
    """
    if n < _FEW:
        rows = np.arange(n)
        yield from ((rows[row : row + 1], np.delete(rows, row)) for row in range(n))
        return
    rng = np.random.default_rng(seed)
    for _ in range(_SUBSETS):
        rows = rng.permutation(n)[:_SUBSET_SIZE]
        n_queries = round(_SUBSET_QUERIES * len(rows))
        yield rows[:n_queries], rows[n_queries:]
