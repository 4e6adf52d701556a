"""A store answers what an index of the same entries answers, whatever its history, and tells the keys of entries."""

import gc
import multiprocessing
import os
import pickle
import shutil
import threading
import uuid
from pathlib import Path

import numpy as np
import pytest

import fasthash as fh
from fasthash.store import commit, entries, merging
from fasthash.store.manifest import read_manifest
from stores import N_BYTES, assert_no_leaks, assert_same, near_ties, steps_of, take_step

LEVELS = (8, 8, 16)
SETTINGS = [
    *({"level_bits": LEVELS, "plan": plan} for plan in ("auto", "scan", "prefix", "multi-index", "clusters")),
    {"n_bits": 64, "metric": "jaccard"},
]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "photos.fhs"


def small(folder, n=10, **options):
    """A store of n entries with keys, committed."""
    store = fh.Store(folder, "w", n_bits=16, **options)
    store.add(np.arange(2 * n, dtype=np.uint8).reshape(n, 2), keys=[f"{i}.jpg" for i in range(n)])
    store.commit()
    return store


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


# ---- keys ----

KEYS = {
    "str": ["a", "", "caf\u00e9.jpg", "Straße/\U0001f600.png", "lone \udce9", "x" * 65_535],
    "bytes": [b"", b"\0", b"a", b"\xff" * 300],
    "int64": [0, -1, 2**63 - 1, -(2**63), 7],
    "uint64": np.array([0, 2**63, 2**64 - 1], np.uint64),
    "uuid": [uuid.UUID(int=0), uuid.UUID(int=2**128 - 1), uuid.UUID("12345678123456781234567812345678")],
}


@pytest.mark.parametrize("kind", KEYS)
def test_keys_of_every_kind(folder, kind):
    keys = KEYS[kind]
    as_given = keys.tolist() if isinstance(keys, np.ndarray) else keys
    with fh.Store(folder, "w", n_bits=16) as store:
        codes = np.arange(2 * len(keys), dtype=np.uint8).reshape(-1, 2)
        store.add(codes, keys=keys)
        for _ in range(2):  # as a draft, then committed
            assert store.search(codes, k=1).keys[:, 0].tolist() == as_given
            assert store.ids(keys).tolist() == list(range(len(keys)))
            assert all(key in store for key in as_given)
            store.commit()
    store = fh.Store(folder)
    assert store.info()["keys"] == kind
    assert store.keys(np.arange(len(keys))).tolist() == as_given
    result = pickle.loads(pickle.dumps(store.search(codes, k=len(keys) + 1)))
    assert result.keys[:, 0].tolist() == as_given
    assert result.keys[:, -1].tolist() == [None] * len(keys)
    assert store.range_search(codes[:1], 0).keys.tolist() == as_given[:1]
    with fh.Store(folder, "w") as writer, pytest.raises(TypeError, match=f"keys must be of the kind {kind}"):
        writer.add(codes[:1], keys=[1.5])


def test_keys_with_one_checksum_are_told_apart(folder):
    # CRC-32 of zlib: both are 0x4ddb0c25.
    pair = ["plumless", "buckeroo"]
    more = [f"{name}{i}" for i in range(50) for name in pair]  # equal, since the rest is
    with fh.Store(folder, "w", n_bits=16) as store:
        codes = np.arange(2 * len(more), dtype=np.uint8).reshape(-1, 2)
        store.add(codes, keys=more)
        store.commit()
        assert store.ids(more).tolist() == list(range(100))
        assert "plumless50" not in store
        store.add(codes[:1], keys=["plumless50"])
        store.commit()
        store.compact()
        assert store.ids(["plumless50", "buckeroo49"]).tolist() == [100, 99]


def test_a_file_of_keys_takes_twelve_bytes_a_key_beside_their_own(folder):
    keys = [f"holiday/2024/{i:07d}.jpg" for i in range(20_000)]
    with fh.Store(folder, "w", n_bits=16) as store:
        store.add(np.zeros((len(keys), 2), np.uint8), keys=keys)
        store.commit()
    size = read_manifest(folder).segments[0].keys.n_bytes
    assert size <= sum(map(len, keys)) + 12 * len(keys) + 512


