"""Names of files as people see them: nothing in a name commands a terminal, a spreadsheet or a page."""

import csv
import json
import os
import re
import subprocess
import sys
import unicodedata
import warnings

import numpy as np
import pytest

import fasthash as fh
from fasthash._shown import command, for_csv, for_html, for_terminal

HOSTILE = [
    "\x1b]0;title\x07",
    "\x1b[2J",
    "two\nlines",
    "back\rward",
    "delete\x7f",
    "c1 \x9b31m",
    "turned \u202egnp",
    "isolated \u2066x\u2069",
    "lines \u2028 and \u2029",
    "nothing \u200b\ufeff",
    "byte \udcff",
    "=cmd|' C'!A0",
    "+1+1",
    "-1+1",
    "@SUM(1)",
    " =1",
    "＝1",
    "<script>alert(1)<∕script>",
    "$\\frac{",
]


def check_shown(text):
    """Only what text of several lines needs."""
    hidden = [hex(ord(c)) for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]
    assert hidden == []


@pytest.mark.parametrize("name", HOSTILE)
def test_each_medium(name):
    for shown in (for_terminal(name), for_csv(name), for_html(name)):
        assert "\n" not in shown
        check_shown(shown)
    cell = for_csv(name)
    assert unicodedata.normalize("NFKC", cell.lstrip())[0] not in "=+-@"


def test_what_is_shown():
    assert for_terminal("a\n\x1b\x00\u202e\u2028\udcff\x9b.png") == r"a\n\x1b\x00\u202e\u2028\udcff\x9b.png"
    for plain in ("photo 1.jpg", "ä 图 é́ \u3000 😀.png", r"C:\photos\a.png", "a=b+c-d@e.png", "", "a<b>&'\"c"):
        assert for_terminal(plain) == for_csv(plain) == for_html(plain) == plain
    assert for_csv("=a.png") == os.path.join(".", "=a.png")
    assert for_csv("\t=a.png") == r"\t=a.png"
    assert for_html(7) == 7


# The commands


@pytest.fixture
def run():
    testing = pytest.importorskip("typer.testing", reason="needs the extra 'cli'")
    from fasthash.cli import app

    def run(*arguments):
        result = testing.CliRunner().invoke(app, [*map(str, arguments)])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        check_shown(result.stdout)
        check_shown(re.sub(r"\r(hash|encode):", "", result.stderr))  # a progress bar
        return result

    return run


FEW = ["\x1b]0;title\x07 two\nlines back\r \x7f \x9b31m", "\u202e\u2028\u200b <b> $\\frac{", "=1 \udcff"]


def hostile_folders(tmp_path, suffix="", names=FEW):
    """Paths of hostile names that this file system takes."""
    for name in names:
        path = tmp_path / f"{name}{suffix}"
        try:
            path.touch()
            path.unlink()
        except (OSError, ValueError):  # a file system that takes only UTF-8
            continue
        yield path


def test_commands_of_an_index(run, tmp_path):
    codes = tmp_path / "codes.npy"
    np.save(codes, np.arange(16, dtype=np.uint8).reshape(4, 4))
    paths = list(hostile_folders(tmp_path, ".fh"))
    for path in paths:
        for words in (["info", path], ["verify", path], ["search", path, codes], ["build", path]):
            result = run(*words)  # of a file that is not there
            assert result.exit_code == 1
            assert len(result.stderr.splitlines()) == 1
        result = run("build", codes, "-o", path)
        assert result.exit_code == 0
        assert for_terminal(path) in result.stdout
        assert run("build", codes, "-o", path).exit_code == 1  # which names the file that is there
        assert isinstance(fh.load(path), fh.HierIndex)  # under its true name
        assert json.loads(run("verify", path, "--json").stdout)["file"] == str(path)
    result = run("verify", *paths)
    assert result.exit_code == 0
    assert all(for_terminal(path) in result.stdout for path in paths)


def test_wrong_usage(run):
    for name in FEW:
        for words in (["info", "a", name], [name], ["info", f"--a{name}"], ["dedup", f"--radius={name}"]):
            assert run(*words).exit_code == 2


def test_a_stream_of_another_encoding(tmp_path):
    pytest.importorskip("typer", reason="needs the extra 'cli'")
    fh.FlatIndex(8).save(tmp_path / "图.fh")
    command = [sys.executable, "-m", "fasthash", "verify", "图.fh", "图.fh"]
    environment = os.environ | {"PYTHONIOENCODING": "latin-1"}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(b"\\u56fe.fh")


# Photos


