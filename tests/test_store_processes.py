"""A store that several use at once: writers, readers, threads, forks, and merges while they go on."""

import gc
import multiprocessing
import os
import pickle
import re
import shutil
import threading
from contextlib import suppress

import numpy as np
import pytest

import fasthash as fh
from fasthash.store import entries, files, merging
from fasthash.store.keymap import KeyMap
from fasthash.store.manifest import read_manifest
from fasthash.store.segment import Segment
from fasthash.store.view import View
from stores import N_BYTES, assert_no_leaks, one, small, steps_of, take_step


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "photos.fhs"


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


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize(
    "place", [(KeyMap, "plus"), (View, "__init__"), (Segment, "without")], ids=lambda each: each[1]
)
@pytest.mark.parametrize("change", ["add", "update", "remove"])
def test_an_interrupted_change_changes_nothing(folder, monkeypatch, change, place, error):
    def interrupted(*arguments):
        raise error

    with small(folder) as store:
        store.add(one(1, 1), keys=["draft"])
        take = {
            "add": lambda: store.add(one(7, 7), keys=["new"]),
            "update": lambda: store.update(["1.jpg", "draft"], np.full((2, 2), 9, np.uint8)),
            "remove": lambda: store.remove(["1.jpg", "draft"]),
        }[change]
        before = held_by(store)
        with monkeypatch.context() as patch:
            patch.setattr(*place, interrupted)
            with suppress(error):
                take()
        if held_by(store) == before:
            take()
        after = {
            "add": before | {"new": [7, 7]},
            "update": before | {"1.jpg": [9, 9], "draft": [9, 9]},
            "remove": {key: code for key, code in before.items() if key not in ("1.jpg", "draft")},
        }[change]
        assert held_by(store) == after
        store.commit()
        assert held_by(fh.Store(folder, check=True)) == after
        assert store.add(one(3, 3), keys=["last"]).tolist() == [12 if change == "add" else 11]


def held_by(store):
    """Key and code of each entry."""
    codes, ids = store.to_index().to_arrays()
    return dict(zip(store.keys(ids).tolist(), codes.tolist(), strict=True))


@pytest.mark.parametrize("place", [(KeyMap, "plus"), (View, "__init__")], ids=lambda each: each[1])
def test_an_interrupted_first_addition_decides_nothing(folder, monkeypatch, place):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    with fh.Store(folder, "w", n_bits=16) as store:
        with monkeypatch.context() as patch:
            patch.setattr(*place, interrupted)
            with pytest.raises(KeyboardInterrupt):
                store.add(one(1, 1), keys=["a"])
        assert len(store) == 0
        store.commit()
        assert len(fh.Store(folder, check=True)) == 0
        store.add(one(2, 2), keys=[5])  # the kind of keys is open
        store.commit()
        assert held_by(fh.Store(folder, check=True)) == {5: [2, 2]}


def test_an_interrupted_end_of_a_commit_is_made_up_for(folder, monkeypatch):
    made = View.__init__

    def interrupted_once(*arguments):
        monkeypatch.setattr(View, "__init__", made)
        raise KeyboardInterrupt

    with small(folder) as store:
        store.add(one(1, 1), keys=["a"])
        monkeypatch.setattr(View, "__init__", interrupted_once)
        with pytest.raises(KeyboardInterrupt):
            store.commit()
        assert store.commit_number == 2
        assert len(fh.Store(folder)) == 11
        store.add(one(2, 2), keys=["b"])
        store.commit()
        assert len(fh.Store(folder, check=True)) == 12
    assert_no_leaks(folder)


@pytest.mark.parametrize("place", ["ftruncate", "write"])
def test_an_interrupted_opening_lets_others_write(folder, monkeypatch, place):
    small(folder).close()

    def interrupted(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, place, interrupted)
        with pytest.raises(KeyboardInterrupt) as kept:  # with its traceback, which keeps all objects
            fh.Store(folder, "w")
    fh.Store(folder, "w").close()
    del kept


# ---- a folder that is replaced under its writer ----


def made_anew(folder):
    shutil.rmtree(folder)
    with fh.Store(folder, "w", n_bits=16) as store:
        store.add(one(5, 5), keys=["new"])
        store.commit()


def restored(folder):
    """As a backup does that leaves the file of the lock."""
    for path in (folder.parent / "backup").iterdir():
        if path.name != "writer.lock":
            shutil.copyfile(path, folder / path.name)


def restored_as_a_whole(folder):
    shutil.rmtree(folder)
    shutil.copytree(folder.parent / "backup", folder)


def damaged(folder):
    (folder / "manifest").write_bytes(b"half of a manif")


