"""Searches among some ids only, however these are given."""

import copy
import multiprocessing
import pickle
import re
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fasthash as fh
import reference
from bad_input import CODES, FILTERS, named
from galleries import clustered, uniform
from indices import (  # noqa: F401
    KINDS,
    MODES,
    any_kind,
    assert_same,
    empty,
    empty_index,
    filled,
    forms,
    indices,
    problems,
    shuffled_ids,
)

LAYOUT = (8, 16, 40)
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
SHARES = [0, 0.01, 0.1, 0.5, 0.99, 1]
FORMS = {
    "array": lambda ids: np.array(ids, np.int64),
    "list": lambda ids: np.array(ids, np.int64).tolist(),
    "mask": lambda ids: mask(ids),
    "filter": lambda ids: fh.IdFilter(np.array(ids, np.int64)),
    "filter of a mask": lambda ids: fh.IdFilter(mask(ids)),
}


def mask(ids, n=10_000):
    allowed = np.zeros(n, bool)
    allowed[[i for i in ids if 0 <= i < n]] = True
    return allowed


@pytest.fixture(params=FORMS)
def form(request):
    return FORMS[request.param]


def assert_finds(index, allow, queries, codes, ids, k=10, radius=12):
    """Just these codes and ids, by every search."""
    assert_same(index.search(queries, k, allow=allow), reference.search(queries, codes, ids, k))
    assert_same(index.range_search(queries, radius, allow=allow), reference.range_search(queries, codes, ids, radius))
    counts = index.count_within(queries, radius, allow=allow)
    assert_same([counts], [reference.count_within(queries, codes, radius)])


