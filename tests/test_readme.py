"""What the README shows is what its code prints, and its figures are those of the measured reports."""

import json
import re

from documents import ROOT, python_blocks, run, text_blocks

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_first_example_prints_what_is_shown(tmp_path):
    (code,), (shown,) = python_blocks("README.md"), text_blocks("README.md")
    assert run(code, tmp_path) == shown
    lines = [line for line in code.splitlines() if line and not line.startswith("import")]
    assert len(lines) <= 10


def test_the_comparison_is_that_of_the_report():
    report = json.loads((ROOT / "benchmarks/results/report.json").read_text(encoding="utf-8"))
    (large,) = (
        row
        for row in report["hierarchical"]
        if (row["n"], row["codes"], row["memory"]) == (10_000_000, "p = .04", "default")
    )
    curves = report["recall"]["curves"]
    (_, own), (ivf_share, ivf), (usearch_share, usearch) = (
        curves[name][-1] for name in ("fasthash HierIndex, fast", "faiss IndexBinaryIVF", "usearch HNSW")
    )
    first, second = re.findall(r"^\| [\d,]+ \w+ codes.*$", README, flags=re.MULTILINE)
    large_ivf = f"{large['ivf']['us']:.0f} ({large['ivf']['exact']:.0%} exact)".replace("%", " %")
    assert f"**{large['one']:.1f}** | {large['faiss_one']:,.0f} | {large_ivf} | –" in first
    assert f"{report['recall']['n']:,} scattered" in second
    assert f"**{own:.1f}** | – | {ivf:.1f} ({ivf_share:.0%} exact) | {usearch:.0f} ({usearch_share:.1%} exact)" in (
        second.replace("100 %", "100%").replace("99.2 %", "99.2%")
    )


def test_the_first_screen_comes_first():
    """What it is, how to install the core, a search, a comparison, when not to use it, the two commands."""
    places = [
        README.index(text)
        for text in (
            "Hamming distance",
            "pip install .\n",
            "```python",
            "faiss",
            "**Use something else**",
            "make demo",
            "\n## ",
        )
    ]
    assert places == sorted(places)
