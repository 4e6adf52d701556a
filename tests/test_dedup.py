"""Near-duplicate photos in a folder: by a function, by the command, and again as the folder changes."""

import csv
import html.parser
import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest

imagehash = pytest.importorskip("imagehash", reason="needs the extra dedup")
typer_testing = pytest.importorskip("typer.testing", reason="needs the extra dedup")
pytest.importorskip("jinja2", reason="needs the extra dedup")

from PIL import Image

import fasthash as fh
from fasthash import _review_cards, _review_page
from fasthash.dedup import find_duplicates, hash_photo
from real_data import shared, write_photos


def picture(seed=0, size=(96, 80)):
    """A picture of random colours with details, 8-bit RGB."""
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)


def write(path, image=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    (image or picture()).save(path, **options)
    return path


@pytest.fixture
def photos(tmp_path):
    """Two photos with versions of them, one alone, and two files that are no photos."""
    folder = tmp_path / "photos"
    write(folder / "a.png", picture(1))
    write(folder / "small" / "a again.jpg", picture(1).resize((48, 40)), quality=60)
    write(folder / "b.png", picture(2))
    write(folder / "b.webp", picture(2), quality=70)
    write(folder / "c.png", picture(3))
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    (folder / "notes.txt").write_text("no photo")
    return folder


def find(folder, *arguments, **options):
    return find_duplicates(folder, *arguments, **{"progress": False} | options)


def paths(found):
    return [[photo.path for photo in group] for group in found.groups]


GROUPS = [["a.png", os.path.join("small", "a again.jpg")], ["b.png", "b.webp"]]


# The function


@pytest.mark.parametrize("hash_bits", [64, 256])
def test_groups_of_a_folder(photos, hash_bits):
    found = find(photos, hash_bits=hash_bits)
    assert paths(found) == GROUPS
    assert (found.n_photos, found.n_hashed, found.hash_bits) == (5, 5, hash_bits)
    assert found.radius == {64: 4, 256: 32}[hash_bits]
    assert [path for path, _ in found.broken] == ["broken.jpg"]
    for group in found.groups:
        assert [photo.n_bytes for photo in group] == [(photos / photo.path).stat().st_size for photo in group]
        codes = [imagehash.phash(Image.open(photos / photo.path), hash_size=int(hash_bits**0.5)) for photo in group]
        assert [photo.distance for photo in group] == [codes[0] - code for code in codes]


def test_the_hash_is_that_of_imagehash(photos, tmp_path):
    pictures = [photos / "b.png", photos / "b.webp", photos / "small" / "a again.jpg"]
    pictures += [write(tmp_path / f"{value}.png", Image.new("L", (40, 30), value)) for value in (0, 77, 255)]
    for hash_bits, side in ((64, 8), (256, 16)):
        for path in pictures:
            code = hash_photo(path, hash_bits)
            assert code.tobytes().hex() == str(imagehash.phash(Image.open(path).convert("RGB"), hash_size=side))
    assert hash_photo(photos / "b.png").shape == (32,)


def test_the_radius_counts(photos):
    assert paths(find(photos, 256)) == [sorted(path for path in ["c.png", *GROUPS[0], *GROUPS[1]])]
    write(photos / "a copy.png", picture(1))
    assert paths(find(photos, 0))[0][:2] == ["a copy.png", "a.png"]


def test_photos_turned_by_their_exif_data_are_upright(tmp_path):
    write(tmp_path / "a.png", picture(1))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn to the right
    write(tmp_path / "turned.jpg", picture(1).transpose(Image.Transpose.ROTATE_90), exif=exif, quality=95)
    write(tmp_path / "not turned.jpg", picture(1).transpose(Image.Transpose.ROTATE_90), quality=95)
    assert paths(find(tmp_path)) == [["a.png", "turned.jpg"]]


def test_an_empty_folder(tmp_path):
    found = find(tmp_path)
    assert (found.groups, found.broken, found.n_photos) == ([], [], 0)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"radius": -1}, ValueError, "radius must be at least 0, got -1"),
        ({"radius": 1.5}, TypeError, "radius must be an integer, got 1.5"),
        ({"hash_bits": 100}, ValueError, "hash_bits must be one of 64, 256, got 100"),
        ({"hash_bits": "64"}, TypeError, "hash_bits must be an integer, got '64'"),
        ({"progress": 1}, TypeError, "progress must be True or False, got 1"),
        ({"folder": "nowhere"}, FileNotFoundError, "folder='nowhere' is not a folder; it does not exist"),
    ],
)
def test_bad_arguments(photos, options, error, message):
    with pytest.raises(error) as caught:
        find_duplicates(**{"folder": photos} | options)
    assert str(caught.value) == message


