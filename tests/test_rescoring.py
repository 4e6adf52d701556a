"""Embeddings searched by the codes of their signs and scored again by their vectors."""

import threading
import warnings

import numpy as np
import pytest

import fasthash as fh
from embedded import DTYPES, KINDS, brute_force, embeddings, filled, same
from fasthash import _quantiser
from real_data import shared

# Codes


def test_codes_are_those_of_sentence_transformers():
    vectors = embeddings(20, 24)
    vectors[0, :3] = 0, -0.0, 1e-30  # a bit is 1 above 0 alone
    index = fh.RescoringIndex(24, metric="inner_product")
    index.add(vectors)
    codes, ids = index.codes.to_arrays()
    np.testing.assert_array_equal(codes, np.packbits(vectors > 0, axis=-1))
    np.testing.assert_array_equal(ids, np.arange(20))
    assert codes[0, 0] >> 5 == 0b001


@pytest.mark.parametrize(("n_dims", "n_bits"), [(1, 8), (8, 8), (9, 16), (300, 304), (4096, 4096), (5000, 4096)])
def test_by_default_all_dimensions_have_bits(n_dims, n_bits):
    index = fh.RescoringIndex(n_dims)
    vectors = embeddings(5, n_dims)
    index.add(vectors)
    assert index.level_bits == (n_bits,)
    expected = np.packbits(vectors > 0, axis=-1)[:, : n_bits // 8]
    np.testing.assert_array_equal(index.codes.reconstruct(np.arange(5)), expected)


def test_levels_are_prefixes():
    index = filled(level_bits=(8, 16))
    assert (index.level_bits, index.n_bits, index.n_dims) == ((8, 16), 24, 40)
    np.testing.assert_array_equal(index.codes.to_arrays()[0], np.packbits(embeddings()[:, :24] > 0, axis=-1))


# Searches


def test_every_float16_is_widened_as_numpy_does_it():
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    for some in (
        halves[np.isfinite(halves)],
        halves,
        halves[5:6],
        halves[:0],
        halves[: 1 << 14].reshape(64, -1)[:, ::3],
    ):
        found, expected = _quantiser._widened(some), some.astype(np.float32)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found.view(np.int32), expected.view(np.int32))


@pytest.mark.parametrize(("dtype", "metric"), KINDS)
def test_with_all_codes_scored_it_is_the_exhaustive_search(dtype, metric):
    vectors = embeddings()
    vectors[100:120] = vectors[7]  # equal scores, which ids decide
    ids = np.random.default_rng(1).permutation(300) * 3 - 200
    ids[ids == -1] = 10_000
    index = fh.RescoringIndex(40, dtype=dtype, metric=metric)
    index.add(vectors, ids)
    queries = np.concatenate([embeddings(20, seed=2), vectors[7:8]])
    scores, expected = brute_force(index, ids, queries, 30)
    found = index.search(queries, 30, rescore_multiplier=10)
    np.testing.assert_array_equal(found.ids, expected)
    np.testing.assert_allclose(found.scores, scores, rtol=1e-5, atol=1e-5)
    assert found.scores.dtype == np.float32
    assert found.ids.dtype == np.int64


@pytest.mark.parametrize(
    ("center", "error", "message"),
    [
        ("median", ValueError, r"center must be None, 'mean' or a float array \(40,\), got 'median'"),
        (np.zeros(39), ValueError, r"center must have shape \(40,\), got \(39,\)"),
        (np.zeros(40, int), TypeError, r"center must be None, 'mean' or a float array \(40,\), got dtype int64"),
        (np.full(40, np.nan), ValueError, "center must be at most 1e[+]15 in size"),
        (0.5, ValueError, r"center must have shape \(40,\), got \(\)"),
    ],
)
def test_what_is_no_center(center, error, message):
    with pytest.raises(error, match="^" + message):
        fh.RescoringIndex(40, center=center)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("multiplier", [1, 3])
