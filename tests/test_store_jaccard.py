"""Stores by Jaccard distance: their results, settings and files. Their histories are among those of test_store.py."""

import contextlib
import hashlib
import json
import os

import numpy as np
import pytest

import fasthash as fh
import file_reference as ref
import reference
from fasthash.store.manifest import read_manifest
from galleries import queries_for, sparse
from stores import near_ties, repaired, resigned


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "molecules.fhs"


def filled(folder, codes, **options):
    """A store of these codes in two commits, open to write."""
    store = fh.Store(folder, "w", n_bits=codes.shape[1] * 8, metric="jaccard", merge=False, **options)
    half = len(codes) // 2
    for part, first in ((codes[:half], 0), (codes[half:], half)):
        store.add(part, keys=[f"molecule {first + i}" for i in range(len(part))])
        store.commit()
    return store


@pytest.mark.parametrize("n_bits", [64, 166, 2048])
def test_results_are_those_of_the_slow_path(folder, n_bits):
    rng = np.random.default_rng(n_bits)
    codes = fh.pack_bits(rng.random((1500, n_bits)) < 0.05)
    with fh.Store(folder, "w", n_bits=n_bits, metric="jaccard") as store:
        for begin in range(0, 1500, 500):
            store.add(codes[begin : begin + 500])
            store.commit()
        queries = codes[:20] & codes[20:40]
        found = store.search(queries, 30)
        distances, ids = reference.jaccard_search(queries, codes, np.arange(1500), 30)
        assert found.distances.dtype == np.float32
        assert found.ids.tolist() == ids.tolist()
        assert found.distances.tolist() == distances.tolist()


