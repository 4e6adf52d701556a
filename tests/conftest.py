"""What holds for every test."""

import os

import pytest
from hypothesis import settings

import native_build

# As the command line does: without it, tests that train crawl where another program uses the same cores.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
# Several workers of pytest-xdist share the cores: each, and the programs it starts, computes on its own part of them.
if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 0)):
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))

import fasthash
from gpu_devices import device, devices, emulator, gpu_tensor  # noqa: F401
from ray_here import on_ray  # noqa: F401

# How many inputs hypothesis tries of each test; `make stress` has it try more. A busy machine is no fault.
settings.register_profile("tests", max_examples=int(os.environ.get("MAX_EXAMPLES", 50)), deadline=None)
settings.load_profile("tests")

# The files that take longest: workers of pytest-xdist begin with them, so that none is left with one at the end.
LONG = (
    *("test_package.py", "test_documents.py", "test_encoding_at_scale.py", "test_encoder.py", "test_hostile_files.py"),
    *("test_distributed_index.py", "test_distributed_kills.py", "test_distributed.py", "test_differential.py"),
    *("test_demo.py", "test_train.py"),
    *("test_experiment.py", "test_cli_indices.py", "test_engine.py", "test_building.py", "test_stateful.py"),
    *("test_power_loss.py", "test_updates.py", "test_crashes.py"),
)


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))
    for item in items:
        if "core_build" in item.fixturenames:
            item.add_marker(pytest.mark.timeout(1500))  # whichever comes first waits for the compiler


@pytest.fixture(autouse=True)
def _same_number_of_threads():
    """What a test, or a command in it, says of threads ends with it."""
    before = fasthash.get_num_threads()
    yield
    fasthash.set_num_threads(before)


@pytest.fixture(scope="session")
def core_build():
    """The folder in which the core, its own tests and the GPU's emulator are built, without Python's part."""
    return native_build.core_build()
