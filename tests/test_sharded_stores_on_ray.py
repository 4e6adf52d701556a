"""An index whose shards are stores, on Ray: actors and the owner are killed, and the last commit is there."""

import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fasthash as fh
from indices import assert_same

ray = pytest.importorskip("ray", reason="needs the extra ray")

from fasthash.distributed import ShardedIndex, ShardLostError
from fasthash.distributed.manifest import verify_shards
from local_shards import LAYOUT, assert_no_leaks, steps_of, take_step
from stores import near_ties

ONE_THREAD = {"threads": 1, "num_cpus": 0}

pytestmark = pytest.mark.usefixtures("on_ray")


def kill(copy):
    os.kill(copy.process, signal.SIGKILL)


def test_copies_are_killed_one_after_the_other(tmp_path):
    """The second copy commits what the first one would have; a new copy is made from the store and the changes."""
    rng = np.random.default_rng(0)
    one = fh.HierIndex(LAYOUT)
    queries, ids_from = near_ties(rng, 4), itertools.count(0, 1_000)

    def add(n):
        codes, ids = near_ties(rng, n), next(ids_from) + np.arange(n)
        index.add(codes, ids)
        one.add(codes, ids)

    def same():
        assert_same(index.to_arrays(), one.to_arrays())
        assert_same(index.search(queries, 7), one.search(queries, 7))

    with ShardedIndex(LAYOUT, n_shards=1, replicas=2, store=tmp_path / "index", **ONE_THREAD) as index:
        add(100)
        assert index.commit() == 1
        index.remove([3, 5])
        one.remove([3, 5])
        index.update([7], queries[:1])
        one.update([7], queries[:1])
        add(20)
        for number in (2, 3):  # first the one that has written, then the one that did after it
            kill(index._fleet.copies(0)[0])
            assert index.commit() == number
            same()
            assert index.wait_until_whole()
            add(10)
        kill(index._fleet.copies(0)[0])
        kill(index._fleet.copies(0)[-1])  # changes since the commit are lost
        with pytest.raises(ShardLostError, match="shard 0 of 1 is gone"):
            index.to_arrays()
        with pytest.raises(ShardLostError, match="shard 0 of 1 is gone"):
            index.commit()
        assert index.commit_number == 3
    one.remove(one.to_arrays()[1][-10:])
    with ShardedIndex.open(tmp_path / "index", **ONE_THREAD) as index:
        same()
        assert_no_leaks(tmp_path / "index")
        kill(index._fleet.copies(0)[0])  # nothing has changed: the store restores it
        same()
        with pytest.raises(BlockingIOError, match=f"is being written by  ?process {os.getpid()} on host"):
            ShardedIndex.open(tmp_path / "index", **ONE_THREAD)
        assert index.wait_until_whole()
        index.save(tmp_path / "saved")
        add(5)
        index.commit()
        same()
    assert not [fault for _, _, fault in verify_shards(tmp_path / "index") if fault]


def test_the_command_that_searches(tmp_path, monkeypatch):
    typer_testing = pytest.importorskip("typer.testing", reason="needs the extra cli")
    from fasthash.cli import app

    monkeypatch.chdir(tmp_path)
    codes = near_ties(np.random.default_rng(0), 60)
    np.save("queries.npy", codes[:3])
    with ShardedIndex(LAYOUT, n_shards=1, store="index", **ONE_THREAD) as index:
        index.add(codes)
        index.commit()
    fh.HierIndex.from_arrays(codes, level_bits=LAYOUT).save("one.fh")

    def run(line):
        result = typer_testing.CliRunner().invoke(app, ["search", *line.split(), "--csv"])
        return result.exit_code, result.stdout

    assert run("index queries.npy --ray --threads 1") == run("one.fh queries.npy")
    assert run("index queries.npy --ray --shards 2")[0] == 1


OWNER = """
import sys
from pathlib import Path
import ray
ray.init(num_cpus=1, object_store_memory=80_000_000, include_dashboard=False, log_to_driver=False, address="local")
from fasthash.distributed import ShardedIndex
from local_shards import LAYOUT, steps_of, take_step
folder, n_shards = Path(sys.argv[1]), 2
with ShardedIndex(LAYOUT, n_shards=n_shards, threads=1, store=folder) as index:
    step = 0
    while True:
        step += 1
        take_step(index, step)
        index.commit()
        print(step, flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="kills")
def test_the_owner_is_killed(tmp_path):
    """Its actors end with it; another process opens the last commit."""
    folder = tmp_path / "index"
    paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": paths}
    command = [sys.executable, "-c", OWNER, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as owner:
        told = 0
        while told < 9:
            line = owner.stdout.readline()
            assert line, "the owner has ended"
            told = int(line)
        with pytest.raises(BlockingIOError, match=f"is being written by  ?process {owner.pid} on host"):
            ShardedIndex.open(folder, **ONE_THREAD)
        owner.kill()
        told = max([told, *map(int, owner.stdout.read().split())])
    with ShardedIndex.open(folder, **ONE_THREAD) as index:
        step = steps_of(index)
        assert told <= step <= told + 1
        assert_no_leaks(folder)
        take_step(index, step + 1)
        assert index.commit() == step + 1
