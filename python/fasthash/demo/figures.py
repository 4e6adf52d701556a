"""The pictures of the demo's report, as PNG files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # files only: no screen is needed
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

from fasthash.data import ImageSet
from fasthash.results import SearchResult

__all__ = ["draw_map", "draw_neighbours", "draw_pr_curves", "draw_searches", "draw_training"]

RIGHT, WRONG, PLAIN = "#1a7f4b", "#c62828", "#30475e"
SHADES = ["#9fb8cc", "#5c87a8", "#1f4e79", "#0b2239"]


def draw_neighbours(path: Path, queries: ImageSet, gallery: ImageSet, result: SearchResult, chosen: list[int]) -> None:
    """One row per chosen query: the query, then its neighbours with their distances, right and wrong ones marked."""
    k = result.ids.shape[1]
    figure, axes = plt.subplots(len(chosen), k + 1, figsize=(1.05 * (k + 1), 1.32 * len(chosen)), squeeze=False)
    for row, query in zip(axes, chosen, strict=True):
        label = queries.labels[query]
        _show(row[0], queries, query, PLAIN, f"query: {queries.class_names[label]}")
        for axis, distance, found in zip(row[1:], result.distances[query], result.ids[query], strict=True):
            if found < 0:  # fewer than k codes in the gallery
                axis.axis("off")
                continue
            right = gallery.labels[found] == label
            mark = "✓" if right else f"✗ {gallery.class_names[gallery.labels[found]]}"
            _show(axis, gallery, int(found), RIGHT if right else WRONG, f"{mark}  d={distance}")
    figure.tight_layout(pad=0.4)
    _save(figure, path)


def draw_map(path: Path, rows: list[dict[str, Any]], chance: float) -> None:
    """mAP of the codes cut after each level, above what a random ranking would have."""
    figure, axis = plt.subplots(figsize=(5.2, 3.6))
    names = [f"{row['n_bits']} bits" for row in rows]
    bars = axis.bar(names, [row["mAP@ALL"] for row in rows], color=SHADES[: len(rows)] or PLAIN, width=0.6)
    axis.bar_label(bars, fmt="%.3f", padding=2)
    axis.axhline(chance, color=WRONG, linestyle="--", linewidth=1.2, label=f"random ranking: {chance:.3f}")
    axis.set(ylim=(0, 1.2), ylabel="mAP@ALL, expected under ties", title="mAP by prefix of the code")
    axis.legend(frameon=False, loc="upper left")
    _save(figure, path)


def draw_pr_curves(path: Path, rows: list[dict[str, Any]]) -> None:
    """Precision over recall as the Hamming radius grows, a curve for each prefix."""
    figure, axis = plt.subplots(figsize=(5.2, 3.6))
    for row, shade in zip(rows, SHADES, strict=False):
        recall, precision = np.array(row["pr_curve"]["recall"]), np.array(row["pr_curve"]["precision"])
        reached = recall > 0  # balls that hold nothing have no precision worth drawing
        axis.plot(recall[reached], precision[reached], marker=".", color=shade, label=f"{row['n_bits']} bits")
    axis.set(xlim=(0, 1.02), ylim=(0, 1.04), xlabel="recall", ylabel="precision")
    axis.set_title("precision and recall by Hamming radius")
    axis.legend(frameon=False)
    _save(figure, path)


def draw_training(path: Path, record: dict[str, Any]) -> None:
    """Loss of each epoch, and the figure of merit on validation images if there was one."""
    figure, axis = plt.subplots(figsize=(5.2, 3.6))
    epochs = np.arange(1, len(record["losses"]) + 1)
    lines = axis.plot(epochs, record["losses"], marker=".", color=SHADES[2], label="loss")
    axis.set(xlabel="epoch", ylabel="mean loss", title=f"{record['settings']['loss']}, {record['seconds']:,.0f} s")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    if record["scores"]:
        other = axis.twinx()
        lines += other.plot(
            epochs[: len(record["scores"])], record["scores"], marker=".", color=RIGHT, label="validation mAP"
        )
        other.set(ylim=(0, 1.04), ylabel="validation mAP")
    axis.legend(handles=lines, frameon=False)
    _save(figure, path)


def draw_searches(path: Path, rows: list[dict[str, Any]], k: int) -> None:
    """The searches side by side: recall, codes compared, time."""
    names = [row["search"].replace(", ", "\n") for row in rows]
    panels = [
        (f"recall@{k}", "share of the true neighbours found", "%.3f"),
        ("codes_compared", "codes compared per query", "%.0f"),
        ("microseconds_per_query", "microseconds per query, one thread", "%.1f"),
    ]
    figure, axes = plt.subplots(1, len(panels), figsize=(11, 3.4), sharey=True)
    for axis, (key, title, form) in zip(axes, panels, strict=True):
        bars = axis.barh(names, [row[key] for row in rows], color=[*SHADES[2:3], RIGHT, *SHADES[:1] * (len(rows) - 2)])
        axis.bar_label(bars, fmt=form, padding=3, fontsize=9)
        axis.set_title(title, fontsize=10)
        axis.margins(x=0.25)
        axis.set_xticks([])  # the bars carry their figures
    axes[0].invert_yaxis()
    figure.tight_layout()
    _save(figure, path)


def _show(axis: Any, images: ImageSet, index: int, colour: str, title: str) -> None:
    axis.imshow(images.image(index))
    axis.set_title(title, fontsize=6.5, color=colour, pad=2)
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set(color=colour, linewidth=2.5)


def _save(figure: Any, path: Path) -> None:
    for axis in figure.axes:
        if not axis.images:
            axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150, bbox_inches="tight")
    plt.close(figure)
