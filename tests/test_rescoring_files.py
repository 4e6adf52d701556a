"""Folders of a RescoringIndex: saved, loaded, of earlier forms, damaged."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import fasthash as fh
from embedded import KINDS, embeddings, filled, same
from fasthash import _saved_folder


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize(("dtype", "metric"), KINDS)
def test_saved_and_loaded(dtype, metric, mmap, tmp_path):
    index = filled(dtype, metric, ids=np.arange(300)[::-1] * 2, level_bits=(8, 32), memory="compact")
    index.save(tmp_path / "index")
    loaded = fh.RescoringIndex.load(tmp_path / "index", mmap=mmap)
    assert repr(loaded) == repr(index)
    assert loaded.codes.memory == "compact"
    same(loaded.search(embeddings(9, seed=2)), index.search(embeddings(9, seed=2)))
    if mmap:
        assert loaded.nbytes < index.nbytes - 300 * 40 * np.dtype(dtype).itemsize / 2


def test_an_empty_index_is_saved(tmp_path):
    fh.RescoringIndex(40, dtype="int8").save(tmp_path / "index")
    for mmap in (True, False):
        loaded = fh.RescoringIndex.load(tmp_path / "index", mmap)
        assert (len(loaded), loaded.ranges) == (0, None)
        loaded.add(embeddings(100))


FIRST_FORM = Path(__file__).parent / "fixtures" / "embeddings1"


@pytest.mark.parametrize("name", ["int8", "int8-empty", "int8-ranges", "float16"])
@pytest.mark.parametrize("mmap", [True, False])
def test_folders_of_the_first_form(name, mmap, tmp_path):
    """Written by the last version in which int8 took ranges of the first embeddings; with the results that it gave."""
    shutil.copytree(FIRST_FORM / name, tmp_path / "index")
    expected = json.loads((FIRST_FORM / "expected.json").read_text())[name]
    index = fh.RescoringIndex.load(tmp_path / "index", mmap)
    assert fh.RescoringIndex.verify(tmp_path / "index") == ""
    assert (index.ranges is None, index.center) == (name in ("int8-empty", "float16"), None)
    for _ in range(2):
        found = index.search(np.eye(12), 3)
        np.testing.assert_array_equal(found.ids, expected["ids"])
        np.testing.assert_allclose(found.scores, np.array(expected["scores"], dtype=float), rtol=1e-6) if len(
            index
        ) else 0
        index.save(tmp_path / "index")
        index = fh.RescoringIndex.load(tmp_path / "index", mmap)
    index.add(embeddings(120, 12))
    assert len(index.search(np.eye(12), 3).ids) == 12


def test_the_file_of_vectors_is_one_of_numpy(tmp_path):
    index = filled("float16", ids=np.arange(300)[::-1].copy())
    index.save(tmp_path)
    (path,) = tmp_path.glob("vectors-*.npy")
    np.testing.assert_array_equal(np.load(path), index.reconstruct(np.arange(300)).astype(np.float16))
    same_file = path.with_suffix(".other")
    with open(same_file, "wb") as file:
        np.save(file, np.load(path))
    assert path.read_bytes() == same_file.read_bytes()


def test_an_index_is_saved_over_the_file_that_it_maps(tmp_path):
    filled().save(tmp_path)
    loaded = fh.RescoringIndex.load(tmp_path)
    other = fh.RescoringIndex.load(tmp_path)
    loaded.remove([0, 1, 2])
    loaded.save(tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
    same(other.search(embeddings(5, seed=2)), filled().search(embeddings(5, seed=2)))
    assert len(fh.RescoringIndex.load(tmp_path)) == 297


@pytest.mark.parametrize(
    ("step", "call"),
    [("_checksum", 1), ("_checksum", 2), ("flush", 1), ("flush", 2), ("flush", 3), ("os.replace", 1), ("os.fsync", 1)],
)
def test_a_save_that_fails_leaves_the_old_index(step, call, tmp_path, monkeypatch):
    filled().save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    place = os if step.startswith("os.") else _saved_folder
    name = step.removeprefix("os.")
    real, calls = getattr(place, name), []

    def fail(*arguments):
        calls.append(arguments)
        if len(calls) >= call:
            raise OSError("disk full")
        return real(*arguments)

    monkeypatch.setattr(place, name, fail)
    with pytest.raises(OSError, match="disk full"):
        filled("int8").save(tmp_path)
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    same(fh.RescoringIndex.load(tmp_path).search(embeddings(5)), filled().search(embeddings(5)))


def test_what_killed_saves_left_is_removed_and_nothing_else(tmp_path):
    for name in ("codes-0123456789abcdef.fh", "vectors-0123456789abcdef.npy", "card-0123456789abcdef.json"):
        (tmp_path / name).write_bytes(b"half")
    (tmp_path / ".tmp01aBcD").write_bytes(b"half")
    filled().save(tmp_path)
    (tmp_path / ".tmp01aBcD").unlink()
    (tmp_path / "vectors-fedcba9876543210.npy").write_bytes(b"half")
    (tmp_path / "photo-0123456789abcdef.jpg").write_bytes(b"a photo")
    (tmp_path / "codes.fh").write_bytes(b"of somebody")
    filled().save(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert [name for name in names if "0123" in name] == ["photo-0123456789abcdef.jpg"]
    assert len(names) == 5
    assert "vectors-fedcba9876543210.npy" not in names


def test_an_index_is_not_saved_among_other_files(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    (tmp_path / "codes-0123456789abcdef.fh").write_bytes(b"half")
    with pytest.raises(FileExistsError, match=r"^folder='.*' holds something else: thesis\.txt$"):
        filled().save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["codes-0123456789abcdef.fh", "thesis.txt"]


def test_other_cards_are_not_overwritten(tmp_path):
    (tmp_path / "card.json").write_text(json.dumps({"version": 1, "class": "HashEncoder"}))
    with pytest.raises(FileExistsError, match=r"holds something else: .*HashEncoder"):
        filled().save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["card.json"]


def found_only_by_verify(folder):
    """The place of a byte that the sample does not hold."""
    (path,) = folder.glob("vectors-*.npy")
    index = fh.RescoringIndex(2048, dtype="float32")
    index.add(embeddings(300, 2048))
    index.save(folder)
    (path,) = folder.glob("vectors-*.npy")
    sampled = np.zeros(path.stat().st_size, dtype=bool)
    sampled[: _saved_folder._HEAD] = True
    for i in range(_saved_folder._N_SAMPLES):
        start = (len(sampled) - _saved_folder._SAMPLE) * i // (_saved_folder._N_SAMPLES - 1)
        sampled[start : start + _saved_folder._SAMPLE] = True
    assert sampled[-1]
    return path, int(np.flatnonzero(~sampled)[1000])


def test_a_flipped_bit_between_the_samples_is_found_by_verify_and_by_reading_all(tmp_path):
    filled().save(tmp_path)
    path, place = found_only_by_verify(tmp_path)
    assert fh.RescoringIndex.verify(tmp_path) == ""
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    fh.RescoringIndex.load(tmp_path, mmap=True)
    with pytest.raises(fh.FormatError, match=r"vectors-.* is damaged, or of another save"):
        fh.RescoringIndex.load(tmp_path, mmap=False)
    assert "vectors-" in fh.RescoringIndex.verify(tmp_path)


def change_byte(path, place=-1):
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


DAMAGE = {
    "vectors cut short": lambda f, o: os.truncate(f / f.names["vectors.npy"], 1000),
    "vectors longer": lambda f, o: os.truncate(f / f.names["vectors.npy"], 1 << 20),
    "vectors of another index": lambda f, o: shutil.copy(o / o.names["vectors.npy"], f / f.names["vectors.npy"]),
    "vectors missing": lambda f, o: os.remove(f / f.names["vectors.npy"]),
    "vectors changed": lambda f, o: change_byte(f / f.names["vectors.npy"]),
    "header of vectors changed": lambda f, o: change_byte(f / f.names["vectors.npy"], 10),
    "codes of another index": lambda f, o: shutil.copy(o / o.names["codes.fh"], f / f.names["codes.fh"]),
    "codes cut short": lambda f, o: os.truncate(f / f.names["codes.fh"], 1000),
    "codes changed": lambda f, o: change_byte(f / f.names["codes.fh"]),
    "codes missing": lambda f, o: os.remove(f / f.names["codes.fh"]),
    "card changed": lambda f, o: change_byte(f / "card.json", 90),
    "card cut short": lambda f, o: os.truncate(f / "card.json", 90),
    "card empty": lambda f, o: os.truncate(f / "card.json", 0),
    "card of another index": lambda f, o: shutil.copy(o / "card.json", f / "card.json"),
    "card no object": lambda f, o: (f / "card.json").write_text("[]"),
    "card nested": lambda f, o: (f / "card.json").write_text("[" * 100_000),
}


class Saved(type(Path())):
    """A folder of a saved index, and the names of its files."""

    @property
    def names(self):
        return {name: entry["name"] for name, entry in json.loads((self / "card.json").read_text())["files"].items()}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("mmap", [True, False])
def test_damage_is_found(damage, mmap, tmp_path):
    folders = [Saved(tmp_path / name) for name in ("one", "other")]
    for seed, folder in enumerate(folders):
        index = fh.RescoringIndex(40, dtype="float32")
        index.add(embeddings(seed=seed))
        index.save(folder)
    DAMAGE[damage](*folders)
    with pytest.raises(fh.FormatError, match=r"one"):
        fh.RescoringIndex.load(folders[0], mmap=mmap)
    assert fh.RescoringIndex.verify(folders[0])
    assert fh.RescoringIndex.verify(folders[1]) == ""


def forge(folder, change):
    """Change a card and make its checksum right."""
    card = json.loads((folder / "card.json").read_text())
    del card["sha256"]
    change(card)
    (folder / "card.json").write_text(json.dumps(card | {"sha256": _saved_folder._checksum_of(card)}))


@pytest.mark.parametrize(
    "change",
    [
        lambda card: card["files"]["vectors.npy"].update(name="../elsewhere.npy"),
        lambda card: card["files"]["vectors.npy"].update(name=3),
        lambda card: card["files"].pop("codes.fh"),
        lambda card: card.update(files=[]),
        lambda card: card.update(n_dims=41),
        lambda card: card.update(n_dims="40"),
        lambda card: card.update(dtype="float16"),
        lambda card: card.update(metric="hamming"),
        lambda card: card.update(ranges=[[0.0] * 40] * 2),
        lambda card: card.update(version=2),
        lambda card: card.pop("metric"),
    ],
)
def test_forged_cards_are_refused(change, tmp_path):
    filled().save(tmp_path)
    forge(tmp_path, change)
    with pytest.raises(fh.FormatError):
        fh.RescoringIndex.load(tmp_path)
    assert fh.RescoringIndex.verify(tmp_path)


def test_a_folder_without_an_index(tmp_path):
    for call in (fh.RescoringIndex.load, fh.RescoringIndex.verify):
        with pytest.raises(FileNotFoundError, match=r"holds no saved RescoringIndex: card\.json is missing"):
            call(tmp_path)
