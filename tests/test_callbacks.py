"""Callbacks inside calls: `progress`, signal handlers, Ctrl-C. A change inside a change of the same index is an error,
never a deadlock; searches are free."""

import ast
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import fasthash as fh
import reference
from fasthash._locks import Condition, Lazy
from galleries import clustered, uniform
from indices import assert_same, filled

LAYOUT = (8, 16, 40)
RNG = np.random.default_rng(0)
FEW = clustered(RNG, 1000, 8)
MANY = uniform(RNG, 1_000_000, 8)
QUERIES = FEW[:3]
# Each is tried on an index that holds FEW.
CHANGES = {
    "add": lambda index: index.add(FEW[:1]),
    "remove": lambda index: index.remove([0]),
    "update": lambda index: index.update([0], FEW[1:2]),
    "merge": lambda index: index.merge(fh.FlatIndex.from_arrays(FEW[:1], [-9])),
    "compact": lambda index: index.compact(),
}
posix = pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="needs the signals of POSIX")


def once(action):
    """A `progress` that does something the first time it is called inside the change."""
    calls = []

    def progress(done):
        if done < 1 and not calls:
            calls.append(done)
            action()

    progress.calls = calls
    return progress


def refusal(call):
    """The error of a call inside a change."""
    with pytest.raises(RuntimeError) as caught:
        call()
    return str(caught.value)


def calling(action):
    """Does something in a signal handler, here and now."""
    before = signal.signal(signal.SIGUSR1, lambda *_: action())
    try:
        signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)


def in_a_handler_of(call, action):
    """Makes a call until a signal has come in the midst of it; its handler does something there."""
    ran = []

    def handler(_, frame):
        if not ran and frame.f_code.co_filename.endswith(os.path.join("fasthash", "_index_base.py")):
            ran.append(None)
            action()

    def send():
        while not ran and not over.wait(0.005):
            signal.pthread_kill(me, signal.SIGUSR1)

    me, over = threading.get_ident(), threading.Event()
    before = signal.signal(signal.SIGUSR1, handler)
    sender = threading.Thread(target=send)
    sender.start()
    try:
        while not ran:
            call()
    finally:
        over.set()
        sender.join()
        signal.signal(signal.SIGUSR1, before)


# ---- a change inside a change ----


@pytest.mark.parametrize("way", ["progress", pytest.param("handler", marks=posix)])
def test_a_change_inside_a_change_is_refused(way):
    index, messages = filled(fh.HierIndex((64,)), FEW), []

    def inside():
        messages.extend(refusal(partial(change, index)) for change in CHANGES.values())

    index.add(MANY, progress=once(inside if way == "progress" else lambda: calling(inside)))
    assert messages == [
        f"{change} was called while this thread is inside add of the same index; call it once add has returned"
        for change in CHANGES
    ]
    assert len(index) == len(FEW) + len(MANY)  # the outer change has happened, the inner ones have not
    assert_same([index.reconstruct([0])], [FEW[:1]])
    for name in ("add", "merge", "update", "remove", "compact"):
        CHANGES[name](index)


