"""Histograms counted from codes, against matrices of distances, and the metrics of both."""

import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from fasthash import metrics
from fasthash.metrics import Histograms, counting, histograms

DENOMINATORS = ("retrieved", "min(R,total)", "total")


def clustered_codes(rng, n, n_bits):
    """Codes near one of three centres, so that distances tie and equal codes occur."""
    centres = rng.integers(0, 2, (3, n_bits))
    flips = rng.random((n, n_bits)) < 0.1
    return np.packbits(centres[rng.integers(0, 3, n)] ^ flips, axis=1)


def matrices(queries, gallery, query_labels, gallery_labels):
    """Distances and relevance, from the definitions."""
    distances = np.unpackbits(queries[:, None] ^ gallery, axis=2).sum(axis=2)
    if query_labels.ndim == 1:
        return distances, query_labels[:, None] == gallery_labels
    return distances, (query_labels[:, None] & gallery_labels).any(axis=2)


def counted(distances, n_bits):
    return np.stack([np.bincount(row, minlength=n_bits + 1) for row in distances])


def classes(rng, n):
    return rng.integers(-2, 3, n)


def few_labels(rng, n):
    return rng.random((n, 5)) < 0.2


def many_labels(rng, n):
    return rng.random((n, 150)) < 0.02


@pytest.fixture(params=["numpy", "table", "torch"])
def counter(request, monkeypatch):
    """`histograms` in each of its ways, with blocks that end in the middle of the data."""
    if request.param == "torch":
        torch = pytest.importorskip("torch", reason="tensors need torch")
        from fasthash.metrics import counting_torch

        monkeypatch.setattr(counting_torch, "_BLOCK", 7)
        monkeypatch.setattr(counting_torch, "_NUMBERS", 2000)
        return lambda queries, gallery, *labels: histograms(torch.tensor(queries), torch.tensor(gallery), *labels)
    monkeypatch.setattr(counting, "_BLOCK", 7)
    if request.param == "table":
        monkeypatch.setattr(counting, "_count_bits", counting._count_bits_by_table)
    return histograms


@pytest.mark.parametrize("make_labels", [classes, few_labels, many_labels])
@pytest.mark.parametrize("n_bits", [8, 64, 72, 248, 256, 320])
def test_counts_equal_those_of_matrices(counter, n_bits, make_labels):
    rng = np.random.default_rng(n_bits)
    queries, gallery = clustered_codes(rng, 9, n_bits), clustered_codes(rng, 40, n_bits)
    queries[1] = ~gallery[0]  # as far apart as can be
    query_labels, gallery_labels = make_labels(rng, 9), make_labels(rng, 40)
    found = counter(queries, gallery, query_labels, gallery_labels)
    distances, relevance = matrices(queries, gallery, query_labels, gallery_labels)
    expected = counted(distances, n_bits)
    assert found.n_bits == n_bits
    assert found.all.dtype == found.relevant.dtype == np.int64
    assert np.array_equal(found.all, expected)
    others = counted(np.where(relevance, 0, distances + 1), n_bits + 1)[:, 1:]
    assert np.array_equal(found.relevant, expected - others)


def test_one_code_against_one(counter):
    found = counter(np.array([[7]], np.uint8), np.array([[0]], np.uint8), np.array([1]), np.array([1]))
    assert found.relevant.tolist() == found.all.tolist() == [[0, 0, 0, 1, 0, 0, 0, 0, 0]]


def test_several_labels_as_integers_and_classes_of_other_types():
    codes = np.arange(6, dtype=np.uint8)[:, None]
    labels = np.eye(6, dtype=np.int32) + np.eye(6, k=1, dtype=np.int32)
    assert np.array_equal(histograms(codes, codes, labels, labels > 0).relevant.sum(axis=1), [2, 3, 3, 3, 3, 2])
    # In float64 the last two would be the same.
    large = np.array([0, 0, 0, 0, 2**53, 2**53 + 1])
    assert histograms(codes, codes, large.astype(np.uint64), large).relevant.sum(axis=1).tolist() == [4] * 4 + [1, 1]


