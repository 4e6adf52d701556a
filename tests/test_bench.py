"""`fasthash bench` on a few thousand codes, with the compared libraries that are installed."""

import importlib.util
import json
from functools import partial

import numpy as np
import pytest

import fasthash as fh
from fasthash._shown import command
from fasthash.bench import LIBRARIES, markdown, run_bench, text_table
from fasthash.bench.measure import recall
from fasthash.bench.page import _apart, _unbeaten
from fasthash.bench.timing import interleaved, one_by_one
from galleries import clustered

CODES = clustered(np.random.default_rng(2), 3000, 8)


@pytest.fixture(scope="module")
def report():
    before = fh.get_num_threads()
    lines = []
    found = run_bench(CODES, k=5, rounds=1, seconds=0.005, say=lines.append)
    assert fh.get_num_threads() == before
    assert lines
    return found


def test_who_takes_part_and_who_does_not(report):
    names = {row["name"].split()[0].split(",")[0] for row in report["rows"]}
    spoken = {"faiss": "faiss", "usearch": "usearch", "numpy": "numpy", "sklearn": "scikit-learn"}
    for name in LIBRARIES:
        installed = importlib.util.find_spec(name) is not None
        assert (spoken[name] in names) == installed == (name not in report["left_out"])
    assert sum(row["name"].startswith("fasthash") for row in report["rows"]) == 4


def test_what_promises_to_be_exact_is(report):
    for row in report["rows"]:
        assert row["recall"] == 1 if row["exact"] else 0 < row["recall"] <= 1
        assert row["us_one"] > 0
        assert row["us_batch"] > 0
        assert row["build_seconds"] >= 0
    approximate = [row["recall"] for row in report["rows"] if row["setting"] == "nprobe 1"]
    assert all(value < 1 for value in approximate)


def test_what_was_measured_is_told(report):
    assert (report["n_codes"], report["n_queries"], report["held_out"]) == (2000, 1000, True)
    assert (report["n_bits"], report["k"], report["threads"], report["rounds"]) == (64, 5, 1, 1)
    assert report["versions"]["fasthash"] == fh.__version__
    flat = next(row for row in report["rows"] if row["name"] == "fasthash FlatIndex")
    assert 8 <= flat["bytes_per_code"] < 8.5
    json.dumps(report)


def test_given_queries_and_chosen_libraries():
    queries = CODES[:20]
    found = run_bench(CODES, queries, k=3, threads=2, rounds=1, seconds=0.001, compare=["numpy"])
    assert (found["n_codes"], found["n_queries"], found["held_out"], found["threads"]) == (3000, 20, False, 2)
    assert [row["name"] for row in found["rows"] if "fasthash" not in row["name"]] == ["numpy"]
    assert "numpy (one thread)" in text_table(found)
    with pytest.raises(ValueError, match="compare must be one of 'faiss', 'usearch', 'numpy', 'sklearn', got 'annoy'"):
        run_bench(CODES, compare=["annoy"])
    with pytest.raises(ValueError, match="k must be at most the 5 codes, got 6"):
        run_bench(CODES[:5], queries, k=6)
    with pytest.raises(ValueError, match="codes must be at least 2 where queries are taken out of them, got 1"):
        run_bench(CODES[:1])
    with pytest.raises(ValueError, match="queries must be at least one, got none"):
        run_bench(CODES, queries[:0])


def test_what_is_not_installed_is_left_out_and_said(monkeypatch):
    monkeypatch.setattr("fasthash.bench.measure.find_spec", lambda name: None)
    found = run_bench(CODES[:50], k=2, rounds=1, seconds=0.001, compare=["faiss", "usearch"])
    assert found["left_out"]["usearch"] == f"not installed; {command('pip')} install usearch"
    assert f"left out: faiss: not installed; {command('pip')} install faiss-cpu" in text_table(found)
    assert "Left out: faiss: not installed" in markdown(found, "bench.png")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"seconds": float("inf")}, ValueError, "seconds must be"),
        ({"seconds": -1}, ValueError, "seconds must be"),
        ({"seconds": "x"}, TypeError, "seconds must be a number, got 'x'"),
        ({"compare": "faiss"}, TypeError, "compare must be a sequence of names, got 'faiss'"),
    ],
)
def test_refused_options(options, error, message):
    with pytest.raises(error, match=message):
        run_bench(CODES, k=3, rounds=1, **options)


