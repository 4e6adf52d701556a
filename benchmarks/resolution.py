"""Does HRNet's resolution pay on small images? Trains it with less and more of it: fills a table of docs/results.md.

    python benchmarks/resolution.py DATA [--runs runs] [--seeds N] [--tables]

DATA as for benchmarks/images.py; the images are those of benchmarks/frozen.py. What is done already is kept. --seeds:
how many trainings each row is the mean of. --tables: only fill the page, with what is there.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from frozen import PAGE, lay_out_few
from images import lay_out
from pages import fill_page, share, summary, table, versions
from workloads import cpu_name

SETTINGS = (
    "--backbone hrnet_w18_small --image-size 32 --bits 64 --loss csq --augment crop_flip --optimizer adamw --lr 1e-3 "
    "--weight-decay 1e-4 --hash-lr-mult 1 --schedule cosine --warmup 0.05 --batch-size 64 --epochs 6"
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


def run(data: Path, runs: Path, n_seeds: int) -> None:
    lay_out(data, runs)
    few, split = lay_out_few(runs)
    for seed in range(n_seeds):
        for name, (stride, n_cut) in ROWS.items():
            folder = runs / f"resolution-{name}-seed{seed}"
            if (folder / "results.json").exists():
                continue
            train = f"train {folder} --data split --root {few} --lists {split} {SETTINGS} --seed {seed}"
            for command in (f"{train} --stem-stride {stride} --cut-branches {n_cut}", f"eval {folder}"):
                print("fasthash", command, flush=True)
                subprocess.run([sys.executable, "-m", "fasthash", *command.split()], check=True)


def rows(runs: Path) -> list[list[str]]:
    found = []
    for name, (stride, n_cut) in ROWS.items():
        results = [json.loads(path.read_text()) for path in sorted(runs.glob(f"resolution-{name}-seed*/results.json"))]
        if not results:
            continue
        maps = [each["prefixes"][-1]["mAP@ALL"] for each in results]
        precisions = [each["precision@100"] for each in results]
        sides = ", ".join(str(32 // stride >> i) for i in range(n_cut, 4))
        cells = [summary(maps), summary(precisions)] if len(maps) > 1 else [share(maps[0]), share(precisions[0])]
        found.append([str(stride), sides, *cells, str(len(maps))])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tables", action="store_true")
    options = parser.parse_args()
    if not options.tables:
        run(options.data, options.runs, options.seeds)
    head = ["stride of the stem", "sides of the branches in the features", "mAP@ALL", "precision@100", "seeds"]
    machine = f"{cpu_name()}, one thread, beside other programs; {versions('torch', 'timm', 'fasthash-search')}."
    fill_page(PAGE, {"resolution machine": machine, "resolution": table(head, rows(options.runs))})


if __name__ == "__main__":
    main()
