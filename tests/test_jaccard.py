"""Jaccard distance: every search against fractions in plain Python and numpy."""

import itertools
import threading
from fractions import Fraction

import numpy as np
import pytest

import fasthash as fh
import reference
from fasthash import _core
from galleries import queries_for, sparse

KINDS = {"flat": fh.FlatIndex, "hier": fh.HierIndex}
WIDTHS = [8, 16, 64, 168, 520, 2048, 4096]


def assert_same(result, expected):
    distances, ids = expected
    assert result.distances.dtype == np.float32
    np.testing.assert_array_equal(result.ids, ids)
    np.testing.assert_array_equal(result.distances, distances)


def assert_within(index, queries, codes, ids, radius, **options):
    found = index.range_search(queries, radius, **options)
    near = reference.jaccard(queries, codes).astype(np.float32) <= np.float32(radius)
    np.testing.assert_array_equal(np.diff(found.offsets), near.sum(axis=1))
    np.testing.assert_array_equal(index.count_within(queries, radius, **options), near.sum(axis=1))
    expected = reference.jaccard_search(queries, codes, ids, len(codes))
    for q, (distances, found_ids) in enumerate(found.per_query()):
        n = near[q].sum()
        np.testing.assert_array_equal(found_ids, expected[1][q, :n])
        np.testing.assert_array_equal(distances, expected[0][q, :n])


@pytest.fixture(params=_core.simd_levels())
def simd(request):
    before = _core.simd_level()
    _core.set_simd_level(request.param)
    yield
    _core.set_simd_level(before)


@pytest.mark.usefixtures("simd")
@pytest.mark.parametrize("n", [1, 63, 64, 65, 511, 513, 1700])
@pytest.mark.parametrize("n_bits", WIDTHS)
def test_searches_agree_with_the_slow_path(n_bits, n):
    rng = np.random.default_rng(n + n_bits)
    codes, ids = sparse(rng, n, n_bits), rng.permutation(3 * n)[:n] - n
    ids[ids == -1] = 5 * n
    index = fh.FlatIndex.from_arrays(codes, ids, metric="jaccard")
    queries = queries_for(rng, codes)
    for k in (1, 7, n + 3):
        assert_same(index.search(queries, k), reference.jaccard_search(queries, codes, ids, k))
    for radius in (0, 0.2, 0.5, 0.9, 1):
        assert_within(index, queries, codes, ids, radius)


def test_the_order_is_that_of_fractions():
    """Against `fractions.Fraction`: distances such as 1000/4000 and 1001/4003, which differ in the fifth digit."""
    rng = np.random.default_rng(0)
    query = np.arange(4096) < 3000
    codes = np.array([np.arange(4096) < n for n in [*range(2900, 3100), 2250, 4000, 1500]])
    codes[:200:3, rng.integers(0, 3000, 50)] ^= True
    index = fh.FlatIndex.from_arrays(np.packbits(codes, axis=1), metric="jaccard")
    exact = [Fraction(int((query ^ code).sum()), int((query | code).sum())) for code in codes]
    order = sorted(range(len(codes)), key=lambda row: (exact[row], row))
    result = index.search(np.packbits(query)[None], len(codes))
    assert result.ids[0].tolist() == order
    assert result.distances[0].tolist() == [np.float32(exact[row].numerator / exact[row].denominator) for row in order]


def test_equal_fractions_of_different_numbers_are_ties():
    """1/2 as 1 of 2, 2 of 4 and 3 of 6 bits: ordered by id alone."""
    query = np.packbits([1, 0, 0, 0, 0, 0, 0, 0])
    codes = np.packbits([[1, 1, 0, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0, 0, 0], [1, 0, 1, 0, 0, 0, 0, 0]], axis=1)
    index = fh.FlatIndex.from_arrays(codes, [9, 1, 4], metric="jaccard")
    result = index.search(query[None], 3)
    assert result.ids.tolist() == [[4, 9, 1]]
    assert result.distances.tolist() == [[0.5, 0.5, 1.0]]


def test_empty_codes_are_at_distance_0_from_each_other():
    index = fh.FlatIndex.from_arrays(np.array([[0, 0], [1, 0], [0, 0]], dtype=np.uint8), metric="jaccard")
    result = index.search(np.zeros((1, 2), np.uint8), 4)
    assert result.ids.tolist() == [[0, 2, 1, -1]]
    assert result.distances.tolist() == [[0, 0, 1, np.inf]]
    assert index.count_within(np.zeros((1, 2), np.uint8), 0.99).tolist() == [2]


