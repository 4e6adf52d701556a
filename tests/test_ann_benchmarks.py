"""The adapters for ann-benchmarks, driven as it drives them, on a small data set in its layout."""

import importlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fasthash as fh
from galleries import clustered

h5py = pytest.importorskip("h5py", reason="needs the extra ann-benchmarks")
pytest.importorskip("yaml", reason="needs the extra ann-benchmarks")

from ann_benchmarks import dataset, run

FOLDER = Path(run.__file__).parent
CODES = clustered(np.random.default_rng(3), 2000, 8)
CODES, QUERIES = CODES[:-30], CODES[-30:]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "tiny-64-hamming.hdf5"
    dataset.write(path, CODES, QUERIES)
    return path


def test_the_layout_of_a_data_set(data):
    with h5py.File(data) as file:
        assert dict(file.attrs) == {"type": "dense", "distance": "hamming", "point_type": "bit", "dimension": 64}
        train, test = file["train"][:], file["test"][:]
        neighbors, distances = file["neighbors"][:], file["distances"][:]
    assert train.dtype == test.dtype == bool
    assert (train.shape, test.shape) == ((1970, 64), (30, 64))
    np.testing.assert_array_equal(fh.pack_bits(train), CODES)
    every = (train[None] != test[:, None]).mean(axis=2)
    np.testing.assert_allclose(distances, np.sort(every, axis=1)[:, :100])
    np.testing.assert_allclose(np.take_along_axis(every, neighbors, axis=1), distances)


@pytest.mark.parametrize("batch", [False, True])
def test_what_is_exact_has_all_neighbours(data, batch):
    rows = {row["algorithm"]: row for row in run.run(data, ["fasthash"], count=10, runs=1, batch=batch)}
    exact = ["FastHashFlat()", *(f"FastHashHier(memory={memory})" for memory in ("compact", "default", "fast"))]
    assert [name for name, row in rows.items() if row["recall"] == 1][:4] == exact
    pruned = [row["recall"] for name, row in rows.items() if "Pruned" in name]
    assert len(pruned) == 4
    assert 0 < pruned[0] < pruned[-1]
    for row in rows.values():
        assert row["queries_per_second"] > 0
        assert row["kilobytes"] > 0


def test_faiss_on_the_same_data(data):
    pytest.importorskip("faiss", reason="faiss-cpu is not installed")
    rows = list(run.run(data, ["faiss_binary"], count=10, runs=1))
    assert rows[0]["algorithm"] == "FaissBinaryFlat()"
    assert rows[0]["recall"] == 1
    for kind in ("FaissBinaryIVF", "FaissFloatIVF"):
        found = [row["recall"] for row in rows if row["algorithm"].startswith(kind)]
        assert len(found) == 6
        assert found == sorted(found)
        assert 0 < found[0] < found[-1] <= 1


@pytest.mark.parametrize(("n_bits", "n"), [(20, 50), (64, 3), (8, 3)])
def test_odd_widths_and_few_points(n_bits, n):
    module = importlib.import_module("ann_benchmarks.algorithms.fasthash.module")
    rng = np.random.default_rng(n)
    train, queries = rng.random((n, n_bits)) < 0.5, rng.random((4, n_bits)) < 0.5
    every = (train[None] != queries[:, None]).sum(axis=2)
    for algo in (
        module.FastHashFlat("hamming"),
        module.FastHashHier("hamming", "fast"),
        module.FastHashPruned("hamming"),
    ):
        algo.fit(train)
        algo.batch_query(queries, 5)
        for query, distances, batched in zip(queries, every, algo.get_batch_results(), strict=True):
            found = algo.query(query, 5)
            np.testing.assert_array_equal(distances[found], np.sort(distances)[:5])
            np.testing.assert_array_equal(found, batched)
        algo.done()
    with pytest.raises(NotImplementedError, match="not euclidean"):
        module.FastHashFlat("euclidean")


def test_recall_is_by_distances():
    train = np.eye(4, dtype=bool)
    test = np.zeros((1, 4), dtype=bool)
    distances = np.full((1, 4), 0.25, dtype=np.float32)
    assert run.recall(train, test, distances, [[3, 1]], 2) == 1  # any two of four at the same distance
    assert run.recall(train, ~test, distances, [[3, 1]], 2) == 0
    assert run.recall(train, test, distances, [[3]], 2) == 0.5
    with pytest.raises(AssertionError, match="twice"):
        run.recall(train, test, distances, [[3, 3]], 2)


def test_both_scripts(tmp_path):
    np.save(tmp_path / "codes.npy", CODES)
    scripts = [
        [FOLDER / "dataset.py", "codes.npy", "mine.hdf5", "--n-queries", "20"],
        [FOLDER / "run.py", "mine.hdf5", "--algorithms", "fasthash", "--runs", "1", "--json"],
    ]
    for script in scripts:
        done = subprocess.run([sys.executable, *script], cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == 8
    assert rows[0]["recall"] == 1
    with h5py.File(tmp_path / "mine.hdf5") as file:
        np.testing.assert_array_equal(fh.pack_bits(file["test"][:]), CODES[-20:])
        np.testing.assert_array_equal(fh.pack_bits(file["train"][:]), CODES[:-20])
