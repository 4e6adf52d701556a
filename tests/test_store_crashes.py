"""A store whose writer is killed at any point, or whose disk refuses, holds its last commit, whole, and leaks nothing.

With FASTHASH_THOROUGH set 2,000 writers are killed, otherwise 100.
"""

import contextlib
import errno
import multiprocessing
import os
import signal
import sys
import time

import numpy as np
import pytest

import fasthash as fh
from fasthash.store import commit, files, merging
from fasthash.store.manifest import read_manifest
from stores import N_BYTES, assert_no_leaks, steps_of, take_step

resource = pytest.importorskip("resource")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="forks and kills")

FORK = multiprocessing.get_context("fork") if hasattr(os, "fork") else None
KILLS = 2_000 if os.environ.get("FASTHASH_THOROUGH") else 100
POINTS = (
    "manifest written",
    "files flushed",
    "manifest replaced",
    "committed",
    "segment written",
    "keys written",
    "removed written",
    "segment merged",
    "keys merged",
    "cleaning",
    "file removed",
)


def write_until_killed(folder, point, count, told):
    """Take one step after the other; end at the count-th time that a point is reached, or never."""

    def at(reached):
        nonlocal count
        if point in (reached, "any"):
            count -= 1
            if count == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    files.reached = at
    with fh.Store(folder, "w", n_bits=8 * N_BYTES) as store:
        step = steps_of(store)
        while True:
            step += 1
            take_step(store, step)
            store.commit()
            os.write(told, step.to_bytes(4, "little"))
            if step % 7 == 0:
                store.compact()
            if step % 11 == 0:
                store.close()
                store = fh.Store(folder, "w")


def run_and_kill(folder, point, count, seconds=None):
    """Run a writer until it is killed; return the last step that it has told of."""
    from_child, told = os.pipe()
    child = FORK.Process(target=write_until_killed, args=(folder, point, count, told))
    child.start()
    os.close(told)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child.pid, signal.SIGKILL)
    child.join(120)
    assert child.exitcode == -signal.SIGKILL
    with open(from_child, "rb") as pipe:
        steps = pipe.read()
    return int.from_bytes(steps[-4:], "little")


def check_after(folder, told, before):
    """The store holds the last step that was told, or the one after it; the next commit leaks nothing."""
    if not (folder / "manifest").exists():
        assert told == before == 0  # killed before the store was made
        return 0
    reader = fh.Store(folder)
    step = steps_of(reader)
    assert max(told, before) <= step <= max(told, before) + 1
    del reader
    with fh.Store(folder, "w", merge=False) as store:
        take_step(store, step + 1)
        store.commit()
        assert_no_leaks(folder)
    return step + 1


@pytest.mark.timeout(7200 if KILLS > 100 else 300)
def test_killed_writers_lose_nothing(tmp_path):
    rng = np.random.default_rng(0)
    folder, step = tmp_path / "store.fhs", 0
    for kill in range(KILLS):
        if kill % 20 == 19:
            folder, step = tmp_path / f"store-{kill}.fhs", 0  # a small store again, and its first commit
        if kill % 5 == 4:
            told = run_and_kill(folder, "never", 0, seconds=float(rng.exponential(0.05)))
        elif kill % 5 == 3:
            told = run_and_kill(folder, "any", int(rng.integers(1, 60)))
        else:
            told = run_and_kill(folder, POINTS[kill % len(POINTS)], int(rng.integers(1, 4)))
        step = check_after(folder, told, step)


@pytest.mark.parametrize("point", POINTS)
def test_every_point_is_reached(tmp_path, point):
    """The kills above name points that exist."""
    step = check_after(tmp_path / "store.fhs", run_and_kill(tmp_path / "store.fhs", point, 2), 0)
    assert step >= 1


def test_a_reader_outlives_a_killed_writer(tmp_path):
    folder = tmp_path / "store.fhs"
    with fh.Store(folder, "w", n_bits=8 * N_BYTES) as store:
        take_step(store, 1)
        store.commit()
    reader = fh.Store(folder)
    told = run_and_kill(folder, "file removed", 9)
    assert steps_of(reader) == 1
    assert reader.refresh()
    assert steps_of(reader) in (told, told + 1)


# ---- disks that refuse ----


@pytest.fixture
def store(tmp_path):
    with fh.Store(tmp_path / "store.fhs", "w", n_bits=8 * N_BYTES, merge=False) as store:
        for step in (1, 2):
            take_step(store, step)
            store.commit()
        yield store


def refusing(n, error):
    """A function that fails from its n-th call on, and else does what it replaces."""

    def replaced(function):
        calls = 0

        def call(*arguments, **options):
            nonlocal calls
            calls += 1
            if calls >= n:
                raise OSError(error, os.strerror(error))
            return function(*arguments, **options)

        return call

    return replaced


