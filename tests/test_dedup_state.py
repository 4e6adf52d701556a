"""The state of dedup: of one folder, true to the content of files, kept when a run is stopped; and what is refused
before the first photo is read."""

import json
import os
import re
import shutil
import signal

import numpy as np
import pytest

pytest.importorskip("imagehash", reason="needs the extra dedup")
typer_testing = pytest.importorskip("typer.testing", reason="needs the extra dedup")
pytest.importorskip("jinja2", reason="needs the extra dedup")

from PIL import Image

import fasthash as fh
from fasthash import _hashed_files, _saved_folder, dedup
from fasthash._photo_hashes import PhotoHashes, stamp_of
from fasthash.dedup import find_duplicates


def write(path, seed, side=48):
    """A picture of random blocks as BMP, whose size does not tell its content; all with the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    blocks = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(blocks.repeat(side // 8, 0).repeat(side // 8, 1)).save(path)
    os.utime(path, ns=(0, 0))
    return path


def write_all(folder, seeds):
    for number, seed in enumerate(seeds):
        write(folder / f"{number}.bmp", seed)
    return folder


def find(folder, **options):
    return find_duplicates(folder, **{"progress": False} | options)


def paths(found):
    return [[photo.path for photo in group] for group in found.groups]


@pytest.fixture
def run(tmp_path):
    from fasthash.cli import app

    def run(folder, *arguments):
        command = ["dedup", str(folder), "--output", str(tmp_path / "report"), *map(str, arguments)]
        return typer_testing.CliRunner().invoke(app, command)

    return run


@pytest.fixture
def no_hashing(monkeypatch):
    monkeypatch.setattr(dedup, "hash_photo", lambda *arguments, **options: pytest.fail("a photo was hashed"))


@pytest.fixture
def no_hashing_after(monkeypatch):
    """A function, after whose call no photo may be hashed."""
    return lambda: monkeypatch.setattr(dedup, "hash_photo", lambda *_, **__: pytest.fail("a photo was hashed"))


# Files of equal names, sizes and times


def test_files_of_equal_size_and_time_are_told_apart(tmp_path):
    """As where an archive is unpacked over another with its old times."""
    photos, state = write_all(tmp_path / "photos", [1, 1, 2]), tmp_path / "state"
    assert paths(find(photos, state=state)) == [["0.bmp", "1.bmp"]]
    write_all(photos, [1, 2, 2])
    found = find(photos, state=state)
    assert (paths(found), found.n_hashed) == ([["1.bmp", "2.bmp"]], 1)


def test_files_that_were_swapped_by_renaming(tmp_path):
    photos, state = write_all(tmp_path / "photos", [1, 2, 1]), tmp_path / "state"
    assert paths(find(photos, state=state)) == [["0.bmp", "2.bmp"]]
    for old, new in (("0.bmp", "x"), ("1.bmp", "0.bmp"), ("x", "1.bmp")):
        os.rename(photos / old, photos / new)
    found = find(photos, state=state)
    assert (paths(found), found.n_hashed) == ([["1.bmp", "2.bmp"]], 2)
    assert found == find(photos)._replace(n_hashed=2)


def test_large_files_that_differ_in_the_middle(tmp_path):
    path = tmp_path / "a"
    data = np.zeros(1 << 20, np.uint8)
    seen = set()
    for start, end in ((0, 0), (0, 1), (1 << 19, (1 << 19) + (1 << 16)), (900_000, 970_000), (-1, None)):
        data[start:end] ^= 1
        path.write_bytes(data.tobytes())
        os.utime(path, ns=(0, 0))
        seen.add(stamp_of(path))
    assert len(seen) == 5
    assert len({stamp[:2] for stamp in seen}) == 1
    for n_bytes in (0, 1, 1 << 16, 1 << 17, (1 << 17) + 1):
        path.write_bytes(bytes(n_bytes))
        assert stamp_of(path).n_bytes == n_bytes


# Folders


def test_another_folder_needs_another_state(tmp_path):
    """The groups of the first folder were reported for the second."""
    first, second = write_all(tmp_path / "first", [1, 1, 2]), write_all(tmp_path / "second", [1, 2, 2])
    state = tmp_path / "state"
    assert paths(find(first, state=state)) == [["0.bmp", "1.bmp"]]
    before = (state / "card.json").read_bytes()
    with pytest.raises(
        ValueError, match=r"^folder must be '.*first', whose hashes the state '.*state' holds, got '.*sec"
    ):
        find(second, state=state)
    assert (state / "card.json").read_bytes() == before
    assert paths(find(second)) == [["1.bmp", "2.bmp"]]


def test_a_folder_that_was_moved_keeps_its_hashes(tmp_path):
    first, state = write_all(tmp_path / "first", [1, 1, 2]), tmp_path / "state"
    find(first, state=state)
    os.rename(first, tmp_path / "moved")
    assert find(tmp_path / "moved", state=state).n_hashed == 0
    (tmp_path / "link").symlink_to("moved")  # another name of the same folder
    assert find(tmp_path / "link", state=state).n_hashed == 0


def test_a_folder_in_place_of_the_first(tmp_path):
    first, state = write_all(tmp_path / "first", [1, 1, 2]), tmp_path / "state"
    find(first, state=state)
    shutil.rmtree(first)
    found = find(write_all(tmp_path / "second", [1, 2, 2]), state=state)
    assert (paths(found), found.n_hashed) == ([["1.bmp", "2.bmp"]], 1)


def test_another_background_needs_another_state(tmp_path):
    photos, state = write_all(tmp_path / "photos", [1]), tmp_path / "state"
    find(photos, state=state, background="red")
    assert find(photos, state=state, background="#ff0000").n_hashed == 0
    message = r"^background must be #ff0000, as in the state '.*', got #ffffff; such hashes need a state of their own$"
    with pytest.raises(ValueError, match=message):
        find(photos, state=state)


def test_states_of_the_former_default_are_never_mixed(tmp_path, run, no_hashing_after):
    """64 bits were the default; a state of them is of no use to 256."""
    photos, state = write_all(tmp_path / "photos", [1, 1, 2]), tmp_path / "state"
    find(photos, state=state, hash_bits=64)
    before = (state / "card.json").read_bytes()
    no_hashing_after()
    for options, message in (
        ({}, "hash_bits must be 64, as in the state '{}', got 256; such hashes need a state of their own"),
        ({"turned": True, "hash_bits": 64}, "turned must be False, as in the state '{}', got True; such hashes need a"),
    ):
        with pytest.raises(ValueError, match="^" + re.escape(message.format(state))):
            find(photos, state=state, **options)
    assert "hash_bits must be 64" in run(photos, "--index", state).stderr
    assert (state / "card.json").read_bytes() == before
    assert find(photos, state=state, hash_bits=64).n_hashed == 0


def test_turned_states_are_never_mixed(tmp_path):
    photos, state = write_all(tmp_path / "photos", [1, 1, 2]), tmp_path / "state"
    assert find(photos, state=state, turned=True).n_hashed == 3
    with pytest.raises(ValueError, match=r"^turned must be True, as in the state '.*', got False; such hashes need"):
        find(photos, state=state)
    assert find(photos, state=state, turned=True).n_hashed == 0


def test_the_command_calls_a_state_an_index(tmp_path, run):
    photos, state = write_all(tmp_path / "photos", [1, 1, 2]), tmp_path / "state"
    find(photos, state=state)
    assert run(photos, "--index", state, "--turned").stderr == (
        f"fasthash: --turned must be left out, as in the index {str(state)!r}; such hashes need an index of their own\n"
    )


def test_photos_of_any_time_are_kept(tmp_path):
    """Times above 2**63 ns were saved, but refused when they were loaded."""
    photos, state = write_all(tmp_path / "photos", [1, 1]), tmp_path / "state"
    os.utime(photos / "0.bmp", ns=(10**19, 10**19))
    time = os.stat(photos / "0.bmp").st_mtime_ns
    if time < 2**63:
        pytest.skip("the file system keeps no such time")
    find(photos, state=state)
    found = find(photos, state=state)
    assert (found.n_hashed, found.groups[0][0].time) == (0, time)


def as_first_release(state):
    """Make a state what the first release wrote."""
    card = json.loads((state / "card.json").read_text())
    del card["sha256"], card["folder"], card["background"]
    card["photos"] = [photo[:4] for photo in card["photos"]]
    card["sha256"] = _saved_folder._checksum_of(card)
    (state / "card.json").write_text(json.dumps(card))


def test_states_of_the_first_release_are_hashed_anew(tmp_path):
    """They did not know the content of files, and took transparent parts for black."""
    photos, state = write_all(tmp_path / "photos", [1, 1, 2]), tmp_path / "state"
    find(photos, state=state)
    as_first_release(state)
    write_all(photos, [1, 2, 2])
    found = find(photos, state=state)
    assert (paths(found), found.n_hashed) == ([["1.bmp", "2.bmp"]], 3)
    assert find(photos, state=state).n_hashed == 0


# Runs that are stopped


@pytest.fixture(autouse=True)
def _ctrl_c():
    """Shells have background jobs ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def stops(monkeypatch, after, how):
    """After so many photos the process gets a signal."""
    real = PhotoHashes.put
    count = 0

    def put(self, *arguments):
        nonlocal count
        real(self, *arguments)
        count += 1
        if count == after:
            how()

    monkeypatch.setattr(PhotoHashes, "put", put)
    return real


