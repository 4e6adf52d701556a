"""Several threads drive one index, each with ids of its own and a dictionary beside it.

What a thread sees of its own ids depends on its own changes alone, whatever the others do: so a search among them has
one right answer. `FASTHASH_STATEFUL_EXAMPLES` times as many rounds; on a free-threaded Python the lock is off.
"""

import os
import sys
import sysconfig
import threading

import numpy as np
import pytest

import fasthash as fh
import reference
from indices import assert_same, empty

N_ROUNDS = max(1, int(os.environ.get("FASTHASH_STATEFUL_EXAMPLES", "15")) // 15)
N_THREADS, N_STEPS = 4, 25
LAYOUT = (8, 16)
IDS_OF_A_THREAD = 10**6


class Driver(threading.Thread):
    """A random sequence of calls, and what the index must hold of it."""

    def __init__(self, index, number, seed, folder):
        super().__init__()
        self.index, self.path, self.error = index, folder / f"{number}.fh", None
        self.rng = np.random.default_rng([seed, number])
        self.codes, self.ids = np.zeros((0, 3), np.uint8), np.zeros(0, np.int64)
        self.next_id = number * IDS_OF_A_THREAD

    def run(self):
        calls = [self.add, self.add, self.remove, self.update, self.search, self.search, self.within, self.look_up]
        calls += [self.rarely(call) for call in (self.copy, self.file, self.compact)]
        calls.append(self.search if isinstance(self.index, fh.FlatIndex) else self.rarely(self.prune))
        try:
            for _ in range(N_STEPS):
                calls[self.rng.integers(len(calls))]()
            self.look_up()
        except BaseException as error:
            self.error = error

    def rarely(self, call):
        return lambda: call() if self.rng.random() < 0.4 else self.search()

    def draw(self, n):
        return self.rng.integers(0, 256, (n, 3), np.uint8) & np.uint8(0x77)

    def some(self):
        return self.rng.permutation(len(self.ids))[: self.rng.integers(1, 200)]

    # ---- calls ----

    def add(self):
        n = self.rng.choice([1, 30, 1500])
        codes, ids = self.draw(n), self.rng.permutation(n) + self.next_id
        self.next_id += n
        self.index.add(codes, ids)
        self.codes, self.ids = np.concatenate([self.codes, codes]), np.concatenate([self.ids, ids])

    def remove(self):
        rows = self.some()
        self.index.remove(self.ids[rows])
        self.codes, self.ids = np.delete(self.codes, rows, axis=0), np.delete(self.ids, rows)

    def update(self):
        rows = self.some()
        codes = self.draw(len(rows))
        self.index.update(self.ids[rows], codes)
        self.codes[rows] = codes

    def search(self, index=None):
        index = self.index if index is None else index
        queries, k = self.draw(4), self.rng.choice([1, 40, 300])
        rows = slice(None) if self.rng.random() < 0.5 else self.some()
        allow = fh.IdFilter(self.ids[rows]) if self.rng.random() < 0.5 else self.ids[rows]
        expected = reference.search(queries, self.codes[rows], self.ids[rows], k)
        assert_same(index.search(queries, k, allow=allow), expected)

    def within(self):
        queries, radius = self.draw(4), self.rng.integers(0, 12)
        found = self.index.range_search(queries, radius, allow=self.ids)
        assert_same(found, reference.range_search(queries, self.codes, self.ids, radius))
        counts = self.index.count_within(queries, radius, allow=self.ids)
        assert_same([counts], [reference.count_within(queries, self.codes, radius)])

    def prune(self):
        queries = self.draw(4)
        found = self.index.search(queries, 9, keep=1, allow=self.ids)
        assert_same(found, reference.search(queries, self.codes, self.ids, 9))

    def look_up(self):
        assert_same([self.index.reconstruct(self.ids)], [self.codes])
        assert all(i in self.index for i in self.ids[:9].tolist())
        assert self.next_id not in self.index

    def copy(self):
        other = self.index.copy()
        if len(self.ids):
            other.remove(self.ids[:1])
        self.search()

    def file(self):
        self.index.save(self.path)
        self.search(fh.load(self.path, mmap=bool(self.rng.integers(2))))

    def compact(self):
        self.index.compact()


@pytest.mark.parametrize("kind", ["flat", ("default", "auto"), ("compact", "multi-index")], ids=str)
def test_threads_that_change_and_search_one_index(kind, tmp_path):
    for seed in range(N_ROUNDS):
        index = empty(kind, LAYOUT)
        drivers = [Driver(index, number, seed, tmp_path) for number in range(N_THREADS)]
        for driver in drivers:
            driver.start()
        for driver in drivers:
            driver.join()
        for driver in drivers:
            if driver.error is not None:
                raise driver.error
        ids = np.concatenate([driver.ids for driver in drivers])
        codes = np.concatenate([driver.codes for driver in drivers])
        order = np.argsort(ids)
        assert_same(index.to_arrays(), (codes[order], ids[order]))


def test_a_free_threaded_python_keeps_its_lock_off():
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        pytest.skip("needs a free-threaded Python, such as 3.14t")
    assert not sys._is_gil_enabled()
