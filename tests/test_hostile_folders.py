"""No saved folder, whatever is in it, raises anything but `FormatError`: what loads works."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

import fasthash as fh
import hostile_folders
from fasthash import _saved_folder


@pytest.fixture(scope="module")
def report():
    with hostile_folders.work_folder() as work:
        return hostile_folders.run(Path(work), every=41, without=["encoder"])


def test_every_folder_is_refused_or_works(report):
    assert report["failures"] == []
    assert report["n"] >= 200


def test_some_changed_folders_are_valid(report):
    """Else the checks behind the first one would not be reached."""
    assert 0 < sum(report["accepted"].values()) < report["n"] / 2


# What was found once, each by itself


def saved(folder, n=12, dtype="float32"):
    index = fh.RescoringIndex(20, dtype=dtype)
    index.add(np.random.default_rng(0).standard_normal((n, 20)))
    index.save(folder)


def forge(folder, vectors=None, **fields):
    """Change fields of a card and the file of vectors, and make the checksums right."""
    content = hostile_folders.Saved.read(folder)
    content.card.update(fields)
    if vectors is not None:
        (name,) = (name for name in content.files if name.startswith("vectors"))
        content.files[name] = vectors
    content.write(folder, seal=True)


def refused(folder, message):
    for mmap in (True, False):
        with pytest.raises(fh.FormatError, match=message):
            fh.RescoringIndex.load(folder, mmap)
    assert fh.RescoringIndex.verify(folder)


def test_a_card_of_no_embeddings_beside_a_huge_array(tmp_path):
    saved(tmp_path, n=0)
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (8589934592, 20), }"
    forge(tmp_path, hostile_folders.npy_header(header))
    refused(tmp_path, r"holds float32 of shape \(8589934592, 20\) in 0 bytes, expected float32 of shape \(0, 20\)")


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.full((12, 20), np.nan, np.float32), "vectors that are not finite"),
        (np.full((12, 20), np.inf, np.float32), "vectors that are not finite"),
        (np.zeros((12, 20), np.float32), "vectors whose length is not 1"),
        (np.full((12, 20), 0.5, np.float32), "vectors whose length is not 1"),
        (np.full((12, 20), 20**-0.5, np.float32), "vectors of other codes"),
        (np.full((12, 20), 20**-0.5, np.float16), "expected float32"),
        (np.asfortranarray(np.full((12, 20), 1, np.float32)), "does not begin as a file of numpy.save"),
    ],
)
def test_vectors_that_no_index_keeps(vectors, message, tmp_path):
    saved(tmp_path)
    forge(tmp_path, hostile_folders.npy(vectors))
    refused(tmp_path, message)


def test_a_vector_that_only_a_search_meets(tmp_path):
    """With mmap=True not every row is looked at."""
    saved(tmp_path, n=1000)
    (path,) = tmp_path.glob("vectors-*")
    vectors = np.load(path)
    vectors[502] = np.nan
    forge(tmp_path, hostile_folders.npy(vectors))
    looked_at = np.arange(256) * 999 // 255
    assert 502 not in looked_at
    index = fh.RescoringIndex.load(tmp_path)
    with pytest.raises(fh.FormatError, match=r"the vectors in the mapped file must be finite numbers"):
        index.search(np.ones((1, 20)), 1000)
    with pytest.raises(fh.FormatError, match="vectors that are not finite"):
        fh.RescoringIndex.load(tmp_path, mmap=False)
    assert "not finite" in fh.RescoringIndex.verify(tmp_path)


@pytest.mark.parametrize("center", [None, np.full(20, 0.1)], ids=["", "center"])
@pytest.mark.parametrize("ranges", [None, np.array([[-1.0] * 20, [1.0] * 20])], ids=["scales", "ranges"])
def test_vectors_of_codes_that_were_exchanged(ranges, center, tmp_path):
    """Of two indices with the same ids; every checksum is right."""
    for name, seed in (("one", 1), ("other", 2)):
        index = fh.RescoringIndex(20, dtype="int8", ranges=ranges, center=center)
        index.add(np.random.default_rng(seed).standard_normal((50, 20)))
        index.save(tmp_path / name)
    (theirs,) = (tmp_path / "other").glob("vectors-*")
    forge(tmp_path / "one", theirs.read_bytes())
    refused(tmp_path / "one", "vectors of other codes")


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        (np.nan, "vectors that are not finite"),
        (np.inf, "vectors that are not finite"),
        (-0.001, "vectors whose steps are below 0"),
        (1.0, "vectors whose length is not 1"),
    ],
)
def test_scales_that_no_index_keeps(scale, message, tmp_path):
    index = fh.RescoringIndex(20, dtype="int8")
    index.add(np.random.default_rng(1).standard_normal((50, 20)))
    index.save(tmp_path)
    (path,) = tmp_path.glob("vectors-*")
    vectors = np.load(path)
    vectors[:, :4] = np.array([scale], "<f4").view(np.int8)
    forge(tmp_path, hostile_folders.npy(vectors))
    refused(tmp_path, message)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n_dims": 10**400}, "n_dims must be at most 65536"),
        ({"ranges": [[10**400] * 20] * 2}, "ranges must be finite, got 1000"),
        ({"ranges": [[0.0] * 20] * 2}, "ranges do not fit the dtype float32"),
        ({"center": "median"}, "center must be a list, got 'median'"),
        ({"center": "mean"}, "center must be known of 12 embeddings"),
        ({"center": [0.0] * 19}, r"center must have shape \(20,\), got \(19,\)"),
        ({"center": [float("nan")] * 20}, "NaN is no number"),
        ({"center": [1e300] * 20}, "center must be at most 1e"),
        ({"center": [9.0] * 20}, "vectors of other codes"),
        ({"dtype": "int8"}, "expected int8 of shape"),
        ({"n_embeddings": 0}, r"of shape \(0, 20\)"),
        ({"n_embeddings": -1}, "n_embeddings must be at least 0, got -1"),
        ({"files": {}}, "files must be codes.fh, vectors.npy, got "),
        ({"files": None}, "AttributeError"),
        ({"class": ["RescoringIndex"]}, "it describes a"),
    ],
)
def test_cards_that_no_index_writes(fields, message, tmp_path):
    saved(tmp_path)
    card = json.loads((tmp_path / "card.json").read_text()) | fields
    del card["sha256"]
    (tmp_path / "card.json").write_text(json.dumps(card | {"sha256": _saved_folder._checksum_of(card)}))
    refused(tmp_path, message)


def test_an_entry_without_a_length(tmp_path):
    saved(tmp_path)
    card = json.loads((tmp_path / "card.json").read_text())
    del card["sha256"], card["files"]["codes.fh"]["bytes"]
    (tmp_path / "card.json").write_text(json.dumps(card | {"sha256": _saved_folder._checksum_of(card)}))
    refused(tmp_path, "of the file codes.fh it tells name, sample, sha256")


def sharded(folder, **fields):
    hostile_folders.make_shards(folder, 1)
    content = hostile_folders.Saved.read(folder)
    content.card.update(fields)
    return content


@pytest.mark.parametrize(
    ("next_id", "message"),
    [(0, "next_id must be above every id"), (-1, "next_id must be at least 0"), (59, "got 59, and an id is 59")],
)
def test_a_next_id_that_is_taken(next_id, message, tmp_path):
    sharded(tmp_path, next_id=next_id).write(tmp_path, seal=True)
    with pytest.raises(fh.FormatError, match=message):
        hostile_folders.use_shards(tmp_path)


def test_shards_that_were_exchanged(tmp_path):
    content = sharded(tmp_path)
    entries = content.card["files"]
    entries["shard-00000.fh"], entries["shard-00001.fh"] = entries["shard-00001.fh"], entries["shard-00000.fh"]
    content.write(tmp_path, seal=True)
    with pytest.raises(fh.FormatError, match=r"shard-00000\.fh holds the id \d+ of another shard"):
        hostile_folders.use_shards(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path):
    saved(tmp_path)
    (path,) = tmp_path.glob("vectors-*")
    path.unlink()
    os.mkfifo(path)
    refused(tmp_path, "is missing")
