"""Ids, sizes and bad input of the indices."""

import math
import re
import sys
import threading
import time

import numpy as np
import pytest

import fasthash as fh
from bad_input import CODE_ARRAYS, CODES, NO_INTEGERS, named
from galleries import GALLERIES
from indices import assert_same, filled, forms

INT64_MAX = 2**63 - 1


@pytest.fixture(params=["flat", "hier"])
def index(request):
    return fh.FlatIndex(64) if request.param == "flat" else fh.HierIndex((8, 16, 40))


def ids_of(index):
    return set(index.search(CODES[:1], len(index)).ids[0].tolist()) if len(index) else set()


def test_ids_are_counted_from_zero(index):
    index.add(CODES)
    index.add(CODES[:2])
    assert ids_of(index) == {0, 1, 2, 3, 4}


def test_counting_goes_on_after_the_largest_id(index):
    index.add(CODES, [-5, 40, 7])
    index.add(CODES[:2])
    assert ids_of(index) == {-5, 7, 40, 41, 42}


def test_given_ids_may_join_counted_ones(index):
    index.add(CODES)
    index.add(CODES, np.array([-7, INT64_MAX, 5]))
    assert ids_of(index) == {0, 1, 2, 5, -7, INT64_MAX}


def test_the_code_with_an_id_is_found_under_it(index):
    index.add(CODES, [30, 10, 20])
    np.testing.assert_array_equal(index.search(CODES, 1).ids, [[30], [10], [20]])
    np.testing.assert_array_equal(index.search(CODES, 1).distances, 0)


def test_adding_copies(index):
    codes = CODES.copy()
    index.add(codes)
    codes[:] = 255
    np.testing.assert_array_equal(index.search(CODES, 1).distances, 0)


def test_no_codes_and_no_queries(index):
    index.add(CODES[:0])
    index.add(CODES[:0], [])
    assert len(index) == 0
    result = index.search(CODES, 2)
    np.testing.assert_array_equal(result.distances, np.full((3, 2), 65))
    np.testing.assert_array_equal(result.ids, np.full((3, 2), -1))
    index.add(CODES)
    assert index.search(CODES[:0], 2).ids.shape == (0, 2)


def test_k_defaults_to_10(index):
    assert index.search(CODES).ids.shape == (3, 10)


def test_arrays_may_stand_in_memory_in_any_way(index, tmp_path):
    rng = np.random.default_rng(0)
    codes, ids = rng.integers(0, 256, (20, 8), dtype=np.uint8), rng.permutation(90)[:20]
    index.add(codes, ids)
    nearest, within, counts = index.search(codes, 3), index.range_search(codes, 20), index.count_within(codes, 20)
    for form in forms(codes, tmp_path / "codes"):
        assert_same(index.search(form, 3), nearest)
        assert_same(index.search(form, 3, stats=True)[0], nearest)
        assert_same(index.range_search(form, 20), within)
        assert_same([index.count_within(form, 20)], [counts])
        other = type(index).from_arrays(form, ids)
        assert_same(other.to_arrays(), index.to_arrays())
        other.update(ids, ~codes)
        other.update(ids, form)
        assert_same(other.search(codes, 3), nearest)
    for form in forms(ids, tmp_path / "ids"):
        other = filled(fh.HierIndex(index.level_bits), codes, form)
        assert_same(other.search(codes, 3), nearest)
        assert_same([other.reconstruct(form)], [codes])
        other.update(form, ~codes)
        other.remove(form)
        assert len(other) == 0


def test_tensors_are_arrays(index):
    torch = pytest.importorskip("torch", reason="needs the extra train")
    index.add(torch.from_numpy(CODES.copy()), torch.tensor([4, 9, 2]))
    found = index.search(torch.from_numpy(CODES.T.copy()).T, 2, allow=torch.tensor([4, 2]))
    assert_same(found, index.search(CODES, 2, allow=[4, 2]))
    with pytest.raises(TypeError, match="codes must be a uint8 array of packed bits, got dtype float32"):
        index.add(torch.zeros(3, 8))


def test_properties(index):
    index.add(CODES)
    assert len(index) == index.ntotal == 3
    assert index.n_bits == 64
    assert sum(index.level_bits) == 64
    assert bool(type(index)(8 if isinstance(index, fh.FlatIndex) else (8,)))
    assert "3 codes" in repr(index)
    stats = index.stats()
    assert (stats["n_codes"], stats["n_bits"], stats["nbytes"]) == (3, 64, index.nbytes)
    assert stats["bytes_per_code"] == index.nbytes / 3