@pytest.mark.parametrize("hash_bits", [64, 256])
def test_three_versions_of_a_real_photo_among_others(hash_bits, tmp_path):
    found = find(write_photos(tmp_path / "real"), hash_bits=hash_bits)
    assert found.n_photos == 7
    assert paths(found) == [[f"china-{how}.jpg" for how in ("small", "square", "wide")]]


def test_versions_of_a_real_photo():
    """12 versions and a copy of one photo; its turns and flips and seven others are not near it."""
    folder = shared("pdq_near_duplicates", "data")
    for hash_bits in (64, 256):
        found = find(folder, hash_bits=hash_bits)
        assert found.n_photos == 27
        versions = [os.path.relpath(path, folder) for path in sorted((folder / "bridge-mods").iterdir())]
        original = os.path.join("reg-test-input", "dih", "bridge-1-original.jpg")
        assert paths(found) == [[*versions, original]]


# A state: what changed is read, and the result is that of a run from nothing


def test_with_a_state_only_what_changed_is_read(photos, tmp_path, monkeypatch):
    from fasthash import dedup

    read = []
    real = dedup.hash_photo

    def hash_photo(path, bits, **limits):
        read.append(Path(path).name)
        return real(path, bits, **limits)

    monkeypatch.setattr(dedup, "hash_photo", hash_photo)
    state = tmp_path / "state"

    def step(*names):
        """Run with the state and without; the first reads these photos alone, and finds the same."""
        read.clear()
        kept = find(photos, state=state)
        assert sorted(read) == sorted(names)
        assert kept.n_hashed == len(names) - len(kept.broken)
        fresh = find(photos)
        assert kept == fresh._replace(n_hashed=kept.n_hashed)
        return kept

    everything = ["a.png", "a again.jpg", "b.png", "b.webp", "c.png", "broken.jpg"]
    assert paths(step(*everything)) == GROUPS
    step("broken.jpg")  # which may be sound the next time

    write(photos / "0 new.png", picture(3))
    assert paths(step("0 new.png", "broken.jpg")) == [["0 new.png", "c.png"], *GROUPS]

    write(photos / "b.webp", picture(4))  # changed: another photo now
    (photos / "a.png").unlink()  # gone
    write(photos / "broken.jpg", picture(2))  # sound after all
    assert paths(step("b.webp", "broken.jpg")) == [["0 new.png", "c.png"], ["b.png", "broken.jpg"]]

    os.rename(photos / "c.png", photos / "d.png")
    (photos / "b.png").write_bytes(b"no longer a photo")
    step("d.png", "b.png")
    for path in photos.rglob("*.*"):
        path.unlink()
    assert step().n_photos == 0
    write(photos / "z.png", picture(7))
    step("z.png")


@pytest.mark.parametrize("seed", range(3))
def test_any_history_of_a_folder_ends_as_a_run_from_nothing(seed, tmp_path):
    rng = np.random.default_rng(seed)
    photos, state = tmp_path / "photos", tmp_path / "state"
    photos.mkdir()
    for step in range(8):
        for name in rng.integers(0, 12, 4):
            path = photos / f"{name}.png"
            if path.exists() and rng.random() < 0.5:
                path.unlink()
            else:
                write(path, picture(int(rng.integers(0, 5)), (32, 32)))
                os.utime(path, ns=(step, step * 1000 + int(name)))  # clocks of file systems may be too slow for a test
        kept = find(photos, 24, state=state)
        assert kept == find(photos, 24)._replace(n_hashed=kept.n_hashed)


def test_the_index_of_a_state_is_one_of_fasthash(photos, tmp_path):
    find(photos, state=tmp_path / "state")
    card = json.loads((tmp_path / "state" / "card.json").read_text())
    index = fh.load(tmp_path / "state" / card["files"]["codes.fh"]["name"])
    assert (card["folder"], card["background"]) == (os.path.realpath(photos), "#ffffff")
    for path, id, n_bytes, _, _ in card["photos"]:
        np.testing.assert_array_equal(index.reconstruct([id])[0], hash_photo(photos / path))
        assert n_bytes == (photos / path).stat().st_size


def test_states_that_do_not_fit(photos, tmp_path):
    state = tmp_path / "state"
    find(photos, state=state)
    with pytest.raises(ValueError, match=r"^hash_bits must be 256, as in the state '.*state', got 64; such"):
        find(photos, hash_bits=64, state=state)
    (codes,) = state.glob("codes-*.fh")
    codes.write_bytes(codes.read_bytes()[:-1] + b"x")
    with pytest.raises(fh.FormatError, match="codes-"):
        find(photos, state=state)
    fh.RescoringIndex(8).save(tmp_path / "other")
    with pytest.raises(fh.FormatError, match="RescoringIndex"):
        find(photos, state=tmp_path / "other")


