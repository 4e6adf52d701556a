"""Queries, filters, ids and codes in the forms that people have them, and what notebooks show."""

import numpy as np
import pytest

import fasthash as fh
from bad_input import CODES
from indices import PLANS

RNG = np.random.default_rng(25)
N = 300
GALLERY = RNG.integers(0, 256, (N, 4), dtype=np.uint8)
QUERIES = np.concatenate([GALLERY[:4], RNG.integers(0, 256, (4, 4), dtype=np.uint8)])
IDS = RNG.permutation(1000)[:N]


@pytest.fixture(params=["flat", *PLANS])
def index(request):
    index = fh.FlatIndex(32) if request.param == "flat" else fh.HierIndex((8, 24), plan=request.param)
    index.add(GALLERY, IDS)
    return index


def same(ours, theirs):
    assert type(ours) is type(theirs)
    if isinstance(ours, tuple):
        for a, b in zip(ours, theirs, strict=True):
            same(a, b)
    else:
        assert (ours.dtype.kind, ours.shape) == (theirs.dtype.kind, theirs.shape)
        np.testing.assert_array_equal(ours, theirs)


# ---- integers ----


@pytest.mark.parametrize("n_bits", [1, 7, 8, 42, 63, 64])
@pytest.mark.parametrize("dtype", [np.uint64, np.int64])
def test_integers_of_an_array(n_bits, dtype):
    high = 2**n_bits if dtype == np.uint64 else 2 ** (n_bits - 1)
    values = RNG.integers(0, high, 50, dtype=dtype)
    codes = fh.codes_from_ints(values, n_bits)
    bits = np.array([[int(value) >> (n_bits - 1 - j) & 1 for j in range(n_bits)] for value in values], np.uint8)
    np.testing.assert_array_equal(codes, fh.pack_bits(bits))
    np.testing.assert_array_equal(fh.codes_from_ints(values.tolist(), n_bits), codes)
    back = fh.codes_to_ints(codes, n_bits)
    assert back.dtype == np.uint64
    np.testing.assert_array_equal(back, values.astype(np.uint64))


@pytest.mark.parametrize("n_bits", [2, 42, 64, 65, 100, 881])
def test_negative_numbers_are_twos_complements(n_bits):
    values = [0, 1, -1, 2 ** (n_bits - 1) - 1, -(2 ** (n_bits - 1))]
    codes = fh.codes_from_ints(values, n_bits)
    assert list(fh.codes_to_ints(codes, n_bits, signed=True)) == values
    unsigned = [value % 2**n_bits for value in values]
    assert [int(value) for value in fh.codes_to_ints(codes, n_bits)] == unsigned
    np.testing.assert_array_equal(fh.codes_from_ints(unsigned, n_bits), codes)
    if n_bits <= 64:
        np.testing.assert_array_equal(fh.codes_from_ints(np.array(values), n_bits), codes)


def test_arrays_of_bytes_keep_zeros_at_the_end():
    hashes = [b"\xff" * 7 + b"\0", b"\xfe" * 7 + b"\0", b"\xfe" * 6 + b"\0\1"]
    np.testing.assert_array_equal(fh.perceptual_codes(np.array(hashes, "S8")[::2]), fh.perceptual_codes(hashes[::2]))
    np.testing.assert_array_equal(fh.perceptual_codes(np.array(hashes[:2], "S8")), fh.perceptual_codes(hashes[:2]))


