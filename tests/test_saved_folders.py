"""Folders that several write and read at once: a save that returned stays, and a load gives one of the saved states."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest

import fasthash as fh
from fasthash import _folder_lock, _saved_folder
from fasthash._folder_lock import LOCK_NAME, locked


def embeddings(seed):
    return np.random.default_rng(seed).standard_normal((5 + seed, 16))


def index_of(seed):
    """Told from others by its size, which its content goes with."""
    index = fh.RescoringIndex(16, dtype="float32")
    index.add(embeddings(seed))
    return index


def is_one_of(index, n_states):
    seed = len(index) - 5
    if not 0 <= seed < n_states:
        return False
    vectors = embeddings(seed)
    expected = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return np.allclose(index.reconstruct(np.arange(len(index))), expected, atol=1e-6)


class Meeting:
    """Stops the first that reaches a point until the others have gone on."""

    def __init__(self, monkeypatch, point):
        self.reached, self.go_on = threading.Event(), threading.Event()
        self.point = point
        monkeypatch.setattr(_saved_folder, "reached", self)

    def __call__(self, point):
        if point == self.point and not self.reached.is_set():
            self.reached.set()
            assert self.go_on.wait(60)


def in_thread(call):
    """Start it; `join` gives what it returned, or raises what it raised."""
    outcome = []

    def run():
        try:
            outcome.append((call(), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=run)
    thread.start()

    def join(seconds=60):
        thread.join(seconds)
        assert not thread.is_alive()
        result, error = outcome[0]
        if error is not None:
            raise error
        return result

    return thread, join


# ---- two that meet at the worst moment ----


def test_a_save_waits_while_another_removes_leftovers(tmp_path, monkeypatch):
    """Else the first would remove the files of the second, whose card has replaced its own, or of one under way."""
    meeting = Meeting(monkeypatch, "card replaced")
    _, first = in_thread(lambda: index_of(1).save(tmp_path))
    assert meeting.reached.wait(60)
    thread, second = in_thread(lambda: index_of(2).save(tmp_path))
    thread.join(0.2)  # it could have ended; that it has not is no proof, but the rest is
    meeting.go_on.set()
    first()
    second()
    assert is_one_of(fh.RescoringIndex.load(tmp_path, mmap=False), 3)
    assert sorted(path.name.split("-")[0] for path in tmp_path.iterdir()) == ["card.json", "codes", "vectors"]


@pytest.mark.parametrize("load", ["load", "verify", "mapped"])
def test_a_load_reads_the_card_again(load, tmp_path, monkeypatch):
    index_of(1).save(tmp_path)
    meeting = Meeting(monkeypatch, "card read")
    calls = {
        "load": lambda: len(fh.RescoringIndex.load(tmp_path, mmap=False)),
        "mapped": lambda: len(fh.RescoringIndex.load(tmp_path)),
        "verify": lambda: fh.RescoringIndex.verify(tmp_path),
    }
    _, join = in_thread(calls[load])
    assert meeting.reached.wait(60)
    index_of(2).save(tmp_path)
    meeting.go_on.set()
    assert join() == ("" if load == "verify" else 7)


def test_a_card_read_again_is_told_apart_from_damage(tmp_path, monkeypatch):
    """What stays damaged is refused at once."""
    index_of(1).save(tmp_path)
    next(tmp_path.glob("vectors-*")).unlink()
    points = []
    monkeypatch.setattr(_saved_folder, "reached", points.append)
    with pytest.raises(fh.FormatError, match=r"vectors-.* is missing"):
        fh.RescoringIndex.load(tmp_path)
    assert points == ["card read"]


def test_the_card_of_a_save_is_its_own(tmp_path, monkeypatch):
    """Not that of another saver who came after it: copies of shards are restored by it."""
    meeting = Meeting(monkeypatch, "card replaced")
    write = {"codes.fh": fh.HierIndex((8,)).save}
    _, first = in_thread(lambda: _saved_folder.write_folder(tmp_path, "Thing", {"number": 1}, write))
    assert meeting.reached.wait(60)
    _, second = in_thread(lambda: _saved_folder.write_folder(tmp_path, "Thing", {"number": 2}, write))
    meeting.go_on.set()
    assert (first()["number"], second()["number"]) == (1, 2)
    assert _saved_folder.read_card(tmp_path, "Thing")["number"] == 2


def test_a_card_that_came_meanwhile_is_left(tmp_path):
    for number in (1, 2):
        card = _saved_folder.write_folder(tmp_path, "Thing", {"number": number}, {}, replace=False)
        assert card == _saved_folder.read_card(tmp_path, "Thing")
        assert card["number"] == 1


# ---- many processes ----


ROUNDS = 500 if os.environ.get("FASTHASH_THOROUGH") else 150
WORK = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import fasthash as fh
import test_saved_folders as t
folder, number = Path({folder!r}), int(sys.argv[1])
states = [t.index_of(seed) for seed in range(8)]
for i in range({rounds}):
    if number % 2:
        states[(number + i) % 8].save(folder)
    else:
        for _ in range(2):
            assert t.is_one_of(fh.RescoringIndex.load(folder, mmap=i % 2 == 0), 8)
"""


def test_processes_save_and_load_one_folder():
    """Saves in three processes, loads in three, in memory where there is such a folder: a disk is slow to sync."""
    in_memory = os.access("/dev/shm", os.W_OK)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if in_memory else None) as name:
        folder = Path(name)
        index_of(0).save(folder)
        code = WORK.format(tests=os.path.dirname(__file__), folder=name, rounds=ROUNDS if in_memory else 50)
        workers = [
            subprocess.Popen([sys.executable, "-c", code, str(number)], stderr=subprocess.PIPE, text=True)
            for number in range(6)
        ]
        errors = [worker.communicate()[1] for worker in workers]
        assert [worker.returncode for worker in workers] == [0] * 6, "\n".join(errors)
        assert is_one_of(fh.RescoringIndex.load(folder, mmap=False), 8)
        assert sorted(path.name.split("-")[0] for path in folder.iterdir()) == ["card.json", "codes", "vectors"]


