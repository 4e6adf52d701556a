"""The tables and the pictures of benchmarks/report.py."""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

import keep
from pages import table


def number(value):
    return "–" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def pair(row, begin=""):
    """One query a call / in batches."""
    return f"{number(row[f'{begin}one'])} / {number(row[f'{begin}batch'])}"


def fastest(row):
    """The time of a query alone, bold unless the scan is faster."""
    return f"**{number(row['one'])}**" if row["one"] <= row["flat_one"] else number(row["one"])


def own(row):
    return f"{fastest(row)} / {number(row['batch'])}"


def inverted_lists(row):
    """One query a call."""
    return number(row["ivf"]["one"] if row["ivf"] else None)


def both_of_inverted_lists(row):
    return pair(row["ivf"]) if row["ivf"] else number(None)


def millions(n):
    return f"{n // 10**6} M" if n % 10**6 == 0 else f"{n:,}"


def machine(report):
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    return f"{report['cpu']}, {report['simd']} kernels; Python {report['python']}, {versions}."


def generated(report):
    heads = ["codes", "`memory=`", "plan", "bytes a code", "`HierIndex`, one / batch", "`FlatIndex`, one / batch"]
    return table(
        [*heads, "faiss Flat, one", "faiss IVF, ≥ 99.9 % exact, one / batch"],
        [
            [
                f"{millions(r['n'])}, {r['codes']}",
                f"`{r['memory']}`",
                r["plan"],
                number(r["bytes_per_code"]),
                own(r),
                pair(r, "flat_"),
                number(r["faiss_one"]),
                both_of_inverted_lists(r),
            ]
            for r in report["hierarchical"]
        ],
    )


def real(report):
    heads = ["codes", "plan", "bytes a code", "`HierIndex`, one / batch", "`FlatIndex`, one / batch"]
    return table(
        [*heads, "faiss Flat, one / batch", "faiss IVF, ≥ 99.9 % exact, one / batch"],
        [
            [
                f"{r['n']:,}, {r['codes']}, {r['bits']} bits",
                r["plan"],
                number(r["bytes_per_code"]),
                own(r),
                pair(r, "flat_"),
                pair(r, "faiss_"),
                both_of_inverted_lists(r),
            ]
            for r in report["real"]
        ],
    )


def radius(report):
    return table(
        ["codes", "bytes a code", "`HierIndex`, one / batch", "`FlatIndex`, one / batch"],
        [
            [f"{r['n']:,}, {r['codes']}", number(r["bytes_per_code"]), own(r), pair(r, "flat_")]
            for r in report["radius"]
        ],
    )


def fixed(report):
    costs = report["fixed_costs"]
    rows = [["64 queries against 1,000 codes, a call", *(number(costs[name]) for name in costs)]]
    large = next(r for r in report["flat_single"] if r["row"].startswith("k ="))
    of_many = [number(large["fasthash"]), "–", number(large["faiss"])]
    rows.append([f"k = 1,000 of {millions(report['n'])} codes, a query of a batch", *of_many])
    return table(["µs", "`FlatIndex`", "`HierIndex`", "faiss Flat"], rows)


def scans(report):
    widths = report["flat_widths"]
    return table(
        ["bits", *(str(r["bits"]) for r in widths)],
        [
            ["faiss `IndexBinaryFlat`", *(number(r["faiss"]) for r in widths)],
            ["`FlatIndex`", *(number(r["fasthash"]) for r in widths)],
            ["times", *(f"{r['ratio']:.1f}" for r in widths)],
        ],
    )