def test_integers_agree_with_perceptual_codes():
    values = RNG.integers(0, 2**63, 20, dtype=np.uint64)
    np.testing.assert_array_equal(fh.codes_from_ints(values, 64), fh.perceptual_codes(values))
    assert fh.codes_from_ints([], 42).shape == (0, 6)
    assert fh.codes_to_ints(np.empty((0, 6), np.uint8), 42).shape == (0,)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fh.codes_from_ints([4], 2), ValueError, r"values\[0\]: expected a whole number of 2 bits, got 4"),
        (lambda: fh.codes_from_ints([1, -3], 2), ValueError, r"values\[1\]: expected a whole number of 2 bits, got -3"),
        (lambda: fh.codes_from_ints(np.array([1, 256]), 8), ValueError, r"values\[1\]: .* of 8 bits, got 256"),
        (lambda: fh.codes_from_ints(np.array([1, -129]), 8), ValueError, r"values\[1\]: .* of 8 bits, got -129"),
        (lambda: fh.codes_from_ints([1.0], 8), TypeError, r"values\[0\]: expected an integer, got 1.0"),
        (lambda: fh.codes_from_ints([True], 8), TypeError, r"values\[0\]: expected an integer, got True"),
        (lambda: fh.codes_from_ints(np.ones(3), 8), TypeError, "values must be integers, got dtype float64"),
        (lambda: fh.codes_from_ints(np.ones((3, 1), int), 8), ValueError, r"values must have one axis, .*\(3, 1\)"),
        (lambda: fh.codes_from_ints("12", 8), TypeError, "values must be a sequence of integers, got str"),
        (lambda: fh.codes_from_ints(5, 42), TypeError, "values must be a sequence of integers, got int"),
        (lambda: fh.codes_from_ints({5: 1}, 42), TypeError, "values must be a sequence of integers, got dict"),
        (lambda: fh.codes_from_ints({5}, 42), TypeError, "values must be a sequence of integers, got set"),
        (lambda: fh.codes_from_ints([1], 0), ValueError, "n_bits must be at least 1, got 0"),
        (lambda: fh.codes_to_ints(CODES, 60), ValueError, "codes must have zeros in the low 4 bits"),
        (lambda: fh.codes_to_ints(CODES, 72), ValueError, r"codes must have shape \(n, 9\) for 72 bits"),
        (lambda: fh.codes_to_ints(CODES, signed=1), TypeError, "signed must be True or False, got 1"),
    ],
)
def test_integers_that_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


# ---- one query ----


def test_one_code_is_a_batch_of_one(index):
    one, batch = QUERIES[5], QUERIES[5:6]
    same(index.search(one, 3), index.search(batch, 3))
    same(index.range_search(one, 9), index.range_search(batch, 9))
    same(index.count_within(one, 9), index.count_within(batch, 9))
    same(index.search(one, 3, allow=IDS[:9], stats=True), index.search(batch, 3, allow=IDS[:9], stats=True))
    for wrong in (one[:3], np.zeros(5, np.uint8)):
        with pytest.raises(ValueError, match=r"queries must have shape \(n, 4\) for 32 bits, got"):
            index.search(wrong, 3)
    with pytest.raises(ValueError, match=r"codes must have shape .*; for a single code use code\[None\]"):
        index.add(one)


def test_iteration_over_a_result_is_over_its_fields(index):
    distances, ids = result = index.search(QUERIES, 3)
    assert distances is result.distances
    assert ids is result.ids
    assert [tuple(map(len, pair)) for pair in result.per_query()] == [(3, 3)] * len(QUERIES)


# ---- filters ----


def searches(index, queries, allow):
    yield index.search(queries, 7, allow=allow)
    yield index.search(queries, 7, allow=allow, stats=True)
    yield index.range_search(queries, 11, allow=allow)
    yield index.range_search(queries, 11, allow=allow, stats=True)
    yield index.count_within(queries, 11, allow=allow)
    if isinstance(index, fh.HierIndex):
        yield index.search(queries, 7, keep=0.3, allow=allow)


