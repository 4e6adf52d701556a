"""Searches of many shards through relays give the results of one index, whatever is lost. No Ray, only its errors."""

import gc
import itertools
import weakref

import numpy as np
import pytest

import fasthash as fh
from galleries import queries_for, sparse
from indices import assert_same

pytest.importorskip("ray", reason="needs the extra ray")

from fasthash.distributed import ShardedIndex, ShardLostError, fleet
from fasthash.distributed.merge import shard_of
from fasthash.distributed.relay import Relay
from fasthash.distributed.relaying import number_of_relays
from fasthash.distributed.shard import Shard
from local_actors import Actor, local_actors
from stores import near_ties

LAYOUT, N_SHARDS = (8, 24), 11  # three relays, for 3, 4 and 4 shards
MODES = ("node_ratio", "gallery_ratio", "radius")


@pytest.fixture(autouse=True)
def actors(monkeypatch):
    monkeypatch.setattr(fleet, "number_of_relays", lambda n_shards: 3)
    with local_actors():
        yield


def relays(index):
    return [branch.actor for branch in index._fleet._relays._branches]


def shards(index):
    return [copy.actor for shard in range(index.n_shards) for copy in index._fleet.copies(shard)]


def count(actors, method):
    return [actor.asked.count(method) for actor in actors]


def same(index, one, queries, filters=(None,)):
    """All searches give what one index does."""
    for allow in filters:
        for k in (1, 7, len(one) + 3):
            assert_same(index.search(queries, k, allow=allow), one.search(queries, k, allow=allow))
        for radius in (0, 9, 14) if one.metric == "hamming" else (0, 0.4, 1):
            limits = {"radius": radius, "allow": allow}
            assert_same(index.range_search(queries, **limits), one.range_search(queries, **limits))
            assert_same([index.count_within(queries, **limits)], [one.count_within(queries, **limits)])
        for mode in MODES if one.metric == "hamming" else ():
            pruned = {"k": 7, "keep": 0.2, "keep_mode": mode, "allow": allow}
            assert_same(index.search(queries, **pruned), one.search(queries, **pruned))


def filters_of(index):
    ids = index.to_arrays()[1]
    mask = np.zeros(index._state.next_id, bool)
    mask[ids[ids >= 0][::2]] = True
    return None, fh.IdFilter(ids[::3]), ids[:5], mask, ids[:0]


def same_work(index, queries):
    """`stats=` gives what it does without relays."""
    through = index._fleet._relays
    for allow in filters_of(index):
        work = []
        for index._fleet._relays in (through, None):
            calls = index.search(queries, 7, allow=allow, stats=True), index.range_search(queries, 1, stats=True)
            work.append([*calls[0][1], *calls[1][1]])
        assert_same(*work)
        index._fleet._relays = through


def made(n, **options):
    """An index of codes with many ties, with relays that have started; one index; and queries."""
    rng = np.random.default_rng(n)
    codes, ids = near_ties(rng, n), rng.permutation(3 * n)[:n] - 5
    codes, ids = codes[ids != -1], ids[ids != -1]
    index, one = ShardedIndex(LAYOUT, n_shards=N_SHARDS, **options), fh.HierIndex(LAYOUT)
    for each in (index, one):
        each.add(codes, ids)
    return index, one, near_ties(rng, 6)


def test_results_between_changes():
    index, one, queries = made(400)
    rng = np.random.default_rng(0)
    with index:
        for step in range(4):
            same(index, one, queries, filters_of(index))
            same_work(index, queries)
            held, new = one.ids(), near_ties(rng, 50)
            for each in (index, one):
                each.add(new)
                each.remove(held[step::7])
                each.update(held[step + 1 :: 7], np.resize(new, (len(held[step + 1 :: 7]), 4)))
        index.compact()
        same(index, one, queries)
        same(index, one, queries[:0])
        assert min(count(relays(index), "search")) > 100
        assert count(relays(index), "know") == [1] * 3
        for each in (index, one):
            each.remove(one.ids())
        same(index, one, queries)


def test_results_of_jaccard_distance():
    rng = np.random.default_rng(0)
    codes = sparse(rng, 300, 64)
    with ShardedIndex(64, n_shards=N_SHARDS, metric="jaccard") as index:
        one = fh.HierIndex(64, metric="jaccard")
        for each in (index, one):
            each.add(codes)
        same(index, one, queries_for(rng, codes)[:6], filters_of(index))
        same_work(index, queries_for(rng, codes)[:6])