@pytest.fixture
def photos(tmp_path):
    """A photo twice under each hostile name, and once a file that is no photo."""
    image = pytest.importorskip("PIL.Image", reason="needs the extra 'dedup'")
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    folder = tmp_path / "photos\x1b\u202e"
    folder.mkdir()
    for path in hostile_folders(folder, names=HOSTILE):
        for suffix in (".png", " again.png"):
            image.fromarray(pixels).save(f"{path}{suffix}", format="png")
        (folder / f"{path.name} broken.png").write_bytes(b"no photo")
    return folder


def test_near_duplicates(run, photos, tmp_path):
    for missing in ("imagehash", "jinja2"):
        pytest.importorskip(missing, reason="needs the extra 'dedup'")
    output = tmp_path / "report\x1b"
    result = run("dedup", photos, "--output", output, "--index", tmp_path / "state")
    assert result.exit_code == 0
    names = sorted(path.name for path in photos.iterdir())
    broken = [name for name in names if "broken" in name]
    assert len(result.stderr.splitlines()) >= len(broken)
    check_shown((output / "index.html").read_text(encoding="utf-8"))

    with open(output / "duplicates.csv", newline="", encoding="utf-8") as file:
        text = file.read()
    check_shown(text.replace("\r\n", "\n"))
    cells = [row["path"] for row in csv.DictReader(text.splitlines())]
    assert len(cells) == 2 * len(broken)
    assert not [cell for cell in cells if unicodedata.normalize("NFKC", cell.lstrip())[0] in "=+-@"]

    report = json.loads((output / "duplicates.json").read_text())  # which programs read
    assert {photo["path"] for group in report["groups"] for photo in group} == set(names) - set(broken)
    assert [entry["path"] for entry in report["broken"]] == broken
    kept = json.loads((tmp_path / "state" / "card.json").read_text())
    assert {path for path, *_ in kept["photos"]} == set(names) - set(broken)


def test_encoding(run, photos, tmp_path):
    for missing in ("torch", "timm"):
        pytest.importorskip(missing, reason="needs the extra 'train'")
    from photos import small_encoder

    small_encoder().save(tmp_path / "encoder\x1b")
    output = tmp_path / "codes\x1b.npz"
    result = run("encode", tmp_path / "encoder\x1b", photos, output)
    assert result.exit_code == 0
    skipped = [line for line in result.stderr.splitlines() if line.startswith("skipped ")]
    names = {path.name for path in photos.iterdir()}
    assert len(skipped) == sum("broken" in name for name in names)
    with np.load(output) as found:
        assert set(found["paths"].tolist()) == {name for name in names if "broken" not in name}
    assert run("encode", tmp_path / "encoder\x1b", photos, output).exit_code == 1
    assert run("encode", tmp_path / "no encoder\x1b", photos, output, "--force").exit_code == 1


def test_class_folders(tmp_path):
    """Names of classes on a contact sheet, and of files in a warning."""
    for missing in ("torch", "timm", "matplotlib"):
        pytest.importorskip(missing, reason="needs the extra 'demo'")
    from fasthash.data import load_folder
    from fasthash.plots import choose_queries, draw_neighbours
    from photos import picture, write

    for path in hostile_folders(tmp_path):
        for seed in range(2):
            write(path / f"{seed}.png", picture(seed))
        (path / "broken\x1b\u202e.png").write_bytes(b"no photo")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        split = load_folder(tmp_path)
    (message,) = (str(warning.message) for warning in caught if "skipped" in str(warning.message))
    check_shown(message)
    assert "\n" not in message
    index = fh.FlatIndex(8)
    index.add(np.zeros((len(split.gallery), 1), np.uint8))
    found = index.search(np.zeros((len(split.query), 1), np.uint8), 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of glyphs that a font lacks
        draw_neighbours(tmp_path / "sheet.png", split.query, split.gallery, found, choose_queries(split, found, 0))
    assert (tmp_path / "sheet.png").stat().st_size > 0


def test_a_command_is_shown_as_the_user_can_type_it(tmp_path, monkeypatch):
    programs, elsewhere = tmp_path / ".venv" / "bin", tmp_path / "elsewhere"
    for folder in (programs, elsewhere):
        folder.mkdir(parents=True)
        for name in ("pip", "python"):
            (folder / name).touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    monkeypatch.setenv("PATH", str(elsewhere))
    monkeypatch.chdir(tmp_path)
    assert command("pip") == ".venv/bin/pip"  # not the one of another environment
    assert command() == "fasthash"  # this environment has none
    monkeypatch.chdir(elsewhere)
    assert command("pip") == str(programs / "pip")
    monkeypatch.setenv("PATH", str(programs))
    assert command("pip") == "pip"
