"""Saving and loading: the same answers afterwards, and an error for every file that is not what save wrote."""

import copy
import multiprocessing
import os
import pickle
import stat
import struct

import numpy as np
import pytest
import xxhash

import fasthash as fh
import file_reference as ref
from fasthash import _core
from galleries import clustered, duplicated, uniform

FORK = multiprocessing.get_context("fork")


def flat():
    return fh.FlatIndex.from_arrays(clustered(np.random.default_rng(0), 100, 8))


def flat_with_ids():
    rng = np.random.default_rng(0)
    return fh.FlatIndex.from_arrays(clustered(rng, 100, 8), rng.permutation(1000)[:100])


def hier():
    rng = np.random.default_rng(0)
    codes = np.concatenate([clustered(rng, 90, 8), np.zeros((10, 8), np.uint8)])
    return fh.HierIndex.from_arrays(codes, rng.permutation(1000)[:100], level_bits=(8, 16, 40))


def distinct():
    rng = np.random.default_rng(0)
    ids = rng.integers(-(2**63), 2**63 - 1, 100)
    return fh.HierIndex.from_arrays(uniform(rng, 100, 8), ids, level_bits=(8, 16, 40), memory="compact")


def in_pieces(index):
    """Several segments, some codes of which are gone."""
    rng = np.random.default_rng(0)
    codes = clustered(rng, 5500, 8)
    ids = rng.permutation(20_000)[:5500] - 7000
    ids[ids == -1] = 30_000
    for begin, end in ((0, 5000), (5000, 5100), (5100, 5150), (5150, 5400)):
        index.add(codes[begin:end], ids[begin:end])
        index.remove(ids[begin : begin + (end - begin) // 20])
    index.update(ids[4000:4010], codes[5400:5410])
    assert index.stats()["n_segments"] > 1
    assert index.stats()["n_removed"] > 0
    return index


def flat_in_pieces():
    return in_pieces(fh.FlatIndex(64))


def hier_in_pieces():
    return in_pieces(fh.HierIndex())


def clusters():
    rng = np.random.default_rng(0)
    codes = np.concatenate([clustered(rng, 90, 8), np.zeros((10, 8), np.uint8)])
    return fh.HierIndex.from_arrays(codes, rng.permutation(1000)[:100], level_bits=(8, 16, 40), plan="clusters")


def clusters_in_pieces():
    return in_pieces(fh.HierIndex(plan="clusters"))


CASES = [flat, flat_with_ids, hier, distinct, clusters, flat_in_pieces, hier_in_pieces, clusters_in_pieces]


@pytest.fixture(params=CASES, ids=lambda case: case.__name__)
def index(request):
    return request.param()


@pytest.fixture
def saved(index, tmp_path):
    index.save(tmp_path / "index.fh")
    return tmp_path / "index.fh"


def load_mapped(path):
    return fh.load(path, mmap=True)


def assert_same_index(a, b):
    queries = np.random.default_rng(1).integers(0, 256, (5, a.n_bits // 8), dtype=np.uint8)
    assert type(a) is type(b)
    assert a.level_bits == b.level_bits
    assert len(a) == len(b)
    for x, y in zip(a.to_arrays(), b.to_arrays(), strict=True):
        np.testing.assert_array_equal(x, y)
    for x, y in zip(a.search(queries, len(a) + 1), b.search(queries, len(a) + 1), strict=True):
        np.testing.assert_array_equal(x, y)
    assert a.to_bytes() == b.to_bytes()


# ---- round trips ----

WAYS = {
    "load": lambda index, path: fh.load(path),
    "mapped": lambda index, path: load_mapped(path),
    "from_bytes": lambda index, path: type(index).from_bytes(path.read_bytes()),
    "bytearray": lambda index, path: type(index).from_bytes(bytearray(index.to_bytes())),
    "memoryview": lambda index, path: type(index).from_bytes(memoryview(index.to_bytes())),
    "pickle": lambda index, path: pickle.loads(pickle.dumps(index)),
    "oldest pickle": lambda index, path: pickle.loads(pickle.dumps(index, protocol=0)),
    "copy": lambda index, path: copy.copy(index),
    "deepcopy": lambda index, path: copy.deepcopy(index),
    "own copy": lambda index, path: index.copy(),
    "saved again": lambda index, path: save_and_load(fh.load(path), path),
    "mapped, saved over itself": lambda index, path: save_and_load(load_mapped(path), path),
}


def save_and_load(index, path):
    index.save(path)
    return fh.load(path)


@pytest.fixture(params=WAYS.values(), ids=WAYS)
def again(request, index, saved):
    """The index once more, by way of a file, of bytes, or as a copy."""
    return request.param(index, saved)


def test_what_comes_back_is_what_was_saved(index, again):
    assert_same_index(again, index)


def test_what_comes_back_has_a_life_of_its_own(index, again):
    before = index.to_bytes()
    ids = index.to_arrays()[1]
    again.remove(ids[::7])
    again.update(ids[1::7], np.ones((len(ids[1::7]), 8), np.uint8))
    again.add(np.zeros((3, 8), np.uint8), np.array([-(2**62), 2**61, 2**61 + 5]))
    assert index.to_bytes() == before
    for change in (
        lambda index: index.remove(ids[::7]),
        lambda index: index.update(ids[1::7], np.ones((len(ids[1::7]), 8), np.uint8)),
        lambda index: index.add(np.zeros((3, 8), np.uint8), np.array([-(2**62), 2**61, 2**61 + 5])),
    ):
        change(index)
    for x, y in zip(again.to_arrays(), index.to_arrays(), strict=True):
        np.testing.assert_array_equal(x, y)


def test_the_file_holds_the_bytes(index, saved):
    assert saved.read_bytes() == index.to_bytes()


@pytest.mark.parametrize("case", [flat, flat_with_ids, hier], ids=lambda case: case.__name__)
@pytest.mark.parametrize("way", WAYS)
def test_ids_go_on_where_they_stopped(case, way, tmp_path):
    """Also after those that were removed, and in an index that has none left."""
    index = case()
    largest = int(index.to_arrays()[1].max())
    for removed in ([largest], index.to_arrays()[1][:-1]):
        index.remove(np.array(removed))
        index.save(tmp_path / "index.fh")
        again = WAYS[way](index, tmp_path / "index.fh")
        again.add(np.zeros((1, 8), np.uint8))
        assert again.to_arrays()[1][-1] == largest + 1
    assert len(index) == 0


@pytest.mark.parametrize("way", WAYS)
def test_no_id_is_left_to_count_on(way, tmp_path):
    index = fh.FlatIndex.from_arrays(np.zeros((1, 8), np.uint8), np.array([2**63 - 1]))
    index.save(tmp_path / "index.fh")
    again = WAYS[way](index, tmp_path / "index.fh")
    with pytest.raises(ValueError, match="leaves the range of int64"):
        again.add(np.zeros((1, 8), np.uint8))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("memory", ref.MEMORIES)
@pytest.mark.parametrize("plan", ref.PLANS)
def test_settings_come_back(way, memory, plan, tmp_path):
    rng = np.random.default_rng(0)
    for codes in (uniform(rng, 0, 8), uniform(rng, 3000, 8)):
        index = fh.HierIndex.from_arrays(codes, memory=memory, plan=plan)
        index.save(tmp_path / "index.fh")
        again = WAYS[way](index, tmp_path / "index.fh")
        assert again.memory == memory
        assert again._impl.forced_plan == index._impl.forced_plan
        if way != "mapped":
            assert again.stats() == index.stats()
        again.add(uniform(rng, 3000, 8))
        again.compact()
        if plan != "auto":
            assert again.stats()["plan"] == plan


@pytest.mark.parametrize("level_bits", [None, (8,), (8,) * 512], ids=["flat", "one level", "512 levels"])
@pytest.mark.parametrize("n", [0, 1, 63, 64, 65])
def test_few_codes_and_many_levels(level_bits, n, tmp_path):
    index = fh.FlatIndex(4096) if level_bits is None else fh.HierIndex(level_bits)
    index.add(uniform(np.random.default_rng(0), n, index.n_bits // 8))
    for way in WAYS.values():
        index.save(tmp_path / "index.fh")
        assert_same_index(way(index, tmp_path / "index.fh"), index)


def test_large_sections(tmp_path):
    """More than one buffer of codes, runs and ids, and a last piece that is not full."""
    rng = np.random.default_rng(2)
    codes = np.concatenate([clustered(rng, 250_000, 8), uniform(rng, 50_001, 8)])
    for index in (fh.HierIndex((8, 16, 40)), fh.FlatIndex(64)):
        index.add(codes, rng.permutation(len(codes)))
        index.save(tmp_path / "large.fh")
        assert (tmp_path / "large.fh").read_bytes() == index.to_bytes()
        for load in (fh.load, load_mapped):
            loaded = load(tmp_path / "large.fh")
            for x, y in zip(loaded.search(codes[::50_000] ^ 1), index.search(codes[::50_000] ^ 1), strict=True):
                np.testing.assert_array_equal(x, y)
            assert loaded.to_bytes() == index.to_bytes()


def test_equal_contents_give_equal_files():
    """A hierarchical index does not tell how its codes came; a flat one keeps them as they came."""
    rng = np.random.default_rng(3)
    codes, ids = clustered(rng, 6000, 8), rng.permutation(6000)
    for cls in (fh.FlatIndex, fh.HierIndex):
        at_once, by_pieces = cls.from_arrays(codes, ids), cls.from_arrays(codes[:1], ids[:1])
        for begin in range(1, 6000, 271):
            by_pieces.add(codes[begin : begin + 271], ids[begin : begin + 271])
        assert at_once.to_bytes() == by_pieces.to_bytes()
    backwards = fh.HierIndex.from_arrays(codes[::-1], ids[::-1])
    assert backwards.to_bytes() == fh.HierIndex.from_arrays(codes, ids).to_bytes()


# ---- the bytes ----


def test_the_bytes_are_those_of_the_document(index, saved):
    """Read and written a second time, in numpy."""
    data = saved.read_bytes()
    contents = ref.read(data)
    for x, y in zip(contents.by_id(), index.to_arrays(), strict=True):
        np.testing.assert_array_equal(x, y)
    assert contents.level_bits == index.level_bits
    assert contents.next_id == index._impl.next_id()
    assert ref.write(contents) == data


def test_the_header_is_as_documented(index, saved):
    data = saved.read_bytes()
    header = ref.Header._make(struct.unpack("<8sHHIBBHBBHQQQqQ48sBBB2sBBBQ", data[:128]))
    codes, ids = index.to_arrays()
    is_hier = isinstance(index, fh.HierIndex)
    plan = index.stats()["plan"] if is_hier else None
    in_clusters = plan == "clusters"
    minor = {"clusters": 2, "scan": 4 if len(index) > 1024 else 0}.get(plan, 0)
    assert header[:4] == (b"FASTHASH", 1, minor, 128)
    assert (header.n_clusters > 0, header.id_map, header.metric, header.padding) == (in_clusters, 0, 0, 0)
    assert header.rest == bytes(2)
    assert (header.kind, header.n_levels) == ((2, 3) if is_hier else (1, 1))
    assert header.memory == (ref.MEMORIES.index(index.memory) if is_hier else 0)
    assert header.plan == (4 if in_clusters else 0)
    _, counts = np.unique(codes, axis=0, return_counts=True)
    assert header.n_codes == len(ids)
    assert (header.n_rows, header.n_runs) == ((len(counts), (counts > 1).sum()) if is_hier else (len(ids), 0))
    assert header.first_id == ids.min()
    assert header.next_id == max(ids.max() + 1, 0)
    assert header.header_sum == xxhash.xxh64_intdigest(data[:120])
    assert struct.unpack(f"<{header.n_levels}H", data[128 : 128 + 2 * header.n_levels]) == index.level_bits


@pytest.mark.parametrize("plan", ["scan", "prefix", "multi-index", "clusters"])
def test_a_file_for_mapping_is_as_documented(tmp_path, plan):
    """With id map, summary, and the tables of its plan: as a store writes it. Mapped, it keeps the plan."""
    rng = np.random.default_rng(0)
    codes = np.concatenate([uniform(rng, 3000, 8), duplicated(rng, 500, 8)])
    index = fh.HierIndex((16, 48), plan=plan)
    for part in (slice(0, 1500), slice(1500, 3500)):
        index.add(codes[part], ids=np.arange(3500)[::-1][part] * 3 - 20_000)
    data = index._impl.to_bytes(True, True)
    assert ref.write(ref.read(data)) == data
    (tmp_path / "mapped.fh").write_bytes(data)
    assert fh.verify(tmp_path / "mapped.fh").fault == ""
    for check in (True, False):
        mapped = fh.HierIndex._of(_core.load(bytes(tmp_path / "mapped.fh"), True, check))
        assert mapped.stats()["plan"] == index.stats()["plan"] == plan
        for k in (1, 10, 3500):
            for ours, theirs in zip(mapped.search(codes[:20] ^ 1, k), index.search(codes[:20] ^ 1, k), strict=True):
                np.testing.assert_array_equal(ours, theirs)


def test_codes_that_are_scanned_are_mapped_in_place(tmp_path):
    """Whatever its history, an index of uniform codes is written for a scan; searches of the mapped file agree."""
    rng = np.random.default_rng(1)
    codes, queries = uniform(rng, 3000, 8), uniform(rng, 20, 8)
    whole, pieces = fh.HierIndex(64), fh.HierIndex(64)
    whole.add(codes)
    pieces.add(np.concatenate([codes[:2000], queries]), ids=np.concatenate([np.arange(2000), np.arange(9000, 9020)]))
    pieces.remove(np.arange(9000, 9020))
    pieces.add(codes[2000:], ids=np.arange(2000, 3000))
    pieces.save(tmp_path / "pieces.fh")
    assert ref.read((tmp_path / "pieces.fh").read_bytes()).summary == ref.Summary(0)
    for mmap in (False, True):
        loaded = fh.load(tmp_path / "pieces.fh", mmap=mmap)
        assert loaded.stats()["plan"] == "scan"
        for k in (1, 10, 3000):
            for ours, theirs in zip(loaded.search(queries, k), whole.search(queries, k), strict=True):
                np.testing.assert_array_equal(ours, theirs)
        for _ in range(20):  # the first build tables for small radii
            np.testing.assert_array_equal(loaded.count_within(codes, 9), whole.count_within(codes, 9))
        np.testing.assert_array_equal(loaded.search(queries, 5, keep=0.5).ids, whole.search(queries, 5, keep=0.5).ids)
    copy = whole.copy()
    copy.remove([17])
    loaded.remove([17])
    assert loaded.to_bytes()[128:] == copy.to_bytes()[128:]  # next_id differs


def test_a_flat_file_byte_by_byte():
    """Two codes with the ids 5 and 3: everything of the document once, by hand."""
    index = fh.FlatIndex.from_arrays(np.array([[0xA1, 0xB1], [0xA2, 0xB2]], np.uint8), np.array([5, 3]))
    levels = struct.pack("<H", 16)
    codes = bytes([0xA1, 0xA2]) + bytes(62) + bytes([0xB1, 0xB2]) + bytes(62)
    ids = bytes([2, 0]) + bytes(8)
    sums = [xxhash.xxh64_digest(section)[::-1] for section in (levels, codes, b"", ids)]
    header = (
        b"FASTHASH\1\0\0\0\x80\0\0\0"
        + bytes([1, 1, 1, 0, 0, 0, 0, 0])
        + struct.pack("<QQQqQ", 2, 2, 0, 3, 6)
        + b"".join(sums)
        + bytes(24)
    )
    header += xxhash.xxh64_digest(header)[::-1]
    assert index.to_bytes() == header + levels + bytes(62) + codes + ids


def test_a_hierarchical_file_byte_by_byte():
    """Four codes, one of them three times, with ids from -2 on."""
    codes = np.array([[7, 7], [1, 2], [7, 7], [9, 0], [7, 7], [1, 3]], np.uint8)
    index = fh.HierIndex.from_arrays(codes, np.array([300, 4, -2, 0, 1, 2]), level_bits=(8, 8), plan="prefix")
    levels = struct.pack("<HH", 8, 8)
    rows = bytes([1, 2, 1, 3, 7, 7, 9, 0])
    runs = struct.pack("<QI", 0b0100, 2)
    ids = struct.pack("<6H", 6, 4, 0, 3, 302, 2) + bytes(8)
    sums = [xxhash.xxh64_digest(section)[::-1] for section in (levels, rows, runs, ids)]
    header = (
        b"FASTHASH\1\0\0\0\x80\0\0\0"
        + bytes([2, 2, 2, 0, 0, 2, 0, 0])
        + struct.pack("<QQQqQ", 6, 4, 1, -2, 301)
        + b"".join(sums)
        + bytes(24)
    )
    header += xxhash.xxh64_digest(header)[::-1]
    padded = [section.ljust(ref.aligned(len(section)), b"\0") for section in (header + levels, rows, runs)]
    assert index.to_bytes() == b"".join(padded) + ids


# ---- files that are mapped ----


def test_a_mapped_index_leaves_codes_and_ids_in_the_file(tmp_path):
    codes = clustered(np.random.default_rng(4), 50_000, 16)
    for index in (fh.FlatIndex.from_arrays(codes), fh.HierIndex.from_arrays(codes, level_bits=(128,))):
        index.save(tmp_path / "index.fh")
        mapped = load_mapped(tmp_path / "index.fh")
        assert mapped.stats()["mapped_bytes"] == (tmp_path / "index.fh").stat().st_size
        assert mapped.nbytes < 0.5 * (tmp_path / "index.fh").stat().st_size
        assert index.stats()["mapped_bytes"] == fh.load(tmp_path / "index.fh").stats()["mapped_bytes"] == 0


def test_a_mapped_file_may_be_replaced(index, saved):
    """By a save, by another index, or by nothing."""
    mapped = load_mapped(saved)
    fh.FlatIndex(8).save(saved)
    assert_same_index(mapped, index)
    mapped.save(saved)
    assert_same_index(fh.load(saved), index)
    mapped = load_mapped(saved)
    saved.unlink()
    assert_same_index(mapped, index)


def test_a_mapped_index_may_be_changed_and_saved_over_its_file(index, saved):
    ids = index.to_arrays()[1]
    changes = [
        lambda index: index.add(np.ones((5, 8), np.uint8)),
        lambda index: index.remove(ids[:3]),
        lambda index: index.update(ids[10:15], np.zeros((5, 8), np.uint8)),
        lambda index: index.add(uniform(np.random.default_rng(5), 500, 8)),
        lambda index: index.remove(ids[20:]),
        lambda index: index.compact(),
    ]
    mapped = load_mapped(saved)
    for change in changes:
        before = saved.read_bytes()
        change(mapped)
        change(index)
        assert saved.read_bytes() == before
        assert_same_index(mapped, index)
        mapped.save(saved)
        assert_same_index(mapped, index)
        assert_same_index(load_mapped(saved), index)
    assert mapped.stats()["mapped_bytes"] == 0


def test_a_file_may_be_replaced_while_another_process_maps_it(index, saved):
    other = fh.FlatIndex.from_arrays(uniform(np.random.default_rng(6), 40, 8))
    mapped, replaced = FORK.Event(), FORK.Event()

    def map_it():
        old = load_mapped(saved)
        mapped.set()
        assert replaced.wait(60)
        assert_same_index(old, index)
        assert_same_index(load_mapped(saved), other)
        index.save(saved)
        assert_same_index(old, index)

    process = FORK.Process(target=map_it)
    process.start()
    assert mapped.wait(60)
    other.save(saved)
    here = load_mapped(saved)
    replaced.set()
    process.join(60)
    assert process.exitcode == 0
    assert_same_index(here, other)
    assert_same_index(load_mapped(saved), index)


# ---- what a file says about itself ----


def test_peek(index, saved):
    info = fh.peek(saved)
    assert info == fh.FileInfo(
        kind="hier" if isinstance(index, fh.HierIndex) else "flat",
        level_bits=index.level_bits,
        n_codes=len(index),
        has_ids=saved.read_bytes()[17] > 0,
        format_version=f"1.{saved.read_bytes()[10]}",
        file_bytes=saved.stat().st_size,
        memory=index.memory if isinstance(index, fh.HierIndex) else None,
        n_clusters=int.from_bytes(saved.read_bytes()[22:24], "little"),
    )
    assert info.n_bits == 64


def test_counted_ids_take_no_room(tmp_path):
    codes = uniform(np.random.default_rng(0), 100, 8)
    for first in (0, 17, -(2**63), 2**63 - 100):
        fh.FlatIndex.from_arrays(codes, first + np.arange(100)).save(tmp_path / "counted.fh")
        assert not fh.peek(tmp_path / "counted.fh").has_ids
        np.testing.assert_array_equal(fh.load(tmp_path / "counted.fh").to_arrays()[1], first + np.arange(100))
    for ids in (np.arange(100)[::-1], np.arange(0, 200, 2), np.roll(np.arange(100), 1)):
        fh.FlatIndex.from_arrays(codes, np.ascontiguousarray(ids)).save(tmp_path / "given.fh")
        assert fh.peek(tmp_path / "given.fh").has_ids


def test_verify_finds_nothing_wrong(index, saved):
    report = fh.verify(saved)
    assert report.fault == ""
    assert report.info == fh.peek(saved)
    data = saved.read_bytes()
    header, sections = ref.split(data)
    ranges = ref.section_ranges([len(section) for section in sections])
    assert [(part.name, part.offset, part.n_bytes) for part in report.sections] == [
        (name, begin, end - begin) for name, (begin, end) in zip(ref.SECTIONS, ranges, strict=False)
    ]
    assert len(report.sections) == header.n_sections
    sums = struct.unpack("<6Q", header.sums)
    assert [part.checksum for part in report.sections] == list(sums[: header.n_sections])
    assert all(part.intact for part in report.sections)


@pytest.mark.parametrize("index", [hier], indirect=True, ids=["hier"])
@pytest.mark.parametrize("broken", ["codes", "runs", "ids"])
def test_verify_names_the_broken_section(saved, broken):
    part = next(part for part in fh.verify(saved).sections if part.name == broken)
    data = bytearray(saved.read_bytes())
    data[part.offset + part.n_bytes // 2] ^= 1
    saved.write_bytes(data)
    report = fh.verify(saved)
    assert [part.name for part in report.sections if not part.intact] == [broken]
    assert report.fault != ""
    assert str(saved) not in report.fault
    with pytest.raises(fh.FormatError, match=r"index\.fh: "):
        fh.load(saved)


@pytest.mark.parametrize("index", [hier], indirect=True, ids=["hier"])
def test_verify_tells_what_no_checksum_does(saved):
    header, (levels, codes, runs, ids) = ref.split(saved.read_bytes())
    saved.write_bytes(ref.assemble(header, [levels, codes[-8:] + codes[8:], runs, ids]))
    report = fh.verify(saved)
    assert all(part.intact for part in report.sections)
    assert report.fault == "codes are out of order at row 1"


def test_verify_needs_a_header_and_levels(index, saved):
    data = saved.read_bytes()
    broken = [data[:at] + b"\xff" + data[at + 1 :] for at in (0, 60, 119, 128)]
    for changed in (*broken, data[:100], data[:-1]):
        saved.write_bytes(changed)
        for check in (fh.verify, fh.peek, fh.load):
            with pytest.raises(fh.FormatError, match=r"index\.fh: "):
                check(saved)


# ---- files that are refused, and what is said of them ----


def change(path, *, levels=None, codes=None, runs=None, ids=None, clusters=None, map=None, **fields):
    """Change a saved index and repair all checksums, so that the checks behind them are reached."""
    header, sections = ref.split(path.read_bytes())
    given = (levels, codes, runs, ids, clusters, map)[: len(sections)]
    sections = [old if new is None else new + old[len(new) :] for old, new in zip(sections, given, strict=True)]
    data = ref.assemble(header, sections)
    header = ref.Header._make(ref.HEADER.unpack_from(data))._replace(**fields)
    data = ref.HEADER.pack(*header) + data[128:]
    path.write_bytes(data[:120] + struct.pack("<Q", xxhash.xxh64_intdigest(data[:120])) + data[128:])


@pytest.mark.parametrize("index", [hier], indirect=True, ids=["hier"])
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"magic": b"NOTAHASH"}, "does not begin with 'FASTHASH'"),
        ({"major": 2, "minor": 1}, r"written by a newer fasthash \(format 2\.1\), this one reads format 1\.4"),
        ({"major": 0}, "written by a foreign fasthash"),
        ({"minor": 5}, r"written by a newer fasthash \(format 1\.5\)"),
        ({"minor": 4}, "minor version 4 does not agree with what the file holds"),
        ({"minor": 3}, "minor version 3 does not agree with what the file holds"),
        ({"padding": 1}, "minor version 0 does not agree with what the file holds"),
        ({"padding": 1, "minor": 3}, "levels do not agree with the bits that pad a code"),
        ({"minor": 1}, "minor version 1 does not agree with what the file holds"),
        ({"minor": 2}, "minor version 2 does not agree with what the file holds"),
        ({"size": 64}, "fields that format 1 does not have"),
        ({"n_clusters": 1}, "minor version 0 does not agree with what the file holds"),
        ({"n_clusters": 1, "minor": 2}, "its header describes"),
        ({"n_clusters": 99, "minor": 2}, "number of clusters 99 does not agree"),
        ({"n_clusters": 1, "plan": 2, "minor": 2}, "number of clusters 1 does not agree"),
        ({"id_map": 1}, "minor version 0 does not agree with what the file holds"),
        ({"id_map": 1, "minor": 2}, "its header describes"),
        ({"id_map": 2, "minor": 2}, "id map 2 is unknown, or maps no ids"),
        ({"sums": bytes(40) + b"\1" * 8}, "fields that format 1 does not have"),
        ({"rest": b"\1" + bytes(1)}, "fields that format 1 does not have"),
        ({"metric": 1}, "minor version 0 does not agree with what the file holds"),
        ({"metric": 1, "minor": 3}, "number of levels 3 is out of range"),
        ({"metric": 2, "minor": 3}, "metric 2 is unknown"),
        ({"kind": 3}, "kind of index 3 is unknown"),
        ({"kind": 1}, "number of levels 3 is out of range"),
        ({"kind": 1, "n_levels": 1}, "number of rows .* does not agree with the number of codes"),
        ({"memory": 3}, "memory setting 3 is unknown"),
        ({"plan": 5}, "plan 5 is unknown"),
        ({"plan": 4}, "minor version 0 does not agree with what the file holds"),
        ({"id_bytes": 9}, "bytes of an id 9 are out of range"),
        ({"id_bytes": 0}, "bytes of an id 0 are out of range"),
        ({"id_bytes": 3}, "its header describes"),
        ({"n_levels": 0}, "number of levels 0 is out of range"),
        ({"n_levels": 513}, "number of levels 513 is out of range"),
        ({"n_levels": 512}, "checksum of the section 'levels' does not match"),
        ({"n_codes": 2**32}, "number of codes 4294967296 is out of range"),
        ({"n_codes": 2**32 - 1}, "its header describes"),
        ({"n_codes": 99}, "its header describes"),
        ({"n_codes": 0}, "number of rows .* does not agree with the number of codes"),
        ({"n_rows": 101}, "number of rows 101 does not agree with the number of codes"),
        ({"n_rows": 100}, "number of runs .* does not agree with the numbers of codes and rows"),
        ({"n_runs": 0}, "number of runs 0 does not agree with the numbers of codes and rows"),
        ({"n_runs": 50}, "number of runs 50 does not agree"),
        ({"next_id": 2**63 + 1}, "next id 9223372036854775809 is out of range"),
        ({"next_id": 10}, "next id 10 is not above the id "),
        ({"first_id": 2**63 - 5}, "ids leave the range of int64"),
        ({"levels": struct.pack("<HHH", 8, 15, 40)}, r"multiples of 8, except for the last, got \(8, 15, 40\)"),
        ({"levels": struct.pack("<HHH", 8, 16, 4096)}, "sum to at most 4096"),
        ({"levels": struct.pack("<HHH", 8, 16, 48)}, "its header describes"),
        ({"sums": bytes(48)}, "checksum of the section 'levels' does not match"),
        ({"codes": b"\xff"}, "codes are out of order at row 1"),
        ({"runs": b"\xff"}, "runs do not mark as many rows as the header says"),
        ({"runs": "beyond"}, "runs do not mark as many rows as the header says"),
        ({"runs": "none"}, "runs do not grow"),
        ({"runs": "more"}, "runs do not hold as many codes as the header says"),
        ({"ids": "swapped"}, "ids of equal codes are out of order at code 1"),
        ({"ids": "twice"}, "ids must be distinct, got .* twice"),
        ({"ids": "none"}, "ids must not hold -1"),
        ({"ids": "more"}, "bytes after the ids are not zero"),
    ],
    ids=str,
)
def test_each_fault_is_named(saved, changed, message):
    header, (_, _, runs, ids) = ref.split(saved.read_bytes())
    n_marks = len(runs) - 4 * header.n_runs
    if changed.get("runs") == "beyond":  # another row loses its mark
        marks = int.from_bytes(runs[:n_marks], "little")
        changed = {"runs": (marks & (marks - 1) | 1 << 8 * n_marks - 1).to_bytes(n_marks, "little")}
    elif changed.get("runs") in ("none", "more"):
        last = header.n_codes - header.n_rows
        counts = [0] * header.n_runs if changed["runs"] == "none" else [*range(1, header.n_runs), last + 1]
        changed = {"runs": runs[:n_marks] + struct.pack(f"<{header.n_runs}I", *counts)}
    elif changed.get("ids") == "swapped":  # those of two equal codes
        changed = {"ids": ids[2:4] + ids[:2]}
    elif changed.get("ids") == "twice":
        changed = {"ids": ids[:-10] + ids[:2]}
    elif changed.get("ids") == "none":
        largest = int(np.frombuffer(ids[:-8], "<u2").max())
        changed = {"first_id": -1 - largest, "next_id": 0}
    elif changed.get("ids") == "more":
        changed = {"ids": ids[:-1] + b"\1"}
    change(saved, **changed)
    for load in (fh.load, load_mapped, lambda path: fh.HierIndex.from_bytes(path.read_bytes())):
        with pytest.raises(fh.FormatError, match=message):
            load(saved)


@pytest.mark.parametrize("index", [flat_with_ids], indirect=True, ids=["flat"])
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"memory": 1}, "memory setting 1 is unknown"),
        ({"plan": 1}, "plan 1 is unknown"),
        ({"n_clusters": 1, "minor": 2}, "number of clusters 1 does not agree"),
        ({"n_levels": 2}, "number of levels 2 is out of range"),
        ({"n_rows": 99}, "number of rows 99 does not agree with the number of codes"),
        ({"n_runs": 1}, "number of runs 1 does not agree"),
        ({"codes": bytes(63) + b"\1"}, None),
        ({"codes": "more"}, "bytes after the last code are not zero"),
        ({"n_codes": 0, "n_rows": 0}, "bytes of an id 2 are out of range"),
        ({"n_codes": 0, "n_rows": 0, "id_bytes": 0, "first_id": 5}, "first id 5 is that of no code"),
    ],
    ids=str,
)
def test_each_fault_of_a_flat_file_is_named(saved, changed, message):
    if changed.get("codes") == "more":
        codes = ref.split(saved.read_bytes())[1][1]
        changed = {"codes": codes[:-1] + b"\1"}
    change(saved, **changed)
    if message is None:
        fh.load(saved)
        return
    for load in (fh.load, load_mapped, lambda path: fh.FlatIndex.from_bytes(path.read_bytes())):
        with pytest.raises(fh.FormatError, match=message):
            load(saved)


