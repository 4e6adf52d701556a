"""Indices of faiss and ours hold the same codes under the same ids, and find the same."""

import gc
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import fasthash as fh

faiss = pytest.importorskip("faiss", reason="needs the extra faiss")

RNG = np.random.default_rng(0)
CODES = RNG.integers(0, 256, (60, 8), dtype=np.uint8)
CODES[40:50] = CODES[:10]  # some come twice
QUERIES = RNG.integers(0, 256, (9, 8), dtype=np.uint8)
COUNTED = np.arange(60)
IDS = RNG.permutation(60) * 1_000_003 - 30_000_001
IDS[:2] = -(2**63), 2**63 - 1


def trained_ivf(n_bits=64):
    index = faiss.IndexBinaryIVF(faiss.IndexBinaryFlat(n_bits), n_bits, 5)
    index.cp.min_points_per_centroid = 1
    index.train(CODES)
    index.nprobe = 5
    return index


# Of each type an empty one, and whether it takes ids.
MAKE = {
    "flat": (lambda: faiss.IndexBinaryFlat(64), False),
    "ivf": (trained_ivf, True),
    "ivf, counted": (trained_ivf, False),
    "hnsw": (lambda: faiss.IndexBinaryHNSW(64, 8), False),
    "multi-hash": (lambda: faiss.IndexBinaryMultiHash(64, 2, 8), False),
    "idmap": (lambda: faiss.IndexBinaryIDMap(faiss.IndexBinaryFlat(64)), True),
    "idmap2": (lambda: faiss.IndexBinaryIDMap2(faiss.IndexBinaryFlat(64)), True),
    "idmap of ivf": (lambda: faiss.IndexBinaryIDMap(trained_ivf()), True),
    "idmap2 of hnsw": (lambda: faiss.IndexBinaryIDMap2(faiss.IndexBinaryHNSW(64, 8)), True),
}
EXACT = [name for name in MAKE if name not in ("hnsw", "multi-hash", "idmap2 of hnsw")]


def filled(name):
    make, takes_ids = MAKE[name]
    index = make()
    if takes_ids:
        index.add_with_ids(CODES, IDS)
    else:
        index.add(CODES)
    return index, IDS if takes_ids else COUNTED


def assert_holds(index, codes, ids):
    order = np.argsort(ids)
    found_codes, found_ids = index.to_arrays()
    np.testing.assert_array_equal(found_ids, ids[order])
    np.testing.assert_array_equal(found_codes, codes[order])


def assert_finds_the_same(ours, theirs, k=20):
    """Distances are equal; ids are below the last distance, where ties may be cut otherwise."""
    distances, ids = ours.search(QUERIES, k)
    their_distances, their_ids = theirs.search(QUERIES, k)
    np.testing.assert_array_equal(distances, their_distances)
    for row in range(len(QUERIES)):
        inside = distances[row] < distances[row, -1]
        assert set(ids[row, inside]) == set(their_ids[row, inside])


@pytest.mark.parametrize("name", MAKE)
def test_all_codes_come_over(name, tmp_path):
    theirs, ids = filled(name)
    assert_holds(fh.from_faiss(theirs), CODES, ids)
    path = tmp_path / "index.faiss"
    faiss.write_index_binary(theirs, str(path))
    for form in (path, str(path), str(path).encode()):
        assert_holds(fh.from_faiss(form), CODES, ids)


@pytest.mark.parametrize("name", EXACT)
def test_searches_find_the_same(name):
    theirs, _ = filled(name)
    assert_finds_the_same(fh.from_faiss(theirs), theirs)


@pytest.mark.parametrize("name", MAKE)
def test_empty_and_untrained(name):
    index = fh.from_faiss(MAKE[name][0]())
    assert (len(index), index.n_bits) == (0, 64)
    assert len(fh.from_faiss(faiss.IndexBinaryIVF(faiss.IndexBinaryFlat(64), 64, 3))) == 0


@pytest.mark.parametrize("name", ["flat", "ivf", "idmap", "idmap2"])
def test_what_was_removed_stays_away(name):
    theirs, ids = filled(name)
    gone = np.isin(ids, ids[[0, 7, 59]])
    theirs.remove_ids(ids[gone])
    kept = np.arange(57) if name == "flat" else ids[~gone]  # faiss counts the later ids of a flat index down
    ours = fh.from_faiss(theirs)
    assert_holds(ours, CODES[~gone], kept)
    assert_finds_the_same(ours, theirs)


