"""The report of a benchmark: a table and a plot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fasthash._extras import needs_extra
from fasthash._shown import counted

__all__ = ["check_drawing", "draw", "markdown", "text_table"]

COLOURS = {"fasthash": "#1f4e79", "faiss": "#b5651d", "usearch": "#5f8a3a"}
OTHER = "#8a8a8a"
GAP = 0.052  # smallest gap between labels, as a share of the height of the plot


def title(report: dict[str, Any]) -> str:
    """Describe codes, queries and threads on one line."""
    queries = counted(report["n_queries"], "query", "queries") + (" held out of them" if report["held_out"] else "")
    threads = counted(report["threads"], "thread")
    return f"{counted(report['n_codes'], 'code')} of {report['n_bits']} bits, {queries}, k = {report['k']}, {threads}"


def where(report: dict[str, Any]) -> str:
    """Describe machine and versions on one line."""
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    return (
        f"{report['cpu']}, {report['simd']} kernels, Python {report['python']}, {versions}; "
        f"medians of {counted(report['rounds'], 'round')} in which all took turns"
    )


def _cells(report: dict[str, Any]) -> list[list[str]]:
    head = ["", f"recall@{report['k']}", "us, one a call", "us, in a batch", "build s", "bytes a code"]
    rows = [
        [
            _name(row, report),
            f"{row['recall']:.4f}",
            _three_digits(row["us_one"]),
            _three_digits(row["us_batch"]),
            f"{row['build_seconds']:.2f}",
            f"{row['bytes_per_code']:.1f}",
        ]
        for row in report["rows"]
    ]
    return [head, *rows]


def _name(row: dict[str, Any], report: dict[str, Any]) -> str:
    name = f"{row['name']}, {row['setting']}" if row["setting"] else str(row["name"])
    return name if row["threads"] == report["threads"] else f"{name} (one thread)"


def _three_digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def text_table(report: dict[str, Any]) -> str:
    """Format the table for a terminal."""
    cells = _cells(report)
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    rows = [[cell.rjust(width) for cell, width in zip(row, widths, strict=True)] for row in cells]
    lines = ["  ".join([name.strip().ljust(widths[0]), *others]) for name, *others in rows]
    left_out = [f"left out: {name}: {reason}" for name, reason in report["left_out"].items()]
    return "\n".join([title(report), where(report), "", *lines, *left_out])


def markdown(report: dict[str, Any], picture: str) -> str:
    """Format the table and the plot as a Markdown page."""
    head, *rows = _cells(report)
    lines = [f"| {' | '.join(head)} |", f"| --- |{' ---: |' * (len(head) - 1)}"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    left_out = "".join(f"\nLeft out: {name}: {reason}.\n" for name, reason in report["left_out"].items())
    return f"# {title(report)}\n\n{where(report)}.\n\n" + "\n".join(lines) + f"\n{left_out}\n![]({picture})\n"


def check_drawing() -> None:
    """Raise MissingExtraError if matplotlib, which `draw` needs, is not installed."""
    with needs_extra("bench"):
        import matplotlib.figure  # noqa: F401


def draw(path: Path, report: dict[str, Any]) -> None:
    """Draw the time of a query over recall, with one labelled curve for each searcher.

    A setting is left out if another setting of the same searcher is better in both time and recall.

    Args:
        path: picture to write, such as .png or .svg.
        report: result of `run_bench`.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    with needs_extra("bench"):
        from matplotlib.figure import Figure  # needs no screen, unlike pyplot

    figure = Figure(figsize=(8.2, 4.8), layout="constrained")
    axis = figure.subplots()
    ends = []
    for name in dict.fromkeys(row["name"] for row in report["rows"]):
        points = _unbeaten([(row["recall"], row["us_one"]) for row in report["rows"] if row["name"] == name])
        colour = COLOURS.get(name.split()[0], OTHER)
        axis.plot(*zip(*points, strict=True), marker="o", markersize=5, color=colour, clip_on=False)
        ends.append((points[-1], name, colour))
    axis.set(
        yscale="log",
        xlabel=f"recall@{report['k']} (1 is exact)",
        ylabel="µs a query, one query a call",
    )
    axis.set_title(title(report), fontsize=10, loc="left")
    axis.set_xlim(right=1)
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    # Labels are to the right of the plot, at the height of the last point, moved apart if they would overlap.
    low, high = np.log(axis.get_ylim())
    ends.sort(key=lambda end: end[0][1])
    heights = _apart([(np.log(point[1]) - low) / (high - low) for point, _, _ in ends])
    for (point, name, colour), height in zip(ends, heights, strict=True):
        axis.annotate(
            name,
            point,
            xytext=(1.04, height),
            textcoords="axes fraction",
            va="center",
            fontsize=8.5,
            color=colour,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.5, "shrinkB": 3},
        )
    figure.savefig(path, dpi=150)


def _unbeaten(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Keep the points (recall, time) that no other point beats in both, in the order of time."""
    best: list[tuple[float, float]] = []
    for point in sorted(points, key=lambda point: (point[1], -point[0])):
        if not best or point[0] > best[-1][0]:
            best.append(point)
    return best


def _apart(heights: list[float]) -> list[float]:
    """Move ascending heights apart, so that neighbours differ by at least GAP, and keep them below 1."""
    moved = list(heights)
    for i in range(1, len(moved)):
        moved[i] = max(moved[i], moved[i - 1] + GAP)
    limit = 1.0
    for i in reversed(range(len(moved))):
        moved[i] = min(moved[i], limit)
        limit = moved[i] - GAP
    return moved
