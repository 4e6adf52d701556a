"""How large galleries come into an index: sorted a range at a time, in chunks, with progress, in little memory."""

import errno
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import fasthash as fh
from galleries import GALLERIES
from indices import threads

SORTED_AT_ONCE = 1 << 22  # codes of one range
SEVERAL_RANGES = 4_300_000
THOROUGH = bool(os.environ.get("FASTHASH_THOROUGH"))


@pytest.mark.parametrize(
    ("kind", "n_bytes"), [("uniform", 1), ("uniform", 4), ("duplicated", 3), ("constant", 1), ("constant", 3)]
)
def test_codes_sorted_in_ranges_are_those_merged_from_parts(kind, n_bytes):
    codes = GALLERIES[kind](np.random.default_rng(1), SEVERAL_RANGES, n_bytes)
    ids = np.arange(len(codes))[::-1].copy()
    whole, merged = fh.HierIndex((n_bytes * 8,)), fh.HierIndex((n_bytes * 8,))
    whole.add(codes, ids)
    for part in range(0, len(codes), 1_500_000):
        merged.add(codes[part : part + 1_500_000], ids[part : part + 1_500_000])
    merged.compact()
    assert whole.to_bytes() == merged.to_bytes()
    flat = fh.FlatIndex(n_bytes * 8)
    flat.add(codes, ids)
    queries = codes[:3] ^ np.uint8(1)
    found, expected = whole.search(queries, k=20), flat.search(queries, k=20)
    assert (found.distances == expected.distances).all()
    assert (found.ids == expected.ids).all()


def test_threads_sort_alike():
    codes = GALLERIES["uniform"](np.random.default_rng(2), SEVERAL_RANGES, 3)
    built = []
    for n in (1, 2, 5):
        with threads(n):
            index = fh.HierIndex((24,), memory="compact")
            index.add(codes)
            built.append(index.to_bytes())
    assert built[0] == built[1] == built[2]


def test_codes_that_change_while_they_are_added_are_refused_or_held_as_they_were_at_one_moment():
    codes = GALLERIES["uniform"](np.random.default_rng(3), SEVERAL_RANGES, 2)
    done = threading.Event()

    def scramble():
        rng = np.random.default_rng(4)
        while not done.is_set():
            codes[rng.integers(0, len(codes), 10_000)] = rng.integers(0, 256, (10_000, 2), np.uint8)

    writer = threading.Thread(target=scramble)
    writer.start()
    index = fh.HierIndex((16,))
    try:
        with pytest.raises(ValueError, match="codes must not change while they are added"):
            index.add(codes)
    finally:
        done.set()
        writer.join()
    assert len(index) == 0
    index.add(codes)
    assert len(index) == len(codes)


# ---- chunks ----


@pytest.mark.parametrize("make", [lambda: fh.FlatIndex(64), lambda: fh.HierIndex((16, 48))], ids=["flat", "hier"])
def test_chunks_are_one_addition(make, tmp_path):
    codes = GALLERIES["clustered"](np.random.default_rng(5), 5_000, 8)
    whole, chunked = make(), make()
    whole.add(codes)
    chunked.add_chunks((codes[begin:end] for begin, end in [(0, 1), (1, 1), (1, 4_000), (4_000, 5_000)]))
    assert chunked.to_bytes() == whole.to_bytes()
    whole.add(codes[:7])
    chunked.add_chunks([codes[:7]], folder=tmp_path)  # ids count on
    chunked.add_chunks([])
    assert chunked.to_bytes() == whole.to_bytes()
    assert list(tmp_path.iterdir()) == []


def test_refused_chunks_leave_the_index_as_it_was(tmp_path):
    index = fh.HierIndex((64,))
    good = np.zeros((3, 8), np.uint8)
    with pytest.raises(TypeError, match="chunks must be an iterable of arrays, got int"):
        index.add_chunks(3)
    with pytest.raises(ValueError, match=r"chunks\[1\] must have shape \(n, 8\) for 64 bits, got \(3, 4\)"):
        index.add_chunks([good, good[:, :4]])
    with pytest.raises(TypeError, match=r"chunks\[1\] must be a uint8 array of packed bits, got dtype int64"):
        index.add_chunks([good, good.astype(np.int64)])
    with pytest.raises(OSError, match="nowhere"):
        index.add_chunks([good], folder=tmp_path / "nowhere")

    def broken():
        yield good
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        index.add_chunks(broken())
    with pytest.raises(TypeError, match=r"^folder must be a path, got True$"):
        index.add_chunks([good], folder=True)
    with pytest.raises(ValueError, match=r"^folder must not contain a null byte, got 'a\\x00b'$"):
        index.add_chunks([good], folder="a\0b")
    assert len(index) == 0


