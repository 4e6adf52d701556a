"""Near-duplicates in several folders, with a reference, in all orientations, and of hashes from a file."""

import csv
import json
import os
import re

import numpy as np
import pytest

imagehash = pytest.importorskip("imagehash", reason="needs imagehash")
typer_testing = pytest.importorskip("typer.testing", reason="needs the extra dedup")
pytest.importorskip("jinja2", reason="needs the extra dedup")

from PIL import Image

import fasthash as fh
from fasthash.dedup import find_duplicates, group_hashes, hash_photo
from fasthash.turning import TURNS
from real_data import photo, shared

TURN = Image.Transpose
# In the order of TURNS.
TRANSPOSES = [
    TURN.FLIP_LEFT_RIGHT,
    TURN.FLIP_TOP_BOTTOM,
    TURN.ROTATE_180,
    TURN.TRANSPOSE,
    TURN.ROTATE_90,
    TURN.ROTATE_270,
    TURN.TRANSVERSE,
]


def picture(seed=0, size=(96, 80)):
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)


def write(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


def find(*arguments, **options):
    return find_duplicates(*arguments, **{"progress": False} | options)


def places(found):
    return [[photo.place for photo in group] for group in found.groups]


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Folders by relative names: pictures 1, 2 and 2 again in z, which is an archive; 1 and 4 in phone, 4 in camera."""
    monkeypatch.chdir(tmp_path)
    for name, seed in (("z/1", 1), ("z/2", 2), ("z/2 again", 2), ("phone/1", 1), ("phone/4", 4), ("camera/4", 4)):
        write(tmp_path / f"{name}.png", picture(seed))
    return tmp_path


@pytest.fixture
def run(tmp_path):
    from fasthash.cli import app

    def run(*arguments):
        command = ["dedup", "--output", str(tmp_path / "report"), *map(str, arguments)]
        return typer_testing.CliRunner().invoke(app, command)

    return run


# Several folders, and references


def test_several_folders(folders):
    found = find(["phone", "camera", "z"])
    assert places(found) == [["phone/1.png", "z/1.png"], ["phone/4.png", "camera/4.png"], ["z/2 again.png", "z/2.png"]]
    assert (found.n_photos, found.folders) == (6, ("phone", "camera", "z"))
    assert [photo.path for photo in found.groups[1]] == ["4.png", "4.png"]
    assert found == find(("phone", folders / "camera", b"z"))._replace(groups=found.groups, folders=found.folders)


def test_references_come_first_and_are_kept(folders):
    found = find(["phone", "camera"], reference="z")
    assert places(found) == [["z/1.png", "phone/1.png"], ["phone/4.png", "camera/4.png"]]
    assert [[photo.is_reference for photo in group] for group in found.groups] == [[True, False], [False, False]]
    assert places(find("phone", reference=["camera", "z"])) == [
        ["camera/4.png", "phone/4.png"],
        ["z/1.png", "phone/1.png"],
    ]
    assert find("phone", reference=["z", "camera"]).n_photos == 6


def test_broken_photos_of_several_folders_are_told_apart(folders):
    for name in ("phone", "z"):
        (folders / name / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n no")
    assert [path for path, _ in find(["phone", "z"]).broken] == ["phone/broken.png", "z/broken.png"]
    assert [path for path, _ in find("phone").broken] == ["broken.png"]


def test_each_folder_has_a_state(folders):
    assert find(["phone", "camera"], state="state").n_hashed == 3
    assert find("phone", reference="z", state="state").n_hashed == 3  # those of z
    found = find(["camera", "phone"], reference=folders / "z", state="state")
    assert found.n_hashed == 0
    assert found == find(["camera", "phone"], reference=folders / "z")._replace(n_hashed=0)
    write(folders / "phone/5.png", picture(5))
    assert find(["camera", "phone"], state="state").n_hashed == 1


@pytest.mark.parametrize(
    ("folder", "reference", "error", "message"),
    [
        (["phone", "phone"], (), ValueError, "folders must not lie in one another, got 'phone' in 'phone'"),
        (["phone", "."], (), ValueError, "folders must not lie in one another, got 'phone' in '.'"),
        ("phone", "phone/..", ValueError, "folders must not lie in one another, got 'phone' in 'phone/..'"),
        ([], (), ValueError, "folder must name at least one folder, got none"),
        (["phone", "none"], (), FileNotFoundError, "folder='none' is not a folder; it does not exist"),
        ("phone", "none", FileNotFoundError, "reference='none' is not a folder; it does not exist"),
        ("phone", 5, TypeError, "reference must be a path, got 5"),
        (["phone", 5], (), TypeError, "folder must be a path, got 5"),
    ],
)
def test_folders_that_do_not_fit(folders, folder, reference, error, message):
    with pytest.raises(error) as caught:
        find(folder, reference=reference)
    assert str(caught.value) == message


def test_folders_whose_names_begin_alike_are_apart(folders):
    write(folders / "phone 2/1.png", picture(1))
    assert places(find(["phone", "phone 2"])) == [["phone/1.png", "phone 2/1.png"]]


def test_the_command_with_folders_and_pairs(run, folders):
    result = run("phone", "camera", "--reference", "z", "--index", "state", "--pairs", "lists/pairs.csv")
    assert "2 groups of near-duplicates, 4 photos in them" in result.stdout
    with open("lists/pairs.csv", newline="", encoding="utf-8") as file:
        rows = [tuple(row.values()) for row in csv.DictReader(file)]
    assert rows == [
        ("phone/4.png", "camera/4.png", "0", "upright"),
        ("phone/1.png", "z/1.png", "0", "upright"),
    ]
    report = json.loads((folders / "report/duplicates.json").read_text())
    assert report["folders"] == ["z", "phone", "camera"]
    with open("report/duplicates.csv", newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [row["path"] for row in table] == ["z/1.png", "phone/1.png", "phone/4.png", "camera/4.png"]
    assert [row["folder"] for row in table] == ["z", "phone", "phone", "camera"]
    assert [[photo["is_reference"] for photo in group] for group in report["groups"]] == [[True, False], [False] * 2]
    assert run().stderr == "fasthash: give at least one folder of photos, or --hashes\n"
    assert run("phone", "--names", "path").stderr == "fasthash: --names must be left out without --hashes\n"


# Turned and mirrored


@pytest.mark.parametrize("hash_bits", [64, 256])
def test_codes_of_turned_photos(tmp_path, hash_bits):
    """Of the upright photo by `turned_codes`, and of the photo that was turned."""
    for name, size in (("china", (640, 427)), ("flower", (224, 300))):
        image = photo(name).resize(size)
        code = hash_photo(write(tmp_path / f"{name}.png", image), hash_bits, turned=True)
        for number, turn in enumerate([None, *TRANSPOSES]):
            turned = image if turn is None else image.transpose(turn)
            path = write(tmp_path / "turned.png", turned)
            expected = hash_photo(path, hash_bits, turned=True)
            n_wrong = np.unpackbits(fh.turned_codes(code[None])[number, 0] ^ expected).sum()
            assert n_wrong <= (0 if number < 4 else hash_bits // 32)  # rows are resized before columns
            usual = np.packbits(imagehash.phash(turned, hash_size=int(hash_bits**0.5)).hash)
            assert np.unpackbits(usual ^ expected).sum() <= hash_bits // 8  # the median is near zero


def test_turned_copies(tmp_path):
    original = photo("china").resize((320, 213))
    write(tmp_path / "photos/0.png", original)
    for number, turn in enumerate(TRANSPOSES, start=1):
        copy = original.transpose(turn)
        write(tmp_path / f"photos/{number}.jpg", copy.resize((copy.width // 2, copy.height // 2)))
    write(tmp_path / "photos/8.png", photo("flower"))
    assert find(tmp_path / "photos").groups == []
    (group,) = find(tmp_path / "photos", turned=True, state=tmp_path / "state").groups
    assert [photo.path for photo in group] == ["0.png", *(f"{number}.jpg" for number in range(1, 8))]
    assert [photo.turn for photo in group] == list(TURNS)
    assert all(photo.distance <= 16 for photo in group)
    again = find(tmp_path / "photos", turned=True, state=tmp_path / "state", pairs=tmp_path / "pairs.csv")
    assert (again.groups, again.n_hashed) == ([group], 0)
    with open(tmp_path / "pairs.csv", newline="", encoding="utf-8") as file:
        assert [row["turn"] for row in csv.DictReader(file)][:7] != ["upright"] * 7


def test_turns_of_a_real_photo():
    """Meta's bridge in all eight orientations."""
    folder = shared("pdq_near_duplicates", "data", "reg-test-input")
    (group,) = find(folder, turned=True).groups
    assert len(group) == 8
    assert {photo.turn for photo in group} == set(TURNS)


# Hashes from a file


@pytest.fixture
def hashes(folders):
    """A table of paths and hashes, as another program writes it; the last photo is gone."""
    paths = ["z/1.png", "phone/1.png", "phone/4.png", "camera/4.png", "gone.png"]
    with open(folders / "hashes.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["path", "phash"])
        for path in paths:
            image = Image.open(folders / path) if (folders / path).exists() else picture(4)
            table.writerow([path, imagehash.phash(image, hash_size=16)])
    return paths


def test_hashes_from_a_table(run, folders, hashes):
    result = run("--hashes", "hashes.csv", "--column", "phash", "--names", "path", "--pairs", "pairs.csv")
    assert result.stdout.splitlines()[0] == "5 hashes of 256 bits in hashes.csv"
    assert "2 groups of near-duplicates, 5 hashes in them; open " in result.stdout
    report = json.loads((folders / "report/duplicates.json").read_text())
    assert [[photo["path"] for photo in group] for group in report["groups"]] == [
        ["camera/4.png", "gone.png", "phone/4.png"],
        ["phone/1.png", "z/1.png"],
    ]
    assert report["groups"][0][1]["n_bytes"] is None
    page = (folders / "report/index.html").read_text(encoding="utf-8")
    assert page.count("<img ") == 4
    assert "5 hashes of 256 bits in hashes.csv: 2 groups of hashes within 32 bits of one another" in page
    assert "<title>Near-duplicates in hashes.csv</title>" in page
    assert page.count("no such file") == 1
    with open("pairs.csv", newline="", encoding="utf-8") as file:
        pairs = list(csv.DictReader(file))
    assert len(pairs) == 4
    with open("report/duplicates.csv", newline="", encoding="utf-8") as file:
        assert {row["path"] for row in csv.DictReader(file)} == {*hashes}
    assert {row[end] for row in pairs for end in ("first", "second")} == {*hashes}
    assert sorted(re.findall(r'data-path="([^"]*)"', page)) == sorted(hashes)


def test_lists_name_photos_of_another_folder_alike(run, folders, hashes):
    """As a path from here."""
    os.rename(folders / "hashes.csv", folders / "z/hashes.csv")
    run("--hashes", "z/hashes.csv", "--column", "phash", "--names", "path", "--pairs", "pairs.csv")
    with open("report/duplicates.csv", newline="", encoding="utf-8") as file:
        assert {row["path"] for row in csv.DictReader(file)} == {f"z/{path}" for path in hashes}
    page = (folders / "report/index.html").read_text(encoding="utf-8")
    assert sorted(re.findall(r'data-path="([^"]*)"', page)) == sorted(f"z/{path}" for path in hashes)


def test_hashes_of_photos_that_are_not_there(run, folders):
    """Sizes are unknown, so that none is the largest."""
    (folders / "hashes.csv").write_text("path,phash\nb,d8f8f0cee0f4a84f\na,d8f8f0cee0f4a84f\n-rf,d8f8f0cee0f4a84f\n")
    assert run("--hashes", "hashes.csv", "--column", "phash", "--names", "path").exit_code == 0
    page = (folders / "report/index.html").read_text(encoding="utf-8")
    assert "largest" not in page
    assert ">tick all but the first<" in page
    assert ">Tick all but the first<" in page
    assert "the buttons keep the first of a group, in the order of paths." in page
    assert "data-bytes=" not in page
    assert "opens in full" not in page
    assert "<a " not in page
    assert re.findall(r'data-path="([^"]*)"( data-kept)?', page) == [("./-rf", " data-kept"), ("a", ""), ("b", "")]
    with open("report/duplicates.csv", newline="", encoding="utf-8") as file:
        assert {row["largest"] for row in csv.DictReader(file)} == {"0"}


def test_hashes_without_names(run, folders):
    rows = ["e4cc89d91c623842"] * 3 + ["0000000000000000", "ffffffffffffffff"] * 4 + ["e4cc89d91c623843"]
    (folders / "hashes.hex").write_text("\n".join(rows))
    result = run("--hashes", "hashes.hex", "--json", "--pairs", "pairs.csv")
    report = json.loads(result.stdout)
    group = report["groups"][0]
    assert [photo["path"] for photo in group] == ["row 0", "row 1", "row 2", "row 11"]
    assert (report["source"], report["hash"]) == ("hashes.hex", None)
    page = (folders / "report/index.html").read_text(encoding="utf-8")
    assert re.findall(r'data-path="([^"]*)"', page)[-4:] == ["0", "1", "2", "11"]
    for text in (
        "12 hashes of 64 bits in hashes.hex: 3 groups of hashes within 4 bits",
        "Group 3: 4 hashes, up to 1 bit",
    ):
        assert text in page
    for text in ("save their row numbers", "Rows count from 0.", ">Save row numbers<", '"ticked-rows.txt"'):
        assert text in page
    assert "in the order of rows." in page
    assert "photo" not in page.partition("<main>")[2].replace('class="photos"', "")
    for name in ("pairs.csv", "report/duplicates.csv"):
        assert "row 11" in (folders / name).read_text()
        assert "./" not in (folders / name).read_text()


def test_a_file_named_as_a_row_is_not_one(run, folders):
    (folders / "row 0").write_text("a file")
    (folders / "hashes.hex").write_text("d8f8f0cee0f4a84f\nd8f8f0cee0f4a84f\n")
    report = json.loads(run("--hashes", "hashes.hex", "--json").stdout)
    assert [photo["n_bytes"] for photo in report["groups"][0]] == [None, None]


def test_what_is_no_file_is_no_photo(folders):
    """A folder had the size of a photo, and a box to tick."""
    found = group_hashes(np.zeros((3, 8), np.uint8), ["", "z", "z/1.png"])
    assert [photo.n_bytes is None for photo in found.groups[0]] == [True, True, False]


def test_hashes_that_do_not_fit(run, folders, hashes):
    np.save("none.npy", np.zeros((0, 8), np.uint8))
    for arguments, message in (
        (["phone", "--hashes", "hashes.csv"], "FOLDER must be left out with --hashes"),
        (["--hashes", "hashes.csv", "--index", "state"], "--index must be left out with --hashes"),
        (
            ["--hashes", "hashes.csv", "--column", "phash", "--turned"],
            "--turned must be left out with --hashes: only hashes that dedup itself makes with --turned can be turned",
        ),
        (["--hashes", "none.npy"], "no hashes in 'none.npy'"),
        (
            ["--hashes", "hashes.csv", "--column", "phash", "--names", "x"],
            "names must be a column of hashes.csv: path, ",
        ),
        (["--hashes", "hashes.csv", "--column", "phash", "--radius", 257], "radius must be at most 256, got 257"),
        (["--hashes", "none.csv"], "none.csv"),
    ):
        result = run(*arguments)
        assert result.exit_code == 1
        assert message in result.stderr
    with pytest.raises(ValueError, match=r"^paths must be as many as codes, 2, got 1$"):
        group_hashes(np.zeros((2, 8), np.uint8), ["a"])
    with pytest.raises(ValueError, match=r"^radius must be given for hashes of 128 bits$"):
        group_hashes(np.zeros((2, 16), np.uint8), ["a", "b"])
    assert len(group_hashes(np.zeros((2, 16), np.uint8), ["a", "b"], 3).groups) == 1


def test_names_of_all_bytes_in_a_table(run, folders):
    name = os.fsdecode(b"caf\xe9.png")
    (folders / "hashes.csv").write_bytes(b"\xef\xbb\xbfpath,phash\ncaf\xe9.png,d8f8f0cee0f4a84f\nb,d8f8f0cee0f4a84f\n")
    assert run("--hashes", "hashes.csv", "--column", "phash", "--names", "path").exit_code == 0
    report = json.loads((folders / "report/duplicates.json").read_text())
    assert [photo["path"] for photo in report["groups"][0]] == ["b", name]


@pytest.mark.parametrize(("form", "end"), [("csv", ","), ("tsv", "\t")])
def test_names_in_quotes(tmp_path, form, end):
    """A quote that is not closed would swallow the rows up to the next one."""
    from fasthash.cli._codes import read_names

    path = tmp_path / f"names.{form}"
    path.write_text(f'phash{end}path\n00{end}"a{end} ""b"""\n\n01\n02{end}c"\n')
    with pytest.raises(ValueError, match=rf"names\.{form}, line 4, column 'path': a name must not be empty$"):
        read_names(path, "path")
    path.write_text(path.read_text().replace("\n01\n", "\n"))
    assert read_names(path, "path") == [f'a{end} "b"', 'c"']
    path.write_text(f'phash{end}path\n00{end}a\n01{end}"b\n02{end}c\n')
    with pytest.raises(ValueError, match=rf"names\.{form}, line 3: unexpected end of data"):
        read_names(path, "path")
