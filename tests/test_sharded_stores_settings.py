"""The settings of an index whose shards are stores: its metric and widths, kept in its manifest and opened again."""

import importlib
import json
import sys

import numpy as np
import pytest

import fasthash as fh
from fasthash import MissingExtraError
from galleries import queries_for, sparse
from indices import assert_same

pytest.importorskip("ray", reason="needs the extra ray")

from fasthash.distributed import ShardedIndex, _ray
from fasthash.distributed.manifest import facts_of, read_shards, shard_folder, verify_shards
from fasthash.store.manifest import read_manifest
from local_shards import N_SHARDS, LocalIndex, assert_no_leaks, new
from stores import resigned


def fields(folder):
    return json.loads((folder / "manifest").read_bytes().partition(b"\n")[0])


def change(folder, **changes):
    """Change fields of a manifest, or take them away for None, with the checksum made right."""
    content = {name: value for name, value in (fields(folder) | changes).items() if value is not None}
    (folder / "manifest").write_bytes(resigned(json.dumps(content).encode()))


def same(index, one, queries):
    assert (index.metric, index.level_bits, index.memory) == (one.metric, one.level_bits, one.memory)
    ids = one.to_arrays()[1]
    assert_same(index.to_arrays(), one.to_arrays())
    for allow in (None, fh.IdFilter(ids[::2]), ids[:5]):
        for k in (7, 700):
            found = index.search(queries, k, allow=allow)
            assert_same(found, one.search(queries, k, allow=allow))
            assert found.distances.dtype == (np.float32 if one.metric == "jaccard" else np.int32)
        for radius in (0, 1) if one.metric == "hamming" else (0, 0.4, 0.9, 1):
            assert_same(
                index.range_search(queries, radius, allow=allow), one.range_search(queries, radius, allow=allow)
            )


