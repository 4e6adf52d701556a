"""`fasthash build` and `fasthash search`: every format in and out, every option, every mistake."""

import csv
import io
import json
import os
import re
import shlex
import subprocess
import sys
from itertools import chain

import numpy as np
import pytest

import fasthash as fh
from fasthash.results import SearchStats
from galleries import clustered

typer_testing = pytest.importorskip("typer.testing", reason="needs the extra cli")


@pytest.fixture
def run(tmp_path, monkeypatch):
    from fasthash.cli import app

    monkeypatch.chdir(tmp_path)
    return lambda line, **options: typer_testing.CliRunner().invoke(app, shlex.split(line), **options)


@pytest.fixture
def codes(tmp_path):
    """The files that the examples of `--help` name."""
    codes = clustered(np.random.default_rng(1), 3000, 8)
    queries = codes[:4] ^ np.uint8(1)
    np.save(tmp_path / "codes.npy", codes)
    np.save(tmp_path / "queries.npy", queries)
    np.save(tmp_path / "ids.npy", np.arange(3000) * 7 - 51)
    np.save(tmp_path / "allowed.npy", np.arange(0, 3000, 3))
    rows = "".join(f"{i}.jpg,{code.tobytes().hex()}\n" for i, code in enumerate(codes))
    fingerprints = "".join(f"{code.tobytes().hex()}\t{i}\n" for i, code in enumerate(codes))
    (tmp_path / "molecules.fps").write_text(f"#FPS1\n#num_bits=64\n{fingerprints}")
    (tmp_path / "names.txt").write_text("".join(f"{i}.jpg\n" for i in range(3000)))
    (tmp_path / "photos.csv").write_text("path,phash\n" + rows)
    (tmp_path / "hashes.txt").write_text("".join(f"{code.tobytes().hex()}\n" for code in codes))
    return codes


def ok(result):
    assert result.exit_code == 0, result.output
    return result.stdout


def same(path, codes, ids=None):
    found_codes, found_ids = fh.load(path).to_arrays()
    np.testing.assert_array_equal(found_ids, np.arange(len(codes)) if ids is None else ids)
    np.testing.assert_array_equal(found_codes, codes)


@pytest.mark.parametrize("form", ["npy", "npz", "hex", "raw", "pipe"])
def test_build_from_every_format(run, codes, tmp_path, form):
    if form == "npz":
        np.savez(tmp_path / "gallery.npz", codes=codes, paths=np.array(["a"]))
        ok(run("build gallery.npz -o out.fh"))
    elif form == "raw":
        codes.tofile(tmp_path / "gallery.bin")
        ok(run("build gallery.bin --bits 64 -o out.fh"))
    elif form == "pipe":
        ok(run("build - --output out.fh --format raw --bits 64", input=codes.tobytes()))
    else:
        ok(run(f"build {'codes.npy' if form == 'npy' else 'hashes.txt'} -o out.fh"))
    same(tmp_path / "out.fh", codes)
    assert fh.peek(tmp_path / "out.fh").level_bits == (64,)


def test_build_options(run, codes, tmp_path):
    assert "3,000 codes of 64 bits in codes.fh" in ok(
        run("build codes.npy --ids ids.npy --levels 8,56 --memory compact")
    )
    same(tmp_path / "codes.fh", codes, np.arange(3000) * 7 - 51)
    index = fh.load(tmp_path / "codes.fh")
    assert (index.level_bits, index.memory) == ((8, 56), "compact")
    facts = json.loads(ok(run("build codes.npy --flat --json --threads 1 --force")))
    assert facts["kind"] == "flat"
    assert facts["codes"] == 3000
    assert facts["seconds"] > 0
    assert fh.get_num_threads() == 1
    assert isinstance(fh.load(tmp_path / "codes.fh"), fh.FlatIndex)
    np.savez(tmp_path / "two.npz", gallery=codes, query=codes[:5])
    ok(run("build two.npz --array query"))
    same(tmp_path / "two.fh", codes[:5])


def test_nothing_is_overwritten_without_force(run, codes, tmp_path):
    for name in ("codes.fh", "found.npz"):
        (tmp_path / name).write_text("precious")
    ok(run("build codes.npy -o other.fh"))
    for line in ("build codes.npy", "search other.fh queries.npy -o found.npz"):
        result = run(line)
        assert result.exit_code == 1
        assert "exists; --force overwrites it" in result.stderr
    assert (tmp_path / "codes.fh").read_text() == (tmp_path / "found.npz").read_text() == "precious"
    ok(run("build codes.npy --force"))
    ok(run("search codes.fh queries.npy -o found.npz --force"))
    assert np.load(tmp_path / "found.npz")["ids"].shape == (4, 10)


