"""An index whose shards are stores: changes, commits and searches, and that all shards commit or none does."""

import errno
import json
import multiprocessing
import os
import shutil
import signal
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fasthash as fh
from indices import MODES, assert_same

pytest.importorskip("ray", reason="needs the extra ray")

from fasthash.distributed import ShardedIndex
from fasthash.distributed.manifest import facts_of, read_shards, shard_folder, verify_shards
from fasthash.store import commit as commits
from fasthash.store import files, merging, prepared
from fasthash.store.prepared import read_named
from local_shards import LAYOUT, N_SHARDS, LocalFleet, LocalIndex, assert_no_leaks, new, steps_of, take_step
from stores import N_BYTES, near_ties, resigned

# ---- searches and changes ----


def same(index, one, rng):
    queries = near_ties(rng, 4)
    ids = one.to_arrays()[1]
    assert_same(index.to_arrays(), one.to_arrays())
    for allow in (None, fh.IdFilter(ids[::2]), ids[:5]):
        assert_same(index.search(queries, 7, allow=allow), one.search(queries, 7, allow=allow))
        assert_same(index.range_search(queries, 9, allow=allow), one.range_search(queries, 9, allow=allow))
    for mode in MODES:
        keep = {"keep": 0.3, "keep_mode": mode}
        assert_same(index.search(queries, 5, **keep), one.search(queries, 5, **keep))


