"""What docs/cli.md shows is what its commands print, but for times and what is installed."""

import os
import re
import shlex
import subprocess
import sys

import pytest

from documents import ROOT, python_blocks, run

pytest.importorskip("typer", reason="needs the extra cli")
PAGE = "docs/cli.md"
TEXT = (ROOT / PAGE).read_text(encoding="utf-8")
TIMES = re.compile(r"\d+\.\d\d s$", flags=re.MULTILINE)


def commands():
    """Command and what it prints, in the order of the page."""
    blocks = re.findall(r"```console\n(.*?)```", TEXT, flags=re.DOTALL)
    return [tuple(part.partition("\n")[::2]) for block in blocks for part in re.split(r"^\$ ", block, flags=re.M)[1:]]


def test_the_page_makes_its_files_before_it_uses_them():
    assert TEXT.index("```python") < TEXT.index("```console")
    outside = re.sub(r"```console\n.*?```", "", TEXT, flags=re.DOTALL)
    assert not re.search(r"^(\$ )?fasthash ", outside, flags=re.MULTILINE)  # a block that nothing runs


def test_the_page_shows_what_the_commands_print(tmp_path):
    run("".join(python_blocks(PAGE)), tmp_path)
    program = tmp_path / "fasthash"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m fasthash "$@"\n')
    program.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    shown = commands()
    assert {command.split("fasthash ")[1].split()[0] for command, _ in shown} == {
        "build", "search", "info", "verify", "compact", "bench",
    }  # fmt: skip
    for command, expected in shown:
        if "bench" in command:
            command = command.replace("faiss,numpy", "numpy --rounds 1")
        result = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
        )
        assert result.returncode == 0, result.stderr
        if "bench" in command:
            compare_tables(result.stdout, expected)
        else:
            printed = "".join(f"{line.rstrip()}\n" for line in result.stdout.splitlines())
            assert TIMES.sub("", printed) == TIMES.sub("", expected), command
        if "--keep" in command:
            compare_summaries(result.stderr, re.search(r"`(queries: [^`]*)`", TEXT)[1])


def compare_summaries(printed, shown):
    """The same queries, plan and work. Threads share the work in different ways, which changes it a little."""
    form = re.compile(r"queries: ([\d,]+), .* each; threads: \d+; plan: (\w+), ([\d,.]+) codes compared a query")
    (n, plan, compared), (n_shown, plan_shown, compared_shown) = (
        form.fullmatch(" ".join(text.split())).groups() for text in (printed, shown)
    )
    assert (n, plan) == (n_shown, plan_shown)
    assert float(compared.replace(",", "")) == pytest.approx(float(compared_shown.replace(",", "")), rel=0.01)


def compare_tables(printed, shown):
    """The same searchers, recalls and bytes; the page has one library more, and times of a machine of its own."""
    printed, shown = ([re.split(r"\s{2,}", line.strip()) for line in text.splitlines()] for text in (printed, shown))
    assert printed[0] == shown[0]
    names = {row[0]: row for row in shown[3:]}
    assert printed[3] == shown[3]
    for row in printed[4:]:
        assert (row[1], row[-1]) == (names[row[0]][1], names[row[0]][-1]), row
