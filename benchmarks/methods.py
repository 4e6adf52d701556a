"""Measures every hashing method of the package on deep features of real images, and HDHash beside HashNet.

    python benchmarks/methods.py FEATURES.npz [--quick | --only LOSS ...]

fills the tables of docs/results.md. FEATURES.npz holds `pca128`, `labels`, `query_index`, `train_index` and
`database_index`, as the features of an ImageNet network of all CIFAR-10 images do. Some 25 minutes on two cores;
--quick: 16 bits and one seed, printed. --only: measures the heads of these losses again and replaces their rows.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression
from torch.utils.data import TensorDataset

import fasthash as fh
from fasthash import baselines, losses
from fasthash.heads import HashHead
from fasthash.metrics import mean_average_precision
from fasthash.train import train
from pages import fill_page, summary, table, versions
from workloads import cpu_name

PAGE = Path(__file__).parent.parent / "docs" / "results.md"
BITS = (16, 32, 48, 64)
SEEDS = (0, 1, 2)
LEVEL_BITS = (8, 16, 40)
N_CLASSES = 10
N_KERNELS = 1000  # as many as SDH has anchors
RECIPE = {"epochs": 30, "batch_size": 128, "lr": 1e-2, "weight_decay": 1e-5, "schedule": "cosine"}
HEAD = RECIPE | {"hash_lr_mult": 1.0, "progress": False}
TOP = 1000  # of what a search finds

BASELINES: dict[str, Callable[[int, int], Any]] = {
    "LSH": lambda bits, seed: baselines.LSH(bits, random_state=seed),
    "SH": lambda bits, seed: baselines.SpectralHashing(bits),
    "ITQ": lambda bits, seed: baselines.ITQ(bits, random_state=seed),
    "KSH": lambda bits, seed: baselines.KSH(bits, random_state=seed),
    "SDH": lambda bits, seed: baselines.SDH(bits, random_state=seed),
    "OPQ": lambda bits, seed: baselines.OPQ(bits, random_state=seed),
}
# A loss, given the labels of the training set, the width and the seed.
LOSSES: dict[str, Callable[[torch.Tensor, int, int], losses.HashLoss]] = {
    "CEL": lambda y, bits, seed: losses.CELLoss(N_CLASSES),
    "DCH": lambda y, bits, seed: losses.DCHLoss(),
    "DCH, hhnet": lambda y, bits, seed: losses.DCHLoss(variant="hhnet"),
    "DHN": lambda y, bits, seed: losses.DHNLoss(),
    "DHN, hhnet": lambda y, bits, seed: losses.DHNLoss(variant="hhnet"),
    "DPSH": lambda y, bits, seed: losses.DPSHLoss(),
    "DPSH, bank": lambda y, bits, seed: losses.DPSHLoss(pairs=losses.OutputBank(y, bits)),
    "DPSH, hhnet": lambda y, bits, seed: losses.DPSHLoss(variant="hhnet"),
    "HashNet": lambda y, bits, seed: losses.HashNetLoss(),
    "HashNet, cross": lambda y, bits, seed: losses.HashNetLoss(pairs="cross"),
    "WGLHH": lambda y, bits, seed: losses.WGLHHLoss(pos_weight=9.0),
    "WGLHH, hhnet": lambda y, bits, seed: losses.WGLHHLoss(variant="hhnet"),
    "HyP2": lambda y, bits, seed: losses.HyP2Loss(bits, N_CLASSES),
    "HyP2, hhnet": lambda y, bits, seed: losses.HyP2Loss(bits, N_CLASSES, variant="hhnet"),
    "CNNH": lambda y, bits, seed: losses.CNNHLoss(losses.cnnh_codes(y, bits, seed=seed)),
    "DNNH, sliced head": lambda y, bits, seed: losses.DNNHLoss(),
    "DTSH": lambda y, bits, seed: losses.DTSHLoss(),
    "CSQ": lambda y, bits, seed: losses.CSQLoss(bits, N_CLASSES, seed=seed),
    "OrthoHash, batch norm": lambda y, bits, seed: losses.OrthoHashLoss(bits, N_CLASSES, seed=seed),
    "DPN": lambda y, bits, seed: losses.DPNLoss(bits, N_CLASSES, seed=seed),
    "GreedyHash": lambda y, bits, seed: losses.GreedyHashLoss(bits, N_CLASSES),
    "DSH": lambda y, bits, seed: losses.DSHLoss(),
    "DSDH": lambda y, bits, seed: losses.DSDHLoss(y, bits, seed=seed),
    "IDHN": lambda y, bits, seed: losses.IDHNLoss(),
    "MIHash": lambda y, bits, seed: losses.MIHashLoss(),
    "BiHalf, no labels": lambda y, bits, seed: losses.BiHalfLoss(),
}
HDHASH = {
    f"{mode}, w = {weights}": {"mode": mode, "weights": weights}
    for mode, weights in itertools.product(("parallel", "prefix"), ((1, 1, 1), (1, 0.5, 0.25)))
}


class Images:
    """Features and labels of the query, training and database images."""

    def __init__(self, path: Path) -> None:
        with np.load(path, allow_pickle=False) as data:
            self.features = data["pca128"].astype(np.float32)
            self.labels = data["labels"].astype(np.int64)
            self.query, self.train, self.database = (data[f"{part}_index"] for part in ("query", "train", "database"))

    @property
    def relevance(self) -> np.ndarray:
        return self.labels[self.query][:, None] == self.labels[self.database]


@cache
def images(path: Path) -> Images:
    return Images(path)


@cache
def kernels(path: Path, seed: int) -> np.ndarray:
    """Gaussian kernels of all images and of random training images as anchors, made orthonormal over the anchors."""
    data = images(path)
    centred = data.features - data.features[data.train].mean(axis=0)
    width = 2 * (centred[data.train] ** 2).sum(axis=1).mean()  # the mean squared distance, as KSH and SDH take it
    nystroem = Nystroem(gamma=1 / (2 * width), n_components=N_KERNELS, random_state=seed).fit(centred[data.train])
    mapped = nystroem.transform(centred).astype(np.float32)
    return mapped - mapped[data.train].mean(axis=0)


def distances(queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """Hamming distances of packed codes, `(nq, n)`, as products of -1 and 1."""
    signs = [2 * torch.from_numpy(fh.unpack_bits(codes)).float() - 1 for codes in (queries, gallery)]
    return ((signs[0].shape[1] - signs[0] @ signs[1].T) / 2).to(torch.int32).numpy()


def map_of_codes(data: Images, codes: np.ndarray) -> float:
    return mean_average_precision(distances(codes[data.query], codes[data.database]), data.relevance)


def run_baseline(path: Path, name: str, bits: int, seed: int) -> float:
    data = images(path)
    method = BASELINES[name](bits, seed).fit(data.features[data.train], data.labels[data.train])
    if isinstance(method, baselines.OPQ):
        codes = method.encode(data.features[data.database])
        order = method.distances(data.features[data.query], codes).argsort(axis=1, kind="stable")
        return mean_average_precision(order.argsort(axis=1, kind="stable"), data.relevance)
    return map_of_codes(data, method.encode(data.features))


def trained(path: Path, features: np.ndarray, name: str, bits: int, seed: int) -> np.ndarray:
    """Codes of all images by a head that was trained with a loss."""
    data = images(path)
    torch.manual_seed(seed)
    head = HashHead(
        features.shape[1],
        (bits,),
        kind="sliced" if "sliced" in name else "linear",
        batch_norm="batch norm" in name,
    )
    x, y = torch.from_numpy(features[data.train]), torch.from_numpy(data.labels[data.train])
    targets = x if "no labels" in name else y
    train(head, LOSSES[name](y, bits, seed), TensorDataset(x, targets), seed=seed, **HEAD)
    return head.encode(features)


def run_head(path: Path, name: str, bits: int, seed: int) -> float:
    data = images(path)
    return map_of_codes(data, trained(path, data.features, name, bits, seed))


def run_kernel_head(path: Path, name: str, bits: int, seed: int) -> float:
    return map_of_codes(images(path), trained(path, kernels(path, seed), name, bits, seed))


def ranked_map(data: Images, codes: np.ndarray, level_bits: tuple[int, ...], keep: float | None) -> float:
    """mAP@1000 of what an index finds, in the order in which it finds it."""
    index = fh.HierIndex(level_bits)
    index.add(codes[data.database])
    found = index.search(codes[data.query], TOP, keep=keep)
    relevant = data.labels[data.database][found.ids] == data.labels[data.query][:, None]
    ranks = np.broadcast_to(np.arange(TOP), relevant.shape)
    return mean_average_precision(ranks, relevant)


def run_hdhash(path: Path, name: str, bits: int, seed: int) -> dict[str, float]:
    """mAP of the first one, two and three levels, by all distances and by searches, exact and pruned."""
    data = images(path)
    torch.manual_seed(seed)
    if name == "HashNet":
        loss: losses.HashLoss = losses.HashNetLoss()
    else:
        loss = losses.HierarchicalLoss(losses.HashNetLoss(), LEVEL_BITS, **HDHASH[name])
    head = HashHead(data.features.shape[1], (sum(LEVEL_BITS),) if name == "HashNet" else LEVEL_BITS)
    x, y = torch.from_numpy(data.features[data.train]), torch.from_numpy(data.labels[data.train])
    train(head, loss, TensorDataset(x, y), seed=seed, **HEAD)
    codes = head.encode(data.features)
    found = {}
    for n_levels, width in enumerate(itertools.accumulate(LEVEL_BITS), start=1):
        part, levels = codes[:, : width // 8], LEVEL_BITS[:n_levels]
        found[f"{width}"] = map_of_codes(data, part)
        found[f"{width} exact"] = ranked_map(data, part, levels, None)
        found[f"{width} pruned"] = ranked_map(data, part, levels, 0.3)
    return found


def references(path: Path, bits: tuple[int, ...]) -> list[list[str]]:
    """What explains the others: the axes that SH takes, the features that OPQ codes, a classifier on them."""
    data = images(path)
    centred = data.features - data.features[data.train].mean(axis=0)
    axes = np.linalg.eigh(centred[data.train].T @ centred[data.train])[1][:, ::-1]
    signs = [map_of_codes(data, fh.sign_codes(centred @ axes[:, :width])) for width in bits]
    query, gallery = torch.from_numpy(data.features[data.query]), torch.from_numpy(data.features[data.database])
    order = torch.cdist(query, gallery).numpy().argsort(axis=1, kind="stable")
    exact = mean_average_precision(order.argsort(axis=1, kind="stable"), data.relevance)
    classifier = LogisticRegression(C=10, max_iter=1000).fit(data.features[data.train], data.labels[data.train])
    right = classifier.score(data.features[data.query], data.labels[data.query])
    widths = ", ".join(map(str, bits))
    return [
        [f"mAP@ALL of the signs of the principal axes, {widths} bits", ", ".join(f"{value:.3f}" for value in signs)],
        ["mAP@ALL of exact search in the features", f"{exact:.3f}"],
        ["query images that logistic regression classifies right", f"{right:.3f}"],
    ]


RUNS = {"baseline": run_baseline, "head": run_head, "kernel": run_kernel_head, "hdhash": run_hdhash}


def run(job: tuple[str, str, int, int], path: Path) -> tuple[Any, float]:
    torch.set_num_threads(1)
    fh.set_num_threads(1)
    kind, *what = job
    begin = time.perf_counter()
    return RUNS[kind](path, *what), time.perf_counter() - begin


def grid(found: dict[Any, Any], kind: str, names: Any, bits: tuple[int, ...], seeds: tuple[int, ...]) -> str:
    rows = [[name, *(summary([found[kind, name, width, seed] for seed in seeds]) for width in bits)] for name in names]
    return table([f"mAP@ALL, {len(seeds)} seeds", *(f"{width} bits" for width in bits)], rows)


def tables(
    found: dict[Any, Any], references: list[list[str]], bits: tuple[int, ...], seeds: tuple[int, ...], minutes: float
) -> dict[str, str]:
    columns = [f"{width}{what}" for width in itertools.accumulate(LEVEL_BITS) for what in ("", " exact", " pruned")]
    names = [f"{c} bits, @ALL" if c.isdigit() else f"@1000, {c.split()[1]}" for c in columns]
    hdhash = [
        [name, *(summary([found["hdhash", name, 64, seed][column] for seed in seeds]) for column in columns)]
        for name in ["HashNet", *HDHASH]
    ]
    return {
        "machine": f"{cpu_name()}, two processes of one thread each, {minutes:.0f} minutes; "
        f"{versions('torch', 'scikit-learn', 'numpy', 'fasthash-search')}.",
        "recipe": "Adam, " + ", ".join(f"{name} {value}" for name, value in RECIPE.items()) + ".",
        "baselines": grid(found, "baseline", BASELINES, bits, seeds),
        "heads": grid(found, "head", LOSSES, bits, seeds),
        "kernels": grid(found, "kernel", LOSSES, bits[-1:], seeds),
        "references": table(["", ""], references),
        "hdhash": table(["", *names], hdhash),
    }


def replace_rows(text: str, found: dict[Any, Any], names: list[str]) -> str:
    """Put new rows of losses into the tables of a page."""
    for kind, bits in (("head", BITS), ("kernel", BITS[-1:])):
        begin, end = f"<!-- {kind}s -->", f"<!-- end of {kind}s -->"
        before, rest = text.split(begin)
        rows, after = rest.split(end)
        for row in grid(found, kind, names, bits, SEEDS).splitlines()[2:]:
            start = row[: row.index("|", 2)]
            (old,) = (line for line in rows.splitlines() if line.startswith(start))
            rows = rows.replace(old, row)
        text = before + begin + rows + end + after
    return text


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("features", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="+", metavar="LOSS", choices=list(LOSSES))
    options = parser.parse_args()
    bits, seeds = (BITS[:1], SEEDS[:1]) if options.quick else (BITS, SEEDS)
    jobs = [
        *(("baseline", name, width, seed) for name in BASELINES for width in bits for seed in seeds),
        *(("head", name, width, seed) for name in LOSSES for width in bits for seed in seeds),
        *(("kernel", name, bits[-1], seed) for name in LOSSES for seed in seeds),
        *(("hdhash", name, 64, seed) for name in ["HashNet", *HDHASH] for seed in seeds),
    ]
    if options.only:
        jobs = [job for job in jobs if job[0] in ("head", "kernel") and job[1] in options.only]
    begin = time.perf_counter()
    found = {}
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        for job, (value, seconds) in zip(jobs, pool.map(partial(run, path=options.features), jobs), strict=True):
            found[job] = value
            print(*job, value, f"{seconds:.1f} s", flush=True)
    if options.only:
        PAGE.write_text(replace_rows(PAGE.read_text(), found, options.only))
        return
    parts = tables(found, references(options.features, bits), bits, seeds, (time.perf_counter() - begin) / 60)
    fill_page(PAGE, parts, only_print=options.quick)


if __name__ == "__main__":
    main()