@pytest.mark.parametrize(
    "line",
    [
        "build codes.npy -o codes.npy --force",
        "build ./codes.npy -o linked.npy --force",
        "build codes.npy -o hard.npy --force",
        "build codes.npy --ids ids.npy -o ids.npy --force",
        "build codes.fh --format raw --bits 64 --force",  # the name that the output has by default
        "search flat.fh queries.npy -o flat.fh --force",
        "search flat.fh queries.npy -o queries.npy --force",
        "search flat.fh queries.npy --allow allowed.npy -o allowed.npy --force",
        "bench report/bench.json --format raw --bits 64 -o report --force",
        "bench codes.npy --queries report/bench.png -o report --force",
        "encode queries.npy photos found.npz --index found.npz --force",
        "encode photos/encoder.npz photos photos/encoder.npz --force",
        "encode photos/encoder.npz photos ./photos --ray",
        "demo --images photos --output photos",
        "train photos --root photos --data folder --backbone resnet10t",
    ],
)
def test_no_command_writes_over_what_it_reads(run, codes, tmp_path, line):
    if line.startswith(("encode", "demo", "train")):
        pytest.importorskip("timm", reason="needs the extra train")
    ok(run("build codes.npy --flat -o flat.fh"))
    (tmp_path / "linked.npy").symlink_to("codes.npy")
    os.link(tmp_path / "codes.npy", tmp_path / "hard.npy")
    (tmp_path / "photos").mkdir()
    (tmp_path / "report").mkdir()
    for name in ("codes.fh", "report/bench.json", "report/bench.png", "photos/encoder.npz"):
        (tmp_path / name).write_bytes(codes.tobytes())
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    result = run(line)
    assert result.exit_code == 1, result.output
    assert "the output must be another file or folder than" in result.stderr
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_no_command_writes_into_what_was_saved(run, codes, tmp_path):
    ok(run("build codes.npy -o codes.fhs"))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for output in ("codes.fhs/manifest", "codes.fhs/new/found.npz"):
        result = run(f"search codes.fhs queries.npy -o {output} --force")
        assert result.exit_code == 1, result.output
        assert f"must be outside {os.path.realpath(tmp_path)}/codes.fhs, a saved folder" in result.stderr
    assert "results go to stdout" in run("search codes.fhs queries.npy -o -").stderr
    photo = "search codes.fhs queries.npy --encoder encoder --html near.png --force"
    assert "must be a page, got near.png, which is named as a photo is" in run(photo).stderr
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.skipif(not os.path.exists("/dev/fd"), reason="needs /dev/fd")
def test_arrays_come_through_pipes(codes, tmp_path):
    fasthash = f"{shlex.quote(sys.executable)} -m fasthash"
    script = f"""
    set -e
    cat codes.npy | {fasthash} build - --format npy -o a.fh
    {fasthash} build <(cat codes.npy) --format npy --ids <(cat ids.npy) -o b.fh
    cat ids.npy | {fasthash} build codes.npy --ids - -o c.fh
    cat queries.npy | {fasthash} search a.fh - --format npy -k 3 --csv > a.csv
    {fasthash} search a.fh <(cat queries.npy) --format npy -k 3 --csv --allow <(cat allowed.npy) > b.csv
    cut -d, -f2 photos.csv | tail -n +2 | {fasthash} build - -o d.fh
    cat photos.csv | {fasthash} build - --format csv --column phash -o e.fh
    """
    result = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    for name in "ade":
        same(tmp_path / f"{name}.fh", codes)
    for name in "bc":
        same(tmp_path / f"{name}.fh", codes, np.arange(3000) * 7 - 51)
    index, queries = fh.load(tmp_path / "a.fh"), np.load(tmp_path / "queries.npy")
    for name, allow in (("a", None), ("b", np.load(tmp_path / "allowed.npy"))):
        rows = list(csv.DictReader(io.StringIO((tmp_path / f"{name}.csv").read_text())))
        assert [int(row["id"]) for row in rows] == index.search(queries, 3, allow=allow).ids.ravel().tolist()


@pytest.fixture
def index(run, codes):
    ok(run("build codes.npy --levels 8,16,40"))
    return fh.load("codes.fh")