def test_a_package_of_another_distribution(monkeypatch):
    monkeypatch.setitem(LIBRARIES, "numpy", ("numpy-of-nobody", LIBRARIES["numpy"][1]))
    found = run_bench(CODES, k=3, rounds=1, seconds=0.001, compare=["numpy", "numpy"])
    assert found["versions"]["numpy-of-nobody"] == "unknown"
    assert [row["name"] for row in found["rows"]].count("numpy") == 1


def test_recall_counts_ties_and_nothing_twice():
    gallery = np.array([[0], [1], [2], [255], [3]], dtype=np.uint8)
    queries = np.array([[0], [255]], dtype=np.uint8)
    kth = np.array([1, 6], dtype=np.int32)  # of the two nearest: 0 and one of 1, 2; 255 and 3
    assert recall(np.array([[0, 1], [3, 4]]), gallery, queries, kth) == 1
    assert recall(np.array([[0, 2], [3, 4]]), gallery, queries, kth) == 1
    assert recall(np.array([[0, 0], [3, -1]]), gallery, queries, kth) == 0.5
    assert recall(np.array([[0, 4], [3, 1]]), gallery, queries, kth) == 0.5


def test_interleaved_takes_turns_and_medians_and_warms_short_calls_up():
    order = []
    now = 0.0

    def takes(name, seconds):
        nonlocal now
        order.append(name)
        now += seconds.pop(0)

    # Of a, the first call and those after short ones are untimed; b is long.
    calls = {"a": partial(takes, "a", [9, 0.001, 9, 0.003, 9, 0.002]), "b": partial(takes, "b", [9, 1, 3, 2])}
    found = interleaved(calls, 3, lambda: now)
    assert order == list("aabbaabaab")
    assert found == pytest.approx({"a": 0.002, "b": 2})
    seen = []
    one_by_one(lambda query, k: seen.append((query.shape, k)), np.zeros((3, 8), np.uint8), 4)()
    assert seen == [((1, 8), 4)] * 3


def test_labels_and_curves_of_the_plot():
    assert _unbeaten([(0.9, 20.0), (0.9, 10.0), (1.0, 30.0), (1.0, 40.0), (0.5, 35.0)]) == [(0.9, 10.0), (1.0, 30.0)]
    moved = _apart([0.1, 0.1, 0.99, 0.99, 0.995])
    assert moved[0] == 0.1
    assert (np.diff(moved) > 0.05).all()
    assert moved[-1] <= 1


def test_the_command_writes_a_table_and_a_plot(tmp_path):
    pytest.importorskip("matplotlib", reason="needs the extra bench")
    testing = pytest.importorskip("typer.testing", reason="needs the extra cli")
    from fasthash.cli import app

    np.save(tmp_path / "codes.npy", CODES)
    run = testing.CliRunner().invoke
    arguments = ["bench", str(tmp_path / "codes.npy"), "--rounds", "1", "--compare", "numpy"]
    result = run(app, [*arguments, "-o", str(tmp_path / "report")])
    assert result.exit_code == 0, result.output
    table = result.stdout
    assert table.splitlines()[0] == "2,000 codes of 64 bits, 1,000 queries held out of them, k = 10, 1 thread"
    written = json.loads((tmp_path / "report" / "bench.json").read_text())
    assert text_table(written) == table.rstrip("\n")
    assert "![](bench.png)" in (tmp_path / "report" / "bench.md").read_text()
    assert (tmp_path / "report" / "bench.png").read_bytes().startswith(b"\x89PNG")
    result = run(app, [*arguments, "-o", str(tmp_path / "report")])
    assert result.exit_code == 1
    assert "bench.json exists; --force overwrites it" in result.stderr
    assert json.loads(run(app, [*arguments, "--json"]).stdout)["rows"]
    result = run(app, ["bench", str(tmp_path / "none.npy"), "-o", str(tmp_path / "refused")])
    assert "none.npy does not exist" in result.stderr
    assert not (tmp_path / "refused").exists()
