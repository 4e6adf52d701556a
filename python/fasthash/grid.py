"""Several seeds, widths and losses in one run: trains and evaluates each, and writes tables of the results.

Called by `fasthash train` where an option has several values. All settings of all experiments are checked before the
first image is read. Experiments with one frozen backbone share its features.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fasthash._checks import check_path
from fasthash._durable import check_writable
from fasthash._extras import needs_extra
from fasthash._shown import for_terminal
from fasthash.evaluation import evaluate, map_name
from fasthash.experiment import Experiment, check_resumable, check_same_images, read_config, run_training

with needs_extra("train"):
    from fasthash._training_data import FeatureCache

__all__ = ["Grid", "Point", "csv_table", "latex_table", "make_grid", "markdown_table", "run_grid"]


class Point(NamedTuple):
    """The values that tell an experiment of a grid apart."""

    loss: str
    bits: str  # levels, such as "64" or "8+16+40"
    seed: int

    @property
    def folder(self) -> str:
        """Name of the folder of the experiment below that of the grid."""
        return f"{self.loss}-{self.bits}-seed{self.seed}"


Grid = dict[Point, Experiment]
Results = dict[Point, dict[str, Any]]


def make_grid(
    make: Callable[..., Experiment],
    *,
    losses: Sequence[str | None] = (None,),
    level_bits: Sequence[int | Sequence[int] | None] = (None,),
    seeds: Sequence[int | None] = (None,),
) -> Grid:
    """Make an experiment for every combination of values; None takes that of `make`.

    Args:
        make: called as `make(loss=..., level_bits=..., seed=...)`, such as a partial `read_config`.
        losses, level_bits, seeds: values of the settings of the same names.

    Raises:
        TypeError, ValueError: a setting is wrong, or a value is given twice.
    """
    grid: Grid = {}
    for loss, bits, seed in itertools.product(losses, level_bits, seeds):
        experiment = make(loss=loss, level_bits=bits, seed=seed)
        point = Point(experiment.loss, "+".join(map(str, experiment.level_bits)), experiment.seed)
        if point in grid:
            raise ValueError(f"losses, bits and seeds must not name a value twice, got {point.folder} twice")
        grid[point] = experiment
    return grid


def run_grid(grid: Grid, folder: str | Path, say: Callable[[str], None] = print, progress: bool = True) -> Results:
    """Train and evaluate every experiment in a folder of its own, or resume; write `table.md`, `.csv` and `.tex`.

    Experiments that were evaluated with other options, such as by `fasthash eval --at`, are evaluated again.
    `features.npz` keeps the features of a frozen backbone; it may be removed.

    Args:
        grid: experiments, as `make_grid` makes them.
        folder: output folder, made if missing.
        say: called with each line of progress.
        progress: show progress bars.

    Returns:
        Figures of each experiment, as `evaluate` returns them.

    Raises:
        RuntimeError: this is one of several processes.
        TypeError, ValueError, OSError: as in `run_training` and `evaluate`; such as where the folder holds trainings on
            other images.
    """
    check_path("folder", folder)
    folder = Path(folder)
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise RuntimeError("several experiments in one command need one process, got WORLD_SIZE above 1")
    for point, experiment in grid.items():
        experiment.check_here()
        check_resumable(experiment, folder / point.folder)
    check_writable("folder", folder)
    data = _Data()
    done = {point for point, experiment in grid.items() if _is_done(experiment, folder / point.folder, data)}
    features, results = FeatureCache(folder / "features.npz"), {}
    for number, (point, experiment) in enumerate(grid.items(), start=1):
        place = folder / point.folder
        say(f"{number} of {len(grid)}: {for_terminal(point.folder)}")
        if point not in done:
            (place / "results.json").unlink(missing_ok=True)
            run_training(experiment, place, lambda line: None, progress, features)
            evaluate(place, progress=progress, features=features)
        results[point] = json.loads((place / "results.json").read_text())
    tables = {"table.md": markdown_table, "table.csv": csv_table, "table.tex": latex_table}
    for name, text in {name: make(results) for name, make in tables.items()}.items():  # all or none
        (folder / name).write_text(text, encoding="utf-8")
    return results


class _Data:
    """Hash of the split of an experiment, and the name of mAP on it; found once for all experiments on one split."""

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], tuple[str, str]] = {}

    def of(self, experiment: Experiment) -> tuple[str, str]:
        names = ("data", "root", "lists", "protocol", "skip_broken", "seed")
        key = tuple(getattr(experiment, name) for name in names)
        if key not in self._known:
            split = experiment.split(None)
            self._known[key] = split.sha256, map_name(split)
        return self._known[key]


def _is_done(experiment: Experiment, folder: Path, data: _Data) -> bool:
    """Whether the folder holds the results of just this experiment, evaluated as the grid does it.

    Raises:
        ValueError: it holds a training on other images.
    """
    if not (folder / "experiment.json").exists():
        return False
    sha256, name = data.of(experiment)
    check_same_images(sha256, folder)
    if not (folder / "results.json").exists():
        return False
    if dataclasses.asdict(read_config(folder / "experiment.json")) != dataclasses.asdict(experiment):
        return False
    figures = json.loads((folder / "results.json").read_text())
    return _options(figures) == (experiment.ties, experiment.empty, sha256, name)


def _options(figures: dict[str, Any]) -> tuple[Any, ...]:
    """Return the options and images with which figures were computed."""
    (name,) = (name for name in figures["prefixes"][-1] if name.startswith("mAP@"))
    return figures.get("ties"), figures.get("empty"), figures.get("split_sha256"), name


def markdown_table(results: Results) -> str:
    """Make a table in Markdown: mAP of whole codes, a row for each loss, a column for each width."""
    caption, widths, rows = _cells(results)
    lines = [f"| {caption} | {' | '.join(f'{width} bits' for width in widths)} |", f"| --- |{' ---: |' * len(widths)}"]
    lines += [f"| {loss} | {' | '.join(cells)} |" for loss, cells in rows]
    return "\n".join(lines) + "\n"


def latex_table(results: Results) -> str:
    """Make the same table in LaTeX."""
    caption, widths, rows = _cells(results)
    head = " & ".join([caption, *(f"{width} bits" for width in widths)])
    lines = [rf"\begin{{tabular}}{{l{'r' * len(widths)}}}", r"\hline", rf"{head} \\", r"\hline"]
    lines += [f"{loss} & {' & '.join(_in_maths(cell) for cell in cells)} \\\\" for loss, cells in rows]
    return "\n".join([*lines, r"\hline", r"\end{tabular}"]) + "\n"


def csv_table(results: Results) -> str:
    """Make a table of all metrics as CSV: a line for each loss, width and metric; spread is the largest deviation."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["loss", "bits", "metric", "mean", "spread", "seeds"])
    for (loss, bits), found in _by_setting(results).items():
        for metric in _metrics(found[0]):
            mean, spread = _summary([_metrics(figures)[metric] for figures in found])
            writer.writerow([loss, bits, metric, f"{mean:.6f}", f"{spread:.6f}", len(found)])
    return text.getvalue()