def test_results_keep_the_keys_of_their_moment(folder):
    with small(folder) as store:
        reader = fh.Store(folder)
        result = reader.search(np.array([[0, 1]], np.uint8), k=2)
        draft = store.search(np.array([[0, 1]], np.uint8), k=1)
        store.remove(["0.jpg", "1.jpg"])
        store.add(np.array([[0, 1]], np.uint8), keys=["new.jpg"], ids=np.array([0]))
        store.commit()
        store.compact()
        assert reader.refresh()
        assert reader.search(np.array([[0, 1]], np.uint8), k=1).keys.tolist() == [["new.jpg"]]
        assert result.keys.tolist() == [["0.jpg", "1.jpg"]]
        assert draft.keys.tolist() == [["0.jpg"]]


def test_a_key_may_come_back(folder):
    with small(folder) as store:
        for _ in range(3):
            store.remove(["3.jpg"])
            assert "3.jpg" not in store
            store.add(np.array([[9, 9]], np.uint8), keys=["3.jpg"])
            store.remove(["3.jpg"])
            (id,) = store.add(np.array([[9, 8]], np.uint8), keys=["3.jpg"])
            assert store.ids(["3.jpg"]) == [id]
            store.commit()
        assert store.reconstruct(store.ids(["3.jpg"])).tolist() == [[9, 8]]
        assert len(store) == 10


@pytest.mark.parametrize("committed", [False, True])
def test_a_key_does_not_come_back_with_the_id_that_it_had(folder, committed):
    with small(folder) as store:
        store.add(one(9, 9), keys=["old"], ids=[77])
        result = store.search(one(9, 9), k=1)
        if committed:
            store.commit()
        store.remove(["old"])
        store.add(one(9, 8), keys=["new"], ids=[77])
        assert "old" not in store
        assert store.keys([77]).tolist() == ["new"]
        assert result.keys.tolist() == [["old"]]
        with pytest.raises(ValueError, match="it does not hold 'old'"):
            store.remove(["old"])
        store.add(one(1, 1), keys=["old"])
        assert store.ids(["new", "old"]).tolist() == [77, 78]
        store.commit()
        assert store.ids(["new", "old"]).tolist() == [77, 78]


@pytest.mark.parametrize("key", ["a", b"a", 0, 2**64 - 1, uuid.UUID(int=1)])
def test_a_store_without_entries_holds_no_key(folder, key):
    with fh.Store(folder, "w", n_bits=16) as store:
        assert key not in store
        with pytest.raises(TypeError, match=r"keys must be str, .*, got 1\.5"):
            1.5 in store  # noqa: B015
        store.add(one(1, 1), keys=[key])
        assert key in store
    with fh.Store(folder, "w", n_bits=16) as store:
        store.add(one(1, 1))
        assert 0 in store
        with pytest.raises(TypeError, match="id must be an integer, got 'a'"):
            "a" in store  # noqa: B015


def test_an_update_keeps_id_and_key(folder):
    with small(folder) as store:
        store.update(["4.jpg"], np.array([[200, 200]], np.uint8))
        store.add(np.array([[1, 1]], np.uint8), keys=["draft"])
        store.update(["draft", "4.jpg"], np.array([[2, 2], [201, 201]], np.uint8))
        for _ in range(2):
            assert store.ids(["4.jpg", "draft"]).tolist() == [4, 10]
            assert store.reconstruct(np.array([4, 10])).tolist() == [[201, 201], [2, 2]]
            store.commit()


# ---- wrong calls ----


def one(*values):
    return np.array([values], np.uint8)


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
        ([2**64], "got 18446744073709551616"),
        (["a", 1], "keys must be of one kind"),
        ([None], "got None"),
        ("ab", "a single key goes into a list"),
        (7, "keys must be a sequence of keys, got 7"),
        (np.array([["a"]]), "keys must have one axis"),
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


# ---- several at once ----