def test_codes_in_any_layout():
    codes = np.random.default_rng(1).integers(0, 256, (30, 16), dtype=np.uint8)
    labels = np.arange(30) % 4
    expected = histograms(codes[::2, 8:].copy(), codes[:, 8:].copy(), labels[::2].copy(), labels)
    found = histograms(codes[::2, 8:], np.asfortranarray(codes)[:, 8:], labels[::2], labels.tolist())
    assert np.array_equal(found.all, expected.all)
    assert np.array_equal(found.relevant, expected.relevant)


def test_labels_in_any_layout(counter):
    codes, labels = np.arange(5, dtype=np.uint8)[:, None], np.array([0, 1, 0, 1, 1])
    labels.flags.writeable = codes.flags.writeable = False
    found = counter(codes, codes, labels[::-1], labels[::-1])
    assert found.relevant.sum(axis=1).tolist() == [3, 3, 2, 3, 2]


def test_tensors_of_labels():
    torch = pytest.importorskip("torch", reason="tensors need torch")
    codes, labels = torch.arange(5, dtype=torch.uint8)[:, None], torch.tensor([0, 1, 0, 1, 1])
    found = histograms(codes, codes, labels, labels)
    expected = histograms(codes.numpy(), codes.numpy(), labels, labels.numpy())
    assert np.array_equal(found.relevant, expected.relevant)
    assert found.relevant.sum(axis=1).tolist() == [2, 3, 2, 3, 3]


@pytest.mark.parametrize("n_bits", [16, 64])
def test_counts_on_a_gpu(n_bits):
    torch = pytest.importorskip("torch", reason="tensors need torch")
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    rng = np.random.default_rng(n_bits)
    queries, gallery = clustered_codes(rng, 300, n_bits), clustered_codes(rng, 100_000, n_bits)
    for make_labels in (classes, few_labels):
        labels = make_labels(rng, 300), make_labels(rng, 100_000)
        found = histograms(torch.tensor(queries).cuda(), torch.tensor(gallery).cuda(), *labels)
        expected = histograms(queries, gallery, *labels)
        assert np.array_equal(found.all, expected.all)
        assert np.array_equal(found.relevant, expected.relevant)


def test_no_matrix_of_distances_is_kept():
    rng = np.random.default_rng(2)
    queries, gallery = (rng.integers(0, 256, (n, 8), dtype=np.uint8) for n in (60, 200_000))
    labels = rng.integers(0, 10, 60), rng.integers(0, 10, 200_000)
    histograms(queries, gallery[:1], labels[0], labels[1][:1])
    tracemalloc.start()
    histograms(queries, gallery, *labels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < queries.shape[0] * gallery.shape[0]  # a byte for each distance
    assert peak < 5 * gallery.nbytes


def test_importing_metrics_needs_no_torch():
    code = "import sys; sys.modules['torch'] = None; import fasthash.metrics as m; m.histograms([], [], [], [])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=250)
    assert "gallery must be a uint8 array" in result.stderr.splitlines()[-1]


@pytest.fixture(scope="module")
def run():
    """Histograms, and the matrices of the same codes; the first query has nothing relevant, the second nothing near."""
    rng = np.random.default_rng(3)
    queries, gallery = clustered_codes(rng, 12, 16), clustered_codes(rng, 90, 16)
    labels = rng.integers(0, 4, 12), rng.integers(0, 4, 90)
    labels[0][0] = 9
    near = np.flatnonzero(np.unpackbits(gallery ^ ~gallery[0], axis=1).sum(axis=1) > 5)
    queries[1], gallery, labels = ~gallery[0], gallery[near], (labels[0], labels[1][near])
    return histograms(queries, gallery, *labels), matrices(queries, gallery, *labels)


@pytest.mark.parametrize("empty", ["zero", "drop"])
@pytest.mark.parametrize("denominator", DENOMINATORS)
@pytest.mark.parametrize("ties", ["expected", "best", "worst", "random"])
def test_map_equals_that_of_matrices(run, ties, denominator, empty):
    found, ranking = run
    options = {"ties": ties, "denominator": denominator, "empty": empty, "seed": 5}
    for at in (1, 17, 1000, None):
        value = metrics.mean_average_precision(*ranking, at=at, **options)
        assert found.mean_average_precision(at=at, **options) == pytest.approx(value, abs=1e-15)
    for radius in (0, 2, 16):
        value = metrics.mean_average_precision_within(*ranking, radius, **options)
        assert found.mean_average_precision_within(radius, **options) == pytest.approx(value, abs=1e-15)


@pytest.mark.parametrize("empty", ["zero", "drop"])
def test_other_metrics_equal_those_of_matrices(run, empty):
    found, ranking = run
    n = ranking[0].shape[1]
    for k in (1, 10, n):
        assert found.precision_at_k(k, empty) == metrics.precision_at_k(*ranking, k, empty=empty)
        assert found.recall_at_k(k, empty) == metrics.recall_at_k(*ranking, k, empty=empty)
    for radius in (0, 2, 16):
        assert found.precision_within(radius, empty) == metrics.precision_within(*ranking, radius, empty=empty)
    for average in ("micro", "macro"):
        expected = metrics.precision_recall_curve(*ranking, 16, average=average, empty=empty)
        assert np.array_equal(found.precision_recall_curve(average, empty), expected)
    expected = metrics.precision_recall_by_rank(*ranking, [1, 10, n], empty=empty)
    assert np.array_equal(found.precision_recall_by_rank([1, 10, n], empty), expected)


def test_the_defaults_are_those_of_the_functions(run):
    found, ranking = run
    assert found.mean_average_precision() == metrics.mean_average_precision(*ranking)
    assert found.mean_average_precision_within() == metrics.mean_average_precision_within(*ranking)
    assert found.precision_within() == metrics.precision_within(*ranking)
    expected = metrics.precision_recall_curve(*ranking, 16)
    assert np.array_equal(found.precision_recall_curve(), expected)


def test_golden_values():
    found = Histograms(np.array([[2, 0, 3, 4]]), np.array([[1, 0, 2, 1]]))
    for at, value in ((9, 0.6391865079), (6, 0.6701388889), (4, 0.6851851852), (1, 0.5)):
        assert found.mean_average_precision(at=at) == pytest.approx(value, abs=5e-11)


def test_the_counts_of_two_galleries_add_up():
    rng = np.random.default_rng(4)
    queries, gallery = clustered_codes(rng, 5, 8), clustered_codes(rng, 30, 8)
    labels = rng.integers(0, 3, 5), rng.integers(0, 3, 30)
    a = histograms(queries, gallery[:11], labels[0], labels[1][:11])
    b = histograms(queries, gallery[11:], labels[0], labels[1][11:])
    whole = histograms(queries, gallery, *labels)
    assert np.array_equal(Histograms(a.all + b.all, a.relevant + b.relevant).relevant, whole.relevant)


CODES, LABELS = np.zeros((2, 1), dtype=np.uint8), np.array([0, 1])
HOT = np.eye(2, dtype=np.int64)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((CODES * 1.0, CODES, LABELS, LABELS), TypeError, "queries must be a uint8 array .*, got dtype float64"),
        ((CODES, CODES > 0, LABELS, LABELS), TypeError, "gallery must be a uint8 array .*, got dtype bool"),
        ((CODES.repeat(2, 1), CODES, LABELS, LABELS), ValueError, r"queries must have shape \(n, 1\) .* got \(2, 2\)"),
        ((CODES, CODES[0], LABELS, LABELS), ValueError, r"gallery must have shape \(n, n_bytes\) .* got \(1,\)"),
        (
            (CODES[:0], CODES, LABELS[:0], LABELS),
            ValueError,
            r"queries must have at least one code, got shape \(0, 1\)",
        ),
        (
            (CODES, CODES[:0], LABELS, LABELS[:0]),
            ValueError,
            r"gallery must have at least one code, got shape \(0, 1\)",
        ),
        ((CODES, CODES, LABELS * 1.0, LABELS), TypeError, "query_labels must hold integers .* got dtype float64"),
        ((CODES, CODES, LABELS, LABELS[:1]), ValueError, r"gallery_labels must have shape \(2,\) .* got \(1,\)"),
        ((CODES, CODES, LABELS, HOT[:, :0]), ValueError, r"gallery_labels must have shape .* got \(2, 0\)"),
        ((CODES, CODES, HOT[None], LABELS), ValueError, r"query_labels must have shape .* got \(1, 2, 2\)"),
        ((CODES, CODES, HOT, LABELS), ValueError, r"must both be classes .* got shapes \(2, 2\) and \(2,\)"),
        ((CODES, CODES, HOT, HOT[:, :1]), ValueError, r"as many labels, got shapes \(2, 2\) and \(2, 1\)"),
        ((CODES, CODES, HOT, HOT * 2), ValueError, "gallery_labels of several .* only zeros and ones, found 2"),
        ((CODES, CODES, HOT - 1, HOT), ValueError, "query_labels of several .* only zeros and ones, found -1"),
        (
            (CODES, CODES, LABELS, LABELS.astype(np.uint64) + np.uint64(2**63)),
            ValueError,
            "gallery_labels must fit into int64, found 9223372036854775809",
        ),
    ],
)
def test_bad_codes_and_labels(arguments, error, message):
    with pytest.raises(error, match=message):
        histograms(*arguments)


