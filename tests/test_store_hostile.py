"""Damaged, foreign and hostile files of a store give an error that names the file; what was open stays searchable."""

import contextlib
import hashlib
import json
import os
import shutil

import numpy as np
import pytest

import fasthash as fh
import file_reference as ref
from fasthash.store import keys
from fasthash.store.copying import verify_store
from fasthash.store.kinds import KINDS
from fasthash.store.manifest import read_manifest
from stores import N_BYTES, repaired, steps_of, take_step

ERRORS = (fh.FormatError, FileNotFoundError)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return made(tmp_path_factory.mktemp("whole") / "store.fhs", 3)


@pytest.fixture
def folder(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "store.fhs")


def made(folder, steps):
    with fh.Store(folder, "w", n_bits=8 * N_BYTES, merge=False) as store:
        for step in range(1, steps + 1):
            take_step(store, step)
            store.commit()
    return folder


def files_of(folder):
    return ["manifest", *sorted(read_manifest(folder).files())]


def edited(folder, edit):
    """Change the manifest, with the right checksum."""
    path = folder / "manifest"
    content = json.loads(path.read_bytes().split(b"\n")[0])
    edit(content)
    line = json.dumps(content).encode() + b"\n"
    path.write_bytes(line + hashlib.sha256(line).hexdigest().encode() + b"\n")


def refused(folder, match=None):
    """The store is refused by readers and writers, and nothing of it is removed."""
    before = sorted(os.listdir(folder))
    for mode in ("r", "w"):
        with pytest.raises(ERRORS, match=match):
            fh.Store(folder, mode)
    assert sorted({*os.listdir(folder)} - {"writer.lock"}) == sorted({*before} - {"writer.lock"})


def test_every_file_may_be_missing(whole, folder):
    for name in files_of(whole):
        (folder / name).rename(folder / "away")
        match = "holds no store" if name == "manifest" else f"{name} is missing, which the manifest"
        with pytest.raises(ERRORS, match=match):
            fh.Store(folder)
        (folder / "away").rename(folder / name)
    assert steps_of(fh.Store(folder)) == 3


def test_a_store_without_a_manifest_is_not_made_anew(folder):
    """Its files may be all that is left of a gallery."""
    (folder / "manifest").unlink()
    before = sorted(os.listdir(folder))
    with pytest.raises(FileNotFoundError, match="holds no store"):
        fh.Store(folder)
    with pytest.raises(FileExistsError, match="but no manifest"):
        fh.Store(folder, "w", n_bits=8 * N_BYTES)
    assert sorted(os.listdir(folder)) == before


