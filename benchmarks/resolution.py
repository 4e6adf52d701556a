"""Does HRNet's resolution pay on small images? Trains it with less and more of it: fills a table of docs/results.md.

    python benchmarks/resolution.py DATA [--runs runs] [--tables]

DATA as for benchmarks/images.py; the images are those of benchmarks/frozen.py. Each row is one command, which trains
and evaluates three seeds; what is done already is kept. --tables: only fill the page, with what is there.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from pathlib import Path

from frozen import PAGE, lay_out_few
from images import lay_out
from pages import fill_page, share, table, versions
from workloads import cpu_name

SETTINGS = (
    "--backbone hrnet_w18_small --image-size 32 --bits 64 --loss csq --augment crop_flip --optimizer adamw --lr 1e-3 "
    "--weight-decay 1e-4 --hash-lr-mult 1 --schedule cosine --warmup 0.05 --batch-size 64 --epochs 10"
)
ROWS = {  # the stride of the stem, and the finest branches that are cut off, with a name for the folder
    "stride4": (4, 0),
    "stride2": (2, 0),
    "stride1": (1, 0),
    "stride4-cut1": (4, 1),
    "stride4-cut2": (4, 2),
    "stride4-cut3": (4, 3),
    "stride2-cut3": (2, 3),
}
METRICS = {"mAP@ALL": "mAP@ALL", "precision@100": "precision@100"}


def run(data: Path, runs: Path) -> None:
    lay_out(data, runs)
    few, split = lay_out_few(runs)
    for name, (stride, n_cut) in ROWS.items():
        folder = runs / f"resolution-{name}"
        if (folder / "table.csv").exists():
            continue
        command = [
            "train",
            str(folder),
            "--data",
            "split",
            "--root",
            str(few),
            "--lists",
            str(split),
            *SETTINGS.split(),
        ]
        command += ["--stem-stride", str(stride), "--cut-branches", str(n_cut), "--seeds", "0 1 2"]
        subprocess.run([sys.executable, "-m", "fasthash", *command], check=True)


def rows(runs: Path) -> list[list[str]]:
    found = []
    for name, (stride, n_cut) in ROWS.items():
        folder = runs / f"resolution-{name}"
        if not (folder / "table.csv").exists():
            continue
        with open(folder / "table.csv", encoding="utf-8", newline="") as file:
            cells = {row["metric"]: row for row in csv.DictReader(file)}
        seconds = [json.loads(path.read_text())["training"]["seconds"] for path in folder.glob("*/results.json")]
        sides = ", ".join(str(32 // stride >> i) for i in range(n_cut, 4))
        found.append(
            [
                str(stride),
                sides,
                *(f"{share(float(cells[m]['mean']))} ± {share(float(cells[m]['spread']))}" for m in METRICS),
                f"{sum(seconds) / len(seconds) / 60:.0f}",
            ]
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--tables", action="store_true")
    options = parser.parse_args()
    if not options.tables:
        run(options.data, options.runs)
    head = ["stride of the stem", "sides of the branches in the features", *METRICS.values(), "minutes of training"]
    machine = f"{cpu_name()}, one thread, beside other programs; {versions('torch', 'timm', 'fasthash-search')}."
    fill_page(PAGE, {"resolution machine": machine, "resolution": table(head, rows(options.runs))})


if __name__ == "__main__":
    main()
