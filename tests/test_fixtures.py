"""Files of every released format load and give the results that were stored with them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fasthash as fh
import file_reference as ref

FIXTURES = Path(__file__).parent / "fixtures"
FOLDERS = ("format1", "format1_2", "format1_3", "format1_4")
EXPECTED = {
    f"{folder}/{name}": expected
    for folder in FOLDERS
    for name, expected in json.loads((FIXTURES / folder / "expected.json").read_text()).items()
}


def rows(texts, n_bytes):
    return np.frombuffer(bytes.fromhex("".join(texts)), dtype=np.uint8).reshape(-1, n_bytes)


def test_every_file_has_its_results():
    files = sorted(path for folder in FOLDERS for path in (FIXTURES / folder).glob("*.fh"))
    assert sorted(f"{path.parent.name}/{path.stem}" for path in files) == sorted(EXPECTED)
    assert all(path.stat().st_size < 8192 for path in files)


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("mmap", [False, True], ids=["read", "mapped"])
def test_old_files_give_the_old_results(name, mmap, tmp_path):
    path, expected = FIXTURES / f"{name}.fh", EXPECTED[name]
    index = fh.load(path, mmap=mmap)
    n_bytes = -(-sum(expected["level_bits"]) // 8)
    codes, ids = index.to_arrays()
    assert index.stats()["kind"] == expected["kind"]
    assert list(index.level_bits) == expected["level_bits"]
    assert getattr(index, "memory", None) == expected["memory"]
    np.testing.assert_array_equal(codes, rows(expected["codes"], n_bytes))
    assert ids.tolist() == expected["ids"]
    distances, neighbours = index.search(rows(expected["queries"], n_bytes), k=5)
    assert distances.tolist() == expected["distances"]
    assert neighbours.tolist() == expected["neighbours"]
    index.save(tmp_path / "again.fh", id_map=fh.peek(path).has_id_map)
    assert (tmp_path / "again.fh").read_bytes() == path.read_bytes()
    if expected["next_id"] < 2**63:
        index.add(np.zeros((1, n_bytes), np.uint8))
        assert expected["next_id"] in index


@pytest.mark.parametrize("name", EXPECTED)
def test_old_files_are_what_the_document_says(name):
    data, expected = (FIXTURES / f"{name}.fh").read_bytes(), EXPECTED[name]
    contents = ref.read(data)
    assert contents.by_id()[1].tolist() == expected["ids"]
    assert [row.tobytes().hex() for row in contents.by_id()[0]] == expected["codes"]
    assert contents.next_id == expected["next_id"]
    assert ref.write(contents) == data
    assert fh.verify(FIXTURES / f"{name}.fh").fault == ""


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_script_does_not_overwrite_them(folder):
    before = {path: path.read_bytes() for path in (FIXTURES / folder).iterdir()}
    script = FIXTURES / f"make_{folder}.py"
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "must stay as they are" in done.stderr
    assert {path: path.read_bytes() for path in (FIXTURES / folder).iterdir()} == before
