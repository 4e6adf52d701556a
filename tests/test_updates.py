"""Changes of an index: whatever its history, it is the index that is built of what it holds."""

import copy
import pickle
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fasthash as fh
import reference
from bad_input import CODE_ARRAYS, CODES, ID_ARRAYS, NO_INTEGERS, ONE_CODE, named
from galleries import clustered, uniform
from indices import (  # noqa: F401
    KINDS,
    MODES,
    any_kind,
    assert_same,
    empty,
    empty_index,
    filled,
    grown,
    indices,
    problems,
    shuffled_ids,
)

LAYOUT = (8, 16, 40)
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
IDS = [30, -7, 20]


def assert_holds(index, codes, ids):
    """Searches, look-ups and lists all tell of these codes and no others."""
    codes, ids = np.asarray(codes, np.uint8).reshape(-1, index.n_bits // 8), np.asarray(ids, np.int64)
    order = np.argsort(ids)
    assert len(index) == index.ntotal == index.stats()["n_codes"] == len(ids)
    assert_same(index.to_arrays(), (codes[order], ids[order]))
    assert_same([index.reconstruct(ids)], [codes])
    assert all(i in index for i in ids)
    assert_same(index.search(CODES, len(ids) + 1), reference.search(CODES, codes, ids, len(ids) + 1))


# ---- remove ----


def test_what_is_removed_is_found_no_more(index):
    index.add(CODES, IDS)
    index.remove([-7])
    assert_holds(index, CODES[[0, 2]], [30, 20])
    assert -7 not in index
    assert index.count_within(CODES[1:2], 0) == [0]
    index.remove(np.array([20, 30]))
    assert_holds(index, CODES[:0], [])


def test_nothing_to_change(index, kind):
    for _ in range(2):
        before = index.to_bytes()
        index.remove([])
        index.update([], CODES[:0])
        index.merge(empty(kind, LAYOUT))
        assert index.to_bytes() == before
        index.add(CODES)


def test_a_removed_id_can_be_added_again(index):
    index.add(CODES, IDS)
    index.remove([20])
    index.add(CODES[:1] ^ 255, [20])
    assert_holds(index, [*CODES[:2], CODES[0] ^ 255], IDS)


def test_equal_codes_are_removed_one_by_one(index):
    index.add(np.repeat(CODES[:1], 40, axis=0))
    index.remove([0, 3, 38])
    assert index.search(CODES[:1], 4).ids.tolist() == [[1, 2, 4, 5]]
    assert index.count_within(CODES[:1], 0) == [37]


@pytest.mark.parametrize(
    "way",
    [
        lambda index, path: index,
        lambda index, path: index.compact() or index,
        lambda index, path: index.copy(),
        lambda index, path: pickle.loads(pickle.dumps(index)),
        lambda index, path: index.save(path) or fh.load(path),
        lambda index, path: index.save(path) or fh.load(path, mmap=True),
    ],
    ids=["itself", "compact", "copy", "pickle", "load", "mmap"],
)
@pytest.mark.parametrize("n_left", [19, 12, 0])
def test_counting_goes_on_after_the_largest_id_ever(index, way, n_left, tmp_path):
    codes = clustered(np.random.default_rng(0), 20, 8)
    index.add(codes)
    index.remove(np.arange(n_left, 20))
    index = way(index, tmp_path / "index.fh")
    index.add(CODES)
    index.update([21], CODES[:1])
    index.add(CODES[:1])
    assert_holds(index, [*codes[:n_left], CODES[0], CODES[0], CODES[2], CODES[0]], [*range(n_left), 20, 21, 22, 23])


def test_where_ids_end(index):
    index.add(CODES, [INT64_MAX, INT64_MIN, 0])
    assert_holds(index, CODES, [INT64_MAX, INT64_MIN, 0])
    index.update([INT64_MIN, INT64_MAX], CODES[:2])
    assert_holds(index, CODES[[1, 0, 2]], [INT64_MAX, INT64_MIN, 0])
    index.remove([INT64_MAX])
    assert_holds(index, CODES[[0, 2]], [INT64_MIN, 0])
    with pytest.raises(ValueError, match="ids must be given: counting 1 on from 9223372036854775808"):
        index.add(CODES[:1])  # as if it were there still
    index.add(CODES[:1], [INT64_MAX])
    index.remove([INT64_MIN, 0])
    assert_holds(index, CODES[:1], [INT64_MAX])


def test_counting_to_the_last_id(index):
    index.add(CODES[:1], [INT64_MAX - 3])
    index.add(CODES)
    with pytest.raises(ValueError, match="ids must be given: counting 1 on from 9223372036854775808"):
        index.add(CODES[:1])
    assert_holds(index, [CODES[0], *CODES], np.arange(4) + (INT64_MAX - 3))


@pytest.mark.parametrize(
    "some",
    [
        lambda rng, n: np.arange(n),
        lambda rng, n: rng.permutation(n),
        lambda rng, n: np.arange(n) * 2,
        lambda rng, n: np.arange(n)[::-1] * 3 - n,
        lambda rng, n: rng.permutation(n) + (INT64_MAX - n + 1),
        lambda rng, n: rng.permutation(n) + INT64_MIN,
        lambda rng, n: np.concatenate([np.arange(n - 2), [INT64_MIN, INT64_MAX]]),
        lambda rng, n: rng.integers(INT64_MIN, INT64_MAX, n),
    ],
    ids=["counted", "shuffled", "even", "backwards", "last", "first", "far apart", "any"],
)
def test_ids_of_every_kind_are_looked_up(index, some):
    """Close together they are looked up in one step, else by bisection, few of them one by one."""
    rng = np.random.default_rng(0)
    ids = some(rng, 3000)
    ids[ids == -1] = 12345
    codes = clustered(rng, 3000, 8)
    index.add(codes, ids)
    there = set(ids.tolist())
    for i in {*ids[:50].tolist(), *(ids[:50] - 1).tolist(), *(ids[:50] + 1).tolist(), 0, -1, INT64_MIN, INT64_MAX}:
        assert (i in index) == (i in there)
    order = rng.permutation(3000)
    assert_same([index.reconstruct(ids[order])], [codes[order]])
    index.remove(ids[:100])
    assert ids[0] not in index
    index.update(ids[100:200], codes[:100])
    index.add(codes[100:200], ids[:100])
    codes[:200] = np.concatenate([codes[100:200], codes[:100]])
    assert_same([index.reconstruct(ids[order])], [codes[order]])
    order = np.argsort(ids)
    assert_same(index.to_arrays(), (codes[order], ids[order]))


def test_contains(index):
    index.add(CODES, IDS)
    for there in (30, -7, np.int64(20), np.int8(-7), np.uint64(30)):
        assert there in index
    for not_there in (0, -1, 7, 31, INT64_MIN, INT64_MAX, 2**63, -(2**63) - 1, 2**200, np.uint64(2**64 - 7)):
        assert not_there not in index


# ---- update, reconstruct ----


def test_update_gives_ids_other_codes(index):
    index.add(CODES, IDS)
    index.update([20, 30], CODES[:2])  # one of them changes place with a code that stays
    assert_holds(index, [CODES[1], CODES[1], CODES[0]], IDS)
    index.update(IDS, CODES)
    index.update([-7], CODES[1:2])  # with the code it has
    assert_holds(index, CODES, IDS)


def test_update_copies(index):
    index.add(CODES, IDS)
    codes, ids = ~CODES, np.array(IDS)
    index.update(ids, codes)
    codes[:], ids[:] = 0, 0
    assert_holds(index, ~CODES, IDS)


def test_reconstruct_in_any_order(index):
    index.add(CODES, IDS)
    assert_same([index.reconstruct([20, 30, 20, 20, -7])], [CODES[[2, 0, 2, 2, 1]]])
    assert_same([index.reconstruct([])], [CODES[:0]])
    index.reconstruct(IDS)[:] = 0  # an array of its own
    assert_holds(index, CODES, IDS)


# ---- merge ----


@pytest.mark.parametrize("other_kind", KINDS, ids=str)
def test_merge_takes_codes_and_ids(kind, other_kind):
    index, other = empty(kind, (64,)), empty(other_kind, (64,))
    index.add(CODES, IDS)
    other.add(~CODES, [1, 100, -3])
    index.merge(other)
    assert_holds(index, [*CODES, *~CODES], [*IDS, 1, 100, -3])
    assert_holds(other, ~CODES, [1, 100, -3])
    other.remove([1])
    index.add(CODES[:1])
    assert_holds(index, [*CODES, *~CODES, CODES[0]], [*IDS, 1, 100, -3, 101])


def test_merge_with_nothing(index, kind):
    for nothing in (empty(kind, LAYOUT), filled(empty(kind, LAYOUT), CODES, [30, 0, 1])):
        nothing.remove(nothing.to_arrays()[1])
        target = empty(kind, LAYOUT)
        target.merge(filled(empty(kind, LAYOUT), CODES, IDS))
        target.merge(nothing)
        assert_holds(target, CODES, IDS)


@pytest.mark.parametrize(
    ("other", "error", "message"),
    [
        (lambda index: None, TypeError, "other must be a FlatIndex or HierIndex, got NoneType"),
        (lambda index: CODES, TypeError, "other must be a FlatIndex or HierIndex, got ndarray"),
        (lambda index: index.to_bytes(), TypeError, "other must be a FlatIndex or HierIndex, got bytes"),
        (lambda index: [index], TypeError, "other must be a FlatIndex or HierIndex, got list"),
        (lambda index: type(index), TypeError, "other must be a FlatIndex or HierIndex, got type"),
        (lambda index: fh.FlatIndex(32), ValueError, "other must have levels of (64) bits, has (32)"),
        (lambda index: fh.FlatIndex(72), ValueError, "other must have levels of (64) bits, has (72)"),
        (lambda index: fh.HierIndex((8, 56)), ValueError, "other must have levels of (64) bits, has (8, 56)"),
        (lambda index: fh.HierIndex((56, 8)), ValueError, "other must have levels of (64) bits, has (56, 8)"),
        (lambda index: index, ValueError, "ids must be new to the index, but it holds -7 already"),
        (lambda index: index.copy(), ValueError, "ids must be new to the index, but it holds -7 already"),
        (
            lambda index: filled(fh.FlatIndex(64), CODES, [40, 20, 41]),
            ValueError,
            "ids must be new to the index, but it holds 20 already",
        ),
    ],
)
def test_refused_merges(kind, other, error, message):
    index = filled(empty(kind, (64,)), CODES, IDS)
    before = index.to_bytes()
    with pytest.raises(error, match=re.escape(message)):
        index.merge(other(index))
    assert index.to_bytes() == before


# ---- copies, arrays, bytes ----


@pytest.mark.parametrize("way", [lambda index: index.copy(), copy.copy, copy.deepcopy], ids=["method", "copy", "deep"])
def test_copies_go_ways_of_their_own(index, way):
    index.add(CODES, IDS)
    other = way(index)
    assert type(other) is type(index)
    assert other.stats() == index.stats()
    assert other.to_bytes() == index.to_bytes()
    index.remove([30])
    assert_holds(other, CODES, IDS)
    other.update([20], ~CODES[2:])
    third = way(other)
    other.add(CODES[:1])
    third.compact()
    third.remove([-7])
    assert_holds(index, CODES[1:], IDS[1:])
    assert_holds(other, [*CODES[:2], ~CODES[2], CODES[0]], [*IDS, 31])
    assert_holds(third, [CODES[0], ~CODES[2]], [30, 20])
    del index, other
    assert_holds(third, [CODES[0], ~CODES[2]], [30, 20])


def test_a_large_copy_shares_what_neither_has_changed(kind):
    """Removing and adding leave the segments of the other alone, whatever is in them."""
    rng = np.random.default_rng(0)
    codes, ids = clustered(rng, 5000, 8), shuffled_ids(rng, 5000)
    index = filled(empty(kind, LAYOUT), codes[:4900], ids[:4900])
    index.add(codes[4900:], ids[4900:])
    assert index.stats()["n_segments"] == 2
    other = index.copy()
    index.remove(ids[::20])
    other.remove(ids[7::20])
    other.add(codes[:1], [10**6])
    queries = uniform(rng, 3, 8)
    kept = np.arange(5000) % 20 != 0
    assert_same(index.search(queries, 50), reference.search(queries, codes[kept], ids[kept], 50))
    kept = np.arange(5000) % 20 != 7
    expected = np.concatenate([codes[kept], codes[:1]]), np.append(ids[kept], 10**6)
    assert_same(other.search(queries, 50), reference.search(queries, *expected, 50))


def test_arrays_are_in_the_order_of_the_ids(index):
    assert_same(index.to_arrays(), (CODES[:0], np.zeros(0, np.int64)))
    index.add(CODES, IDS)
    codes, ids = index.to_arrays()
    assert_same((codes, ids), (CODES[[1, 2, 0]], np.array([-7, 20, 30])))
    codes[:], ids[:] = 0, 0  # arrays of their own
    assert_holds(index, CODES, IDS)


def test_from_arrays(kind):
    def build(*arguments, **options):
        if kind == "flat":
            return fh.FlatIndex.from_arrays(*arguments, **options)
        return fh.HierIndex.from_arrays(*arguments, memory=kind[0], plan=kind[1], **options)

    assert_holds(build(CODES), CODES, [0, 1, 2])
    assert_holds(build(CODES, IDS), CODES, IDS)
    assert_holds(build(CODES, ids=np.array(IDS)), CODES, IDS)
    assert_holds(build(CODES[:0]), [], [])
    assert build(CODES[:, :3]).level_bits == (24,)
    assert build(CODES, IDS).to_bytes() == filled(empty(kind, (64,)), CODES, IDS).to_bytes()
    if kind != "flat":
        index = build(CODES, IDS, level_bits=LAYOUT)
        assert index.to_bytes() == filled(empty(kind, LAYOUT), CODES, IDS).to_bytes()
        assert (index.level_bits, index.memory) == (LAYOUT, kind[0])
        again = build(*index.to_arrays(), level_bits=np.array(LAYOUT))
        assert again.to_bytes() == index.to_bytes()


def test_from_arrays_takes_memory_and_plan():
    codes = clustered(np.random.default_rng(0), 3000, 8)
    for plan in ("scan", "prefix", "multi-index"):
        assert fh.HierIndex.from_arrays(codes, plan=plan).stats()["plan"] == plan
    for memory in ("compact", "default", "fast"):
        assert fh.HierIndex.from_arrays(codes, memory=memory).memory == memory
    assert fh.HierIndex.from_arrays(codes).memory == "default"


def test_bytes_are_those_of_the_file(index, tmp_path):
    index.add(CODES, IDS)
    index.save(tmp_path / "index.fh")
    data = index.to_bytes()
    assert type(data) is bytes
    assert data == (tmp_path / "index.fh").read_bytes()
    buffer = bytearray(data)
    for given_data in (data, buffer, memoryview(data), memoryview(b"-" + data)[1:]):
        again = type(index).from_bytes(given_data)
        assert type(again) is type(index)
        assert again.to_bytes() == data
    again = type(index).from_bytes(buffer)
    buffer[:] = bytes(len(buffer))  # copied
    assert_holds(again, CODES, IDS)
    assert_holds(pickle.loads(pickle.dumps(index)), CODES, IDS)


def test_a_pickle_remembers_memory_and_plan(kind):
    codes = clustered(np.random.default_rng(0), 3000, 8)
    index = filled(empty(kind, LAYOUT), codes)
    again = pickle.loads(pickle.dumps(index))
    again.compact()
    assert again.stats() == index.stats()
    for each in (again, index):
        each.add(codes)
    assert again.stats() == index.stats()


# ---- any history ----


def settle(index):
    """Let counting go on at the same id, whatever was held before."""
    index.add(np.zeros((1, index.n_bits // 8), np.uint8), [10**9])
    index.remove([10**9])


def shape(index):
    """What stats tell, memory left out."""
    return {name: value for name, value in index.stats().items() if name not in ("nbytes", "bytes_per_code")}


@given(problems(), st.sampled_from(KINDS), st.integers(0, 2**32), st.data())
def test_any_history_ends_in_the_index_that_is_built_of_the_codes(problem, kind, seed, data):
    layout, codes, queries, ids, k = problem
    fresh = filled(empty(kind, layout), codes, ids)
    index = grown(empty(kind, layout), codes, ids, np.random.default_rng(seed))
    assert len(index) == len(codes)
    assert_same(index.search(queries, k), reference.search(queries, codes, ids, k))
    radius = data.draw(st.integers(0, sum(layout) + 1), label="radius")
    assert_same(index.range_search(queries, radius), reference.range_search(queries, codes, ids, radius))
    assert_same([index.count_within(queries, radius)], [reference.count_within(queries, codes, radius)])
    assert_same(index.to_arrays(), fresh.to_arrays())
    assert_same([index.reconstruct(ids)], [codes])
    settle(index)
    settle(fresh)
    if kind == "flat":
        assert_same(fh.FlatIndex.from_bytes(index.to_bytes()).to_arrays(), fresh.to_arrays())
    else:
        assert index.to_bytes() == fresh.to_bytes()
        keep = data.draw(st.sampled_from([0.05, 0.3, 1]), label="keep")
        for mode in MODES:
            pruned = index.search(queries, k, keep=keep, keep_mode=mode, stats=True)
            expected = fresh.search(queries, k, keep=keep, keep_mode=mode, stats=True)
            assert_same(pruned[0], expected[0])
            if len(layout) > 1:  # else the plan decides over the work
                assert_same(pruned[1], expected[1])
    index.compact()
    fresh.compact()
    assert shape(index) == shape(fresh)
    assert_same(index.search(queries, k), fresh.search(queries, k))


def test_an_index_forgets_the_plan_of_codes_that_are_gone():
    """A later segment takes the plan of the first; alone, it is planned anew."""
    rng = np.random.default_rng(0)
    first, later = clustered(rng, 300_000, 16, 2000, 0.01), clustered(rng, 9000, 16, 20, 0.08)
    fresh = fh.HierIndex.from_arrays(later, np.arange(300_000, 309_000), n_bits=128, memory="compact")
    index = fh.HierIndex(128, memory="compact")
    index.add(first)
    index.add(later)
    index.remove(np.arange(300_000))
    assert index.stats()["n_segments"] == 1
    assert index.stats()["plan"] == "prefix"
    found = index.search(later[:20], 10)
    index.compact()
    assert fresh.stats()["plan"] == "clusters"
    assert shape(index) == shape(fresh)
    assert index.to_bytes() == fresh.to_bytes()
    assert_same(index.search(later[:20], 10), found)
    assert_same(found, fresh.search(later[:20], 10))


@given(problems(), st.data())
def test_remove_then_add_changes_nothing(problem, data):
    layout, codes, queries, ids, k = problem
    index = data.draw(indices(layout, codes, ids))
    expected = index.search(queries, k)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    rows = rng.permutation(len(codes))[: rng.integers(len(codes) + 1)]
    index.remove(ids[rows])
    kept = np.delete(np.arange(len(codes)), rows)
    assert_same(index.search(queries, k), reference.search(queries, codes[kept], ids[kept], k))
    index.add(codes[rows], ids[rows])
    assert_same(index.search(queries, k), expected)


@given(problems(), st.data())
def test_merged_shards_are_the_whole(problem, data):
    layout, codes, queries, ids, k = problem
    kind = data.draw(st.sampled_from(KINDS))
    kinds = KINDS if len(layout) == 1 else [other for other in KINDS if (other == "flat") == (kind == "flat")]
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    merged = empty(kind, layout)
    for rows in np.array_split(rng.permutation(len(codes)), 3):
        merged.merge(filled(empty(kinds[rng.integers(len(kinds))], layout), codes[rows], ids[rows]))
    whole = filled(empty(kind, layout), codes, ids)
    assert_same(merged.to_arrays(), whole.to_arrays())
    assert_same(merged.search(queries, k), whole.search(queries, k))


# ---- threads ----


@pytest.mark.parametrize("how", ["flat", ("default", "auto"), ("fast", "multi-index")], ids=str)
def test_a_change_is_seen_whole_or_not_at_all(how):
    """All ids have one code before an update and another after it; ids come and go in one piece."""
    index = empty(how, LAYOUT)
    n = 300
    index.add(np.zeros((n, 8), np.uint8))
    problems, done = [], threading.Event()

    def look():
        while not done.is_set():
            distances, ids = index.search(np.zeros((1, 8), np.uint8), n)
            n_found = (ids >= 0).sum()
            if len(set(distances[0, :n_found].tolist())) > 1 or n_found not in (n, n - 100):
                problems.append((distances, ids))
            counts = index.count_within(np.zeros((1, 8), np.uint8), 64)
            codes, ids = index.to_arrays()
            if counts[0] not in (n, n - 100) or len(ids) not in (n, n - 100) or len(np.unique(codes, axis=0)) != 1:
                problems.append((counts, codes, ids))

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(look) for _ in range(3)]
        try:
            for i in range(100):
                index.update(np.arange(n), np.full((n, 8), i, np.uint8))
                index.remove(np.arange(100))
                if i % 10 == 0:
                    index.compact()
                index.add(np.full((100, 8), i, np.uint8), np.arange(100))
        finally:
            done.set()
        for reader in readers:
            reader.result()
    assert problems == []


def test_changes_take_turns(kind):
    """Threads that add, update and remove ids of their own lose nothing."""
    index = empty(kind, LAYOUT)
    index.add(np.zeros((200, 8), np.uint8), np.arange(10_000, 10_200))

    def work(t):
        ids = np.arange(t * 100, (t + 1) * 100)
        for i in range(10):
            index.add(np.full((100, 8), t, np.uint8), ids)
            index.update(ids[::2], np.full((50, 8), i, np.uint8))
            index.remove(ids if i < 9 else ids[1::4])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    codes, ids = index.to_arrays()
    left = np.array([i for i in range(400) if i % 4 != 1])
    assert_same([ids], [np.concatenate([left, np.arange(10_000, 10_200)])])
    assert (codes[: len(left), 0] == np.where(left % 2 == 0, 9, left // 100)).all()


# ---- bad input ----

NOT_THERE = [
    ([0], ValueError, "ids must be in the index, but it does not hold 0"),
    ([30, 20, -8], ValueError, "ids must be in the index, but it does not hold -8"),
    ([INT64_MIN, 30, 20], ValueError, f"ids must be in the index, but it does not hold {INT64_MIN}"),
    ([30, 20, INT64_MAX], ValueError, f"ids must be in the index, but it does not hold {INT64_MAX}"),
]
NOT_DISTINCT = [
    ([30, -1, 20], ValueError, "ids must not hold -1"),
    ([30, 20, 30], ValueError, "ids must be distinct, got 30 twice"),
    ([5, 5, 30], ValueError, "ids must be distinct, got 5 twice"),
]
NOT_ONE_AXIS = [
    (20, ValueError, "ids must have one axis, got shape ()"),
    ([[20, 30]], ValueError, "ids must have one axis, got shape (1, 2)"),
    ([[]], ValueError, "ids must have one axis, got shape (1, 0)"),
]
NOT_ONE_EACH = [
    (20, ValueError, "ids must have shape (3,), one for each code, got ()"),
    ([20, 30], ValueError, "ids must have shape (3,), one for each code, got (2,)"),
    ([], ValueError, "ids must have shape (3,), one for each code, got (0,)"),
    ([[20, 30, -7]], ValueError, "ids must have shape (3,), one for each code, got (1, 3)"),
]
BAD_IDS = named("ids", ID_ARRAYS)
BAD_CODES = named("codes", CODE_ARRAYS + ONE_CODE)
REFUSED = {
    "remove": [((ids,), e, m) for ids, e, m in BAD_IDS + NOT_THERE + NOT_DISTINCT + NOT_ONE_AXIS],
    "reconstruct": [((ids,), e, m) for ids, e, m in BAD_IDS + NOT_THERE + NOT_ONE_AXIS[1:]]
    + [(([-1],), ValueError, "ids must be in the index, but it does not hold -1")],
    "update": [((ids, ~CODES), e, m) for ids, e, m in BAD_IDS + NOT_THERE[1:] + NOT_DISTINCT + NOT_ONE_EACH]
    + [((IDS, codes), e, m) for codes, e, m in BAD_CODES]
    + [((~CODES, IDS), TypeError, "codes must be a uint8 array of packed bits, got dtype int64")],
}


@pytest.mark.parametrize("kind", ["flat", KINDS[1], KINDS[5]], ids=str, indirect=True)
@pytest.mark.parametrize(
    ("method", "arguments", "error", "message"), [(method, *case) for method in REFUSED for case in REFUSED[method]]
)
def test_a_refused_change_changes_nothing(index, method, arguments, error, message):
    index.add(CODES, IDS)
    before, stats = index.to_bytes(), index.stats()
    with pytest.raises(error, match=re.escape(message)):
        getattr(index, method)(*arguments)
    assert index.to_bytes() == before
    assert index.stats() == stats
    index.add(CODES[:1])
    assert_holds(index, [*CODES, CODES[0]], [*IDS, 31])


def test_a_refused_change_of_several_segments_changes_nothing(index):
    codes = clustered(np.random.default_rng(5), 4100, 8)
    index.add(codes[:4000])
    index.add(codes[4000:])
    index.remove([7, 4007])
    before, shape_before = index.to_bytes(), shape(index)
    for ids in ([0, 4000, 7], [1, 2, 4007], [*range(5000)]):
        with pytest.raises(ValueError, match="it does not hold"):
            index.remove(ids)
        with pytest.raises(ValueError, match="it does not hold"):
            index.update(ids, np.zeros((len(ids), 8), np.uint8))
    with pytest.raises(ValueError, match="it holds 4008 already"):
        index.add(codes[:3], [7, 4007, 4008])
    with pytest.raises(ValueError, match="it holds 0 already"):
        index.merge(filled(type(index).from_bytes(before), codes[:1]))
    assert index.to_bytes() == before
    assert shape(index) == shape_before


@pytest.mark.parametrize(("id", "error", "message"), named("id", NO_INTEGERS))
def test_refused_questions_for_an_id(id, error, message):
    for holder in (fh.FlatIndex(64), fh.HierIndex(), fh.IdFilter([3])):
        with pytest.raises(error, match=re.escape(message)):
            id in holder  # noqa: B015


@pytest.mark.parametrize(
    ("codes", "ids", "error", "message"),
    [
        *((codes, None, e, m) for codes, e, m in BAD_CODES if e is TypeError),
        *((CODES, ids, e, m) for ids, e, m in BAD_IDS + NOT_ONE_EACH + NOT_DISTINCT if ids is not None),
        (CODES[0], None, ValueError, "codes must have shape (n, n_bytes) with 1 to 512 bytes, got (8,)"),
        (CODES[None], None, ValueError, "codes must have shape (n, n_bytes) with 1 to 512 bytes, got (1, 3, 8)"),
        (np.uint8(3), None, ValueError, "codes must have shape (n, n_bytes) with 1 to 512 bytes, got ()"),
        (CODES[:, :0], None, ValueError, "codes must have shape (n, n_bytes) with 1 to 512 bytes, got (3, 0)"),
        (np.zeros((1, 513), np.uint8), None, ValueError, "with 1 to 512 bytes, got (1, 513)"),
    ],
)
@pytest.mark.parametrize("how", [fh.FlatIndex, fh.HierIndex])
def test_refused_arrays(how, codes, ids, error, message):
    with pytest.raises(error, match=re.escape(message)):
        how.from_arrays(codes, ids)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"level_bits": (8, 48)}, ValueError, "codes must have shape (n, 7) for 56 bits, got (3, 8)"),
        ({"level_bits": (8, 55)}, ValueError, "codes must have zeros in the low 1 bit of the last byte"),
        ({"level_bits": (9, 55)}, ValueError, "level_bits must be a multiple of 8, got 9"),
        ({"level_bits": ()}, ValueError, "level_bits must name at least one level, got ()"),
        ({"level_bits": 6.4}, TypeError, "level_bits must be a sequence of integers, got 6.4"),
        ({"memory": "small"}, ValueError, "memory must be one of 'compact', 'default', 'fast', got 'small'"),
        ({"memory": None}, ValueError, "memory must be one of 'compact', 'default', 'fast', got None"),
        (
            {"plan": "tree"},
            ValueError,
            "plan must be one of 'auto', 'scan', 'prefix', 'multi-index', 'clusters', got 'tree'",
        ),
        (
            {"plan": None},
            ValueError,
            "plan must be one of 'auto', 'scan', 'prefix', 'multi-index', 'clusters', got None",
        ),
    ],
)
def test_refused_options_of_from_arrays(options, error, message):
    with pytest.raises(error, match=re.escape(message)):
        fh.HierIndex.from_arrays(CODES, **options)


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (None, TypeError, "data must be bytes, got NoneType"),
        ("text", TypeError, "data must be bytes, got str"),
        (3, TypeError, "data must be bytes, got int"),
        ([70, 65], TypeError, "data must be bytes, got list"),
        (CODES, TypeError, "data must be bytes, got ndarray"),
        (
            memoryview(CODES),
            ValueError,
            f"data must be bytes that stand one after the other, got the shape {CODES.shape} with strides (8, 1) and "
            "items of 1 byte",
        ),
        (memoryview(CODES[0])[::2], ValueError, "got the shape (4,) with strides (2,) and items of 1 byte"),
        (memoryview(np.arange(200)), ValueError, "got the shape (200,) with strides (8,) and items of 8 bytes"),
        (b"", fh.FormatError, "0 bytes, fewer than a header"),
        (b"FASTHASH", fh.FormatError, "8 bytes, fewer than a header"),
        (bytes(4096), fh.FormatError, "does not begin with 'FASTHASH'"),
        (fh.FlatIndex(64).to_bytes()[:-1], fh.FormatError, "file ends within the section 'levels'"),
        (fh.FlatIndex(64).to_bytes() + b"0", fh.FormatError, "file has 193 bytes, its header describes 192"),
    ],
)
@pytest.mark.parametrize("how", [fh.FlatIndex, fh.HierIndex])
def test_refused_bytes(how, data, error, message):
    with pytest.raises(error, match=re.escape(message)):
        how.from_bytes(data)