@pytest.mark.parametrize("n_bits", [64, 166])
@pytest.mark.parametrize("metric", ["jaccard", "hamming"])
def test_an_index_opens_again_with_its_metric(tmp_path, metric, n_bits):
    rng = np.random.default_rng(n_bits)
    codes = fh.pack_bits(rng.random((2_000, n_bits)) < 0.1)
    codes[::50] = 0
    queries = np.concatenate([codes[:4] | codes[4:8], np.zeros_like(codes[:1])])
    one, folder = fh.HierIndex(n_bits, metric=metric), tmp_path / "index"
    index = LocalIndex(n_bits=n_bits, n_shards=N_SHARDS, metric=metric, store=folder)
    assert fields(folder)["format"] == (2 if metric == "jaccard" else 1)
    for step in range(1, 6):
        part = codes[(step - 1) * 400 : step * 400]
        gone = rng.choice(one.ids(), len(one) // 20, replace=False)
        changed = np.setdiff1d(rng.choice(one.ids(), len(one) // 20, replace=False), gone)
        for each in (index, one):
            each.remove(gone)
            each.update(changed, part[: len(changed)])
            each.add(part, np.arange(len(part)) + 1_000 * step)
        same(index, one, queries)
        if step == 3:
            index.compact()
            same(index, one, queries)
        assert index.commit() >= step
        same(index, one, queries)
        if step % 2:
            index.close()
            assert facts_of(folder)["metric"] == metric
            index = LocalIndex.open(folder)
            assert_no_leaks(folder)
            same(index, one, queries)
    if metric == "jaccard":
        with pytest.raises(ValueError, match="metric must be 'hamming' for keep, this index has 'jaccard'"):
            index.search(queries, keep=0.5)
    index.save(tmp_path / "saved")
    index.close()
    assert not [fault for _, _, fault in verify_shards(folder) if fault]
    with LocalIndex.open(folder) as index:
        assert repr(index).count("metric='jaccard'") == (metric == "jaccard")
        same(index, one, queries)


def test_what_an_index_in_shards_does_not_have(tmp_path):
    with (
        new(tmp_path / "index") as index,
        pytest.raises(TypeError, match="max_compared must be left out for"),
    ):
        index.search(np.zeros((1, 4), np.uint8), max_compared=0.5)


def test_nothing_is_saved_among_other_files(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("mine")
    with new(tmp_path / "index") as index:
        with pytest.raises(FileExistsError, match=r"^folder='.*' holds something else: thesis\.txt$"):
            index.save(tmp_path / "mine")
        assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
        index.save(tmp_path / "saved")
        index.save(tmp_path / "saved")  # in place of itself


def test_an_error_makes_no_folder(tmp_path):
    for options, message in (
        ({"metric": "dice"}, "metric must be one of 'hamming', 'jaccard', got 'dice'"),
        ({"metric": "jaccard"}, "level_bits must be one level with the metric jaccard"),
        ({"memory": "huge"}, "memory must be one of"),
        ({"n_bits": 64}, "n_bits must be left out beside level_bits, got n_bits = 64"),
        ({"replicas": 0}, "replicas must be at least 1, got 0"),
        ({"threads": 0}, "threads must be at least 1, got 0"),
        ({"hedge_after": 0}, "hedge_after must be positive and finite, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            new(tmp_path / "index", **options)
    for options, message in (
        ({"plan": "scan"}, "plan must not be given with the metric jaccard"),
        ({"memory": "compact"}, "memory must be the default with the metric jaccard"),
    ):
        with pytest.raises(ValueError, match=message):
            LocalIndex(64, metric="jaccard", store=tmp_path / "index", **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [MissingExtraError("this part needs 'ray'"), ConnectionError("no cluster answers")])
def test_without_a_cluster_no_folder_is_made(tmp_path, monkeypatch, error):
    def start():
        raise error

    monkeypatch.setattr(_ray, "start", start)
    codes = np.zeros((3, 4), np.uint8)
    for make in (
        lambda: ShardedIndex((8, 24), store=tmp_path / "index"),
        lambda: ShardedIndex.from_arrays(codes, store=tmp_path / "below/index"),
    ):
        with pytest.raises(type(error), match=str(error)):
            make()
    assert not list(tmp_path.iterdir())
    (tmp_path / "index").mkdir()  # a folder that was there stays
    with pytest.raises(type(error), match=str(error)):
        ShardedIndex((8, 24), store=tmp_path / "index")
    assert not list((tmp_path / "index").iterdir())


def test_without_the_package_no_folder_is_made(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    for name in [name for name in sys.modules if name.startswith("fasthash.distributed")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(fh, "distributed", raising=False)
    with pytest.raises(MissingExtraError, match=r"the package 'ray'.*fasthash-search\[ray\]"):
        importlib.import_module("fasthash.distributed").ShardedIndex((8, 24), store=tmp_path / "index")
    assert not list(tmp_path.iterdir())


@pytest.fixture(params=["hamming", "jaccard"])
def committed(tmp_path, request):
    """The folder of an index of 64 bits with 300 codes."""
    rng = np.random.default_rng(0)
    with LocalIndex(64, n_shards=N_SHARDS, metric=request.param, store=tmp_path / "index") as index:
        codes = sparse(rng, 300, 64)
        index.add(codes)
        index.search(queries_for(rng, codes), 3)
        index.commit()
    return tmp_path / "index"


def test_a_manifest_with_settings_that_no_index_has(committed):
    metric = read_shards(committed).metric
    other = "hamming" if metric == "jaccard" else "jaccard"
    text = (committed / "manifest").read_bytes()
    wrong = [
        {"metric": other},
        {"metric": 1, "format": 2},
        {"metric": "dice", "format": 2},
        {"metric": "hamming", "format": 2},
        {"metric": None, "format": 2},
        {"metric": "jaccard", "format": 1},
        {"format": 3},
        {"level_bits": 64},
        {"level_bits": []},
        {"level_bits": [True]},
        {"level_bits": [64.0]},
        {"level_bits": ["64"]},
        {"level_bits": [7, 57]},
        {"level_bits": [8] * 513},
        {"memory": ["default"]},
        {"plan": "quick"},
        {"shard": "id mod n_shards"},
        {"colour": "red"},
    ]
    jaccard = {"metric": "jaccard", "format": 2}
    wrong += [jaccard | each for each in ({"level_bits": [8, 56]}, {"plan": "scan"}, {"memory": "compact"})]
    for changes in wrong:
        change(committed, **changes)
        with pytest.raises(fh.FormatError, match="no manifest of an index in shards"):
            LocalIndex.open(committed)
        (committed / "manifest").write_bytes(text)
    with LocalIndex.open(committed) as index:
        assert (len(index), index.metric) == (300, metric)


def test_a_shard_with_other_settings_is_foreign(committed):
    """The manifest of the folder names settings that an index may have, and its shards have others."""
    metric = read_shards(committed).metric
    text = (committed / "manifest").read_bytes()
    changes = [{"level_bits": [72]}]
    if metric == "hamming":
        changes += [
            {"metric": "jaccard", "format": 2},
            {"memory": "compact"},
            {"plan": "scan"},
            {"level_bits": [8, 56]},
        ]
    else:
        changes += [{"metric": None, "format": 1}]
    for each in changes:
        change(committed, **each)
        with pytest.raises(fh.FormatError, match=r"has the settings .*, the manifest of the shards has"):
            LocalIndex.open(committed)
        with pytest.raises(fh.FormatError, match="has the settings"):
            facts_of(committed)
        faults = [fault for _, _, fault in verify_shards(committed) if fault]
        assert len(faults) == N_SHARDS
        assert "has the settings" in faults[0]
        (committed / "manifest").write_bytes(text)
    assert not [fault for _, _, fault in verify_shards(committed) if fault]


@pytest.mark.parametrize("changes", [{"memory": "compact"}, {"plan": "scan"}, {"level_bits": [8, 56]}])
def test_a_store_with_settings_that_no_index_has(tmp_path, changes):
    """Also of a store alone: FormatError, not the error of an argument."""
    folder = tmp_path / "molecules.fhs"
    with fh.Store(folder, "w", n_bits=64, metric="jaccard") as store:
        store.add(sparse(np.random.default_rng(0), 30, 64))
    change(folder, **changes)
    for mode in ("r", "w"):
        with pytest.raises(fh.FormatError, match="no manifest of a store"):
            fh.Store(folder, mode)


def test_a_store_by_hamming_distance_has_the_manifest_of_format_1(tmp_path):
    with fh.Store(tmp_path / "codes.fhs", "w", n_bits=64) as store:
        store.add(np.zeros((3, 8), np.uint8))
        store.commit()
    assert fields(tmp_path / "codes.fhs")["format"] == 1
    assert "metric" not in fields(tmp_path / "codes.fhs")
    with new(tmp_path / "index") as index:
        index.add(np.zeros((3, 4), np.uint8))
        index.commit()
    for folder in (tmp_path / "index", shard_folder(tmp_path / "index", 0)):
        named = folder / "manifest"
        if not named.exists():
            (named,) = folder.glob("manifest-*.commit")
        content = json.loads(named.read_bytes().partition(b"\n")[0])
        assert content["format"] == 1
        assert "metric" not in content
    assert read_manifest(tmp_path / "codes.fhs").metric == "hamming"
