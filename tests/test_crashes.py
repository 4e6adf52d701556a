"""A save that does not come to its end leaves the file that was there; two at once leave one of theirs."""

import itertools
import multiprocessing
import os
import re
import threading
import time

import numpy as np
import pytest

import fasthash as fh
from galleries import clustered, uniform

FORK = multiprocessing.get_context("fork")
ROUNDS = 300 if os.environ.get("FASTHASH_THOROUGH") else 40
LEFT_BEHIND = re.compile(r"\.fasthash-\d+-\d+\.tmp")


@pytest.fixture(scope="module")
def indices():
    """Three of different kinds and sizes, each written in several steps."""
    rng = np.random.default_rng(0)
    hier = fh.HierIndex.from_arrays(clustered(rng, 150_000, 8), rng.permutation(150_000))
    flat = fh.FlatIndex.from_arrays(uniform(rng, 100_000, 16), rng.integers(0, 2**60, 100_000))
    return hier, flat, fh.HierIndex.from_arrays(uniform(rng, 90_000, 12))


@pytest.fixture(scope="module")
def contents(indices):
    return [index.to_bytes() for index in indices]


@pytest.fixture
def path(tmp_path, indices):
    indices[0].save(tmp_path / "index.fh")
    return tmp_path / "index.fh"


def which(path, contents, mmap=False):
    """The number of the content that the file has."""
    return contents.index(fh.load(path, mmap=mmap).to_bytes())


def sweep(path):
    """Remove what a process has left beside the file, at most one; tells whether there was any."""
    beside = [each for each in path.parent.iterdir() if each != path]
    assert len(beside) <= 1
    for each in beside:
        assert LEFT_BEHIND.fullmatch(each.name)
        each.unlink()
    return bool(beside)


def save_for_ever(indices, path, saved):
    for index in itertools.cycle(indices):
        index.save(path)
        os.write(saved, b".")


def test_a_process_that_is_killed_while_it_saves(indices, contents, path):
    """At any moment: the file is what was saved last, or what was to be saved next."""
    rng = np.random.default_rng(1)
    begin = time.monotonic()
    for index in indices:
        index.save(path)
    one_save = (time.monotonic() - begin) / len(indices)
    n_cut_short = 0
    for round in range(ROUNDS):
        held = which(path, contents)
        done, saved = os.pipe()
        following = [indices[(held + i) % 3] for i in (1, 2, 3)]
        process = FORK.Process(target=save_for_ever, args=(following, path, saved))
        process.start()
        os.close(saved)
        n_saved = len(os.read(done, 1)) if round % 2 else 0  # in the first save, or after one
        time.sleep(rng.uniform(0, 1.5 * one_save))
        process.kill()
        process.join()
        while more := os.read(done, 1000):
            n_saved += len(more)
        os.close(done)
        assert which(path, contents, mmap=round % 2 == 0) in ((held + n_saved) % 3, (held + n_saved + 1) % 3)
        assert fh.verify(path).fault == ""
        n_cut_short += sweep(path)
    assert n_cut_short > 0


def test_what_a_killed_process_left_is_removed_by_the_next_save(indices, contents, path):
    (path.parent / f".fasthash-{os.getpid()}-1.tmp").write_bytes(contents[1][:5000])
    assert which(path, contents) == 0
    indices[1].save(path)
    assert which(path, contents) == 1
    assert not sweep(path)


def test_a_disk_that_is_full(indices, contents, path):
    """At fifty sizes, from no byte at all to one too few."""
    resource = pytest.importorskip("resource", reason="needs resource limits")
    n = len(contents[1])
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for size in [0, 1, 127, 128, 2**20, n - 1, *np.linspace(4096, n - 4096, 44, dtype=int).tolist()]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        try:
            with pytest.raises(OSError, match=r"cannot write: File too large: .*index\.fh"):
                indices[1].save(path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert path.read_bytes() == before
        assert not sweep(path)
    indices[1].save(path)
    assert which(path, contents) == 1


def test_two_processes_that_save_at_once(indices, contents, path):
    """Whoever reads meanwhile finds one of the two."""
    barrier = FORK.Barrier(3)

    def save_often(index):
        for _ in range(ROUNDS // 2):
            barrier.wait(60)
            index.save(path)
            barrier.wait(60)

    processes = [FORK.Process(target=save_often, args=(index,)) for index in indices[:2]]
    for process in processes:
        process.start()
    for round in range(ROUNDS // 2):
        barrier.wait(60)
        which(path, contents, mmap=round % 2 == 0)
        barrier.wait(60)
        which(path, contents, mmap=round % 2 == 1)
        assert not sweep(path)
    for process in processes:
        process.join(60)
        assert process.exitcode == 0


def test_threads_that_save_and_load_at_once(indices, contents, path):
    stop = threading.Event()
    wrong = []

    def read_often():
        while not stop.is_set():
            try:
                which(path, contents)
            except Exception as error:
                wrong.append(error)

    reader = threading.Thread(target=read_often)
    writers = [threading.Thread(target=lambda i=i: [indices[i].save(path) for _ in range(10)]) for i in (0, 1)]
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    reader.join()
    assert wrong == []
    assert not sweep(path)
    which(path, contents)


def test_an_index_that_changes_while_it_is_saved(path):
    """The file holds one moment of the index."""
    codes = uniform(np.random.default_rng(2), 60_000, 8)
    index = fh.HierIndex.from_arrays(codes[:50_000])
    stop = threading.Event()

    def add_often():
        for begin in range(50_000, 60_000, 10):
            if stop.is_set():
                return
            index.add(codes[begin : begin + 10])

    writer = threading.Thread(target=add_often)
    writer.start()
    for _ in range(10):
        index.save(path)
        saved, ids = fh.load(path).to_arrays()
        assert len(ids) % 10 == 0
        np.testing.assert_array_equal(ids, np.arange(len(ids)))
        np.testing.assert_array_equal(saved, codes[: len(ids)])
    stop.set()
    writer.join()
