"""mAP of rankings by Hamming distance and then by cosine, beside a sort of each query's gallery."""

import numpy as np
import pytest

from fasthash.metrics import mean_average_precision, mean_average_precision_of_outputs

RNG = np.random.default_rng(0)


def sorted_map(queries, gallery, query_labels, gallery_labels, at, empty):
    """The key of HHNet's code, 10 * Hamming distance + squared distance of unit vectors, sorted query by query."""
    found = []
    rays = gallery / np.linalg.norm(gallery, axis=1, keepdims=True)
    for output, label in zip(queries, query_labels, strict=True):
        distance = ((output >= 0) != (gallery >= 0)).sum(axis=1)
        key = 10 * distance + ((output / np.linalg.norm(output) - rays) ** 2).sum(axis=1)
        shared = gallery_labels @ label > 0 if gallery_labels.ndim == 2 else gallery_labels == label
        ranked = shared[np.argsort(key, kind="stable")][:at]
        if empty == "drop" and not shared.any():
            continue
        hits = np.cumsum(ranked)
        ranks = np.arange(1, len(ranked) + 1)
        found.append((ranked * hits / ranks).sum() / max(hits[-1], 1))
    return np.mean(found)


@pytest.mark.parametrize("empty", ["zero", "drop"])
@pytest.mark.parametrize("at", [None, 50])
@pytest.mark.parametrize("several", [False, True])
def test_it_is_the_sorted_ranking(several, at, empty):
    queries, gallery = RNG.normal(size=(150, 8)), RNG.normal(size=(300, 8))
    if several:
        labels = RNG.random((150, 4)) < 0.2, RNG.random((300, 4)) < 0.2
    else:
        labels = RNG.integers(0, 6, 150), RNG.integers(0, 5, 300)  # queries of class 5 have nothing relevant
    value = mean_average_precision_of_outputs(queries, gallery, *labels, at=at, empty=empty)
    assert value == pytest.approx(sorted_map(queries, gallery, *labels, at, empty), abs=1e-12)


def test_a_zero_output_has_the_code_of_a_positive_one():
    outputs = np.array([[0.0] * 8, [1.0] * 8, [-1.0] * 8])
    assert mean_average_precision_of_outputs(outputs[:1], outputs[1:], [1], [1, 0]) == 1
    assert mean_average_precision_of_outputs(outputs[:1], outputs[1:], [0], [1, 0]) == 0.5


def test_cosine_decides_among_equal_codes_only():
    gallery = np.array([[9.0] + [1] * 7, [1.0] * 8, [-0.1] + [1.0] * 7])
    labels = [0, 1, 1]
    distances, relevance = [[0, 0, 1]], [[False, True, True]]
    assert mean_average_precision(distances, relevance) < mean_average_precision_of_outputs(
        np.ones((1, 8)), gallery, [1], labels
    )


@pytest.mark.parametrize(("dtype", "scale"), [("float16", 1), ("float32", 1e30), ("float64", 1e300)])
def test_squares_of_large_outputs_do_not_overflow(dtype, scale):
    gallery = np.array([[40.0] * 32 + [1.0] * 32, [40.0] * 64]) * scale
    gallery = gallery.astype(dtype)
    assert mean_average_precision_of_outputs(gallery[1:], gallery, [0], [1, 0]) == 1


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"query_outputs": np.ones((2, 8), int)}, TypeError, "query_outputs must be a float array, got dtype int64"),
        ({"query_outputs": np.ones((2, 16))}, ValueError, "query_outputs must be 8 wide, as the gallery's, got 16"),
        ({"gallery_outputs": np.ones(8)}, ValueError, r"gallery_outputs must have shape \(n, n_bits\) .* got \(8,\)"),
        (
            {"gallery_outputs": np.full((3, 8), np.nan)},
            ValueError,
            r"gallery_outputs must be finite, found nan at \[0, 0\]",
        ),
        (
            {"query_outputs": np.full((2, 8), np.inf)},
            ValueError,
            r"query_outputs must be finite, found inf at \[0, 0\]",
        ),
        ({"query_labels": [0]}, ValueError, "must be of 2 and 3 items, got 1 and 3"),
        ({"gallery_labels": [0.0, 1.0, 2.0]}, TypeError, "gallery_labels must be integers, got dtype float64"),
        ({"empty": "skip"}, ValueError, "empty must be one of 'zero', 'drop', got 'skip'"),
        ({"at": 0}, ValueError, "at must be at least 1, got 0"),
        ({"query_labels": [7, 8], "empty": "drop"}, ValueError, "empty='drop' needs a query with relevant items"),
    ],
)
def test_bad_arguments(changes, error, message):
    given = {
        "query_outputs": np.ones((2, 8)),
        "gallery_outputs": np.ones((3, 8)),
        "query_labels": [0, 1],
        "gallery_labels": [0, 1, 2],
    }
    with pytest.raises(error, match=message):
        mean_average_precision_of_outputs(**given | changes)
