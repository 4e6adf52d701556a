"""Indices of every kind, ways to fill them, and what tests of them share."""

from __future__ import annotations

import contextlib
import itertools

import numpy as np
import pytest
from hypothesis import strategies as st

import fasthash as fh
from fasthash import _core
from galleries import GALLERIES

LAYOUTS = [(8,), (64,), (4096,), (8, 8), (8, 16, 40), (16, 48), (8, 8, 8, 8), (40, 16, 8), (24, 104), (8,) * 12]
PLANS = ["scan", "prefix", "multi-index", "clusters"]
MEMORIES = ["compact", "default", "fast"]
LEVELS = _core.simd_levels()
MODES = ["node_ratio", "gallery_ratio", "radius"]  # of keep=
# Memory and plan: every form in which codes are held, and every way to search them.
WAYS = [
    ("default", "auto"),
    ("default", "clusters"),
    ("default", "prefix"),
    ("compact", "prefix"),
    ("default", "multi-index"),
    ("fast", "scan"),
]
KINDS = ["flat", *itertools.product(MEMORIES, ["auto", *PLANS])]


def empty(kind, layout):
    """`kind`: "flat", or memory and plan of a hierarchical index."""
    if kind == "flat":
        return fh.FlatIndex(sum(layout))
    return fh.HierIndex(layout, memory=kind[0], plan=kind[1])


# Fixtures, which tests import and name by their `name`:


@pytest.fixture(name="kind", params=KINDS, ids=str)
def any_kind(request):
    return request.param


@pytest.fixture(name="index")
def empty_index(kind):
    return empty(kind, (8, 16, 40))


def filled(index, codes, ids=None):
    index.add(codes, ids)
    return index


def grown(index, codes, ids, rng):
    """An index that comes to hold these codes the long way: piece by piece, with others that are removed again, with
    updates, and with some removed and added once more."""
    n = len(codes)
    n_others = int(n * rng.choice([0, 0.05, 0.5])) + rng.integers(3)
    free = np.setdiff1d(np.arange(-3 * n - 9, 6 * n + 9), np.append(ids, -1), assume_unique=True)
    others = rng.choice(free, n_others, replace=False)
    late = rng.random(n) < rng.choice([0, 0.03, 0.4])  # have another code first
    twice = rng.random(n) < rng.choice([0, 0.03, 0.4])
    all_codes = np.concatenate([codes, GALLERIES["uniform"](rng, n_others, codes.shape[1])])
    all_codes[:n][late] ^= np.uint8(0x81)
    all_ids = np.concatenate([ids, others])
    order = rng.permutation(n + n_others)
    for rows in np.split(order, np.sort(rng.integers(0, len(order) + 1, 3))):
        index.add(all_codes[rows], all_ids[rows])
    index.remove(others[::2])
    index.update(ids[late], codes[late])
    index.remove(ids[twice])
    if rng.random() < 0.3:
        index.compact()
    index.remove(others[1::2])
    index.add(codes[twice], ids[twice])
    return index


def shuffled_ids(rng, n):
    """Distinct ids in no order, some of them negative, none -1."""
    ids = rng.choice(np.arange(-n - 2, 3 * n + 2), n + 2, replace=False) if n else np.arange(2)
    return ids[ids != -1][:n].astype(np.int64)


def make(seed, layout, n, kind, nq=3):
    """Codes, queries (one of them in the gallery) and ids."""
    rng = np.random.default_rng(seed)
    both = GALLERIES[kind](rng, n + nq, sum(layout) // 8)
    codes, queries = both[:n], both[n:].copy()
    if n:
        queries[0] = codes[rng.integers(n)]
    return codes, queries, shuffled_ids(rng, n)


def forms(array, path):
    """The same values, standing in memory in other ways, or in a file."""
    yield array[::-1].copy()[::-1]
    yield np.repeat(array, 2, axis=0)[::2]
    yield np.pad(array, 1)[(slice(1, -1),) * array.ndim]
    yield np.asfortranarray(array)
    yield np.frombuffer(b"-" + array.tobytes(), array.dtype, offset=1).reshape(array.shape)  # read-only, unaligned
    array.tofile(path)
    yield np.memmap(path, array.dtype, "r", shape=array.shape)
    yield memoryview(array)


@st.composite
def problems(draw):
    """(layout, codes, queries, ids, k)"""
    layout = draw(st.sampled_from(LAYOUTS))
    n = draw(st.integers(0, 60) | st.integers(0, 1500 if sum(layout) < 1000 else 100))
    codes, queries, ids = make(draw(st.integers(0, 2**32)), layout, n, draw(st.sampled_from(list(GALLERIES))))
    return layout, codes, queries, ids, draw(st.integers(1, n + 5))


@st.composite
def indices(draw, layout, codes, ids, kinds=KINDS):
    """An index of any of these kinds with these codes, filled at once or grown."""
    index = empty(draw(st.sampled_from(kinds)), layout)
    seed = draw(st.none() | st.integers(0, 2**32))
    return filled(index, codes, ids) if seed is None else grown(index, codes, ids, np.random.default_rng(seed))


def assert_same(result, expected):
    """Byte for byte: shapes, dtypes and values."""
    for array, wanted in zip(result, expected, strict=True):
        assert array.dtype == wanted.dtype
        np.testing.assert_array_equal(array, wanted, strict=True)


@contextlib.contextmanager
def simd(level):
    before = fh.simd_level()
    _core.set_simd_level(level)
    try:
        assert fh.simd_level() == level
        yield
    finally:
        _core.set_simd_level(before)


@contextlib.contextmanager
def threads(n):
    before = fh.get_num_threads()
    fh.set_num_threads(n)
    try:
        yield
    finally:
        fh.set_num_threads(before)