def test_nbytes_counts_codes_ids_and_tables():
    rng = np.random.default_rng(0)
    n = 100_000
    codes = rng.integers(0, 256, (n, 8), dtype=np.uint8)
    flat = fh.FlatIndex(64)
    flat.add(codes)
    assert n * 8 <= flat.nbytes <= (n + 64) * 8  # whole groups of 64 codes; counted ids take no room
    sizes = {}
    for memory, plan in [("compact", "prefix"), ("default", "prefix"), ("fast", "multi-index")]:
        index = fh.HierIndex((8, 16, 40), memory=memory, plan=plan)
        index.add(codes)
        stats = index.stats()
        assert (stats["memory"], stats["plan"]) == (memory, plan)
        nodes = [256, len(np.unique(codes[:, :3], axis=0)), len(np.unique(codes, axis=0))]
        assert stats["nodes_per_level"] == nodes
        directories = 4 * stats["n_substrings"] * 2 ** stats["substring_bits"]
        tables = max(0, stats["n_substrings"] - 1) * n * (8 + 3)
        tails = 8 - (stats["substring_bits"] // 8 if memory == "compact" else 0)
        expected = n * (tails + 3) + n // 64 * 3 + directories + tables  # an id of less than 2^24 takes three bytes
        assert expected <= index.nbytes <= expected + 2000
        sizes[memory, plan] = index.nbytes
    assert sizes["compact", "prefix"] < sizes["default", "prefix"] < sizes["fast", "multi-index"]
    before = index.nbytes
    index.search(codes[:1], keep=0.3)
    tree = nodes[0] * (1 + 5) + nodes[1] * (
        2 + 5
    )  # prefixes, of the second level without the first; first rows, weights
    padding = nodes[0] * 64 * 7  # the nodes below each of the first level begin a group
    assert tree <= index.nbytes - before <= tree + padding + 8000  # made by the first pruned search


def test_a_scan_and_clusters_take_little_more_than_the_codes():
    codes = np.random.default_rng(0).integers(0, 256, (100_000, 8), np.uint8)
    scanned, counted, clusters = (fh.HierIndex((64,), plan=plan) for plan in ("scan", "scan", "clusters"))
    scanned.add(codes, np.random.default_rng(0).permutation(2**20)[:100_000])
    for index in (counted, clusters):
        index.add(codes)
    assert counted.nbytes <= (len(codes) + 64) * 8  # as in a flat index, ids in the order of the codes take no room
    with_ids = len(codes) * 11 + len(codes) // 64 * 3
    assert with_ids <= scanned.nbytes <= with_ids + 1000
    stats = clusters.stats()
    rings = stats["n_clusters"] * (66 * 4 + 8)
    assert with_ids + rings <= clusters.nbytes <= with_ids + rings + 1000


@pytest.mark.parametrize("memory", ["compact", "default", "fast"])
@pytest.mark.parametrize("kind", ["uniform", "clustered", "constant"])
def test_memory_is_what_the_index_may_spend(memory, kind):
    codes = GALLERIES[kind](np.random.default_rng(0), 300_000, 8)
    index = fh.HierIndex((8, 16, 40), memory=memory)
    index.add(codes)
    assert index.memory == memory
    assert index.nbytes <= len(codes) * {"compact": 10, "default": 16, "fast": 48}[memory]


def test_equal_codes_are_stored_once():
    index = fh.HierIndex((8, 56))
    index.add(np.zeros((1000, 8), np.uint8))
    assert index.stats()["n_distinct_codes"] == 1
    assert index.nbytes < 1000 * 2 + 1000  # ids below 2^16 take two bytes


@pytest.mark.parametrize("ids", [[0], [2**63 - 1, -(2**63), 0], [-7, -8], [255, 256, 65536, 2**32]])
def test_ids_of_any_range_come_back(ids):
    index = fh.HierIndex((8, 8), plan="prefix")
    codes = np.arange(2 * len(ids), dtype=np.uint8).reshape(-1, 2)
    index.add(codes, ids)
    np.testing.assert_array_equal(index.search(codes, 1).ids[:, 0], ids)


BAD_ADDS = [
    (CODES.astype(np.int64), None, TypeError, "codes must be a uint8 array of packed bits, got dtype int64"),
    (CODES.astype(np.int8), None, TypeError, "got dtype int8"),
    (CODES.astype(bool), None, TypeError, "fasthash.pack_bits packs booleans"),
    (CODES.astype(np.float32), None, TypeError, "got dtype float32"),
    (CODES.astype(object), None, TypeError, "got dtype object"),
    (CODES.view("V8"), None, TypeError, r"got dtype \|V8"),
    ([["a"] * 8], None, TypeError, "got dtype <U1"),
    (CODES.tolist(), None, TypeError, "got dtype int64"),
    (None, None, TypeError, "got dtype object"),
    (CODES[0], None, ValueError, r"codes must have shape \(n, 8\) for 64 bits, got \(8,\); .* code\[None\]"),
    (CODES[None], None, ValueError, r"got \(1, 3, 8\)"),
    (np.uint8(3), None, ValueError, r"got \(\)"),
    (CODES[:, :7], None, ValueError, r"got \(3, 7\)"),
    (CODES[:, :0], None, ValueError, r"got \(3, 0\)"),
    (CODES, [0, 1], ValueError, r"ids must have shape \(3,\), one for each code, got \(2,\)"),
    (CODES, 3, ValueError, r"ids must have shape \(3,\)"),
    (CODES, [[0, 1, 2]], ValueError, r"got \(1, 3\)"),
    (CODES, [0.0, 1.0, 2.0], TypeError, "ids must be an integer array, got dtype float64"),
    (CODES, np.array([0, 1, 2**63], np.uint64), ValueError, f"ids must fit int64, got {2**63}"),
    (CODES, [2**63, 1, 2], ValueError, f"ids must fit int64, got {2**63}"),
    (CODES, ["a", "b", "c"], TypeError, "got dtype <U1"),
    (CODES, [True, False, True], TypeError, "got dtype bool"),
    (CODES, [300, True, 302], TypeError, r"ids must be integers, got a list with a bool: \[300, True, 302\]"),
    (CODES, (300, 301, np.True_), TypeError, "ids must be integers, got a tuple with a bool"),
    (CODES, [0, -1, 2], ValueError, "ids must not hold -1"),
    (CODES, [4, 5, 4], ValueError, "ids must be distinct, got 4 twice"),
    (CODES, [200, 102, 300], ValueError, "ids must be new to the index, but it holds 102 already"),
]


@pytest.mark.parametrize(("codes", "ids", "error", "message"), BAD_ADDS)
@pytest.mark.parametrize("before", [None, [100, 101, 102]], ids=["counted", "given"])
def test_a_refused_add_changes_nothing(index, codes, ids, error, message, before):
    index.add(CODES, [100, 101, 102] if before else None)
    if before is None and "102" in message:
        ids, message = [200, 2, 300], message.replace("102", "2")
    held, nbytes = ids_of(index), index.nbytes
    with pytest.raises(error, match=message):
        index.add(codes, ids)
    assert ids_of(index) == held
    assert index.nbytes == nbytes
    index.add(CODES[:1])
    assert ids_of(index) - held == {max(held) + 1}


RAGGED = [[0, 1], [2]]


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("codes", lambda index: index.add(RAGGED)),
        ("ids", lambda index: index.add(CODES[:2], RAGGED)),
        ("ids", lambda index: index.remove(RAGGED)),
        ("queries", lambda index: index.search(RAGGED)),
        ("allow", lambda index: index.search(CODES, allow=RAGGED)),
        ("allowed", lambda index: fh.IdFilter(RAGGED)),
    ],
)
def test_lists_that_are_no_arrays(index, name, call):
    index.add(CODES)
    with pytest.raises((TypeError, ValueError), match=f"^{name} must"):
        call(index)