def test_bad_tensors():
    torch = pytest.importorskip("torch", reason="tensors need torch")
    tensor = torch.tensor(CODES)
    with pytest.raises(TypeError, match="must both be arrays or both tensors, got Tensor and ndarray"):
        histograms(tensor, CODES, LABELS, LABELS)
    with pytest.raises(ValueError, match="queries must be on the gallery's device, meta, got cpu"):
        histograms(tensor, tensor.to("meta"), LABELS, LABELS)
    with pytest.raises(TypeError, match="queries must be a uint8 array of packed bits, got dtype float32"):
        histograms(tensor.float(), tensor, LABELS, LABELS)


@pytest.mark.parametrize(
    ("counts", "error", "message"),
    [
        (([[1.0]], [[1]]), TypeError, "all must be an int64 array, got dtype float64"),
        (([[1]], [[True]]), TypeError, "relevant must be an int64 array, got dtype bool"),
        (([1], [1]), ValueError, r"all must have shape \(nq, n_bits \+ 1\) .* got \(1,\)"),
        (([], []), ValueError, r"all must have shape \(nq, n_bits \+ 1\) .* got \(0,\)"),
        (([[1, 2]], [[1]]), ValueError, r"relevant must have the shape of all, \(1, 2\), got \(1, 1\)"),
        (([[1, 2]], [[0, -1]]), ValueError, "relevant must not be negative, found -1"),
        (([[1, 2], [0, 1]], [[1, 2], [1, 1]]), ValueError, "relevant must not exceed all, .* query 1 at distance 0"),
        (([[1, 2], [0, 0]], [[1, 2], [0, 0]]), ValueError, "at least one item a query, found none for query 1"),
    ],
)
def test_bad_counts(counts, error, message):
    with pytest.raises(error, match=message):
        Histograms(*counts)


@pytest.mark.parametrize(
    ("method", "arguments", "error", "message"),
    [
        ("mean_average_precision", {"at": 0}, ValueError, "at must be at least 1, got 0"),
        ("mean_average_precision", {"ties": "stable"}, ValueError, "ties must be one of 'expected', .* got 'stable'"),
        ("mean_average_precision", {"denominator": "R"}, ValueError, "denominator must be one of"),
        ("mean_average_precision", {"empty": "skip"}, ValueError, "empty must be one of"),
        ("mean_average_precision", {"seed": 1.0}, TypeError, "seed must be an integer, got 1.0"),
        ("mean_average_precision_within", {"radius": 9}, ValueError, "radius must be at most 8, got 9"),
        ("mean_average_precision_within", {"ties": "feature"}, ValueError, "ties must be one of"),
        ("precision_within", {"radius": -1}, ValueError, "radius must be at least 0, got -1"),
        ("precision_at_k", {"k": 3}, ValueError, "k must be at most 2, got 3"),
        ("recall_at_k", {"k": 0}, ValueError, "k must be at least 1, got 0"),
        ("precision_recall_curve", {"average": "all"}, ValueError, "average must be one of"),
        ("precision_recall_by_rank", {"ranks": [3]}, ValueError, "ranks must be at most 2, got 3"),
    ],
)
def test_bad_arguments_of_methods(method, arguments, error, message):
    found = histograms(CODES, CODES, LABELS, LABELS)
    with pytest.raises(error, match=message):
        getattr(found, method)(**arguments)
