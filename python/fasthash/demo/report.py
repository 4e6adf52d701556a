"""The report of the demo: data, model, measurements, and the page with its pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fasthash.data import Split
from fasthash.demo.measure import Codes, compare_searches, memory_per_code, prefix_quality
from fasthash.demo.page import neighbour_rows, write_page
from fasthash.demo.provenance import machine, versions
from fasthash.encoder import HashEncoder
from fasthash.index import HierIndex
from fasthash.losses import HierarchicalLoss
from fasthash.plots import choose_queries, draw_map, draw_neighbours, draw_pr_curves, draw_searches
from fasthash.record import TrainingRecord
from fasthash.results import SearchResult

__all__ = [
    "FEW_CODES",
    "K",
    "describe_data",
    "describe_model",
    "describe_run",
    "describe_searches",
    "loss_name",
    "write_report",
]

K = 10
KEEP = 0.3
FEW_CODES = 10_000  # below it an index saves no time over a scan


def describe_data(name: str, split: Split) -> dict[str, Any]:
    """Describe the images and the protocol."""
    return {
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
    }


def describe_model(encoder: HashEncoder, loss: HierarchicalLoss, record: TrainingRecord) -> dict[str, Any]:
    """Describe the network and its training."""
    return {
        "model": {
            "backbone": encoder.backbone_name,
            "weights": encoder.initial_weights,
            "level_bits": list(encoder.level_bits),
            "image_size": encoder.image_size,
            "loss": f"HDHash: {loss_name(loss)} losses with weights {_short(loss.weights)}, {loss.mode} levels",
            "epoch_losses": record.losses,
            "training": record.settings,
        }
    }


def describe_searches(index: HierIndex, file: Path, split: Split, gallery: Codes, queries: Codes) -> dict[str, Any]:
    """Measure the quality of the codes and the searches of the index, which was loaded from `file`."""
    labels = split.gallery.labels, split.query.labels
    return {
        "k": K,
        "chance": _chance(*labels),
        "quality": prefix_quality(gallery, labels[0], queries, labels[1], index.level_bits),
        "searches": compare_searches(index, gallery, labels[0], queries, labels[1], k=K, keep=KEEP),
        "index": index.stats(),
        "memory": memory_per_code(index, file),
    }


def describe_run(seconds: dict[str, float], n_encoded: int, record: TrainingRecord) -> dict[str, Any]:
    """Describe times, machine and versions."""
    return {
        "seconds": seconds,
        "milliseconds_per_image": seconds["encode"] / n_encoded * 1e3,
        "machine": machine(record.device),
        "versions": versions(),
    }


def write_report(folder: Path, report: dict[str, Any], split: Split, result: SearchResult) -> None:
    """Draw the pictures, write the page and report.json."""
    chosen = choose_queries(split, result, report["seed"])
    draw_neighbours(folder / "neighbours.png", split.query, split.gallery, result, chosen)
    draw_map(folder / "map.png", report["quality"], report["chance"])
    draw_pr_curves(folder / "pr_curve.png", report["quality"])
    if report["data"]["n_gallery"] < FEW_CODES:
        (folder / "searches.png").unlink(missing_ok=True)  # of an earlier demo
    else:
        draw_searches(folder / "searches.png", report["searches"], K)
    write_page(folder, report, neighbour_rows(split, result, chosen))
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _short(weights: Sequence[float]) -> str:
    return ", ".join(f"{weight:.3g}" for weight in weights)


def loss_name(loss: HierarchicalLoss) -> str:
    """Name of the loss on each level."""
    return type(loss.bases[0]).__name__.removesuffix("Loss")


def _chance(gallery_labels: np.ndarray, query_labels: np.ndarray) -> float:
    """Compute the precision of a random ranking: the share of gallery images with the class of a query."""
    share = np.bincount(gallery_labels, minlength=int(query_labels.max()) + 1) / len(gallery_labels)
    return float(share[query_labels].mean())
