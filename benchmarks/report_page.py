"""The page and the pictures of benchmarks/report.py."""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" + " ---: |" * (len(header) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def number(value):
    return "" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def page(report):
    parts = [
        "# Measured speed and memory",
        f"`{report['command']}`: {report['cpu']}, {report['simd']} kernels, Python {report['python']}, "
        + ", ".join(f"{name} {version}" for name, version in report["versions"].items())
        + ". Microseconds a query unless stated; one thread, k = 10; medians of runs that took turns.",
        f"## FlatIndex, {report['n']:,} uniform codes, batch of 1,000 queries",
        table(
            ["bits", "faiss IndexBinaryFlat", "FlatIndex", "ratio"],
            [
                [str(r["bits"]), number(r["faiss"]), number(r["fasthash"]), f"{r['ratio']:.1f}"]
                for r in report["flat_widths"]
            ],
        ),
        f"## FlatIndex, {report['n']:,} uniform codes of 64 bits",
        table(
            ["", "faiss IndexBinaryFlat", "FlatIndex", "ratio"],
            [[r["row"], number(r["faiss"]), number(r["fasthash"]), f"{r['ratio']:.1f}"] for r in report["flat_single"]],
        ),
        f"Two threads on one query, {report['n_large']:,} codes: {number(report['two_threads']['two'])} us against "
        f"{number(report['two_threads']['one'])} us on one, {report['two_threads']['ratio']:.2f} times.",
        "## HierIndex (8, 16, 40), exact, one query a call",
        table(
            [
                "codes, memory",
                "plan",
                "bytes a code",
                "one query",
                "in a batch",
                "times faiss Flat",
                "times own Flat",
                "IndexBinaryIVF at >= 99.9 %",
            ],
            [
                [
                    f"{r['n']:,} {r['codes']}, {r['memory']}",
                    f"{r['plan']} {r['substrings']}",
                    number(r["bytes_per_code"]),
                    number(r["one"]),
                    number(r["batch"]),
                    number(r["to_faiss"]),
                    number(r["to_flat"]),
                    f"{number(r['ivf']['us'])} (nprobe {r['ivf']['nprobe']})" if r["ivf"] else "",
                ]
                for r in report["hierarchical"]
            ],
        ),
        "## keep = 0.3, node_ratio, batches of 1,000",
        table(
            ["codes, memory", "us", "times own Flat in a batch", "times own Flat, one query a call", "recall@10"],
            [
                [
                    f"{r['n']:,} {r['codes']}, {r['memory']}",
                    number(r["keep"]),
                    number(r["keep_to_flat_batch"]),
                    number(r["keep_to_flat_one"]),
                    f"{r['keep_recall']:.4f}",
                ]
                for r in report["hierarchical"]
                if "keep" in r
            ],
        ),
        f"## Building from {report['n_large']:,} codes, counted ids",
        table(
            [
                "codes, memory",
                "s, 1 thread",
                "s, 2 threads",
                "bytes a code",
                "resident, bytes a code",
                "peak over result",
            ],
            [
                [
                    f"{r['codes']}, {r['memory']}",
                    f"{r['seconds_1']:.2f}",
                    f"{r['seconds_2']:.2f}",
                    number(r["bytes_per_code"]),
                    number(r["resident_per_code"]),
                    f"{r['peak_to_result']:.2f}",
                ]
                for r in report["builds"]
            ],
        ),
        "## Growth with n, one query a call, memory = fast",
        table(
            list(report["scaling"]["rows"][0]),
            [[f"{v:,}" if k == "n" else number(v) for k, v in row.items()] for row in report["scaling"]["rows"]]
            + [["fitted exponent", *(f"{v:.2f}" for v in report["scaling"]["exponents"].values())]],
        ),
        f"## Exact and approximate search, {report['recall']['n']:,} codes, p = .12, one query a call",
        table(
            ["index", "share of queries with all ten distances right", "us"],
            [
                [name, f"{share:.3f}", number(microseconds)]
                for name, points in report["recall"]["curves"].items()
                for share, microseconds in points
            ],
        ),
        "## Worst cases, one query a call, against FlatIndex",
        table(
            ["codes, memory, k", "FlatIndex", "HierIndex", "ratio"],
            [
                [
                    f"{r['codes']}, {r['memory']}, k = {r['k']}",
                    number(r["scan"]),
                    number(r["hier"]),
                    f"{r['ratio']:.2f}",
                ]
                for r in report["worst_cases"]
            ],
        ),
    ]
    if (r := report["orb"]) is not None:
        ivf = f"; IndexBinaryIVF at {r['ivf']['exact']:.1%} exact {number(r['ivf']['us'])}" if r["ivf"] else ""
        parts.append(
            "## 1,000,000 ORB descriptors of 256 bits\n\n"
            f"HierIndex (plan: {r['plan']}) {number(r['batch'])} us a query in batches of 1,000, {number(r['one'])} "
            f"one by one; faiss IndexBinaryFlat {number(r['faiss_batch'])} and {number(r['faiss_one'])}: "
            f"{r['ratio_batch']:.1f} times in batches{ivf}."
        )
    return "\n\n".join(parts) + "\n"


def draw(report, folder):
    mpl.rcParams |= {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "fasthash"}
    figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    rows = report["scaling"]["rows"]
    colours = {"FlatIndex": "0.35", "faiss IndexBinaryFlat": "0.7"}
    for name, exponent in report["scaling"]["exponents"].items():
        label = f'HierIndex(memory="fast"), {name}' if name.startswith("p") else name
        axes.loglog(
            [r["n"] for r in rows],
            [r[name] for r in rows],
            marker="o",
            markersize=4,
            color=colours.get(name),
            label=f"{label}: n^{exponent:.2f}",
        )
    axes.set(xlabel="codes of 64 bits", ylabel="µs per exact query, one thread, k = 10")
    axes.legend(frameon=False)
    figure.savefig(folder / "scaling.png", dpi=150)
    plt.close(figure)

    figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    for name, points in report["recall"]["curves"].items():
        own = name.startswith("fasthash")
        axes.plot(
            *zip(*points, strict=True), "*" if own else "o-", markersize=13 if own else 4, label=name, clip_on=False
        )
    axes.set(
        yscale="log",
        xlabel=f"share of queries with all ten distances right ({report['recall']['n']:,} codes, p = .12)",
        ylabel="µs per query, one thread",
    )
    axes.legend(frameon=False)
    figure.savefig(folder / "recall.png", dpi=150)
    plt.close(figure)

    figure, axes = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
    largest = [r for r in report["hierarchical"] if r["n"] == report["n_large"]]
    names = list(dict.fromkeys(r["codes"] for r in largest))
    for i, memory in enumerate(("compact", "default", "fast")):
        heights = [
            next(r["bytes_per_code"] for r in largest if (r["codes"], r["memory"]) == (c, memory)) for c in names
        ]
        bars = axes.bar(np.arange(len(names)) + 0.27 * (i - 1), heights, 0.25, label=memory)
        axes.bar_label(bars, fmt="%.1f", fontsize=8)
    axes.axhline(8, color="0.5", linewidth=0.8, linestyle="--")
    axes.set_xticks(range(len(names)), names)
    axes.set(ylabel=f"bytes a code, ids included\n({report['n_large']:,} codes of 64 bits)")
    axes.legend(frameon=False, title="memory=")
    figure.savefig(folder / "memory.png", dpi=150)
    plt.close(figure)
