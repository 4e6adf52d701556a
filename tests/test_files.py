"""Saving and loading: the same answers afterwards, and an error for every file that is not what save wrote."""

import collections
import os
import stat
import struct

import numpy as np
import pytest
import xxhash

import fasthash as fh
from galleries import clustered

HEADER = struct.Struct("<8sHHIBBHB3sQQQQ64sQ")
Header = collections.namedtuple(
    "Header", "magic major minor size kind has_ids n_levels memory zero n levels_sum codes_sum ids_sum rest header_sum"
)


@pytest.fixture(params=["flat", "flat with ids", "hier"])
def index(request):
    rng = np.random.default_rng(0)
    codes = np.concatenate([clustered(rng, 90, 8), np.zeros((10, 8), np.uint8)])
    index = fh.HierIndex((8, 16, 40)) if request.param == "hier" else fh.FlatIndex(64)
    index.add(codes, None if request.param == "flat" else rng.permutation(1000)[:100])
    return index


@pytest.fixture
def saved(index, tmp_path):
    index.save(tmp_path / "index.fh")
    return tmp_path / "index.fh"


def assert_same_index(a, b):
    queries = np.random.default_rng(1).integers(0, 256, (5, a.n_bits // 8), dtype=np.uint8)
    assert type(a) is type(b)
    assert a.level_bits == b.level_bits
    assert len(a) == len(b)
    for x, y in zip(a.search(queries, len(a) + 1), b.search(queries, len(a) + 1), strict=True):
        np.testing.assert_array_equal(x, y)


def test_load_gives_back_what_was_saved(index, saved):
    loaded = fh.load(saved)
    assert_same_index(loaded, index)
    # Ids go on where they stopped.
    for each in (loaded, index):
        each.add(np.zeros((1, 8), np.uint8))
    assert_same_index(loaded, index)


@pytest.mark.parametrize("empty", [fh.FlatIndex(8), fh.HierIndex((8,)), fh.HierIndex((8,) * 512)], ids=repr)
def test_empty_indices_and_many_levels(empty, tmp_path):
    empty.save(tmp_path / "empty.fh")
    assert_same_index(fh.load(tmp_path / "empty.fh"), empty)


def test_large_sections(tmp_path):
    """More than one buffer of codes and of ids, and a last piece that is not full."""
    rng = np.random.default_rng(2)
    codes = rng.integers(0, 256, (300_001, 8), dtype=np.uint8)
    for index in (fh.HierIndex((8, 16, 40)), fh.FlatIndex(64)):
        index.add(codes, rng.permutation(len(codes)))
        index.save(tmp_path / "large.fh")
        queries = codes[:3] ^ 1
        np.testing.assert_array_equal(fh.load(tmp_path / "large.fh").search(queries).ids, index.search(queries).ids)


def test_peek(index, saved):
    info = fh.peek(saved)
    assert info == fh.FileInfo(
        kind="hier" if isinstance(index, fh.HierIndex) else "flat",
        level_bits=index.level_bits,
        n_codes=100,
        has_ids=saved.stat().st_size > 1200,
        format_version="1.0",
        file_bytes=saved.stat().st_size,
    )
    assert info.n_bits == 64


def test_the_header_is_as_documented(index, saved):
    data = saved.read_bytes()
    header = Header._make(HEADER.unpack_from(data))
    assert header[:4] == (b"FASTHASH", 1, 0, 128)
    assert (header.zero, header.rest) == (bytes(3), bytes(64))
    assert (header.kind, header.n_levels) == ((2, 3) if isinstance(index, fh.HierIndex) else (1, 1))
    assert header.n == 100
    levels, codes, ids = data[128 : 128 + 2 * header.n_levels], data[192 : 192 + 800], data[1024:]
    assert struct.unpack(f"<{header.n_levels}H", levels) == index.level_bits
    assert len(ids) == (800 if header.has_ids else 0)
    checksums = [xxhash.xxh64_intdigest(section) for section in (levels, codes, ids, data[:120])]
    assert checksums == [header.levels_sum, header.codes_sum, header.ids_sum, header.header_sum]


def test_every_truncation_is_refused(saved):
    data = saved.read_bytes()
    for length in range(len(data)):
        saved.write_bytes(data[:length])
        with pytest.raises(fh.FormatError, match=r"index\.fh: "):
            fh.load(saved)


def test_every_flipped_byte_is_refused(saved):
    data = saved.read_bytes()
    for position in range(len(data)):
        saved.write_bytes(data[:position] + bytes([data[position] ^ 0x10]) + data[position + 1 :])
        with pytest.raises(fh.FormatError):
            fh.load(saved)


def test_trailing_bytes_are_refused(saved):
    saved.write_bytes(saved.read_bytes() + b"\0")
    with pytest.raises(fh.FormatError, match="its header describes"):
        fh.load(saved)


def rewrite(path, *, levels=None, codes=None, ids=None, last_id=None, **fields):
    """Change a saved hierarchical index and repair all checksums, so that the checks behind them are reached."""
    data = bytearray(path.read_bytes())
    if levels is not None:
        data[128 : 128 + len(levels)] = levels
    if codes is not None:
        data[192 : 192 + len(codes)] = codes
    if ids is not None:
        data[1024 : 1024 + len(ids)] = ids
    if last_id is not None:
        data[-8:] = last_id
    header = Header._make(HEADER.unpack_from(data))._replace(
        levels_sum=xxhash.xxh64_intdigest(data[128:134]),
        codes_sum=xxhash.xxh64_intdigest(data[192:992]),
        ids_sum=xxhash.xxh64_intdigest(data[1024:]),
    )
    data[:128] = HEADER.pack(*header._replace(**fields))
    data[120:128] = struct.pack("<Q", xxhash.xxh64_intdigest(bytes(data[:120])))
    path.write_bytes(data)


@pytest.mark.parametrize("index", ["hier"], indirect=True)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"magic": b"NOTAHASH"}, "does not begin with 'FASTHASH'"),
        ({"major": 2, "minor": 1}, r"written by a newer fasthash \(format 2\.1\), this one reads format 1\.0"),
        ({"major": 0}, "written by a foreign fasthash"),
        ({"minor": 1}, r"written by a newer fasthash \(format 1\.1\)"),
        ({"size": 64}, "fields that format 1.0 does not have"),
        ({"memory": 3}, "memory setting 3 is unknown"),
        ({"zero": b"\0\0\1"}, "fields that format 1.0 does not have"),
        ({"rest": b"\1" + bytes(63)}, "fields that format 1.0 does not have"),
        ({"kind": 3}, "kind of index 3 is unknown"),
        ({"kind": 1}, "a flat index has one level, the file names 3"),
        ({"has_ids": 2}, "flag of ids must be 0 or 1, is 2"),
        ({"has_ids": 0}, "stores its ids, the file has none"),
        ({"n_levels": 0}, "number of levels 0 is out of range"),
        ({"n_levels": 65535}, "number of levels 65535 is out of range"),
        ({"n": 2**40 + 1}, "number of codes 1099511627777 is out of range"),
        ({"n": 2**40}, "its header describes"),
        ({"n": 99}, "its header describes"),
        ({"levels": struct.pack("<HHH", 8, 16, 39)}, r"multiples of 8, got \(8, 16, 39\)"),
        ({"levels": struct.pack("<HHH", 8, 16, 4096)}, "sum to at most 4096"),
        ({"levels": struct.pack("<HHH", 8, 16, 48)}, "its header describes"),
        ({"codes": b"\xff"}, "codes are out of order at row 1"),
        ({"ids": struct.pack("<q", -1)}, "ids must not hold -1"),
        ({"ids": "swapped"}, "codes are out of order at row 1"),
        ({"last_id": "first"}, "ids must be distinct, got .* twice"),
    ],
    ids=str,
)
def test_hostile_headers_with_right_checksums(saved, change, message):
    first, second = saved.read_bytes()[1024:1032], saved.read_bytes()[1032:1040]
    if change.get("last_id") == "first":
        change = {"last_id": first}
    if change.get("ids") == "swapped":  # those of two equal codes
        change = {"ids": second + first}
    rewrite(saved, **change)
    with pytest.raises(fh.FormatError, match=message):
        fh.load(saved)


