"""The command line where nothing but the extra `cli` is installed, and its help."""

import re
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from itertools import pairwise

import numpy as np
import pytest

pytest.importorskip("typer", reason="needs the extra cli")

# Runs a command line, arguments 2 and up, where the modules that argument 1 names cannot be imported.
PROGRAM = """
import sys
names = sys.argv.pop(1).split(",")
sys.modules |= dict.fromkeys(names)
from fasthash.__main__ import main
main()
"""
# Commands that need no photos, in an order in which each finds its files.
LINES = [
    "build codes.npy",
    "build codes.npy -o levels.fh --levels 8,56",
    "build hashes.txt --flat",
    "build table.csv --column phash -o table.fh",
    "build codes.npz -o keyed.fhs",
    "build codes.npy -o plain.fhs",
    "build codes.npy -o plain.fhs --add",
    "search codes.fh queries.npy -k 10",
    "search codes.fh queries.npy --mmap --json",
    "search levels.fh queries.npy --keep 0.5 --csv",
    "search hashes.fh queries.npy --radius 3 -o found.npz",
    "search keyed.fhs queries.npy --allow even.npy",
    "info codes.fh",
    "info keyed.fhs --json",
    "verify codes.fh keyed.fhs",
    "compact plain.fhs",
    "export codes.fh -o codes.fps",
    "export keyed.fhs -o keyed.fps",
    "build codes.fps -o sets.fh --metric jaccard",
    "bench codes.npy --rounds 1",
    *(f"{command} --help" for command in ("build", "search", "encode", "dedup", "dedup-videos", "serve", "train")),
    "--help",
]


def distributions(*names):
    """These distributions and all that they need, as far as they are installed."""
    wanted, found = list(names), set()
    while wanted:
        name = re.sub(r"[-_.]+", "-", wanted.pop()).lower()
        if name in found:
            continue
        try:
            needed = requires(name) or []
        except PackageNotFoundError:
            continue
        found.add(name)
        wanted += [re.match(r"[\w.-]+", each)[0] for each in needed if "extra ==" not in each]
    return found


def blocked():
    """Modules that are installed, but that the extra `cli` does not bring."""
    cli = [re.match(r"[\w.-]+", each)[0] for each in requires("fasthash-search") if re.search("extra == .cli.", each)]
    ours = {*distributions("numpy", *cli), "fasthash-search"}
    return {
        module
        for module, owners in packages_distributions().items()
        if not any(re.sub(r"[-_.]+", "-", owner).lower() in ours for owner in owners)
    } - {"fasthash"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    codes = np.random.default_rng(0).integers(0, 256, (600, 8), dtype=np.uint8)
    np.save(folder / "codes.npy", codes)
    np.savez(folder / "codes.npz", codes=codes, paths=np.array([f"{i}.jpg" for i in range(600)]))
    np.save(folder / "queries.npy", codes[:2])
    np.save(folder / "even.npy", np.arange(0, 600, 2))
    rows = [f"{i}.jpg,{code.tobytes().hex()}\n" for i, code in enumerate(codes)]
    (folder / "table.csv").write_text("".join(["path,phash\n", *rows]))
    (folder / "hashes.txt").write_text("".join(row.partition(",")[2] for row in rows))
    (folder / "photo.jpg").write_bytes(b"\xff\xd8\xff")
    missing = ",".join(sorted(blocked()))

    def run(line):
        command = [sys.executable, "-c", PROGRAM, missing, *shlex.split(line)]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)

    return run


def test_these_packages_are_blocked():
    assert "typer" not in blocked()
    assert blocked() >= {"PIL", "torch", "timm", "scipy", "matplotlib", "jinja2", "tqdm", "faiss"} & set(
        packages_distributions()
    )


def test_commands_without_photos_need_the_extra_cli_alone(run):
    for line in LINES:
        result = run(line)
        assert result.returncode == 0, f"{line}: {result.stderr}"


@pytest.mark.parametrize(
    ("line", "package"),
    [
        ("search codes.fh photo.jpg --encoder encoder", "PIL"),
        ("search codes.fh photo.jpg --encoder encoder --html near.html", "PIL"),
        ("bench codes.npy -o report", "matplotlib"),  # before anything is measured
    ],
)
def test_a_command_that_needs_more_names_it(run, line, package):
    assert run("build codes.npy --force").returncode == 0
    result = run(line)
    assert result.returncode == 1
    assert result.stdout == ""
    assert re.fullmatch(
        rf"fasthash: this part of fasthash needs the package '{package}'; install it with: .*\n", result.stderr
    )


# ---- help ----


@pytest.fixture
def texts(monkeypatch):
    """The help of each command in 80 columns, by its name, in the order of `fasthash --help`."""
    typer_testing = pytest.importorskip("typer.testing")
    from fasthash.cli import app

    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")

    def text(*arguments):
        return typer_testing.CliRunner().invoke(app, [*arguments, "--help"]).stdout

    names = re.findall(r"^[│ ] +([a-z][a-z-]+)  +[A-Z]", text().partition("Commands")[2], re.MULTILINE)
    return {name: text(name) for name in names}


def test_commands_are_listed_by_what_they_are_for(texts):
    assert " ".join(texts) == (
        "build search info verify compact export bench encode dedup dedup-videos serve demo train eval"
    )


def test_paragraphs_of_help_fill_their_lines(texts):
    """A line ends where the next word has no room, not where the source does."""
    for name, text in texts.items():
        about = text.partition("Usage:")[2].partition("Examples:")[0].split("\n\n")[1:]
        for paragraph in about:
            lines = [line.strip() for line in paragraph.strip().splitlines()]
            for line, following in pairwise(lines):
                assert len(line) + len(following.split()[0]) > 76, f"{name}: {line!r}"


def test_help_of_build_names_the_formats(texts):
    about = " ".join(texts["build"].partition("Examples:")[0].split())
    for words in (".npy", ".npz", "uint8 (n, bits / 8)", "uint64 or int64 hashes (n,)", "bool (n, bits)"):
        assert words in about
    for words in (".hex", ".txt", ".csv", ".tsv", ".parquet", ".fps", ".bin", ".raw"):
        assert words in about


def test_usage_of_folders(texts):
    for name in ("verify", "dedup-videos"):
        usage = texts[name].partition("Usage:")[2].partition("\n")[0]
        assert usage.count("...") == 1, usage
