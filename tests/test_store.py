"""A store answers what an index of the same entries answers, whatever its history, and tells the keys of entries."""

import os
import pickle
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import fasthash as fh
from fasthash.store import commit, merging
from fasthash.store.manifest import read_manifest
from stores import N_BYTES, assert_no_leaks, assert_same, near_ties, one, small, steps_of, take_step

LEVELS = (8, 8, 16)
SETTINGS = [
    *({"level_bits": LEVELS, "plan": plan} for plan in ("auto", "scan", "prefix", "multi-index", "clusters")),
    {"n_bits": 64, "metric": "jaccard"},
]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "photos.fhs"


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: settings.get("plan", "jaccard"))
@pytest.mark.parametrize("seed", range(3))
def test_any_history_answers_what_an_index_answers(folder, seed, settings):
    rng = np.random.default_rng(seed)
    if "plan" in settings:
        settings = settings | {"memory": ("compact", "default", "fast")[seed]}
    index = fh.HierIndex(**settings)
    n_bytes = index.n_bits // 8
    with_ids = seed == 1
    with fh.Store(folder, "w", **settings) as store:
        reader = fh.Store(folder)
        names = {}
        for step in range(16):
            n = int(rng.choice([0, 1, 30, 400, 1500]))
            codes = near_ties(rng, n, n_bytes)
            codes[: n // 10] = 0  # no bit set: at Jaccard distance 0 from each other
            ids = rng.choice(10**6, n, replace=False) * 2 - 10**6 + (step % 2) if with_ids else None
            if with_ids:
                ids = np.setdiff1d(ids, np.append(index.to_arrays()[1], -1))
                codes = codes[: len(ids)]
            keys = [f"{step}/{i}" for i in range(len(codes))]
            given = store.add(codes, keys=keys, ids=ids)
            index.add(codes, ids)
            names |= dict(zip(given.tolist(), keys, strict=True))
            held = index.to_arrays()[1]
            gone = rng.choice(held, int(len(held) * rng.choice([0, 0.02, 0.3])), replace=False)
            if step % 3 == 0:
                store.remove([names[id] for id in gone.tolist()])
            else:
                store.remove(ids=gone)
            index.remove(gone)
            held = index.to_arrays()[1]
            changed = rng.choice(held, len(held) // 20, replace=False)
            codes = near_ties(rng, len(changed), n_bytes)
            store.update([names[id] for id in changed.tolist()], codes)
            index.update(changed, codes)
            if step % 5 == 4:
                assert_same(store, index, rng)
            if step % 2:
                store.commit()
                assert reader.refresh()
                assert not reader.refresh()
                assert_same(reader, index, rng, n_queries=2)
            if step % 8 == 5:
                store.compact()
        held = index.to_arrays()[1]
        assert store.keys(held).tolist() == [names[id] for id in held.tolist()]
        assert store.ids([names[id] for id in held.tolist()]).tolist() == held.tolist()
        store.commit()
        store.compact()
        del reader
    with fh.Store(folder, "w") as store:
        assert_same(store, index, rng)
        assert (store.to_index().to_arrays()[0] == index.to_arrays()[0]).all()
    assert_no_leaks(folder)


def test_statistics_and_certificates_are_those_of_the_segments(folder):
    rng = np.random.default_rng(0)
    codes = near_ties(rng, 3000, 8)
    with fh.Store(folder, "w", n_bits=64, plan="clusters") as store:
        store.add(codes)
        store.commit()
        index = fh.HierIndex.from_arrays(codes, plan="clusters")
        for given in ({"stats": True}, {"stats": True, "max_compared": 0.2}):
            (of_store, work), (of_index, expected) = (each.search(codes[:5], 3, **given) for each in (store, index))
            assert [each.tolist() for each in of_store] == [each.tolist() for each in of_index]
            assert [each.tolist() for each in work] == [each.tolist() for each in expected]
        assert store.range_search(codes[:2], 3, stats=True)[1].plan.tolist() == ["clusters"] * 2


# ---- wrong calls ----

WRONG = {
    "keys must be new to the store, but it holds '3.jpg'": lambda s: s.add(one(1, 1), keys=["3.jpg"]),
    "keys must be distinct, got 'a' twice": lambda s: s.add(np.zeros((2, 2), np.uint8), keys=["a", "a"]),
    "keys must be 2, one for each code, got 1": lambda s: s.add(np.zeros((2, 2), np.uint8), keys=["a"]),
    "keys must be given: the entries of this store have keys": lambda s: s.add(one(1, 1)),
    "keys must be in the store, but it does not hold 'x'": lambda s: s.remove(["x"]),
    "keys must be distinct, got '1.jpg' twice": lambda s: s.remove(["1.jpg", "1.jpg"]),
    "ids must be in the store, but it does not hold 99": lambda s: s.remove(ids=np.array([99])),
    "ids must be distinct, got 1 twice": lambda s: s.remove(ids=np.array([1, 1])),
    "ids must be new to the store, but it holds 4": lambda s: s.add(one(1, 1), keys=["a"], ids=np.array([4])),
    "ids must not hold -1": lambda s: s.add(one(1, 1), keys=["a"], ids=np.array([-1])),
    "give either keys or ids": lambda s: s.remove(),
    "codes must be given": lambda s: s.update(["1.jpg"]),
    "codes must be 1, one for each key": lambda s: s.update(["1.jpg"], np.zeros((2, 2), np.uint8)),
    "codes must have shape": lambda s: s.add(one(1, 2, 3), keys=["a"]),
    "ids must be in the store, but it does not hold 12": lambda s: s.keys(np.array([[1, 12]])),
    "keys must have at most 65,535 bytes": lambda s: s.add(one(1, 1), keys=["x" * 65_536]),
    "keys must be a sequence of keys, got 'abc'": lambda s: s.remove("abc"),
    "keys must be of the kind str": lambda s: s.remove([b"1.jpg"]),
    "key must be of the kind str, as all keys of this store, got 1": lambda s: 1 in s,
    "k must be at least 1": lambda s: s.search(one(1, 1), k=0),
    "ids must be an integer array": lambda s: s.keys(np.array([1.0])),
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_calls_change_nothing(folder, message):
    with small(folder) as store:
        with pytest.raises((TypeError, ValueError)) as error:
            WRONG[message](store)
        assert message.removeprefix("key must be")[:60] in str(error.value)
        assert store.info() == small_info(store)
        assert store.commit() == 1
        assert len(store) == 10


def small_info(store):
    return store.info() | {"codes": 10, "commit": 1, "next_id": 10, "segments": 1, "removed": 0}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ([1.5], "keys must be str, bytes, integers of 64 bits or uuid.UUID, got 1.5"),
        ([True], "got True"),
        ([Path("a")], r"got .*Path\('a'\); str\(path\) makes a key of a path"),
        ([2**64], "got 18446744073709551616"),
        (["a", 1], "keys must be of one kind"),
        ([None], "got None"),
        ("ab", "a single key goes into a list"),
        (7, "keys must be a sequence of keys, got 7"),
        (np.array([["a"]]), "keys must have one axis"),
        (np.array("a"), r"keys must have one axis, got shape \(\); use \['a'\] for a single one"),
    ],
)
def test_wrong_first_keys(folder, keys, message):
    with fh.Store(folder, "w", n_bits=16) as store:
        with pytest.raises((TypeError, ValueError), match=message):
            store.add(np.zeros((len(keys) if isinstance(keys, list) else 1, 2), np.uint8), keys=keys)
        store.add(one(1, 1), keys=np.array([5], np.int32))  # nothing has been decided
        assert 5 in store


def test_entries_without_keys(folder):
    with fh.Store(folder, "w", n_bits=16) as store:
        store.add(np.zeros((3, 2), np.uint8))
        store.commit()
        for wrong in (
            lambda: store.add(one(1, 1), keys=["a"]),
            lambda: store.remove(["a"]),
            lambda: store.ids(["a"]),
            lambda: store.search(one(1, 1)).keys,
            lambda: store.keys(np.array([1])),
        ):
            with pytest.raises(ValueError, match="have ids alone"):
                wrong()
        assert 2 in store
        assert 3 not in store
        store.remove(ids=np.array([2]))
        store.update(ids=np.array([0]), codes=one(3, 3))
        store.commit()
        assert store.search(one(3, 3), k=2).ids.tolist() == [[0, 1]]
        assert store.add(one(7, 7)).tolist() == [3]  # no id is given twice


def test_opening(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no store"):
        fh.Store(folder)
    with pytest.raises(FileNotFoundError, match="n_bits= or level_bits= makes a new one"):
        fh.Store(folder, "w")
    assert not folder.exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"notes\.txt"):
        fh.Store(tmp_path / "other", "w", n_bits=16)
    with pytest.raises(FileExistsError, match="is a file, not the folder"):
        fh.Store(tmp_path / "other" / "notes.txt", "w", n_bits=16)
    assert os.listdir(tmp_path / "other") == ["notes.txt"]
    with pytest.raises(ValueError, match="mode must be one of"):
        fh.Store(folder, "a")
    with fh.Store(folder, "w", level_bits=LEVELS, memory="fast", plan="scan"):
        assert fh.Store(folder).level_bits == LEVELS
    for wrong, message in (
        ({"n_bits": 16}, r"n_bits must be left out for a store with the levels \(8, 8, 16\), got 16"),
        ({"memory": "compact"}, "memory must be 'fast'"),
        ({"plan": "auto"}, "plan must be 'scan'"),
    ):
        with pytest.raises(ValueError, match=message):
            fh.Store(folder, "w", **wrong)
    with pytest.raises(ValueError, match="memory must be left out"):
        fh.Store(folder, memory="fast")
    fh.Store(folder, "w", level_bits=LEVELS, memory="fast", plan="scan").close()  # no error has kept the lock


def test_a_reader_changes_nothing(folder):
    small(folder).close()
    store = fh.Store(folder)
    for change in (
        lambda: store.add(one(1, 1), keys=["a"]),
        lambda: store.remove(["1.jpg"]),
        lambda: store.update(["1.jpg"], one(1, 1)),
        store.commit,
        store.compact,
    ):
        with pytest.raises(ValueError, match="mode='w'"):
            change()


def test_a_closed_store_says_so(folder):
    store = small(folder)
    assert "10 codes" in repr(store)
    store.remove(["1.jpg"])
    store.close()
    store.close()
    assert "closed" in repr(store)
    for call in (lambda: store.search(one(1, 1)), store.commit, lambda: len(store)):
        with pytest.raises(ValueError, match="closed"):
            call()
    assert len(fh.Store(folder)) == 10  # the removal was not committed


def test_a_change_that_waits_for_close_finds_the_store_closed(folder, monkeypatch):
    store = small(folder)
    store.add(one(1, 1), keys=["a"])  # is not committed
    changes = (store.commit, lambda: store.add(one(2, 2), keys=["b"]), lambda: store.remove(["1.jpg"]), store.compact)
    wait, refused, threads = store._writer.merger.wait, [], []

    def late(change):
        try:
            change()
        except Exception as error:
            refused.append(str(error))

    def wait_and_start():
        monkeypatch.setattr(store._writer.merger, "wait", wait)
        threads.extend(threading.Thread(target=late, args=(change,)) for change in changes)
        threads.append(threading.Thread(target=late, args=(store.close,)))  # is not refused
        for thread in threads:
            thread.start()
        time.sleep(0.2)  # until they wait
        wait()

    monkeypatch.setattr(store._writer.merger, "wait", wait_and_start)
    lock = store._writer._change

    @contextmanager
    def lets_others_go_first(change):
        with lock(change):
            yield
        time.sleep(0.1)

    monkeypatch.setattr(store._writer, "_change", lets_others_go_first)
    store.close()
    for thread in threads:
        thread.join()
    assert len(refused) == len(changes)
    assert all("closed" in each for each in refused)
    assert len(fh.Store(folder)) == 10


def test_an_interrupted_close_lets_others_write(folder, monkeypatch):
    store = small(folder)

    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(store._writer.merger, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.close()
    with fh.Store(folder, "w") as again:
        assert len(again) == 10


# ---- whole stores ----


@pytest.mark.parametrize("kind", ["flat", "hier"])
def test_stores_of_indices_and_back(folder, kind):
    rng = np.random.default_rng(0)
    codes, ids = near_ties(rng, 2000), rng.permutation(10_000)[:2000]
    index = fh.FlatIndex(32) if kind == "flat" else fh.HierIndex(LEVELS, memory="fast")
    index.add(codes, ids)
    keys = [f"{id}.jpg" for id in np.sort(ids).tolist()]
    with fh.Store.from_index(index, folder, keys=keys) as store:
        assert store.level_bits == index.level_bits
        assert store.keys(ids).tolist() == [f"{id}.jpg" for id in ids.tolist()]
        back = store.to_index()
        assert [each.tolist() for each in back.to_arrays()] == [each.tolist() for each in index.to_arrays()]
        back.remove(ids[:5])
        assert len(store) == 2000
    with pytest.raises(FileExistsError, match="holds a store already"):
        fh.Store.from_index(index, folder)
    with pytest.raises(TypeError, match="index must be a FlatIndex or HierIndex"):
        fh.Store.from_index(codes, folder.with_name("b"))
    back.save(folder.with_name("index.fh"))
    assert len(fh.load(folder.with_name("index.fh"))) == 1995


@pytest.mark.parametrize("keys", [None, ["a", "b", "c"]])
def test_of_an_index_that_cannot_be_written_no_store_is_made(folder, monkeypatch, keys):
    index = fh.FlatIndex.from_arrays(np.arange(6, dtype=np.uint8).reshape(3, 2))
    write_draft = commit.Commit.write_draft

    def written_and_failed(*arguments):
        write_draft(*arguments)
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(commit.Commit, "write_draft", written_and_failed)
        with pytest.raises(OSError, match="no space left"):
            fh.Store.from_index(index, folder, keys=keys)
    assert not folder.exists()
    with fh.Store.from_index(index, folder, keys=keys) as store:
        assert len(store) == 3


def test_copies_are_whole_and_independent(folder):
    with fh.Store(folder, "w", n_bits=8 * N_BYTES) as store:
        for step in range(1, 4):
            take_step(store, step)
            store.commit()
        take_step(store, 4)
        backup = folder.with_name("backup")
        store.copy_to(backup)  # the last commit, without the draft
        assert steps_of(fh.Store(backup)) == 3
        assert_no_leaks(backup)
        with pytest.raises(FileExistsError, match="holds a store already"):
            store.copy_to(backup)
        (folder.with_name("full")).mkdir()
        (folder.with_name("full") / "a").write_bytes(b"")
        with pytest.raises(FileExistsError, match="holds something else: a"):
            store.copy_to(folder.with_name("full"))
    with fh.Store(backup, "w") as copy:
        take_step(copy, 4)
        copy.commit()
    assert steps_of(fh.Store(backup)) == 4
    assert steps_of(fh.Store(folder)) == 3


def test_a_segment_is_an_index_file(folder):
    with small(folder):
        (segment,) = read_manifest(folder).segments
        index = fh.load(folder / segment.file.name)
        assert len(index) == 10
        assert fh.verify(folder / segment.file.name).fault == ""


def test_small_segments_are_merged_while_a_large_merge_runs(folder, monkeypatch):
    begun, goes_on, whole = threading.Event(), threading.Event(), merging.merged

    def slow(store_folder, manifest, sources):
        if any(source.facts.n_codes > 1_000 for source in sources):
            begun.set()
            assert goes_on.wait(60)
        return whole(store_folder, manifest, sources)

    rng = np.random.default_rng(3)
    every = rng.integers(0, 256, (4 * 2_000 + 60, N_BYTES), dtype=np.uint8)
    sizes = [2_000] * 4 + [1] * 60
    monkeypatch.setattr(merging, "merged", slow)
    with fh.Store(folder, "w", n_bits=8 * N_BYTES) as store:
        for end, size in zip(np.cumsum(sizes).tolist(), sizes, strict=True):
            store.add(every[end - size : end])
            store.commit()
            if end >= 4 * 2_000:
                assert begun.wait(60)
                for task in store._writer.merger._tasks[1:]:
                    task.join(60)
        assert store.info()["merging"]
        assert store.info()["segments"] <= 4 + 12  # the large ones, and the logarithm of 60 in groups of 4
        store.remove(ids=np.arange(0, len(every), 3))  # also from sources of the large merge
        goes_on.set()
        store._writer.merger.wait()
        store.commit()
        assert store.info()["segments"] < 10
    expected = fh.FlatIndex(8 * N_BYTES)
    kept = np.setdiff1d(np.arange(len(every)), np.arange(0, len(every), 3))
    expected.add(every[kept], ids=kept)
    found = fh.Store(folder).search(every[:50], k=20)
    np.testing.assert_array_equal(found.ids, expected.search(every[:50], k=20).ids)
    assert_no_leaks(folder)


def test_results_of_an_empty_store_have_keys_that_are_none(folder):
    queries = np.zeros((2, 8), np.uint8)
    with fh.Store(folder, "w", n_bits=64) as store:
        store.commit()
        for each in (store, fh.Store(folder)):
            found = each.search(queries, k=3)
            assert found.keys.tolist() == [[None] * 3] * 2
            assert pickle.loads(pickle.dumps(found)).keys.tolist() == found.keys.tolist()
            assert each.range_search(queries, 3).keys.shape == each.keys([]).shape == (0,)
            with pytest.raises(ValueError, match="ids must be in the store, but it does not hold 5"):
                each.keys([5])


def test_errors_name_the_width_that_was_given(folder, tmp_path):
    small(folder).close()
    with pytest.raises(ValueError, match=r"^n_bits must be left out: a reader"):
        fh.Store(folder, n_bits=64)
    with pytest.raises(ValueError, match=r"^level_bits, memory must be left out: a reader"):
        fh.Store(folder, level_bits=64, memory="fast")
    fh.Store(tmp_path / "one.fhs", "w", n_bits=64).close()
    with pytest.raises(ValueError, match=r"^n_bits must be 64 as in the store, or left out, got 72$"):
        fh.Store(tmp_path / "one.fhs", "w", n_bits=72)
    with pytest.raises(ValueError, match=r"^level_bits must be \(64,\) as in the store, or left out, got \(72,\)$"):
        fh.Store(tmp_path / "one.fhs", "w", level_bits=72)
    fh.Store(tmp_path / "two.fhs", "w", level_bits=(8, 56)).close()
    with pytest.raises(ValueError, match=r"^n_bits must be left out for a store with the levels \(8, 56\), got 64$"):
        fh.Store(tmp_path / "two.fhs", "w", n_bits=64)


def test_paths_with_a_null_byte(folder):
    index = fh.FlatIndex(64)
    with small(folder) as store:
        for call in (fh.Store, lambda path: fh.Store.from_index(index, path), store.copy_to):
            for path in ("a\0b", Path("a\0b")):
                with pytest.raises(ValueError, match="path must not contain a null byte, got"):
                    call(path)
