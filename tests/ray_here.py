"""Ray on this machine, for the tests of a file."""

import pytest


@pytest.fixture(scope="module")
def on_ray():
    """A cluster of one node with one processor, which this process has joined."""
    ray = pytest.importorskip("ray", reason="needs the extra ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        options = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False}
        ray.init(address="local", log_to_driver=False, logging_level="error", **options)
        yield
        ray.shutdown()
