"""A Ray cluster of several nodes on this machine, and what the tests of a `ShardedIndex` on it share."""

import time

import pytest

from indices import assert_same

LAYOUT = (8, 16, 40)
NODE = {"num_cpus": 1, "object_store_memory": 80_000_000, "node_ip_address": "127.0.0.1"}


# A fixture, which tests import and name by its `name`:


@pytest.fixture(scope="module", name="cluster")
def three_nodes():
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


def same(index, one, queries, k=10):
    assert len(index) == index.ntotal == len(one)
    assert_same(index.to_arrays(), one.to_arrays())
    assert_same(index.search(queries, k), one.search(queries, k))
    assert_same(index.range_search(queries, 20), one.range_search(queries, 20))
    assert_same([index.count_within(queries, 25)], [one.count_within(queries, 25)])


def until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
