"""No file, whatever is in it, does harm: it is refused, or it is an index by docs/format.md and proven right."""

import contextlib
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import fasthash as fh
import hostile
from galleries import uniform
from hostile_files.valid import EVERY_BIT, valid_files

pytestmark = pytest.mark.timeout(1200)  # far more than it takes, for machines that have other work too
REFUSED = ["truncated", "flipped", "wrong length", "padding not zero"]
SOME_ARE_VALID = [
    "header field",
    "pair of header fields",
    "spliced",
    "sections swapped",
    "codes out of order",
    "wrong ids",
    "wrong runs",
    "wrong clusters",
    "wrong id map",
    "flipped and repaired",
    "random buffer",
    "random file",
]


def run_hostile(folder, *options):
    """In a process of its own, with little memory and little time for each file."""
    done = subprocess.run(
        [sys.executable, hostile.__file__, "--folder", str(folder), *options],
        capture_output=True,
        text=True,
        timeout=1100,
        check=False,
    )
    if done.returncode not in (0, 1) or not done.stdout:
        last = folder / "last"
        offered = last.read_bytes().split(b"\n")[0].decode() if last.exists() else "nothing"
        pytest.fail(f"ended with {done.returncode} at '{offered}'\n{done.stderr}")
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def report():
    with hostile.work_folder() as folder:
        return run_hostile(folder)


def test_every_file_is_refused_or_proven_right(report):
    assert report["failures"] == []
    assert sum(report["files"].values()) >= 80_000
    assert report["proofs"] >= 6_000


def test_every_byte_is_cut_and_every_bit_is_flipped(report):
    sizes = {name: len(data) for name, data in valid_files().items()}
    assert report["files"]["truncated"] == sum(sizes.values())
    assert report["files"]["flipped"] == sum(sizes.values()) + 7 * sum(sizes[name] for name in EVERY_BIT)


def test_what_is_broken_is_never_accepted(report):
    assert {family: report["accepted"][family] for family in REFUSED} == dict.fromkeys(REFUSED, 0)


def test_some_repaired_files_are_valid(report):
    """Else the checks behind the checksums would not be reached."""
    for family in SOME_ARE_VALID:
        assert 0 < report["accepted"][family] < report["files"][family], family


def test_files_in_memory_read_and_mapped(report):
    assert min(report["ways"].values()) >= 15_000


def test_hostile_files_take_little_memory(report):
    if report["growth"] is None:
        pytest.skip("the system does not tell how much memory a process has used")
    assert report["growth"] <= report["largest"] + hostile.PROMISED


def test_large_files_take_little_memory_beside_their_size(tmp_path):
    for file in run_hostile(tmp_path, "--large")["large"]:
        assert file["right"], file["name"]
        if file["growth"] is not None:
            # Codes of a file in byte order are arranged in clusters, in 13 bytes a code for a moment.
            assert file["growth"] <= 2 * file["size"], file["name"]


# ---- what is no index at all ----


def npy():
    file = io.BytesIO()
    np.save(file, np.arange(100))
    return file.getvalue()


def archive():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as written:
        written.writestr("codes.npy", npy())
    return file.getvalue()


FOREIGN = {
    "nothing": b"",
    "a magic alone": b"FASTHASH",
    "zeros": bytes(4096),
    "text": b"codes,ids\n" * 50,
    "npy": npy(),
    "zip": archive(),
    "pickle": pickle.dumps(list(range(100))),
    "pickle of an index": pickle.dumps(fh.FlatIndex.from_arrays(np.zeros((5, 8), np.uint8))),
    "faiss": b"IBxF" + struct.pack("<iiq?iQ", 64, 8, 100, True, 1, 800) + bytes(800),
    "usearch": struct.pack("<II", 100, 8) + bytes(800) + b"usearch" + bytes(200),
    "hnswlib": struct.pack("<QQQQQQ", 0, 100, 100, 88, 80, 8) + bytes(800),
    "safetensors": struct.pack("<Q", 64)
    + b'{"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}}'.ljust(64)
    + bytes(8),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_foreign_files(kind, tmp_path):
    path = tmp_path / "foreign"
    path.write_bytes(FOREIGN[kind])
    for read in (fh.load, lambda path: fh.load(path, mmap=True), fh.peek, fh.verify):
        with pytest.raises(fh.FormatError, match=r"foreign: file (has .* fewer than a header|does not begin with)"):
            read(path)
    with pytest.raises(fh.FormatError, match=r"^file (has .* fewer than a header|does not begin with)"):
        fh.FlatIndex.from_bytes(FOREIGN[kind])


@pytest.fixture(params=["load", "mmap", "peek", "verify"])
def read(request):
    by_name = {"load": fh.load, "mmap": lambda path: fh.load(path, mmap=True), "peek": fh.peek, "verify": fh.verify}
    return by_name[request.param]


def test_missing_files(read, tmp_path):
    with pytest.raises(FileNotFoundError, match="cannot open"):
        read(tmp_path / "missing")
    with pytest.raises(FileNotFoundError):
        read("")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotADirectoryError):
        read(tmp_path / "file" / "index.fh")


def test_folders(read, tmp_path):
    with pytest.raises(IsADirectoryError):
        read(tmp_path)


def test_pipes_and_devices(read, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero", "/dev/null"):
        with pytest.raises(fh.FormatError, match=f"{path}: not a regular file"):
            read(path)


def test_links(read, tmp_path):
    fh.FlatIndex.from_arrays(np.zeros((5, 8), np.uint8)).save(tmp_path / "index.fh")
    (tmp_path / "link").symlink_to("index.fh")
    read(tmp_path / "link")
    (tmp_path / "nowhere").symlink_to("missing")
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        read(tmp_path / "loop")


@contextlib.contextmanager
def as_nobody():
    """A user who may do less, if the tests run as the one who may do everything."""
    if os.geteuid() != 0:
        yield
        return
    try:
        os.seteuid(65534)
    except OSError:
        pytest.skip("runs as root, who may read everything")
    try:
        yield
    finally:
        os.seteuid(0)


def test_files_that_may_not_be_read(read, tmp_path):
    path = tmp_path / "index.fh"
    fh.FlatIndex(8).save(path)
    path.chmod(0)
    with as_nobody(), pytest.raises(PermissionError, match="cannot open"):
        read(path)


def test_folders_that_may_not_be_written(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with as_nobody(), pytest.raises(PermissionError):
            fh.FlatIndex(8).save(tmp_path / "index.fh")
    finally:
        tmp_path.chmod(0o700)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_devices_are_not_replaced(tmp_path):
    with pytest.raises(OSError, match="cannot save over what is not a regular file"):
        fh.FlatIndex(8).save("/dev/full")


def test_files_that_change_between_two_reads_are_refused_too(tmp_path):
    """Each read checks all bytes again."""
    index = fh.HierIndex.from_arrays(uniform(np.random.default_rng(0), 50, 8))
    index.save(tmp_path / "index.fh")
    fh.load(tmp_path / "index.fh")
    data = bytearray((tmp_path / "index.fh").read_bytes())
    data[200] ^= 1
    (tmp_path / "index.fh").write_bytes(data)
    for mmap in (False, True):
        with pytest.raises(fh.FormatError):
            fh.load(tmp_path / "index.fh", mmap=mmap)