def test_a_second_writer_learns_who_is_first(folder):
    with small(folder):
        with pytest.raises(BlockingIOError, match=rf"process {os.getpid()} on host .*one writer"):
            fh.Store(folder, "w")
        context = multiprocessing.get_context("spawn")
        with context.Pool(1) as pool:
            assert f"process {os.getpid()} on host" in pool.apply(_error_of_writer, (str(folder),))
    fh.Store(folder, "w").close()


def _error_of_writer(folder):
    try:
        fh.Store(folder, "w")
    except BlockingIOError as error:
        return str(error)


def test_a_writer_that_is_forgotten_lets_others_write(folder):
    small(folder)  # is not kept
    gc.collect()
    fh.Store(folder, "w").close()


def test_an_interrupted_update_changes_nothing(folder, monkeypatch):
    class Interrupted:
        """A draft whose update ends with Ctrl-C."""

        def __init__(self, index):
            self._index = index

        def __getattr__(self, name):
            return getattr(self._index, name)

        def __len__(self):
            return len(self._index)

        def update(self, *arguments):
            raise KeyboardInterrupt

    with small(folder) as store:
        store.add(one(1, 1), keys=["draft"])
        draft = store._writer._draft
        monkeypatch.setattr(draft, "index", Interrupted(draft.index))
        with pytest.raises(KeyboardInterrupt):
            store.update(["1.jpg", "draft"], np.zeros((2, 2), np.uint8))
        monkeypatch.undo()
        store.update(["2.jpg", "draft"], np.full((2, 2), 9, np.uint8))
        store.commit()
        assert store.reconstruct(store.ids(["1.jpg", "2.jpg", "draft"])).tolist() == [[2, 3], [9, 9], [9, 9]]
        assert len(store) == 11


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_fork_of_the_writer_reads_only(folder):
    with small(folder) as store:
        child = multiprocessing.get_context("fork").Process(target=_in_fork, args=(store,))
        child.start()
        child.join(60)
        assert child.exitcode == 0
        with pytest.raises(BlockingIOError):  # the child has not given the lock away
            fh.Store(folder, "w")
        store.add(one(1, 1), keys=["a"])
        assert store.commit() == 2


def _in_fork(store):
    assert store.search(one(0, 1), k=1).keys.tolist() == [["0.jpg"]]
    with pytest.raises(RuntimeError, match="in the process that opened the store"):
        store.commit()
    store.close()


def _read_for_ever(folder, ready, stop, failed):
    try:
        store = fh.Store(folder)
        ready.release()
        while not stop.is_set():
            store.refresh()
            steps_of(store)
    except BaseException as error:
        failed.put(repr(error))


def test_readers_in_processes_and_threads_see_whole_commits(folder):
    context = multiprocessing.get_context("spawn")
    ready, stop, failed = context.Semaphore(0), context.Event(), context.Queue()
    with fh.Store(folder, "w", n_bits=8 * N_BYTES) as store:
        readers = [context.Process(target=_read_for_ever, args=(str(folder), ready, stop, failed)) for _ in range(2)]
        readers.append(threading.Thread(target=_read_for_ever, args=(str(folder), ready, stop, failed)))
        for reader in readers:
            reader.start()
        for _ in readers:
            assert ready.acquire(timeout=120)
        for step in range(1, 16):
            take_step(store, step)
            store.commit()
            if step % 6 == 0:
                store.compact()
        stop.set()
        for reader in readers:
            reader.join(120)
        assert failed.empty(), failed.get()
        assert steps_of(store) == 15
    fh.Store(folder, "w").close()
    assert_no_leaks(folder)


def test_files_that_a_reader_needs_stay(folder):
    with small(folder, merge=False) as store:
        reader = fh.Store(folder)
        needed = read_manifest(folder).files()
        store.add(one(1, 1), keys=["a"])
        store.commit()
        store.compact()
        assert needed <= set(os.listdir(folder))
        assert not needed & read_manifest(folder).files()
        reader.copy_to(folder.with_name("backup"))  # of the commit that the reader has
        assert reader.refresh()
        store.remove(["a"])
        store.commit()
        assert not needed & set(os.listdir(folder))
        assert_no_leaks(folder)
    assert len(fh.Store(folder.with_name("backup"))) == 10


