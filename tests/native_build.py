"""Compilers and CMake as the tests call them, and the one build of the core that they share."""

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# What the extra `test` installs lies beside the interpreter.
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])


def run(*command, env=None, timeout=250, **options):
    """What became of a command; `env` is added to the environment."""
    env = os.environ | {"PATH": PATH} | (env or {})
    return subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=timeout, env=env, **options)


def need(name):
    """The path of a program, without which the test is skipped."""
    path = shutil.which(name, path=PATH)
    if path is None:
        pytest.skip(f"needs {name}")
    return path


def call(name, *arguments, **options):
    """The output of a program, which must succeed."""
    result = run(need(name), *arguments, **options)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def core_build():
    """The folder in which the core, its own tests and the GPU's emulator are built.

    It stays: another run compiles what has changed since. Whoever asks while another process builds waits for it.
    """
    need("cmake")
    folder = ROOT / "build" / f"tests-{sysconfig.get_config_var('SOABI')}"
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_suffix(".lock")):
        if run("cmake", "-S", ROOT, "-B", folder, *_options()).returncode != 0:
            shutil.rmtree(folder)  # of another place or generator, or broken
            call("cmake", "-S", ROOT, "-B", folder, *_options())
        call("cmake", "--build", folder, "--parallel", "2", timeout=1400)
    return folder


def _options():
    settings = {
        # The tests take minutes at -O0. Nothing defines NDEBUG, and containers check what they are asked for.
        "CMAKE_BUILD_TYPE": "Debug",
        "CMAKE_CXX_FLAGS_DEBUG": "-O1 -D_GLIBCXX_ASSERTIONS",
        "CMAKE_EXPORT_COMPILE_COMMANDS": "ON",
        "FASTHASH_PYTHON": "OFF",
        "FASTHASH_TESTS": "ON",
    }
    if importlib.util.find_spec("pybind11") is not None:
        import pybind11

        settings |= {
            "FASTHASH_EMULATOR": "ON",
            "pybind11_DIR": pybind11.get_cmake_dir(),
            "Python_EXECUTABLE": sys.executable,
        }
    generator = ["-G", "Ninja"] if shutil.which("ninja", path=PATH) else []
    return [*generator, *(f"-D{name}={value}" for name, value in settings.items())]


@contextlib.contextmanager
def _locked(path):
    """One process at a time; the lock ends with its process."""
    with path.open("w") as file:
        with contextlib.suppress(ImportError):  # Windows has none, and no tests that build there
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield
