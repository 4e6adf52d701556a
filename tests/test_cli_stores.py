"""`fasthash build`, `search`, `info`, `verify` and `compact` with stores."""

import contextlib
import csv
import io
import json
import os
import shlex
import socket
import subprocess
import sys
import time
import urllib.request

import numpy as np
import pytest

import fasthash as fh
from documents import python_blocks
from fasthash.store.commit import Commit
from galleries import clustered

typer_testing = pytest.importorskip("typer.testing", reason="needs the extra cli")


@pytest.fixture
def run(tmp_path, monkeypatch):
    from fasthash.cli import app

    monkeypatch.chdir(tmp_path)
    return lambda line, **options: typer_testing.CliRunner().invoke(app, shlex.split(line), **options)


@pytest.fixture
def codes(tmp_path):
    codes = clustered(np.random.default_rng(1), 500, 8)
    np.save(tmp_path / "codes.npy", codes)
    np.save(tmp_path / "more.npy", codes[:5] ^ np.uint8(1))
    np.save(tmp_path / "queries.npy", codes[:3])
    (tmp_path / "names.txt").write_text("".join(f"holiday/{i}, final.jpg\n" for i in range(500)))
    np.save(tmp_path / "more-names.npy", np.array([f"new/\x1b{i}" for i in range(5)]))
    return codes


def ok(result):
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(result, message, code=1):
    assert result.exit_code == code
    assert message in result.output
    assert "Traceback" not in result.output


def test_export_of_indices_and_stores(run, codes, tmp_path):
    from fasthash.code_files import read_codes

    ok(run("build codes.npy -o sets.fhs --metric jaccard --keys names.txt"))
    assert "500 codes of 64 bits in keys.fps" in ok(run("export sets.fhs -o keys.fps"))
    np.testing.assert_array_equal(read_codes(tmp_path / "keys.fps"), codes)
    lines = (tmp_path / "keys.fps").read_text().splitlines()
    assert lines[:2] == ["#FPS1", "#num_bits=64"]
    assert [line.partition("\t")[2] for line in lines[2:]] == (tmp_path / "names.txt").read_text().splitlines()
    np.save(tmp_path / "ids.npy", np.arange(500)[::-1] * 3 - 8)
    ok(run("build codes.npy -o named.fh --ids ids.npy"))
    ok(run("export named.fh -o named.fps"))
    written = (tmp_path / "named.fps").read_text().splitlines()[2:]
    assert written == [f"{code.tobytes().hex()}\t{3 * i - 8}" for i, code in enumerate(codes[::-1])]
    refused(run("export named.fh -o named.fps"), "named.fps exists; --force overwrites it")
    ok(run("export named.fh -o named.fps --force"))
    refused(run("export named.fh -o named.csv"), "the output must end in .fps, got named.csv", 2)
    refused(run("export keys.fps -o other.fps"), "keys.fps is no index: it does not begin with 'FASTHASH'")
    ok(run("build keys.fps -o again.fh --metric jaccard"))
    np.testing.assert_array_equal(fh.load(tmp_path / "again.fh").to_arrays()[0], codes)


def test_a_store_by_jaccard_distance(run, codes):
    ok(run("build codes.npy -o sets.fhs --metric jaccard --keys names.txt"))
    ok(run("build more.npy -o sets.fhs --add --keys more-names.npy"))  # takes the metric of the store
    refused(run("build more.npy -o sets.fhs --add --metric hamming"), "metric must be 'jaccard' as in the store")
    assert "metric               jaccard" in ok(run("info sets.fhs"))
    index = fh.FlatIndex.from_arrays(np.concatenate([codes, codes[:5] ^ np.uint8(1)]), metric="jaccard")
    expected = index.search(codes[:3], 4)
    lines = list(map(json.loads, ok(run("search sets.fhs queries.npy -k 4 --json")).splitlines()))
    assert [line["ids"] for line in lines] == expected.ids.tolist()
    assert np.array_equal(np.float32([line["distances"] for line in lines]), expected.distances)
    assert lines[0]["keys"][0] == "holiday/0, final.jpg"
    within = ok(run("search sets.fhs queries.npy --radius 0.3 --csv")).splitlines()
    assert len(within) - 1 == index.count_within(codes[:3], 0.3).sum()
    ok(run("compact sets.fhs"))
    assert "ok" in ok(run("verify sets.fhs"))
    refused(run("build codes.npy -o more.fhs --metric jaccard --levels 8,56"), "excludes", 2)


WRONG_ADDITIONS = {
    "ids twice": ("--ids twice.npy", "ids must be distinct, got 1 twice"),
    "an id of -1": ("--ids minus.npy", "ids must not hold -1"),
    "too few ids": ("--ids few.npy", "ids must have shape (5,)"),
    "a key twice": ("--keys twice.txt", "keys must be distinct, got 'a' twice"),
    "too few keys": ("--keys few.txt", "keys must be 5, one for each code, got 2"),
}


@pytest.fixture
def wrong(codes, tmp_path):
    """Files of ids and keys that no store takes for the five codes of more.npy."""
    for name, ids in (("twice", [1, 2, 3, 4, 1]), ("minus", [1, 2, 3, 4, -1]), ("few", [1, 2])):
        np.save(tmp_path / f"{name}.npy", np.array(ids))
    (tmp_path / "twice.txt").write_text("a\nb\nc\nd\na\n")
    (tmp_path / "few.txt").write_text("a\nb\n")


@pytest.mark.parametrize("case", WRONG_ADDITIONS)
def test_a_build_that_fails_makes_no_store(run, wrong, tmp_path, case):
    options, message = WRONG_ADDITIONS[case]
    refused(run(f"build more.npy -o new.fhs {options}"), message)
    assert not (tmp_path / "new.fhs").exists()
    ok(run("build more.npy -o new.fhs"))


@pytest.mark.parametrize("error", [OSError("no space left"), MemoryError("no memory left")])
def test_a_build_whose_commit_fails_makes_no_store(run, codes, tmp_path, monkeypatch, error):
    write_draft = Commit.write_draft

    def written_and_failed(commit, *arguments):
        write_draft(commit, *arguments)
        raise error

    monkeypatch.setattr(Commit, "write_draft", written_and_failed)
    refused(run("build codes.npy -o new.fhs --keys names.txt"), str(error))
    assert not (tmp_path / "new.fhs").exists()


@pytest.mark.parametrize("case", WRONG_ADDITIONS)
def test_an_addition_that_fails_leaves_the_store_as_it_was(run, wrong, tmp_path, case):
    options, message = WRONG_ADDITIONS[case]
    with fh.Store(tmp_path / "old.fhs", "w", n_bits=64):
        pass  # without entries, and with no commit
    before = sorted(os.listdir(tmp_path / "old.fhs"))
    refused(run(f"build more.npy -o old.fhs --add {options}"), message)
    assert sorted(os.listdir(tmp_path / "old.fhs")) == before
    (tmp_path / "empty.fhs").mkdir()
    refused(run(f"build more.npy -o empty.fhs --add --levels 64 {options}"), message)
    assert os.listdir(tmp_path / "empty.fhs") == []


def test_build_add_search_and_compact(run, codes):
    assert "500 codes of 64 bits in photos.fhs" in ok(run("build codes.npy -o photos.fhs --keys names.txt"))
    facts = json.loads(ok(run("build more.npy -o photos.fhs --add --keys more-names.npy --json")))
    assert (facts["codes"], facts["keys"], facts["segments"]) == (505, "str", 2)

    index = fh.HierIndex.from_arrays(np.concatenate([codes, codes[:5] ^ np.uint8(1)]))
    expected = index.search(codes[:3], 4)
    lines = [json.loads(line) for line in ok(run("search photos.fhs queries.npy -k 4 --json")).splitlines()]
    names = [*(f"holiday/{i}, final.jpg" for i in range(500)), *(f"new/\x1b{i}" for i in range(5))]
    for line, ids, distances in zip(lines, expected.ids.tolist(), expected.distances.tolist(), strict=True):
        assert (line["ids"], line["distances"]) == (ids, distances)
        assert line["keys"] == [names[id] for id in ids]

    rows = list(csv.DictReader(io.StringIO(ok(run("search photos.fhs queries.npy -k 4 --csv")))))
    assert [int(row["id"]) for row in rows] == expected.ids.ravel().tolist()
    shown = [names[id].replace("\x1b", "\\x1b") for id in expected.ids.ravel().tolist()]
    assert [row["key"] for row in rows] == shown
    table = ok(run("search photos.fhs queries.npy -k 1"))
    assert table.splitlines()[0].split() == ["query", "rank", "distance", "id", "key"]
    assert "holiday/0, final.jpg" in table
    assert "\x1b" not in table
    assert ok(run("search photos.fhs queries.npy --radius 3 -o found.npz")) == "results of 3 queries in found.npz\n"
    found = np.load("found.npz")
    near = index.range_search(codes[:3], 3)
    assert found["ids"].tolist() == near.ids.tolist()
    assert found["keys"].tolist() == [names[id] for id in near.ids.tolist()]

    assert "2 segments with 0 removed codes" in ok(run("compact photos.fhs"))
    assert "segments             1" in ok(run("info photos.fhs"))
    assert ok(run("verify photos.fhs")).count(" ok\n") == 3
    assert json.loads(ok(run("info photos.fhs --json")))["codes"] == 505