def test_search_prints_a_table_for_few_queries_and_json_for_more(run, codes, index):
    queries = np.load("queries.npy")
    expected = index.search(queries, k=3)
    result = run("search codes.fh queries.npy -k 3")
    head, *rows = [line.split() for line in ok(result).splitlines()]
    assert head == ["query", "rank", "distance", "id"]
    assert [row[:2] for row in rows] == [[str(q), str(r)] for q in range(4) for r in (1, 2, 3)]
    assert [int(row[2]) for row in rows] == expected.distances.ravel().tolist()
    assert [int(row[3]) for row in rows] == expected.ids.ravel().tolist()
    assert "queries: 4, " in result.stderr

    expected = index.search(codes)
    for line in ("search codes.fh codes.npy", "search codes.fh codes.npy --json --mmap"):
        found = [json.loads(row) for row in ok(run(line)).splitlines()]
        assert [row["query"] for row in found] == list(range(3000))
        assert [row["ids"] for row in found] == expected.ids.tolist()
        assert [row["distances"] for row in found] == expected.distances.tolist()


def test_blocks_of_queries_make_one_result(run, codes, index, monkeypatch):
    monkeypatch.setattr("fasthash.cli._searching.BLOCK", 700)
    ok(run("search codes.fh codes.npy -o found.npz -k 4"))
    expected = index.search(codes, k=4)
    with np.load("found.npz") as found:
        np.testing.assert_array_equal(found["ids"], expected.ids)
        np.testing.assert_array_equal(found["distances"], expected.distances)
    ok(run("search codes.fh codes.npy -o near.npz --radius 6"))
    with np.load("near.npz") as found:
        for name, value in index.range_search(codes, 6)._asdict().items():
            np.testing.assert_array_equal(found[name], value)
    text = ok(run("search codes.fh codes.npy --csv -k 1"))
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [int(row["query"]) for row in rows] == list(range(3000))
    assert [int(row["id"]) for row in rows] == expected.ids[:, 0].tolist()


def test_search_options(run, codes, index):
    queries = np.load("queries.npy")
    allowed = np.load("allowed.npy")
    mask = np.zeros(3000, dtype=bool)
    mask[allowed] = True
    np.save("mask.npy", mask)

    def found(options):
        lines = ok(run(f"search codes.fh queries.npy --json {options}")).splitlines()
        return [json.loads(line)["ids"] for line in lines]

    assert (
        found("--allow allowed.npy") == found("--allow mask.npy") == index.search(queries, allow=allowed).ids.tolist()
    )
    narrow = index.search(queries, 5, keep=0.01, keep_mode="gallery_ratio").ids.tolist()
    assert found("-k 5 --keep 0.01 --keep-mode gallery_ratio") == narrow
    assert found("-k 5 --keep 0.01") == index.search(queries, 5, keep=0.01).ids.tolist()
    assert "plan: pruned" in run("search codes.fh queries.npy --keep 0.3").stderr
    near = index.range_search(queries, 3, allow=allowed)
    assert list(chain(*found("--radius 3 --allow mask.npy"))) == near.ids.tolist()
    assert "threads: 1;" in run("search codes.fh queries.npy --threads 1").stderr


def test_keep_without_levels_says_that_it_is_exact(run, codes):
    ok(run("build codes.npy -o one.fh"))
    ok(run("build codes.npy -o two.fh --levels 8,56"))
    for line, noted in (
        ("search one.fh queries.npy --keep 0.1", True),
        ("search one.fh queries.npy", False),
        ("search two.fh queries.npy --keep 0.1", False),
    ):
        result = run(line)
        ok(result)
        assert ("--keep prunes nothing in an index of one level: this search is exact" in result.stderr) == noted


def test_places_that_stay_empty_are_left_out(run, tmp_path, codes):
    np.save(tmp_path / "two.npy", codes[:2])
    ok(run("build two.npy"))
    line = json.loads(ok(run("search two.fh - -k 5 --json", input=codes[0].tobytes().hex())))
    assert line == {"query": 0, "ids": [0, 1], "distances": [0, int(np.unpackbits(codes[0] ^ codes[1]).sum())]}
    result = run("search two.fh - --bits 64", input="# nothing\n")
    assert ok(result).splitlines() == ["query  rank  distance  id"]
    assert result.stderr == "no queries\n"
    ok(run("search two.fh - --bits 64 -o none.npz", input=""))
    assert np.load("none.npz")["ids"].shape == (0, 2)
    ok(run("search two.fh codes.npy -k 2000000000 -o two.npz"))  # would take gigabytes
    assert np.load("two.npz")["ids"].shape == (len(codes), 2)
    np.save("none.npy", codes[:0])
    ok(run("build none.npy"))
    assert ok(run("search none.fh two.npy -k 7")).splitlines() == ["query  rank  distance  id"]
    assert "-k must be at least 1, got 0" in run("search two.fh two.npy -k 0").output


