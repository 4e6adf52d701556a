"""Draws the pictures of docs/search.md: the bounds of a tree and of clusters, and what the plans compare.

    python benchmarks/pictures.py

Nothing is timed: the second picture counts codes.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

import fasthash as fh
from fasthash.plots import PLAIN, RIGHT, SHADES, WRONG
from workloads import learned_like

IMAGES = Path(__file__).parent.parent / "docs" / "images"
N, N_QUERIES, K = 1_000_000, 100, 10
PREFIX_BITS, N_SMALL, K_SMALL = 4, 60, 3


def draw_bounds(path: Path) -> None:
    """60 codes of 12 bits below their first 4, for one query: which prefixes a search for the 3 nearest opens."""
    rng = np.random.default_rng(3)
    centres = rng.integers(0, 2, (5, 12))
    codes = centres[rng.integers(0, 5, N_SMALL)] ^ (rng.random((N_SMALL, 12)) < 0.12)
    query = centres[0] ^ (rng.random(12) < 0.12)
    distances = (codes != query).sum(axis=1)
    kth = np.sort(distances)[K_SMALL - 1]
    prefixes, members = np.unique(codes[:, :PREFIX_BITS], axis=0, return_inverse=True)
    bounds = (prefixes != query[:PREFIX_BITS]).sum(axis=1)
    order = np.lexsort((np.arange(len(prefixes)), bounds))

    figure, axis = plt.subplots(figsize=(9.5, 4.2))
    for x, node in enumerate(order):
        found = np.sort(distances[members.ravel() == node])
        opened = bounds[node] <= kth
        colour = SHADES[2] if opened else "#b8bec4"
        beside = np.arange(len(found)) - np.searchsorted(found, found)  # equal ones stand side by side
        axis.plot(x - 0.3 + 0.09 * beside, found, "o", markersize=4.5, color=colour, zorder=3)
        axis.plot([x - 0.35, x + 0.35], [bounds[node]] * 2, color=RIGHT if opened else WRONG, linewidth=2.5, zorder=4)
        axis.text(x, -1.3, "".join(map(str, prefixes[node].astype(int))), ha="center", fontsize=8, family="monospace")
    axis.axhline(kth, color=PLAIN, linestyle="--", linewidth=1)
    nearest = f"the {K_SMALL} nearest: within {kth} bit{'' if kth == 1 else 's'}"
    axis.text(len(order) + 1.1, kth + 0.15, nearest, ha="right", va="bottom", fontsize=8.5, color=PLAIN)
    n_open = int((bounds[order] <= kth).sum())
    axis.axvline(n_open - 0.5, color="#8a949c", linewidth=0.8, linestyle=":")
    axis.text(n_open - 0.7, 11.4, "opened, nearest prefix first", ha="right", fontsize=8.5, color=SHADES[2])
    axis.text(n_open - 0.3, 11.4, "never read: the bound is beyond", ha="left", fontsize=8.5, color=WRONG)
    axis.set(xlim=(-0.8, len(order) + 1.2), ylim=(-0.4, 12.2), xticks=[], ylabel="Hamming distance to the query")
    axis.set_xlabel(f"the first {PREFIX_BITS} bits of the codes", labelpad=24)
    axis.set_title("bars: distance of the prefix alone, a lower bound; dots: the codes with this prefix", fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_clusters(path: Path) -> None:
    """Points of a plane in three clusters, for one query: what the two bounds of a cluster search leave to compare."""
    rng = np.random.default_rng(5)
    centroids = np.array([[0.0, 0.0], [9.0, 1.0], [3.5, 9.5]])
    points = np.concatenate([c + rng.normal(0, 1.7, (120, 2)) for c in centroids])
    from_centroid = np.linalg.norm(points[:, None] - centroids, axis=2)
    cluster, r = from_centroid.argmin(axis=1), from_centroid.min(axis=1)
    query = np.array([2.3, 1.2])
    threshold = np.sort(np.linalg.norm(points - query, axis=1))[9]
    to_centroids = np.linalg.norm(centroids - query, axis=1)
    excluded = (to_centroids - to_centroids.min()) / 2 > threshold
    in_annulus = np.abs(to_centroids[cluster] - r) <= threshold
    compared = in_annulus & ~excluded[cluster]

    figure, axis = plt.subplots(figsize=(7, 5.6))
    d = to_centroids[0]
    for radius in (max(0, d - threshold), d + threshold):
        axis.add_patch(plt.Circle(centroids[0], radius, fill=False, color=PLAIN, linestyle="--", linewidth=1))
    axis.add_patch(plt.Circle(query, threshold, color=RIGHT, alpha=0.18))
    axis.plot(*points[~compared].T, "o", markersize=3.5, color="#b8bec4", label="not compared")
    axis.plot(*points[compared].T, "o", markersize=3.5, color=SHADES[2], label="compared")
    axis.plot(*centroids.T, "+", markersize=12, markeredgewidth=2, color="black", label="centroids")
    axis.plot(*query, "*", markersize=13, color=RIGHT, label="query, and T around it")
    for c in np.flatnonzero(excluded):
        above = (centroids[c][0], points[cluster == c][:, 1].max() + 0.6)
        axis.text(*above, "half of d(q, c) - d(q, c') is beyond T", ha="center", color=WRONG, fontsize=8.5)
    axis.text(
        *(centroids[0] - [0, d + threshold + 1.1]),
        "annulus: |d(q, c) - r| <= T",
        ha="center",
        color=PLAIN,
        fontsize=8.5,
    )
    axis.set(aspect="equal", xticks=[], yticks=[], xlim=(-7.5, 15), ylim=(-6.5, 16.5))
    axis.spines[:].set_visible(False)
    axis.legend(frameon=False, loc="upper left", fontsize=8.5)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_plans(path: Path) -> None:
    """Codes that an exact search compares, over how far codes stray from their centres, and the plan chosen."""
    flips = (0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.12, 0.16, 0.2, 0.3, 0.5)
    marks = {"scan": "s", "prefix": "o", "multi_index": "^", "clusters": "D"}
    figure, axis = plt.subplots(figsize=(6.4, 4))
    chosen = set()
    for memory, colour in (("compact", SHADES[1]), ("default", SHADES[3])):
        compared, plans = [], []
        for p in flips:
            codes, queries = learned_like(N, N_QUERIES, p)
            index = fh.HierIndex((8, 16, 40), memory=memory)
            index.add(codes)
            # One query at a time: of many together a scan may be the cheaper way.
            stats = [index.search(query[None], K, stats=True)[1] for query in queries]
            compared.append(float(np.mean([one.codes_compared[0] for one in stats])))
            plans.append(str(index.stats()["plan"]).replace("-", "_"))
        axis.plot(flips, compared, color=colour, linewidth=1.2, label=f'memory="{memory}"')
        for plan, mark in marks.items():
            here = [i for i, each in enumerate(plans) if each == plan]
            axis.plot([flips[i] for i in here], [compared[i] for i in here], mark, color=colour, markersize=6)
        chosen |= set(plans)
        print(memory, list(zip(flips, plans, map(round, compared), strict=True)))
    for plan in sorted(chosen):
        mark = marks[plan]
        axis.plot([], [], mark, color=PLAIN, label=plan.replace("_", "-"))
    axis.set(xscale="log", yscale="log", xlabel="share of bits in which a code strays from its centre (.5: uniform)")
    axis.set(ylabel=f"codes compared a query, of {N:,}", title=f"{K} nearest of {N:,} x 64 bits, exact")
    axis.set_xticks(flips[::2], [f"{p:g}" for p in flips[::2]])
    axis.minorticks_off()
    axis.grid(alpha=0.25)
    axis.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    draw_bounds(IMAGES / "bounds.png")
    draw_clusters(IMAGES / "clusters.png")
    draw_plans(IMAGES / "plans.png")