@pytest.mark.parametrize("index", [clusters], indirect=True, ids=["clusters"])
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"sums": 32}, "checksum of the section 'clusters' does not match"),
        ({"sums": 40}, "checksum of the section 'id map' does not match"),
        ({"clusters": b"\1"}, "rings of the clusters do not (ascend|divide the codes)"),
        ({"clusters": b"\0\0\0\0\xff"}, "rings of the clusters do not ascend"),
        ({"clusters": -1}, "code of row .* is not in the cluster and ring where it belongs"),
        ({"codes": 0}, "code of row 0 is not in the cluster and ring where it belongs"),
        ({"codes": -1}, "bytes after the last code are not zero"),
        ({"map": 0}, "id map is out of order at position [01]"),
        ({"map": 0xFF}, "id map holds 255, which is no code"),
        ({"map": -1}, "bytes after the id map are not zero"),
        ({"n_clusters": 0}, "its header describes"),
        ({"n_clusters": 65535}, "number of clusters 65535 does not agree"),
        ({"plan": 1}, "number of clusters .* does not agree with the kind, the plan and the number of rows"),
    ],
    ids=str,
)
def test_each_fault_of_clusters_and_maps_is_named(index, saved, changed, message):
    index.save(saved, id_map=True)
    header, sections = ref.split(saved.read_bytes())
    (field, at), *_ = changed.items()
    if field == "sums":
        changed = {"sums": header.sums[:at] + bytes(8) + header.sums[at + 8 :]}
    elif field == "map" and at >= 0:
        changed = {"map": bytes([at or sections[5][1]])}  # of the second id twice
    elif at in (0, -1) and field != "n_clusters":
        section = sections[ref.SECTIONS.index("id map" if field == "map" else field)]
        place = at % len(section)
        changed = {field: section[:place] + bytes([section[place] ^ 0xFF]) + section[place + 1 :]}
    change(saved, **changed)
    for load in (fh.load, load_mapped, lambda path: fh.HierIndex.from_bytes(path.read_bytes())):
        with pytest.raises(fh.FormatError, match=message):
            load(saved)