@pytest.mark.parametrize(
    ("made_anew", "message"),
    [
        ({"n_bits": 32}, "n_bits=32 instead of 16"),
        ({"n_bits": 16, "metric": "jaccard"}, "metric='jaccard' instead of 'hamming'"),
        ({"n_bits": 16}, None),
    ],
)
def test_a_reader_of_a_folder_that_was_made_anew(folder, made_anew, message):
    """The new store is taken if its codes can be searched in the same way."""
    small(folder).close()
    with fh.Store(folder) as reader:
        shutil.rmtree(folder)
        with pytest.raises(FileNotFoundError, match="holds no store"):
            reader.refresh()
        with fh.Store(folder, "w", **made_anew) as store:
            store.add(np.zeros((3, made_anew["n_bits"] // 8), np.uint8), keys=["x", "y", "z"])
            store.commit()
        if message is None:
            assert reader.refresh()
            assert len(reader) == 3
            return
        with pytest.raises(ValueError, match=f"path='.*' holds another store now, with {message}; open it anew"):
            reader.refresh()
        assert len(reader) == 10
        assert reader.search(np.zeros((1, 2), np.uint8), k=1).keys.shape == (1, 1)


# ---- merging ----


def test_segments_stay_few_and_a_merge_misses_nothing(folder, monkeypatch):
    """Changes that are made and committed while a merge runs are in the merged segment."""
    goes_on, begun = threading.Event(), threading.Event()
    whole = merging.merged

    def slow(*arguments):
        begun.set()
        assert goes_on.wait(60)
        return whole(*arguments)

    with fh.Store(folder, "w", n_bits=8 * N_BYTES) as store:
        monkeypatch.setattr(merging, "merged", slow)
        monkeypatch.setattr(merging, "_MOST_REMOVED", 1)  # segments are merged with others alone
        for step in range(1, 5):
            take_step(store, step)
            store.commit()
        assert begun.wait(60)
        take_step(store, 5)  # removes and updates entries of the segments that are being merged
        store.commit()
        store.remove([f"4/{row}" for row in range(30, 40)])
        goes_on.set()
        store._writer.merger.wait()
        assert store.info()["segments"] > 1
        store.add(codes_of_nothing(), keys=[])
        store.commit()
        assert store.info()["segments"] == 2
        store.remove([f"4/{row}" for row in range(20, 30)])  # of the merged segment
        store.add(np.concatenate([codes(4, range(20, 40))]), keys=[f"4/{row}" for row in range(20, 40)])
        store.commit()
        assert steps_of(store) == 5
        for step in range(6, 40):
            take_step(store, step)
            store.commit()
            store._writer.merger.wait()
            assert store.info()["segments"] < 14
        assert steps_of(store) == 39
    assert steps_of(fh.Store(folder)) == 39
    assert_no_leaks(folder)


def codes_of_nothing():
    return np.zeros((0, N_BYTES), np.uint8)


def codes(step, rows):
    from stores import codes_of

    return codes_of(step, 0, np.array(rows))


def test_closing_takes_the_merge_and_leaves_the_draft(folder):
    with fh.Store(folder, "w", n_bits=8 * N_BYTES) as store:
        for step in range(1, 5):
            take_step(store, step)
            store._writer.merger.wait()  # or it may still clean up, and not take the merge
            store.commit()
        store.remove(["4/0"])
    reader = fh.Store(folder)
    assert steps_of(reader) == 4
    assert reader.info()["segments"] == 1
    assert_no_leaks(folder)


def test_a_merge_that_fails_is_told_and_changes_nothing(folder, monkeypatch):
    def broken(*arguments):
        raise OSError(28, "No space left on device")

    with fh.Store(folder, "w", n_bits=8 * N_BYTES) as store:
        monkeypatch.setattr(merging, "merged", broken)
        for step in range(1, 5):
            take_step(store, step)
            store.commit()
        store._writer.merger.wait()
        assert "No space left" in store.info()["merge_error"]
        assert steps_of(store) == 4
        monkeypatch.undo()
        take_step(store, 5)
        store.commit()
        store._writer.merger.wait()
        assert store.info()["merge_error"] is None
    assert steps_of(fh.Store(folder)) == 5


def test_compacting_leaves_the_draft(folder):
    with fh.Store(folder, "w", n_bits=8 * N_BYTES, merge=False) as store:
        store.compact()  # of nothing
        for step in range(1, 4):
            take_step(store, step)
            store.commit()
        take_step(store, 4)
        store.compact()
        assert steps_of(fh.Store(folder)) == 3
        assert store.info()["segments"] == 1
        assert steps_of(store) == 4
        store.commit()
        assert steps_of(fh.Store(folder)) == 4
        before = store.commit_number
        store.compact()
        store.compact()
        assert store.commit_number == before + 1  # the second had nothing to do


def test_everything_removed(folder):
    with small(folder) as store:
        store.remove([f"{i}.jpg" for i in range(10)])
        for _ in range(2):
            assert len(store) == 0
            assert "1.jpg" not in store
            assert store.search(one(1, 1), k=2).ids.tolist() == [[-1, -1]]
            assert store.search(one(1, 1), k=2, keep=0.5).keys.tolist() == [[None, None]]
            assert store.count_within(one(1, 1), 16).tolist() == [0]
            store.commit()
        assert store.info()["segments"] == 0
        store.compact()
        assert store.add(one(5, 5), keys=["again"]).tolist() == [10]
        store.commit()
    assert_no_leaks(folder)
    assert len(fh.Store(folder).to_index()) == 1


def test_many_removals_keep_few_lists(folder):
    rng = np.random.default_rng(0)
    n = 40_000
    with fh.Store(folder, "w", n_bits=64, merge=False) as store:
        store.add(rng.integers(0, 256, (n, 8), dtype=np.uint8))
        store.commit()
        order = rng.permutation(n)[:12_000]
        for ids in np.split(order, 60):
            store.remove(ids=ids)
            store.commit()
        (segment,) = read_manifest(folder).segments
        assert segment.n_removed == 12_000
        assert len(segment.removed) <= 12
        index = store.to_index()
        assert set(index.to_arrays()[1].tolist()) == set(range(n)) - set(order.tolist())
        assert_no_leaks(folder)


def test_the_core_checks_entries_and_levels():
    codes = np.arange(20, dtype=np.uint8).reshape(10, 2)
    index = fh.HierIndex.from_arrays(codes, np.arange(10) * 3 - 5)._impl
    for wrong in ([10], [-1], [2**62], [1, 1], [2, 1]):
        with pytest.raises(ValueError, match="entries must ascend and be in the index"):
            index.without(np.array(wrong))
    less = index.without(np.array([0, 9]))
    assert (len(index), len(less)) == (10, 8)
    with pytest.raises(ValueError, match="entries must ascend"):
        less.without(np.array([9]))
    assert less.entry_ids(np.array([-1, 0, 1, 8, 9, 10])).tolist() == [-1, -1, -2, 19, -1, -1]
    other = fh.HierIndex.from_arrays(codes, np.arange(10) + 100)._impl
    both = index.joined([less, other], 200)
    segments, entries = both.places(np.array([-5, -2, 100, 109, 7]))
    assert segments.tolist() == [-1, 0, 1, 1, 0]
    assert entries.tolist() == [-1, 1, 0, 9, 4]
    assert (len(both), both.next_id()) == (18, 200)
    assert index.without(np.arange(10)).entry_ids(np.arange(2)).tolist() == [-1, -1]
    assert len(index.joined([], 3)) == 0
    for wrong in (fh.HierIndex((8, 8))._impl, fh.FlatIndex(16)._impl):
        with pytest.raises(ValueError, match="indices must be of the same kind and metric, with levels of"):
            index.joined([wrong], 0)
    with pytest.raises(ValueError, match="must not hold None"):
        index.joined([None], 0)


def test_sets_of_entries():
    rng = np.random.default_rng(0)
    for _ in range(200):
        some, others = (rng.integers(0, 20, rng.integers(0, 15)) for _ in range(2))
        assert entries.distinct(some).tolist() == np.unique(some).tolist()
        assert entries.difference(some, others).tolist() == np.setdiff1d(some, others).tolist()


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