def test_a_store_without_keys(run, codes):
    ok(run("build codes.npy -o plain.fhs --levels 8,56 --memory compact"))
    assert fh.Store("plain.fhs").memory == "compact"
    assert ok(run("search plain.fhs queries.npy -k 1 --csv")).splitlines()[:2] == ["query,rank,distance,id", "0,1,0,0"]
    assert "pruned" in run("search plain.fhs queries.npy --keep 0.5").stderr
    np.save("even.npy", np.arange(0, 500, 2))
    rows = ok(run("search plain.fhs queries.npy --allow even.npy --csv")).splitlines()[1:]
    assert all(int(row.split(",")[3]) % 2 == 0 for row in rows)


def test_damage_is_found(run, codes):
    ok(run("build codes.npy -o photos.fhs --keys names.txt"))
    (keys,) = [name for name in os.listdir("photos.fhs") if name.endswith(".keys")]
    with open(f"photos.fhs/{keys}", "r+b") as file:
        file.seek(-3, os.SEEK_END)
        file.write(b"!")
    result = run("verify photos.fhs")
    assert result.exit_code == 1
    assert f"{keys}: checksum of the keys does not match" in result.stdout
    assert "checksum of the keys" in json.loads(run("verify photos.fhs --json").stdout)["fault"]
    os.remove("photos.fhs/manifest")
    refused(run("verify photos.fhs"), "holds no store")
    refused(run("search photos.fhs queries.npy"), "holds no store")
    refused(run("info photos.fhs"), "holds no store")


def test_mistakes(run, codes):
    ok(run("build codes.npy -o photos.fhs --keys names.txt"))
    refused(run("build codes.npy -o photos.fhs --keys names.txt"), "exists")
    refused(run("build codes.npy -o photos.fhs --keys names.txt --add"), "keys must be new to the store")
    refused(run("build more.npy -o photos.fhs --add"), "keys must be given")
    refused(run("build more.npy -o photos.fhs --add --keys names.txt"), "keys must be 5, one for each code, got 500")
    refused(run("build more.npy -o photos.fhs --add --keys more-names.npy --memory fast"), "memory must be 'default'")
    refused(run("build codes.npy -o a.fh --keys names.txt"), "--keys and --add need a store", 2)
    refused(run("build codes.npy -o a.fhs --flat"), "a store excludes --flat", 2)
    refused(run("build codes.npy -o photos.fhs --force"), "--add adds to it", 2)
    refused(run("build codes.npy -o mistyped.fhs --add"), "mistyped.fhs does not exist, so that --add has no store")
    assert not os.path.exists("mistyped.fhs")
    refused(run("build codes.npy -o photos.fhs --keys names.txt --add --levels 8,56"), "--levels must be 64 as in the")
    refused(run("build photos.fhs"), "photos.fhs is a store, not a file of codes")
    ok(run("build codes.npy"))
    for command in ("compact", "serve"):
        refused(run(f"{command} codes.npy"), "codes.npy holds no store; fasthash build CODES -o NAME.fhs makes one")
        refused(run(f"{command} missing.fhs"), "missing.fhs does not exist")
        os.makedirs("shards", exist_ok=True)
        with open("shards/manifest", "w") as file:
            file.write('{"class": "ShardedIndex"')
        refused(run(f"{command} shards"), "shards is an index in shards, not one store")
    refused(run("compact codes.fh"), "codes.fh is an index file, which has no segments to merge")
    refused(run("serve codes.fh"), "codes.fh is an index file, which cannot be served; fasthash build")
    with fh.Store("photos.fhs", "w"):
        refused(run("compact photos.fhs"), f"is being written by process {os.getpid()}")
        ok(run("search photos.fhs queries.npy"))
    assert len(fh.Store("photos.fhs")) == 500