def test_changing_nothing_still_loads(index, saved):
    before = saved.read_bytes()
    change(saved)
    assert saved.read_bytes() == before
    assert_same_index(fh.load(saved), index)


def test_trailing_bytes_are_refused(saved):
    saved.write_bytes(saved.read_bytes() + b"\0")
    for load in (fh.load, load_mapped, fh.peek):
        with pytest.raises(fh.FormatError, match="its header describes"):
            load(saved)


def test_bytes_between_the_sections_are_zero(saved):
    data = bytearray(saved.read_bytes())
    data[160] = 1
    saved.write_bytes(data)
    for load in (fh.load, load_mapped):
        with pytest.raises(fh.FormatError, match="bytes after the section 'levels' are not zero"):
            load(saved)


def test_bytes_of_the_other_kind():
    with pytest.raises(TypeError, match="data must hold a FlatIndex, holds a HierIndex"):
        fh.FlatIndex.from_bytes(hier().to_bytes())
    with pytest.raises(TypeError, match="data must hold a HierIndex, holds a FlatIndex"):
        fh.HierIndex.from_bytes(flat().to_bytes())


@pytest.mark.parametrize("wrong", ["text", 3, None, [1, 2], np.zeros(200, np.uint8)], ids=repr)
def test_bytes_that_are_none(wrong):
    with pytest.raises(TypeError, match="data must be bytes, got"):
        fh.FlatIndex.from_bytes(wrong)


