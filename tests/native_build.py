"""Compilers and CMake as the tests call them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# What the extra `test` installs lies beside the interpreter.
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])


def run(*command, env=None, **options):
    """What became of a command; `env` is added to the environment."""
    env = os.environ | {"PATH": PATH} | (env or {})
    return subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=250, env=env, **options)


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