# The command and its report


@pytest.fixture
def run(tmp_path):
    from fasthash.cli import app

    def run(folder, *arguments):
        command = ["dedup", str(folder), "--output", str(tmp_path / "report"), *map(str, arguments)]
        return typer_testing.CliRunner().invoke(app, command)

    return run


class Page(html.parser.HTMLParser):
    """What a reader of the page meets."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.links, self.pictures, self.text = [], [], [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag not in ("meta", "img", "input"):
            self.open.append(tag)
        if tag == "a":
            self.links.append(dict(attributes)["href"])
        if tag == "img":
            assert "alt" in dict(attributes)
            self.pictures.append(dict(attributes)["src"])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def page_of(tmp_path):
    return Page((tmp_path / "report" / "index.html").read_text(encoding="utf-8"))


def test_the_command(run, photos, tmp_path):
    result = run(photos)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "5 photos, 5 of them hashed now, 1 file skipped, 1 other file passed over",
        f"2 groups of near-duplicates, 4 photos in them; open {tmp_path / 'report' / 'index.html'}",
    ]
    assert "skipped broken.jpg: UnidentifiedImageError: " in result.stderr
    page = page_of(tmp_path)
    assert {(tmp_path / "report" / unquote(link)).resolve() for link in page.links} == {
        (photos / path).resolve() for group in GROUPS for path in group
    }
    assert len(page.pictures) == 4
    assert all(picture.startswith("data:image/jpeg;base64,") for picture in page.pictures)
    assert "Group 2: 2 photos" in page.text
    assert "broken.jpg" in page.text
    with open(tmp_path / "report" / "duplicates.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["group"], row["path"]) for row in rows] == [
        (str(number), str(photos / path)) for number, group in enumerate(GROUPS, start=1) for path in group
    ]
    assert [row["largest"] for row in rows][:2] == ["1", "0"]  # the copy has fewer pixels


def test_as_json(run, photos, tmp_path):
    result = run(photos, "--json", "--radius", 20, "--index", tmp_path / "state")
    report = json.loads(result.stdout)
    assert report == json.loads((tmp_path / "report" / "duplicates.json").read_text())
    assert [[photo["path"] for photo in group] for group in report["groups"]] == GROUPS
    assert (report["radius"], report["hash_bits"], report["n_hashed"]) == (20, 256, 5)
    assert [entry["path"] for entry in report["broken"]] == ["broken.jpg"]
    again = json.loads(run(photos, "--json", "--index", tmp_path / "state").stdout)
    assert (again["n_hashed"], again["radius"]) == (0, 32)


def test_nothing_found(run, tmp_path):
    write(tmp_path / "photos" / "a.png")
    result = run(tmp_path / "photos")
    assert result.exit_code == 0
    text = page_of(tmp_path).text
    assert "photos: no photos whose pHashes of 256 bits are within 32 bits of one another." in text
    assert "groups" not in text[text.index("1 photo in") :]


@pytest.mark.parametrize("arguments", [[], ["--json"], ["--index", "state"], ["--pairs", "lists/pairs.csv"]])
def test_a_folder_without_photos_is_an_error(run, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for n_files in (0, 1):
        for _ in range(2):  # the first run leaves no state that would make the second one right
            result = run("empty", *arguments)
            assert (result.exit_code, result.stdout) == (1, "")
            assert result.stderr == f"fasthash: no photos below 'empty' ({n_files} file{'s' * (n_files != 1)})\n"
        (tmp_path / "empty/notes.txt").write_text("no photo")
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]
    write(tmp_path / "other/a.png")
    assert run("empty", "other", *arguments).exit_code == 0


def test_a_folder_whose_photos_have_gone_is_none(run, tmp_path):
    photo = write(tmp_path / "photos/a.png")
    arguments = tmp_path / "photos", "--index", tmp_path / "state"
    assert run(*arguments).exit_code == 0
    photo.unlink()
    for _ in range(2):
        result = run(*arguments)
        assert result.exit_code == 0
        assert result.stdout.startswith("0 photos, 0 of them hashed now")


def test_only_a_saved_index_excuses_that_photos_are_missing(run, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "state").mkdir()
    (tmp_path / "state/notes.txt").write_text("no index")
    assert run(tmp_path / "empty", "--index", tmp_path / "state").exit_code == 1


def test_the_output_has_a_short_name(run, photos, tmp_path):
    assert run(photos, "-o", tmp_path / "other").exit_code == 0
    assert (tmp_path / "other/index.html").exists()


def test_pairs_overwrite_nothing_unasked(run, photos, tmp_path):
    table = tmp_path / "pairs.csv"
    assert run(photos, "--pairs", table).exit_code == 0
    held = table.read_text()
    table.write_text("mine")
    result = run(photos, "--pairs", table)
    assert (result.exit_code, table.read_text()) == (1, "mine")
    assert result.stderr == f"fasthash: {table} exists; --force overwrites it\n"
    assert run(photos, "--pairs", table, "--force").exit_code == 0
    assert table.read_text() == held
    some_photo = next(photos.rglob("*.png"))
    without_suffix = tmp_path / "photo"
    without_suffix.write_bytes(some_photo.read_bytes())
    for photo in (some_photo, without_suffix):
        assert "must be a CSV file" in run(photos, "--pairs", photo, "--force").stderr
    state = tmp_path / "state"
    assert run(photos, "--index", state).exit_code == 0
    assert "a saved folder" in run(photos, "--index", state, "--pairs", state / "card.json", "--force").stderr
    of_report = tmp_path / "report" / "duplicates.csv"
    assert "must be another file or folder than" in run(photos, "--pairs", of_report, "--force").stderr
    codes = tmp_path / "codes.hex"
    codes.write_text("00ff\n00fe\n")
    command = ["dedup", "--hashes", str(codes), "--pairs", str(codes), "--force"]
    result = typer_testing.CliRunner().invoke(app(), command)
    assert (result.exit_code, codes.read_text()) == (1, "00ff\n00fe\n")
    hashes = tmp_path / "report" / "duplicates.csv"  # the report has a file of this name
    hashes.write_text("phash\n00ff\n00fe\n")
    command = ["dedup", "--hashes", str(hashes), "--column", "phash", "-o", str(hashes.parent)]
    result = typer_testing.CliRunner().invoke(app(), command)
    assert (result.exit_code, hashes.read_text()) == (1, "phash\n00ff\n00fe\n")


def app():
    from fasthash.cli import app

    return app


def test_mistakes_end_with_one_line(run, tmp_path):
    for arguments in ([tmp_path / "nowhere"], [tmp_path, "--radius", -1], [tmp_path, "--hash-bits", 8]):
        result = run(*arguments)
        assert result.exit_code == 1
        assert result.stderr.startswith("fasthash: ")
        assert len(result.stderr.splitlines()) == 1
    assert run(tmp_path, "--radius", "few").exit_code == 2


NAMES = ["<script>alert(1)</script>.png", "javascript:alert(1).png", 'a"b&c #?%41.png', "ä 图.png", b"\xff\xfe.png"]


def test_names_of_all_sorts_do_no_harm(run, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    written = []
    for name in NAMES:
        name = os.fsdecode(name).replace("/", "∕") if isinstance(name, str) else os.fsdecode(name)
        try:
            write(folder / name, picture(1), format="png")
            written.append(name)
        except OSError:  # a file system that takes only UTF-8
            continue
    for _ in range(2):
        result = run(folder, "--index", tmp_path / "state")
        assert result.exit_code == 0, result.output
    assert "hashed now" in result.stdout
    page = page_of(tmp_path)
    assert page.tags.count("script") == 1  # our own
    assert "<script>alert(1)<∕script>.png" in page.text
    assert len(page.links) == len(written)
    for link, name in zip(page.links, sorted(written), strict=True):
        assert urlsplit(link).scheme == ""
        assert urlsplit(link).query == urlsplit(link).fragment == ""
        path = os.fsdecode(unquote(link, errors="surrogateescape"))
        assert os.path.samefile(os.path.join(tmp_path / "report", path), folder / name)


def test_thousands_of_photos_stay_on_a_page_that_opens(run, tmp_path, monkeypatch):
    monkeypatch.setattr(_review_cards, "MAX_PER_GROUP", 3)
    monkeypatch.setattr(_review_page, "MAX_PREVIEWS", 5)
    for number in range(12):
        write(tmp_path / "photos" / f"{number:02}.png", picture(number // 4))
    assert run(tmp_path / "photos").exit_code == 0
    page = page_of(tmp_path)
    assert (len(page.pictures), len(page.links)) == (9, 9)
    assert [picture.startswith("data:") for picture in page.pictures] == [True] * 5 + [False] * 4
    for source, link in zip(page.pictures[5:], page.links[5:], strict=True):
        assert source == link  # its own file
    assert page.text.count("3 of 4 shown, no others are ticked; duplicates.csv lists all") == 3
    assert "Of a group of more than 3, 3 are shown, and only these can be ticked." in page.text


def test_it_needs_no_torch():
    code = "import sys; import fasthash.dedup, fasthash._review_page; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