@pytest.mark.parametrize(
    ("allow", "ids"),
    [
        (set(IDS[:50].tolist()), IDS[:50]),
        (frozenset(IDS[:50]), IDS[:50]),
        (dict.fromkeys(IDS[:5].tolist()).keys(), IDS[:5]),
        (IDS[:50].tolist(), IDS[:50]),
        (tuple(IDS[:50].tolist()), IDS[:50]),
        (range(100, 700), np.arange(100, 700)),
        (range(700, 100, -3), np.arange(700, 100, -3)),
        (range(-5, 10**6), np.arange(-5, 10**6)),
        (range(0), np.empty(0, np.int64)),
        (set(), np.empty(0, np.int64)),
        (fh.IdFilter.from_bitmap(np.packbits(np.arange(1000) % 3 == 0)), np.arange(0, 1000, 3)),
        (
            fh.IdFilter.from_bitmap(np.packbits(np.arange(1000) % 3 == 0, bitorder="little"), bitorder="little"),
            np.arange(0, 1000, 3),
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_filters_of_every_form(index, allow, ids):
    for ours, theirs in zip(searches(index, QUERIES, allow), searches(index, QUERIES, np.array(ids)), strict=True):
        same(ours, theirs)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fh.IdFilter.from_bitmap(np.ones(3, bool)), TypeError, "bitmap must be a uint8 array of packed bits"),
        (lambda: fh.IdFilter.from_bitmap(CODES), ValueError, r"bitmap must have one axis, got shape \(3, 8\)"),
        (lambda: fh.IdFilter.from_bitmap(CODES[0], bitorder="x"), ValueError, "bitorder must be one of"),
    ],
)
def test_bitmaps_that_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_one_filter_for_each_query(index):
    shared = fh.IdFilter(IDS[::3])
    mask = np.arange(1000) % 2 == 0
    allow = [shared, None, IDS[:5], mask, shared, set(), range(500), IDS[:200].tolist()]
    one_by_one = [list(searches(index, QUERIES[q : q + 1], allow[q])) for q in range(len(QUERIES))]
    for which, ours in enumerate(searches(index, QUERIES, allow)):
        theirs = [of_query[which] for of_query in one_by_one]
        if isinstance(ours, tuple) and not hasattr(ours, "_fields"):  # with stats
            ours, work = ours
            # Queries with one filter may share a block, whose clusters are visited in an order of its own.
            np.testing.assert_allclose(work.codes_compared, [each[1].codes_compared[0] for each in theirs], rtol=0.05)
            theirs = [each[0] for each in theirs]
        if isinstance(ours, np.ndarray):
            np.testing.assert_array_equal(ours, np.concatenate(theirs))
            continue
        for found, expected in zip(ours.per_query(), theirs, strict=True):
            same(found, next(expected.per_query()))
    same(index.search(QUERIES, 3, allow=tuple(allow)), index.search(QUERIES, 3, allow=allow))


def test_filters_for_each_query_that_are_refused(index):
    with pytest.raises(ValueError, match="allow must have one filter for each of the 8 queries, got 2"):
        index.search(QUERIES, 3, allow=[None, {1}])
    with pytest.raises(TypeError, match=r"allow\[1\] must be an integer array of ids or a bool mask"):
        index.search(QUERIES[:2], 3, allow=[None, np.ones(3)])
    with pytest.raises(ValueError, match=r"allow\[0\] must have an entry for every id"):
        index.count_within(QUERIES[:2], 3, allow=[np.ones(3, bool), None])


# ---- clear ----


def test_clear(index, tmp_path):
    before = index.copy()
    settings = index.level_bits
    index.clear()
    assert (len(index), index.level_bits, index.stats()["n_segments"]) == (0, settings, 0)
    assert index.search(QUERIES, 1).ids.tolist() == [[-1]] * len(QUERIES)
    assert len(before) == N
    index.add(GALLERY[:3])
    assert index.ids().tolist() == [0, 1, 2]  # counted as in a new index
    index.save(tmp_path / "index.fh")
    mapped = fh.load(tmp_path / "index.fh", mmap=True)
    mapped.clear()
    assert len(mapped) == mapped.stats()["mapped_bytes"] == 0


def test_clear_within_a_change_is_refused(index):
    with pytest.raises(RuntimeError, match="clear"):
        index.add(GALLERY, 2000 + np.arange(N), progress=lambda share: index.clear())
    assert len(index) == N


# ---- notebooks ----


