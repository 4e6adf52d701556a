"""Saves of an index in shards that fail: the folder is as it was."""

import errno
import os
import threading

import pytest

import fasthash as fh
from fasthash import _saved_folder

pytest.importorskip("ray", reason="needs the extra ray")

from fasthash.distributed.stored import StoredShard
from local_shards import new, take_step


def test_a_shard_that_is_written_late_leaves_no_file_of_a_failed_save(tmp_path, monkeypatch):
    """Shards are written at once: the first fails, and the second is written once files of the save were removed."""
    removed, remove, save = threading.Event(), _saved_folder._remove_leftovers, StoredShard.save

    def removing(*arguments):
        remove(*arguments)
        removed.set()

    def full(shard, version, path):
        if path.name.startswith("shard-00000"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        removed.wait(1)
        return save(shard, version, path)

    with new(tmp_path / "index") as index:
        take_step(index, 1)
        index.save(tmp_path / "saved")
        before = sorted(tmp_path.joinpath("saved").iterdir())
        take_step(index, 2)
        with monkeypatch.context() as patch:
            patch.setattr(_saved_folder, "_remove_leftovers", removing)
            patch.setattr(StoredShard, "save", full)
            with pytest.raises(OSError, match=r"No space left on device.*shard-00000"):
                index.save(tmp_path / "saved")
        assert sorted(tmp_path.joinpath("saved").iterdir()) == before
        assert sum(len(fh.load(file)) for file in before if file.suffix == ".fh") == 40
