"""Trains encoders on images and measures their codes: fills the part of docs/results.md on images.

    python benchmarks/images.py DATA [--runs runs] [--tables]

DATA holds `cifar10_jpeg/cifar10_jpeg.npz`, `fashion_mnist/fashion_mnist.npz` and
`clothing_small_224/clothing_small_224.tar`; they are laid out as folders of images below RUNS. Each experiment is two
commands, `fasthash train` and `fasthash eval`, printed as they run, two experiments at a time; what is done already is
not done again, and a training that was stopped goes on. Some two hours on two cores. --tables: only fill the page.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from fasthash.plots import draw_map_by_bits
from pages import fill_page, share, table, versions
from workloads import cpu_name

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "results.md"
IMAGES = PAGE.parent / "images"
SETTINGS = HERE / "experiments"
BACKBONES = {"w18s": "HRNet-W18-small", "alexnet": "AlexNet", "vgg16": "VGG-16"}
GRID_LOSSES = {"hashnet": "HashNet", "hyp2": "HyP2"}
LOSSES = {
    "cel": "CEL",
    "dch": "DCH",
    "dhn": "DHN",
    "dpsh": "DPSH",
    "hashnet": "HashNet",
    "wglhh": "WGLHH",
    "hyp2": "HyP2",
}
# AlexNet and VGG-16 have no batch norm and take smaller steps.
NETWORKS = {"w18s": "", "alexnet": "--backbone alexnet --lr 3e-4", "vgg16": "--backbone vgg16 --lr 3e-4"}
# The settings, the images and further options of each experiment.
RUNS = {
    "long": ("long", "cifar10", ""),
    **{
        f"cifar10-{network}-{loss}": ("cifar10", "cifar10", f"{options} --loss {loss}")
        for network, options in NETWORKS.items()
        for loss in GRID_LOSSES
    },
    **{f"fashion-{loss}": ("fashion", "fashion", f"--loss {loss}") for loss in LOSSES},
    "clothing": ("clothing", "clothing", ""),
}
CONTACT_SHEET = """Queries of each class and their nearest photos by an exact search; the last row is the query with the
fewest right neighbours.