def test_views_that_are_no_row_of_bytes():
    data = flat().to_bytes()
    for view in (memoryview(data)[::2], memoryview(data + b"\0" * (-len(data) % 8)).cast("Q")):
        with pytest.raises(ValueError, match="data must be bytes that stand one after the other"):
            fh.FlatIndex.from_bytes(view)
    assert_same_index(fh.FlatIndex.from_bytes(memoryview(b"x" + data)[1:]), flat())


@pytest.mark.parametrize("wrong", [1, 0, None, "yes"], ids=repr)
def test_mmap_is_true_or_false(wrong, tmp_path):
    flat().save(tmp_path / "index.fh")
    with pytest.raises(TypeError, match="mmap must be"):
        fh.load(tmp_path / "index.fh", mmap=wrong)


# ---- saving ----


def test_paths_that_are_none(tmp_path):
    for call in (fh.load, fh.peek, fh.verify, fh.FlatIndex(8).save):
        with pytest.raises(TypeError):
            call(3)
    with pytest.raises(FileNotFoundError, match="cannot create a file to save to"):
        fh.FlatIndex(8).save(tmp_path / "missing" / "index.fh")


@pytest.mark.parametrize("index", [flat, hier_in_pieces], indirect=True, ids=["flat", "hier"])
def test_a_failed_save_leaves_the_old_file_and_nothing_else(index, saved):
    """The disk is full after 500 bytes."""
    resource = pytest.importorskip("resource", reason="needs resource limits")
    before = saved.read_bytes()
    index.add(np.ones((1, 8), np.uint8))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))
    try:
        with pytest.raises(OSError, match="cannot write: File too large"):
            index.save(saved)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["index.fh"]


