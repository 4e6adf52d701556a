"""Searches codes that are not collapsed: HDHash beside HashNet, heads on the features of an ImageNet network.

    python benchmarks/feature_levels.py FEATURES.npz [--large 1000000]

FEATURES.npz as for benchmarks/methods.py, whose recipe trains both heads (seed 0); queries are not in the gallery. The
large gallery is resampled as in benchmarks/levels.py. Fills docs/results.md; one thread, some two minutes.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import faiss
import torch
from torch.utils.data import TensorDataset

import fasthash as fh
from fasthash import losses
from fasthash.heads import HashHead
from fasthash.metrics import histograms
from fasthash.train import train
from levels import LEVEL_BITS, N_QUERIES, Codes, measure
from methods import HDHASH, HEAD, PAGE, Images
from pages import fill_page, share, table, versions
from workloads import cpu_name

BEST = "parallel, w = (1, 0.5, 0.25)"


class FeatureCodes(Codes):
    """Codes of all images by a head trained with `loss`."""

    def __init__(self, data: Images, loss: losses.HashLoss, level_bits: tuple[int, ...]) -> None:
        torch.manual_seed(0)
        head = HashHead(data.features.shape[1], level_bits)
        x, y = torch.from_numpy(data.features[data.train]), torch.from_numpy(data.labels[data.train])
        train(head, loss, TensorDataset(x, y), seed=0, **HEAD)
        codes = head.encode(data.features)
        self.gallery, self.labels = codes[data.database], data.labels[data.database]
        self.queries, self.query_labels = codes[data.query][:N_QUERIES], data.labels[data.query][:N_QUERIES]

    def maps(self) -> dict[int, float]:
        """mAP@ALL of the first 8, 24 and 64 bits, expected over ties."""
        return {
            width: histograms(
                self.queries[:, : width // 8], self.gallery[:, : width // 8], self.query_labels, self.labels
            ).mean_average_precision()
            for width in itertools.accumulate(LEVEL_BITS)
        }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("features", type=Path)
    parser.add_argument("--large", type=int, default=1_000_000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    fh.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    data = Images(options.features)
    of_levels = losses.HierarchicalLoss(losses.HashNetLoss(), LEVEL_BITS, **HDHASH[BEST])
    found = {
        "HDHash": FeatureCodes(data, of_levels, LEVEL_BITS),
        "HashNet": FeatureCodes(data, losses.HashNetLoss(), (sum(LEVEL_BITS),)),
    }
    maps = [[name, *map(share, codes.maps().values())] for name, codes in found.items()]
    parts = {
        "feature levels machine": f"{cpu_name()}, one thread; "
        f"{versions('fasthash-search', 'faiss-cpu', 'numpy', 'torch')}.",
        "feature levels maps": table(["mAP@ALL", *(f"{n} bits" for n in itertools.accumulate(LEVEL_BITS))], maps),
    }
    head = ["", "us a query", "times FlatIndex", "recall@10", "bytes a code"]
    for part, large in (("feature levels small", False), ("feature levels large", True)):
        rows, notes = [], []
        for name, codes in found.items():
            gallery = codes.resampled(options.large) if large else codes.gallery
            measured, facts = measure(name, gallery, codes.queries)
            rows += measured
            notes.append(
                f"{name}: {len(gallery):,} codes, {facts['distinct']:,} distinct; the tenth neighbour is "
                f"{facts['tenth']:.2f} bits away on average; exact plan: {facts['plan']}."
            )
            print(*measured, notes[-1], sep="\n", flush=True)
        parts[part] = "\n".join([table(head, rows), "", *notes])
    fill_page(PAGE, parts)


if __name__ == "__main__":
    main()