def test_the_index_that_comes_out():
    theirs, ids = filled("idmap2")
    assert isinstance(fh.from_faiss(theirs), fh.HierIndex)
    flat = fh.FlatIndex(64)
    assert fh.from_faiss(theirs, into=flat) is flat
    assert_holds(flat, CODES, ids)
    hier = fh.HierIndex((8, 16, 40), memory="fast")
    hier.add(QUERIES, ids=np.arange(9))
    fh.from_faiss(theirs, hier)
    assert hier.level_bits == (8, 16, 40)
    assert len(hier) == 69


@pytest.mark.parametrize("n_bits", [8, 72, 4096])
def test_any_width(n_bits):
    codes = RNG.integers(0, 256, (20, n_bits // 8), dtype=np.uint8)
    theirs = faiss.IndexBinaryFlat(n_bits)
    theirs.add(codes)
    assert_holds(fh.from_faiss(theirs), codes, np.arange(20))


def with_ids(ids):
    index = faiss.IndexBinaryIDMap(faiss.IndexBinaryFlat(64))
    index.add_with_ids(CODES[: len(ids)], np.array(ids))
    return index


def ids_out_of_step():
    index = faiss.IndexBinaryIDMap(trained_ivf())
    index.add_with_ids(CODES, IDS)
    index.remove_ids(IDS[:1])  # after which faiss finds most codes under the id of another
    return index


def shards():
    index = faiss.IndexBinaryShards(64)
    index.add_shard(faiss.IndexBinaryFlat(64))
    return index


UNREADABLE = (
    "source must be an IndexBinaryFlat, IndexBinaryIVF, IndexBinaryHNSW, IndexBinaryMultiHash, "
    "or an IndexBinaryIDMap or IDMap2 over one of them, got "
)
NO_INDEX = "source must be a binary index of faiss or the path of one, got "
BAD_IDS = "source holds ids that cannot be taken over: ids must "


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: with_ids([4, 5, 4]), ValueError, BAD_IDS + "be distinct, got 4 twice"),
        (lambda: with_ids([-1]), ValueError, BAD_IDS + "not hold -1"),
        (ids_out_of_step, ValueError, "source must have an id for each code, but the 59 ids of its IndexBinaryIDMap"),
        (lambda: faiss.IndexBinaryFlat(4104), ValueError, "source.d must be at most 4096, got 4104"),
        (lambda: faiss.IndexBinaryHash(64, 8), TypeError, UNREADABLE + "IndexBinaryHash"),
        (lambda: faiss.IndexBinaryIDMap(faiss.IndexBinaryHash(64, 8)), TypeError, UNREADABLE + "IndexBinaryHash"),
        (lambda: faiss.IndexBinaryFromFloat(faiss.IndexFlatL2(64)), TypeError, UNREADABLE + "IndexBinaryFromFloat"),
        (shards, TypeError, UNREADABLE + "IndexBinaryShards"),
        (lambda: faiss.IndexFlatL2(64), TypeError, NO_INDEX + "IndexFlatL2; fasthash.RescoringIndex searches"),
        (lambda: CODES, TypeError, NO_INDEX + "ndarray"),
        (lambda: None, TypeError, NO_INDEX + "NoneType"),
    ],
)
def test_what_cannot_be_taken_over(make, error, message):
    into = fh.FlatIndex(64)
    into.add(CODES)
    with pytest.raises(error, match="^" + re.escape(message)):
        fh.from_faiss(make())
    with pytest.raises(error):
        fh.from_faiss(make(), into)
    assert_holds(into, CODES, COUNTED)


@pytest.mark.parametrize(
    ("into", "error", "message"),
    [
        (fh.FlatIndex(72), ValueError, "into must have the 64 bits of source, got an index of 72"),
        (fh.HierIndex, TypeError, "into must be a FlatIndex, a HierIndex or None, got type"),
        (fh.FlatIndex.from_arrays(CODES), ValueError, BAD_IDS + "be new to the index"),
    ],
)
def test_indices_that_cannot_take_it(into, error, message):
    with pytest.raises(error, match="^" + re.escape(message)):
        fh.from_faiss(filled("flat")[0], into)