# ---- the lock ----


def test_the_lock_is_free_when_its_holder_is_killed(tmp_path):
    code = f"""
import time
from pathlib import Path
from fasthash._folder_lock import locked
with locked(Path({str(tmp_path)!r})):
    print("held", flush=True)
    time.sleep(600)
"""
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    thread, join = in_thread(lambda: index_of(1).save(tmp_path))
    thread.join(0.2)
    assert thread.is_alive()
    holder.kill()
    holder.communicate()
    join()
    assert is_one_of(fh.RescoringIndex.load(tmp_path), 2)
    assert not (tmp_path / LOCK_NAME).exists()


def test_ctrl_c_ends_the_waiting(tmp_path):
    code = f"""
import signal
from pathlib import Path
from fasthash._folder_lock import locked
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells have background jobs ignore it
try:
    print("waiting", flush=True)
    with locked(Path({str(tmp_path)!r})):
        print("held")
except KeyboardInterrupt:
    print("interrupted")
"""
    with locked(tmp_path):
        waiting = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert waiting.stdout.readline() == "waiting\n"
        waiting.send_signal(signal.SIGINT)
        assert waiting.communicate(timeout=60)[0] == "interrupted\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_neither_holds_nor_frees_the_lock(tmp_path):
    with locked(tmp_path):
        child = os.fork()
        if not child:
            os._exit(len(_folder_lock._held))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        thread, join = in_thread(lambda: index_of(1).save(tmp_path))
        thread.join(0.1)
        assert thread.is_alive()
    join()


def test_a_save_within_a_save_is_an_error(tmp_path):
    index = index_of(1)
    write = {"codes.fh": lambda path: index.save(tmp_path)}
    with pytest.raises(RuntimeError, match=r"folder='.*' is being saved by this thread"):
        _saved_folder.write_folder(tmp_path, "Thing", {}, write)
    assert list(tmp_path.iterdir()) == []


def test_without_locks_nothing_of_others_is_removed(tmp_path, monkeypatch):
    """Some network file systems have none."""

    def no_locks(descriptor):
        raise OSError(_folder_lock.errno.ENOLCK, "No locks available")

    index_of(1).save(tmp_path)
    monkeypatch.setattr(_folder_lock, "_try_lock", no_locks)
    index_of(2).save(tmp_path)
    assert is_one_of(fh.RescoringIndex.load(tmp_path), 3)
    assert len(list(tmp_path.iterdir())) == 5  # two of the first
    monkeypatch.undo()
    index_of(3).save(tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


def test_loads_take_no_lock_and_write_nothing(tmp_path, monkeypatch):
    index_of(1).save(tmp_path)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path, *tmp_path.iterdir())}
    monkeypatch.setattr(_saved_folder, "locked", None)
    tmp_path.chmod(0o555)
    try:
        assert len(fh.RescoringIndex.load(tmp_path)) == 6
        assert fh.RescoringIndex.verify(tmp_path) == ""
    finally:
        tmp_path.chmod(0o755)
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path, *tmp_path.iterdir())} == before


def test_drafts_of_index_files_of_killed_saves_are_removed(tmp_path):
    (tmp_path / ".fasthash-123-456.tmp").write_bytes(b"half of an index")
    (tmp_path / ".fasthash-notes.tmp").write_bytes(b"of somebody")
    index_of(1).save(tmp_path)
    assert [path.name for path in tmp_path.glob(".*")] == [".fasthash-notes.tmp"]


def test_a_save_that_succeeded_does_not_fail_over_leftovers(tmp_path, monkeypatch):
    index_of(1).save(tmp_path)

    def refuse(path, *args, **kwargs):
        raise PermissionError("a reader has it open")

    monkeypatch.setattr(type(tmp_path), "unlink", refuse)
    index_of(2).save(tmp_path)
    monkeypatch.undo()
    assert len(fh.RescoringIndex.load(tmp_path)) == 7


def test_cards_hold_json_alone(tmp_path):
    """NaN is not equal to itself: a card with one would never be read the same twice."""
    index_of(1).save(tmp_path)
    rewrite_card(tmp_path, note=float("nan"))
    with pytest.raises(fh.FormatError, match="NaN is no number of JSON"):
        fh.RescoringIndex.load(tmp_path)


@pytest.mark.parametrize("version", [True, 1.0, "1", [1], None, 2])
def test_only_the_integer_is_a_version(tmp_path, version):
    index_of(1).save(tmp_path)
    rewrite_card(tmp_path, version=version)
    with pytest.raises(fh.FormatError, match=re.escape(f"version is {version!r}, this release reads 1")):
        fh.RescoringIndex.load(tmp_path)


def rewrite_card(folder, **values):
    """Change a card, with the right checksum."""
    card = json.loads((folder / "card.json").read_text()) | values
    del card["sha256"]
    (folder / "card.json").write_text(json.dumps(card | {"sha256": _saved_folder._checksum_of(card)}))


def test_nothing_is_saved_among_the_files_of_a_store(tmp_path):
    with fh.Store(tmp_path / "store", mode="w", n_bits=64) as store:
        store.add(np.zeros((3, 8), np.uint8))
        store.commit()
    before = sorted(os.listdir(tmp_path / "store"))
    with pytest.raises(FileExistsError, match="holds something else: a manifest, as stores have"):
        index_of(0).save(tmp_path / "store")
    assert sorted(os.listdir(tmp_path / "store")) == before