def test_settings(folder):
    rng = np.random.default_rng(0)
    codes = sparse(rng, 300, 128)
    with filled(folder, codes) as store:
        assert (store.metric, store.info()["metric"], store.memory) == ("jaccard", "jaccard", "default")
        assert store.search(codes[:1], 3).distances.dtype == np.float32
        with pytest.raises(ValueError, match="metric must be 'hamming' for keep and max_compared"):
            store.search(codes[:1], 3, keep=0.5)
        with pytest.raises(ValueError, match=r"radius must be at least 0, got -0\.5"):
            store.range_search(codes[:1], -0.5)
    assert fh.Store(folder).metric == "jaccard"
    with pytest.raises(ValueError, match="metric must be 'jaccard' as in the store, or left out, got 'hamming'"):
        fh.Store(folder, "w", metric="hamming")
    with pytest.raises(ValueError, match="metric must be left out: a reader takes them from the store"):
        fh.Store(folder, metric="jaccard")
    other = folder.with_name("other.fhs")
    for options, message in (
        ({"n_bits": 64, "metric": "dice"}, "metric must be one of 'hamming', 'jaccard', got 'dice'"),
        ({"level_bits": (8, 16), "metric": "jaccard"}, "level_bits must be one level with the metric jaccard"),
        ({"n_bits": 64, "plan": "clusters", "metric": "jaccard"}, "plan must not be given with the metric jaccard"),
        (
            {"n_bits": 64, "memory": "compact", "metric": "jaccard"},
            "memory must be the default with the metric jaccard",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            fh.Store(other, "w", **options)
        assert not other.exists()
    with fh.Store(other, "w", n_bits=128) as store:
        assert (store.metric, store.info()["metric"]) == ("hamming", "hamming")
    with pytest.raises(ValueError, match="metric must be 'hamming' as in the store"):
        fh.Store(other, "w", metric="jaccard")
    with fh.Store(other, "w", metric="hamming"):
        pass


def test_the_manifest_names_the_metric_only_where_it_must(folder):
    """A store by Hamming distance is written as before, byte for byte, and earlier releases open it."""
    with fh.Store(folder, "w", n_bits=64, metric="hamming"):
        content = json.loads((folder / "manifest").read_bytes().split(b"\n")[0])
        assert (content["format"], "metric" in content) == (1, False)
    with fh.Store(folder.with_name("b"), "w", n_bits=64, metric="jaccard"):
        content = json.loads((folder.with_name("b") / "manifest").read_bytes().split(b"\n")[0])
        assert (content["format"], content["metric"]) == (2, "jaccard")


@pytest.mark.parametrize("kind", ["flat", "hier"])
def test_stores_of_indices_and_back(folder, kind):
    rng = np.random.default_rng(0)
    codes, ids = sparse(rng, 2000, 168), rng.permutation(10_000)[:2000]
    index = fh.FlatIndex(168, metric="jaccard") if kind == "flat" else fh.HierIndex(168, metric="jaccard")
    index.add(codes, ids)
    queries = queries_for(rng, codes)
    expected = index.search(queries, 9)
    with fh.Store.from_index(index, folder, keys=[f"m{id}" for id in np.sort(ids).tolist()]) as store:
        assert store.metric == "jaccard"
        found = store.search(queries, 9)
        assert [each.tolist() for each in found] == [each.tolist() for each in expected]
        assert found.keys[0].tolist() == [f"m{id}" for id in expected.ids[0].tolist()]
        store.copy_to(folder.with_name("copy"))
        back = store.to_index()
    back.remove(ids[:5])
    back.add(codes[:5], ids[:5])
    for other in (back, fh.Store(folder), fh.Store(folder.with_name("copy"), check=True)):
        assert other.metric == "jaccard"
        assert [each.tolist() for each in other.search(queries, 9)] == [each.tolist() for each in expected]
    (segment,) = read_manifest(folder).segments
    assert fh.load(folder / segment.file.name, mmap=True).metric == "jaccard"
    assert fh.peek(folder / segment.file.name).has_id_map


def renamed(folder, path):
    """Put an index file in the place of the first segment of a store, with the facts of the manifest to match."""
    content = path.read_bytes()
    (line, _, _) = (folder / "manifest").read_bytes().partition(b"\n")
    manifest = json.loads(line)
    facts = manifest["segments"][0]["file"]
    facts |= {"n_bytes": len(content), "sha256": hashlib.sha256(content[:128]).hexdigest()}
    (folder / facts["name"]).write_bytes(content)
    (folder / "manifest").write_bytes(resigned(json.dumps(manifest).encode()))
    return facts["name"]


@pytest.mark.parametrize("metric", ["hamming", "jaccard"])
def test_a_segment_of_another_metric_is_foreign(folder, metric):
    codes = near_ties(np.random.default_rng(0), 40, 8)
    other = "hamming" if metric == "jaccard" else "jaccard"
    with fh.Store(folder, "w", n_bits=64, metric=metric, merge=False) as store:
        for _ in range(2):
            store.add(codes)
            store.commit()
        foreign = folder.with_name("foreign.fh")
        fh.HierIndex.from_arrays(codes, metric=other).save(foreign)
        manifest = (folder / "manifest").read_bytes()
        name = renamed(folder, foreign)
        forged = (folder / "manifest").read_bytes()
        with pytest.raises(OSError, match="holds another commit"):
            store.compact()
        (folder / "manifest").write_bytes(manifest)
        with pytest.raises(fh.FormatError):
            store.compact()  # reads every file again
    (folder / "manifest").write_bytes(forged)
    for mode in ("r", "w"):
        with pytest.raises(fh.FormatError, match=f"{name} has the metric {other}, its store has {metric}"):
            fh.Store(folder, mode)


@pytest.mark.parametrize("lies", [False, True])
def test_without_the_check_damage_is_no_crash(tmp_path, lies):
    """Codes, counts and ids changed: in a file opened without `check`, an error or an answer, and never a crash.

    With lies the checksums are right, and the order of bits set and of ids is what the damage left.
    """
    rng = np.random.default_rng(0)
    made = tmp_path / "molecules.fhs"
    codes = sparse(rng, 2000, 32, 0.3)
    with fh.Store(made, "w", n_bits=32, metric="jaccard") as store:
        store.add(codes, ids=rng.permutation(6000)[:2000])
        store.commit()
    (segment,) = read_manifest(made).segments
    path = made / segment.file.name
    content, n_opened = path.read_bytes(), 0
    for attempt in range(200):
        damaged = bytearray(content)
        ranges = repaired(bytearray(content))[1]
        for _ in range(int(rng.integers(1, 4))):
            begin, end = ranges[(1, 3, 4, 5)[attempt % 4]] if lies else (128, len(content))
            damaged[int(rng.integers(begin, end))] = int(rng.integers(256))
        path.write_bytes(repaired(damaged)[0] if lies else damaged)
        if lies:
            renamed(made, path)
        try:
            store = fh.Store(made, check=False)
        except fh.FormatError:
            continue
        n_opened += 1
        queries = queries_for(rng, codes)
        store.search(queries, k=50)
        store.search(queries, k=5, allow=np.arange(0, 6000, 100))
        store.range_search(queries, 0.7)
        store.count_within(queries, 0.7)
        with contextlib.suppress(ValueError):
            store.reconstruct(np.arange(0, 6000, 500))
        5 in store  # noqa: B015
        loose = store.to_index()
        loose.to_arrays()
        with contextlib.suppress(ValueError):
            loose.remove([int(loose.ids()[0])])
        loose.add(codes[:3])
        loose.compact()
    assert n_opened > 100
    with fh.Store(made, "w", merge=False) as store:
        pass
    path.write_bytes(content)
    renamed(made, path)
    assert len(fh.Store(made, check=True)) == 2000


def test_a_merge_takes_no_damage_over(folder):
    codes = sparse(np.random.default_rng(0), 300, 64)
    with filled(folder, codes):
        pass
    name = max(read_manifest(folder).segments, key=lambda each: each.n_codes).file.name
    content = bytearray((folder / name).read_bytes())
    content[ref.section_ranges(ref.section_sizes(ref.split(content)[0], 8))[1][0]] ^= 1  # of the first plane
    (folder / name).write_bytes(content)
    with fh.Store(folder, "w", merge=False) as store, pytest.raises(fh.FormatError, match=f"{name}: checksum"):
        store.compact()


def test_segments_are_index_files_by_jaccard_distance(folder):
    with filled(folder, sparse(np.random.default_rng(0), 100, 64)):
        pass
    for name in os.listdir(folder):
        if name.endswith(".fh"):
            assert fh.peek(folder / name).metric == "jaccard"
            assert not fh.verify(folder / name).fault