def test_files_that_are_none(tmp_path):
    path = tmp_path / "index.faiss"
    with pytest.raises(FileNotFoundError):
        fh.from_faiss(path)
    with pytest.raises(IsADirectoryError):
        fh.from_faiss(tmp_path)
    faiss.write_index_binary(filled("idmap2")[0], str(path))
    whole = path.read_bytes()
    faiss.write_index(faiss.IndexFlatL2(8), str(tmp_path / "float.faiss"))
    for content in (b"", b"no index at all", whole[:40], whole[:-1], (tmp_path / "float.faiss").read_bytes()):
        path.write_bytes(content)
        with pytest.raises(fh.FormatError, match="holds no binary index of faiss, or a damaged one"):
            fh.from_faiss(path)


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text")
def test_a_file_whose_name_is_no_text(tmp_path):
    path = tmp_path / "caf\udce9.faiss"
    (tmp_path / "index.faiss").touch()
    index = filled("idmap2")[0]
    faiss.write_index_binary(index, str(tmp_path / "index.faiss"))
    (tmp_path / "index.faiss").rename(path)
    for name in (path, str(path), bytes(path)):
        assert fh.from_faiss(name).to_bytes() == fh.from_faiss(index).to_bytes()
    path.write_bytes(b"no index at all")
    with pytest.raises(fh.FormatError, match="holds no binary index of faiss, or a damaged one"):
        fh.from_faiss(path)


def test_a_name_with_a_null_byte():
    with pytest.raises(ValueError, match=r"^source must not contain a null byte, got 'a\\x00b'$"):
        fh.from_faiss("a\0b")


@pytest.mark.parametrize("index", [fh.FlatIndex(64), fh.HierIndex()], ids=["flat", "hier"])
@pytest.mark.parametrize("kind", ["flat", "idmap", "idmap2", "ivf"])
def test_all_codes_go_out(index, kind, tmp_path):
    ids = COUNTED if kind == "flat" else IDS
    ours = type(index).from_arrays(CODES, ids)
    theirs = fh.to_faiss(ours, kind)
    gc.collect()  # what it is made of lives as long as it does
    name = {"flat": "Flat", "idmap": "IDMap", "idmap2": "IDMap2", "ivf": "IVF"}[kind]
    assert type(theirs) is getattr(faiss, "IndexBinary" + name)
    assert_finds_the_same(ours, theirs)
    assert_holds(fh.from_faiss(theirs), CODES, ids)
    faiss.write_index_binary(theirs, str(tmp_path / "index.faiss"))
    assert_finds_the_same(ours, faiss.read_index_binary(str(tmp_path / "index.faiss")))


def test_the_default_can_reconstruct():
    theirs = fh.to_faiss(fh.FlatIndex.from_arrays(CODES, IDS))
    np.testing.assert_array_equal(theirs.reconstruct(int(IDS[7])), CODES[7])


def test_lists_of_ivf(capfd):
    ours = fh.FlatIndex.from_arrays(CODES)
    assert fh.to_faiss(ours, "ivf").nlist == 7  # the root of 60
    theirs = fh.to_faiss(ours, "ivf", nlist=12)
    assert (theirs.nlist, theirs.nprobe) == (12, 12)
    assert capfd.readouterr().err == ""  # nor does faiss warn


@pytest.mark.parametrize("kind", ["flat", "idmap", "idmap2"])
def test_an_empty_index_goes_out(kind):
    theirs = fh.to_faiss(fh.HierIndex(), kind)
    assert (theirs.ntotal, theirs.d) == (0, 64)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            (fh.FlatIndex.from_arrays(CODES, IDS), "flat"),
            ValueError,
            "index must have the ids 0 .. n-1 for kind='flat'",
        ),
        ((fh.FlatIndex(64), "ivf"), ValueError, "index must hold a code to train kind='ivf' with, got an empty one"),
        ((fh.FlatIndex.from_arrays(CODES), "ivf", 0), ValueError, "nlist must be at least 1, got 0"),
        ((fh.FlatIndex.from_arrays(CODES), "ivf", 61), ValueError, "nlist must be at most 60, got 61"),
        ((fh.FlatIndex.from_arrays(CODES), "ivf", 2.5), TypeError, "nlist must be an integer, got 2.5"),
        ((fh.FlatIndex(64), "idmap", 3), ValueError, "nlist must be None for kind='idmap', which has no lists, got 3"),
        ((fh.FlatIndex(64), "hnsw"), ValueError, "kind must be one of 'flat', 'idmap', 'idmap2', 'ivf', got 'hnsw'"),
        ((CODES,), TypeError, "index must be a FlatIndex or HierIndex, got ndarray"),
    ],
)
def test_what_cannot_go_out(arguments, error, message):
    with pytest.raises(error, match="^" + re.escape(message)):
        fh.to_faiss(*arguments)


def test_without_faiss_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    for call in (lambda: fh.from_faiss(Path("any")), lambda: fh.to_faiss(fh.FlatIndex(8))):
        with pytest.raises(fh.MissingExtraError, match=r"'faiss'.*fasthash-search\[faiss\]"):
            call()