def test_a_radius_finds_the_distances_that_round_to_it():
    """3/10 is found within 0.3, in which precision ever, and each result within its own distance."""
    query, code = np.zeros((1, 16), bool), np.zeros((1, 16), bool)
    query[0, :7], code[0, :10] = True, True
    index = fh.FlatIndex.from_arrays(np.packbits(code, axis=1), metric="jaccard")
    packed = np.packbits(query, axis=1)
    assert index.count_within(packed, 0.3).tolist() == [1]
    assert index.count_within(packed, np.float32(0.3)).tolist() == [1]
    assert index.count_within(packed, np.nextafter(np.float32(0.3), np.float32(0))).tolist() == [0]
    codes = sparse(np.random.default_rng(4), 300, 64, 0.4)
    all_of_them = fh.FlatIndex.from_arrays(codes, metric="jaccard")
    for rank, distance in enumerate(all_of_them.search(codes[:1], 300).distances[0], start=1):
        assert all_of_them.count_within(codes[:1], float(distance))[0] >= rank
    assert index.count_within(packed, 5).tolist() == [1]  # beyond the largest distance


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("threads", [1, 3])
def test_changes_filters_and_copies(kind, threads):
    rng = np.random.default_rng(3)
    before = fh.get_num_threads()
    fh.set_num_threads(threads)
    try:
        codes, n = sparse(rng, 30_000, 64, 0.2), 30_000
        index = KINDS[kind](64, metric="jaccard")
        held = {}
        for begin, end in [(0, 20_000), (20_000, 20_001), (20_001, 29_000), (29_000, n)]:
            index.add(codes[begin:end])
            held |= {i: codes[i] for i in range(begin, end)}
        earlier = index.copy()
        gone = rng.choice(n, 5000, replace=False)
        index.remove(gone)
        changed = np.setdiff1d(np.arange(n), gone)[::1000]
        index.update(changed, codes[changed] ^ np.uint8(3))
        held |= {int(i): codes[i] ^ np.uint8(3) for i in changed}
        for i in gone:
            del held[int(i)]
        ids = np.array(sorted(held))
        left = np.array([held[int(i)] for i in ids])
        queries = queries_for(rng, codes)
        assert_same(index.search(queries, 20), reference.jaccard_search(queries, left, ids, 20))
        assert_same(index.search(queries[:1], 20), reference.jaccard_search(queries[:1], left, ids, 20))
        for some, reusable in itertools.product((ids[::2], ids[::2000]), (False, True)):
            allow, allowed = fh.IdFilter(some) if reusable else some, np.isin(ids, some)
            expected = reference.jaccard_search(queries, left[allowed], ids[allowed], 9)
            assert_same(index.search(queries, 9, allow=allow), expected)
            assert_within(index, queries, left[allowed], ids[allowed], 0.4, allow=allow)
        index.compact()
        assert index.stats()["n_segments"] == 1
        assert_same(index.search(queries, 20), reference.jaccard_search(queries, left, ids, 20))
        np.testing.assert_array_equal(index.reconstruct(ids[::-7]), left[::-7])
        np.testing.assert_array_equal(index.to_arrays()[0], left)
        assert_same(earlier.search(queries, 5), reference.jaccard_search(queries, codes, np.arange(n), 5))
    finally:
        fh.set_num_threads(before)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("counted", [True, False])
def test_files(kind, counted, tmp_path):
    rng = np.random.default_rng(5)
    codes = sparse(rng, 1500, 104)
    index = KINDS[kind](104, metric="jaccard")
    index.add(codes[:1000], None if counted else rng.permutation(9000)[:1000])
    index.add(codes[1000:], None if counted else rng.permutation(9000)[:500] + 9000)
    index.remove(index.ids()[::9])
    path, queries = tmp_path / "index.fh", queries_for(rng, codes)
    index.save(path, id_map=True)
    assert fh.peek(path).metric == "jaccard"
    assert not fh.verify(path).fault
    expected = index.search(queries, 12)
    loaded = [fh.load(path), fh.load(path, mmap=True), type(index).from_bytes(index.to_bytes())]
    for other in loaded:
        assert (type(other), other.metric, len(other)) == (type(index), "jaccard", len(index))
        assert_same(other.search(queries, 12), expected)
        other.remove(other.ids()[:5])
        other.add(codes[:5])
        assert_within(other, queries, *other.to_arrays(), 0.7)


