"""Searches the learned codes of HDHash and HashNet: time, memory and recall of tree, pruned tree and scan.

    python benchmarks/levels.py RUNS [--large 10000000]

RUNS holds `levels-hdhash` and `levels-hashnet64` as benchmarks/images.py leaves them. Fills docs/results.md and draws
docs/images/recall_by_time.png. One thread, k = 10, batches of 1,000 queries; some ten minutes and 6 GB.

The large gallery resamples the learned codes: a code takes each bit from one of two random images of a class. That
keeps the statistics of the bits and of their pairs within a class, and makes codes that no image had.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np

import fasthash as fh
from fasthash.plots import draw_recall_by_time
from pages import fill_page, table, versions
from workloads import cpu_name, interleaved

DOCS = Path(__file__).parent.parent / "docs"
LEVEL_BITS = (8, 16, 40)
K, N_QUERIES = 10, 1000
FLOATS = "scan, ±1 as float32, numpy"
KEEPS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
MODES = ("node_ratio", "gallery_ratio", "radius")
NAMES = {"levels-hdhash": "HDHash", "levels-hashnet64": "HashNet"}
Search = Callable[[], tuple[np.ndarray, np.ndarray]]  # distances and ids


class Codes:
    """Codes of all 60,000 images and their classes; the queries are test images, and in the gallery too."""

    def __init__(self, folder: Path) -> None:
        with np.load(folder / "codes.npz", allow_pickle=False) as file:
            self.gallery = np.concatenate((file["gallery"], file["query"]))
            self.labels = np.concatenate((file["gallery_labels"], file["query_labels"]))
            self.queries = file["query"][:: len(file["query"]) // N_QUERIES][:N_QUERIES].copy()

    def resampled(self, n: int, seed: int = 0) -> np.ndarray:
        """Gallery of n codes, see above."""
        rng = np.random.default_rng(seed)
        order = np.argsort(self.labels, kind="stable")
        first = np.searchsorted(self.labels[order], np.arange(self.labels.max() + 2))
        result = np.empty((n, self.gallery.shape[1]), np.uint8)
        for rows in np.array_split(np.arange(n), max(1, n // 1_000_000)):
            classes = self.labels[rng.integers(0, len(self.labels), len(rows))]
            one, other = (self.gallery[order[rng.integers(first[classes], first[classes + 1])]] for _ in range(2))
            mask = rng.integers(0, 256, one.shape, dtype=np.uint8)
            result[rows] = (one & mask) | (other & ~mask)
        return result


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
    plan = str(tree.search(queries[:1], K, stats=True)[1].plan[0])
    pruned_points = {
        mode: [points[f"{mode} {keep}" if keep != 0.3 else f"pruned, keep = 0.3, {mode}"] for keep in KEEPS]
        for mode in MODES[:2]
    }
    facts = {
        "plan": plan,
        "distinct": len(np.unique(gallery.view(np.uint64))),
        "tenth": float(truth[:, -1].mean()),
        "curves": {
            **{f"{name}, keep = {KEEPS[0]} to {KEEPS[-1]}, {mode}": line for mode, line in pruned_points.items()},
            f"{name}, exact": [points["exact, HierIndex"], points["exact, HierIndex, memory=fast"]],
            f"{name}, scan": [points["scan, FlatIndex"]],
        },
    }
    return rows, facts


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", type=Path)
    parser.add_argument("--large", type=int, default=10_000_000)
    options = parser.parse_args()
    fh.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    parts = {
        "levels machine": f"{cpu_name()}, one thread; {versions('fasthash-search', 'faiss-cpu', 'numpy')}.",
    }
    head = ["", "us a query", "times FlatIndex", "recall@10", "bytes a code"]
    curves: dict[str, Any] = {}
    for part, enlarge in (("levels 60,000", False), ("levels 10 M", True)):
        rows, notes = [], []
        for run_name, name in NAMES.items():
            codes = Codes(options.runs / run_name)
            gallery = codes.resampled(options.large) if enlarge else codes.gallery
            found, facts = measure(name, gallery, codes.queries)
            rows += found
            notes.append(
                f"{name}: {len(gallery):,} codes, {facts['distinct']:,} distinct; the tenth neighbour is "
                f"{facts['tenth']:.2f} bits away on average; exact plan: {facts['plan']}."
            )
            print(*found, notes[-1], sep="\n", flush=True)
            if enlarge:
                curves |= facts["curves"]
        parts[part] = "\n".join([table(head, rows), "", *notes])
    draw_recall_by_time(
        DOCS / "images" / "recall_by_time.png", curves, K, f"{options.large:,} learned codes of 64 bits"
    )
    parts["levels 10 M"] += "\n\n![recall over time of the pruned and the exact search](images/recall_by_time.png)"
    fill_page(DOCS / "results.md", parts)


if __name__ == "__main__":
    main()
