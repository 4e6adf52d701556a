"""The interpreter ends while daemon threads are inside calls: quietly, whatever the calls are."""

import subprocess
import sys

import pytest

SCRIPT = """
import sys, threading
import numpy as np
import fasthash as fh

rng = np.random.default_rng(0)
codes = rng.integers(0, 256, (60_000, 8), dtype=np.uint8)
vectors = rng.standard_normal((2000, 64)).astype(np.float32)
index = fh.HierIndex((8, 16, 40))
index.add(codes)
queries, ids = codes[:300] ^ np.uint8(0x55), rng.permutation(60_000)
path = sys.argv[2]
index.save(path)
data = index.to_bytes()
mask = np.ones(10_000_000, bool)

def fresh_add(progress=None):
    fh.HierIndex((64,)).add(codes, progress=progress)

def pruned():
    one = index.copy()
    one.remove([7])
    one.search(queries, 10, keep=0.5)

def rescoring():
    one = fh.RescoringIndex(64)
    one.add(vectors)
    one.search(vectors[:50])

held, turn = threading.Event(), index.copy()

def holder():
    turn.add(codes, progress=lambda done: held.set() or threading.Event().wait())  # waits inside the change: done is 0

def waiting():
    threading.Thread(target=holder, daemon=True).start()
    held.wait(30)
    ready.set()
    turn.remove([0])

calls = {
    "search": lambda: index.search(queries, 10),
    "search flat": lambda: index.search(queries, 5000),
    "range_search": lambda: index.range_search(queries, 20),
    "count_within": lambda: index.count_within(queries, 30),
    "add": fresh_add,
    "add with progress": lambda: fresh_add(lambda done: None),
    "remove": lambda: index.copy().remove(ids[:20_000]),
    "compact": lambda: (lambda one: (one.remove([5]), one.compact()))(index.copy()),
    "save": lambda: index.save(path),
    "load": lambda: fh.load(path),
    "verify": lambda: fh.verify(path),
    "filter": lambda: (fh.IdFilter(ids), fh.IdFilter(mask)),
    "filtered search": lambda: index.search(queries, 10, allow=ids[:5000]),
    "to_bytes": lambda: index.to_bytes(),
    "from_bytes": lambda: fh.HierIndex.from_bytes(data),
    "to_arrays": lambda: index.to_arrays(),
    "reconstruct": lambda: index.reconstruct(ids),
    "short calls": lambda: (len(index), index.nbytes, 5 in index, index.copy()),
    "pruned": pruned,
    "rescoring": rescoring,
    "waiting": waiting,
}
ready = threading.Event()

def work(call):
    while True:
        call()
        ready.set()

for _ in range(2):
    threading.Thread(target=work, args=[calls[sys.argv[1]]], daemon=True).start()
ready.wait(60)
"""

CALLS = [line.split('"')[1] for line in SCRIPT.partition("calls = {")[2].partition("\n}")[0].splitlines()[1:]]


@pytest.mark.parametrize("call", CALLS)
def test_a_daemon_thread_inside_a_call_does_not_disturb_the_end(call, tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, call, str(tmp_path / "index.fh")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
