"""Metrics against golden values, full enumeration of tie orders, and plain loops written from the definitions."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fasthash.metrics import mean_average_precision, precision_at_k, precision_recall_curve

DENOMINATORS = ("retrieved", "min(R,total)", "total")


def average_precision(ranked, cut, denominator):
    """AP@R of one ranking, straight from the definition."""
    hits = [rank for rank, relevant in enumerate(ranked[:cut], 1) if relevant]
    divisor = {"retrieved": len(hits), "min(R,total)": min(cut, sum(ranked)), "total": sum(ranked)}[denominator]
    return sum(count / rank for count, rank in enumerate(hits, 1)) / divisor if divisor else 0.0


def tie_orders(distances, relevance):
    """Every ranking that the distances allow, each equally likely."""
    groups = [relevance[distances == distance].tolist() for distance in np.unique(distances)]
    for orders in itertools.product(*map(itertools.permutations, groups)):
        yield list(itertools.chain(*orders))


def from_groups(*groups):
    """One query whose tie group t holds `size` items, `relevant` of them relevant."""
    distances = np.repeat(np.arange(len(groups)), [size for size, _ in groups])
    relevance = np.concatenate([np.arange(size) < relevant for size, relevant in groups])
    return distances[None], relevance[None]


def without_ties(rng, nq, n):
    distances = np.stack([rng.permutation(n) for _ in range(nq)])
    return distances, rng.random((nq, n)) < rng.random((nq, 1))


@st.composite
def tied_query(draw):
    items = draw(st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=6))
    distances, relevance = zip(*items, strict=True)
    return np.array(distances), np.array(relevance)


@pytest.mark.parametrize(
    ("at", "expected"), [(9, 0.6391865079), (6, 0.6701388889), (4, 0.6851851852), (1, 0.5), (None, 0.6391865079)]
)
def test_map_of_known_groups(at, expected):
    value = mean_average_precision(*from_groups((2, 1), (3, 2), (4, 1)), at=at)
    assert isinstance(value, float)
    assert value == pytest.approx(expected, abs=5e-11)


@settings(deadline=None)
@given(tied_query(), st.sampled_from(DENOMINATORS))
def test_map_is_the_mean_over_all_tie_orders(query, denominator):
    distances, relevance = query
    rankings = list(tie_orders(distances, relevance))
    for cut in range(1, len(distances) + 1):
        oracle = np.mean([average_precision(ranked, cut, denominator) for ranked in rankings])
        value = mean_average_precision(distances[None], relevance[None], at=cut, denominator=denominator)
        assert value == pytest.approx(oracle, abs=1e-12)


@settings(deadline=None)
@given(tied_query())
def test_precision_at_k_is_the_mean_over_all_tie_orders(query):
    distances, relevance = query
    rankings = list(tie_orders(distances, relevance))
    for k in range(1, len(distances) + 1):
        oracle = np.mean([sum(ranked[:k]) / k for ranked in rankings])
        assert precision_at_k(distances[None], relevance[None], k) == pytest.approx(oracle, abs=1e-12)


@pytest.mark.parametrize("denominator", DENOMINATORS)
@pytest.mark.parametrize("ties", ["expected", "stable"])
@pytest.mark.parametrize("at", [1, 7, 40, 1000, None])
def test_map_without_ties_equals_the_definition(at, ties, denominator):
    distances, relevance = without_ties(np.random.default_rng(0), 20, 40)
    oracle = [
        average_precision(found[np.argsort(row)].tolist(), at or 40, denominator)
        for row, found in zip(distances, relevance, strict=True)
    ]
    value = mean_average_precision(distances, relevance, at=at, ties=ties, denominator=denominator)
    assert value == pytest.approx(np.mean(oracle), abs=1e-12)


def test_map_and_precision_equal_torchmetrics_without_ties():
    torch = pytest.importorskip("torch", reason="torchmetrics needs torch")
    retrieval = pytest.importorskip("torchmetrics.functional.retrieval", reason="the reference is torchmetrics")
    distances, relevance = without_ties(np.random.default_rng(1), 10, 50)
    # As positive scores: torchmetrics takes no item of a score up to 0 for relevant.
    scores = torch.from_numpy(50 - distances).double()
    pairs = list(zip(scores, torch.from_numpy(relevance), strict=True))
    for at in (1, 10, 50):
        expected = np.mean([float(retrieval.retrieval_average_precision(*pair, top_k=at)) for pair in pairs])
        assert mean_average_precision(distances, relevance, at=at) == pytest.approx(expected, abs=1e-6)
        expected = np.mean([float(retrieval.retrieval_precision(*pair, top_k=at)) for pair in pairs])
        assert precision_at_k(distances, relevance, at) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("denominator", DENOMINATORS)
def test_expected_values_ignore_the_order_of_the_database(denominator):
    rng = np.random.default_rng(2)
    distances, relevance = rng.integers(0, 9, (5, 200)), rng.random((5, 200)) < 0.2
    shuffle = rng.permutation(200)
    for at in (1, 50, 200):
        value = mean_average_precision(distances, relevance, at=at, denominator=denominator)
        shuffled = mean_average_precision(distances[:, shuffle], relevance[:, shuffle], at=at, denominator=denominator)
        assert shuffled == value
        assert precision_at_k(distances[:, shuffle], relevance[:, shuffle], at) == precision_at_k(
            distances, relevance, at
        )


def test_stable_ties_follow_the_columns():
    distances = np.zeros((2, 3), dtype=np.uint8)
    relevance = np.array([[True, False, False], [False, False, True]])
    assert mean_average_precision(distances, relevance, ties="stable") == pytest.approx((1 + 1 / 3) / 2)
    assert mean_average_precision(distances, relevance) == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)


def test_a_query_without_relevant_items_counts_zero():
    distances = np.array([[0, 1], [0, 1]])
    relevance = np.array([[True, True], [False, False]])
    for ties, denominator in itertools.product(("expected", "stable"), DENOMINATORS):
        assert mean_average_precision(distances, relevance, ties=ties, denominator=denominator) == 0.5


def test_big_groups_stay_precise():
    """Half of a huge group relevant, cut in its middle, far down the ranking: against exact slot-by-slot sums."""
    before, size, relevant, cut = 90_000, 10_000, 5_000, 95_000
    distances, relevance = from_groups((before, 1), (size, relevant))
    first = np.sum(1 / np.arange(1, before + 1)) / before
    slots = np.arange(cut - before)
    hits = 2 + slots * (relevant - 1) / (size - 1)
    expected = (first + np.sum(relevant / size * hits / (before + 1 + slots))) / (1 + relevant)
    value = mean_average_precision(distances, relevance, at=cut, denominator="total")
    assert value == pytest.approx(expected, rel=1e-12)

    # The number found is 2,500 within a few tens, so that the random denominator barely matters.
    value = mean_average_precision(distances, relevance, at=cut)
    assert value == pytest.approx(expected * (1 + relevant) / (1 + relevant / 2), rel=1e-3)


def test_distances_that_are_too_large_for_a_histogram():
    distances, relevance = from_groups((2, 1), (3, 2), (4, 1))
    huge = np.array([0, 1 << 40, (1 << 63) + 1], dtype=np.uint64)[distances]
    assert mean_average_precision(huge, relevance, at=6) == mean_average_precision(distances, relevance, at=6)
    assert precision_at_k(huge, relevance, 4) == precision_at_k(distances, relevance, 4)


def test_precision_recall_curve_counts_balls():
    rng = np.random.default_rng(3)
    distances, relevance = rng.integers(2, 17, (6, 30)), rng.random((6, 30)) < 0.4
    curve = precision_recall_curve(distances, relevance, n_bits=20)
    assert curve.radii.tolist() == list(range(21))
    for radius, precision, recall in zip(*curve, strict=True):
        ball = distances <= radius
        assert recall == pytest.approx((ball & relevance).sum() / relevance.sum())
        assert precision == pytest.approx((ball & relevance).sum() / ball.sum() if ball.any() else 1.0)


def test_precision_recall_curve_without_relevant_items():
    curve = precision_recall_curve([[1, 2]], [[False, False]], n_bits=2)
    assert curve.precision.tolist() == [1, 0, 0]
    assert curve.recall.tolist() == [0, 0, 0]


GOOD = np.array([[0, 1, 2]]), np.array([[True, False, True]])


@pytest.mark.parametrize(
    ("arrays", "error", "message"),
    [
        ((GOOD[0] * 1.0, GOOD[1]), TypeError, "distances must be an integer array, got dtype float64"),
        ((GOOD[0], GOOD[1] * 1), TypeError, "relevance must be a bool array, got dtype int64"),
        ((GOOD[0][0], GOOD[1][0]), ValueError, r"distances must have shape \(nq, n\).*got \(3,\)"),
        ((GOOD[0][:0], GOOD[1][:0]), ValueError, r"distances must .* at least 1, got \(0, 3\)"),
        ((GOOD[0][:, :0], GOOD[1][:, :0]), ValueError, r"distances must .* at least 1, got \(1, 0\)"),
        ((GOOD[0], GOOD[1][:, :2]), ValueError, r"relevance must .* \(1, 3\), got \(1, 2\)"),
        ((GOOD[0] - 1, GOOD[1]), ValueError, "distances must not be negative, found -1"),
    ],
)
def test_bad_arrays(arrays, error, message):
    for metric in (
        mean_average_precision,
        lambda *ranking: precision_at_k(*ranking, k=1),
        lambda *ranking: precision_recall_curve(*ranking, n_bits=8),
    ):
        with pytest.raises(error, match=message):
            metric(*arrays)


@pytest.mark.parametrize(
    ("metric", "options", "error", "message"),
    [
        (mean_average_precision, {"at": 0}, ValueError, "at must be at least 1, got 0"),
        (mean_average_precision, {"at": 2.0}, TypeError, "at must be an integer, got 2.0"),
        (mean_average_precision, {"ties": "luck"}, ValueError, "ties must be one of 'expected', 'stable', got 'luck'"),
        (mean_average_precision, {"denominator": "min"}, ValueError, r"denominator .*'min\(R,total\)'.* got 'min'"),
        (precision_at_k, {"k": 0}, ValueError, "k must be at least 1, got 0"),
        (precision_at_k, {"k": 4}, ValueError, "k must be at most 3, got 4"),
        (precision_at_k, {"k": "2"}, TypeError, "k must be an integer, got '2'"),
        (precision_recall_curve, {"n_bits": 0}, ValueError, "n_bits must be at least 1, got 0"),
        (precision_recall_curve, {"n_bits": 1}, ValueError, "distances must be at most n_bits = 1, found 2"),
        (precision_recall_curve, {"n_bits": 1.5}, TypeError, "n_bits must be an integer, got 1.5"),
    ],
)
def test_bad_options(metric, options, error, message):
    with pytest.raises(error, match=message):
        metric(*GOOD, **options)
