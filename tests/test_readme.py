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


def shown(microseconds):
    return f"{microseconds:,.0f}" if microseconds >= 100 else f"{microseconds:.3g}"


def bold_if_faster(row):
    return f"**{shown(row['one'])}**" if row["one"] <= row["flat_one"] else shown(row["one"])


def test_the_comparison_is_that_of_the_report():
    """Ten million generated codes at the default memory, then all real ones."""
    report = json.loads((ROOT / "benchmarks/results/report.json").read_text(encoding="utf-8"))
    generated = [
        {"bits": 64, **row}
        for row in report["hierarchical"]
        if row["n"] == 10_000_000 and row["memory"] == "default" and row["codes"] in ("p = .04", "p = .12")
    ]
    expected = [
        f"| {row['n']:,} codes of {row['bits']} bits, {row['codes']} | {bold_if_faster(row)} "
        f"| {shown(row['flat_one'])} | {shown(row['faiss_one'])} | {shown(row['ivf']['one']) if row['ivf'] else '–'} |"
        for row in generated + report["real"]
    ]
    assert len(expected) > 4
    assert re.findall(r"^\| [\d,]+ codes of .*$", README, flags=re.MULTILINE) == expected


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