def test_large_arrays():
    """Queries and filters that Ray shares; answers that are not packed."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, (200, 16), np.uint8)
    with ShardedIndex.from_arrays(codes, n_shards=N_SHARDS) as index:
        one = fh.HierIndex.from_arrays(codes)
        queries = rng.integers(0, 256, (4_100, 16), np.uint8)
        allow = np.arange(100_000)
        assert_same(index.search(queries, 3, allow=allow), one.search(queries, 3, allow=allow))
        assert_same(index.range_search(queries, 50), one.range_search(queries, 50))
        assert_same([index.count_within(queries, 60)], [one.count_within(queries, 60)])
        assert min(count(relays(index), "search")) == 3


def test_a_search_sees_one_version():
    index, one, queries = made(100)
    with index, index._held() as state:
        before = one.search(queries, 7)
        for _ in range(3):
            ids = index.to_arrays()[1]
            index.remove(ids[::2])
            index.add(queries)
            each = [(queries, 7, None, "node_ratio", None, None)] * N_SHARDS
            parts = index._fleet.search("search", each, state.versions, state.sizes)
            assert len(parts) == 3
            index._state, now = state, index._state
            assert_same(index.search(queries, 7), before)
            index._state = now
        assert index.search(queries, 1).distances.max() == 0


@pytest.mark.parametrize("n_lost", [1, 2, 3])
def test_lost_relays(n_lost):
    """The owner asks the shards itself, then the new relays."""
    index, one, queries = made(200)
    with index:
        for _ in range(3):
            same(index, one, queries)
            for relay in relays(index)[:n_lost]:
                relay.losses = 1
            before = np.array(count(relays(index), "search"))
            same(index, one, queries)
            assert (np.array(count(relays(index), "search")) > before + 5).all()
        for relay in relays(index):  # as when Ray has nowhere to start one
            relay.lose()
        same(index, one, queries)
        assert (np.array(count(relays(index), "search")) > before + 5).all()


def test_a_relay_that_hangs():
    index, one, queries = made(200)
    with index:
        relays(index)[1].hangs = True
        same(index, one, queries)
        assert relays(index)[1].asked.count("search") == 0
        relays(index)[1].go_on()  # with answers to the first search, for which nobody waits
        same(index, one, queries)
        assert relays(index)[1].asked.count("search") > 5


def test_a_relay_that_starts_late(monkeypatch):
    """Nothing waits for it."""
    monkeypatch.setattr(Actor, "slow_starts", (Relay,))
    index, one, queries = made(100)
    with index:
        same(index, one, queries)
        assert count(relays(index), "search") == [0] * 3
        for relay in relays(index):
            relay.go_on()
        same(index, one, queries)
        assert min(count(relays(index), "search")) > 5


@pytest.mark.parametrize("n_lost", [1, 2, 5])
def test_lost_copies_below_relays(n_lost):
    """The other copies answer; relays are told of the new ones."""
    index, one, queries = made(200, replicas=2)
    with index:
        same(index, one, queries)
        for shard in range(n_lost):
            index._fleet.copies(2 * shard)[shard % 2].actor.lose()
        same(index, one, queries)
        assert index.wait_until_whole()
        new = [copy.actor for shard in range(n_lost) for copy in index._fleet.copies(2 * shard)]
        before = np.array(count(new, "answer"))
        same(index, one, queries)
        assert (np.array(count(new, "answer")) > before).all()
        for each in (index, one):  # which all copies see
            each.add(queries)
        same(index, one, queries)


def test_a_lost_shard(tmp_path):
    """What was saved comes back; what has changed since is gone, and said in the same words."""
    index, one, queries = made(200)
    with index:
        index.save(tmp_path / "saved")
        index._fleet.copies(4)[0].actor.lose()
        same(index, one, queries)
        ids = index.to_arrays()[1]
        gone = ids[np.flatnonzero(shard_of(ids, N_SHARDS) == 4)]
        index.remove(gone[:1])
        one.remove(gone[:1])
        same(index, one, queries)
        index._fleet.copies(4)[0].actor.lose()
        message = "shard 4 of 11 is gone: its last copy, on node .* has not been saved since it changed"
        for _ in range(2):
            for call in (
                lambda: index.search(queries),
                lambda: index.range_search(queries, 9),
                lambda: index.count_within(queries, 9),
            ):
                with pytest.raises(ShardLostError, match=message) as caught:
                    call()
                assert caught.value.shard == 4
        left = np.setdiff1d(ids, gone)
        for stats in (False, True):
            found = index.search(queries, 7, partial=True, stats=stats)
            assert found.missing_shards == (4,)
            assert_same(found.result[0] if stats else found.result, one.search(queries, 7, allow=left))
        found = index.range_search(queries, 9, partial=True)
        assert_same(found.result, one.range_search(queries, 9, allow=left))
        found = index.count_within(queries, 32, partial=True)
        assert found.result.tolist() == [len(left)] * len(queries)
        index.remove(left[np.unique(shard_of(left, N_SHARDS), return_index=True)[1]])
        for shard in range(N_SHARDS):
            for copy in index._fleet.copies(shard):
                copy.actor.lose()
        found = index.search(queries, 7, partial=True)
        assert found.missing_shards == tuple(range(N_SHARDS))
        assert (found.result.ids == -1).all()
    with pytest.raises(ValueError, match=r"^the index is closed$"):
        index.search(queries)


def test_late_copies_below_relays():
    """The other copies are asked, by the relay."""
    index, one, queries = made(200, replicas=2)
    with index:
        late = [index._fleet.copies(shard)[shard % 2].actor for shard in (0, 1, 5)]
        for actor in late:
            actor.hangs = True
        same(index, one, queries)
        for actor in late:
            actor.go_on()
        before = np.array(count(late, "answer"))
        same(index, one, queries)
        assert (np.array(count(late, "answer")) > before + 5).all()


@pytest.mark.parametrize("method", ["search", "range_search", "count_within"])
def test_errors_of_shards_are_those_without_relays(monkeypatch, method):
    index, _, queries = made(50)

    def fail(*arguments):
        raise ValueError("no good")

    with index:
        monkeypatch.setattr(Shard, method, fail)
        for way in (index._fleet._relays, None):
            index._fleet._relays = way
            with pytest.raises(ValueError, match=r"^no good$"):
                getattr(index, method)(queries, 3)


def test_shards_on_disk(tmp_path):
    rng = np.random.default_rng(0)
    one, queries = fh.HierIndex(LAYOUT), near_ties(rng, 5)
    options = {"replicas": 2, "threads": 1}
    with ShardedIndex(LAYOUT, n_shards=N_SHARDS, store=tmp_path / "index", **options) as index:
        for step in range(3):
            new = near_ties(rng, 40)
            for each in (index, one):
                each.add(new)
            same(index, one, queries)
            assert index.commit() == step + 1
            same(index, one, queries)
            index._fleet.copies(step)[0].actor.lose()
            same(index, one, queries)
            assert index.wait_until_whole()
        assert min(count(relays(index), "search")) > 5


@pytest.mark.parametrize(
    ("n_shards", "processors", "n_relays"), [(15, 99, 0), (16, 7, 0), (16, 8, 4), (36, 8, 6), (101, 900, 10)]
)
def test_numbers_of_relays(monkeypatch, n_shards, processors, n_relays):
    monkeypatch.setattr(fleet, "number_of_relays", number_of_relays)
    with local_actors(processors), ShardedIndex(8, n_shards=n_shards) as index:
        index.add(np.arange(200, dtype=np.uint8)[:, None])
        assert index.search(np.array([[7]], np.uint8), 1).ids.tolist() == [[7]]
        through = index._fleet._relays
        groups = [branch.shards for branch in through._branches] if through else []
        assert len(groups) == n_relays
        assert list(itertools.chain(*groups)) == list(range(n_shards if groups else 0))
        assert {len(group) - n_shards // n_relays for group in groups} <= {0, 1}
        assert count(shards(index), "answer") == [1] * n_shards


def test_actors_end_with_an_index_that_is_not_closed():
    index, one, queries = made(50)
    same(index, one, queries)
    fleet = weakref.ref(index._fleet)
    gc.disable()
    try:
        del index
        assert fleet() is None  # no cycle holds the actors
    finally:
        gc.enable()


@pytest.mark.parametrize("n_relays", [0, 1, 2])
@pytest.mark.parametrize("n_shards", [3, 4])
def test_replicas_share_the_searches(monkeypatch, n_shards, n_relays):
    """Whatever the number of shards that are asked at once."""
    monkeypatch.setattr(fleet, "number_of_relays", lambda n_shards: n_relays)
    with ShardedIndex(8, n_shards=n_shards, replicas=2) as index:
        for _ in range(10):
            index.search(np.zeros((1, 1), np.uint8), 1)
        assert count(shards(index), "answer") == [5] * 2 * n_shards