def test_every_file_may_be_cut(whole, folder):
    for name in files_of(whole):
        content = (folder / name).read_bytes()
        for length in {0, 1, 7, 64, 127, 128, 200, len(content) // 2, len(content) - 1}:
            if length >= len(content):
                continue
            (folder / name).write_bytes(content[:length])
            refused(folder, name)
        (folder / name).write_bytes(content + b"\0")
        refused(folder, name)
        (folder / name).write_bytes(content)
    assert steps_of(fh.Store(folder)) == 3


def test_every_byte_may_be_flipped(whole, folder):
    """A flipped byte is found when the store is opened with `check`, and by `verify`, which names the file alone."""
    rng = np.random.default_rng(0)
    for name in files_of(whole):
        content = (folder / name).read_bytes()
        for place in {*range(0, min(len(content), 140), 3), *rng.integers(0, len(content), 40).tolist()}:
            flipped = bytearray(content)
            flipped[place] ^= 1 << int(rng.integers(8))
            (folder / name).write_bytes(flipped)
            with pytest.raises(ERRORS, match=name):
                fh.Store(folder, check=True)
            if name.endswith((".fh", ".keys")):
                outcomes = {file: fault for file, _, fault in verify_store(folder) if fault}
                assert list(outcomes) == [name], place
                assert name in outcomes[name], place
            if name == "manifest" or name.endswith(".removed") or place < keys.HEADER_BYTES:  # the default
                with pytest.raises(ERRORS, match=name):
                    fh.Store(folder)
        (folder / name).write_bytes(content)
    assert all(not fault for _, _, fault in verify_store(folder))


def test_files_of_another_store(whole, folder, tmp_path):
    other = made(tmp_path / "other.fhs", 3)
    theirs, ours = (read_manifest(each) for each in (other, folder))
    for mine, foreign in zip(ours.segments, theirs.segments, strict=True):
        for ending in ("file", "keys"):
            content = (folder / getattr(mine, ending).name).read_bytes()
            shutil.copy(other / getattr(foreign, ending).name, folder / getattr(mine, ending).name)
            if (folder / getattr(mine, ending).name).read_bytes() != content:
                refused(folder, "its checksum does not match")
            (folder / getattr(mine, ending).name).write_bytes(content)
    shutil.copy(other / "manifest", folder / "manifest")
    refused(folder, "is missing, which the manifest of its store names")


def set_in(**values):
    return lambda content: content.update(values)


def in_segment(**values):
    return lambda content: content["segments"][0].update(values)


def in_file(**values):
    return lambda content: content["segments"][0]["file"].update(values)


def in_removed(**values):
    return lambda content: content["segments"][0]["removed"][0].update(values)


EDITS = {
    "not an object": lambda content: None,
    "another class": set_in(**{"class": "RescoringIndex"}),
    "a newer format": set_in(format=3),
    "format true": set_in(format=True),
    "format 1.0": set_in(format=1.0),
    "format a text": set_in(format="1"),
    "format a list": set_in(format=[1]),
    "format 2.0": set_in(format=2.0, metric="jaccard", plan="auto"),
    "format 2 without a metric": set_in(format=2),
    "a metric of format 1": set_in(metric="hamming"),
    "format 2 of the metric of format 1": set_in(format=2, metric="hamming"),
    "metric unknown": set_in(format=2, metric="dice"),
    "metric no name": set_in(format=2, metric=["jaccard"]),
    "metric of other segments": set_in(format=2, metric="jaccard"),
    "metric of other levels": set_in(format=2, metric="jaccard", level_bits=[16, 16]),
    "metric of no plan": set_in(format=2, metric="jaccard", plan="clusters"),
    "no levels": set_in(level_bits=[]),
    "levels of no bytes": set_in(level_bits=[12]),
    "too many bits": set_in(level_bits=[4096, 8]),
    "negative levels": set_in(level_bits=[-8, 40]),
    "memory unknown": set_in(memory="huge"),
    "plan unknown": set_in(plan=3),
    "other levels": set_in(level_bits=[16, 16]),
    "kind of keys unknown": set_in(keys="float"),
    "another kind of keys": set_in(keys="bytes"),
    "no keys": set_in(keys="none"),
    "next id too large": set_in(next_id=2**63 + 1),
    "next id a string": set_in(next_id="1"),
    "next id true": set_in(next_id=True),
    "negative commit": set_in(commit=-1),
    "a field more": set_in(more=1),
    "segments a number": set_in(segments=3),
    "segments null": set_in(segments=None),
    "a segment twice": lambda content: content["segments"].append(content["segments"][0]),
    "no codes": in_segment(n_codes=0),
    "too many codes": in_segment(n_codes=10**12),
    "codes a float": in_segment(n_codes=40.0),
    "file null": in_segment(file=None),
    "keys null": in_segment(keys=None),
    "a path out of the folder": in_file(name="../segment-0000000000000000.fh"),
    "an absolute path": in_file(name="/etc/passwd"),
    "the manifest as a segment": in_file(name="manifest"),
    "a checksum that is none": in_file(sha256="0" * 63 + "g"),
    "removed beyond the file": in_removed(n=10**9),
    "removed before the file": in_removed(begin=-1),
    "removed twice": lambda content: content["segments"][0]["removed"].append(content["segments"][0]["removed"][0]),
}


@pytest.mark.parametrize("edit", EDITS)
def test_hostile_manifests(folder, edit):
    with fh.Store(folder, "w", merge=False) as store:  # one list with two segments in it
        store.remove(["1/30", "2/30", "2/31"])
        store.commit()
    edited(folder, EDITS[edit])
    if edit == "not an object":
        line = b"[1]\n"
        (folder / "manifest").write_bytes(line + hashlib.sha256(line).hexdigest().encode() + b"\n")
    refused(folder)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe", b"[" * 100_000, b"null\n\n", b'{"class": NaN}'])
def test_manifests_that_are_none(folder, content):
    (folder / "manifest").write_bytes(content)
    refused(folder, "manifest is damaged, or no manifest")


def test_hostile_files_of_keys(folder):
    """Numbers in a file of keys that lead out of it are refused, also with the right checksums."""
    path = folder / read_manifest(folder).segments[0].keys.name
    content = bytearray(path.read_bytes())

    def found(data):
        table = keys.KeyTable(bytes(data), "hostile.keys")
        with pytest.raises(fh.FormatError, match=r"hostile\.keys"):
            table.check()
        with contextlib.suppress(fh.FormatError):  # nothing else may happen
            table.find([b"1/%d" % row for row in range(40)])
            for entry in range(40):
                table.key(entry)

    for begin in range(keys.HEADER_BYTES, len(content) - 8, 16):
        hostile = content.copy()
        hostile[begin : begin + 8] = b"\xff" * 8
        found(hostile)
    other = keys.KeyTable(bytes(content), "name")
    assert len(other) == 40
    for number, value in ((16, 9), (8, 2), (10, 1)):
        hostile = content.copy()
        hostile[number] = value
        hostile[96:128] = hashlib.sha256(hostile[:96]).digest()
        with pytest.raises(fh.FormatError, match="is unknown"):
            keys.KeyTable(bytes(hostile), "name")
    hostile = content.copy()
    hostile[24:32] = (2**60).to_bytes(8, "little")
    hostile[96:128] = hashlib.sha256(hostile[:96]).digest()
    with pytest.raises(fh.FormatError, match="its header describes"):
        keys.KeyTable(bytes(hostile), "name")


def test_keys_that_are_not_text(tmp_path):
    facts = keys.write_encoded(tmp_path / "a.keys", KINDS["str"], [b"\xff\xfe", b"a"])
    table = keys.KeyTable.mapped(tmp_path / "a.keys")
    assert facts.n_bytes == (tmp_path / "a.keys").stat().st_size
    assert table.key(1) == "a"
    with pytest.raises(fh.FormatError, match="the key of entry 0 is damaged"):
        table.key(0)


def test_a_reader_stays_where_it_is_if_the_newest_commit_is_damaged(folder):
    reader = fh.Store(folder)
    with fh.Store(folder, "w", merge=False) as store:
        take_step(store, 4)
        store.commit()
    damaged = folder / read_manifest(folder).segments[-1].file.name  # of the newest commit
    content = damaged.read_bytes()
    damaged.write_bytes(content[:-1])
    with pytest.raises(fh.FormatError, match=damaged.name):
        reader.refresh()
    assert steps_of(reader) == 3
    damaged.write_bytes(content)
    assert reader.refresh()
    assert steps_of(reader) == 4


@pytest.mark.parametrize("plan", ["auto", "scan", "clusters", "prefix", "multi-index"])
@pytest.mark.parametrize("n_bytes", [2, 40, None])
def test_ids_that_repeat_in_an_unchecked_file_are_no_crash(tmp_path, plan, n_bytes):
    """Zeros where ids were, as a lost page leaves: selections rely on distinct ids, and must keep to their k places."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, (300, 8), dtype=np.uint8)
    with fh.Store(tmp_path / "s.fhs", "w", level_bits=(8, 56), plan=plan) as store:
        store.add(codes, ids=rng.permutation(1000)[:300])
        store.commit()
    (segment,) = (tmp_path / "s.fhs").glob("segment-*.fh")
    (ids,) = (section for section in fh.verify(segment).sections if section.name == "ids")
    with segment.open("r+b") as file:
        file.seek(ids.offset + (0 if n_bytes is None else 40))
        file.write(bytes(ids.n_bytes if n_bytes is None else n_bytes))
    store, allowed = fh.Store(tmp_path / "s.fhs"), fh.IdFilter(range(0, 1000, 2))
    for _ in range(20):
        queries = rng.integers(0, 256, (8, 8), dtype=np.uint8)
        for k in (1, 7, 50, 400):
            for options in ({}, {"allow": allowed}, {"keep": 0.5}):
                result = store.search(queries, k, **options)
                assert (np.diff(result.distances, axis=1) >= 0).all()
        store.range_search(queries, 20)
        store.count_within(queries, 20)


@pytest.mark.parametrize("lies", [False, True])
@pytest.mark.parametrize("plan", ["prefix", "clusters", "multi-index"])
def test_without_the_check_damage_is_no_crash(tmp_path, plan, lies):
    """Some bytes of an index file changed, and opened without `check`: an error, or an answer, and never a crash.

    With lies the checksums are right, and the bytes that opening reads are changed as often as the others.
    """
    rng = np.random.default_rng(0)
    n_opened = 0
    made = tmp_path / f"{plan}.fhs"
    with fh.Store(made, "w", n_bits=8 * N_BYTES, plan=plan, memory="fast") as store:
        store.add(rng.integers(0, 4, (3000, 4), dtype=np.uint8), ids=rng.permutation(6000)[:3000])
        store.commit()
    (name,) = [each for each in os.listdir(made) if each.endswith(".fh")]
    content = (made / name).read_bytes()
    for _ in range(300):
        damaged = bytearray(content)
        ranges = repaired(bytearray(content))[1]
        for _ in range(int(rng.integers(1, 4))):
            begin, end = ranges[int(rng.integers(1, 6))] if lies else (128, len(content))
            if end > begin:
                damaged[int(rng.integers(begin, end))] = int(rng.integers(256))
        if lies:
            damaged = repaired(damaged)[0]
        (made / name).write_bytes(damaged)
        try:
            store = fh.Store(made, check=False)
        except fh.FormatError:
            continue
        n_opened += 1
        queries = rng.integers(0, 256, (3, 4), dtype=np.uint8)
        store.search(queries, k=50)
        store.search(queries, k=5, allow=np.arange(0, 6000, 100))
        store.range_search(queries, 12)
        5 in store  # noqa: B015
        store.to_index().to_arrays()
        with contextlib.suppress(ValueError):
            store.search(queries, k=5, keep=0.5)  # sorts all codes anew
    (made / name).write_bytes(content)
    queries = rng.integers(0, 256, (3, 4), dtype=np.uint8)
    checked, unchecked = (fh.Store(made, check=check).search(queries, k=9).ids for check in (True, False))
    assert checked.tolist() == unchecked.tolist()
    assert n_opened > 50


def test_a_merge_takes_no_damage_over(folder):
    """A flipped byte of a code would get a new checksum."""
    name = max(read_manifest(folder).segments, key=lambda each: each.n_codes).file.name
    content = bytearray((folder / name).read_bytes())
    content[ref.section_ranges(ref.section_sizes(ref.split(content)[0], N_BYTES))[1][1] - 1] ^= 1  # of the last code
    (folder / name).write_bytes(content)
    with fh.Store(folder, "w", merge=False) as store, pytest.raises(fh.FormatError, match=f"{name}: checksum"):
        store.compact()
    assert {file for file, _, fault in verify_store(folder) if fault} == {name}
