"""What shards find together, in one process without actors: their results merge into those of one `HierIndex`."""

from collections import OrderedDict
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fasthash as fh
import reference
from fasthash._locks import ChangeLock
from fasthash.distributed import merge
from fasthash.distributed.pruning import Census
from fasthash.distributed.shard import Shard
from indices import MODES, assert_same, problems


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
    index = fh.HierIndex((8, 16, 40))
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


class Crowded(OrderedDict):
    """A cache of filters in which searches of other threads store theirs right after each one."""

    def __setitem__(self, number, kept):
        super().__setitem__(number, kept)
        for other in range(1_000, 1_008):
            super().__setitem__(other, kept)


def test_a_filter_is_used_though_others_have_dropped_it():
    shard = Shard((8,), "default", "auto", None)
    shard.load(0, "", {}, 0, 1)
    shard.change(0, 1, "add", np.zeros((4, 1), np.uint8), np.arange(4))
    shard._filters = Crowded()
    for number in (1, 2, 1):
        found, _ = shard.search(1, np.zeros((1, 1), np.uint8), 4, None, "node_ratio", number, np.array([number]))
        assert found.ids.tolist() == [[number, -1, -1, -1]]
    assert len(shard._filters) == 8


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
