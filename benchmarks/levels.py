"""HDHash beside HashNet on a million real codes: mAP, codes compared, time and memory of exact, pruned and flat search.

    python benchmarks/levels.py DATA [--runs runs]

DATA as for benchmarks/images.py. The codes are those of benchmarks/views.py and benchmarks/level_losses.py: CIFAR-10's
images and 16 random crops of each. Fills docs/results.md, and draws docs/images/levels.png and recall_by_time.png. One
thread for searches, k = 10, batches of 1,000 queries; half an hour for the features, kept in RUNS, then as long again.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

import fasthash as fh
from fasthash.metrics import histograms
from fasthash.plots import PLAIN, RIGHT, SHADES, draw_recall_by_time
from level_losses import DECAYS, LEVEL_BITS, OF_TERMS, SEEDS, SPREAD, TERMS, Job, Views, encode, jobs, train_heads
from pages import fill_page, share, summary, table, versions
from views import make_views
from workloads import cpu_name, interleaved

DOCS = Path(__file__).parent.parent / "docs"
K = 10
FLOATS = "scan, ±1 as float32, numpy"
KEEPS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
MODES = ("node_ratio", "gallery_ratio", "radius")
TIMED = 0.003  # weight decay of the codes whose searches are timed: they are not collapsed
Search = Callable[[], tuple[np.ndarray, np.ndarray]]  # distances and ids


def signs(codes: np.ndarray) -> np.ndarray:
    return 2 * fh.unpack_bits(codes).astype(np.float32) - 1


def unpacked_scan(items: np.ndarray, wanted: np.ndarray) -> Search:
    """What a program does that keeps codes as float32: products, and the k largest of each row."""

    def search() -> tuple[np.ndarray, np.ndarray]:
        products = wanted @ items.T
        ids = np.argpartition(-products, K, axis=1)[:, :K]
        return (items.shape[1] - np.take_along_axis(products, ids, axis=1)) / 2, ids

    return search


def recall(truth: np.ndarray, distances: np.ndarray) -> float:
    """Share of the true neighbours found, any of those at the last distance counting as true."""
    return float((distances <= truth[:, -1:]).mean())


def measure(name: str, gallery: np.ndarray, queries: np.ndarray) -> tuple[list[list[str]], dict[str, Any]]:
    """A row for each search, and recall over time for several settings of the pruned ones."""
    flat, rival = fh.FlatIndex(64), faiss.IndexBinaryFlat(64)
    tree, fast = fh.HierIndex(LEVEL_BITS), fh.HierIndex(LEVEL_BITS, memory="fast")
    for index in (flat, rival, tree, fast):
        index.add(gallery)
    few = queries[:100]
    searches: dict[str, Search] = {
        "scan, faiss IndexBinaryFlat": lambda: rival.search(few, K),
        "scan, FlatIndex": lambda: tuple(flat.search(queries, K)),
        "exact, HierIndex": lambda: tuple(tree.search(queries, K)),
        "exact, HierIndex, memory=fast": lambda: tuple(fast.search(queries, K)),
    }
    pruned = {f"pruned, keep = 0.3, {mode}": (0.3, mode) for mode in MODES}
    pruned |= {f"{mode} {keep}": (keep, mode) for mode in MODES[:2] for keep in KEEPS if keep != 0.3}
    for row, (keep, mode) in pruned.items():
        searches[row] = lambda keep=keep, mode=mode: tuple(tree.search(queries, K, keep=keep, keep_mode=mode))
    memory = dict.fromkeys(searches, tree.nbytes)
    memory |= {"scan, faiss IndexBinaryFlat": rival.xb.size(), "scan, FlatIndex": flat.nbytes}
    memory["exact, HierIndex, memory=fast"] = fast.nbytes
    if len(gallery) <= 100_000:
        items = signs(gallery)
        searches[FLOATS] = unpacked_scan(items, signs(few))
        memory[FLOATS] = items.nbytes
    seconds = interleaved(searches)
    truth = flat.search(queries, K).distances
    rows, points = [], {}
    for row, search in searches.items():
        distances = search()[0]
        us = seconds[row] / len(distances) * 1e6
        points[row] = (recall(truth[: len(distances)], distances), us)
        if row in pruned and not row.startswith("pruned"):
            continue
        ratio = seconds["scan, FlatIndex"] / len(queries) * 1e6 / us
        per_code = memory[row] / len(gallery)
        rows.append([f"{name}: {row}", f"{us:,.1f}", f"{ratio:.2f}", f"{points[row][0]:.4f}", f"{per_code:.1f}"])
    pruned_points = {
        mode: [points[f"{mode} {keep}" if keep != 0.3 else f"pruned, keep = 0.3, {mode}"] for keep in KEEPS]
        for mode in MODES[:2]
    }
    return rows, {
        **{f"{name}, keep = {KEEPS[0]} to {KEEPS[-1]}, {mode}": line for mode, line in pruned_points.items()},
        f"{name}, exact": [points["exact, HierIndex"], points["exact, HierIndex, memory=fast"]],
        f"{name}, scan": [points["scan, FlatIndex"]],
    }


def facts(job: Job, views: Views, gallery: np.ndarray, queries: np.ndarray) -> dict[str, float]:
    """mAP@ALL of the first 8, 24 and 64 bits, expected over ties, and what an exact search of the codes compares."""
    labels = np.tile(views.labels[views.gallery], len(gallery) // len(views.gallery))
    found = {
        f"mAP{bits}": histograms(
            queries[:, : bits // 8], gallery[:, : bits // 8], views.labels[views.query], labels
        ).mean_average_precision()
        for bits in (8, 24, 64)
    }
    index = fh.HierIndex(job.level_bits)
    index.add(gallery)
    (distances, _), stats = index.search(queries, K, stats=True)
    return found | {
        "tenth": float(distances[:, -1].mean()),
        "compared": float(stats.codes_compared.mean()) / len(gallery),
        "distinct": len(np.unique(gallery.view(np.uint64))) / len(gallery),
    }


def two_digits(value: float) -> str:
    return f"{value:.2f}"


def per_mille(value: float) -> str:
    return f"{value * 1000:.0f}"


def over_seeds(found: dict[Job, dict[str, float]]) -> dict[tuple[str, float], dict[str, list[float]]]:
    """By the name of the loss and the decay, the facts of all seeds."""
    together: dict[tuple[str, float], dict[str, list[float]]] = {}
    for job, of_job in found.items():
        lists = together.setdefault((job.name, job.decay), {name: [] for name in of_job})
        for name, value in of_job.items():
            lists[name].append(value)
    return together


def summaries(together: dict[tuple[str, float], dict[str, list[float]]]) -> str:
    """A row for each loss and decay."""
    head = ["3 seeds", "weight decay", "mAP@ALL, 8 bits", "24 bits", "64 bits", "tenth neighbour", "distinct, ‰"]
    rows = [
        [
            name,
            str(decay).removeprefix("0"),
            *(summary(values[f"mAP{bits}"], share) for bits in (8, 24, 64)),
            summary(values["tenth"], two_digits),
            summary(values["distinct"], per_mille),
            summary(values["compared"], per_mille),
        ]
        for (name, decay), values in together.items()
    ]
    return table([*head, "compared, ‰"], rows)


def draw_levels(path: Path, together: dict[tuple[str, float], dict[str, list[float]]]) -> None:
    """mAP over the share of the codes that an exact search compares: a line for each loss, a point for each decay."""
    points = {kind: [float(np.mean(of[what])) for what in ("compared", "mAP64")] for kind, of in together.items()}
    figure, axis = plt.subplots(figsize=(6.4, 4))
    for loss, colour in (("HDHash", RIGHT), ("HashNet", SHADES[2])):
        for line, name in (("-", loss), ("--", f"{loss}, {SPREAD}")):
            compared, maps = zip(*(points[name, decay] for decay in DECAYS), strict=True)
            axis.plot(100 * np.array(compared), maps, line, marker="o", markersize=4, color=colour, label=name)
    labels: dict[tuple[int, int], list[str]] = {}  # of points that would print over each other
    for term in TERMS:
        compared, mean_ap = points[f"HDHash, {term}", OF_TERMS]
        axis.plot(100 * compared, mean_ap, "x", color=PLAIN)
        labels.setdefault((round(100 * compared), round(200 * mean_ap)), []).append(term)
    for terms in labels.values():
        place = np.mean([points[f"HDHash, {term}", OF_TERMS] for term in terms], axis=0) * (100, 1)
        beside, below = ((4, -9), None), ((14, -84), {"arrowstyle": "-", "color": PLAIN, "lw": 0.6})
        offset, arrow = beside if len(terms) == 1 else below
        text = "\n".join(terms)
        axis.annotate(text, place, offset, textcoords="offset points", fontsize=7.5, color=PLAIN, arrowprops=arrow)
    ticks = [0.5, 1, 2, 5, 10, 20]
    axis.set(xscale="log", xlabel="codes compared by an exact search, %", ylabel="mAP@ALL, 64 bits")
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()
    axis.grid(alpha=0.25)
    axis.legend(frameon=False, fontsize=8.5)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    options = parser.parse_args()
    features = make_views(options.data, options.runs)
    heads = train_heads(options.data, options.runs / "views.npy")
    views = Views(options.data, features)
    galleries, queries = encode(views, heads)
    fh.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    found = {}
    for job in jobs():
        found[job] = facts(job, views, galleries[job], queries[job])
        print(job, found[job], flush=True)
    together = over_seeds(found)
    draw_levels(DOCS / "images" / "levels.png", together)
    parts = {
        "levels machine": f"{cpu_name()}, {fh.simd_level()}, one thread; "
        f"{versions('fasthash-search', 'faiss-cpu', 'numpy', 'torch')}.",
        "levels heads": summaries(together),
    }
    head = ["", "us a query", "times FlatIndex", "recall@10", "bytes a code"]
    curves: dict[str, Any] = {}
    for part, n in (("levels images", len(views.gallery)), ("levels views", None)):
        rows = []
        for loss, term in (("HDHash", ""), ("HDHash", SPREAD), ("HashNet", "")):
            job = Job(loss, TIMED, SEEDS[0], term)
            measured, curves_of = measure(job.name, galleries[job][:n], queries[job])
            rows += measured
            if n is None and term != SPREAD:  # whose curves are those of HDHash, nearly
                curves |= curves_of
            print(*measured, sep="\n", flush=True)
        parts[part] = table(head, rows)
    n_codes = len(next(iter(galleries.values())))
    draw_recall_by_time(DOCS / "images" / "recall_by_time.png", curves, K, f"{n_codes:,} codes of views, 64 bits")
    fill_page(DOCS / "results.md", parts)


if __name__ == "__main__":
    main()