def test_tables_of_notebooks(index):
    text = index._repr_html_()
    assert text.startswith("<table><caption>")
    assert "<td>300</td>" in text
    assert "<td>32</td>" in text
    result = index.search(QUERIES, 3)
    text = result._repr_html_()
    assert text.count("<tr>") == 1 + len(QUERIES)
    assert f"<td>{result.ids[0, 0]} ({result.distances[0, 0]})</td>" in text
    assert index.search(QUERIES[:0], 3)._repr_html_().count("<tr>") == 1
    assert "(33)" not in fh.FlatIndex(32).search(QUERIES, 3)._repr_html_()  # no neighbours


def test_tables_escape_their_text():
    from fasthash._html import html_table

    plain = html_table("caption", ["head"], [["name", "cell"]])
    assert html_table("<b>", ["<i>"], [["<u>", "<script>"]]).count("<") == plain.count("<")


# ---- columns of tables ----


def columns():
    """(name, package, codes, ids) of the gallery as columns of tables."""

    def pandas(pd):
        yield "frame of bytes", pd.DataFrame(GALLERY), pd.Series(IDS)
        yield "arrays", pd.Series(list(GALLERY)), pd.Series(IDS, dtype="Int64")
        yield "bytes", pd.Series([row.tobytes() for row in GALLERY]), pd.Series(IDS).astype("uint16")

    def pyarrow(pa):
        yield "fixed lists", pa.FixedSizeListArray.from_arrays(pa.array(GALLERY.ravel()), 4), pa.array(IDS)
        yield "lists", pa.array(GALLERY.tolist(), pa.list_(pa.uint8())), pa.chunked_array([IDS[:9], IDS[9:]])
        yield "binary", pa.array([row.tobytes() for row in GALLERY], pa.binary(4)), pa.array(IDS, pa.int32())

    def polars(pl):
        yield "arrays", pl.Series(GALLERY, dtype=pl.Array(pl.UInt8, 4)), pl.Series(IDS)
        yield "binary", pl.Series([row.tobytes() for row in GALLERY]), pl.Series(IDS)

    return [("pandas", pandas), ("pyarrow", pyarrow), ("polars", polars)]


@pytest.mark.parametrize(("package", "made"), columns(), ids=lambda value: value if isinstance(value, str) else "")
def test_columns_of_tables(package, made):
    module = pytest.importorskip(package, reason=f"{package} is not installed")
    expected = fh.FlatIndex.from_arrays(GALLERY, IDS)
    for name, codes, ids in made(module):
        index = fh.FlatIndex(32)
        index.add(codes, ids)
        assert index.to_bytes() == expected.to_bytes(), name
        queries = codes.head(5) if package == "pandas" else codes[:5]
        same(index.search(queries, 3, allow=ids), expected.search(GALLERY[:5], 3))
        index.remove(ids)
        assert len(index) == 0


HASHES = [5, 2**63 - 1, 77]


def columns_of_hashes():
    """(package, columns of HASHES as integers, columns of the same as text or bytes)."""
    text = [f"{value:016x}" for value in HASHES]
    raw = [value.to_bytes(8, "big") for value in HASHES]

    def pandas(pd):
        return [pd.Series(HASHES), pd.Series(HASHES, dtype="UInt64")], [pd.Series(text), pd.Series(raw)]

    def pyarrow(pa):
        numbers = [pa.array(HASHES), pa.array(HASHES, pa.uint64()), pa.chunked_array([HASHES[:1], HASHES[1:]])]
        return numbers, [pa.array(text), pa.array(raw), pa.array(raw, pa.binary(8))]

    def polars(pl):
        return [pl.Series(HASHES)], [pl.Series(text), pl.Series(raw)]

    def torch(torch):
        return [torch.tensor(HASHES)], []

    return [("pandas", pandas), ("pyarrow", pyarrow), ("polars", polars), ("torch", torch)]