def test_what_was_hashed_before_an_interruption_is_kept(tmp_path, monkeypatch):
    photos, state = write_all(tmp_path / "photos", [1, 1, 2, 3, 4, 5]), tmp_path / "state"
    real = stops(monkeypatch, 4, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        find(photos, state=state)
    monkeypatch.setattr(PhotoHashes, "put", real)
    found = find(photos, state=state)
    assert (found.n_photos, found.n_hashed, paths(found)) == (6, 2, [["0.bmp", "1.bmp"]])


def test_an_interruption_keeps_no_hash_of_an_older_file(tmp_path, monkeypatch):
    photos, state = write_all(tmp_path / "photos", [1, 1, 2, 3]), tmp_path / "state"
    find(photos, state=state)
    write_all(photos, [4, 5, 6, 6])
    real = stops(monkeypatch, 2, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        find(photos, state=state)
    monkeypatch.setattr(PhotoHashes, "put", real)
    found = find(photos, state=state)
    assert (found.n_hashed, paths(found)) == (2, [["2.bmp", "3.bmp"]])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_keeps_what_was_hashed(run, tmp_path, monkeypatch, number):
    photos, state = write_all(tmp_path / "photos", range(6)), tmp_path / "state"
    before = signal.getsignal(signal.SIGTERM)
    real = stops(monkeypatch, 3, lambda: signal.raise_signal(number))
    result = run(photos, "--index", state)
    assert result.exit_code == (143 if number == signal.SIGTERM else 130)
    assert f"fasthash: stopped; the hashes so far are in {state}" in result.stderr
    assert signal.getsignal(signal.SIGTERM) is before
    monkeypatch.setattr(PhotoHashes, "put", real)
    assert "6 photos, 3 of them hashed now" in run(photos, "--index", state).stdout


def test_the_state_is_saved_on_the_way(tmp_path, monkeypatch):
    """Even where nothing can be saved at the end, as with a power cut."""
    photos, state = write_all(tmp_path / "photos", range(10)), tmp_path / "state"
    monkeypatch.setattr(_hashed_files, "_SAVE_EVERY", 4)
    sizes = []
    real = PhotoHashes.save
    monkeypatch.setattr(PhotoHashes, "save", lambda self, place: sizes.append(len(self)) or real(self, place))
    find(photos, state=state)
    assert sizes == [4, 8, 10]
    sizes.clear()
    find(photos, state=state)
    assert sizes == [10]


# Checked early


@pytest.mark.parametrize("folder", [None, 5, 1.5, {}])
def test_folders_that_are_none_are_named(folder, no_hashing):
    with pytest.raises(TypeError) as caught:
        find(folder)
    assert str(caught.value) == f"folder must be a path, got {folder!r}"


@pytest.mark.parametrize("folder", [b"/no/where", "a\0b", "", __file__])
def test_folders_that_are_not_there_are_named(folder, no_hashing):
    with pytest.raises(FileNotFoundError, match=r"^folder='.*' is not a folder"):
        find(folder)


def test_folders_of_all_types(tmp_path):
    """Bytes gave no photos."""
    photos = write_all(tmp_path / "photos", [1, 1])
    for folder in (photos, str(photos), bytes(photos)):
        assert paths(find(folder)) == [["0.bmp", "1.bmp"]]


@pytest.mark.parametrize(("hash_bits", "radius"), [(64, 65), (256, 257), (64, 2**70)])
def test_a_radius_of_more_than_all_bits(tmp_path, no_hashing, hash_bits, radius):
    photos = write_all(tmp_path / "photos", [1, 2])
    with pytest.raises(ValueError, match=f"^radius must be at most {hash_bits}, got {radius}$"):
        find(photos, hash_bits=hash_bits, radius=radius)


def test_what_cannot_be_written_is_told_before_photos_are_hashed(run, tmp_path, no_hashing):
    photos = write_all(tmp_path / "photos", [1, 2])
    file = write(tmp_path / "file.bmp", 3)
    link = tmp_path / "link"
    link.symlink_to("nowhere")
    (tmp_path / "taken" / "index.html").mkdir(parents=True)
    (tmp_path / "site").mkdir()
    (tmp_path / "site/index.html").write_text("a page of another program")
    site = tmp_path / "site"
    for arguments, message in (
        (["--output", file], f"--output={str(file)!r} must be a folder, but {str(file)!r} is none"),
        (["--output", file / "deep" / "er"], f"but {str(file)!r} is none"),
        (["--output", tmp_path / "taken"], "holds a folder called index.html, which must be a file"),
        (["--output", link], f"--output={str(link)!r} must be a folder, but {str(link)!r} is none"),
        (["--output", tmp_path / "site"], "holds an index.html that is not of an earlier report"),
        (["--index", file], f"--index={str(file)!r} must be a folder, but {str(file)!r} is none"),
        (["--index", file / "deep"], f"but {str(file)!r} is none"),
        (["--index", site], f"--index={str(site)!r} holds something else: index.html"),
        (["--radius", 257], "radius must be at most 256, got 257"),
        (["--background", "no"], "background must be a colour"),
    ):
        result = run(photos, *arguments)
        assert result.exit_code == 1
        assert result.stderr.startswith("fasthash: ")
        assert message in result.stderr
        assert len(result.stderr.splitlines()) == 1
    for wrong in (5, b"state"):
        with pytest.raises(TypeError, match=f"^state must be a path, got {wrong}"):
            find(photos, state=wrong)
    assert not (tmp_path / "report").exists()
    assert os.listdir(tmp_path / "taken") == ["index.html"]
    assert (tmp_path / "site/index.html").read_text() == "a page of another program"


def test_a_state_of_several_folders_may_become_one_of_a_single_folder(tmp_path):
    """It holds a folder for each of the several, and then a card beside them."""
    folders = [write_all(tmp_path / name, [1, 2]) for name in ("a", "b")]
    find(folders, state=tmp_path / "state")
    for n_hashed in (2, 0):
        assert find(folders[0], state=tmp_path / "state").n_hashed == n_hashed


def test_places_without_permission_are_told_before_photos_are_hashed(run, tmp_path, no_hashing, monkeypatch):
    """For root, too: the file system says no."""
    photos = write_all(tmp_path / "photos", [1, 2])

    monkeypatch.setattr("fasthash._durable.os.access", lambda path, mode: not mode & os.W_OK)
    result = run(photos)
    assert result.exit_code == 1
    assert "output=" in result.stderr
    assert f"cannot be written: {str(tmp_path)!r} does not allow it" in result.stderr
    with pytest.raises(PermissionError, match=r"^state='.*' cannot be written"):
        find(photos, state=tmp_path / "state")


# What the command says


@pytest.mark.parametrize(
    ("seeds", "lines"),
    [
        ([1], ["1 photo, 1 of them hashed now, 0 files skipped, 0 other files passed over", "0 groups"]),
        ([1, 1], ["2 photos, 2 of them hashed now, 0", "1 group of near-duplicates, 2 photos in them; open "]),
        ([1, 1, 2, 2], ["4 photos, ", "2 groups of near-duplicates, 4 photos in them; open "]),
    ],
)
def test_numbers_and_their_nouns_agree(run, tmp_path, seeds, lines):
    (tmp_path / "photos").mkdir()
    result = run(write_all(tmp_path / "photos", seeds))
    assert all(found.startswith(line) for found, line in zip(result.stdout.splitlines(), lines, strict=True))
    page = (tmp_path / "report" / "index.html").read_text()
    assert f"{len(seeds)} photo{'s' * (len(seeds) != 1)} in " in page


def test_bars_are_drawn_on_terminals_alone(run, tmp_path, monkeypatch):
    photos = write_all(tmp_path / "photos", [1, 2])
    assert run(photos).stderr == ""
    monkeypatch.setattr("fasthash._hashed_files.is_watched", lambda: True)
    assert "hash: 100%" in run(photos).stderr


def test_the_background_of_the_command(run, tmp_path):
    for name, box in (("a", (10, 10, 30, 30)), ("b", (10, 10, 60, 20))):
        image = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
        image.paste((255, 255, 255, 255), box)
        (tmp_path / "photos").mkdir(exist_ok=True)
        image.save(tmp_path / "photos" / f"{name}.png")
    assert "2 files skipped" in run(tmp_path / "photos").stdout
    assert "2 photos, 2 of them hashed now, 0 files skipped" in run(tmp_path / "photos", "--background", "black").stdout


def test_a_state_that_is_damaged_is_told_before_photos_are_hashed(tmp_path, monkeypatch):
    photos, state = write_all(tmp_path / "photos", [1, 2]), tmp_path / "state"
    find(photos, state=state)
    card = json.loads((state / "card.json").read_text())
    del card["sha256"]
    card["background"] = "white"
    (state / "card.json").write_text(json.dumps(card | {"sha256": _saved_folder._checksum_of(card)}))
    with pytest.raises(fh.FormatError, match="background must be #rrggbb, got 'white'"):
        find(photos, state=state)
