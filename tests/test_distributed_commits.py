"""Commits of an index in shards: a manifest of others, one that is not flushed or cannot be read, and Ctrl-C."""

import errno
import os
import shutil

import numpy as np
import pytest

pytest.importorskip("ray", reason="needs the extra ray")

from fasthash.distributed import durable
from fasthash.store import files
from local_shards import LocalIndex, new, steps_of, take_step
from stores import N_BYTES


@pytest.fixture
def index(tmp_path):
    """An index with two steps, of which the first is committed."""
    with new(tmp_path / "index") as index:
        take_step(index, 1)
        index.commit()
        take_step(index, 2)
        yield index


def changes_of_the_manifest(index, folder):
    """What others may do to the manifest, by name; the lock stays in place."""
    manifest = index.store / "manifest"
    backup = folder / "backup"
    shutil.copy(manifest, backup)

    def restore():
        index.commit()
        take_step(index, 3)
        shutil.copy(backup, manifest)

    def of_another():
        with new(folder / "other") as other:
            take_step(other, 1)
            other.commit()
        shutil.copy(folder / "other" / "manifest", manifest)

    yield "restored", restore, "holds another commit than that of this index, such as a backup"
    yield "of another index", of_another, "holds another commit than that of this index, such as a backup"
    yield "cut", lambda: manifest.write_bytes(manifest.read_bytes()[:-9]), "is damaged, or no manifest"
    yield "removed", manifest.unlink, "holds no index in shards: manifest is missing"


@pytest.mark.parametrize("name", ["restored", "of another index", "cut", "removed"])
@pytest.mark.parametrize("method", ["commit", "compact"])
def test_a_manifest_of_others_is_not_overwritten(index, tmp_path, name, method):
    changes = {name: (change, message) for name, change, message in changes_of_the_manifest(index, tmp_path)}
    change, message = changes[name]
    change()
    index._fleet.wait()  # for merges, which write files
    steps = steps_of(index)
    files = {path: path.read_bytes() for path in index.store.rglob("*") if path.is_file()}
    with pytest.raises(OSError, match=rf"{message}.*; nothing is written: close this index, and open its folder anew$"):
        getattr(index, method)()
    assert {path: path.read_bytes() for path in index.store.rglob("*") if path.is_file()} == files
    assert steps_of(index) == steps  # searches go on


def too_many_files(*arguments):
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def when_replaced(monkeypatch, call):
    """Call a function when a commit has replaced the manifest of the folder, before it is flushed."""
    monkeypatch.setattr(files, "reached", lambda point: call() if point == "manifest replaced" else None)


def test_a_commit_does_not_read_its_own_manifest_again(index, monkeypatch):
    """If that failed, the index went on from the commit before."""
    when_replaced(monkeypatch, lambda: monkeypatch.setattr(durable, "read_shards", too_many_files))
    assert index.commit() == index.commit_number == 2
    monkeypatch.undo()
    take_step(index, 3)
    assert index.commit() == 3
    folder = index.store
    index.close()
    with LocalIndex.open(folder) as again:
        assert steps_of(again) == 3


def interrupt():
    raise KeyboardInterrupt


@pytest.mark.parametrize("method", ["commit", "compact"])
def test_a_commit_that_ctrl_c_left_in_place_is_flushed_by_the_next_call(index, monkeypatch, method):
    """Until then, a loss of power may bring the manifest before it back."""
    index.commit()
    index._fleet.wait()
    with monkeypatch.context() as patch:
        when_replaced(patch, interrupt)
        with pytest.raises(KeyboardInterrupt):
            index.compact()
    number, flushed = index.commit_number, []
    monkeypatch.setattr(durable, "flush", flushed.append)
    monkeypatch.setattr(files, "flush", flushed.append)
    removed = []
    monkeypatch.setattr(files, "reached", lambda point: point == "cleaning" and removed.append(list(flushed)))
    getattr(index, method)()
    assert index.commit_number == number == 3
    assert index.store in flushed
    assert all(index.store in before for before in removed)  # files of the commit before stay as long


@pytest.mark.parametrize("method", ["add", "commit"])
def test_versions_that_are_made_after_they_were_given_up_are_dropped(index, method):
    """After Ctrl-C in a change, `forget` may overtake it in an actor."""
    shard, given_up = index._fleet.shards[0], next(index._numbers)
    shard.forget([given_up])
    shard.change(index._state.versions[0], given_up, "add", np.zeros((1, N_BYTES), np.uint8), np.array([-9]))
    if method == "commit":
        index.commit()
    else:
        take_step(index, 3)
    assert list(shard._versions) == list(shard._touched) == [index._state.versions[0]]
    assert -9 not in index