def test_serve_over_http(tmp_path, run, codes):
    pytest.importorskip("uvicorn", reason="needs the extra serve")
    pytest.importorskip("fastapi", reason="needs the extra serve")
    ok(run("build codes.npy -o photos.fhs --keys names.txt"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.listen()
        taken = run(f"serve photos.fhs --port {port}")
        assert (taken.exit_code, taken.stdout) == (1, "")
        assert taken.stderr == f"fasthash: port {port} is in use; --port names another\n"
    refused(
        run(f"serve photos.fhs --host no.such.host.invalid --port {port}"),
        f"cannot listen on no.such.host.invalid, port {port}: ",
    )
    command = [sys.executable, "-m", "fasthash", "serve", str(tmp_path / "photos.fhs"), "--port", str(port)]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        for _attempt in range(600):
            with contextlib.suppress(OSError):
                answer = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=10))
                break
            assert server.poll() is None, server.stderr.read()
            time.sleep(0.1)
        assert (answer["status"], answer["codes"]) == ("ok", 500)
        request = urllib.request.Request(f"http://127.0.0.1:{port}/search/raw?k=1", codes[7].tobytes(), method="POST")
        (row,) = json.load(urllib.request.urlopen(request, timeout=10))["results"]
        assert row[0]["distance"] == 0
    finally:
        server.terminate()
        server.wait(30)
        server.stderr.close()