def test_codes_from_a_pipe_need_an_output(run, tmp_path, codes):
    os.mkfifo("pipe")
    for path in ("pipe", "/dev/stdin", "/dev/fd/0"):
        result = run(f"build {path} --format npy")
        assert result.exit_code == 2
        assert "needs --output" in re.sub(r"[\s│]+", " ", result.output)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("build missing.npy", "missing.npy does not exist"),
        ("search flat.fh 4d5c", "4d5c does not exist"),
        ("bench missing.npy", "missing.npy does not exist"),
        ("search flat.fh photo.jpg", "photo.jpg is a photo, which needs --encoder DIR"),
        ("search flat.fh photo.jpg", "fasthash encode package PHOTOS codes.npz --save DIR makes both"),
        ("build photo.jpg", "photo.jpg is a photo; fasthash encode makes codes of photos"),
        ("build photos", "photos is a folder; fasthash encode makes codes of photos"),
        ("build .", ". is a folder; fasthash encode makes codes of photos"),
        ("search flat.fh photos", "photos is a folder; fasthash encode makes codes of photos"),
        ("search photos queries.npy", "photos is a folder, not an index file"),
        ("search shards queries.npy", "shards is an index in shards, which needs --ray"),
        ("export shards -o out.fps", "shards is an index in shards, which export does not read"),
        ("search missing.fh queries.npy", "missing.fh: cannot open: No such file or directory"),
        ("build objects.npy", "objects.npy holds Python objects, not numbers"),
        ("build objects.npz", "objects.npz holds Python objects, not numbers"),
        ("build codes.npy --levels 9,55", "--levels must be a multiple of 8, got 9"),
        ("build codes.npy --levels 8,16", "--levels must sum to the 64 bits of the codes, got 8,16"),
        ("build codes.npy --levels 8+56", "--levels must be whole numbers with commas between"),
        ("build codes.npy --bits 32", "codes.npy holds codes of 64 bits, expected 32"),
        ("build codes.npy --threads 0", "--threads must be at least 1, got 0"),
        ("build codes.npy --ids allowed.npy", "--ids must have shape (3000,), one for each code, got (1000,)"),
        ("build codes.npy --ids hashes.txt", "hashes.txt is no .npy file"),
        ("build codes.npy -o nowhere/codes.fh", "nowhere is no folder"),
        ("build nowhere/missing.npy", "nowhere/missing.npy does not exist"),
        *(
            (
                f"build codes.npy -o out{end}",
                f"--output must be named as an index, such as out.fh, got out{end}: ",
            )
            for end in (".npz", ".csv", ".bin")
        ),
        ("search flat.fh queries.npy -o found.csv", "--output must end in .npz, got found.csv; --csv and --json print"),
        ("build codes.npy --ray --shards 0", "--shards must be at least 1, got 0"),
        ("search shards queries.npy --ray --replicas 0", "--replicas must be at least 1, got 0"),
        ("build codes.npy --format hex", "codes.npy must be UTF-8 text, but is binary; --format npy reads it"),
        (
            "build flat.fh -o out.fh",
            "flat.fh is an index, not a file of codes; fasthash export writes its codes to one",
        ),
        ("build photos.xyz", "the ending of photos.xyz does not tell what it holds; --format names it: npy, npz, hex"),
        (
            "search codes.npy queries.npy",
            "codes.npy is no index: it does not begin with 'FASTHASH'; fasthash build makes",
        ),
        ("info photos.xyz", "photos.xyz is no index: it has 1 bytes, fewer than a header; fasthash build makes"),
        ("search flat.fh queries.npy --keep 0.3", "--keep must be left out for a flat index, got 0.3"),
        ("search flat.fh queries.npy -k 0", "-k must be at least 1, got 0"),
        ("search flat.fh queries.npy --radius -1", "--radius must be at least 0, got -1"),
        ("search flat.fh queries.npy --allow codes.npy", "--allow must have one axis, got shape (3000, 8)"),
        ("search flat.fh queries.npy --allow short.npy", "--allow must have an entry for every id up to 2999"),
        ("search flat.fh short.npy", "short.npy must be a uint8 array of packed bits, got dtype bool"),
        ("search flat.fh narrow.npy", "queries must have shape (n, 8) for 64 bits, got (3, 4)"),
        ("search flat.fh narrow.npy --radius 3", "queries must have shape (n, 8) for 64 bits, got (3, 4)"),
        ("build photos.csv", "photos.csv has 2 columns, 'path', 'phash'; name one with --column\n"),
        ("build photos.csv --column path", "photos.csv, line 2, column 'path': expected"),
        ("build photos.csv --column 7", "--column must be a number from 0 to 1 for photos.csv, got 7"),
        ("build hashes.txt --column a", "--column must be left out for the format 'hex'"),
        ("build decimal.txt", "give --format decimal --bits 64 (or as many as a code has), or --format hex if they"),
        ("build decimal.txt --format decimal", "give the bits of a code with --bits\n"),
        (
            "build decimal.csv --column n",
            "give --notation decimal --bits 64 (or as many as a code has), or --notation hex",
        ),
        ("build negative.txt", "decimal numbers are read with --format decimal\n"),
        ("build bits.txt", "give --format bits, or --format hex if they are hexadecimal after all"),
        ("build several.txt", "a column of several is read with --format csv or tsv"),
        (
            "build codes.bin",
            "codes.bin holds raw bytes, which do not tell how wide codes are: give the bits of a code with",
        ),
        ("build text.bin --bits 64", "begins with text of hexadecimal digits; --format hex reads it"),
        ("bench codes.npy --rounds 0", "--rounds must be at least 1, got 0"),
        ("bench codes.npy --queries narrow.npy", "--queries must have shape (n, 8) for 64 bits, got (3, 4)"),
        ("build - --ids - -o codes.fh", "only one argument can be -, since standard input is read once"),
        ("search flat.fh - --allow -", "only one argument can be -, since standard input is read once"),
        ("bench - --queries -", "only one argument can be -, since standard input is read once"),
    ],
)
def test_a_mistake_is_one_line(run, codes, tmp_path, line, message):
    np.save("short.npy", np.ones(5, dtype=bool))
    np.save("narrow.npy", codes[:3, :4])
    make_mistakes(codes, tmp_path)
    ok(run("build codes.npy --flat -o flat.fh"))
    result = run(line)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("fasthash: ")
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "codes.fh").exists()


