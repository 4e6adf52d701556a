"""Relays on Ray: processes of a relay and of shards are killed, and results stay those of one index."""

import os
import signal
import sys
import time

import numpy as np
import pytest

import fasthash as fh
from indices import assert_same

ray = pytest.importorskip("ray", reason="needs the extra ray")

from fasthash.distributed import ShardedIndex, fleet
from fasthash.distributed.merge import shard_of
from stores import near_ties

LAYOUT = (8, 24)

pytestmark = pytest.mark.usefixtures("on_ray")


def until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def process_of(actor):
    return ray.get(actor.__ray_call__.remote(lambda _: os.getpid()))


@pytest.mark.skipif(sys.platform == "win32", reason="kills")
def test_relays_and_shards_are_killed(monkeypatch):
    monkeypatch.setattr(fleet, "number_of_relays", lambda n_shards: 2)
    rng = np.random.default_rng(0)
    codes, queries = near_ties(rng, 300), near_ties(rng, 5)
    many = np.resize(queries, (20_000, 4))  # which Ray shares, as the filter
    one = fh.HierIndex.from_arrays(codes, level_bits=LAYOUT)
    with ShardedIndex.from_arrays(codes, level_bits=LAYOUT, n_shards=3, threads=1) as index:
        first, second = index._fleet._relays._branches

        def same():
            assert_same(index.search(queries, 7), one.search(queries, 7))
            assert_same(index.search(queries, 7, keep=0.2), one.search(queries, 7, keep=0.2))
            assert_same(index.range_search(queries, 9), one.range_search(queries, 9))
            assert_same([index.count_within(queries, 9)], [one.count_within(queries, 9)])

        def through_relays():
            until(lambda: first.answers() and second.answers())
            until(lambda: same() or (first.copies and second.copies))  # on a busy machine a search does without them

        through_relays()
        allow = np.arange(60_000)
        assert_same(index.search(many, 2, allow=allow), one.search(many, 2, allow=allow))
        for _ in range(2):
            os.kill(process_of(first.actor), signal.SIGKILL)
            same()
            for each in (index, one):
                each.add(queries)
            through_relays()
        os.kill(process_of(index._fleet.copies(0)[0].actor), signal.SIGKILL)  # with nothing to restore it from
        found = index.search(queries, 7, partial=True)
        assert found.missing_shards == (0,)
        ids = one.ids()
        left = ids[shard_of(ids, 3) != 0]
        assert_same(found.result, one.search(queries, 7, allow=left))
