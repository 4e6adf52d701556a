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
from saved_indices import (  # noqa: F401
    any_index,
    assert_same_index,
    flat,
    flat_with_ids,
    hier,
    hier_in_pieces,
    load_mapped,
    saved_index,
)

FORK = multiprocessing.get_context("fork")


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


# ---- the id map ----


def assert_finds_ids(index, codes, ids):
    """Every lookup by id."""
    assert all(int(id) in index for id in ids)
    np.testing.assert_array_equal(index.reconstruct(ids), codes)
    for some in (ids[:3], fh.IdFilter(ids[:3])):
        assert set(index.search(codes[:1], 3, allow=some).ids[0]) == set(ids[:3])
    with pytest.raises(ValueError, match=f"ids must be new to the index, but it holds {ids[5]} already"):
        index.add(codes[:1], ids[5:6])
    index.update(ids[:2], codes[:2] ^ np.uint8(1))
    index.remove(ids[2:4])
    np.testing.assert_array_equal(index.reconstruct(ids[:2]), codes[:2] ^ np.uint8(1))
    assert len(index) == len(codes) - 2


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("before", ["scan", "prefix"])
@pytest.mark.parametrize("plan", ref.PLANS)
def test_the_map_of_a_file_that_is_planned_anew(way, before, plan, tmp_path):
    """A file may hold sorted codes with an id map, whatever its plan: loaded, they may get another order."""
    rng = np.random.default_rng(7)
    codes, ids = clustered(rng, 3000, 8), rng.permutation(6000)[:3000]
    fh.HierIndex.from_arrays(codes, ids, plan=before).save(tmp_path / "index.fh", id_map=True)
    header, sections = ref.split((tmp_path / "index.fh").read_bytes())
    assert header.id_map == 1
    assert header.n_clusters == 0
    assert header.scanned == (before == "scan")
    (tmp_path / "index.fh").write_bytes(ref.assemble(header._replace(plan=ref.PLANS.index(plan)), sections))
    assert fh.verify(tmp_path / "index.fh").fault == ""
    index = WAYS[way](fh.load(tmp_path / "index.fh"), tmp_path / "index.fh")
    if plan != "auto" and not way.startswith("mapped"):
        assert index.stats()["plan"] == plan
    assert_finds_ids(index, codes, ids)


def test_the_map_of_codes_that_had_the_plan_of_others(tmp_path):
    """A later segment has the plan of the first, prefix; loaded, its codes get the plan that suits them."""
    rng = np.random.default_rng(1)
    first, codes = clustered(rng, 300_000, 16, 2000, 0.01), clustered(rng, 9000, 16, 20, 0.08)
    ids = 300_000 + rng.permutation(18_000)[:9000]
    index = fh.HierIndex(128, memory="compact")
    index.add(first)
    index.add(codes, ids)
    index.remove(np.arange(300_000))
    index.save(tmp_path / "index.fh", id_map=True)
    again = fh.load(tmp_path / "index.fh")
    assert (index.stats()["plan"], again.stats()["plan"]) == ("prefix", "clusters")
    for each in (load_mapped(tmp_path / "index.fh"), again, index):
        assert_finds_ids(each, codes, ids)


@pytest.mark.parametrize("plan", ["scan", "prefix", "clusters"])
def test_a_map_that_does_not_fit_is_found(plan, tmp_path):
    rng = np.random.default_rng(8)
    index = fh.HierIndex.from_arrays(clustered(rng, 3000, 8), rng.permutation(6000)[:3000], plan=plan)
    index.save(tmp_path / "index.fh", id_map=True)
    header, sections = ref.split((tmp_path / "index.fh").read_bytes())
    of_map = sections[5]
    swapped = of_map[2:4] + of_map[:2] + of_map[4:]  # two bytes an entry
    (tmp_path / "index.fh").write_bytes(ref.assemble(header, [*sections[:5], swapped]))
    assert fh.verify(tmp_path / "index.fh").fault == "id map is out of order at position 1"
    for load in (fh.load, load_mapped):
        with pytest.raises(fh.FormatError, match="id map is out of order at position 1"):
            load(tmp_path / "index.fh")


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
