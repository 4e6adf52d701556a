"""Files that are refused, and what is said of them: each fault on its own, behind repaired checksums."""

import struct

import numpy as np
import pytest
import xxhash

import fasthash as fh
import file_reference as ref
from saved_indices import any_index, assert_same_index, clusters, flat, flat_with_ids, hier, load_mapped, saved_index  # noqa: F401


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


def test_load_of_a_class_takes_its_files_alone(tmp_path):
    path = tmp_path / "index.fh"
    for cls, other, index in ((fh.FlatIndex, fh.HierIndex, flat()), (fh.HierIndex, fh.FlatIndex, hier())):
        index.save(path)
        for mmap in (False, True):
            loaded = cls.load(path, mmap=mmap)
            assert_same_index(loaded, index)
            assert type(loaded) is cls
            assert (loaded.stats()["mapped_bytes"] > 0) == mmap
        with pytest.raises(TypeError, match=f"path must hold a {other.__name__}, holds a {cls.__name__}"):
            other.load(path)
        with pytest.raises(TypeError, match="mmap must be"):
            cls.load(path, mmap=1)
        with pytest.raises(IsADirectoryError, match="is a folder, not an index file"):
            cls.load(tmp_path)


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