def forgotten(folder):
    (folder / "manifest").unlink()


def unlocked(folder):
    (folder / "writer.lock").unlink()


@pytest.mark.skipif(os.name == "nt", reason="Windows removes no open file")
@pytest.mark.parametrize("merge", [True, False])
@pytest.mark.parametrize(
    "replace", [made_anew, restored, restored_as_a_whole, damaged, forgotten, unlocked, shutil.rmtree]
)
def test_a_writer_does_not_write_into_a_folder_that_was_replaced(folder, replace, merge):
    store = small(folder, merge=merge)
    shutil.copytree(folder, folder.parent / "backup")
    store.add(one(1, 1), keys=["a"])
    store.remove([f"{i}.jpg" for i in range(9)])
    store.commit()
    store.add(one(2, 2), keys=["b"])
    store._writer.merger.wait()
    replace(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else None
    said = rf"{re.escape(str(folder))}.*; nothing is written"
    for change in (store.commit, store.compact):
        with pytest.raises(OSError, match=said):
            change()
    assert len(store) == 3  # what was added is still there, for a new store
    store.close()
    assert ({path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else None) == before


def test_a_folder_that_is_replaced_within_a_commit_stays(folder, monkeypatch):
    def at(point):
        if point == "files flushed":
            unlocked(folder)

    with small(folder, merge=False) as store:
        store.add(one(1, 1), keys=["a"])
        monkeypatch.setattr(files, "reached", at)
        with pytest.raises(OSError, match="was removed or replaced"):
            store.commit()
    assert len(fh.Store(folder, check=True)) == 10


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


@pytest.fixture
def held_up(folder, monkeypatch):
    """A reader whose first `refresh` has opened commit 2, and waits to take it while there is commit 3."""
    with small(folder) as store:
        reader = fh.Store(folder)
        opened, go_on, open_it = threading.Event(), threading.Event(), reader._open

        def slow(known):
            newest = open_it(known)
            if threading.current_thread() is first:
                opened.set()
                assert go_on.wait(60)
            return newest

        monkeypatch.setattr(reader, "_open", slow)
        first = threading.Thread(target=reader.refresh)
        for key in ("a", "b"):
            store.add(one(1, 1), keys=[key])
            store.commit()
            if key == "a":
                first.start()
                assert opened.wait(60)
        yield reader, first, go_on
        go_on.set()
        first.join(60)


def meanwhile(call, first, go_on):
    """Call a function of a reader while a `refresh` is held up; wait for both."""
    second = threading.Thread(target=call)
    second.start()
    second.join(0.2)  # it may end before the first
    go_on.set()
    for thread in (first, second):
        thread.join(60)


def test_threads_that_refresh_do_not_take_the_reader_back(held_up):
    reader, first, go_on = held_up
    meanwhile(reader.refresh, first, go_on)
    assert reader.commit_number == 3
    assert "b" in reader


def test_a_reader_that_is_closed_during_refresh_stays_closed(held_up):
    reader, first, go_on = held_up
    meanwhile(reader.close, first, go_on)
    with pytest.raises(ValueError, match="closed"):
        len(reader)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_fork_during_refresh_refreshes(held_up):
    reader = held_up[0]
    child = multiprocessing.get_context("fork").Process(target=_refresh_in_fork, args=(reader,))
    child.start()
    child.join(60)
    assert child.exitcode == 0


def _refresh_in_fork(reader):
    assert reader.refresh()
    assert reader.commit_number == 3


def test_a_pickled_reader_opens_the_store_again(folder):
    with small(folder) as store:
        with pytest.raises(TypeError, match=r"opened with mode='w' cannot be pickled.*pickle a reader, Store\(path\)"):
            pickle.dumps(store)
        reader = fh.Store(folder, check=True)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            assert pool.apply(_first_key, (reader,)) == ("0.jpg", True)
        pickled = pickle.dumps(reader)
        store.add(one(1, 1), keys=["a"])
        store.commit()
        again = pickle.loads(pickled)
        assert again.refresh() is False
        assert (again.mode, again.commit_number, reader.commit_number) == ("r", 2, 1)
    reader.close()
    with pytest.raises(ValueError, match="closed"):
        pickle.dumps(reader)
    shutil.rmtree(folder)
    with pytest.raises(FileNotFoundError, match="holds no store"):
        pickle.loads(pickled)


def _first_key(reader):
    return reader.search(one(0, 1), k=1).keys[0, 0], reader._check


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
        error = store.info()["merge_error"]
        assert error == f"OSError: [Errno 28] No space left on device: {str(folder)!r}"
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