def test_saving_over_things_that_are_no_files(index, tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        index.save(tmp_path / "folder")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="cannot save over what is not a regular file"):
        index.save(tmp_path / "pipe")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "pipe"]


def test_saving_follows_symbolic_links(index, saved):
    link = saved.parent / "link"
    link.symlink_to(saved.name)
    index.add(np.ones((1, 8), np.uint8))
    index.save(link)
    assert link.is_symlink()
    assert_same_index(fh.load(saved), index)


def test_saving_leaves_other_names_of_a_file_alone(index, saved):
    """A hard link keeps the old content: the new file takes one name alone."""
    before = saved.read_bytes()
    os.link(saved, saved.parent / "other")
    index.add(np.ones((1, 8), np.uint8))
    index.save(saved)
    assert (saved.parent / "other").read_bytes() == before
    assert saved.read_bytes() == index.to_bytes()


def test_long_names(index, tmp_path):
    path = tmp_path / ("n" * 255)
    index.save(path)
    assert_same_index(fh.load(path), index)
    with pytest.raises(OSError, match="File name too long"):
        index.save(tmp_path / ("n" * 256))
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_names_in_the_current_folder(index, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    index.save("index.fh")
    assert_same_index(fh.load("index.fh"), index)
    assert os.listdir() == ["index.fh"]


def test_null_bytes_in_names(index, tmp_path):
    for call in (index.save, fh.load, fh.peek, fh.verify):
        with pytest.raises(ValueError, match="path must not contain a null byte"):
            call(f"{tmp_path}/good\0bad")
    assert list(tmp_path.iterdir()) == []


def test_saving_replaces_the_file_and_keeps_its_mode(index, saved):
    saved.chmod(0o640)
    index.add(np.zeros((1, 8), np.uint8))
    index.save(saved)
    assert stat.S_IMODE(saved.stat().st_mode) == 0o640
    assert_same_index(fh.load(saved), index)


def test_new_files_have_the_mode_of_new_files(tmp_path):
    old = os.umask(0o027)
    try:
        fh.FlatIndex(8).save(tmp_path / "index.fh")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "index.fh").stat().st_mode) == 0o640


def test_names_may_be_bytes_or_not_unicode(index, tmp_path):
    for name in (b"bytes.fh", b"not-\xff-unicode.fh"):
        path = os.path.join(os.fsencode(tmp_path), name)
        index.save(path)
        assert_same_index(fh.load(path), index)
        assert fh.peek(path) == fh.verify(path).info
    with pytest.raises(FileNotFoundError):
        fh.load(os.path.join(os.fsencode(tmp_path), b"missing-\xff"))
    (tmp_path / os.fsdecode(b"foreign-\xff")).write_bytes(b"")
    with pytest.raises(fh.FormatError, match="foreign-\udcff: file has 0 bytes"):
        fh.load(os.path.join(os.fsencode(tmp_path), b"foreign-\xff"))