METHODS = {
    "add": (CODES,),
    "remove": ([1],),
    "update": ([1], CODES[:1]),
    "merge": (fh.FlatIndex(64),),
    "reconstruct": ([1],),
    "search": (CODES,),
    "range_search": (CODES, 3),
    "count_within": (CODES, 3),
    "save": ("never.fh",),
    "__contains__": (1,),
    **dict.fromkeys(["compact", "copy", "to_arrays", "to_bytes", "stats", "__len__", "__repr__", "__reduce__"], ()),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("how", [fh.FlatIndex, fh.HierIndex])
def test_an_index_that_was_never_made_is_no_crash(how, method):
    index = how.__new__(how)
    with pytest.raises(AttributeError, match="_impl"):
        getattr(index, method)(*METHODS[method])
    with pytest.raises(AttributeError, match="_impl"):
        fh.FlatIndex(64).merge(index)
    with pytest.raises(AttributeError, match="_impl"):
        fh.FlatIndex(64).search(CODES, allow=fh.IdFilter.__new__(fh.IdFilter))


def test_ids_at_the_end_of_int64(index):
    index.add(CODES[:1], [INT64_MAX])
    with pytest.raises(ValueError, match="it holds 9223372036854775807 already"):
        index.add(CODES[:1], [INT64_MAX])
    with pytest.raises(ValueError, match="ids must be given: counting 1 on from 9223372036854775808"):
        index.add(CODES[:1])
    index.add(CODES[:1], [-(2**63)])
    assert ids_of(index) == {INT64_MAX, -(2**63)}


BAD_SEARCHES = [
    *(((queries, 1), error, message) for queries, error, message in named("queries", CODE_ARRAYS)),
    *(((CODES, k), error, message) for k, error, message in named("k", NO_INTEGERS)),
    *(((CODES, k), ValueError, f"k must be at least 1, got {k}") for k in (0, -1, np.int8(-3), -(2**64))),
    *(((CODES, k), ValueError, f"k must be at most 2147483647, got {k}") for k in (2**31, np.int64(2**40), 2**64)),
]


@pytest.mark.parametrize(("arguments", "error", "message"), BAD_SEARCHES)
def test_refused_searches(index, arguments, error, message):
    index.add(CODES)
    for options in ({}, {"stats": True}):
        with pytest.raises(error, match=re.escape(message)):
            index.search(*arguments, **options)


def test_numpy_integers_are_integers(index):
    assert index.search(CODES, np.int32(2)).ids.shape == (3, 2)


@pytest.mark.parametrize(
    ("keep", "mode", "error", "message"),
    [
        (0, "radius", ValueError, "keep must be above 0 and at most 1, got 0"),
        (-0.1, "radius", ValueError, "keep must be above 0 and at most 1, got -0.1"),
        (1.01, "radius", ValueError, "keep must be above 0 and at most 1, got 1.01"),
        (math.nan, "radius", ValueError, "got nan"),
        (math.inf, "radius", ValueError, "got inf"),
        (True, "radius", TypeError, "keep must be a number, got True"),
        ("0.3", "radius", TypeError, "keep must be a number, got '0.3'"),
        (0.3, "nodes", ValueError, "keep_mode must be one of 'node_ratio', 'gallery_ratio', 'radius', got 'nodes'"),
        (None, "nodes", ValueError, "keep_mode must be one of"),
        (-math.inf, "radius", ValueError, "keep must be above 0 and at most 1, got -inf"),
        (2, "radius", ValueError, "keep must be above 0 and at most 1, got 2"),
        (0.0, "radius", ValueError, "keep must be above 0 and at most 1, got 0.0"),
        (np.False_, "radius", TypeError, "keep must be a number, got"),
        (0.3j, "radius", TypeError, "keep must be a number, got 0.3j"),
        ([0.3], "radius", TypeError, r"keep must be a number, got \[0.3\]"),
        (np.array([0.3, 0.4]), "radius", TypeError, r"keep must be a number, got array\(\[0.3, 0.4\]\)"),
        (0.3, "NODE_RATIO", ValueError, "keep_mode must be one of .*, got 'NODE_RATIO'"),
        (0.3, "", ValueError, "keep_mode must be one of .*, got ''"),
        (0.3, None, ValueError, "keep_mode must be one of .*, got None"),
        (0.3, 1, ValueError, "keep_mode must be one of .*, got 1"),
        (0.3, ["radius"], ValueError, r"keep_mode must be one of .*, got \['radius'\]"),
    ],
)
def test_refused_pruning(keep, mode, error, message):
    with pytest.raises(error, match=message):
        fh.HierIndex((8, 16, 40)).search(CODES, 1, keep=keep, keep_mode=mode)


def test_a_flat_index_has_no_levels_to_prune():
    with pytest.raises(TypeError, match="keep"):
        fh.FlatIndex(64).search(CODES, 1, keep=0.3)


@pytest.mark.parametrize(
    ("n_bits", "error", "message"),
    [
        (0, ValueError, "n_bits must be at least 1, got 0"),
        (4097, ValueError, "n_bits must be at most 4096, got 4097"),
        (4104, ValueError, "n_bits must be at most 4096, got 4104"),
        (-8, ValueError, "n_bits must be at least 1, got -8"),
        (64.0, TypeError, "n_bits must be an integer, got 64.0"),
        ("64", TypeError, "n_bits must be an integer, got '64'"),
        (True, TypeError, "n_bits must be an integer, got True"),
        (None, TypeError, "n_bits must be an integer, got None"),
        (math.nan, TypeError, "n_bits must be an integer, got nan"),
        (math.inf, TypeError, "n_bits must be an integer, got inf"),
        (b"8", TypeError, "n_bits must be an integer, got b'8'"),
        (8j, TypeError, "n_bits must be an integer, got 8j"),
        (np.float32(8), TypeError, "n_bits must be an integer, got"),
        (2**63, ValueError, "n_bits must be at most 4096, got 9223372036854775808"),
        (2**64 + 8, ValueError, "n_bits must be at most 4096, got 18446744073709551624"),
        (-(2**63), ValueError, "n_bits must be at least 1, got -9223372036854775808"),
    ],
)
def test_refused_widths(n_bits, error, message):
    with pytest.raises(error, match=message):
        fh.FlatIndex(n_bits)
    with pytest.raises(error, match=message.replace("n_bits", "level_bits")):
        fh.HierIndex((8, n_bits))


@pytest.mark.parametrize(
    ("level_bits", "error", "message"),
    [
        ((), ValueError, r"level_bits must name at least one level, got \(\)"),
        ((4096, 8), ValueError, r"level_bits must sum to at most 4096 bits, got \(4096, 8\)"),
        ((8,) * 513, ValueError, "level_bits must sum to at most 4096 bits"),
        (0, ValueError, "level_bits must be at least 1, got 0"),
        ((12, 52), ValueError, "level_bits must be a multiple of 8, got 12"),
        (4104, ValueError, "level_bits must be at most 4096, got 4104"),
        (64.0, TypeError, "level_bits must be a sequence of integers, got 64.0"),
        ("88", TypeError, "level_bits must be a sequence of integers, got '88'"),
        ({8, 16}, TypeError, "level_bits must be a sequence of integers"),
        ([[8, 8]], TypeError, r"level_bits must be an integer, got \[8, 8\]"),
        (None, TypeError, "level_bits must be a sequence of integers, got None"),
        (True, TypeError, "level_bits must be a sequence of integers, got True"),
        ({8: 16}, TypeError, "level_bits must be a sequence of integers, got {8: 16}"),
        (b"\x08", TypeError, "level_bits must be a sequence of integers, got b'"),
        (np.array(64), TypeError, r"level_bits must be a sequence of integers, got array\(64\)"),
        (iter((8, 8)), TypeError, "level_bits must be a sequence of integers, got <tuple_iterator"),
        (np.zeros(0, int), ValueError, r"level_bits must name at least one level, got array\(\[\]"),
        ([], ValueError, r"level_bits must name at least one level, got \[\]"),
        (np.array([8.0, 16.0]), TypeError, "level_bits must be an integer, got"),
        ((8, None), TypeError, "level_bits must be an integer, got None"),
        (("8", "16"), TypeError, "level_bits must be an integer, got '8'"),
        ((8, -8, 64), ValueError, "level_bits must be at least 8, got -8"),
        ((2048, 2048, 8), ValueError, r"level_bits must sum to at most 4096 bits, got \(2048, 2048, 8\)"),
    ],
)
def test_refused_levels(level_bits, error, message):
    with pytest.raises(error, match=message):
        fh.HierIndex(level_bits)


def test_one_level_is_an_integer():
    codes = np.random.default_rng(0).integers(0, 256, (50, 8), np.uint8)
    for index in (fh.HierIndex(64), fh.HierIndex(n_bits=64), fh.HierIndex(np.int64(64)), fh.HierIndex((64,))):
        assert (index.level_bits, index.n_bits) == ((64,), 64)
        index.add(codes)
        assert index.to_bytes() == fh.HierIndex.from_arrays(codes).to_bytes()
    assert fh.HierIndex.from_arrays(codes, level_bits=64).level_bits == (64,)
    assert fh.HierIndex().level_bits == (8, 16, 40)
    for wrong, error, message in (
        ({"n_bits": 0}, ValueError, "n_bits must be at least 1, got 0"),
        ({"n_bits": (64,)}, TypeError, r"n_bits must be an integer, got \(64,\)"),
        (
            {"n_bits": 64, "level_bits": (8, 56)},
            ValueError,
            "n_bits must be left out beside level_bits, got n_bits = 64",
        ),
    ):
        with pytest.raises(error, match=message):
            fh.HierIndex(**wrong)


def test_zeros_and_ones_that_nobody_packed():
    """Where the array tells the width, bits would become codes eight times as wide."""
    bits = np.random.default_rng(0).integers(0, 2, (10, 64), np.uint8)
    for take in (fh.FlatIndex.from_arrays, fh.HierIndex.from_arrays, lambda codes: fh.near_duplicates(codes, 3)):
        with pytest.raises(ValueError, match=r"codes must be packed, .*fasthash.pack_bits\(codes\) packs bits"):
            take(bits)
        take(fh.pack_bits(bits))
        take(bits[:, :8])  # may be codes
        take(np.zeros((3, 64), np.uint8))
    with pytest.raises(ValueError, match=r"got \(10, 64\); fasthash.pack_bits\(codes\) packs zeros and ones"):
        fh.HierIndex(64).add(bits)
    wide = fh.FlatIndex(512)
    wide.add(bits)  # the width is named
    assert len(wide) == 10


@pytest.mark.parametrize(
    ("codes", "line"),
    [
        (np.full((3, 8), -128, np.int8), "codes.view(np.uint8) ^ 128"),
        (np.arange(3, dtype=np.uint64) << np.uint64(60), "fasthash.codes_from_ints(codes, n_bits)"),
        (-np.arange(3), "fasthash.codes_from_ints(codes, n_bits)"),
        (np.arange(3, dtype=np.int32), "fasthash.codes_from_ints(codes, n_bits)"),
        ([5, 7], "fasthash.codes_from_ints(codes, n_bits)"),
        ([[1, 2, 3, 4, 5, 6, 7, 255]], "np.asarray(codes, dtype=np.uint8)"),
        (np.eye(64, dtype=np.int64), "fasthash.pack_bits(codes)"),
        (["00ff00ff00ff00ff"], "fasthash.perceptual_codes(codes) reads hexadecimal digits"),
        ([b"\0\xff\0\xff\0\xff\0\0"], "fasthash.perceptual_codes(codes) makes codes of bytes"),
        (np.array([b"\0\xff\0\xff\0\xff\0\1"] * 2), "fasthash.perceptual_codes(codes) makes codes of bytes"),
        (-np.ones((2, 64), np.float32), "fasthash.sign_codes(codes)"),
        (np.ones((2, 64), np.float32), "fasthash.pack_bits(codes > 0)"),
        (np.eye(64), "fasthash.pack_bits(codes > 0)"),
        ([2**63 + 5, 7], "fasthash.codes_from_ints(codes, n_bits)"),  # numpy makes floats of them
        ([], "np.empty((0, n_bits // 8), dtype=np.uint8)"),
    ],
)
def test_a_refused_type_comes_with_the_line_that_converts_it(codes, line):
    import fasthash

    index = fh.FlatIndex(64)
    with pytest.raises(TypeError, match=re.escape(f"; {line}")):
        index.add(codes)
    expression = re.split(" (?:reads|makes) ", line)[0]
    index.add(eval(expression, {"fasthash": fasthash, "np": np, "codes": codes, "n_bits": 64}))
    assert len(index) == len(codes)


def test_a_single_code_as_text_or_bytes_is_put_into_a_list():
    for code, what in ((bytes(range(1, 9)), "makes codes of bytes"), ("00ff" * 4, "reads hexadecimal digits")):
        with pytest.raises(TypeError, match=re.escape(f"; fasthash.perceptual_codes([queries]) {what}")):
            fh.FlatIndex(64).search(code)


def test_rows_of_a_cursor_get_no_advice_that_fails():
    with pytest.raises(TypeError, match=r"^codes must be a uint8 array of packed bits, got dtype \|S8$"):
        fh.FlatIndex(64).add([(bytes(range(1, 9)),)])


def test_int8_embeddings_of_sentence_transformers():
    """Its precision 'binary' is numpy.packbits less 128."""
    expected = np.arange(256, dtype=np.uint8).reshape(32, 8)
    theirs = (expected.astype(np.int16) - 128).astype(np.int8)
    np.testing.assert_array_equal(theirs.view(np.uint8) ^ 128, expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"memory": "small"}, "memory must be one of 'compact', 'default', 'fast', got 'small'"),
        ({"plan": "tree"}, "plan must be one of 'auto', 'scan', 'prefix', 'multi-index', 'clusters', got 'tree'"),
        ({"memory": None}, "memory must be one of .*, got None"),
        ({"memory": "FAST"}, "memory must be one of .*, got 'FAST'"),
        ({"memory": 2}, "memory must be one of .*, got 2"),
        ({"plan": None}, "plan must be one of .*, got None"),
        ({"plan": "multi_index"}, "plan must be one of .*, got 'multi_index'"),
        ({"plan": ""}, "plan must be one of .*, got ''"),
        ({"plan": 0}, "plan must be one of .*, got 0"),
        ({"plan": ["scan"]}, r"plan must be one of .*, got \['scan'\]"),
    ],
)
def test_refused_options(options, message):
    with pytest.raises(ValueError, match=message):
        fh.HierIndex((8, 8), **options)