def make_mistakes(codes, folder):
    """Files that no command takes as they are."""
    for name in ("photos", "shards"):
        (folder / name).mkdir()
    (folder / "shards/manifest").write_text('{"class": "ShardedIndex"')
    (folder / "photo.jpg").write_bytes(b"\xff\xd8\xff")
    (folder / "photos.xyz").write_text("?")
    np.save(folder / "objects.npy", np.array([{}]))
    np.savez(folder / "objects.npz", codes=np.array([{}]))
    numbers = codes[:50].view(">u8").ravel().tolist()
    (folder / "decimal.txt").write_text("".join(f"{number}\n" for number in numbers))
    (folder / "decimal.csv").write_text("i,n\n" + "".join(f"{i},{number}\n" for i, number in enumerate(numbers)))
    (folder / "bits.txt").write_text("".join(f"{number:064b}\n" for number in numbers))
    (folder / "negative.txt").write_text("00ff\n-123\n")
    (folder / "several.txt").write_text("00ff photo.jpg\n")
    (folder / "codes.bin").write_bytes(codes.tobytes())
    (folder / "text.bin").write_text("".join(f"{code.tobytes().hex()}\n" for code in codes[:50]))


@pytest.mark.parametrize("form", ["npy", "npz"])
@pytest.mark.parametrize(
    ("make", "n_bytes"),
    [
        (lambda codes: np.unpackbits(codes, axis=1), 8),
        (lambda codes: np.unpackbits(codes, axis=1).astype(np.int64), 8),
        (lambda codes: np.unpackbits(codes, axis=1) - np.float32(0.5), 8),
        (lambda codes: (codes ^ np.uint8(128)).view(np.int8), 8),
        (lambda codes: np.unpackbits(codes, axis=1).astype(np.int8) * np.int8(2) - np.int8(1), 8),
        (lambda codes: codes.astype(np.int32), 8),
        (lambda codes: np.array([code.tobytes().hex() for code in codes]), 8),
        (lambda codes: np.unpackbits(codes[0]).astype(np.uint64), 8),
    ],
)
def test_python_that_an_error_advises_makes_the_codes(run, codes, tmp_path, make, n_bytes, form):
    array = make(codes[:100])
    np.save("their's.npy", array) if form == "npy" else np.savez("their's.npz", codes=array)
    result = run(f'build "their\'s.{form}" -o out.fh')
    assert result.exit_code == 1
    advice = re.search(r"; (\S*(?:np\.load|fasthash).*?) (?:packs|makes|reads) ", result.stderr)[1]
    np.testing.assert_array_equal(
        eval(advice, {"np": np, "fasthash": fh}), codes[: 100 if array.ndim > 1 or array.dtype.kind == "U" else 1]
    )