def test_work_is_counted_and_codes_are_skipped():
    """Codes with twice as many bits set as the query are farther than 1/2: they are not compared."""
    few, many = np.zeros((5120, 128), bool), np.zeros((5120, 128), bool)
    rng = np.random.default_rng(0)
    for row in range(5120):
        few[row, rng.choice(128, 8, replace=False)] = True
        many[row, rng.choice(128, 60, replace=False)] = True
    index = fh.FlatIndex.from_arrays(np.packbits(np.concatenate([few, many]), axis=1), metric="jaccard")
    queries = np.packbits(few[:3], axis=1)
    _, work = index.range_search(queries, 0.5, stats=True)
    assert work.codes_compared.tolist() == [5120] * 3
    _, work = index.search(queries, 10_000, stats=True)
    assert work.codes_compared.tolist() == [10_240] * 3


def test_searches_run_beside_changes():
    rng = np.random.default_rng(1)
    codes = sparse(rng, 4000, 64, 0.3)
    index = fh.HierIndex(64, metric="jaccard")
    index.add(codes[:2000])
    expected, over, wrong = index.search(codes[:20], 1), threading.Event(), []

    def search():
        while not over.is_set():
            if not np.array_equal(index.search(codes[:20], 1).distances, expected.distances):
                wrong.append(1)

    threads = [threading.Thread(target=search) for _ in range(2)]
    for thread in threads:
        thread.start()
    for begin in range(2000, 4000, 50):
        index.add(codes[begin : begin + 50])
        index.remove([begin])
    over.set()
    for thread in threads:
        thread.join()
    assert not wrong


# ---- arguments ----

CODE = np.zeros((1, 8), dtype=np.uint8)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda index: fh.FlatIndex(64, metric="cosine"), ValueError, "metric must be one of 'hamming', 'jaccard'"),
        (
            lambda index: fh.HierIndex(metric="jaccard"),
            ValueError,
            r"level_bits must be one level .* got \(8, 16, 40\)",
        ),
        (lambda index: fh.HierIndex(64, plan="scan", metric="jaccard"), ValueError, "plan must not be given"),
        (lambda index: index.search(CODE, keep=0.3), ValueError, "metric must be 'hamming' for keep and max_compared"),
        (
            lambda index: index.search(CODE, max_compared=9),
            ValueError,
            "metric must be 'hamming' for keep and max_comp",
        ),
        (lambda index: index.range_search(CODE, -0.1), ValueError, "radius must be at least 0, got -0.1"),
        (lambda index: index.range_search(CODE, float("nan")), ValueError, "radius must be at least 0, got nan"),
        (lambda index: index.count_within(CODE, "1"), TypeError, "radius must be a number, got '1'"),
        (lambda index: index.merge(fh.FlatIndex(64)), ValueError, "other must have the metric jaccard, has hamming"),
        (lambda index: fh.FlatIndex(64).merge(index), ValueError, "other must have the metric hamming, has jaccard"),
        (lambda index: index.search(CODE[:, :7]), ValueError, "queries must have shape"),
        (lambda index: index.search(CODE, 0), ValueError, "k must be"),
    ],
)
def test_wrong_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call(fh.HierIndex(64, metric="jaccard"))


def test_metrics_do_not_mix_in_the_core():
    hamming, jaccard = _core.FlatIndex(64), _core.FlatIndex(64, _core.Metric.jaccard)
    with pytest.raises(ValueError, match="index measures Jaccard distance"):
        jaccard.search(CODE, 1)
    with pytest.raises(ValueError, match="index measures Hamming distance"):
        hamming.search_jaccard(CODE, 1)


def test_rdkit_agrees():
    """Another implementation: Tanimoto similarities of RDKit."""
    data_structs = pytest.importorskip("rdkit.DataStructs", reason="RDKit is not installed")
    rng = np.random.default_rng(2)
    codes = sparse(rng, 400, 2048)
    theirs = [data_structs.CreateFromBitString("".join(map(str, np.unpackbits(code)))) for code in codes]
    index = fh.FlatIndex.from_arrays(codes, metric="jaccard")
    for row in range(0, 400, 40):
        similarities = np.array(data_structs.BulkTanimotoSimilarity(theirs[row], theirs))
        distances = np.empty(400, np.float32)
        result = index.search(codes[row : row + 1], 400)
        distances[result.ids[0]] = result.distances[0]
        empty = ~codes.any(axis=1)  # which RDKit finds unlike each other
        np.testing.assert_allclose(distances[~empty], 1 - similarities[~empty], atol=1e-6)
