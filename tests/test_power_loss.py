"""After a loss of power the disk holds what was saved last or what was being saved, in every state it can be left in.

The n-th save writes something that tells n.
With FASTHASH_THOROUGH set all states are tried, otherwise some forty of each script.
"""

import hashlib
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import fasthash as fh
from fasthash.data import split_file
from native_build import need
from power_loss import build_recorder, record, states, write_state
from stores import assert_no_leaks

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="records by a library before the C library's")

THOROUGH = bool(os.environ.get("FASTHASH_THOROUGH"))

INDEX = """
import numpy as np, fasthash as fh
for n in range(1, 4):
    index = {make}
    index.add(np.full((300 * n, 2), n, np.uint8))
    begins(n); index.save(root + "/index.fh"); returned(n)
"""

RESCORING = """
import numpy as np, fasthash as fh
index = fh.RescoringIndex(8, metric="inner_product")
for n in range(1, 4):
    index.add(np.full((100, 8), n, np.float32))
    begins(n); index.save(root + "/a/new/folder"); returned(n)
"""

# The second save fails when its card is in place, perhaps not on the disk; the third at its first file; the fourth not.
INTERRUPTED = """
import os, numpy as np, fasthash as fh
index = fh.RescoringIndex(8, metric="inner_product")
replace, flush = os.replace, os.fsync
def refuse(*arguments):
    raise OSError(5, "broken")
def replace_and_break(a, b):
    replace(a, b)
    os.fsync = refuse
for n in range(1, 5):
    index.add(np.full((100, 8), n, np.float32))
    begins(n)
    os.replace, os.fsync = {2: (replace_and_break, flush), 3: (replace, refuse)}.get(n, (replace, flush))
    try:
        index.save(root + "/folder")
        returned(n)
    except OSError:
        pass
"""

DEDUP = """
import numpy as np
from PIL import Image
from fasthash.dedup import find_duplicates
os.mkdir(root + "-photos")
rng = np.random.default_rng(0)
for n in range(1, 4):
    Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(root + f"-photos/{n}.png")
    begins(n); find_duplicates(root + "-photos", state=root + "/state", progress=False); returned(n)
"""

CHECKPOINT = """
import torch
from fasthash._checkpoint import write_checkpoint
model = torch.nn.Linear(3, 2)
for n in range(1, 4):
    with torch.no_grad(): model.weight.fill_(n)
    begins(n); write_checkpoint(root + "/deep/checkpoint", model, {"class": "Linear", "n": n}); returned(n)
"""

TRAINING = """
import torch
from pathlib import Path
from fasthash._resume import write_state
model = torch.nn.Linear(3, 2)
optimizer = torch.optim.SGD(model.parameters(), momentum=0.9)
for n in range(1, 4):
    with torch.no_grad(): model.weight.fill_(n)
    begins(n); write_state(Path(root) / "run" / "state", model, optimizer, None, {"n": n}); returned(n)
"""

SPLIT = """
from fasthash.data import split_file
for n in range(1, 4):
    begins(n); split_file.write(root + "/split.json", {"format": "fasthash split", "version": 1, "n": n}); returned(n)
"""

# Few files a commit, since the states are all combinations of what they may hold.
STORE = """
import numpy as np, fasthash as fh
begins(1)
store = fh.Store(root + "/photos.fhs", "w", n_bits=16, merge=False)
store.add(np.full((10, 2), 1, np.uint8)); store.commit(); returned(1)
begins(2); store.remove(ids=np.array([0, 3])); store.commit(); returned(2)
begins(3); store.update(ids=np.arange(4, 7), codes=np.full((3, 2), 3, np.uint8)); store.commit(); returned(3)
store.compact()
"""

# Two shards; the ids 1 and 9 are of the second one.
SHARDS = """
import os, sys; sys.path.insert(0, {tests!r})
import numpy as np
os.write = lambda *_: 0  # the text in three locks, which is of no matter, would make 64 times as many states
from local_shards import LocalIndex
begins(1)
index = LocalIndex((8, 8), n_shards=2, store=root + "/index")
index.add(np.full((10, 2), 1, np.uint8)); index.commit(); index._fleet.wait(); returned(1)
begins(2); index.update([0, 1], np.full((2, 2), 3, np.uint8)); index.commit(); index._fleet.wait(); returned(2)
"""

PARTS = """
import numpy as np
from fasthash.distributed.parts import EncodedPart, EncodedParts
begins(1)
parts = EncodedParts.begin(root + "/codes", {"level_bits": [8], "source": "photos", "n_parts": 3, "unreadable": []})
returned(1)
for n in range(2, 5):
    part = EncodedPart(np.full((5, 1), n, np.uint8), [f"{i}.jpg" for i in range(5)], [])
    begins(n); parts.write(n - 2, part); returned(n)
"""


def read_index(root):
    if not (root / "index.fh").exists():
        return 0
    assert fh.verify(root / "index.fh").fault == ""
    codes, ids = fh.load(root / "index.fh", mmap=True).to_arrays()
    assert (codes == codes[0]).all()
    n = int(codes[0, 0])
    assert len(ids) == 300 * n
    return n


def read_rescoring(folder):
    if not (folder / "card.json").exists():
        return 0
    index = fh.RescoringIndex.load(folder, mmap=False)
    index.verify(folder)
    n = len(index) // 100
    assert (index.reconstruct(np.arange(100 * n)) == np.repeat(np.arange(1, n + 1), 100)[:, None]).all()
    return n


def read_dedup(root):
    from fasthash._photo_hashes import PhotoHashes

    hashes = PhotoHashes(f"{root}-photos", 256)
    hashes.load(root / "state")
    return len(hashes)