def _cells(results: Results) -> tuple[str, list[str], list[tuple[str, list[str]]]]:
    """Return the caption, the widths, and for each loss its cells in the order of the widths."""
    settings = _by_setting(results)
    losses = list(dict.fromkeys(loss for loss, _ in settings))
    widths = list(dict.fromkeys(bits for _, bits in settings))
    metric = next(name for name in _metrics(next(iter(results.values()))) if name.startswith("mAP@"))
    n_seeds = max(map(len, settings.values()))
    rows = []
    for loss in losses:
        cells = []
        for width in widths:
            found = settings.get((loss, width))
            cells.append("" if found is None else _shown([_metrics(figures)[metric] for figures in found]))
        rows.append((loss, cells))
    return f"{metric}, {n_seeds} seed{'s' if n_seeds > 1 else ''}", widths, rows


def _by_setting(results: Results) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Group the figures of the seeds by loss and width."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for point, figures in results.items():
        groups.setdefault((point.loss, point.bits), []).append(figures)
    return groups


def _metrics(figures: dict[str, Any]) -> dict[str, float]:
    """Return the metrics of whole codes; mAP comes first."""
    whole = {name: value for name, value in figures["prefixes"][-1].items() if name.startswith("mAP@")}
    return whole | {name: value for name, value in figures.items() if isinstance(value, float)}


def _summary(values: list[float]) -> tuple[float, float]:
    """Return the mean, and the largest distance of a value from it."""
    mean = float(np.mean(values))
    return mean, max(abs(value - mean) for value in values)


def _shown(values: list[float]) -> str:
    mean, spread = (f"{value:.3f}".removeprefix("0") for value in _summary(values))
    return mean if len(values) == 1 else f"{mean} ± {spread}"


def _in_maths(cell: str) -> str:
    return f"${cell.replace('±', chr(92) + 'pm')}$" if cell else ""