def test_the_widest_and_the_narrowest_codes():
    for layout in [(8,), (4096,), (8,) * 512]:
        index = fh.HierIndex(np.array(layout))
        code = np.full((1, sum(layout) // 8), 255, np.uint8)
        index.add(code)
        assert index.search(code * 0, 1).distances[0, 0] == sum(layout)


@pytest.mark.parametrize(
    "call",
    [
        *("add", "remove", "update", "merge", "compact", "reconstruct", "to_arrays", "search", "range_search"),
        *("count_within", "filtered", "save", "load", "to_bytes", "from_bytes"),
    ],
)
def test_the_core_runs_without_the_gil(call, tmp_path):
    """Another Python thread makes progress although the interpreter would not switch to it by itself."""
    index = fh.FlatIndex(4096)
    codes = np.zeros((20_000, 512), np.uint8)
    index.add(codes)
    index.save(tmp_path / "index.fh")
    ids, data = np.arange(len(codes)), index.to_bytes()
    calls = {
        "add": lambda: fh.HierIndex((8,) * 512).add(codes[:2000]),
        "remove": lambda: index.copy().remove(ids[::5]),
        "update": lambda: index.copy().update(ids[::5], codes[::5]),
        "merge": lambda: fh.FlatIndex(4096).merge(index),
        "compact": lambda: filled(index.copy(), codes[:1]).compact(),
        "reconstruct": lambda: index.reconstruct(ids),
        "to_arrays": index.to_arrays,
        "search": lambda: index.search(codes[:20], 1),
        "range_search": lambda: index.range_search(codes[:20], 1),
        "count_within": lambda: index.count_within(codes[:20], 1),
        "filtered": lambda: index.search(codes[:1], 1, allow=ids[::100]),
        "to_bytes": index.to_bytes,
        "from_bytes": lambda: fh.FlatIndex.from_bytes(data),
        "save": lambda: index.save(tmp_path / "index.fh"),
        "load": lambda: fh.load(tmp_path / "index.fh"),
    }
    steps = []
    done, started = threading.Event(), threading.Event()

    def count():
        while not done.is_set():
            steps.append(None)
            started.set()
            time.sleep(0.0001)

    counter = threading.Thread(target=count)
    interval = sys.getswitchinterval()
    counter.start()
    started.wait()
    try:
        sys.setswitchinterval(60)  # who has the GIL keeps it, unless it gives it away
        before = len(steps)
        for _ in range(100):  # on a busy machine the other thread may miss a call or two
            calls[call]()
            during = len(steps) - before
            if during > 0:
                break
    finally:
        sys.setswitchinterval(interval)
        done.set()
        counter.join()
    assert during > 0


def test_readers_cannot_keep_a_writer_waiting(index):
    """With searches that overlap all the time, an add still gets its turn."""
    index.add(np.zeros((20_000, 8), np.uint8))
    queries = np.zeros((500, 8), np.uint8)
    done = threading.Event()

    def look():
        while not done.is_set():
            index.search(queries, 5)

    readers = [threading.Thread(target=look) for _ in range(8)]
    writer = threading.Thread(target=index.add, args=(CODES,))
    for thread in [*readers, writer]:
        thread.start()
    writer.join(timeout=20)
    waiting = writer.is_alive()
    done.set()
    for thread in [*readers, writer]:
        thread.join()
    assert not waiting


def test_searches_while_another_thread_adds(index):
    """Every search sees the index before or after an add, never between."""
    rng = np.random.default_rng(0)
    batches = rng.integers(0, 256, (30, 50, 8), dtype=np.uint8)
    problems = []

    def look():
        while not done.is_set():
            found = index.search(CODES[:1], 2000).ids[0]
            n = int((found >= 0).sum())
            if n % 50 or set(found[:n].tolist()) != set(range(n)):
                problems.append(n)

    done = threading.Event()
    readers = [threading.Thread(target=look) for _ in range(4)]
    for reader in readers:
        reader.start()
    for batch in batches:
        index.add(batch)
    done.set()
    for reader in readers:
        reader.join()
    assert len(index) == 1500
    assert problems == []


@pytest.mark.parametrize("index", [fh.FlatIndex(64), fh.HierIndex()], ids=["flat", "hier"])
@pytest.mark.parametrize("wrong", [1, 0, "no", None])
def test_stats_is_true_or_false(index, wrong):
    queries = np.zeros((1, 8), np.uint8)
    for search in (index.search, index.range_search):
        with pytest.raises(TypeError, match=f"stats must be True or False, got {wrong!r}"):
            search(queries, 1, stats=wrong)


# ---- ids and results as people have them ----


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "u4", ">i8", "u8"])
def test_ids_of_any_integer_type(dtype):
    ids = np.array([7, 3, 120], dtype=dtype)
    index = fh.FlatIndex.from_arrays(CODES, ids)
    assert index.ids().dtype == np.int64
    np.testing.assert_array_equal(index.ids(), [3, 7, 120])
    np.testing.assert_array_equal(index.reconstruct(ids), CODES)
    np.testing.assert_array_equal(
        index.search(CODES[:1], 3, allow=ids[1:]).ids[0, :2], index.search(CODES[:1], 3, allow=[3, 120]).ids[0, :2]
    )
    index.remove(ids[:1])
    assert 7 not in index