def test_chunks_are_not_written_into_an_open_file(tmp_path):
    with open(tmp_path / "notes.txt", "w+") as file:
        file.write("mine")
        file.flush()
        with pytest.raises(TypeError, match=r"^folder must be a path, got \d+$"):
            fh.FlatIndex(64).add_chunks([np.zeros((3, 8), np.uint8)], folder=file.fileno())
        file.write(" alone")
    assert (tmp_path / "notes.txt").read_text() == "mine alone"


@pytest.mark.parametrize("n", [10, 100, 3_000])
def test_chunks_that_a_full_disk_refuses_are_not_lost(tmp_path, n):
    resource = pytest.importorskip("resource")
    codes = GALLERIES["uniform"](np.random.default_rng(8), 9_000, 8)
    index, limits = fh.FlatIndex(64), resource.getrlimit(resource.RLIMIT_FSIZE)
    index.add(codes[:5])
    resource.setrlimit(resource.RLIMIT_FSIZE, (70_001, limits[1]))
    try:
        with pytest.raises(OSError, match=os.strerror(errno.EFBIG)) as refused:
            index.add_chunks((codes[i : i + n] for i in range(0, 9_000, n)), folder=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (refused.value.errno, refused.value.filename) == (errno.EFBIG, str(tmp_path))
    assert len(index) == 5


# ---- progress ----


@pytest.mark.parametrize("make", [lambda: fh.FlatIndex(32), lambda: fh.HierIndex((32,))], ids=["flat", "hier"])
def test_progress_grows_to_one(make):
    codes = GALLERIES["uniform"](np.random.default_rng(6), SEVERAL_RANGES, 4)
    shares = []
    make().add(codes, progress=shares.append)
    assert shares == sorted(shares)
    assert all(0 <= share <= 1 for share in shares)
    assert (shares[0], shares[-1]) == (0, 1)
    assert all(type(share) is float for share in shares)


def test_what_progress_raises_ends_the_work():
    codes = GALLERIES["uniform"](np.random.default_rng(7), SEVERAL_RANGES, 4)
    index = fh.HierIndex((32,))
    index.add(codes[:10])

    def enough(share):
        if share > 0.2:
            raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        index.add(codes, progress=enough)
    assert len(index) == 10
    with pytest.raises(TypeError, match="progress must be callable, got 1"):
        index.add(codes[:2], progress=1)
    chunks = iter([codes[:2]])
    with pytest.raises(TypeError, match="progress must be callable, got 1"):
        index.add_chunks(chunks, progress=1)
    assert next(chunks) is not None  # not read
    assert len(index) == 10


# ---- memory ----

PEAK = """
import sys, threading, time
import numpy as np
import fasthash as fh

def own_bytes():  # without what is mapped from files, which the system can take back
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon")) * 1024

codes = np.load(sys.argv[1], mmap_mode="r")
index = fh.HierIndex((64,), memory=sys.argv[2])
before, peak, done = own_bytes(), 0, threading.Event()

def watch():
    global peak
    while not done.wait(0.002):
        peak = max(peak, own_bytes())

watcher = threading.Thread(target=watch)
watcher.start()
index.add(codes)
done.set()
watcher.join()
print(index.nbytes, peak - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("memory", ["default", "compact", "fast"])
def test_building_from_a_mapped_file_takes_little_more_memory_than_the_index(memory, tmp_path):
    n = 20_000_000 if THOROUGH else 8_000_000
    np.save(tmp_path / "codes.npy", GALLERIES["uniform"](np.random.default_rng(8), n, 8))
    command = [sys.executable, "-c", PEAK, str(tmp_path / "codes.npy"), memory]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    nbytes, peak = map(int, result.stdout.split())
    stacks_and_buckets = 24 << 20
    one_range = SORTED_AT_ONCE * (8 + 4)  # codes and row numbers
    dropped = 0.3 * nbytes if THOROUGH and memory == "compact" else 0  # bytes of the codes, at the end
    print(f"{peak / nbytes:.2f} times {nbytes} bytes")
    assert peak < nbytes + one_range + stacks_and_buckets + dropped