@pytest.mark.parametrize(
    ("package", "made"), columns_of_hashes(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_columns_of_hashes(package, made):
    module = pytest.importorskip(package, reason=f"{package} is not installed")
    expected = fh.codes_from_ints(HASHES, 64)
    numbers, others = made(module)
    for column in numbers:
        np.testing.assert_array_equal(fh.codes_from_ints(column, 64), expected)
        np.testing.assert_array_equal(fh.codes_from_ints(column, 72), fh.codes_from_ints(HASHES, 72))
    for column in numbers + others:
        np.testing.assert_array_equal(fh.perceptual_codes(column), expected)


def test_columns_of_hashes_with_a_gap():
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    with pytest.raises(TypeError, match=r"^values must be integers, got dtype float64"):
        fh.codes_from_ints(pa.array([5, None]), 64)
    for column in (pa.array([5, None]), pa.array(["00ff", None]), pa.array([b"\0\1", None])):
        with pytest.raises(TypeError, match=r"^hashes must "):
            fh.perceptual_codes(column)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([b"abcd", None], "codes must hold a code of 4 bytes in each row, got None in row 1"),
        ([b"abcd", b"abc"], "codes must hold a code of 4 bytes in each row, got 3 bytes in row 1"),
        ([b"abcde", b"abcde"], r"codes must have shape \(n, 4\) for 32 bits, got \(2, 5\)"),
    ],
)
def test_columns_that_are_refused(cells, message):
    with pytest.raises(ValueError, match=message):
        fh.FlatIndex(32).add(np.array([*cells, b""], object)[:2])


def test_a_missing_id_of_a_column_is_refused():
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    with pytest.raises(TypeError, match="ids must be an integer array, got dtype"):
        fh.FlatIndex(32).add(GALLERY[:2], pd.Series([1, None], dtype="Int64"))


# ---- several indices ----


@pytest.mark.parametrize("k", [1, 10, 3 * N])
def test_several_indices_at_once(k):
    parts = [GALLERY[:100], GALLERY[50:150], GALLERY[:0], GALLERY[120:]]  # the same codes and ids in several
    indices = [fh.FlatIndex.from_arrays(parts[0], IDS[:100])]
    indices += [fh.HierIndex.from_arrays(part, level_bits=32) for part in parts[1:]]
    entries = [
        (place, id, code) for place, index in enumerate(indices) for code, id in zip(*index.to_arrays(), strict=True)
    ]
    places, ids, codes = (np.array(values) for values in zip(*entries, strict=True))
    result = fh.search_all(indices, QUERIES, k)
    assert [values.shape for values in result] == [(len(QUERIES), k)] * 3
    for query, (distances, found_places, found_ids) in zip(QUERIES, result.per_query(), strict=True):
        of_query = np.unpackbits(codes ^ query, axis=1).sum(axis=1)
        order = np.lexsort((ids, places, of_query))[:k]
        np.testing.assert_array_equal(distances, of_query[order])
        np.testing.assert_array_equal(found_places, places[order])
        np.testing.assert_array_equal(found_ids, ids[order])
    n_missing = max(0, k - len(ids))
    assert (result.distances[:, k - n_missing :] == 33).all()
    assert (result.indices[:, k - n_missing :] == -1).all()
    same(fh.search_all(indices, QUERIES[0], k), fh.search_all(indices, QUERIES[:1], k))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([], QUERIES), ValueError, "indices must hold at least one index, got none"),
        (([fh.FlatIndex(32), 3], QUERIES), TypeError, "indices must be FlatIndex or HierIndex objects, got int at 1"),
        ((fh.FlatIndex(32), QUERIES), TypeError, "indices must be a sequence of indices, got FlatIndex"),
        (([fh.FlatIndex(32), fh.FlatIndex(31)], QUERIES), ValueError, "one width, got 32 bits at 0 and 31 at 1"),
        (
            ([fh.FlatIndex(32), fh.FlatIndex(32, metric="jaccard")], QUERIES),
            ValueError,
            "one metric, got hamming at 0 and jaccard at 1",
        ),
        (([fh.FlatIndex(32)], QUERIES, 0), ValueError, "k must be at least 1, got 0"),
        (([fh.FlatIndex(40)], QUERIES), ValueError, r"queries must have shape \(n, 5\)"),
    ],
)
def test_several_indices_that_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        fh.search_all(*arguments)