def test_the_nearest_codes_are_scored(dtype, multiplier):
    index, queries = filled(dtype, level_bits=(8, 8)), embeddings(20, seed=2)
    found = index.search(queries, 5, rescore_multiplier=multiplier)
    flat = fh.FlatIndex.from_arrays(np.packbits(embeddings()[:, :16] > 0, axis=-1))
    nearest = flat.search(np.packbits(queries[:, :16] > 0, axis=-1), 5 * multiplier).ids
    for i, ids in enumerate(nearest):
        np.testing.assert_array_equal(found.ids[i], brute_force(index, ids, queries[i : i + 1], 5)[1][0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_score_does_not_depend_on_what_is_searched_beside_it(dtype, monkeypatch):
    index, queries = filled(dtype), embeddings(50, seed=2)
    whole = index.search(queries, 10)
    for i in range(50):
        same(index.search(queries[i : i + 1], 10), fh.RescoredResult(whole.scores[i : i + 1], whole.ids[i : i + 1]))
    more = index.search(queries, 20, rescore_multiplier=2)
    same(fh.RescoredResult(more.scores[:, :10], more.ids[:, :10]), whole)
    monkeypatch.setattr("fasthash._embedding_state.BLOCK", 130)
    same(index.search(queries, 10), whole)


@pytest.mark.parametrize("dtype", DTYPES)
def test_scores_are_near_those_of_the_embeddings(dtype):
    index, vectors, queries = filled(dtype), embeddings(), embeddings(20, seed=2)
    cosines = (queries @ vectors.T) / np.linalg.norm(queries, axis=1)[:, None] / np.linalg.norm(vectors, axis=1)
    found = index.search(queries, 10)
    error = np.abs(found.scores - np.take_along_axis(cosines, found.ids, 1)).max()
    assert error < {"int8": 0.01, "float16": 0.001, "float32": 1e-6}[dtype]


def test_float64_and_float16_queries():
    index, queries = filled(), embeddings(5, seed=2)
    found = index.search(queries, 3)
    np.testing.assert_array_equal(index.search(queries.astype(np.float64), 3).ids, found.ids)
    np.testing.assert_allclose(index.search(queries.astype(np.float16), 3).scores, found.scores, atol=1e-3)


def test_filters():
    index, queries = filled(ids=np.arange(300) + 1000), embeddings(5, seed=2)
    allowed = np.arange(1000, 1300, 7)
    expected = brute_force(index, allowed, queries, 5)[1]
    mask = np.zeros(1300, dtype=bool)
    mask[allowed] = True
    for allow in (allowed, mask, fh.IdFilter(allowed)):
        np.testing.assert_array_equal(index.search(queries, 5, rescore_multiplier=60, allow=allow).ids, expected)
    few = index.search(queries, 4, allow=np.array([1003, 1001]))
    np.testing.assert_array_equal(np.sort(few.ids[:, :2]), [[1001, 1003]] * 5)
    assert (few.ids[:, 2:] == -1).all()
    assert (few.scores[:, 2:] == -np.inf).all()


def test_fewer_than_k_and_none_at_all():
    index = fh.RescoringIndex(8)
    assert index.search(np.ones((2, 8)), 3).ids.tolist() == [[-1] * 3] * 2
    assert index.search(np.ones((0, 8)), 3).ids.shape == (0, 3)
    index.add(np.eye(8)[:2])
    found = index.search(np.eye(8)[1:2], 3)
    assert found.ids.tolist() == [[1, 0, -1]]
    assert found.scores.tolist() == [[1, 0, -np.inf]]


def features_of_photos():
    with np.load(shared("deep_features_mobilenet", "cifar10_mobilenetv1.npz"), allow_pickle=False) as file:
        return [file["pca128"][file[rows]].astype(np.float32) for rows in ("database_index", "query_index")]


def pixels_of_digits():
    datasets = pytest.importorskip("sklearn.datasets", reason="needs the extra sklearn")
    pixels = datasets.load_digits().data.astype(np.float32)
    pixels -= pixels.mean(axis=0)
    return pixels[100:], pixels[:100]


@pytest.mark.parametrize("features", [pixels_of_digits, features_of_photos])
def test_recall_grows_with_the_multiplier_on_real_features(features):
    gallery, queries = features()
    gallery, queries = gallery[:5000], queries[:100]
    index = fh.RescoringIndex(gallery.shape[1], dtype="int8")
    index.add(gallery)
    unit = gallery / np.linalg.norm(gallery, axis=1, keepdims=True)
    exact = np.argsort(-(queries @ unit.T), axis=1, kind="stable")[:, :10]
    recalls = []
    for multiplier in (1, 4, 16, 500):
        found = index.search(queries, 10, rescore_multiplier=multiplier).ids
        recalls.append(np.mean([np.isin(a, b).mean() for a, b in zip(exact, found, strict=True)]))
    assert recalls == sorted(recalls)
    assert recalls[1] > recalls[0] + 0.1
    assert recalls[3] > 0.97  # what int8 costs


# int8


def test_steps_of_int8_are_those_of_sentence_transformers():
    vectors = embeddings(200, 16)
    vectors[:, 3] = 0.5  # a dimension without any width
    starts, ends = vectors.min(axis=0), vectors.max(axis=0)
    index = fh.RescoringIndex(16, dtype="int8", metric="inner_product", ranges=np.stack([starts, ends]))
    index.add(vectors)
    np.testing.assert_array_equal(index.ranges, [starts, ends])
    for row, vector in zip(index.reconstruct(np.arange(200)), vectors, strict=True):
        for value, x, start, end in zip(row, vector, starts, ends, strict=True):
            width = (end - start) / np.float32(255) or np.float32(1)
            step = np.floor((x - start) / width)  # 0 to 255; sentence-transformers stores it less 128
            assert value == pytest.approx(start + (step + 0.5) * width, abs=1e-5)


def test_given_ranges_hold_from_the_first_embedding_and_clip_with_a_warning():
    ranges = np.stack([np.full(8, -1.0), np.full(8, 1.0)])
    index = fh.RescoringIndex(8, dtype="int8", metric="inner_product", ranges=ranges)
    for change in (index.add, lambda vectors: index.update([0], vectors)):
        with pytest.warns(UserWarning, match="25.0% of the values of embeddings lie far outside ranges") as caught:
            change(np.array([[-5, -1, -0.5, 0, 0.25, 0.5, 1, 5]]))
        assert caught[0].filename == __file__
        np.testing.assert_array_equal(index.reconstruct(0), index.reconstruct([0])[0])
        np.testing.assert_allclose(index.reconstruct([0])[0], [-1, -1, -0.5, 0, 0.25, 0.5, 1, 1], atol=2 / 255)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        index.add(np.array([[-1.05, -1, -0.5, 0, 0.25, 0.5, 1, 1.05]]))  # near the ends
        with pytest.raises(UserWarning, match="far outside"):
            index.add(np.full((1, 8), 5.0))
    assert len(index) == 2


@pytest.mark.parametrize("center", [None, np.linspace(-3, 3, 24)], ids=["", "center"])
def test_scales_of_int8(center):
    """The slow path: each number of each vector."""
    vectors = embeddings(50, 24) * np.random.default_rng(1).choice([1e-3, 1, 1e4], (50, 1)).astype(np.float32)
    vectors[0], vectors[1], vectors[2] = 0, 1e-45, 7  # two without a width
    index = fh.RescoringIndex(24, dtype="int8", metric="inner_product", center=center)
    index.add(vectors)
    assert index.ranges is None
    c = np.zeros(24) if center is None else center
    for row, vector in zip(index.reconstruct(np.arange(50)), vectors, strict=True):
        numbers = [float(x) - float(y) for x, y in zip(vector, c, strict=True)]
        low, width = min(numbers), (max(numbers) - min(numbers)) / 255
        for value, x, y in zip(row, numbers, c, strict=True):
            step = (x - low) / width if width > 1e-30 else 0
            assert (
                abs(value - (low + round(step) * width + y))
                <= width * (abs(step % 1 - 0.5) < 1e-3) + 2e-6 * max(map(abs, vector), default=0) + 1e-6
            )


def by_topic(noise, n=5000):
    """Embeddings and queries as a crawl gives them, one topic after the other, and the ten nearest of each query."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((50, 256))[np.sort(rng.integers(0, 50, n))]
    vectors = vectors + noise * rng.standard_normal((n, 256))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries = vectors[rng.integers(0, n, 100)] + 0.0125 * noise * rng.standard_normal((100, 256))
    return vectors, queries, np.argsort(-(queries @ vectors.T), axis=1)[:, :10]


@pytest.mark.parametrize("noise", [0.5, 1, 2])
def test_recall_of_int8_does_not_depend_on_batches(noise):
    vectors, queries, nearest = by_topic(noise)
    indices = []
    for size in (5000, 1000, 100):
        index = fh.RescoringIndex(256, dtype="int8")
        for start in range(0, 5000, size):
            index.add(vectors[start : start + size])
        indices.append(index)
    results = [index.search(queries, 10, rescore_multiplier=100) for index in indices]
    for result in results:
        same(result, results[0])
    assert np.mean([np.isin(a, b).mean() for a, b in zip(nearest, results[0].ids, strict=True)]) > 0.96
    one_by_one = fh.RescoringIndex(256, dtype="int8")
    for start in range(150):
        one_by_one.add(vectors[start : start + 1])
    np.testing.assert_array_equal(one_by_one.reconstruct(np.arange(150)), indices[0].reconstruct(np.arange(150)))


def test_ranges_that_were_taken_of_one_topic_warn():
    """As in folders of the first form, where the first embeddings gave the ranges."""
    vectors, _, _ = by_topic(0.5)
    first = vectors[:100]
    index = fh.RescoringIndex(256, dtype="int8", ranges=np.stack([first.min(axis=0), first.max(axis=0)]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        index.add(first)
    with pytest.warns(UserWarning, match="far outside ranges"):
        index.add(vectors[-100:])


# Centers


def relu(n, n_dims, seed=0):
    return np.abs(embeddings(n, n_dims, seed)) + np.float32(0.01)


POSITIVE = {
    "ReLU": relu(2000, 64),
    "few negative": relu(2000, 64) + 2 * (np.arange(64) == 5) * embeddings(2000, 64),
    "offset": embeddings(2000, 64) + np.float32(20),
    "all negative": -relu(2000, 64),
    "counts": np.random.default_rng(0).poisson(2, (2000, 64)).astype(np.float32) + 1,
}


def finds_itself(index, vectors):
    return (index.search(vectors[:200], 1).ids[:, 0] == np.arange(200)).mean()


@pytest.mark.parametrize("vectors", POSITIVE.values(), ids=POSITIVE)
@pytest.mark.parametrize("dtype", DTYPES)
def test_codes_that_collapse_warn_and_a_center_helps(vectors, dtype, tmp_path):
    index = fh.RescoringIndex(64, dtype=dtype)
    with pytest.warns(UserWarning, match=r"distinct embeddings have only \d+ distinct codes.*center='mean'") as caught:
        index.add(vectors)
    assert caught[0].filename == __file__
    assert finds_itself(index, vectors) < 0.2
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for center in ("mean", unit.mean(axis=0)):
        index = fh.RescoringIndex(64, dtype=dtype, center=center)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            index.add(vectors[:1000])
            index.add(vectors[1000:])
        assert finds_itself(index, vectors) > (0.95 if dtype != "int8" else 0.6)
        np.testing.assert_allclose(
            index.center, unit[: 1000 if isinstance(center, str) else 2000].mean(axis=0), atol=1e-6
        )
        codes = np.packbits(unit.astype(np.float32) > index.center, axis=1)
        assert (index.codes.to_arrays()[0] == codes).mean() > 0.999  # but for roundings
        index.save(tmp_path / "index")
        assert fh.RescoringIndex.verify(tmp_path / "index") == ""
        loaded = fh.RescoringIndex.load(tmp_path / "index")
        np.testing.assert_array_equal(loaded.center, index.center)
        same(loaded.search(vectors[:20]), index.search(vectors[:20]))
        loaded.update([0], vectors[1:2])
        assert (loaded.codes.reconstruct([0]) == loaded.codes.reconstruct([1])).all()


def test_scores_are_those_of_the_embeddings_whatever_the_center():
    queries, vectors = relu(9, 40, 1), relu(300, 40)
    plain, centred = (fh.RescoringIndex(40, center=center) for center in (None, "mean"))
    with pytest.warns(UserWarning, match="distinct codes"):
        plain.add(vectors)
    centred.add(vectors)
    same(centred.search(queries, 9, rescore_multiplier=99), plain.search(queries, 9, rescore_multiplier=99))


def test_a_center_without_embeddings(tmp_path):
    index = fh.RescoringIndex(40, center="mean")
    index.add(np.empty((0, 40)))
    assert index.center == "mean"
    assert index.search(embeddings(2)).ids.max() == -1
    with pytest.raises(
        ValueError, match=r"^embeddings must be at least 100 at the first call for center='mean', got 99"
    ):
        index.add(embeddings(99))
    index.save(tmp_path)
    index = fh.RescoringIndex.load(tmp_path)
    assert (len(index), index.center) == (0, "mean")
    index.add(embeddings(100))
    before = index.center
    index.add(embeddings(1, seed=5))
    np.testing.assert_array_equal(index.center, before)


def test_embeddings_that_come_one_by_one_warn_once():
    vectors = relu(150, 16)
    index = fh.RescoringIndex(16)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for vector in vectors:
            index.add(vector[None])
    (warning,) = caught
    assert str(warning.message).startswith("100 distinct embeddings have only 1 distinct codes")


@pytest.mark.parametrize(
    "vectors",
    [embeddings(2000), np.repeat(embeddings(1), 500, axis=0), np.repeat(embeddings(50), 40, axis=0), embeddings(99)],
    ids=["distinct", "one", "equal ones", "few"],
)
@pytest.mark.parametrize("level_bits", [None, (8,)])
def test_codes_that_do_not_collapse(vectors, level_bits):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fh.RescoringIndex(40, level_bits=level_bits).add(vectors)


# Changes


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(3))
def test_any_history_equals_an_index_made_at_once(dtype, seed, tmp_path):
    rng = np.random.default_rng(seed)
    pool = embeddings(2000, seed=seed)
    ranges = np.stack([np.full(40, -0.6), np.full(40, 0.6)]) if dtype == "int8" else None
    index, held = fh.RescoringIndex(40, dtype=dtype, ranges=ranges), {}
    queries = embeddings(10, seed=9)
    next_id = 0
    for step in range(40):
        rows = rng.integers(0, 2000, rng.integers(0, 60))
        known = np.array(sorted(held), dtype=np.int64)
        some = rng.permutation(known)[: len(known) // 3]
        action = rng.choice(["add", "count", "remove", "update", "save"])
        if action == "add":
            ids = rng.permutation(np.setdiff1d(np.arange(-5000, 5000), [*known, -1]))[: len(rows)]
            index.add(pool[rows], ids)
            held |= zip(ids.tolist(), rows, strict=True)
        elif action == "count":
            ids = next_id + np.arange(len(rows))
            index.add(pool[rows])
            held |= zip(ids.tolist(), rows, strict=True)
        elif action == "remove":
            index.remove(some)
            for id in some.tolist():
                del held[id]
        elif action == "update":
            rows = rng.integers(0, 2000, len(some))
            index.update(some, pool[rows])
            held |= zip(some.tolist(), rows, strict=True)
        else:
            index.save(tmp_path / "index")
            assert fh.RescoringIndex.verify(tmp_path / "index") == ""
            index = fh.RescoringIndex.load(tmp_path / "index", mmap=bool(step % 2))
        next_id = max([next_id, *(id + 1 for id in held)])
        fresh = fh.RescoringIndex(40, dtype=dtype, ranges=ranges)
        ids = np.array(sorted(held), dtype=np.int64)
        fresh.add(pool[[held[id] for id in ids.tolist()]] if held else np.empty((0, 40)), ids)
        assert len(index) == len(held)
        same(index.search(queries, 7), fresh.search(queries, 7))
        np.testing.assert_array_equal(index.reconstruct(ids), fresh.reconstruct(ids))


def test_removed_vectors_give_their_memory_back():
    index = filled(n=2000)
    before = index.nbytes
    index.remove(np.arange(1900))
    assert index.nbytes < before / 4
    for _ in range(20):
        index.update(np.arange(1900, 2000), embeddings(100, seed=3))
    assert index.nbytes < before / 4
    assert 1950 in index
    assert 3 not in index


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda i: i.add(embeddings(2), [5, 600]), "ids must be new"),
        (lambda i: i.add(embeddings(2), [600, 600]), "600"),
        (lambda i: i.add(embeddings(2), [600, -1]), "-1"),
        (lambda i: i.remove([5, 600]), "600"),
        (lambda i: i.update([5, 600], embeddings(2)), "600"),
        (lambda i: i.update([5], embeddings(2)), "ids must have shape"),
        (lambda i: i.reconstruct([5, 600]), "600"),
    ],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_refused_call_leaves_the_index_as_it_was(dtype, change, message):
    index, queries = filled(dtype), embeddings(5, seed=2)
    before = index.search(queries)
    with pytest.raises(ValueError, match=message):
        change(index)
    assert len(index) == 300
    same(index.search(queries), before)
    index.add(embeddings(1, seed=4))
    assert 300 in index


def test_a_search_sees_a_change_as_a_whole():
    """Two states take turns in one thread; in others, every result is that of one of them."""
    ids, states = np.arange(100), [embeddings(100, seed=seed) for seed in (1, 2)]
    index = fh.RescoringIndex(40, dtype="float32")
    index.add(states[0])
    query = embeddings(1, seed=3)
    expected = []
    for state in states:
        index.update(ids, state)
        expected.append(index.search(query, 5).scores.tobytes())
    wrong, done = [], threading.Event()

    def search():
        while not done.is_set():
            if (scores := index.search(query, 5).scores).tobytes() not in expected:
                wrong.append(scores)

    readers = [threading.Thread(target=search) for _ in range(3)]
    for reader in readers:
        reader.start()
    for i in range(200):
        index.update(ids, states[i % 2])
    done.set()
    for reader in readers:
        reader.join()
    assert not wrong
    assert expected[0] != expected[1]
