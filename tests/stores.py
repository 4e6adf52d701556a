"""What tests of stores share: a store beside an index with the same entries, and steps whose result is known."""

from __future__ import annotations

import hashlib

import numpy as np
import xxhash

import fasthash as fh
import file_reference as ref
from fasthash.store.manifest import read_manifest

N_BYTES = 4


def small(folder, n=10, **options):
    """A store of n entries with keys, committed."""
    store = fh.Store(folder, "w", n_bits=16, **options)
    store.add(np.arange(2 * n, dtype=np.uint8).reshape(n, 2), keys=[f"{i}.jpg" for i in range(n)])
    store.commit()
    return store


def one(*values):
    """One code."""
    return np.array([values], np.uint8)


def near_ties(rng, n, n_bytes=N_BYTES):
    """Codes of few different bytes, in which ties decide."""
    return rng.integers(0, 4, (n, n_bytes), dtype=np.uint8) * np.uint8(17)


def assert_same(store, index, rng, n_queries=5, ks=(1, 7, 40)):
    """Every kind of search of a store answers what the index answers."""
    queries = near_ties(rng, n_queries, index.n_bits // 8)
    by_bits = index.metric == "hamming"
    radii = (9, 7) if by_bits else (0.5, 0.4)
    ids = index.to_arrays()[1]
    allows = [None, fh.IdFilter(ids[::3]), ids[:5], np.arange(store._view.index._impl.next_id()) % 2 == 0]
    for allow in allows:
        for k in ks:
            same_arrays(store.search(queries, k, allow=allow), index.search(queries, k, allow=allow))
        found, expected = (each.range_search(queries, radii[0], allow=allow) for each in (store, index))
        same_arrays(found, expected)
        found, expected = (each.count_within(queries, radii[1], allow=allow) for each in (store, index))
        assert found.tolist() == expected.tolist()
    for mode in ("node_ratio", "gallery_ratio", "radius") if by_bits else ():
        keep = {"keep": 0.4, "keep_mode": mode}
        same_arrays(store.search(queries, 7, **keep), index.search(queries, 7, **keep))
    assert len(store) == len(index)
    if len(ids):
        some = rng.choice(ids, 10)
        assert (store.reconstruct(some) == index.reconstruct(some)).all()


def same_arrays(found, expected):
    for name, of_store, of_index in zip(expected._fields, found, expected, strict=True):
        assert of_store.dtype == of_index.dtype, name
        assert of_store.tobytes() == of_index.tobytes(), name


def repaired(data):
    """With the right checksums of what opening reads: the runs, and the section of clusters and summary."""
    header = ref.Header._make(ref.HEADER.unpack_from(data))
    ranges = ref.section_ranges(ref.section_sizes(header, N_BYTES))
    for i in (2, 4):
        begin, end = ranges[i]
        data[64 + 8 * i : 72 + 8 * i] = xxhash.xxh64_intdigest(bytes(data[begin:end])).to_bytes(8, "little")
    data[120:128] = xxhash.xxh64_intdigest(bytes(data[:120])).to_bytes(8, "little")
    return data, ranges


def resigned(text):
    """A manifest of this line, with the checksum made right."""
    line = text.partition(b"\n")[0] + b"\n"
    return line + hashlib.sha256(line).hexdigest().encode() + b"\n"


def assert_no_leaks(folder):
    """The folder holds what the manifest names, and nothing else."""
    names = {path.name for path in folder.iterdir()}
    assert names == {"manifest", "writer.lock", *read_manifest(folder).files()}


# ---- steps: the n-th change of a store, and what it then holds ----

PER_STEP = 40


def codes_of(step, round, rows):
    """The code of each row of a step; `round`: 1 after an update."""
    rows = np.asarray(rows)
    return np.stack([rows % 251, rows * 0 + step % 256, rows * 0 + step // 256, rows * 0 + round], axis=-1).astype(
        np.uint8
    )


def take_step(store, step):
    """Add keys of this step, update some of the step before, and remove some of it."""
    store.add(codes_of(step, 0, np.arange(PER_STEP)), keys=[f"{step}/{row}" for row in range(PER_STEP)])
    if step > 1:
        store.update([f"{step - 1}/{row}" for row in range(10)], codes_of(step - 1, 1, np.arange(10)))
        store.remove([f"{step - 1}/{row}" for row in range(5, 20)])


def after_steps(step):
    """Key and code of all entries after so many steps."""
    held = {}
    for each in range(1, step + 1):
        for row in range(PER_STEP):
            if each < step and 5 <= row < 20:
                continue
            round = 1 if each < step and row < 5 else 0
            held[f"{each}/{row}"] = codes_of(each, round, row).tobytes()
    return held


def steps_of(store):
    """The number of steps that a store holds, all of them whole; fails if any is not."""
    if not len(store):
        return 0
    codes, ids = store.to_index().to_arrays()
    keys = store.keys(ids).tolist()
    held = dict(zip(keys, map(bytes, codes), strict=True))
    step = max(int(key.split("/")[0]) for key in keys)
    assert held == after_steps(step)
    assert store.ids(keys).tolist() == ids.tolist()
    return step