class Encoder:
    """Stands for a `HashEncoder`: the code of a photo is its first pixels."""

    n_bits = 64

    def encode(self, photos):
        return np.stack([np.asarray(photo).ravel()[:8] for photo in photos])


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Three photos in a store, and an encoder."""
    image = pytest.importorskip("PIL.Image", reason="needs Pillow")
    encoder = pytest.importorskip("fasthash.encoder", reason="needs the extra train")
    monkeypatch.setattr(encoder.HashEncoder, "load", staticmethod(lambda path: Encoder()))
    (tmp_path / "photos").mkdir()
    names = ["a.png", "<b>b.png", "c\x1b.png"]
    pixels = np.zeros((3, 16, 16, 3), np.uint8)
    pixels[1:, 0, 0], pixels[2, 0, 1] = 255, 255
    for name, each in zip(names, pixels, strict=True):
        image.fromarray(each).save(tmp_path / "photos" / name)
    with fh.Store(tmp_path / "photos.fhs", "w", n_bits=64) as store:
        store.add(Encoder().encode(pixels), keys=[*names[:2], "../photos/c\x1b.png"])
        store.commit()
    return names


def test_search_for_a_photo(run, photos, tmp_path):
    text = ok(run("search photos.fhs photos/a.png --encoder e -k 3 --json"))
    assert json.loads(text) == {
        "query": 0,
        "ids": [0, 1, 2],
        "distances": [0, 24, 48],
        "keys": ["a.png", "<b>b.png", "../photos/c\x1b.png"],
    }
    told = ok(run("search photos.fhs photos/a.png --encoder e -k 2 --html near.html --images photos"))
    assert told == "2 neighbours in near.html\n"
    page = (tmp_path / "near.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg;base64,") == 3  # that of the query, too
    assert "&lt;b&gt;b.png<br>d = 24" in page
    assert "<b>" not in page
    refused(run("search photos.fhs photos/a.png --encoder e --html near.html"), "near.html")  # it is there
    ok(run("search photos.fhs photos/a.png --encoder e --radius 48 --html near.html --images photos --force"))
    page = (tmp_path / "near.html").read_text(encoding="utf-8")
    assert "../photos/c\\x1b.png<br>d = 48" in page


def test_a_page_shows_nothing_from_outside_the_folder(run, photos, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    ok(run("search photos.fhs photos/a.png --encoder e -k 3 --html near.html --images elsewhere"))
    assert (tmp_path / "near.html").read_text(encoding="utf-8").count("data:image") == 1


def test_refused_searches_for_photos(run, photos, tmp_path):
    refused(run("search photos.fhs photos/a.png --html near.html"), "--html needs --encoder", code=2)
    refused(run("search photos.fhs photos/a.png --encoder e --images photos"), "--images needs --html", code=2)
    refused(run("search photos.fhs photos/a.png --encoder e --html near.html --json"), "exclude each other", code=2)
    (tmp_path / "broken.png").write_bytes(b"nothing")
    (tmp_path / "empty.png").write_bytes(b"")
    refused(run("search photos.fhs broken.png --encoder e"), "broken.png cannot be read as a photo: cannot identify")
    refused(run("search photos.fhs empty.png --encoder e"), "empty.png cannot be read as a photo: the file is empty")
    refused(run("search photos.fhs none.png --encoder e"), "none.png: No such file")
    refused(run("search photos.fhs - --encoder e"), "QUERIES must be the file of a photo with --encoder, got -")
    refused(
        run("search photos.fhs photos --encoder e"),
        "photos is a folder, and --encoder needs one photo; fasthash encode e photos codes.npz makes codes",
    )
    with fh.Store(tmp_path / "short.fhs", "w", n_bits=32) as store:
        store.commit()
    refused(run("search short.fhs photos/a.png --encoder e"), "codes of 32 bits like those of the index, got 64 bits")


PATHS = [f"holiday/{i}, final.jpg" for i in range(500)]


@pytest.mark.parametrize("name", ["paths", "keys"])
def test_keys_of_an_archive(run, codes, name):
    np.savez("codes.npz", codes=codes, **{name: np.array(PATHS)})
    told = ok(run("build codes.npz -o photos.fhs"))
    assert "500 codes of 64 bits in photos.fhs" in told
    assert told.endswith(f"; keys: '{name}' of the archive\n")
    with fh.Store("photos.fhs") as store:
        assert store.search(codes[7:8], 1).keys.tolist() == [[PATHS[7]]]
    np.savez("more.npz", codes=codes[:2] ^ np.uint8(1), **{name: np.array(["new/0.jpg", "new/1.jpg"])})
    facts = json.loads(ok(run("build more.npz -o photos.fhs --add --json")))
    assert (facts["codes"], facts["keys"], facts["keys_from"]) == (502, "str", name)
    refused(run("build more.npz -o photos.fhs --add"), "keys must be new to the store")


def test_integer_keys_of_an_archive_with_other_names(run, codes):
    np.savez("codes.npz", mine=codes, keys=np.arange(500) * 3, paths=np.array(PATHS))
    assert "keys: 'keys' of the archive" in ok(run("build codes.npz -o photos.fhs --array mine"))
    with fh.Store("photos.fhs") as store:
        assert store.search(codes[7:8], 1).keys.tolist() == [[21]]


@pytest.mark.parametrize(
    ("line", "arrays"),
    [
        ("build codes.npz -o photos.fhs", {}),
        ("build codes.npz -o photos.fhs", {"paths": np.array(PATHS), "ids": np.arange(500)}),
        ("build codes.npz -o photos.fhs --ids ids.npy", {"paths": np.array(PATHS)}),
        ("build codes.npz -o photos.fhs --array keys", {"keys": np.zeros((500, 8), np.uint8)}),
        ("build codes.npz -o photos.fhs --keys names.txt", {"paths": np.arange(500)}),
    ],
)
def test_an_archive_gives_no_keys(run, codes, line, arrays):
    np.savez("codes.npz", codes=codes, **arrays)
    np.save("ids.npy", np.arange(500))
    assert "of the archive" not in ok(run(line))
    with fh.Store("photos.fhs") as store:
        assert store.info()["keys"] == ("str" if "--keys" in line else "none")
    ok(run("build codes.npz -o codes.fh"))  # an index file has no keys


def test_a_store_without_keys_takes_none_of_an_archive(run, codes):
    ok(run("build codes.npy -o photos.fhs"))
    np.savez("more.npz", codes=codes[:2], paths=np.array(["a", "b"]))
    assert "of the archive" not in ok(run("build more.npz -o photos.fhs --add"))
    with fh.Store("photos.fhs") as store:
        assert (len(store), store.info()["keys"]) == (502, "none")


def test_wrong_keys_of_an_archive(run, codes):
    np.savez("codes.npz", codes=codes, paths=np.array(PATHS[:3]))
    refused(run("build codes.npz -o photos.fhs"), "keys must be 500, one for each code, got 3")
    np.savez("codes.npz", codes=codes, paths=np.array([*PATHS[:499], PATHS[0]]))
    refused(run("build codes.npz -o twice.fhs"), "keys must be distinct")
    np.savez("codes.npz", codes=codes, paths=np.array(PATHS, object))
    refused(run("build codes.npz -o objects.fhs"), "codes.npz holds Python objects, not numbers")


def test_files_of_keys(run, codes, tmp_path):
    np.save("two.npy", codes[:2])
    for name, content in {
        "mark.txt": b"\xef\xbb\xbfa\r\nb\r\n",
        "plain.txt": b"a\nb",
        "mac.txt": b"a\rb\r",
    }.items():
        (tmp_path / name).write_bytes(content)
        ok(run(f"build two.npy -o {name}.fhs --keys {name}"))
        with fh.Store(f"{name}.fhs") as store:
            assert store.keys([0, 1]).tolist() == ["a", "b"]
    np.save("names.npy", np.array(["a", "b"]))
    os.rename("names.npy", "names.NPY")
    ok(run("build two.npy -o array.fhs --keys names.NPY"))
    with fh.Store("array.fhs") as store:
        assert store.keys([0, 1]).tolist() == ["a", "b"]
    (tmp_path / "latin1.txt").write_bytes("a\ncafé\n".encode("latin-1"))
    refused(
        run("build two.npy -o no.fhs --keys latin1.txt"),
        "latin1.txt, line 2: keys must be UTF-8 text, got the byte 0xe9",
    )
    (tmp_path / "wide.txt").write_bytes("a\nb\n".encode("utf-16"))
    refused(run("build two.npy -o no.fhs --keys wide.txt"), "wide.txt must be UTF-8 text, but is UTF-16")
    assert not (tmp_path / "no.fhs").exists()


@pytest.mark.parametrize("options", ["-k 5", "--radius 64"])
@pytest.mark.parametrize("keys", [["a\0", "a", "\udcff"], ["b", "a" * 65_000, ""], [b"a\0", b"a", bytes(200)]])
def test_npz_files_keep_all_keys(run, codes, tmp_path, keys, options):
    documented = next(block for block in python_blocks("docs/cli.md") if "def keys_of" in block)
    names = {"np": np}
    exec(documented, names)
    with fh.Store(tmp_path / "keyed.fhs", "w", n_bits=64) as store:
        store.add(codes[:3], keys)
        store.commit()
        ok(run(f"search keyed.fhs codes.npy {options} -o found.npz"))
        assert (tmp_path / "found.npz").stat().st_size < 200_000
        with np.load("found.npz") as found:  # without pickle
            assert "keys" not in found
            read = names["keys_of"](found)
            assert read.shape == found["ids"].shape
            expected = store.keys(found["ids"].ravel()).tolist()
        as_text = [key.hex() if isinstance(key, bytes) else key for key in expected]
        assert read.ravel().tolist() == as_text


def test_npz_files_with_places_that_stay_empty(run, codes, tmp_path):
    documented = next(block for block in python_blocks("docs/cli.md") if "def keys_of" in block)
    names = {"np": np}
    exec(documented, names)
    with fh.Store(tmp_path / "keyed.fhs", "w", n_bits=64) as store:
        store.add(codes[:3], ["", "a\0", "b"])
        store.commit()
    np.save("one.npy", np.array([1]))
    ok(run("search keyed.fhs queries.npy -k 3 --allow one.npy -o found.npz"))
    with np.load("found.npz") as found:
        assert names["keys_of"](found).tolist() == [["a\0", None, None]] * 3


def test_a_store_that_exists_and_endings_in_capitals(run, codes, tmp_path):
    ok(run("build codes.npy -o A.FHS"))
    assert (tmp_path / "A.FHS" / "manifest").exists()
    refused(run("build codes.npy -o A.FHS"), "A.FHS exists; --add adds to it")
    ok(run("build codes.npy -o A.FHS --add"))
    assert "codes                1,000" in ok(run("info A.FHS"))
    refused(run("build codes.npy -o A.FHS --force"), "--add adds to it", code=2)


def test_verify_names_each_of_several_stores(run, codes):
    for name in ("a", "b"):
        ok(run(f"build codes.npy -o {name}.fhs"))
    lines = ok(run("verify a.fhs b.fhs")).splitlines()
    assert [line for line in lines if not line.endswith(" ok")] == ["a.fhs", "b.fhs"]
    assert lines[0] == "a.fhs"
    assert all(line.endswith(" ok") for line in ok(run("verify a.fhs")).splitlines())
