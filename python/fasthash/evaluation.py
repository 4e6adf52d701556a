"""Evaluation of a trained experiment: writes metrics, codes and pictures to its folder."""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fasthash._checks import check_int, check_path
from fasthash._extras import needs_extra
from fasthash.codes import pack_signs
from fasthash.experiment import Experiment, read_config
from fasthash.index import HierIndex
from fasthash.metrics import code_diagnostics, histograms, mean_average_precision_of_outputs
from fasthash.results import SearchResult

with needs_extra("train"):
    from fasthash._checkpoint import read_card
    from fasthash._training_data import FeatureCache
    from fasthash.data import ImageSet, Split
    from fasthash.encoder import HashEncoder

__all__ = ["PICTURES", "evaluate", "map_name"]

PICTURES = ("pr_curves.png", "training.png", "neighbours.png")
_NEIGHBOURS = 10  # neighbours of each query in the contact sheet


# Long because of its docstring and the list of figures.
def evaluate(
    folder: str | Path,
    at: int | None = None,
    ties: str | None = None,
    empty: str | None = None,
    *,
    plots: bool = False,
    progress: bool = True,
    features: FeatureCache | None = None,
) -> dict[str, Any]:
    """Encode the gallery and the queries of a trained experiment, and compute retrieval metrics of the codes.

    The folder gets `results.json`, the figures, and `codes.npz` with the packed codes `gallery` and `query` and the
    labels `gallery_labels` and `query_labels`.

    Args:
        folder: folder that `run_training` wrote.
        at: R of mAP@R; None takes that of the protocol, or else the whole gallery.
        ties: treatment of ties, see `Experiment`; None takes that of the experiment.
        empty: treatment of queries without relevant images, see `Experiment`; None takes that of the experiment.
        plots: also draw `pr_curves.png`, `training.png` and `neighbours.png`, a contact sheet of queries and their
            nearest neighbours.
        progress: show a progress bar.
        features: features of a frozen backbone that trainings have computed, see `fasthash.train.train`.

    Returns:
        Figures by name, ready for JSON: mAP and the precision-recall curve of each prefix of levels; precision, recall
        and diagnostics of whole codes; the training record.

    Raises:
        OSError, TypeError, ValueError: the folder does not hold a training that has ended, or an option is not as
            described.
    """
    check_path("folder", folder)
    if at is not None:
        check_int("at", at, 1)
    folder = Path(folder)
    experiment = _check_trained(folder, ties=ties, empty=empty)
    encoder = HashEncoder.load(folder / "encoder").to_best_device()
    split = experiment.split(encoder.transform)
    if split.sha256 != Split.load(folder / "split.json").sha256:
        raise ValueError(f"{folder}/split.json is of other images than those that are there now")
    if features is None or not experiment.freeze_backbone:
        find = partial(encoder.outputs, num_workers=experiment.num_workers, progress=progress)
    else:
        find = partial(_outputs_of_features, encoder, features, experiment.num_workers)
    query_outputs, gallery_outputs = (find(images) for images in (split.query, split.gallery))
    outputs = _Outputs(query_outputs, gallery_outputs, split.query.labels, split.gallery.labels)
    gallery, queries = pack_signs(outputs.gallery), pack_signs(outputs.query)
    np.savez(
        folder / "codes.npz",
        gallery=gallery,
        query=queries,
        gallery_labels=outputs.gallery_labels,
        query_labels=outputs.query_labels,
    )
    cut = _cut(split, at)
    figures: dict[str, Any] = {
        "protocol": split.protocol,
        "split_sha256": split.sha256,
        "ties": experiment.ties,
        "denominator": "retrieved",
        "empty": experiment.empty,
        "level_bits": list(encoder.level_bits),
        **_figures(outputs, encoder.level_bits, cut, experiment),
        "training": None if encoder.record is None else dataclasses.asdict(encoder.record),
    }
    (folder / "results.json").write_text(json.dumps(figures, indent=2) + "\n")
    if plots:
        index = HierIndex(encoder.level_bits)
        index.add(gallery)
        result = index.search(queries, min(_NEIGHBOURS, len(gallery)))
        _draw(folder, figures, split, result, experiment.seed)
    return figures


def map_name(split: Split) -> str:
    """Return the name of mAP in the figures, such as "mAP@ALL", where `evaluate` is given no `at`."""
    return _map_at(_cut(split, None))