def test_codes_that_look_like_bits_need_their_width(run, codes, tmp_path):
    np.save("bits.npy", np.unpackbits(codes, axis=1))
    assert "codes that are so all the same need --bits 512\n" in run("build bits.npy").stderr
    ok(run("build bits.npy --bits 512"))
    assert fh.peek("bits.fh").n_bits == 512


@pytest.mark.parametrize(
    "line",
    [
        "build",
        "build -",
        "build codes.npy --flat --levels 64",
        "build codes.npy --flat --memory fast",
        "build codes.npy --format xml",
        "build codes.npy --notation octal",
        "search codes.fh queries.npy --json --csv",
        "search codes.fh queries.npy --csv -o found.npz",
        "search codes.fh queries.npy --radius 3 -k 3",
        "search codes.fh queries.npy --radius 3 --keep 0.3",
        "search codes.fh queries.npy --keep-mode best",
        "verify",
    ],
)
def test_wrong_usage_has_its_own_exit_code(run, line):
    result = run(line)
    assert result.exit_code == 2
    assert result.stdout == ""


def test_a_reader_that_has_seen_enough(codes, tmp_path):
    """`| head` closes the pipe early: no traceback, no message."""
    fasthash = f"{shlex.quote(sys.executable)} -m fasthash"
    np.save(tmp_path / "many.npy", np.tile(codes, (20, 1)))
    line = f"{fasthash} build codes.npy && {fasthash} search codes.fh many.npy | head -n 1"
    result = subprocess.run(line, shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert result.stdout.count("\n") == 2
    assert result.stderr == ""


def test_progress_shows_in_a_terminal_alone(codes, tmp_path):
    pty = pytest.importorskip("pty", reason="needs terminals as POSIX has them")
    screen, terminal = pty.openpty()
    command = [sys.executable, "-m", "fasthash", "build", "hashes.txt"]
    done = subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=terminal, text=True, timeout=60)
    os.close(terminal)
    shown = os.read(screen, 10_000).decode()
    os.close(screen)
    assert done.returncode == 0, shown
    assert "reading hashes.txt" in shown
    assert "100%" in shown
    assert "indexing 3,000 codes" in shown
    again = subprocess.run([*command, "--force"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert again.stderr == ""


def examples(command):
    """The lines of the help text that begin with what a shell can run."""
    from fasthash.cli import app

    callback = next(entry.callback for entry in app.registered_commands if entry.callback.__name__ == command)
    lines = [line.strip() for line in callback.__doc__.splitlines() if line.startswith("        ")]
    assert all("fasthash " in line for line in lines)
    return lines


def test_the_examples_of_help_run(codes, tmp_path):
    lines = [
        line
        for command in ("build", "search", "info", "verify", "compact", "export", "bench")
        for line in examples(command)
    ]
    lines = [line for line in lines if "--ray" not in line]  # test_distributed_index.py runs those on its cluster
    lines = [line for line in lines if "--encoder" not in line]  # test_cli_stores.py makes one
    lines = [f"{line} --rounds 1" if " bench " in line and "--rounds" not in line else line for line in lines]
    assert len(lines) >= 14
    script = "\n".join(["set -e", f'fasthash() {{ {shlex.quote(sys.executable)} -m fasthash "$@"; }}', *lines])
    result = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=250)
    assert result.returncode == 0, result.stderr
    assert {"codes.fh", "levels.fh", "hashes.fh", "piped.fh", "found.npz", "report"} <= {
        path.name for path in tmp_path.iterdir()
    }


@pytest.mark.parametrize(("compared", "shown"), [(300, "300"), (427, "400"), (301, "300.5")])
def test_no_more_codes_are_compared_than_there_are(compared, shown):
    from fasthash.cli._results import summary

    counts = np.array([300 if compared < 400 else compared, compared])
    work = SearchStats(np.array(["prefix+scan"] * 2), counts, counts, np.full(2, 64, np.int32))
    text = summary([work], seconds=1.0, n_threads=1, n_codes=400)
    assert text.endswith(f"; plan: prefix+scan, {shown} codes compared a query")
