"""The one command for a card, with the emulator in place of the card."""

import json
import os
import sys

import pytest

from native_build import ROOT, need, run


@pytest.fixture
def emulator(core_build):
    pytest.importorskip("pybind11", reason="needs pybind11 in the environment")
    (path,) = core_build.glob("_cuda.*so")
    return {"FASTHASH_GPU_EMULATOR": str(path)}


def test_the_suite_runs_on_the_emulator(emulator, tmp_path):
    need("bash")
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    (data / "trainings.sh").write_text('echo "no card, no training" > "$1/training.txt"; exit 3\n')
    settings = emulator | {"SIZE": "tiny", "OUT": str(out), "PYTHON": sys.executable}
    result = run("bash", ROOT / "benchmarks/gpu_suite.sh", "", data, env=settings)
    suite = json.loads((out / "suite.json").read_text())
    steps = {step["step"]: step["result"] for step in suite["steps"]}
    assert list(steps) == ["tests", "memcheck", "racecheck", "bench", "trainings"], result.stdout + result.stderr
    assert steps["tests"] == steps["bench"] == "passed", result.stdout + result.stderr
    assert steps["memcheck"].startswith("skipped: ")
    assert steps["trainings"] == "failed (3)"  # and the table is printed all the same
    assert result.returncode == 1
    workloads = [row["workload"] for row in suite["bench"]["rows"]]
    for start in (
        "to(cuda), flat",
        "flat, 1 query",
        "to(cuda), hier",
        "hier, 40 queries",
        "jaccard, 40 queries",
        "streamed",
        "products",
        "add",
    ):
        assert any(name.startswith(start) for name in workloads), start
    table = result.stdout.rpartition("| step |")[2]
    assert all(name in table for name in (*steps, *workloads))


def test_a_step_ends_at_its_limit(tmp_path):
    need("bash")
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\ncase "$2" in pytest) exec sleep 100;; esac\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    script = (ROOT / "benchmarks/gpu_suite.sh").read_text()
    assert script.count("step tests 60 ") == 1
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks/gpu_suite.sh").write_text(script.replace("step tests 60 ", "step tests 1 "))
    settings = {"OUT": str(tmp_path / "out"), "PYTHON": str(python), "PATH": os.defpath}
    result = run("bash", tmp_path / "benchmarks/gpu_suite.sh", env=settings)
    assert "| tests | over time |" in result.stdout, result.stdout + result.stderr
    assert result.returncode == 1