def widths(report):
    """The table of docs/width.md."""
    rows = []
    for r in report["flat_widths"]:
        if 16 <= r["bits"] <= 512:
            codes = {16: "65,536", 32: "4.3·10⁹", 64: "1.8·10¹⁹"}.get(r["bits"], "")
            rows.append([str(r["bits"]), str(r["bits"] // 8), codes, number(r["fasthash"]), f"{r['ratio']:.1f}"])
    head = [f"scan of {millions(report['n'])} codes, µs a query", "times as fast as faiss"]
    return {"bench widths": table(["bits", "bytes a code", "distinct codes, at most", *head], rows)}


def scan_levels(report):
    levels = [r for r in report["flat_single"] if not r["row"].startswith("k =")]
    each = ", ".join(f"{number(r['fasthash'])} µs with {r['row'].split(', ')[1]} kernels" for r in levels)
    two = report["two_threads"]
    return (
        f"One query a call, 64 bits: {each}; faiss {number(levels[0]['faiss'])}. Two threads answer one query among "
        f"{report['n_large']:,} codes {two['ratio']:.1f} times as fast as one."
    )


def builds(report):
    return table(
        ["codes", "`memory=`", "s, 1 thread", "s, 2 threads", "bytes a code", "peak over result"],
        [
            [
                f"{millions(report['n_large'])}, {r['codes']}",
                f"`{r['memory']}`",
                f"{r['seconds_1']:.2f}",
                f"{r['seconds_2']:.2f}",
                number(r["bytes_per_code"]),
                f"{r['peak_to_result']:.2f}",
            ]
            for r in report["builds"]
        ],
    )


def growth(report):
    rows = report["scaling"]["rows"]
    return table(
        list(rows[0]),
        [[f"{v:,}" if k == "n" else number(v) for k, v in row.items()] for row in rows]
        + [["grows as n to the power of", *(f"{v:.2f}" for v in report["scaling"]["exponents"].values())]],
    )


def approximate(report):
    return table(
        ["index", "exact", "µs"],
        [
            [name, f"{share:.3f}", number(microseconds)]
            for name, points in report["recall"]["curves"].items()
            for share, microseconds in points
        ],
    )


def worst(report):
    return table(
        ["codes", "`memory=`", "k", "`FlatIndex`", "`HierIndex`", "ratio"],
        [
            [r["codes"], f"`{r['memory']}`", str(r["k"]), number(r["scan"]), number(r["hier"]), f"{r['ratio']:.2f}"]
            for r in report["worst_cases"]
        ],
    )


def figures(report):
    """The parts of docs/figures.md."""
    return {
        "bench machine": machine(report),
        "bench generated": generated(report),
        "bench real": real(report),
        "bench radius": radius(report),
        "bench fixed": fixed(report),
        "bench growth": growth(report),
        "bench approximate": approximate(report),
        "bench scans": scans(report),
        "bench scan levels": scan_levels(report),
        "bench builds": builds(report),
        "bench worst": worst(report),
        "bench keep": keep.as_table(report["keep"]),
    }


def page(report):
    parts = (f"## {name.removeprefix('bench ')}\n\n{part}" for name, part in figures(report).items())
    return "\n\n".join([f"# `{report['command']}`", *parts]) + "\n"


def readme(report):
    """The table of README.md: the default memory, one query a call."""
    heads = ["µs a query, ten nearest, one thread", "`HierIndex`, exact", "`FlatIndex`, exact"]
    generated_rows = [
        {"bits": 64, **r}
        for r in report["hierarchical"]
        if r["n"] == report["n_large"] and r["memory"] == "default" and r["codes"] in ("p = .04", "p = .12")
    ]
    rows = [
        [
            f"{r['n']:,} codes of {r['bits']} bits, {r['codes']}",
            fastest(r),
            number(r["flat_one"]),
            number(r["faiss_one"]),
            inverted_lists(r),
        ]
        for r in generated_rows + report["real"]
    ]
    text = table([*heads, "faiss `IndexBinaryFlat`, exact", "faiss `IndexBinaryIVF`, ≥ 99.9 % exact"], rows)
    return {"bench": text, "bench machine": machine(report)}


def first_page(report):
    """The table of docs/index.md: one query a call at the default memory, p = .04."""
    rows = [r for r in report["hierarchical"] if r["memory"] == "default" and r["codes"] == "p = .04"]
    text = table(
        ["µs a query", "`HierIndex`, exact", "`FlatIndex`, exact", "faiss `IndexBinaryFlat`", "faiss `IndexBinaryIVF`"],
        [
            [
                f"{r['n']:,} codes",
                fastest(r),
                number(r["flat_one"]),
                number(r["faiss_one"]),
                inverted_lists(r),
            ]
            for r in rows
        ],
    )
    return {"bench": text}


def draw(report, folder):
    mpl.rcParams |= {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "fasthash"}
    figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    rows = report["scaling"]["rows"]
    colours = {"FlatIndex": "0.35", "faiss IndexBinaryFlat": "0.7"}
    for name, exponent in report["scaling"]["exponents"].items():
        label = f"HierIndex, {name}" if name.startswith("p") else name
        axes.loglog(
            [r["n"] for r in rows],
            [r[name] for r in rows],
            marker="o",
            markersize=4,
            linestyle="--" if name.endswith("fast") else "-",  # lies on the line of another setting
            color=colours.get(name),
            label=f"{label}: grows as n^{exponent:.2f}",
        )
    axes.set(xlabel="codes of 64 bits", ylabel="µs per exact query, one thread, k = 10")
    axes.legend(frameon=False)
    figure.savefig(folder / "scaling.png", dpi=150)
    plt.close(figure)

    figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    star = 20  # smaller for each setting, which may lie on the one before
    for name, points in report["recall"]["curves"].items():
        own = name.startswith("fasthash")
        axes.plot(
            *zip(*points, strict=True), "*" if own else "o-", markersize=star if own else 4, label=name, clip_on=False
        )
        star = star * 0.5 if own else star
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
        paper = {
            "facecolor": "white",
            "edgecolor": "none",
            "pad": 0,
        }  # so that the line does not strike a label through
        axes.bar_label(bars, fmt="%.1f", fontsize=8, padding=2, bbox=paper)
    axes.axhline(8, color="0.5", linewidth=0.8, linestyle="--", zorder=0)
    axes.text(-0.4, 8.4, "8: the code alone", color="0.35", fontsize=8)
    axes.set_xticks(range(len(names)), names)
    axes.set(ylabel=f"bytes a code, ids included\n({report['n_large']:,} codes of 64 bits)")
    axes.legend(frameon=False, title="memory=")
    figure.savefig(folder / "memory.png", dpi=150)
    plt.close(figure)