@pytest.mark.parametrize("index", ["hier"], indirect=True)
def test_rewriting_nothing_still_loads(index, saved):
    rewrite(saved)
    assert_same_index(fh.load(saved), index)


@pytest.mark.parametrize("content", [b"", b"FASTHASH", b"\x93NUMPY" + bytes(200), b"PK\3\4" + bytes(200), bytes(4096)])
def test_foreign_files(tmp_path, content):
    (tmp_path / "foreign").write_bytes(content)
    for read in (fh.load, fh.peek):
        with pytest.raises(fh.FormatError, match="foreign: file"):
            read(tmp_path / "foreign")


def test_random_bytes_behind_a_valid_magic(tmp_path):
    rng = np.random.default_rng(3)
    for _ in range(300):
        (tmp_path / "random").write_bytes(b"FASTHASH\1\0\0\0" + rng.bytes(rng.integers(0, 3000)))
        with pytest.raises(fh.FormatError):
            fh.load(tmp_path / "random")


def test_things_that_are_no_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="cannot open"):
        fh.load(tmp_path / "missing")
    with pytest.raises(IsADirectoryError):
        fh.load(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(fh.FormatError, match="not a regular file"):
        fh.load(tmp_path / "pipe")
    with pytest.raises(FileNotFoundError, match="cannot create a file to save to"):
        fh.FlatIndex(8).save(tmp_path / "missing" / "index.fh")
    with pytest.raises(TypeError):
        fh.load(3)


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


def test_long_names(index, tmp_path):
    path = tmp_path / ("n" * 255)
    index.save(path)
    assert_same_index(fh.load(path), index)


def test_null_bytes_in_names(index, tmp_path):
    for call in (index.save, fh.load, fh.peek):
        with pytest.raises(ValueError, match="path must not contain a null byte"):
            call(f"{tmp_path}/good\0bad")
    assert list(tmp_path.iterdir()) == []


def test_saving_replaces_the_file_and_keeps_its_mode(index, saved):
    saved.chmod(0o640)
    index.add(np.zeros((1, 8), np.uint8))
    index.save(saved)
    assert stat.S_IMODE(saved.stat().st_mode) == 0o640
    assert_same_index(fh.load(saved), index)


def test_names_may_be_bytes_or_not_unicode(index, tmp_path):
    for name in (b"bytes.fh", b"not-\xff-unicode.fh"):
        path = os.path.join(os.fsencode(tmp_path), name)
        index.save(path)
        assert_same_index(fh.load(path), index)
    with pytest.raises(FileNotFoundError):
        fh.load(os.path.join(os.fsencode(tmp_path), b"missing-\xff"))
    (tmp_path / os.fsdecode(b"foreign-\xff")).write_bytes(b"")
    with pytest.raises(fh.FormatError, match="foreign-\udcff: file has 0 bytes"):
        fh.load(os.path.join(os.fsencode(tmp_path), b"foreign-\xff"))