PLACES = {
    "write a segment or removals": (commit, "write_file"),
    "write a small segment": (merging, "write_file"),
    "write keys": (commit, "write_encoded"),
    "write the manifest": (files, "write_file"),
    "flush": (files, "flush"),
    "replace": (os, "replace"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EROFS])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_a_commit_that_the_disk_refuses_changes_nothing(store, monkeypatch, place, error, n):
    where, name = PLACES[place]
    take_step(store, 3)
    with monkeypatch.context() as patch:
        patch.setattr(where, name, refusing(n, error)(getattr(where, name)))
        said = ""
        try:
            store.commit()
        except OSError as refused:
            said = str(refused)
    committed = said == "" or "commit again" in said
    assert committed or os.strerror(error) in said
    assert committed or str(store.path) in said
    assert steps_of(store) == 3  # the draft is as it was
    assert steps_of(fh.Store(store.path)) == (3 if committed else 2)
    store.commit()
    assert steps_of(fh.Store(store.path)) == 3
    take_step(store, 4)
    store.commit()
    assert_no_leaks(store.path)


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("place", ["flush", "replace", "write the manifest"])
def test_a_compaction_that_the_disk_refuses_changes_nothing(store, monkeypatch, place, n):
    where, name = PLACES[place]
    take_step(store, 3)
    with monkeypatch.context() as patch:
        patch.setattr(where, name, refusing(n, errno.ENOSPC)(getattr(where, name)))
        with contextlib.suppress(OSError):
            store.compact()
    assert steps_of(store) == 3
    assert steps_of(fh.Store(store.path)) == 2
    store.commit()
    store.compact()
    assert steps_of(fh.Store(store.path)) == 3
    assert_no_leaks(store.path)


def test_ctrl_c_in_a_commit(store, monkeypatch):
    """At every point, the commit has happened or it has not."""
    for number, point in enumerate(POINTS[:7]):
        take_step(store, step := steps_of(store) + 1)

        def at(reached, point=point):
            if reached == point:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(files, "reached", at)
            with pytest.raises(KeyboardInterrupt):
                store.commit()
        assert steps_of(store) == step, number
        on_disk = steps_of(fh.Store(store.path))
        assert on_disk == (step if point in ("manifest replaced", "committed") else step - 1), point
        store.commit()
        assert steps_of(fh.Store(store.path)) == step
    take_step(store, step + 1)
    store.commit()
    assert_no_leaks(store.path)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs a user to whom the system refuses something")
def test_a_folder_that_may_not_be_written(store):
    store.close()
    store.path.chmod(0o500)
    try:
        assert steps_of(fh.Store(store.path)) == 2
        with pytest.raises(PermissionError):
            fh.Store(store.path, "w")
    finally:
        store.path.chmod(0o700)


def commit_with_little_room(folder, n_bytes, said):
    """Commit and compact where no file may grow beyond n bytes."""
    with fh.Store(folder, "w", merge=False) as store:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, resource.RLIM_INFINITY))
        try:
            store.compact()
            take_step(store, 3)
            store.commit()
        except OSError as refused:
            said.put((refused.errno, str(refused)))
        else:
            said.put((0, ""))
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@pytest.mark.parametrize("n_bytes", [0, 100, 300, 600, 900, 1_300, 100_000])
def test_files_that_may_not_grow(store, n_bytes):
    store.close()
    said = FORK.Queue()
    child = FORK.Process(target=commit_with_little_room, args=(store.path, n_bytes, said))
    child.start()
    outcome, message = said.get(timeout=60)
    child.join(60)
    assert outcome == (0 if n_bytes == 100_000 else errno.EFBIG)
    assert outcome == 0 or str(store.path) in message
    assert steps_of(fh.Store(store.path)) == (3 if n_bytes == 100_000 else 2)
    fh.Store(store.path, "w").close()
    assert_no_leaks(store.path)


def open_with_few_descriptors(folder, mode, said):
    """Open a store with one descriptor more each time, until that succeeds."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open(folder, os.O_RDONLY)
    os.close(free)
    for most in range(free, limits[0]):  # the process may have many open files above the first free number
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, limits[1]))
        outcome = ()
        try:
            fh.Store(folder, mode).close()
        except OSError as refused:
            outcome = (type(refused), refused.errno, refused.filename)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        said.put(outcome)
        if not outcome:
            break


@pytest.mark.parametrize("mode", ["r", "w"])
def test_too_few_descriptors(store, mode):
    """`mmap` duplicates a descriptor, and its error names no file."""
    store.close()
    said = FORK.Queue()
    child = FORK.Process(target=open_with_few_descriptors, args=(store.path, mode, said))
    child.start()
    outcomes = []
    while outcome := said.get(timeout=60):
        outcomes.append(outcome)
    child.join(60)
    assert len(outcomes) > 3
    for kind, number, filename in outcomes:
        assert kind is OSError
        assert number == errno.EMFILE
        assert filename is not None
        assert str(store.path) in filename


def test_the_manifest_of_a_failed_first_commit(tmp_path, monkeypatch):
    folder = tmp_path / "store.fhs"
    with monkeypatch.context() as patch:
        patch.setattr(files, "flush", refusing(1, errno.EIO)(files.flush))
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            fh.Store(folder, "w", n_bits=16)
    assert not (folder / "manifest").exists()
    with fh.Store(folder, "w", n_bits=16):
        assert read_manifest(folder).commit == 0
    assert_no_leaks(folder)
