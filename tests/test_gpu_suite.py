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
    settings = emulator | {"SIZE": "tiny", "OUT": "out", "PYTHON": sys.executable}
    result = run("bash", ROOT / "benchmarks/gpu_suite.sh", "", "data", env=settings, cwd=tmp_path)
    suite = json.loads((out / "suite.json").read_text())
    steps = {step["step"]: step["result"] for step in suite["steps"]}
    assert list(steps) == ["tests", "bench", "memcheck", "racecheck", "trainings"], result.stdout + result.stderr
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
    assert (out / "table.md").read_text().endswith(table)


def test_a_group_of_rows_that_fails_does_not_end_the_others(emulator, tmp_path):
    code = """
import gpu_bench

def no_room(self, full):
    yield gpu_bench.Row("one row", 0.5)
    raise MemoryError("memory of the GPU: out of memory")

gpu_bench.Bench.filtered = no_room
gpu_bench.main()
"""
    path = tmp_path / "bench.json"
    settings = emulator | {"PYTHONPATH": str(ROOT / "benchmarks")}
    result = run(sys.executable, "-c", code, "--tiny", "--json", path, env=settings)
    assert result.returncode == 1
    rows = json.loads(path.read_text())["rows"]
    (number,) = (i for i, row in enumerate(rows) if row["seconds"] is None)
    assert [(row["workload"], row["note"]) for row in rows[number - 1 : number + 1]] == [
        ("one row", ""),
        ("no_room(2,000,000)", "failed: MemoryError: memory of the GPU: out of memory"),
    ]
    assert rows[-1]["workload"].startswith("products")
    assert "Traceback" in result.stderr


def suite_with(tmp_path, python, *arguments, change=lambda script: script, **settings):
    """Run the suite with a script in place of Python; `$real` is the real one."""
    need("bash")
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks/gpu_suite.sh").write_text(change((ROOT / "benchmarks/gpu_suite.sh").read_text()))
    (tmp_path / "python").write_text(f"#!/bin/bash\nreal={sys.executable}\n{python}\n")
    (tmp_path / "python").chmod(0o755)
    settings = {"OUT": str(tmp_path / "out"), "PYTHON": str(tmp_path / "python"), "PATH": os.defpath} | settings
    return run("bash", tmp_path / "benchmarks/gpu_suite.sh", *arguments, env=settings)


RUNS_SCRIPTS_ALONE = 'case "$1" in -) exec $real "$@";; esac'


def test_a_step_ends_at_its_limit(tmp_path):
    def change(script):
        assert script.count("step tests 120 ") == 1
        return script.replace("step tests 120 ", "step tests 1 ").replace('"$limit" -lt 5', '"$limit" -lt 1')

    python = f'{RUNS_SCRIPTS_ALONE}; case "$2" in pytest) exec sleep 100;; esac'
    result = suite_with(tmp_path, python, change=change, FASTHASH_GPU_EMULATOR="none")
    assert "| tests | over time |" in result.stdout, result.stdout + result.stderr
    assert result.returncode == 1


def test_steps_that_the_budget_has_no_time_for_are_not_run(tmp_path):
    result = suite_with(
        tmp_path, f'{RUNS_SCRIPTS_ALONE}; case "$2" in pytest) sleep 3;; esac', BUDGET="7", FASTHASH_GPU_EMULATOR="none"
    )
    assert "| tests | passed |" in result.stdout, result.stdout + result.stderr
    assert "| bench | not run: 7 s are over |" in result.stdout
    assert result.returncode == 1


def test_a_wheel_that_cannot_be_installed_ends_the_suite(tmp_path):
    result = suite_with(tmp_path, f"{RUNS_SCRIPTS_ALONE}; exit 7", tmp_path / "no.whl", FASTHASH_GPU_EMULATOR="none")
    assert result.returncode == 1
    assert "| install | failed (7) |" in result.stdout
    assert "| tests |" not in result.stdout
    assert f"the wheel cannot be installed: {tmp_path / 'no.whl'}" in result.stderr


def test_packages_that_are_missing_are_named(tmp_path):
    python = 'shift 1; exec $real -S - "$@"'  # without site-packages
    result = suite_with(tmp_path, python, FASTHASH_GPU_EMULATOR="")
    assert result.returncode == 2
    assert "but has no pytest, pytest_timeout, hypothesis, numpy, torch; " in result.stderr
    assert "python -m pip install pytest pytest-timeout hypothesis numpy torch" in result.stderr
