"""A `ShardedIndex` on a cluster whose actors and nodes are killed: exact as long as a copy is left, else an error."""

import contextlib
import os
import signal
import threading
import time

import numpy as np
import pytest

import fasthash as fh
from fasthash.distributed import merge
from galleries import clustered, uniform
from indices import MODES, assert_same
from ray_cluster import LAYOUT, NODE, same, three_nodes, until  # noqa: F401


def kill(copy):
    os.kill(copy.process, signal.SIGKILL)


def test_a_shard_without_copies(cluster, tmp_path):
    """What was saved comes back; what has changed since is gone, and no part is taken for the whole."""
    from fasthash.distributed import ShardedIndex, ShardLostError

    rng = np.random.default_rng(6)
    codes, queries = clustered(rng, 300, 8), uniform(rng, 3, 8)
    one = fh.HierIndex.from_arrays(codes, level_bits=LAYOUT)
    with ShardedIndex.from_arrays(codes, level_bits=LAYOUT, n_shards=2, threads=1) as index:
        index.save(tmp_path)
        kill(index._fleet.copies(1)[0])
        same(index, one, queries)  # waits for the copy from the file
        ids = np.flatnonzero(merge.shard_of(np.arange(300), 2) == 1)
        index.remove(ids[:1])
        one.remove(ids[:1])
        kill(index._fleet.copies(1)[0])
        message = "shard 1 of 2 is gone: its last copy, on node .* has not been saved since it changed"
        for call in (
            lambda: index.search(queries),
            lambda: index.search(queries, keep=0.2),
            lambda: index.range_search(queries, 9),
            lambda: index.count_within(queries, 9),
            lambda: index.to_arrays(),
            lambda: index.add(codes),
            lambda: index.remove(ids[1:2]),
            lambda: index.save(tmp_path),
            lambda: int(ids[1]) in index,
        ):
            with pytest.raises(ShardLostError, match=message) as caught:
                call()
            assert caught.value.shard == 1
        assert len(index) == 299
        left = np.flatnonzero(merge.shard_of(np.arange(300), 2) == 0)
        found = index.search(queries, 5, partial=True)
        assert found.missing_shards == (1,)
        assert_same(found.result, one.search(queries, 5, allow=left))
        for mode in MODES:
            found = index.search(queries, 5, keep=0.3, keep_mode=mode, stats=True, partial=True)
            assert found.missing_shards == (1,)
            assert_same(found.result[0], one.search(queries, 5, keep=0.3, keep_mode=mode, allow=left))
        found = index.range_search(queries, 20, partial=True)
        assert_same(found.result, one.range_search(queries, 20, allow=left))
        assert index.count_within(queries, 64, partial=True).result.tolist() == [len(left)] * 3
    with pytest.raises(ValueError, match=r"^the index is closed$"):
        index.search(queries)


def test_a_copy_that_hangs_is_not_waited_for(cluster):
    from fasthash.distributed import ShardedIndex

    codes = uniform(np.random.default_rng(8), 100, 8)
    with ShardedIndex.from_arrays(codes, n_shards=1, replicas=2, threads=1, hedge_after=0.2) as index:
        process = index._fleet.copies(0)[0].process
        os.kill(process, signal.SIGSTOP)
        try:
            begin = time.monotonic()
            for _ in range(10):
                assert index.search(codes[:1], 1).ids.tolist() == [[0]]
            assert time.monotonic() - begin < 20 * 0.2
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)
        index.add(codes[:1])
        assert len(index) == 101
        assert index.search(codes[:1], 2).ids.tolist() == [[0, 100]]


def test_searches_go_on_while_a_worker_and_a_node_are_killed(cluster, record_property):
    """No answer is wrong, no id is lost, each copy holds what its twin does; the longest pause is measured."""
    import ray

    from fasthash.distributed import ShardedIndex

    rng = np.random.default_rng(7)
    codes, queries = clustered(rng, 4000, 8), uniform(rng, 4, 8)
    nodes = [*cluster.workers, cluster.add_node(**NODE)]
    cluster.wait_for_nodes()
    model = fh.HierIndex.from_arrays(codes, level_bits=LAYOUT)
    expected = [model.search(queries, 20)]  # after each change
    done, wrong, answers = threading.Event(), [], []
    options = {"n_shards": 2, "replicas": 2, "threads": 1, "hedge_after": 0.5}
    with ShardedIndex.from_arrays(codes, level_bits=LAYOUT, **options) as index:
        assert index.replicas == 2
        assert all(len(set(nodes)) == 2 for nodes in index.copies)

        def search():
            last = time.monotonic()
            while not done.is_set():
                begin = len(expected) - 2  # the last change may not be visible yet
                found = index.search(queries, 20)
                now = time.monotonic()
                answers.append((now - last, now))
                last = now
                if not any(
                    all((a == b).all() for a, b in zip(found, state, strict=True))
                    for state in expected[max(0, begin) :]
                ):
                    wrong.append(found)

        def change():
            changes = np.random.default_rng(8)
            while not done.is_set():
                new = clustered(changes, 5, 8)
                old = changes.choice(model.to_arrays()[1], 3, replace=False)
                model.add(new)
                expected.append(model.search(queries, 20))
                index.add(new)
                model.remove(old)
                expected.append(model.search(queries, 20))
                index.remove(old)
                time.sleep(0.05)

        failures = []

        def run(work):
            try:
                work()
            except BaseException as error:
                failures.append(error)
                raise

        threads = [threading.Thread(target=run, args=(work,)) for work in (search, search, change)]
        for thread in threads:
            thread.start()
        try:
            pauses = {}
            time.sleep(1)
            for name in ("worker", "node"):
                victim = index._fleet.copies(1)[0]
                begin, n_changes = time.monotonic(), len(expected)
                before = [set(index._fleet.copies(shard)) for shard in range(2)]
                if name == "worker":
                    kill(victim)
                else:  # a raylet, which takes its workers with it
                    cluster.remove_node(next(n for n in nodes if n.node_id == victim.node), allow_graceful=False)
                until(lambda before=before: [set(index._fleet.copies(s)) for s in range(2)] != before or failures)
                assert index.wait_until_whole(40)
                until(lambda n_changes=n_changes: len(expected) > n_changes + 3 or failures)
                pauses[name] = max(gap for gap, at in answers if at > begin)
        finally:
            done.set()
            for thread in threads:
                thread.join()
        assert not failures
        assert not wrong
        assert len(answers) > 100
        assert_same(index.to_arrays(), model.to_arrays())
        for shard, version in enumerate(index._state.versions):
            held = [ray.get(copy.actor.read.remote(version, "to_arrays")) for copy in index._fleet.copies(shard)]
            assert len(held) == 2
            assert_same(*held)
        assert all(len(set(nodes)) == 2 for nodes in index.copies)
    usual = float(np.median([gap for gap, _ in answers]))
    record_property("pauses", pauses)
    print(f"{len(answers)} answers, usually {usual * 1e3:.1f} ms apart; longest pause in seconds: {pauses}")