@given(st.lists(st.sampled_from(["add", "remove", "update", "commit", "compact", "reopen"]), max_size=14), st.data())
@settings(max_examples=settings.default.max_examples // 4)
def test_changes_in_any_order(tmp_path_factory, steps, data):
    """Searches are those of one index with the same changes; opened again, of one at the last commit."""
    rng = np.random.default_rng(data.draw(st.integers(0, 9)))
    folder = tmp_path_factory.mktemp("stores") / "index"
    index, one = new(folder), fh.HierIndex(LAYOUT)
    committed, commits = one.copy(), 0
    for step in steps:
        ids = one.to_arrays()[1]
        some = rng.choice(ids, min(len(ids), 5), replace=False)
        if step == "add":
            # Ids that were removed come back, too.
            fresh = np.setdiff1d(rng.choice(200, 30, replace=False), ids)
            codes = near_ties(rng, len(fresh))
            index.add(codes, fresh)
            one.add(codes, fresh)
        elif step == "remove":
            index.remove(some)
            one.remove(some)
        elif step == "update":
            codes = near_ties(rng, len(some))
            index.update(some, codes)
            one.update(some, codes)
        elif step == "compact":
            index.compact()
        elif step == "commit":
            assert index.commit() >= commits
            commits, committed = index.commit_number, one.copy()
        else:
            index.close()
            index, one = LocalIndex.open(folder), committed.copy()
            assert_no_leaks(folder)
        same(index, one, rng)
    index.close()
    assert not [fault for _, _, fault in verify_shards(folder) if fault]
    assert facts_of(folder)["codes"] == len(committed)


def test_next_ids_go_on(tmp_path):
    with new(tmp_path / "index") as index:
        index.add(near_ties(np.random.default_rng(0), 50))
        index.remove(np.arange(40, 50))
        index.commit()
        index.add(near_ties(np.random.default_rng(0), 7))
    with LocalIndex.open(tmp_path / "index") as index:
        index.add(near_ties(np.random.default_rng(0), 1))
        assert index.to_arrays()[1].tolist() == [*range(40), 50]
        assert index.store == tmp_path / "index"
        assert (index.level_bits, index.n_shards, index.commit_number) == (LAYOUT, N_SHARDS, 1)


def test_segments_are_mapped_and_shared(tmp_path):
    """A commit reads no codes of earlier ones: their files are those of the commit before."""
    rng = np.random.default_rng(0)
    with new(tmp_path / "index") as index:
        index.add(rng.integers(0, 256, (20_000, N_BYTES), dtype=np.uint8))
        index.commit()
        index._fleet.wait()
        before = [segment.name for shard in index._fleet.shards for segment in shard._segments]
        index.remove([3, 5, 7])
        index.add(rng.integers(0, 256, (10, N_BYTES), dtype=np.uint8))
        index.commit()
        after = [segment.name for shard in index._fleet.shards for segment in shard._segments]
        assert set(before) < set(after)
        assert facts_of(index.store)["removed"] == 3
        index.compact()
        assert facts_of(index.store)["removed"] == 0
        assert facts_of(index.store)["segments"] == N_SHARDS


def test_a_commit_without_changes_writes_nothing(tmp_path):
    with new(tmp_path / "index") as index:
        take_step(index, 1)
        assert index.commit() == 1
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        assert index.commit() == 1
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
        some = index.to_arrays()[1][:1]  # a change of one shard writes one shard
        index.update(some, np.zeros((1, N_BYTES), np.uint8))
        manifests = [shard.manifest for shard in read_shards(index.store).shards]
        assert index.commit() == 2
        after = [shard.manifest for shard in read_shards(index.store).shards]
        assert sum(a != b for a, b in zip(manifests, after, strict=True)) == 1


def test_many_commits_leave_few_files(tmp_path):
    with new(tmp_path / "index") as index:
        for step in range(1, 25):
            take_step(index, step)
            index.commit()
            index._fleet.wait()
        take_step(index, 25)
        index.commit()
        index._fleet.wait()
        n_files = sum(1 for path in tmp_path.rglob("*") if path.is_file())
        assert n_files < N_SHARDS * 16
        assert steps_of(index) == 25


# ---- errors ----


def test_arguments(tmp_path):
    folder = tmp_path / "index"
    with pytest.raises(FileNotFoundError, match="holds no index in shards: manifest is missing"):
        LocalIndex.open(folder)
    new(folder).close()
    with pytest.raises(FileExistsError, match=r"holds an index already; ShardedIndex\.open"):
        new(folder)
    with pytest.raises(TypeError, match="store must be"):
        new(3)
    (tmp_path / "file").write_text("x")
    with pytest.raises(FileExistsError, match="is a file"):
        new(tmp_path / "file")
    with pytest.raises(FileExistsError, match="holds something else: file"):
        new(tmp_path)
    (folder / "manifest").unlink()
    with pytest.raises(FileExistsError, match="holds shards, but no manifest"):
        new(folder)
    fh.Store(tmp_path / "store.fhs", "w", n_bits=32).close()
    with pytest.raises(fh.FormatError, match=r"^[^ ]+ is a store; fasthash\.Store opens it$"):
        LocalIndex.open(tmp_path / "store.fhs")
    with pytest.raises(FileExistsError, match="holds an index already"):
        new(tmp_path / "store.fhs")


def test_a_shard_is_no_store_of_its_own(tmp_path):
    """A writer of it would take the files of the last commit for leftovers."""
    with new(tmp_path / "index") as index:
        take_step(index, 1)
        index.commit()
    shard = shard_folder(tmp_path / "index", 0)
    with pytest.raises(FileNotFoundError, match="holds no store"):
        fh.Store(shard)
    with pytest.raises(FileExistsError, match="holds files of a store, but no manifest"):
        fh.Store(shard, "w", n_bits=32)
    for open_it in (
        lambda: fh.Store(tmp_path / "index"),
        lambda: fh.Store(tmp_path / "index", "w"),
        lambda: fh.Store(tmp_path / "index", "w", n_bits=32),
        lambda: fh.load(tmp_path / "index"),
    ):
        with pytest.raises((fh.FormatError, OSError)) as error:
            open_it()
        opener = "fasthash.distributed.ShardedIndex.open opens it"
        assert str(error.value) == f"{tmp_path / 'index'} is an index in shards; {opener}"
    assert len(fh.load(next(shard.glob("*.fh")))) > 0
    with LocalIndex.open(tmp_path / "index") as index:
        assert steps_of(index) == 1


def test_an_index_is_not_saved_among_stores(tmp_path):
    fh.Store(tmp_path / "store.fhs", "w", n_bits=32).close()
    with new(tmp_path / "index") as index, new(tmp_path / "lost") as lost:
        for each in (index, lost):
            take_step(each, 1)
            each.commit()
        (tmp_path / "lost" / "manifest").unlink()
        before = sorted(tmp_path.rglob("*"))
        for folder in ("index", "index/shard-00000", "store.fhs", "lost"):
            with pytest.raises(FileExistsError, match=rf"folder='.*{folder}' holds a store or its shards: .+"):
                index.save(tmp_path / folder)
        assert sorted(tmp_path.rglob("*")) == before
        for _ in range(2):
            index.save(tmp_path / "saved")
            index.save(tmp_path / "index" / "saved")  # beside the shards: nothing mixes
    with LocalIndex.open(tmp_path / "index") as index:
        assert steps_of(index) == 1


def test_a_second_owner_is_told_of_the_first(tmp_path):
    with new(tmp_path / "index") as index:
        message = rf"is being written by  ?process {os.getpid()} on host .+; it has one writer at a time"
        for attempt in (lambda: LocalIndex.open(tmp_path / "index"), lambda: ShardedIndex.open(tmp_path / "index")):
            with pytest.raises(BlockingIOError, match=message):
                attempt()
        take_step(index, 1)
        index.commit()
    with LocalIndex.open(tmp_path / "index") as index:
        assert steps_of(index) == 1


@pytest.mark.skipif(os.name == "nt", reason="Windows removes no open file")
@pytest.mark.parametrize("lost", ["writer.lock", "shard-00001/writer.lock"])
def test_an_index_does_not_write_into_a_folder_that_was_replaced(tmp_path, lost):
    with new(tmp_path / "index") as index:
        take_step(index, 1)
        index.commit()
        take_step(index, 2)
        (tmp_path / "index" / lost).unlink()
        with pytest.raises(OSError, match="was removed or replaced"):
            index.commit()
        assert steps_of(index) == 2
    with LocalIndex.open(tmp_path / "index") as index:
        assert steps_of(index) == 1


@pytest.fixture
def committed(tmp_path):
    """The folder of an index with two steps."""
    with new(tmp_path / "index") as index:
        for step in (1, 2):
            take_step(index, step)
            index.commit()
    return tmp_path / "index"


def a_segment(folder, number):
    """A segment of a shard that its last commit needs; others may be left over."""
    shard = shard_folder(folder, number)
    index = read_shards(folder)
    return shard / read_named(shard, index.shards[number].manifest, index.settings).segments[0].file.name


def damages(folder):
    """Changes of files after which a folder is no index, by name."""
    manifest, shard = folder / "manifest", shard_folder(folder, 1)
    named = shard / read_shards(folder).shards[1].manifest.name
    segment = a_segment(folder, 1)
    text = manifest.read_bytes()
    other = read_shards(folder).shards[0].manifest.name
    yield "no shard", lambda: shutil.rmtree(shard)
    yield "no manifest of a shard", named.unlink
    yield "a cut manifest of a shard", lambda: named.write_bytes(named.read_bytes()[:-9])
    yield "the manifest of another shard", lambda: shutil.copy(shard_folder(folder, 0) / other, named)
    yield "no segment", segment.unlink
    yield "a cut segment", lambda: segment.write_bytes(segment.read_bytes()[:-1])
    yield "a changed header", lambda: segment.write_bytes(b"X" + segment.read_bytes()[1:])
    for i in range(0, len(text), 37):
        yield f"byte {i}", lambda i=i: manifest.write_bytes(text[:i] + bytes([text[i] ^ 4]) + text[i + 1 :])
    for field in (b'"shards": [', b'"next_id": ', b'"commit": ', b'"level_bits": [', b'"memory": '):
        changed = text.replace(field, field + b"-1, ", 1)
        yield f"field {field}", lambda changed=changed: manifest.write_bytes(resigned(changed))
    yield "empty", lambda: manifest.write_bytes(b"")


def test_damaged_folders(committed, tmp_path):
    for number, (name, _) in enumerate(damages(committed)):
        copy = tmp_path / f"copy-{number}"
        shutil.copytree(committed, copy)
        found = dict(damages(copy))
        found[name]()
        with pytest.raises(fh.FormatError):
            LocalIndex.open(copy)
    with LocalIndex.open(committed) as index:  # no lock is left behind
        assert steps_of(index) == 2


def test_every_byte_is_checked_if_that_is_asked_for(committed):
    segment = a_segment(committed, 2)
    content = segment.read_bytes()
    (codes,) = (section for section in fh.verify(segment).sections if section.name == "codes")
    damaged = bytearray(content)
    damaged[codes.offset + codes.n_bytes - 1] ^= 1
    segment.write_bytes(damaged)
    LocalIndex.open(committed).close()
    with pytest.raises(fh.FormatError, match=f"{segment.name}: checksum"):
        LocalIndex.open(committed, check=True)
    segment.write_bytes(content)
    with pytest.raises(TypeError, match="check must be True or False, got 1"):
        LocalIndex.open(committed, check=1)
    with LocalIndex.open(committed, check=True) as index:
        take_step(index, 3)
        assert index.commit() == 3
        assert steps_of(index) == 3


def test_what_verify_finds(committed):
    segment = a_segment(committed, 2)
    data = bytearray(segment.read_bytes())
    data[200] ^= 1
    segment.write_bytes(data)
    faults = {name: fault for name, _, fault in verify_shards(committed) if fault}
    assert list(faults) == [f"shard-00002/{segment.name}"]


def test_the_commands(committed):
    typer_testing = pytest.importorskip("typer.testing", reason="needs the extra cli")
    from fasthash.cli import app

    def run(*words):
        result = typer_testing.CliRunner().invoke(app, [*words, str(committed)])
        return result.exit_code, result.stdout + result.stderr

    code, printed = run("info", "--json")
    facts = json.loads(printed)
    assert code == 0
    assert (facts["kind"], facts["codes"], facts["shards"], facts["commit"]) == ("sharded", 65, N_SHARDS, 2)
    assert facts["file_bytes"] > 0
    code, printed = run("verify")
    assert (code, printed.count(" ok\n")) == (0, len(verify_shards(committed)))
    a_segment(committed, 1).unlink()
    code, printed = run("verify", "--json")
    assert (code, "is missing" in json.loads(printed)["fault"]) == (1, True)
    (committed / "manifest").write_bytes((committed / "manifest").read_bytes()[:-2])
    assert [run(word)[0] for word in ("info", "verify")] == [1, 1]
    assert "no manifest of an index in shards" in run("info")[1]


# ---- disks that refuse, and Ctrl-C ----


def refusing(n, error, function):
    """A function that fails from its n-th call on."""
    calls = 0

    def call(*arguments, **options):
        nonlocal calls
        calls += 1
        if calls >= n:
            raise OSError(error, os.strerror(error))
        return function(*arguments, **options)

    return call


PLACES = {
    "write removals": (commits, "write_file"),
    "write a segment": (merging, "write_file"),
    "write a shard's manifest": (prepared, "write_file"),
    "write the manifest": (files, "write_file"),
    "flush": (files, "flush"),
    "replace": (os, "replace"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 11, 12, 13])
def test_a_commit_that_the_disk_refuses_changes_nothing(committed, tmp_path, monkeypatch, place, n):
    where, name = PLACES[place]
    with LocalIndex.open(committed) as index:
        take_step(index, 3)
        said = ""
        with monkeypatch.context() as patch:
            patch.setattr(where, name, refusing(n, errno.ENOSPC, getattr(where, name)))
            try:
                index.commit()
            except OSError as refused:
                said = str(refused)
        counts = said == "" or "commit again" in said
        assert counts or os.strerror(errno.ENOSPC) in said
        assert index.commit_number == read_shards(committed).commit == (3 if counts else 2)
        assert steps_of(index) == 3
        index._fleet.wait()
        shutil.copytree(committed, tmp_path / "copy")  # as after the loss of everything
        with LocalIndex.open(tmp_path / "copy") as copy:
            assert steps_of(copy) == (3 if counts else 2)
        assert index.commit() == 3
        take_step(index, 4)
        assert index.commit() == 4
    with LocalIndex.open(committed) as index:
        assert steps_of(index) == 4
        assert_no_leaks(committed)


SHARD_POINTS = ("segment written", "removed written", "shard written", "shard prepared", "segment merged")
COMMIT_POINTS = ("shards prepared", "manifest written", "files flushed", "manifest replaced", "commit counts")
CLEANING = ("cleaning", "file removed")


@pytest.mark.parametrize("point", [*SHARD_POINTS[:-1], *COMMIT_POINTS])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_ctrl_c_in_a_commit(committed, monkeypatch, point, count):
    """At every point, the commit has happened in all shards, or in none."""
    with LocalIndex.open(committed) as index:
        take_step(index, 3)
        left = count

        def at(reached):
            nonlocal left
            left -= reached == point
            if left == 0:
                left = -1
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(files, "reached", at)
            if count > 1 and point in COMMIT_POINTS:
                index.commit()
            else:
                with pytest.raises(KeyboardInterrupt):
                    index.commit()
        counts = point in COMMIT_POINTS[3:] or (count > 1 and point in COMMIT_POINTS)
        assert index.commit_number == read_shards(committed).commit == (3 if counts else 2)
        assert steps_of(index) == 3
        take_step(index, 4)
        index.commit()
        assert steps_of(index) == 4
        take_step(index, 5)
        index.commit()
    with LocalIndex.open(committed) as index:
        assert steps_of(index) == 5
        assert_no_leaks(committed)


class InterruptedCommitError(Exception):
    """Raised when all shards have prepared a commit, before it counts."""


def interrupted(change, monkeypatch):
    """Call a method of an index, and end it when the shards are prepared."""

    def at(reached):
        if reached == "shards prepared":
            raise InterruptedCommitError

    with monkeypatch.context() as patch:
        patch.setattr(files, "reached", at)
        with pytest.raises(InterruptedCommitError):
            change()


def test_a_commit_after_a_compaction_that_failed(committed, monkeypatch):
    """It needs the segments that the compaction has merged."""
    with LocalIndex.open(committed) as index:
        index._fleet.wait()
        interrupted(index.compact, monkeypatch)
        take_step(index, 3)
        index.commit()
        index._fleet.wait()
        assert not [fault for _, _, fault in verify_shards(committed) if fault]
        take_step(index, 4)
        index.commit()
    with LocalIndex.open(committed) as index:
        assert steps_of(index) == 4
        assert_no_leaks(committed)


def test_a_compaction_after_a_commit_that_failed(committed, monkeypatch):
    """It does not commit the changes."""
    with LocalIndex.open(committed) as index:
        take_step(index, 3)
        interrupted(index.commit, monkeypatch)
        index.compact()
        assert steps_of(index) == 3
    with LocalIndex.open(committed) as index:
        assert steps_of(index) == 2
        assert_no_leaks(committed)


def test_a_late_call_of_an_earlier_commit_does_no_harm(committed):
    """The owner gave it up, and has committed since."""
    with LocalIndex.open(committed) as index:
        sources = index._fleet._sources
        take_step(index, 3)
        index.commit()
        for number in range(N_SHARDS):
            call = {number: (sources[number].card, True, False)}
            with pytest.raises(RuntimeError, match="a later commit counts already"):
                index._fleet.ask("prepare", call, index._state.versions)
        take_step(index, 4)
        index.commit()
    with LocalIndex.open(committed) as index:
        assert steps_of(index) == 4
        assert_no_leaks(committed)


def test_a_call_that_is_made_twice_does_no_harm(committed, monkeypatch):
    """What the first one has prepared is named, and not what the second one has."""

    def twice(fleet, *arguments):
        first = fleet.ask(*arguments)
        fleet.ask(*arguments)
        return first

    with LocalIndex.open(committed) as index:
        take_step(index, 3)
        with monkeypatch.context() as patch:
            patch.setattr(LocalFleet, "ask_keepers", twice)
            index.commit()
        assert steps_of(index) == 3
        take_step(index, 4)
        index.commit()
    with LocalIndex.open(committed) as index:
        assert steps_of(index) == 4
        assert_no_leaks(committed)


# ---- kills ----

FORK = multiprocessing.get_context("fork") if hasattr(os, "fork") else None
KILLS = 2_000 if os.environ.get("FASTHASH_THOROUGH") else 60
forks = pytest.mark.skipif(sys.platform == "win32", reason="forks and kills")


def write_until_killed(folder, point, count, told):
    """Take one step after the other; end at the count-th time that a point is reached, or never."""

    def at(reached):
        nonlocal count
        count -= point in (reached, "any")
        if count == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    files.reached = at
    index = LocalIndex.open(folder) if (folder / "manifest").exists() else new(folder)
    step = steps_of(index)
    while True:
        step += 1
        take_step(index, step)
        index.commit()
        os.write(told, step.to_bytes(4, "little"))
        if step % 7 == 0:
            index.compact()
        if step % 11 == 0:
            index.close()
            index = LocalIndex.open(folder)


def run_and_kill(folder, point, count, seconds=None):
    """Run an owner until it is killed; return the last step that it has told of."""
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
        return int.from_bytes(pipe.read()[-4:], "little")


def check_after(folder, told, before):
    """The index holds the last step that was told, or the one after it; the next commit leaks nothing."""
    if not (folder / "manifest").exists():
        assert told == before == 0  # killed before the index was made
        return 0
    with LocalIndex.open(folder) as index:
        step = steps_of(index)
        assert max(told, before) <= step <= max(told, before) + 1
        assert_no_leaks(folder)
        take_step(index, step + 1)
        index.commit()
    return step + 1


@forks
@pytest.mark.timeout(7200 if KILLS > 100 else 300)
def test_killed_owners_lose_nothing(tmp_path):
    points = (*SHARD_POINTS, *COMMIT_POINTS, *CLEANING)
    rng = np.random.default_rng(0)
    folder, step = tmp_path / "index", 0
    for kill in range(KILLS):
        if kill % 20 == 19:
            folder, step = tmp_path / f"index-{kill}", 0  # a small index again, and its first commit
        if kill % 5 == 4:
            told = run_and_kill(folder, "never", 0, seconds=float(rng.exponential(0.05)))
        elif kill % 5 == 3:
            told = run_and_kill(folder, "any", int(rng.integers(1, 60)))
        else:
            told = run_and_kill(folder, points[kill % len(points)], int(rng.integers(1, 4)))
        step = check_after(folder, told, step)


@forks
@pytest.mark.parametrize("point", [*SHARD_POINTS, *COMMIT_POINTS, *CLEANING])
def test_every_point_is_reached(tmp_path, point):
    """The kills above name points that exist."""
    assert check_after(tmp_path / "index", run_and_kill(tmp_path / "index", point, 3), 0) >= 1