def test_the_code_of_one_id():
    index = fh.HierIndex.from_arrays(CODES, level_bits=[8, 56])
    np.testing.assert_array_equal(index.reconstruct(1), CODES[1])
    np.testing.assert_array_equal(index.reconstruct(np.int32(2)), CODES[2])
    with pytest.raises(ValueError, match="9"):
        index.reconstruct(9)


def test_results_of_each_query():
    index = fh.FlatIndex.from_arrays(CODES)
    result = index.search(CODES, 5)
    rows = list(result.per_query())
    assert len(rows) == len(CODES)
    for q, (distances, ids) in enumerate(rows):
        assert ids.tolist() == result.ids[q, :3].tolist()
        assert distances.tolist() == result.distances[q, :3].tolist()
    assert list(index.search(CODES[:0], 5).per_query()) == []


@pytest.mark.parametrize("k", [2**31 - 1, 2**30])
def test_results_beyond_the_memory_are_refused(k):
    """Allocating them would end the process: systems promise more memory than they have."""
    index = fh.FlatIndex(64)
    index.add(np.zeros((3, 8), np.uint8))
    queries = np.zeros((1000, 8), np.uint8)
    for search in (index.search, lambda *some: fh.search_all([index, index], *some)):
        with pytest.raises(MemoryError, match=rf"k={k:,} makes [\d,.]+ GB of results with queries.shape.0.=[12],000, "):
            search(queries, k)


def test_statistics_of_many_queries_print_shortly():
    index = fh.FlatIndex.from_arrays(np.zeros((3, 1), np.uint8))
    few, many = (index.search(np.zeros((n, 1), np.uint8), 1, stats=True)[1] for n in (2, 5000))
    assert repr(few).startswith("SearchStats(plan=array(['scan', 'scan'], ")
    assert "..." in repr(many)
    assert len(repr(many)) < 1000