def test_bytes_of_the_other_kind_are_refused():
    with pytest.raises(TypeError, match="data must hold a FlatIndex, holds a HierIndex"):
        fh.FlatIndex.from_bytes(fh.HierIndex().to_bytes())
    with pytest.raises(TypeError, match="data must hold a HierIndex, holds a FlatIndex"):
        fh.HierIndex.from_bytes(fh.FlatIndex(64).to_bytes())


class Named(fh.HierIndex):
    """A subclass with an attribute of its own."""

    def __init__(self, name):
        super().__init__((8, 8))
        self.name = [name]


class NamedKeys(fh.KeyedIndex):
    def __init__(self, name):
        super().__init__(fh.FlatIndex(16))
        self.name = [name]


@pytest.mark.parametrize("made", [Named, NamedKeys])
@pytest.mark.parametrize("way", ["copy", "deepcopy", "pickle", "method"])
def test_copies_have_the_attributes(made, way):
    index = made("photos")
    index.note, index.itself = "of 2024", index
    index.search(np.zeros((1, 2), np.uint8), 1)  # which keeps facts in attributes
    again = {
        "copy": copy.copy,
        "deepcopy": copy.deepcopy,
        "pickle": lambda index: pickle.loads(pickle.dumps(index)),
        "method": lambda index: index.copy(),
    }[way](index)
    assert (type(again), again.name, again.note) == (made, ["photos"], "of 2024")
    shares = way in ("copy", "method")
    assert (again.name is index.name) == shares
    assert again.itself is (index if shares else again)
    again.add(np.zeros((1, 2), np.uint8), *([["a"]] if made is NamedKeys else []))
    assert (len(index), len(again)) == (0, 1)


def test_a_pickled_reader_has_its_attributes(tmp_path):
    fh.Store(tmp_path / "store", "w", n_bits=16).close()
    reader = fh.Store(tmp_path / "store")
    assert "note" not in vars(pickle.loads(pickle.dumps(reader)))
    reader.note = "of 2024"
    assert pickle.loads(pickle.dumps(reader)).note == "of 2024"
