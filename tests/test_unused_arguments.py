"""An argument that would have no effect, for the metric or the mode of a call, is refused."""

import numpy as np
import pytest

import fasthash as fh

CODES = np.arange(64, dtype=np.uint8).reshape(16, 4)


def refused(message):
    return pytest.raises(ValueError, match=message)


@pytest.mark.parametrize("memory", ["compact", "fast"])
def test_a_jaccard_index_has_no_memory_budget(memory):
    message = f"memory must be the default with the metric jaccard, .*, got {memory}"
    with refused(message):
        fh.HierIndex(32, metric="jaccard", memory=memory)
    with refused(message):
        fh.HierIndex.from_arrays(CODES, metric="jaccard", memory=memory)
    index = fh.HierIndex.from_arrays(CODES, metric="jaccard", memory="default")
    assert index.memory == "default"
    assert index.search(CODES[3:4], 1).ids.tolist() == [[3]]


@pytest.mark.parametrize("keep_mode", ["gallery_ratio", "radius"])
def test_keep_mode_needs_keep(keep_mode, tmp_path):
    index = fh.HierIndex.from_arrays(CODES, level_bits=(8, 24))
    rescoring = fh.RescoringIndex(32, dtype="float32")
    rescoring.add(np.eye(32, dtype=np.float32))
    with fh.Store(tmp_path / "codes.fhs", "w", level_bits=(8, 24)) as store:
        store.add(CODES)
        message = f"keep_mode must be left out without keep, .*, got '{keep_mode}'"
        for searched, queries in ((index, CODES), (store, CODES), (rescoring, np.eye(32, dtype=np.float32))):
            with refused(message):
                searched.search(queries, 3, keep_mode=keep_mode)
        with refused(message):
            index.search(CODES, 3, keep_mode=keep_mode, allow=[[1]] * len(CODES))
        with refused(message):
            store.search(CODES, 3, keep_mode=keep_mode, max_compared=0.5)
        assert store.search(CODES, 1, keep=1.0, keep_mode=keep_mode).ids[:, 0].tolist() == list(range(16))
    assert index.search(CODES, 1, keep_mode="node_ratio").ids[:, 0].tolist() == list(range(16))


@pytest.mark.parametrize("max_bytes", [0, 1 << 30, "much"])
def test_the_cpu_has_no_max_bytes(max_bytes):
    for index in (fh.FlatIndex.from_arrays(CODES), fh.HierIndex.from_arrays(CODES)):
        with refused(f"max_bytes must be left out for the CPU, got {max_bytes!r}"):
            index.to("cpu", max_bytes=max_bytes)
        assert index.to("cpu") is index


def test_a_reader_of_a_store_merges_nothing(tmp_path):
    folder = tmp_path / "codes.fhs"
    with fh.Store(folder, "w", n_bits=32, merge=False) as store:
        store.add(CODES)
        store.commit()
    with refused("merge must be left out: a reader merges no segments, got False"):
        fh.Store(folder, merge=False)
    with refused("merge must be left out"):
        fh.Store(folder, "r", merge=False, check=True)
    with fh.Store(folder, merge=True) as reader:
        assert len(reader) == 16


def test_a_brute_estimator_has_no_memory_budget():
    neighbors = pytest.importorskip("fasthash.neighbors")
    bits = np.unpackbits(CODES, axis=1)
    for memory in ("compact", "fast"):
        with refused(f"memory must be 'default' for algorithm='brute', got '{memory}'"):
            neighbors.HammingNeighbors(algorithm="brute", memory=memory).fit(bits)
        assert neighbors.HammingNeighbors(memory=memory).fit(bits).index_.memory == memory
    assert isinstance(neighbors.HammingNeighbors(algorithm="brute").fit(bits).index_, fh.FlatIndex)


def test_only_an_archive_names_its_array(tmp_path):
    from fasthash.code_files import read_codes

    np.save(tmp_path / "codes.npy", CODES)
    np.savez(tmp_path / "codes.npz", other=CODES)
    (tmp_path / "codes.hex").write_text("".join(f"{bytes(code).hex()}\n" for code in CODES))
    for name in ("codes.npy", "codes.hex"):
        with refused("array must be left out for the format '(npy|hex)', which holds one, got 'other'"):
            read_codes(tmp_path / name, array="other")
        assert np.array_equal(read_codes(tmp_path / name), CODES)
    assert np.array_equal(read_codes(tmp_path / "codes.npz", array="other"), CODES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--keep-mode", "radius"], "--keep-mode needs --keep"),
        (["--radius", "3", "--keep-mode", "node_ratio"], "--keep-mode needs --keep"),
        (["--force"], "--force needs --output or --html"),
        (["--mmap"], "--mmap excludes --ray, and stores"),
        (["--mmap", "-k", "3"], "--mmap excludes --ray, and stores"),
    ],
)
def test_options_of_search_without_effect(options, message, tmp_path):
    pytest.importorskip("typer")
    from typer.testing import CliRunner

    from fasthash.cli import app

    with fh.Store(tmp_path / "codes.fhs", "w", level_bits=(8, 24)) as store:
        store.add(CODES)
        store.commit()
    np.save(tmp_path / "queries.npy", CODES[:2])
    paths = [str(tmp_path / "codes.fhs"), str(tmp_path / "queries.npy")]
    result = CliRunner().invoke(app, ["search", *paths, *options], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert result.exit_code == 2
    assert message in " ".join(result.output.replace("│", " ").split())
    assert CliRunner().invoke(app, ["search", *paths]).exit_code == 0