def _cut(split: Split, at: int | None) -> int | None:
    """Return R of mAP@R, None for the whole gallery."""
    return at if at is not None or split.rules is None else split.rules.map_at


def _map_at(cut: int | None) -> str:
    return f"mAP@{'ALL' if cut is None else cut}"


def _check_trained(folder: Path, **options: str | None) -> Experiment:
    """Check that a folder holds a training that has ended; return its experiment, with the options given.

    Raises:
        FileNotFoundError: it holds none.
        ValueError: its encoder is of the training before it was resumed, or a setting is wrong.
    """
    if not (folder / "experiment.json").is_file():
        why = "it does not exist"
        if folder.exists():
            why = "it holds no experiment.json" if folder.is_dir() else "it is a file"
        raise FileNotFoundError(f"folder={str(folder)!r} is not a folder that fasthash train made: {why}")
    if not (folder / "encoder").is_dir():
        raise FileNotFoundError(
            f"folder={str(folder)!r} holds a training that has not ended; fasthash train with the same settings goes on"
        )
    experiment = read_config(folder / "experiment.json", **options)
    record = read_card(folder / "encoder", "HashEncoder").get("training")
    was = record["settings"] if isinstance(record, dict) and isinstance(record.get("settings"), dict) else {}
    for name in ("epochs", "patience"):  # a resumed training may have others, and writes its encoder at the end
        now = getattr(experiment, name)
        if was.get(name, now) != now:
            raise ValueError(
                f"folder={str(folder)!r} holds a training that has not ended: {name} is {now}, and {was[name]} in its "
                "encoder; fasthash train with the same settings goes on"
            )
    return experiment


def _outputs_of_features(
    encoder: HashEncoder, features: FeatureCache, num_workers: int, images: ImageSet
) -> NDArray[np.float32]:
    return encoder.head.outputs(features.of(encoder, images, num_workers=num_workers).tensors[0])


class _Outputs(NamedTuple):
    """Raw outputs of the network for queries and gallery, and their labels."""

    query: NDArray[np.float32]
    gallery: NDArray[np.float32]
    query_labels: NDArray[Any]
    gallery_labels: NDArray[Any]


def _figures(outputs: _Outputs, level_bits: tuple[int, ...], cut: int | None, experiment: Experiment) -> dict[str, Any]:
    """Compute the metrics of each prefix of levels and of whole codes."""
    empty, labels = experiment.empty, (outputs.query_labels, outputs.gallery_labels)
    queries, gallery = pack_signs(outputs.query), pack_signs(outputs.gallery)
    rows = []
    for n_bits in accumulate(level_bits):
        part = slice(n_bits // 8)
        counts = histograms(queries[:, part], gallery[:, part], *labels)
        if experiment.ties == "feature":
            value = mean_average_precision_of_outputs(
                outputs.query[:, :n_bits], outputs.gallery[:, :n_bits], *labels, at=cut, empty=empty
            )
        else:
            value = counts.mean_average_precision(cut, experiment.ties, empty=empty)
        curve = _plain(counts.precision_recall_curve(empty=empty)._asdict())
        rows.append({"n_bits": n_bits, _map_at(cut): value, "pr_curve": curve})
    near, far = min(100, len(gallery)), min(1000, len(gallery))
    return {
        "prefixes": rows,
        f"precision@{near}": counts.precision_at_k(near, empty),
        f"recall@{far}": counts.recall_at_k(far, empty),
        "P@H<=2": counts.precision_within(2, empty),
        "mAP@H<=2": counts.mean_average_precision_within(2, empty=empty),
        "codes": _plain(code_diagnostics(gallery, first_level=level_bits[0], outputs=outputs.gallery)._asdict()),
    }


def _draw(folder: Path, figures: dict[str, Any], split: Split, result: SearchResult, seed: int) -> None:
    from fasthash.plots import choose_queries, draw_neighbours, draw_pr_curves, draw_training

    chosen = choose_queries(split, result, seed)
    curves, training, neighbours = (folder / name for name in PICTURES)
    draw_neighbours(neighbours, split.query, split.gallery, result, chosen)
    draw_pr_curves(curves, figures["prefixes"])
    draw_training(training, figures["training"])


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Convert arrays to lists and numbers."""
    return {name: np.asarray(value).tolist() for name, value in values.items()}
