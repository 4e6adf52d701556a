import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

import fasthash as fh

typer_testing = pytest.importorskip("typer.testing", reason="needs the extra cli")


@pytest.fixture
def run():
    from fasthash.cli import app

    return lambda *arguments: typer_testing.CliRunner().invoke(app, [*map(str, arguments)])


@pytest.fixture
def saved(tmp_path):
    index = fh.HierIndex((8, 16, 40), memory="compact")
    index.add(np.arange(80, dtype=np.uint8).reshape(10, 8))
    index.save(tmp_path / "index.fh")
    return tmp_path / "index.fh"


def test_info(run, saved):
    result = run("info", saved)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1].split() == [
        "file",
        "bytes",
        "per",
        "code",
        f"{saved.stat().st_size / 10:.2f}",
    ]
    lines = dict(line.split(maxsplit=1) for line in result.stdout.splitlines() if not line.startswith("file "))
    assert lines == {
        "kind": "hier",
        "codes": "10",
        "bits": "64",
        "levels": "8 + 16 + 40",
        "metric": "hamming",
        "memory": "compact",
        "ids": "stored",
        "clusters": "0",
        "id": "map               no",
        "format": "1.0",
    }


def test_info_as_json(run, saved):
    facts = json.loads(run("info", saved, "--json").stdout)
    assert facts["memory"] == "compact"
    assert facts["levels"] == [8, 16, 40]
    assert facts["file_bytes"] == saved.stat().st_size
    assert facts["file_bytes_per_code"] == saved.stat().st_size / 10


def test_large_numbers_have_separators(run, tmp_path):
    fh.FlatIndex.from_arrays(np.arange(80_000, dtype=np.uint32).view(np.uint8).reshape(-1, 8)).save(tmp_path / "a.fh")
    lines = [line.split() for line in run("info", tmp_path / "a.fh").stdout.splitlines()]
    assert ["codes", "40,000"] in lines
    assert ["file", "bytes", f"{(tmp_path / 'a.fh').stat().st_size:,}"] in lines
    assert "320,000" in run("verify", tmp_path / "a.fh").stdout


def test_info_on_an_empty_index(run, tmp_path):
    fh.FlatIndex(16).save(tmp_path / "empty.fh")
    result = run("info", tmp_path / "empty.fh")
    assert result.exit_code == 0
    assert "counted" in result.stdout
    assert ["memory", "-"] in [line.split() for line in result.stdout.splitlines()]  # flat indices have none
    assert result.stdout.splitlines()[-1].split() == ["file", "bytes", "per", "code", "-"]


@pytest.mark.parametrize("command", ["info FILE", "demo --images FILE --output OUT"])
def test_mistakes_end_with_one_line_and_exit_code_1(run, tmp_path, command):
    path = tmp_path / "file"
    path.write_bytes(b"something else entirely")
    result = run(*command.replace("FILE", str(path)).replace("OUT", str(tmp_path / "out")).split())
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("fasthash: ")
    assert str(path) in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_help_names_the_commands(run):
    for arguments in ([], ["--help"]):
        text = run(*arguments).output
        assert "demo" in text
        assert "info" in text
    assert "fasthash demo --images photos" in run("demo", "--help").output


