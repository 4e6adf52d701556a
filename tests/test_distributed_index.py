"""`ShardedIndex`: shards find and hold together what one `HierIndex` does, also while actors and nodes are killed."""

import contextlib
import json
import os
import pickle
import signal
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fasthash as fh
import reference
from fasthash import _saved_folder
from fasthash._locks import ChangeLock
from fasthash.distributed import merge
from fasthash.distributed.pruning import Census
from fasthash.distributed.shard import Shard
from galleries import GALLERIES, clustered, duplicated, uniform
from indices import MODES, assert_same, make, problems, shuffled_ids

# ---- without Ray ----


def in_parts(codes, ids, layout, n_shards):
    """Shards as plain objects."""
    shards = []
    for rows in merge.rows_of_shards(ids, n_shards):
        shards.append(Shard(layout, "default", "auto", None))
        shards[-1].load(0, "", {}, 0, n_shards)
        shards[-1].change(0, 1, "add", codes[rows], ids[rows])
    return shards


@given(problems(), st.integers(1, 6), st.data())
@settings(max_examples=settings.default.max_examples * 3 // 5)
def test_what_shards_find_together_is_what_one_index_finds(problem, n_shards, data):
    layout, codes, queries, ids, k = problem
    shards = in_parts(codes, ids, layout, n_shards)
    one = fh.HierIndex(layout)
    one.add(codes, ids)
    allow = data.draw(st.none() | st.sets(st.sampled_from(ids.tolist() or [0])).map(lambda some: np.array([*some, -7])))
    keep = data.draw(st.none() | st.sampled_from([0.01, 0.1, 0.29, 0.5, 1.0]))
    mode = data.draw(st.sampled_from(MODES))
    radius = data.draw(st.integers(0, sum(layout)))
    cuts = None
    if keep is not None and len(layout) > 1:
        cuts = Census([shard.nodes(1, None, allow) for shard in shards], layout).cuts(queries, k, keep, mode)
    parts = [shard.search(1, queries, k, cuts, mode, None, allow)[0] for shard in shards]
    result = merge.merge_nearest(parts, len(queries), k, sum(layout))
    pruned = {} if keep is None else {"keep": keep, "keep_mode": mode}
    assert_same(result, one.search(queries, k, allow=allow, **pruned))
    left = (codes, ids) if allow is None else reference.allowed(codes, ids, allow)
    if keep is None or len(layout) == 1:
        assert_same(result, reference.search(queries, *left, k))
    else:
        assert_same(result, reference.pruned_search(queries, *left, k, layout, keep, mode)[:2])
    ranges = [shard.range_search(1, queries, radius, None, allow)[0] for shard in shards]
    assert_same(merge.merge_ranges(ranges, len(queries)), reference.range_search(queries, *left, radius))


def test_cuts_of_another_shape_are_refused():
    index = fh.HierIndex(LAYOUT)
    queries = np.zeros((2, 8), np.uint8)
    for shape in ((2, 1), (1, 2), (2, 3), (4,), (0, 2)):
        with pytest.raises(ValueError, match=r"cuts must have shape \(n queries, n levels - 1\)"):
            index._impl.search(queries, 1, keep=1.0, cuts=np.zeros(shape, np.uint16))


def test_ids_are_spread_evenly_and_for_ever_alike():
    ids = np.arange(-50_000, 50_000)
    counts = np.bincount(merge.shard_of(ids, 7), minlength=7)
    assert counts.min() > 0.95 * len(ids) / 7

    def slow(id):
        x = id % 2**64
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
        return (x ^ (x >> 31)) % 7

    some = [0, 1, -2, 2**63 - 1, -(2**63), 12345678901]
    assert merge.shard_of(np.array(some), 7).tolist() == [slow(id) for id in some]
    rows = merge.rows_of_shards(ids, 7)
    assert [merge.shard_of(ids[of], 7).tolist() for of in rows] == [[s] * n for s, n in enumerate(counts)]


def test_nothing_found_anywhere():
    assert_same(merge.merge_nearest([], 2, 3, 8), (np.full((2, 3), 9, np.int32), np.full((2, 3), -1)))
    assert_same(merge.merge_ranges([], 2), (np.zeros(3, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int64)))


class OneShard:
    """Stands in for the fleet: what an index asks of it in a change."""

    def __init__(self):
        self.options, self.changing = SimpleNamespace(n_shards=1), ChangeLock()
        self.inside = []

    def check_open(self):
        pass

    def change(self, calls, versions, new):
        if self.inside:
            self.inside.pop()()
        return dict.fromkeys(calls, new)

    def publish(self, versions, sources=None):
        self.versions = versions

    def forget(self, versions):
        pass


def test_a_change_inside_a_change_of_all_shards_is_refused():
    """It would be lost: the outer one goes on from what was there before it."""
    pytest.importorskip("ray", reason="needs the extra ray")
    from fasthash.distributed.index import ShardedIndex
    from fasthash.distributed.states import checked_settings

    index = ShardedIndex.__new__(ShardedIndex)
    index._begin(checked_settings(8, "default", "auto", "hamming"), OneShard(), [0], 0)
    fleet, messages, codes = index._fleet, [], np.zeros((1, 1), np.uint8)
    changes = {
        "add": lambda: index.add(codes),
        "remove": lambda: index.remove([0]),
        "update": lambda: index.update([0], codes),
        "compact": lambda: index.compact(),
    }

    def inside():
        for change in changes.values():
            with pytest.raises(RuntimeError) as caught:
                change()
            messages.append(str(caught.value))

    for outer, change in changes.items():
        fleet.inside.append(inside)
        change()
        assert messages == [
            f"{name} was called while this thread is inside {outer} of the same index; call it once {outer} has "
            "returned"
            for name in changes
        ]
        messages.clear()
    assert fleet.versions == index._state.versions == (4,)
    with index._held(), index._held() as state:  # as in a signal handler inside a search
        assert state.readers == 2
    assert state.readers == 0


# ---- on a cluster of several nodes on this machine ----

LAYOUT = (8, 16, 40)
NODE = {"num_cpus": 1, "object_store_memory": 80_000_000, "node_ip_address": "127.0.0.1"}


@pytest.fixture(scope="module")
def cluster():
    """Three nodes, each a raylet with workers of its own; the first one offers no processor and holds no shard."""
    ray = pytest.importorskip("ray", reason="needs the extra ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "1")
        from ray._private import services
        from ray.cluster_utils import Cluster

        # Ray would take the address of the machine for that of the first node, which listens on the loopback alone.
        patch.setattr(services, "get_node_ip_address", lambda *_: "127.0.0.1")
        cluster = Cluster(initialize_head=True, head_node_args={**NODE, "num_cpus": 0, "include_dashboard": False})
        try:
            cluster.workers = [cluster.add_node(wait=False, **NODE) for _ in range(2)]
            cluster.wait_for_nodes()
            ray.init(address=cluster.address, log_to_driver=False, logging_level="error")
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()


@pytest.fixture(scope="module")
def shared(cluster):
    """An index for all tests that kill nothing."""
    from fasthash.distributed import ShardedIndex

    with ShardedIndex(LAYOUT, n_shards=3, threads=1) as index:
        yield index


@pytest.fixture
def index(shared):
    """The same, empty, and one index that has gone the same way."""
    one = fh.HierIndex(LAYOUT)
    if (before := shared._state.next_id) > 0:
        one.add(np.zeros((1, 8), np.uint8), [before - 1])
        one.remove([before - 1])
    yield shared, one
    shared.remove(shared.to_arrays()[1])
    assert len(shared) == 0


def both(indices, method, *arguments):
    """The outcome of a call, which is the same for all indices."""
    outcomes = []
    for index in indices:
        try:
            outcomes.append(getattr(index, method)(*arguments))
        except (TypeError, ValueError) as error:
            outcomes.append(f"{type(error).__name__}: {error}")
    assert outcomes[0] == outcomes[1]
    return outcomes[0]


def same(index, one, queries, k=10):
    assert len(index) == index.ntotal == len(one)
    assert_same(index.to_arrays(), one.to_arrays())
    assert_same(index.search(queries, k), one.search(queries, k))
    assert_same(index.range_search(queries, 20), one.range_search(queries, 20))
    assert_same([index.count_within(queries, 25)], [one.count_within(queries, 25)])


@pytest.mark.parametrize("kind", list(GALLERIES))
def test_searches(index, kind):
    index, one = index
    codes, queries, ids = make(3, LAYOUT, 700, kind, nq=5)
    for each in (index, one):
        each.add(codes, ids)
    same(index, one, queries)
    same(index, one, queries, k=900)
    same(index, one, queries[:0])
    some = fh.IdFilter(ids[::3])
    mask = np.zeros(5000, bool)
    mask[ids[ids >= 0][::2]] = True
    for allow in (some, some, ids[:5], mask, np.zeros(0, np.int64)):
        assert_same(index.search(queries, 7, allow=allow), one.search(queries, 7, allow=allow))
        assert_same(index.range_search(queries, 30, allow=allow), one.range_search(queries, 30, allow=allow))
        assert (index.count_within(queries, 30, allow=allow) == one.count_within(queries, 30, allow=allow)).all()
        for mode in MODES:
            pruned = {"keep": 0.2, "keep_mode": mode, "allow": allow}
            assert_same(index.search(queries, 7, **pruned), one.search(queries, 7, **pruned))
    for mode in MODES:
        for keep in (0.05, 0.5, 1):
            found = index.search(queries, 12, keep=keep, keep_mode=mode)
            assert_same(found, one.search(queries, 12, keep=keep, keep_mode=mode))
    result, work = index.search(queries, 3, stats=True)
    assert_same(result, one.search(queries, 3))
    assert [len(part) for part in work] == [5] * 4
    assert (index.search(queries, 3, keep=0.1, stats=True)[1].plan == "pruned").all()
    assert index.range_search(queries, 3, stats=True)[1].codes_compared.shape == (5,)


def test_an_empty_index(index):
    index, one = index
    queries = uniform(np.random.default_rng(0), 3, 8)
    same(index, one, queries)
    for mode in MODES:
        assert_same(index.search(queries, 2, keep=0.1, keep_mode=mode), one.search(queries, 2))
    for each in (index, one):
        each.add(np.zeros((0, 8), np.uint8))
        each.remove(np.zeros(0, np.int64))
    assert index.reconstruct(np.zeros(0, np.int64)).shape == (0, 8)
    index.add(queries[:1], [5])  # two shards stay empty
    one.add(queries[:1], [5])
    same(index, one, queries)
    assert index
    assert "n_shards=3" in repr(index)


@pytest.mark.parametrize("seed", range(3))
def test_changes_at_random(index, seed):
    index, one = index
    rng = np.random.default_rng(seed)
    queries = uniform(rng, 3, 8)
    for _ in range(25):
        n = int(rng.integers(0, 60))
        held = one.to_arrays()[1]
        codes = (clustered, duplicated)[rng.integers(2)](rng, n, 8)
        some = rng.choice(held, min(n, len(held)), replace=False)
        match rng.integers(6):
            case 0:
                both([index, one], "add", codes)
            case 1:
                both([index, one], "add", codes, np.setdiff1d(shuffled_ids(rng, 3 * n) + rng.integers(999), held)[:n])
            case 2:
                both([index, one], "remove", some)
            case 3:
                both([index, one], "update", some, codes[: len(some)])
            case 4 if len(held):  # one of many is wrong, and nothing happens
                new = [*range(10**9, 10**9 + 20), held[0]]
                assert "ids must be new" in both([index, one], "add", uniform(rng, 21, 8), new)
                assert "10000000000" in both([index, one], "remove", [*held, 10**10])
                assert "twice" in both([index, one], "update", [*held, held[0]], uniform(rng, len(held) + 1, 8))
                assert "-1" in both([index, one], "add", uniform(rng, 3, 8), [10**9, -1, 10**9 + 1])
            case _:
                assert all((id in index) == (id in one) for id in [*some[:3], 10**12, 2**70])
                np.testing.assert_array_equal(index.reconstruct(some), one.reconstruct(some))
                for id in some[:2]:
                    np.testing.assert_array_equal(index.reconstruct(id), one.reconstruct(id))
        same(index, one, queries, k=5)
    index.compact()
    same(index, one, queries)
    import ray

    # Of all these versions each shard keeps the one that is read.
    held = [index._fleet.copies(shard)[0].actor.__ray_call__ for shard in range(3)]
    until(lambda: ray.get([call.remote(lambda shard: len(shard._versions)) for call in held]) == [1, 1, 1])


def test_bad_input_is_refused_as_by_one_index(index):
    indices = index
    rng = np.random.default_rng(0)
    for each in indices:
        each.add(uniform(rng, 9, 8))
    codes = uniform(rng, 3, 8)
    for method, *arguments in [
        ("add", codes.astype(bool)),
        ("add", codes[:, :7]),
        ("add", codes, [1.0, 2.0, 3.0]),
        ("add", codes, [1, 2]),
        ("remove", [0.5]),
        ("remove", [10**12]),
        ("update", [1], codes),
        ("reconstruct", [10**12]),
        ("reconstruct", ["a"]),
        ("__contains__", "a"),
        ("search", codes[0, :7]),
        ("search", codes, 0),
        ("search", codes, True),
        ("range_search", codes, -1),
        ("range_search", codes, 1.5),
        ("count_within", codes.astype(np.int64), 3),
    ]:
        assert isinstance(both(indices, method, *arguments), str), (method, arguments)
    for options in ({"keep": 0}, {"keep": "a"}, {"keep_mode": "x"}, {"allow": [0.5]}, {"allow": [True]}, {"stats": 1}):
        messages = []
        for each in indices:
            with pytest.raises((TypeError, ValueError)) as caught:
                each.search(codes, **options)
            messages.append(str(caught.value))
        assert messages[0] == messages[1]
    with pytest.raises(TypeError, match="partial must be True or False, got 1"):
        indices[0].search(codes, partial=1)
    with pytest.raises(TypeError, match="belongs to the process that made it"):
        pickle.dumps(indices[0])


def test_the_last_id(cluster):
    from fasthash.distributed import ShardedIndex

    codes, last = np.zeros((1, 8), np.uint8), np.array([2**63 - 1])
    with ShardedIndex.from_arrays(codes, last, n_shards=1, threads=1) as index:
        indices = index, fh.HierIndex.from_arrays(codes, last)
        assert "leaves the range of int64" in both(indices, "add", codes)
        same(*indices, codes)


def test_bad_arguments_of_the_class(cluster, tmp_path, monkeypatch):
    from fasthash.distributed import ShardedIndex

    for options, error, message in [
        ({"n_shards": 0}, ValueError, "n_shards must be at least 1, got 0"),
        ({"n_shards": 1.5}, TypeError, "n_shards must be an integer, got 1.5"),
        ({"replicas": 0}, ValueError, "replicas must be at least 1, got 0"),
        ({"level_bits": (7, 8)}, ValueError, "level_bits must be at least 8, got 7"),
        ({"memory": "much"}, ValueError, "memory must be one of"),
        ({"plan": "none"}, ValueError, "plan must be one of"),
        ({"metric": "dice"}, ValueError, "metric must be one of"),
        ({"metric": "jaccard"}, ValueError, "level_bits must be one level with the metric jaccard"),
        ({"metric": "jaccard", "level_bits": 8, "plan": "scan"}, ValueError, "plan must not be given with the metric"),
        ({"threads": 0}, ValueError, "threads must be at least 1, got 0"),
        ({"num_cpus": -1}, ValueError, "num_cpus must be finite and not negative, got -1"),
        ({"hedge_after": 0}, ValueError, "hedge_after must be positive and finite, got 0"),
    ]:
        with pytest.raises(error, match=message):
            ShardedIndex(**options)
    with pytest.raises(FileNotFoundError, match="holds no saved ShardedIndex"):
        ShardedIndex.load(tmp_path)
    monkeypatch.setattr("fasthash.distributed.fleet.START_SECONDS", 2.0)
    with pytest.raises(TimeoutError, match="Ray has not started a shard within 2 s; is there a node with num_cpus=99"):
        ShardedIndex(num_cpus=99)


def test_an_index_by_jaccard_distance(cluster, tmp_path):
    from fasthash.distributed import ShardedIndex

    rng = np.random.default_rng(6)
    codes, ids = np.packbits(rng.random((600, 256)) < 0.1, axis=1), shuffled_ids(rng, 600)
    codes[::50], queries = 0, codes[:6] | codes[6:12]
    one = fh.HierIndex(256, metric="jaccard")

    def same_by_jaccard(index):
        assert (index.metric, index.stats()["metric"], len(index)) == ("jaccard", "jaccard", len(one))
        for options in ({}, {"allow": ids[::3]}, {"allow": fh.IdFilter(ids[:9])}):
            for k in (7, 700):
                assert_same(index.search(queries, k, **options), one.search(queries, k, **options))
            for radius in (0, 0.9, 1):
                expected = one.range_search(queries, radius, **options)
                assert_same(index.range_search(queries, radius, **options), expected)
                assert (index.count_within(queries, radius, **options) == np.diff(expected.offsets)).all()
        assert_same(index.search(queries, 3, stats=True)[0], one.search(queries, 3))

    with ShardedIndex(256, n_shards=3, threads=1, metric="jaccard") as index:
        assert_same(index.search(queries, 2), one.search(queries, 2))
        for each in (index, one):
            each.add(codes, ids)
            each.remove(ids[:100])
            each.update(ids[100:105], codes[:5])
        same_by_jaccard(index)
        assert "metric='jaccard'" in repr(index)
        with pytest.raises(ValueError, match="metric must be 'hamming' for keep, this index has 'jaccard'"):
            index.search(queries, keep=0.5)
        both([index, one], "range_search", queries, -0.5)
        both([index, one], "count_within", queries, "1")
        index.save(tmp_path)
    for n_shards in (None, 2):
        with ShardedIndex.load(tmp_path, n_shards=n_shards, threads=1) as loaded:
            same_by_jaccard(loaded)


def test_save_load_and_other_numbers_of_shards(index, tmp_path):
    from fasthash.distributed import ShardedIndex

    index, one = index
    rng = np.random.default_rng(5)
    codes, queries = clustered(rng, 500, 8), uniform(rng, 3, 8)
    ids = shuffled_ids(rng, 500)
    for each in (index, one):
        each.add(codes, ids)
        each.remove([ids.max()])  # still the largest so far
    index.save(tmp_path)
    index.save(tmp_path)  # in place of itself
    files = sorted(tmp_path.glob("shard-*.fh"))
    assert len(files) == 3
    pieces = [fh.load(file).to_arrays() for file in files]
    assert sorted(np.concatenate([ids for _, ids in pieces])) == sorted(one.to_arrays()[1])
    for n_shards in (None, 2, 6):
        with ShardedIndex.load(tmp_path, n_shards=n_shards, threads=1) as loaded:
            assert (loaded.n_shards, loaded.level_bits, loaded.memory) == (n_shards or 3, LAYOUT, "default")
            same(loaded, one, queries)
            if n_shards == 2:
                more = one.copy()
                for each in (loaded, more):
                    each.add(codes[:7])  # counts on from the id that was removed
                same(loaded, more, queries)
    first, second = files[0].read_bytes(), files[1].read_bytes()
    for content in ((second, first), (first, second)):  # exchanged, and back
        for file, data in zip(files, content, strict=False):
            file.write_bytes(data)
        card = json.loads((tmp_path / "card.json").read_text())
        del card["sha256"]
        for entry in card["files"].values():
            entry.update(_saved_folder.file_entry(tmp_path / entry["name"]))
        (tmp_path / "card.json").write_text(json.dumps(card | {"sha256": _saved_folder._checksum_of(card)}))
        if content[0] == second:
            with pytest.raises(fh.FormatError, match=r"shard-00000\.fh holds the id -?\d+ of another shard"):
                ShardedIndex.load(tmp_path)
    damaged = bytearray(files[1].read_bytes())
    damaged[len(damaged) // 2] ^= 1
    files[1].write_bytes(damaged)
    with pytest.raises(fh.FormatError):
        ShardedIndex.load(tmp_path)
    files[1].unlink()
    with pytest.raises(fh.FormatError, match="is missing, which card"):
        ShardedIndex.load(tmp_path)


class Changing:
    """Gives another array each time."""

    def __init__(self, *arrays):
        self.arrays = list(arrays)

    def __array__(self, dtype=None, copy=None):
        return self.arrays.pop(0) if len(self.arrays) > 1 else self.arrays[0]


def test_what_is_given_is_read_once(index, monkeypatch):
    """By an object that changes, and by an array that is written once the shards of its ids are known."""
    index, one = index
    rng = np.random.default_rng(8)
    codes, more = uniform(rng, 40, 8), uniform(rng, 40, 8)
    first = index._state.next_id
    ids = np.arange(first, first + 40)
    index.add(Changing(codes, more), Changing(ids, ids + 1000))
    one.add(codes, ids)
    same(index, one, codes[:3])
    written = ids.copy()
    real = merge.rows_of_shards

    def rows(given, n_shards):
        found = real(given, n_shards)
        thread = threading.Thread(target=written.fill, args=(first,))
        thread.start()
        thread.join()
        return found

    monkeypatch.setattr("fasthash.distributed.changing.rows_of_shards", rows)
    index.update(written, more)
    monkeypatch.undo()
    assert (written == first).all()
    one.update(ids, more)
    same(index, one, codes[:3])
    allowed, queries = Changing(ids[:5], ids), Changing(codes[:3], more[:3])
    assert_same(index.search(queries, 9, keep=0.5, allow=allowed), one.search(codes[:3], 9, keep=0.5, allow=ids[:5]))


def test_a_load_beside_a_save_reads_the_card_again(index, tmp_path, monkeypatch):
    """The card is replaced after it was read, so the actors find no files."""
    from fasthash.distributed import ShardedIndex

    index, one = index
    for each in (index, one):
        each.add(np.arange(80, dtype=np.uint8).reshape(10, 8))
    index.save(tmp_path)
    points = []

    def save_again(point):
        points.append(point)
        if points == ["card read"]:
            index.save(tmp_path)

    monkeypatch.setattr(_saved_folder, "reached", save_again)
    with ShardedIndex.load(tmp_path, threads=1) as loaded:
        assert_same(loaded.to_arrays(), one.to_arrays())
    assert points == ["card read", "card replaced", "card read"]


def test_stats(index):
    index, _ = index
    index.add(uniform(np.random.default_rng(0), 100, 8))
    stats = index.stats()
    assert (stats["n_codes"], stats["n_shards"], stats["copies"]) == (100, 3, [1, 1, 1])
    assert sum(shard["n_codes"] for shard in stats["shards"]) == 100
    assert stats["nbytes"] == index.nbytes > 800


def kill(copy):
    os.kill(copy.process, signal.SIGKILL)


def until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


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


def test_the_commands(cluster, tmp_path, monkeypatch):
    typer_testing = pytest.importorskip("typer.testing", reason="needs the extra cli")
    from fasthash.cli import app

    def run(line):
        result = typer_testing.CliRunner().invoke(app, line.split())
        return result.exit_code, result.stdout + result.stderr

    monkeypatch.chdir(tmp_path)
    codes = clustered(np.random.default_rng(9), 300, 8)
    np.save("codes.npy", codes)
    np.save("queries.npy", codes[:4] ^ np.uint8(1))
    np.save("ids.npy", np.arange(300) * 3)
    options = "--levels 8,16,40 --ids ids.npy --memory compact"
    code, printed = run(f"build codes.npy -o one.fh {options}")
    assert code == 0
    code, printed = run(f"build codes.npy --ray --threads 1 {options}")
    assert (code, "300 codes of 64 bits in codes.shards" in printed) == (0, True), printed
    assert len(list((tmp_path / "codes.shards").glob("shard-*.fh"))) == 2
    for search in ("--radius 9 --csv", "-k 5 --keep 0.2 --json"):
        found = [run(f"search {name} queries.npy {search}") for name in ("one.fh", "codes.shards --ray --threads 1")]
        lines = [text.splitlines()[:-1] for _, text in found]  # but for the line that says what it took
        assert [code for code, _ in found] == [0, 0], found
        assert lines[0] == lines[1]
    more = "--ray --shards 1 --replicas 2 --threads 1 --csv"
    assert (
        run(f"search codes.shards queries.npy {more}")[1].splitlines()[:-1]
        == (run("search one.fh queries.npy --csv")[1].splitlines()[:-1])
    )
    code, printed = run("build codes.npy --ray")
    assert (code, printed) == (1, "fasthash: codes.shards exists; --force overwrites it\n")
    code, printed = run("build codes.npy --ray --force --json --shards 1 --threads 1")
    facts = json.loads(printed)
    assert (code, facts["kind"], facts["shards"], facts["codes"], facts["levels"]) == (0, "sharded", 1, 300, [64])
    assert run("search one.fh queries.npy --ray")[0] == 1
    for line, message in [
        ("build codes.npy --shards 2", "--shards needs --ray"),
        ("build codes.npy --ray --flat", "--flat excludes --ray"),
        ("search one.fh queries.npy --replicas 2", "--replicas needs --ray"),
        ("search one.fh queries.npy --address auto", "--address needs --ray"),
        ("search one.fh queries.npy --ray --mmap", "--mmap excludes --ray"),
    ]:
        code, printed = run(line)
        assert (code, message in printed) == (2, True), printed


def test_ray_that_does_not_start_is_one_line(monkeypatch):
    """Ray raises a bare Exception, and may do so over several lines."""
    ray = pytest.importorskip("ray", reason="needs the extra ray")
    from fasthash.distributed import _ray

    def fail(error):
        raise error

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **options: fail(Exception("The current node timed out\nduring startup.")))
    with pytest.raises(ConnectionError, match=r"^Ray does not start: The current node timed out during startup\.$"):
        _ray.start()
    for error in (ConnectionError("no cluster"), ValueError("address must be ...")):  # which are clear as they are
        monkeypatch.setattr(ray, "init", lambda error=error, **options: fail(error))
        with pytest.raises(type(error), match=f"^{error}$"):
            _ray.start()


def test_nodes_are_chosen_apart():
    pytest.importorskip("ray", reason="needs the extra ray")
    from fasthash.distributed.fleet import choose_node

    assert choose_node(["a", "b", "c"], ["a"], {}, {"a": 0, "b": 2, "c": 1}) == "c"
    assert choose_node(["a", "b", "c"], ["a"], {"c": 1}, {"a": 0, "b": 2, "c": 1}) == "b"
    assert choose_node(["a", "b"], ["a"], {"b": 1}, {}) == "b"
    assert choose_node(["a", "b", "c"], ["a"], {"b": 2, "c": 1}, {"c": 9}) == "c"
    assert choose_node(["a"], ["a"], {"a": 1}, {}) == "a"


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
