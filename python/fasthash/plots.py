"""Plots of trainings and search results, as PNG files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fasthash._extras import needs_extra
from fasthash._shown import decimals, for_terminal
from fasthash.results import SearchResult

with needs_extra("demo"):
    import matplotlib

    matplotlib.use("Agg")  # writes files without a screen
    import matplotlib.pyplot as plt
    import numpy as np
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter
    from PIL import Image

    from fasthash.data import ImageSet, Split, relevance

__all__ = [
    "choose_queries",
    "draw_map",
    "draw_map_by_bits",
    "draw_neighbours",
    "draw_pr_curves",
    "draw_recall_by_time",
    "draw_searches",
    "draw_training",
    "short_class_names",
    "square_tile",
]

RIGHT, WRONG, PLAIN = "#1a7f4b", "#c62828", "#30475e"
SHADES = ["#9fb8cc", "#5c87a8", "#1f4e79", "#0b2239"]
TILE, GAP, QUERY_GAP, CAPTION = 1.0, 0.08, 0.22, 0.2  # of a contact sheet, in inches
_TILE_PIXELS = 192
_NAMES_IN_A_COLUMN = 14  # of a legend: as many as the axes are high


def choose_queries(split: Split, result: SearchResult, seed: int) -> list[int]:
    """Choose queries to draw: one from each of at most ten classes, then the query with the most wrong neighbours."""
    rng = np.random.default_rng(seed)
    labels = split.query.labels
    first = labels.argmax(axis=1) if split.query.multi_label else labels
    classes = np.unique(first)
    if len(classes) > 10:
        classes = np.sort(rng.choice(classes, 10, replace=False))
    chosen = [int(rng.choice(np.flatnonzero(first == label))) for label in classes]
    right = [
        np.count_nonzero(relevance(labels[query : query + 1], split.gallery.labels[ids[ids >= 0]]))
        for query, ids in enumerate(result.ids)
    ]
    worst = int(np.argmin(right))
    some_wrong = right[worst] < result.ids.shape[1]
    return [*chosen, worst] if some_wrong and worst not in chosen else chosen


def draw_neighbours(path: Path, queries: ImageSet, gallery: ImageSet, result: SearchResult, chosen: list[int]) -> None:
    """Draw one row per chosen query: the query, then its neighbours with distances, marked right or wrong.

    A neighbour is right if it shares a class with the query. Ids are row numbers of the gallery. Images are cropped to
    their central square.
    """
    k = result.ids.shape[1]
    width, height = k * (TILE + GAP) + TILE + QUERY_GAP, len(chosen) * (TILE + CAPTION + GAP)  # in inches
    figure = plt.figure(figsize=(width, height))
    for row, query in enumerate(chosen):
        label = queries.labels[query : query + 1]
        bottom = 1 - ((row + 1) * (TILE + CAPTION + GAP) - GAP - CAPTION) / height
        places = [0, *(TILE + QUERY_GAP + number * (TILE + GAP) for number in range(k))]
        axes = [figure.add_axes((place / width, bottom, TILE / width, TILE / height)) for place in places]
        _show(axes[0], queries, query, PLAIN, f"query: {short_class_names(queries, query)}", weight="bold")
        for axis, distance, id in zip(axes[1:], result.distances[query], result.ids[query], strict=True):
            if id < 0:  # fewer than k codes in the gallery
                axis.axis("off")
                continue
            right = relevance(label, gallery.labels[id : id + 1]).item()
            mark = "✓" if right else f"✗ {short_class_names(gallery, int(id))}"
            _show(axis, gallery, int(id), RIGHT if right else WRONG, f"{mark}  d={distance}")
    _save(figure, path)


def draw_map(path: Path, rows: list[dict[str, Any]], chance: float) -> None:
    """Draw the mAP of the codes cut after each level, with the mAP of a random ranking as a line."""
    figure, axis = plt.subplots(figsize=(5.2, 3.6))
    names = [f"{row['n_bits']} bits" for row in rows]
    bars = axis.bar(names, [row["mAP@ALL"] for row in rows], color=_shades(len(rows)) or PLAIN, width=0.6)
    axis.bar_label(bars, decimals([row["mAP@ALL"] for row in rows], 3), padding=2)
    axis.axhline(chance, color=WRONG, linestyle="--", linewidth=1.2)
    at_right = axis.get_yaxis_transform()
    text = f"random\nranking\n{chance:.3f}"
    axis.text(1.01, chance, text, transform=at_right, va="center", color=WRONG, fontsize=9)
    axis.set(ylim=(0, 1), ylabel="mAP@ALL, expected under ties")
    axis.set_title("mAP by prefix of the code", pad=18)
    _save(figure, path)


def draw_map_by_bits(path: Path, curves: dict[str, dict[int, float]], ylabel: str = "mAP@ALL") -> None:
    """Draw mAP over the width of the codes, one curve `{bits: mAP}` for each name."""
    figure, axis = plt.subplots(figsize=(5.2, 3.6))
    for (name, curve), colour in zip(curves.items(), _colours(len(curves)), strict=True):
        axis.plot(list(curve), list(curve.values()), marker=".", color=colour, label=name)
    axis.set(xlabel="bits", ylabel=ylabel, xticks=sorted({bits for curve in curves.values() for bits in curve}))
    axis.set_ylim(bottom=0)
    axis.set_title("mAP by width of the code")
    axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    _save(figure, path)


def draw_recall_by_time(path: Path, curves: dict[str, list[tuple[float, float]]], k: int, title: str = "") -> None:
    """Draw recall over the time of a query: for each name points (recall, microseconds), joined in order."""
    figure, axis = plt.subplots(figsize=(5.2, 3.6))
    for (name, points), colour in zip(curves.items(), _colours(len(curves)), strict=True):
        recall, microseconds = zip(*points, strict=True)
        axis.plot(microseconds, recall, marker="o", markersize=4, color=colour, label=name)
    axis.set(xscale="log", xlabel="microseconds per query, one thread", ylabel=f"recall@{k}", title=title)
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    least = min(recall for points in curves.values() for recall, _ in points)
    axis.set_ylim(least - 0.2 * (1 - least) - 0.001 if least > 0.9 else 0, 1 + 0.04 * (1 - least) + 0.0002)
    axis.grid(alpha=0.25)
    axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    _save(figure, path)


def draw_pr_curves(path: Path, rows: list[dict[str, Any]]) -> None:
    """Draw precision over recall for growing Hamming radius, one curve for each prefix."""
    figure, axis = plt.subplots(figsize=(5.2, 3.6))
    for row, shade in zip(rows, _shades(len(rows)), strict=True):
        recall, precision = np.array(row["pr_curve"]["recall"]), np.array(row["pr_curve"]["precision"])
        reached = recall > 0  # the precision of an empty ball means nothing
        axis.plot(
            recall[reached], precision[reached], marker=".", color=shade, clip_on=False, label=f"{row['n_bits']} bits"
        )
    axis.set(xlim=(0, 1), ylim=(0, 1), xlabel="recall", ylabel="precision")
    axis.set_title("precision and recall by Hamming radius")
    if len(rows) <= len(SHADES):
        axis.legend(frameon=False)
    else:  # beside the curves, which so many names would cover
        axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1), ncols=-(-len(rows) // _NAMES_IN_A_COLUMN))
    _save(figure, path)


def draw_training(path: Path, record: dict[str, Any]) -> None:
    """Draw the loss of each epoch, and the validation score if the training had one."""
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
        other.set(ylim=(0, 1), ylabel="validation mAP")
    axis.legend(handles=lines, frameon=False)
    _save(figure, path)


def draw_searches(path: Path, rows: list[dict[str, Any]], k: int) -> None:
    """Draw recall, codes compared and time of the searches side by side."""
    names = [row["search"].replace(", ", "\n") for row in rows]
    panels = [
        (f"recall@{k}", "share of the true neighbours found", 3),
        ("codes_compared", "codes compared per query", 0),
        ("microseconds_per_query", "microseconds per query, one thread", 1),
    ]
    figure, axes = plt.subplots(1, len(panels), figsize=(11, 3.4), sharey=True)
    for axis, (key, title, n_decimals) in zip(axes, panels, strict=True):
        values = [row[key] for row in rows]
        bars = axis.barh(names, values, color=[*SHADES[2:3], RIGHT, *SHADES[:1] * (len(rows) - 2)])
        axis.bar_label(bars, decimals(values, n_decimals), padding=3, fontsize=9)
        axis.set_title(title, fontsize=10)
        axis.margins(x=0.25)
        axis.set_xticks([])  # the bars have labels
    axes[0].invert_yaxis()
    figure.tight_layout()
    _save(figure, path)


def _shades(n: int) -> list[Any]:
    """Shades of n levels, all different: the first of `SHADES`, or colours from the first of them to the last."""
    if n <= len(SHADES):
        return list(SHADES[:n])
    return list(LinearSegmentedColormap.from_list("levels", SHADES, N=n)(np.arange(n)))


def _colours(n: int) -> Any:
    return plt.get_cmap("viridis")(np.linspace(0, 0.85, n))


def short_class_names(images: ImageSet, index: int) -> str:
    """Names of the classes of an image, cut off where they are longer than a tile."""
    label = images.labels[index]
    chosen = np.flatnonzero(label) if images.multi_label else [label]
    names = ", ".join(for_terminal(images.class_names[number]) for number in chosen) or "no class"
    return names if len(names) <= 14 else f"{names[:13]}…"


def _show(axis: Any, images: ImageSet, index: int, colour: str, caption: str, weight: str = "normal") -> None:
    axis.imshow(square_tile(images.image(index)))
    # The caption stands below the image; names may hold $.
    axis.set_title(caption, fontsize=7, color=colour, weight=weight, y=0, pad=-11, parse_math=False)
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set(color=colour, linewidth=2.5)


def square_tile(image: Image.Image) -> Image.Image:
    """The central square of an image; few pixels become squares, so that they are seen as they are."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    how = Image.Resampling.NEAREST if side < 32 else Image.Resampling.LANCZOS
    return image.resize((_TILE_PIXELS, _TILE_PIXELS), how, (left, top, left + side, top + side))


def _save(figure: Any, path: Path) -> None:
    for axis in figure.axes:
        if not axis.images:
            axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150, bbox_inches="tight")
    plt.close(figure)