@pytest.mark.parametrize(
    ("message", "given", "expected"),
    [
        ("keep_mode must be 'radius', got 'x'", {"keep_mode"}, "--keep-mode must be 'radius', got 'x'"),
        ("k must be at least 1, got 0", {"k"}, "-k must be at least 1, got 0"),
        ("column must name the codes, got None", {}, "--column must name the codes"),  # what the user must type
        ("path='a b' holds nothing", {"keys": "a b", "k": "a"}, "--keys='a b' holds nothing"),
        ("keys='a' holds nothing", {"levels": "a", "keys": "a"}, "--keys='a' holds nothing"),
        ("keys='c' holds nothing", {"levels": "a", "keys": ["b", "c"]}, "--keys='c' holds nothing"),
        ("path='a' holds nothing", {"keys": "b"}, "path='a' holds nothing"),
        ("keys must be 5, one for each code, got 3", {}, "keys must be 5, one for each code, got 3"),  # of the file
        ("keys must be given", {}, "--keys must be given"),
        ("level_bits must be (8, 56), got (64,)", {"levels"}, "--levels must be 8,56, got 64"),
        ("n must be at most 1024, got 5000", {"threads"}, "--threads must be at most 1024, got 5000"),
        ("turned must be False where x, got True", {"turned": True}, "--turned must be left out where x"),
        ("turned must be True, got False", {"turned": False}, "--turned must be given"),
        ("a, as in the state 'b'; c a state of its own", {}, "a, as in the index 'b'; c an index of its own"),
        ("plan must be 'auto'", {}, "plan must be 'auto'"),  # of which there is no option
        ("format='csv' or 'tsv' reads it", {}, "--format csv or tsv reads it"),
        ("give format='decimal', n_bits=64, or plan='scan'", {}, "give --format decimal --bits 64, or plan='scan'"),
        ("name one with column=", {}, "name one with --column"),
        ("give column='a b'", {}, "give --column 'a b'"),
        (
            "a: file has 3 bytes, fewer than a header",
            {},
            "a is no index: it has 3 bytes, fewer than a header; fasthash build makes one of codes",
        ),
    ],
)
def test_messages_name_options_as_they_are_typed(message, given, expected):
    from fasthash.cli._as_typed import as_typed

    names = ("keep_mode", "keys", "levels", "bits", "format", "column", "threads", "turned", "index")
    options = {name: f"--{name.replace('_', '-')}" for name in names} | {"k": "-k"}
    assert as_typed(message, options, given if isinstance(given, dict) else dict.fromkeys(given)) == expected