@st.composite
def filters(draw, ids):
    """(what the filter allows, that as an argument); some of it is unknown, doubled or -1."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n = draw(st.sampled_from([0, 1, 10]) | st.sampled_from(SHARES).map(lambda share: round(share * len(ids))))
    chosen = rng.permutation(ids)[:n]
    n_unknown = draw(st.sampled_from([0, 0, 5, 2000]))
    unknown = np.setdiff1d(rng.integers(-9000, 9000, n_unknown), ids)
    edges = np.array(draw(st.sampled_from([[], [-1], [INT64_MIN, INT64_MAX, -1]])), np.int64)
    allow = rng.permutation(np.concatenate([chosen, chosen[: n // 3], unknown, edges]))
    form = draw(st.sampled_from(list(FORMS)))
    if "mask" in form:
        chosen = chosen[chosen >= 0]
    return chosen, FORMS[form](allow)


@given(problems(), st.data())
def test_filtered_searches_equal_the_oracle(problem, data):
    layout, codes, queries, ids, k = problem
    index = data.draw(indices(layout, codes, ids))
    allowed, allow = data.draw(filters(ids))
    radius = data.draw(st.integers(0, sum(layout) + 1), label="radius")
    codes, ids = reference.allowed(codes, ids, allowed)
    for _ in range(2):  # the second time with what a filter has prepared
        assert_finds(index, allow, queries, codes, ids, k, radius)


@given(problems(), st.sampled_from([0.01, 0.1, 0.3, 0.5, 1]), st.sampled_from(MODES), st.data())
def test_a_pruned_search_runs_among_the_allowed_codes(problem, keep, mode, data):
    layout, codes, queries, ids, k = problem
    index = data.draw(indices(layout, codes, ids, KINDS[1:]))
    allowed, allow = data.draw(filters(ids))
    codes, ids = reference.allowed(codes, ids, allowed)
    *expected, compared = reference.pruned_search(queries, codes, ids, k, layout, keep, mode)
    alone = filled(fh.HierIndex(layout), codes, ids).search(queries, k, keep=keep, keep_mode=mode)
    for _ in range(2):
        found, work = index.search(queries, k, keep=keep, keep_mode=mode, allow=allow, stats=True)
        assert_same(found, expected)
        assert_same(found, alone)
        if len(layout) > 1:
            assert (work.codes_compared <= np.maximum(compared, len(np.unique(codes, axis=0)))).all()


# ---- forms ----


def test_only_the_allowed_are_found(index, form):
    index.add(CODES, [4, 0, 9])
    for ids, rows in [([], []), ([4], [0]), ([9, 0], [1, 2]), ([0, 4, 9], [0, 1, 2]), ([7, 9, 9, 5000], [2])]:
        assert_finds(index, form(ids), CODES, CODES[rows], np.array([4, 0, 9])[rows])


def test_ids_0_and_1_are_no_mask(index):
    index.add(CODES)
    for ids in ([0], [1], [0, 1], [1, 0], [1, 1], [0, 1, 1, 5], range(2), {0, 1}):
        rows = sorted({0, 1} & set(ids))
        assert_finds(index, ids, CODES, CODES[rows], np.array(rows))


def test_negative_ids(index):
    ids = np.array([INT64_MIN, -2, 3])
    index.add(CODES, ids)
    for allow in ([-2, INT64_MIN, -1], fh.IdFilter([-1, -2, INT64_MIN])):
        assert_finds(index, allow, CODES, CODES[:2], ids[:2])
    for allow in (np.ones(4, bool), fh.IdFilter(np.ones(4, bool))):  # masks begin at 0
        assert_finds(index, allow, CODES, CODES[2:], ids[2:])


def test_ids_at_both_ends(index):
    ids = np.array([INT64_MIN, INT64_MAX, 0])
    index.add(CODES, ids)
    for rows in ([0], [1], [0, 1], [0, 1, 2]):
        for allow in (ids[rows], fh.IdFilter(ids[rows]), [*ids[rows], INT64_MAX - 1, INT64_MIN + 1]):
            assert_finds(index, allow, CODES, CODES[rows], ids[rows])


def test_none_allows_all_and_nothing_allows_none(index):
    index.add(CODES)
    assert_finds(index, None, CODES, CODES, np.arange(3))
    for nothing in ([], (), np.zeros(0, np.int64), np.zeros(3, bool), [-1], fh.IdFilter([]), fh.IdFilter([77])):
        assert_finds(index, nothing, CODES, CODES[:0], np.arange(0))
        _, work = index.search(CODES, 3, allow=nothing, stats=True)
        assert (work.codes_compared == 0).all()


def test_a_mask_may_be_longer_than_the_ids(index):
    index.add(CODES)
    index.remove([2])
    for n in (3, 4, 1000):
        assert_finds(index, np.ones(n, bool), CODES, CODES[:2], np.arange(2))
    with pytest.raises(ValueError, match="allow must have an entry for every id up to 2, got 2 entries"):
        index.search(CODES, allow=np.ones(2, bool))  # the removed id counts
    assert_finds(index, fh.IdFilter(np.ones(1, bool)), CODES, CODES[:1], np.arange(1))  # made for no certain index


def test_arrays_may_stand_in_memory_in_any_way(index, tmp_path):
    index.add(CODES)
    for form in (*forms(np.array([2, 1]), tmp_path / "ids"), range(1, 3), (1, 2)):
        for allow in (form, fh.IdFilter(form)):
            assert_finds(index, allow, CODES, CODES[1:], np.arange(1, 3))
    for form in forms(np.array([True, False, True]), tmp_path / "mask"):
        for allow in (form, fh.IdFilter(form)):
            assert_finds(index, allow, CODES, CODES[::2], np.array([0, 2]))


def test_a_filter_copies(index):
    index.add(CODES)
    ids = np.array([1, 2])
    allow = fh.IdFilter(ids)
    ids[:] = 0
    assert_finds(index, allow, CODES, CODES[1:], np.arange(1, 3))


# ---- the filter itself ----


def test_a_filter_is_a_set_of_ids():
    allow = fh.IdFilter(allowed=[7, 3, 7, -5, 7, INT64_MAX])
    assert len(allow) == 4
    for i in (3, 7, -5, INT64_MAX, np.int8(3), np.uint64(7)):
        assert i in allow
    for i in (0, -1, 4, INT64_MIN, 2**63, 2**200, -(2**63) - 1, np.uint64(2**64 - 5)):
        assert i not in allow
    assert repr(allow) == "IdFilter of 4 ids"
    assert bool(fh.IdFilter([])) is True
    assert len(fh.IdFilter([])) == len(fh.IdFilter(np.zeros(5, bool))) == 0
    assert repr(fh.IdFilter([True, False, True])) == "IdFilter of 2 ids"


@given(
    st.lists(st.integers(-70, 700) | st.integers(INT64_MIN, INT64_MAX) | st.integers(INT64_MAX - 99, INT64_MAX)),
    st.lists(st.integers(-80, 710) | st.integers(INT64_MIN - 9, INT64_MAX + 9)),
)
def test_a_filter_holds_just_its_ids(ids, others):
    allow = fh.IdFilter(ids)
    assert len(allow) == len(set(ids))
    for i in {*ids, *others, *(i + 1 for i in ids), *(i - 1 for i in ids), *(i ^ INT64_MIN for i in ids)}:
        assert (i in allow) == (i in ids)


def test_what_a_filter_prepares_counts_in_its_memory():
    codes = clustered(np.random.default_rng(0), 10_000, 8)
    index = filled(fh.HierIndex(LAYOUT), codes)
    narrow, wide = fh.IdFilter(np.arange(1000)), fh.IdFilter(np.arange(9000))
    before = narrow.nbytes, wide.nbytes
    assert 1000 * 8 <= before[0] <= 1000 * 8 + 1000
    index.search(codes[:1], 5, allow=narrow)
    index.search(codes[:1], 5, allow=wide)
    assert narrow.nbytes - before[0] >= 1000 * 8
    assert wide.nbytes == before[1]
    held = narrow.nbytes
    for _ in range(3):
        index.range_search(codes[:1], 5, allow=narrow)
        filled(fh.FlatIndex(64), codes).search(codes[:1], 5, allow=narrow)
        index.search(codes[:1], 5, allow=narrow)
        assert narrow.nbytes == held


def test_a_narrow_filter_spares_the_other_codes():
    codes = clustered(np.random.default_rng(0), 20_000, 8)
    for kind in KINDS:
        index = filled(empty(kind, LAYOUT), codes)
        for allow in (np.arange(200), fh.IdFilter(np.arange(200)), fh.IdFilter(np.arange(2500))):
            for _, work in (
                index.search(codes[:3], 5, allow=allow, stats=True),
                index.range_search(codes[:3], 5, allow=allow, stats=True),
            ):
                assert (work.codes_compared < len(codes)).all()
                assert (work.codes_compared > 0).all()


# ---- selectivity ----


@pytest.mark.parametrize("counted", [True, False])
def test_every_selectivity(index, counted):
    """1/64 of the codes, and 1/8 with a filter, are the most that are put together first."""
    rng = np.random.default_rng(1)
    codes, ids = clustered(rng, 10_150, 8), np.arange(10_150) if counted else shuffled_ids(rng, 10_150)
    index.add(codes[:10_050], ids[:10_050])
    index.add(codes[10_050:], ids[10_050:])
    index.remove(ids[5:10_150:68])
    kept = np.setdiff1d(np.arange(10_150), np.arange(5, 10_150, 68))
    codes, ids = codes[kept], ids[kept]
    assert index.stats()["n_segments"] == 2
    assert len(ids) == 10_000
    queries = np.concatenate([codes[:2], uniform(rng, 1, 8)])
    for n in (0, 1, 10, 64, 65, 100, 156, 157, 1000, 1250, 1251, 5000, 9900, 9999, 10_000):
        rows = rng.permutation(10_000)[:n]
        for allow in (ids[rows], fh.IdFilter(ids[rows])):
            assert_finds(index, allow, queries, codes[rows], ids[rows], k=20, radius=6)


# ---- reuse ----


def test_a_filter_sees_every_change(index):
    allow = fh.IdFilter([1, 3, 5, 7])
    assert_finds(index, allow, CODES, CODES[:0], np.arange(0))
    index.add(CODES)
    assert_finds(index, allow, CODES, CODES[1:2], np.array([1]))
    index.add(CODES)
    assert_finds(index, allow, CODES, CODES[[1, 0, 2]], np.array([1, 3, 5]))
    index.update([3], ~CODES[:1])
    assert_finds(index, allow, CODES, np.stack([CODES[1], ~CODES[0], CODES[2]]), np.array([1, 3, 5]))
    index.remove([1, 2])
    assert_finds(index, allow, CODES, np.stack([~CODES[0], CODES[2]]), np.array([3, 5]))
    index.add(CODES[:1], [1])
    assert_finds(index, allow, CODES, np.stack([CODES[0], ~CODES[0], CODES[2]]), np.array([1, 3, 5]))
    index.compact()
    assert_finds(index, allow, CODES, np.stack([CODES[0], ~CODES[0], CODES[2]]), np.array([1, 3, 5]))
    other = index.copy()
    index.remove([1, 3, 5])
    assert_finds(index, allow, CODES, CODES[:0], np.arange(0))
    assert_finds(other, allow, CODES, np.stack([CODES[0], ~CODES[0], CODES[2]]), np.array([1, 3, 5]))


def test_a_filter_serves_several_indices():
    """Of other kinds and widths, in turns; also when one of them is gone."""
    rng = np.random.default_rng(2)
    galleries = [(kind, layout) for kind in KINDS for layout in (LAYOUT, (16,))]
    allow = fh.IdFilter(np.arange(0, 300, 3))
    held = []
    for kind, layout in galleries:
        codes = clustered(rng, 1000, sum(layout) // 8)
        held.append((filled(empty(kind, layout), codes), codes))
    for _ in range(2):
        for index, codes in held:
            assert_finds(index, allow, codes[:2], codes[:300:3], np.arange(0, 300, 3))
            if isinstance(index, fh.HierIndex):
                found = index.search(codes[:2], 5, keep=0.1, allow=allow)
                args = codes[:300:3], np.arange(0, 300, 3), 5, index.level_bits, 0.1, "node_ratio"
                assert_same(found, reference.pruned_search(codes[:2], *args)[:2])
        del index
        held = held[::-2]


def test_a_filter_may_be_used_before_and_after_saving(index, tmp_path):
    codes = clustered(np.random.default_rng(3), 500, 8)
    index.add(codes)
    allow = fh.IdFilter([7, 400])
    index.save(tmp_path / "index.fh")
    for each in (index, fh.load(tmp_path / "index.fh"), fh.load(tmp_path / "index.fh", mmap=True), index):
        assert_finds(each, allow, codes[:2], codes[[7, 400]], np.array([7, 400]))


@pytest.mark.parametrize("n_allowed", [500, 15_000])
def test_threads_share_a_filter(index, n_allowed):
    """While another thread makes it worthless again and again."""
    rng = np.random.default_rng(4)
    codes = clustered(rng, 20_000, 8)
    other = filled(fh.FlatIndex(64), codes)
    index.add(codes)
    allowed = rng.permutation(20_000)[:n_allowed]
    allow = fh.IdFilter(allowed)
    queries = codes[:3]
    expected = reference.search(queries, codes[allowed], allowed, 10)
    counts = reference.count_within(queries, codes[allowed], 9)
    problems, done = [], threading.Event()

    def look():
        for _ in range(15):
            for each in (index, other):
                if not all(map(np.array_equal, each.search(queries, 10, allow=allow), expected)):
                    problems.append(each)
                if not np.array_equal(each.count_within(queries, 9, allow=allow), counts):
                    problems.append(each)

    def change():
        while not done.wait(0.001):
            index.add(codes[:1] ^ 255, [10**6])  # not allowed
            index.remove([10**6])

    with ThreadPoolExecutor(7) as pool:
        changer, readers = pool.submit(change), [pool.submit(look) for _ in range(6)]
        try:
            for reader in readers:
                reader.result()
        finally:
            done.set()
        changer.result()
    assert problems == []


# ---- bad input ----

BAD_FILTERS = [
    *named("allow", FILTERS),
    ([True, False], ValueError, "allow must have an entry for every id up to 2, got 2 entries"),
    ([True, 2], TypeError, "allow must be integers, got a list with a bool: [True, 2]"),
    (np.zeros(0, bool), ValueError, "allow must have an entry for every id up to 2, got 0 entries"),
    (fh.IdFilter, TypeError, "allow must be an integer array of ids or a bool mask, got dtype object"),
    (fh.IdFilter([1])._impl, TypeError, "allow must be an integer array of ids or a bool mask, got dtype object"),
    (CODES, ValueError, "allow must have one axis, got shape (3, 8)"),
]


@pytest.mark.parametrize("kind", ["flat", KINDS[5]], ids=str, indirect=True)
@pytest.mark.parametrize(("allow", "error", "message"), BAD_FILTERS)
def test_refused_filters_of_a_search(index, allow, error, message):
    index.add(CODES)
    for options in ({}, {"stats": True}, {"keep": 0.3}):
        if isinstance(index, fh.HierIndex) or "keep" not in options:
            with pytest.raises(error, match=re.escape(message)):
                index.search(CODES, allow=allow, **options)


def test_ranges_with_steps_beyond_int64():
    index = fh.FlatIndex(8)
    index.add(np.zeros((3, 1), np.uint8), [-(2**63), 0, 2**63 - 1])
    for allow, found in ((range(0, 1, 2**70), [0]), (range(-(2**63), 1, 2**63), [-(2**63), 0])):
        assert index.search(np.zeros((1, 1), np.uint8), 2, allow=allow).ids[0, : len(found)].tolist() == found
    ends = range(-(2**63), 2**63, 2**64 - 1)
    assert index.search(np.zeros((1, 1), np.uint8), 3, allow=ends).ids[0].tolist() == [-(2**63), 2**63 - 1, -1]


@pytest.mark.parametrize(
    ("allowed", "error", "message"),
    [
        *named("allowed", FILTERS),
        (None, TypeError, "allowed must be an integer array of ids or a bool mask, got dtype object"),
        (fh.IdFilter([1]), TypeError, "allowed must be an integer array of ids or a bool mask, got dtype object"),
    ],
)
def test_refused_filters(allowed, error, message):
    with pytest.raises(error, match=re.escape(message)):
        fh.IdFilter(allowed)


def test_a_filter_can_be_copied_and_sent():
    """Between processes it takes its ids along, without what searches have prepared."""
    rng = np.random.default_rng(11)
    codes = rng.integers(0, 256, (500, 8), np.uint8)
    index = fh.HierIndex.from_arrays(codes, rng.permutation(500) * 3)
    for ids in (np.arange(0, 1500, 9), np.array([-(2**63), 2**63 - 1, 6]), np.empty(0, np.int64), mask([3, 6, 9])):
        allow = fh.IdFilter(ids)
        expected = index.search(codes[:5], 4, allow=allow)  # prepares the allowed codes
        for twin in (pickle.loads(pickle.dumps(allow)), copy.copy(allow), copy.deepcopy([allow])[0]):
            assert len(twin) == len(allow)
            assert (6 in twin) == (6 in allow)
            assert_same(index.search(codes[:5], 4, allow=twin), expected)


def test_a_filter_works_in_another_process():
    allow = fh.IdFilter([5, 7, 900])
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(len, allow).result() == 3


@pytest.mark.parametrize("ids", [[101, 2**63], {1, 2**64}, (-(2**63) - 1, 5)])
def test_integers_beyond_int64_are_called_so(ids):
    with pytest.raises(ValueError, match=r"allowed must fit int64, got -?[0-9]{19}"):
        fh.IdFilter(ids)
    index = fh.FlatIndex(64)
    with pytest.raises(ValueError, match=r"ids must fit int64, got -?[0-9]{19}"):
        index.add(np.zeros((2, 8), np.uint8), ids=list(ids))


def test_lists_of_several_integer_types():
    index = fh.FlatIndex(64)
    index.add(np.zeros((3, 8), np.uint8), ids=[5, np.uint64(7), np.int8(9)])
    assert index.search(np.zeros((1, 8), np.uint8), 3, allow=[5, np.uint64(9)]).ids.tolist() == [[5, 9, -1]]