![a query of each class with its ten nearest photos](images/clothing_neighbours.jpg)"""
# Those that begin from the backbone of another one.
LATER_RUNS = {
    "levels-hdhash": ("levels", "cifar10", "--weights {runs}/long/encoder"),
    "levels-hashnet64": ("levels", "cifar10", "--weights {runs}/long/encoder --bits 64"),
}


def lay_out(data: Path, runs: Path) -> None:
    """Class folders of image files from the archives; a folder that is there is whole."""
    makers = {"cifar10": _cifar10, "fashion": _fashion, "clothing": _clothing}
    for name, make in makers.items():
        folder = runs / "images" / name
        if not folder.exists():
            half = folder.with_suffix(".half")
            shutil.rmtree(half, ignore_errors=True)
            make(data, half)
            half.rename(folder)


def _cifar10(data: Path, folder: Path) -> None:
    with np.load(data / "cifar10_jpeg" / "cifar10_jpeg.npz", allow_pickle=False) as file:
        blob, offsets, is_test = file["blob"], file["offsets"], file["is_test"]
        names = file["classes"][file["labels"]]
        for i, (name, number) in enumerate(zip(names, file["number"], strict=True)):
            place = folder / ("test" if is_test[i] else "train") / str(name)
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{number:04d}.jpg").write_bytes(blob[offsets[i] : offsets[i + 1]].tobytes())


def _fashion(data: Path, folder: Path) -> None:
    with np.load(data / "fashion_mnist" / "fashion_mnist.npz", allow_pickle=False) as file:
        classes = [str(name).replace("/", " or ") for name in file["classes"]]
        for part in ("train", "test"):
            images, labels = file[f"{part}_images"], file[f"{part}_labels"]
            for number, (image, label) in enumerate(zip(images, labels, strict=True)):
                place = folder / part / classes[label]
                place.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(place / f"{number:05d}.png", compress_level=1)


def _clothing(data: Path, folder: Path) -> None:
    with tarfile.open(data / "clothing_small_224" / "clothing_small_224.tar") as file:
        for member in file.getmembers():
            parts = Path(member.name).parts
            if member.isfile() and len(parts) >= 3:  # [...,] part, class, photo
                place = folder.joinpath(*parts[-3:])
                place.parent.mkdir(parents=True, exist_ok=True)
                content = file.extractfile(member)
                assert content is not None
                place.write_bytes(content.read())


def run(name: str, runs: Path) -> None:
    settings, images, options = (RUNS | LATER_RUNS)[name]
    folder = runs / name
    if (folder / "results.json").exists():
        return
    train = ["train", str(folder), "--config", str(SETTINGS / f"{settings}.toml")]
    train += ["--root", str(runs / "images" / images), *shlex.split(options.format(runs=runs))]
    folder.mkdir(parents=True, exist_ok=True)
    threads = str(max(1, (os.cpu_count() or 2) // 2))
    for command in (train, ["eval", str(folder), "--plots"]):
        print("fasthash", *command, flush=True)
        with open(folder / f"{command[0]}.log", "w") as log:
            subprocess.run(
                [sys.executable, "-m", "fasthash", *command],
                check=True,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Threads that spin for work take it from the other experiment.
                env=os.environ | {"OMP_NUM_THREADS": threads, "GOMP_SPINCOUNT": "10000"},
            )


def results(runs: Path, name: str) -> dict:
    return json.loads((runs / name / "results.json").read_text())


def of_prefixes(found: dict, name: str = "mAP@ALL") -> dict[int, float]:
    return {row["n_bits"]: row[name] for row in found["prefixes"]}


def grid(runs: Path) -> str:
    rows, curves = [], {}
    for network, network_name in BACKBONES.items():
        for loss, loss_name in GRID_LOSSES.items():
            found = results(runs, f"cifar10-{network}-{loss}")
            name = f"{network_name}, {loss_name}"
            curves[name] = of_prefixes(found)
            minutes = f"{found['training']['seconds'] / 60:.0f}"
            rows.append([name, *map(share, curves[name].values()), minutes])
    draw_map_by_bits(IMAGES / "map_by_bits.png", curves)
    bits = [f"{width} bits" for width in next(iter(curves.values()))]
    picture = "![mAP over the width of the codes](images/map_by_bits.png)"
    return f"{table(['mAP@ALL', *bits, 'minutes of training'], rows)}\n\n{picture}"


def long(runs: Path) -> str:
    found = results(runs, "long")
    minutes = f"{found['training']['seconds'] / 60:.0f}"
    row = [share(of_prefixes(found)[64]), share(found["precision@100"]), share(found["P@H<=2"]), minutes]
    head = ["", "mAP@ALL", "precision@100", "P@H≤2", "minutes of training"]
    shutil.copy(runs / "long" / "training.png", IMAGES / "training.png")
    picture = "![loss and validation mAP over the epochs](images/training.png)"
    return f"{table(head, [['HRNet-W18-small, HyP2', *row]])}\n\n{picture}"


def levels(runs: Path) -> str:
    rows = []
    for name, run_name in (("HDHash, levels of 8, 16 and 40", "hdhash"), ("HashNet, 64 in one level", "hashnet64")):
        found = results(runs, f"levels-{run_name}")
        prefixes = of_prefixes(found)
        training = found["training"]
        rows.append(
            [
                name,
                *(share(prefixes[width]) if width in prefixes else "" for width in (8, 24, 64)),
                share(found["P@H<=2"]),
                share(found["precision@100"]),
                f"{training['seconds'] / 60:.0f}",
            ]
        )
    shutil.copy(runs / "levels-hdhash" / "pr_curves.png", IMAGES / "pr_curves_hdhash.png")
    head = ["", "8 bits", "24 bits", "64 bits", "P@H≤2", "precision@100", "minutes of training"]
    return f"{table(head, rows)}\n\n![precision and recall of HDHash by radius](images/pr_curves_hdhash.png)"


def losses(runs: Path) -> str:
    rows = []
    for loss, name in LOSSES.items():
        found = results(runs, f"fashion-{loss}")
        codes = found["codes"]
        figures = [of_prefixes(found)[32], found["mAP@H<=2"], found["P@H<=2"], found["precision@100"]]
        rows.append([name, *map(share, figures), f"{codes['n_distinct']:,}", f"{codes['effective_branching']:.0f}"])
    head = ["", "mAP@ALL", "mAP@H≤2", "P@H≤2", "precision@100", "distinct codes", "effective branching"]
    return table(head, rows)


def clothing(runs: Path) -> str:
    found = results(runs, "clothing")
    row = [share(value) for value in of_prefixes(found).values()]
    row += [share(found["precision@100"]), f"{found['training']['seconds'] / 60:.0f}"]
    head = ["", *(f"{width} bits" for width in of_prefixes(found)), "precision@100", "minutes of training"]
    # The contact sheet as JPEG: its photos would be megabytes as PNG.
    with Image.open(runs / "clothing" / "neighbours.png") as sheet:
        small = sheet.convert("RGB").resize((sheet.width * 2 // 3, sheet.height * 2 // 3))
        small.save(IMAGES / "clothing_neighbours.jpg", quality=80)
    return f"{table(head, [['mAP@ALL', *row]])}\n\n{CONTACT_SHEET}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--tables", action="store_true")
    options = parser.parse_args()
    if not options.tables:
        lay_out(options.data, options.runs)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(partial(run, runs=options.runs), RUNS))
            list(pool.map(partial(run, runs=options.runs), LATER_RUNS))
    parts = {
        "images machine": f"{cpu_name()}, two experiments at a time of one thread each; "
        f"{versions('torch', 'timm', 'torchvision', 'fasthash-search')}."
    }
    for name, part in (
        ("grid", grid),
        ("long", long),
        ("levels", levels),
        ("losses", losses),
        ("clothing", clothing),
    ):
        try:
            parts[f"images {name}"] = part(options.runs)
        except FileNotFoundError as error:
            print(f"images {name}: left as it is, {error.filename} is missing")
    fill_page(PAGE, parts)


if __name__ == "__main__":
    main()