def test_a_missing_extra_is_one_line():
    code = "import sys; sys.modules['typer'] = None; from fasthash.__main__ import main; main()"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    assert re.fullmatch(r"fasthash: .*pip install 'fasthash-search\[cli\]'\n", result.stderr)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("info index.fh > /dev/full", 1, "cannot write to standard output: No space left on device"),
        ("search index.fh codes.npy > /dev/full", 1, "cannot write to standard output: No space left on device"),
        ("verify index.fh store.fhs > /dev/full", 1, "cannot write to standard output: No space left on device"),
        ("verify store.fhs > /dev/full", 1, "cannot write to standard output: No space left on device"),
        ("--help > /dev/full", 1, "cannot write to standard output: No space left on device"),
        ("search index.fh codes.npy > out", 0, None),
        ("search index.fh codes.npy 2>&- > out", 0, ""),
        ("search index.fh codes.npy >&-", 0, None),
        ("info nothing.fh 2> /dev/full", 1, ""),
        ("info nothing.fh 2>&-", 1, ""),
        ("build - -o x.fh <&-", 1, "standard input is closed"),
        ("build codes.npy -o x.fh --ids - <&-", 1, "standard input is closed"),
        ("build codes.npy -o x.fh <&- >&- 2>&-", 0, ""),
    ],
)
def test_closed_and_full_streams(saved, line, code, words, unbuffered):
    np.save(saved.parent / "codes.npy", np.arange(80, dtype=np.uint8).reshape(10, 8))
    fh.Store.from_index(fh.load(saved), saved.parent / "store.fhs").close()
    result = subprocess.run(
        f"{sys.executable} -m fasthash {line}",
        shell=True,
        cwd=saved.parent,
        env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == code, result.stderr
    if words is not None:
        assert result.stderr == (words and f"fasthash: {words}\n")
    if "> out" in line:
        assert len((saved.parent / "out").read_text().splitlines()) == 101
    if line.endswith("<&- >&- 2>&-"):
        assert len(fh.load(saved.parent / "x.fh")) == 10


def test_the_version_and_a_start_without_torch():
    code = """
import sys
from fasthash.__main__ import main
sys.argv[1:] = [{!r}]
try:
    main()
finally:
    print(sorted({{"torch", "matplotlib", "faiss"}} & set(sys.modules)))
"""
    for argument, words in (("--version", f"fasthash {fh.__version__}"), ("--help", "Usage: fasthash [OPTIONS]")):
        command = [sys.executable, "-c", code.format(argument)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert result.returncode == 0, result.stderr
        assert words in result.stdout
        assert result.stdout.splitlines()[-1] == "[]"


def test_completion_in_bash(tmp_path):
    """The lines that `fasthash --show-completion bash` prints, asked as bash asks them."""
    command = tmp_path / "fasthash"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m fasthash "$@"\n')
    command.chmod(0o755)
    lines = subprocess.run(
        [command], env=os.environ | {"_FASTHASH_COMPLETE": "source_bash"}, capture_output=True, text=True, timeout=60
    ).stdout
    for words, expected in (("fasthash ver", ["verify"]), ("fasthash search --keep-m", ["--keep-mode"])):
        asked = f'COMP_WORDS=({words}); COMP_CWORD={words.count(" ")}; _fasthash_completion "{command}"'
        script = f'{lines}\n{asked}\necho "${{COMPREPLY[@]}}"'
        result = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60)
        assert result.stdout.split() == expected, result.stderr


def test_verify(run, saved):
    result = run("verify", saved)
    assert result.exit_code == 0
    rows = [line.split() for line in result.stdout.splitlines()]
    assert [(row[0], row[-1]) for row in rows[1:]] == [
        (name, "ok") for name in ("levels", "codes", "runs", "ids", "content")
    ]
    assert int(rows[2][1]) == 192
    assert int(rows[2][2]) == 80


def test_verify_names_what_is_damaged(run, saved):
    data = bytearray(saved.read_bytes())
    data[200] ^= 1
    saved.write_bytes(data)
    result = run("verify", saved)
    assert result.exit_code == 1
    assert [line.split()[0] for line in result.stdout.splitlines() if line.endswith("DAMAGED")] == ["codes"]
    assert result.stdout.splitlines()[-1].split(maxsplit=1)[1] == "checksum of the section 'codes' does not match"
    report = json.loads(run("verify", saved, "--json").stdout)
    assert [part["name"] for part in report["sections"] if not part["intact"]] == ["codes"]
    assert "codes" in report["fault"]


def test_verify_of_what_is_no_index(run, tmp_path):
    (tmp_path / "foreign").write_bytes(b"x" * 200)
    result = run("verify", tmp_path / "foreign")
    assert result.exit_code == 1
    assert "does not begin with 'FASTHASH'" in result.stderr


@pytest.mark.parametrize("option", [[], ["--json"]])
def test_verify_of_a_file_that_is_missing(run, tmp_path, option):
    result = run("verify", tmp_path / "none.fh", *option)
    assert result.exit_code == 1
    assert f"{tmp_path / 'none.fh'}: cannot open: No such file or directory" in result.stderr + result.stdout
    assert "Errno" not in result.stderr + result.stdout


def test_verify_of_several_names_each_that_is_damaged(run, saved, tmp_path):
    (tmp_path / "foreign").write_bytes(b"x" * 200)
    damaged = tmp_path / "damaged.fh"
    data = bytearray(saved.read_bytes())
    data[200] ^= 1
    damaged.write_bytes(data)
    files = (saved, tmp_path / "foreign", damaged, tmp_path / "missing")
    result = run("verify", *files)
    assert result.exit_code == 1
    assert [line for line in result.stdout.splitlines() if line.endswith(".fh")] == [str(saved), str(damaged)]
    assert result.stdout.count("DAMAGED") == 1
    assert [line.split(":")[0] for line in result.stderr.splitlines()] == ["fasthash", "fasthash"]
    assert str(files[1]) in result.stderr.splitlines()[0]
    reports = [json.loads(line) for line in run("verify", "--json", *files).stdout.splitlines()]
    assert [report["file"] for report in reports] == [str(file) for file in files]
    assert [bool(report["fault"]) for report in reports] == [False, True, True, True]