def read_checkpoint(root):
    import torch

    from fasthash import _checkpoint

    folder = root / "deep" / "checkpoint"
    if not (folder / "card.json").exists():
        return 0
    card, model = _checkpoint.read_card(folder, "Linear"), torch.nn.Linear(3, 2)
    _checkpoint.read_weights(folder, model, card)
    assert (model.weight == card["n"]).all()
    return card["n"]


def read_training(root):
    import torch

    from fasthash._resume import read_state

    path, model = root / "run" / "state", torch.nn.Linear(3, 2)
    if not path.exists():
        return 0
    facts, _ = read_state(path, model, torch.optim.SGD(model.parameters(), momentum=0.9))
    assert (model.weight == facts["n"]).all()
    return facts["n"]


def read_split(root):
    return split_file._read(root / "split.json")["n"] if (root / "split.json").exists() else 0


def read_store(root):
    if not (root / "photos.fhs" / "manifest").exists():
        return 0
    with fh.Store(root / "photos.fhs") as store:
        ids = store.to_index().to_arrays()[1].tolist()
        updated = store.count_within(np.full((1, 2), 3, np.uint8), 0).tolist() == [3]
    n = {(0, False): 0, (10, False): 1, (8, False): 2, (8, True): 3}[len(ids), updated]
    assert ids == [[], list(range(10)), [1, 2, *range(4, 10)], [1, 2, *range(4, 10)]][n]
    with fh.Store(root / "photos.fhs", "w", merge=False) as store:
        store.add(np.full((1, 2), 9, np.uint8))
        store.commit()
        assert len(store) == len(ids) + 1
        assert_no_leaks(root / "photos.fhs")
    return n


def read_shards(root):
    from local_shards import LocalIndex, assert_no_leaks

    if not (root / "index" / "manifest").exists():
        return 0
    with LocalIndex.open(root / "index") as index:
        assert_no_leaks(root / "index")
        ids = index.to_arrays()[1].tolist()
        updated = index.count_within(np.full((1, 2), 3, np.uint8), 0).tolist()[0]
        n = {(0, 0): 0, (10, 0): 1, (10, 2): 2}[len(ids), updated]
        index.add(np.full((2, 2), 9, np.uint8))
        index.commit()
    with LocalIndex.open(root / "index") as index:
        assert len(index) == len(ids) + 2
    return n


def read_parts(root):
    from fasthash.distributed.parts import EncodedParts

    if not (root / "codes" / "card.json").exists():
        return 0
    parts = EncodedParts(root / "codes")
    there = [number for number in range(3) if number not in parts.missing]
    assert all((parts[number].codes == number + 2).all() for number in there)
    assert there == [*range(len(there))]
    return 1 + len(there)


CASES = {
    "flat": (INDEX.format(make="fh.FlatIndex(16)"), read_index, ()),
    "hier": (INDEX.format(make="fh.HierIndex((8, 8))"), read_index, ()),
    "rescoring": (RESCORING, lambda root: read_rescoring(root / "a/new/folder"), ()),
    "interrupted": (INTERRUPTED, lambda root: read_rescoring(root / "folder"), ()),
    "dedup": (DEDUP, read_dedup, ("PIL", "scipy", "tqdm")),
    "checkpoint": (CHECKPOINT, read_checkpoint, ("torch", "safetensors")),
    "training": (TRAINING, read_training, ("torch", "safetensors")),
    "split": (SPLIT, read_split, ()),
    "store": (STORE, read_store, ()),
    "shards": (SHARDS.format(tests=str(Path(__file__).parent)), read_shards, ("ray",)),
    "parts": (PARTS, read_parts, ()),
}


@pytest.fixture(scope="module")
def recorder(tmp_path_factory):
    return build_recorder(need("cc"), tmp_path_factory.mktemp("recorder"))


@pytest.mark.parametrize("case", CASES)
def test_every_state_is_the_old_one_or_the_new_one(recorder, tmp_path, case):
    script, read, needed = CASES[case]
    for name in needed:
        pytest.importorskip(name)
    root = tmp_path / "root"
    root.mkdir()
    operations = record(recorder, script, root, tmp_path / "log")
    assert read(root) == max(operation.number for operation in operations if operation.what == "begins")
    found = {}  # by what the disk holds
    n_possible = 0
    for model in ("ordered", "free"):
        possible = list(states(operations, model))
        n_possible += len(possible)
        for state in possible if THOROUGH else possible[:: 1 + len(possible) // 20]:
            holds = hashlib.sha256(repr(sorted(state.files.items())).encode()).digest()
            if holds not in found:
                found[holds] = read_state_of_disk(state, root, read)
            where = f"after {state.after}, of {sorted(state.files)}"
            assert not isinstance(found[holds], Exception), f"{where}: {found[holds]!r}"
            assert state.least <= found[holds] <= state.most, where
    print(f"{case}: {len(operations)} operations, {n_possible} states, {len(found)} different ones read")
    assert len(found) > 3


def read_state_of_disk(state, root, read):
    shutil.rmtree(root)
    root.mkdir()
    write_state(state, root)
    try:
        return read(root)
    except Exception as error:
        return error


@pytest.mark.parametrize("before", [0o600, 0o640, 0o400])
def test_a_new_file_is_never_open_to_more_than_the_one_it_replaces(recorder, tmp_path, before):
    script = "import os, fasthash as fh; os.umask(0); fh.FlatIndex(8).save(root + '/index.fh')"
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "index.fh").write_bytes(b"")
    (tmp_path / "root" / "index.fh").chmod(before)
    operations = record(recorder, script, tmp_path / "root", tmp_path / "log")
    modes = {operation.mode for operation in operations if operation.what in ("create", "write", "flush")}
    assert before in modes
    assert all(mode & ~0o600 & ~before == 0 for mode in modes), [oct(mode) for mode in modes]
