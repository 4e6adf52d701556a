"""What holds for every test."""

import os

import pytest

import fasthash
from native_build import ROOT, call

# As the command line does: without it, tests that train crawl where another program uses the same cores.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")


@pytest.fixture(autouse=True)
def _same_number_of_threads():
    """What a test, or a command in it, says of threads ends with it."""
    before = fasthash.get_num_threads()
    yield
    fasthash.set_num_threads(before)


@pytest.fixture(scope="session")
def core_build(tmp_path_factory):
    """The folder in which the core and its own tests are built, without Python."""
    folder = tmp_path_factory.mktemp("core")
    options = {
        "CMAKE_BUILD_TYPE": "Debug",
        "CMAKE_EXPORT_COMPILE_COMMANDS": "ON",
        "FASTHASH_PYTHON": "OFF",
        "FASTHASH_TESTS": "ON",
    }
    call("cmake", "-S", ROOT, "-B", folder, *(f"-D{name}={value}" for name, value in options.items()))
    call("cmake", "--build", folder, "--parallel", "2")
    return folder