@posix
@pytest.mark.parametrize("outer", ["remove", "update", "merge", "compact"])
def test_every_change_refuses_changes_inside_it(outer):
    n = 600_000
    before = filled(fh.HierIndex((64,), plan="multi-index"), MANY[:n])
    before.remove([1])  # so that there is something to compact
    other = filled(fh.HierIndex((64,)), MANY[:n], -2 - np.arange(n))
    changes = {
        "remove": lambda index: index.remove(np.arange(0, n, 3)),
        "update": lambda index: index.update(np.arange(0, n, 2), MANY[: n // 2]),
        "merge": lambda index: index.merge(other),
        "compact": lambda index: index.compact(),
    }
    messages, index = [], before

    class OverError(Exception):
        pass

    def change():
        nonlocal index
        index = before.copy()
        changes[outer](index)

    def inside():
        messages.append(refusal(lambda: index.remove([5])))
        raise OverError  # ends the outer change as well

    with pytest.raises(OverError):
        in_a_handler_of(change, inside)
    assert messages == [
        f"remove was called while this thread is inside {outer} of the same index; call it once {outer} has returned"
    ]
    assert_same(index.to_arrays(), before.to_arrays())  # none of it has happened
    index.remove([5])
    assert len(index) == n - 2


def test_an_error_that_is_not_caught_ends_the_outer_change():
    index = filled(fh.HierIndex((64,)), FEW)
    with pytest.raises(RuntimeError, match="remove was called while this thread is inside add"):
        index.add(MANY, progress=lambda done: index.remove([0]))
    assert_same(index.search(QUERIES, 9), reference.search(QUERIES, FEW, np.arange(len(FEW)), 9))
    index.remove([0])
    assert len(index) == len(FEW) - 1


def test_searches_and_reads_inside_a_change_see_the_index_before_it(tmp_path):
    index = filled(fh.HierIndex(LAYOUT), FEW[:900])
    index.add(FEW[900:])  # in a segment of its own: a pruned search needs them together
    ids, found = np.arange(len(FEW)), []
    kept = fh.IdFilter(np.arange(0, 1000, 7))

    def look():
        found.append(index.search(QUERIES, 9))
        found.append(index.search(QUERIES, 9, keep=1))
        found.append(index.search(QUERIES, 9, keep=1, allow=kept))
        found.append((index.count_within(QUERIES, 20),))
        index.save(tmp_path / "index.fh")
        found.append(index.to_arrays())

    index.add(MANY, progress=once(look))
    expected = reference.search(QUERIES, FEW, ids, 9)
    assert_same(found[0], expected)
    assert_same(found[1], expected)
    assert_same(found[2], reference.search(QUERIES, FEW[::7], ids[::7], 9))
    assert_same(found[3], (reference.count_within(QUERIES, FEW, 20),))
    assert_same(found[4], (FEW, ids))
    assert len(fh.load(tmp_path / "index.fh")) == len(FEW)
    assert len(index) == len(FEW) + len(MANY)
    index.search(QUERIES, 9, keep=1)


def test_another_index_can_be_changed_inside_a_change():
    index, other = filled(fh.HierIndex((64,)), FEW), fh.FlatIndex(64)
    index.add(MANY, progress=lambda done: other.add(FEW[:1]))
    assert len(other) > 1


# ---- several threads ----


@pytest.mark.parametrize("n", [2, 3])
def test_indices_whose_callbacks_change_each_other_in_a_ring(n):
    """Each thread is inside a change of its own index and changes that of the next: one of them is refused."""
    ring = [filled(fh.HierIndex((64,)), FEW) for _ in range(n)]
    all_inside, messages = threading.Barrier(n), []

    def work(i):
        def change_the_next():
            all_inside.wait(60)
            try:
                ring[(i + 1) % n].add(FEW[:1])
            except RuntimeError as error:
                messages.append(str(error))

        ring[i].add(MANY, progress=once(change_the_next))

    workers = [threading.Thread(target=work, args=[i]) for i in range(n)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert messages == [
        "add was called while another thread is inside add of the same index and waits until add of another index is "
        "over, which this thread is inside; call it once add has returned"
    ]
    assert sorted(len(index) for index in ring) == [1_001_000] + [1_001_001] * (n - 1)


def test_a_change_that_waits_for_its_turn_refuses_changes_inside_it_too():
    index, held, go = filled(fh.HierIndex((64,)), FEW), threading.Event(), threading.Event()
    other = threading.Thread(target=index.add, args=[MANY], kwargs={"progress": once(lambda: held.set() or go.wait())})
    other.start()
    held.wait()
    messages = []

    def inside():
        messages.append(refusal(lambda: index.remove([1])))
        go.set()

    index.add(FEW[:1], progress=once(inside))
    other.join()
    assert messages == [
        "remove was called while this thread waits to begin add of the same index; call it once add has returned"
    ]
    assert len(index) == len(FEW) + len(MANY) + 1


def interrupted(call):
    """A call, with Ctrl-C a moment later."""
    timer = threading.Timer(0.1, signal.pthread_kill, [threading.get_ident(), signal.SIGINT])
    timer.start()
    try:
        call()
    finally:
        timer.join()


@posix
def test_ctrl_c_ends_the_wait_for_another_threads_change():
    """The other change stands still until the interrupts have come: a wait that cannot be interrupted never ends."""
    index, held, go = filled(fh.HierIndex((64,)), FEW), threading.Event(), threading.Event()
    other = threading.Thread(target=index.add, args=[MANY], kwargs={"progress": once(lambda: held.set() or go.wait())})
    other.start()
    held.wait()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for change in CHANGES.values():
            with pytest.raises(KeyboardInterrupt):
                interrupted(partial(change, index))
    finally:
        signal.signal(signal.SIGINT, before)
        go.set()
        other.join()
    assert len(index) == len(FEW) + len(MANY)
    index.remove([0])


# ---- signal handlers inside searches ----


@posix
@pytest.mark.parametrize("keep", [None, 0.5])
@pytest.mark.parametrize("plan", ["auto", "scan", "prefix"])
def test_a_handler_may_search_and_change_the_index_while_a_search_runs(plan, keep):
    """With `keep`, the search itself brings the codes together, in turn with changes."""
    index = fh.HierIndex(LAYOUT, plan=plan)
    index.add(MANY[:500_000])
    index.add(FEW)
    queries = FEW[:500] if keep is None else FEW[:1]
    results = []

    def search():
        index.add(FEW[:1], [-5 - len(results)])  # so that the codes are not together
        results.append(index.search(queries, 20, keep=keep))

    def inside():
        n = len(index)
        index.search(QUERIES, 5)
        index.search(QUERIES, 5, keep=0.5)
        index.search(QUERIES, 5, allow=np.arange(100))
        index.add(FEW[:2], [-2, -3])
        index.remove([7])
        index.update([8], FEW[:1])
        assert len(index) == n + 1

    in_a_handler_of(search, inside)
    assert -2 in index
    assert -3 in index
    assert 7 not in index
    assert_same([index.reconstruct([8])], [FEW[:1]])
    codes, ids = index.to_arrays()
    assert_same(index.search(QUERIES, 20), reference.search(QUERIES, codes, ids, 20))
    assert len(index) == 501_000 + 1 + len(results) or len(index) == 501_000 + 2 + len(results)


# ---- indices whose lock is of Python ----


@pytest.fixture
def rescoring(monkeypatch):
    """An index of embeddings, and a list of what it does, once, in the midst of its next change."""
    from fasthash import _embedding_state as module

    index, actions = fh.RescoringIndex(64), []
    pack_signs = module.pack_signs

    def and_more(vectors, n_bits, center):
        if actions:
            actions.pop()()
        return pack_signs(vectors, n_bits, center)

    index.add(VECTORS)
    monkeypatch.setattr(module, "pack_signs", and_more)
    return index, actions


VECTORS = RNG.standard_normal((50, 64)).astype(np.float32)
RESCORING_CHANGES = {
    "add": lambda index: index.add(VECTORS[:2]),
    "update": lambda index: index.update([1, 2], VECTORS[:2]),
    "remove": lambda index: index.remove([4]),
}


@pytest.mark.parametrize("outer", ["add", "update"])
def test_a_change_of_embeddings_inside_a_change_is_refused(rescoring, outer):
    index, actions = rescoring
    messages = []

    def inside():
        messages.extend(refusal(partial(change, index)) for change in RESCORING_CHANGES.values())
        assert index.search(VECTORS[:1], 1).ids == 0

    actions.append(inside)
    RESCORING_CHANGES[outer](index)
    assert messages == [
        f"{change} was called while this thread is inside {outer} of the same index; call it once {outer} has returned"
        for change in RESCORING_CHANGES
    ]
    assert len(index) == 50 + 2 * (outer == "add")
    for change in RESCORING_CHANGES.values():
        change(index)


def test_indices_with_locks_of_both_kinds_in_a_ring(rescoring):
    embeddings, actions = rescoring
    codes = filled(fh.HierIndex((64,)), FEW)
    both_inside, messages = threading.Barrier(2), []

    def change_the_other(change):
        both_inside.wait(60)
        try:
            change()
        except RuntimeError as error:
            messages.append(str(error))

    actions.append(lambda: change_the_other(lambda: codes.remove([0])))
    progress = once(lambda: change_the_other(lambda: embeddings.remove([0])))
    other = threading.Thread(target=codes.add, args=[MANY], kwargs={"progress": progress})
    other.start()
    embeddings.add(VECTORS[:2])
    other.join()
    (message,) = messages
    assert message in [
        "remove was called while another thread is inside add of the same index and waits until add of another index "
        "is over, which this thread is inside; call it once add has returned"
    ]
    assert (0 in codes) != (0 in embeddings)


@posix
def test_ctrl_c_and_forks_while_another_thread_changes_embeddings(rescoring):
    index, actions = rescoring
    held, go = threading.Event(), threading.Event()
    actions.append(lambda: held.set() or go.wait())
    other = threading.Thread(target=index.add, args=[VECTORS[:3]])
    other.start()
    held.wait()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for change in RESCORING_CHANGES.values():
            with pytest.raises(KeyboardInterrupt):
                interrupted(partial(change, index))
    finally:
        signal.signal(signal.SIGINT, before)
    child = multiprocessing.get_context("fork").Process(target=change_in_child, args=[index])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child.start()
    child.join(60)
    child.kill()
    go.set()
    other.join()
    assert child.exitcode == 0
    assert len(index) == 53


def change_in_child(index):
    for change in RESCORING_CHANGES.values():
        change(index)
    assert len(index) == 51


def test_a_condition_is_free_in_a_forked_child():
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    condition, held, go = Condition(), threading.Event(), threading.Event()

    def hold():
        with condition:
            held.set()
            go.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    child = multiprocessing.get_context("fork").Process(target=enter, args=[condition])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child.start()
    child.join(60)
    child.kill()
    go.set()
    holder.join()
    assert child.exitcode == 0
    assert condition.acquire(timeout=60)


def enter(condition):
    with condition:
        condition.notify_all()


class Holder:
    """An object whose attribute takes as long to compute as the test wants."""

    held, go = threading.Event(), threading.Event()

    @Lazy
    def value(self):
        """The value."""
        self.held.set()
        self.go.wait()
        return 7


def test_a_lazy_attribute_is_free_in_a_forked_child():
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    holder = Holder()
    reader = threading.Thread(target=lambda: holder.value)
    reader.start()
    holder.held.wait()
    child = multiprocessing.get_context("fork").Process(target=read_anew)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child.start()
    child.join(60)
    child.kill()
    holder.go.set()
    reader.join()
    assert child.exitcode == 0
    assert vars(holder) == {"value": 7}
    assert holder.value == 7
    assert Holder.value.__doc__ == "The value."


def read_anew():
    Holder.go = threading.Event()
    Holder.go.set()
    Holder.held = threading.Event()
    assert Holder().value == 7


LOCKS = {
    "threading": {"Lock", "RLock", "Condition", "Semaphore", "BoundedSemaphore", "Event", "Barrier"},
    "functools": {"cached_property"},
    "queue": {"Queue", "LifoQueue", "PriorityQueue"},
    "multiprocessing": {"Lock", "RLock", "Condition", "Semaphore", "Event", "Queue"},
}
MAKE_LOCKS = {"_locks.py": {"Condition"}}  # which it resets in a child


def test_locks_of_the_python_layers_are_those_that_children_find_free():
    package = Path(fh.__file__).parent
    for path in package.rglob("*.py"):
        found = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module in LOCKS:
                found |= {alias.name for alias in node.names} & LOCKS[node.module]
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in LOCKS:
                found |= {node.attr} & LOCKS[node.value.id]
        name = path.relative_to(package).as_posix()
        assert found <= MAKE_LOCKS.get(name, set()), f"{name} makes {found}; use fasthash._locks"


# ---- forks ----

FORK = """
import os, sys, threading
import numpy as np
import fasthash as fh

rng = np.random.default_rng(0)
many = rng.integers(0, 256, (1_000_000, 8), dtype=np.uint8)
few = many[:1000]
index = fh.HierIndex((64,))
index.add(few)
forked = []

def refused(call):
    try:
        call()
    except RuntimeError as error:
        return "remove was called while this thread is inside add" in str(error)

def inside(done):
    if forked or done == 1:
        return
    forked.append(os.fork())
    if forked[0] == 0:
        assert refused(lambda: index.remove([0]))
        index.search(few, 3)

try:
    index.add(many, progress=inside)
    n = len(few) + len(many)
except RuntimeError as error:  # what the parent's threads had begun is lost in the child
    assert forked == [0] and "forked child" in str(error), error
    n = len(few)
assert len(index) == n
workers = [threading.Thread(target=index.remove, args=[[i]]) for i in range(4)]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
index.add(few)
assert len(index) == n + 996
if forked[0] == 0:
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(forked[0], 0)[1]) == 0
"""

FORK_BESIDE = """
import os, sys, threading
import numpy as np
import fasthash as fh

rng = np.random.default_rng(0)
many = rng.integers(0, 256, (1_000_000, 8), dtype=np.uint8)
index = fh.HierIndex((64,))
index.add(many[:1000])
held, go = threading.Event(), threading.Event()
other = threading.Thread(
    target=index.add, args=[many], kwargs={"progress": lambda done: done < 1 and (held.set() or go.wait())}
)
other.start()
held.wait()
waiting = threading.Thread(target=index.remove, args=[[1]])
waiting.start()
child = os.fork()
if child == 0:
    index.remove([0])
    workers = [threading.Thread(target=index.add, args=[many[:1]]) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    os._exit(0 if len(index) == 1003 else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
go.set()
other.join()
waiting.join()
assert len(index) == len(many) + 999
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("script", [FORK, FORK_BESIDE], ids=["inside a change", "beside one"])
def test_a_fork_leaves_the_index_usable_on_both_sides(script):
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (result.returncode, result.stderr) == (0, "")
