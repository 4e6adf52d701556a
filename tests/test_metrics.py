"""Metrics against golden values, full enumeration of tie orders, and plain loops written from the definitions."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fasthash.metrics import (
    mean_average_precision,
    mean_average_precision_within,
    precision_at_k,
    precision_recall_by_rank,
    precision_recall_curve,
    precision_within,
    recall_at_k,
)
from fasthash.metrics.ties import harmonic_difference

DENOMINATORS = ("retrieved", "min(R,total)", "total")
OVER_ORDERS = {"expected": np.mean, "best": np.max, "worst": np.min}


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


@given(tied_query(), st.sampled_from(DENOMINATORS))
def test_map_over_all_tie_orders(query, denominator):
    """Its mean, its maximum and its minimum; an order drawn is one of them."""
    distances, relevance = query
    rankings = list(tie_orders(distances, relevance))
    for cut in range(1, len(distances) + 1):
        options = {"at": cut, "denominator": denominator}
        oracle = [average_precision(ranked, cut, denominator) for ranked in rankings]
        for ties, over_orders in OVER_ORDERS.items():
            value = mean_average_precision(distances[None], relevance[None], ties=ties, **options)
            assert value == pytest.approx(over_orders(oracle), abs=1e-12)
        value = mean_average_precision(distances[None], relevance[None], ties="random", seed=cut, **options)
        assert np.min(np.abs(np.array(oracle) - value)) < 1e-12


@given(tied_query())
def test_precision_and_recall_at_k_are_means_over_all_tie_orders(query):
    distances, relevance = query
    rankings = list(tie_orders(distances, relevance))
    n = len(distances)
    curve = precision_recall_by_rank(distances[None], relevance[None], range(1, n + 1))
    assert curve.ranks.tolist() == list(range(1, n + 1))
    for k in range(1, n + 1):
        hits = np.mean([sum(ranked[:k]) for ranked in rankings])
        precision, recall = hits / k, hits / max(relevance.sum(), 1)
        assert precision_at_k(distances[None], relevance[None], k) == pytest.approx(precision, abs=1e-12)
        assert recall_at_k(distances[None], relevance[None], k) == pytest.approx(recall, abs=1e-12)
        assert curve.precision[k - 1] == pytest.approx(precision, abs=1e-12)
        assert curve.recall[k - 1] == pytest.approx(recall, abs=1e-12)


@given(tied_query(), st.integers(0, 3), st.sampled_from(DENOMINATORS))
def test_metrics_within_a_radius(query, radius, denominator):
    distances, relevance = query
    near = distances <= radius
    precision = relevance[near].mean() if near.any() else 0
    assert precision_within(distances[None], relevance[None], radius) == pytest.approx(precision)
    oracle = [average_precision(ranked, near.sum(), denominator) for ranked in tie_orders(distances, relevance)]
    for ties, over_orders in OVER_ORDERS.items():
        value = mean_average_precision_within(
            distances[None], relevance[None], radius, ties=ties, denominator=denominator
        )
        assert value == pytest.approx(over_orders(oracle), abs=1e-12)


def test_to_show_one_more_relevant_item_may_lower_ap():
    """Rank 4 is of a group of one relevant item and one that is not: AP@4 is 1 or (1 + 2 / 4) / 2."""
    groups = from_groups((1, 1), (2, 0), (2, 1))
    assert mean_average_precision(*groups, at=4, ties="best") == 1
    assert mean_average_precision(*groups, at=4, ties="worst") == pytest.approx(0.75)
    assert mean_average_precision(*groups, at=4, ties="best", denominator="total") == pytest.approx(0.75)
    assert mean_average_precision(*groups, at=4, ties="worst", denominator="total") == 0.5


@pytest.mark.parametrize("ties", ["expected", "best", "worst", "random", "stable"])
def test_a_perfect_ranking_has_one_and_no_more(ties):
    distances = np.arange(300)[None]
    for at in (1, 3, 65, 100, 300):
        for tied in (distances, distances // 50):
            assert 1 - 1e-15 <= mean_average_precision(tied, distances < 100, at=at, ties=ties) <= 1


def test_orders_are_drawn_evenly():
    distances, relevance = from_groups((3, 1), (4, 2))
    many = np.repeat(distances, 4000, axis=0), np.repeat(relevance, 4000, axis=0)
    for at in (2, 5, 7):
        drawn = [mean_average_precision(*many, at=at, ties="random", seed=seed) for seed in (0, 0, 1)]
        assert drawn[0] == drawn[1] != drawn[2]
        # The standard deviation of one AP is at most 0.5, that of their mean 0.008.
        assert drawn == pytest.approx([mean_average_precision(distances, relevance, at=at)] * 3, abs=0.03)


def test_a_drawn_order_ignores_the_order_of_the_database():
    rng = np.random.default_rng(6)
    distances, relevance = rng.integers(0, 5, (4, 60)), rng.random((4, 60)) < 0.3
    shuffle = rng.permutation(60)
    value = mean_average_precision(distances, relevance, at=20, ties="random", seed=3)
    assert mean_average_precision(distances[:, shuffle], relevance[:, shuffle], at=20, ties="random", seed=3) == value


@pytest.mark.parametrize("denominator", DENOMINATORS)
@pytest.mark.parametrize("at", [1, 13, 60, None])
def test_feature_ties_sort_by_distance_and_then_by_features(at, denominator):
    """HHNet's key: ten times the Hamming distance, and the squared distance of unit vectors, which is at most 4."""
    rng = np.random.default_rng(7)
    distances, relevance = rng.integers(0, 5, (6, 60)), rng.random((6, 60)) < 0.3
    features = rng.random((6, 60), dtype=np.float32) * 4
    orders = np.argsort(10 * distances + features.astype(float), axis=1)
    oracle = [
        average_precision(found[order].tolist(), at or 60, denominator)
        for found, order in zip(relevance, orders, strict=True)
    ]
    options = {"ties": "feature", "feature_distances": features, "denominator": denominator}
    assert mean_average_precision(distances, relevance, at=at, **options) == pytest.approx(np.mean(oracle), abs=1e-12)


def test_feature_ties_that_tie_again_follow_the_columns():
    distances, relevance = np.zeros((1, 3), dtype=np.uint8), np.array([[False, True, True]])
    value = mean_average_precision(distances, relevance, ties="feature", feature_distances=[[1, 1, 0]])
    assert value == pytest.approx((1 + 2 / 3) / 2)


@pytest.mark.parametrize("ties", ["stable", "feature"])
def test_map_within_a_radius_of_ordered_ties(ties):
    rng = np.random.default_rng(8)
    distances, relevance = rng.integers(0, 9, (5, 40)), rng.random((5, 40)) < 0.4
    distances[0] += 3  # nothing within
    features = rng.random((5, 40)) if ties == "feature" else None
    oracle = []
    for row, found, keys in zip(distances, relevance, np.zeros((5, 40)) if features is None else features, strict=True):
        near = np.flatnonzero(row <= 2)
        ranked = found[near[np.lexsort((keys[near], row[near]))]].tolist()
        oracle.append(average_precision(ranked, len(ranked), "retrieved"))
    value = mean_average_precision_within(distances, relevance, ties=ties, feature_distances=features)
    assert value == pytest.approx(np.mean(oracle), abs=1e-12)
    assert oracle[0] == 0


def test_ranking_a_ball_by_features_alone():
    distances, relevance = np.array([[2, 0, 1, 3]]), np.array([[True, False, True, True]])
    ball = np.where(distances <= 2, 0, 3)
    value = mean_average_precision_within(ball, relevance, ties="feature", feature_distances=[[0.1, 0.3, 0.2, 0.0]])
    assert value == 1
    assert mean_average_precision_within(distances, relevance) == pytest.approx((1 / 2 + 2 / 3) / 2)


@pytest.mark.parametrize("denominator", DENOMINATORS)
@pytest.mark.parametrize("ties", ["expected", "stable", "best", "worst", "random", "feature"])
@pytest.mark.parametrize("at", [1, 7, 40, 1000, None])
def test_map_without_ties_equals_the_definition(at, ties, denominator):
    distances, relevance = without_ties(np.random.default_rng(0), 20, 40)
    oracle = [
        average_precision(found[np.argsort(row)].tolist(), at or 40, denominator)
        for row, found in zip(distances, relevance, strict=True)
    ]
    options = {"feature_distances": -distances} if ties == "feature" else {}
    value = mean_average_precision(distances, relevance, at=at, ties=ties, denominator=denominator, **options)
    assert value == pytest.approx(np.mean(oracle), abs=1e-12)


def test_map_precision_and_recall_equal_torchmetrics_without_ties():
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
        expected = np.mean([float(retrieval.retrieval_recall(*pair, top_k=at)) for pair in pairs])
        assert recall_at_k(distances, relevance, at) == pytest.approx(expected, abs=1e-6)


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


def test_a_query_without_relevant_items_counts_zero_or_is_dropped():
    ranking = np.array([[0, 1], [0, 1]]), np.array([[True, True], [False, False]])
    for ties, denominator in itertools.product(("expected", "stable", "best", "worst", "random"), DENOMINATORS):
        options = {"ties": ties, "denominator": denominator}
        assert mean_average_precision(*ranking, **options) == 0.5
        assert mean_average_precision(*ranking, **options, empty="drop") == 1
        assert mean_average_precision_within(*ranking, 0, **options, empty="drop") == {"total": 0.5}.get(denominator, 1)
    for metric, argument in ((precision_at_k, 1), (recall_at_k, 2), (precision_within, 0)):
        assert metric(*ranking, argument) == 0.5
        assert metric(*ranking, argument, empty="drop") == 1
    assert precision_recall_by_rank(*ranking, [1, 2]).recall.tolist() == [0.25, 0.5]
    assert precision_recall_by_rank(*ranking, [1, 2], empty="drop").recall.tolist() == [0.5, 1]
    for average in ("micro", "macro"):
        assert precision_recall_curve(*ranking, n_bits=1, average=average).precision.tolist() == [0.5, 0.5]
        curve = precision_recall_curve(*ranking, n_bits=1, average=average, empty="drop")
        assert curve.precision.tolist() == [1, 1]
        assert curve.recall.tolist() == [0.5, 1]


def test_a_query_whose_relevant_items_come_too_late_is_not_dropped():
    ranking = np.array([[0, 1], [0, 1]]), np.array([[True, True], [False, True]])
    assert mean_average_precision(*ranking, at=1, empty="drop") == 0.5


@pytest.mark.parametrize(
    "metric",
    [
        lambda *ranking: mean_average_precision(*ranking, empty="drop"),
        lambda *ranking: mean_average_precision(*ranking, ties="stable", empty="drop"),
        lambda *ranking: mean_average_precision_within(*ranking, empty="drop"),
        lambda *ranking: precision_at_k(*ranking, 1, empty="drop"),
        lambda *ranking: recall_at_k(*ranking, 1, empty="drop"),
        lambda *ranking: precision_within(*ranking, empty="drop"),
        lambda *ranking: precision_recall_curve(*ranking, 8, empty="drop"),
        lambda *ranking: precision_recall_by_rank(*ranking, [1], empty="drop"),
    ],
)
def test_dropping_all_queries_is_refused(metric):
    with pytest.raises(ValueError, match="empty='drop' needs a query with relevant items, but there is none"):
        metric([[0, 1]], [[False, False]])


@pytest.mark.parametrize(("first", "last"), [(0, 1), (0, 63), (3, 64), (60, 70), (64, 65), (0, 5000), (999_990, 10**6)])
def test_harmonic_differences_are_exact(first, last):
    exact = math.fsum(1 / j for j in range(first + 1, last + 1))
    assert harmonic_difference(first, last) == pytest.approx(exact, rel=1e-14)
    assert harmonic_difference(first, first) == 0


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
    assert precision_within(huge, relevance, 1 << 40) == precision_within(distances, relevance, 1)
    value = mean_average_precision_within(huge, relevance, 1 << 40)
    assert value == mean_average_precision_within(distances, relevance, 1)


def test_precision_recall_curve_counts_balls():
    rng = np.random.default_rng(3)
    distances, relevance = rng.integers(2, 17, (6, 30)), rng.random((6, 30)) < 0.4
    curve = precision_recall_curve(distances, relevance, n_bits=20)
    assert curve.radii.tolist() == list(range(21))
    for radius, precision, recall in zip(*curve, strict=True):
        ball = distances <= radius
        assert recall == pytest.approx((ball & relevance).sum() / relevance.sum())
        assert precision == pytest.approx((ball & relevance).sum() / ball.sum() if ball.any() else 1.0)


def test_the_macro_curve_is_a_mean_over_queries():
    rng = np.random.default_rng(9)
    distances, relevance = rng.integers(2, 17, (6, 30)), rng.random((6, 30)) < 0.4
    relevance[0] = False
    curve = precision_recall_curve(distances, relevance, n_bits=20, average="macro")
    for radius, precision, recall in zip(*curve, strict=True):
        ball = distances <= radius
        hits = (ball & relevance).sum(axis=1)
        assert precision == pytest.approx(np.mean(hits / np.maximum(ball.sum(axis=1), 1)))
        assert precision == pytest.approx(precision_within(distances, relevance, radius))
        assert recall == pytest.approx(np.mean(hits / np.maximum(relevance.sum(axis=1), 1)))


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
        mean_average_precision_within,
        precision_within,
        lambda *ranking: precision_at_k(*ranking, k=1),
        lambda *ranking: recall_at_k(*ranking, k=1),
        lambda *ranking: precision_recall_curve(*ranking, n_bits=8),
        lambda *ranking: precision_recall_by_rank(*ranking, ranks=[1]),
    ):
        with pytest.raises(error, match=message):
            metric(*arrays)


@pytest.mark.parametrize(
    ("metric", "options", "error", "message"),
    [
        (mean_average_precision, {"at": 0}, ValueError, "at must be at least 1, got 0"),
        (mean_average_precision, {"at": 2.0}, TypeError, "at must be an integer, got 2.0"),
        (
            mean_average_precision,
            {"ties": "luck"},
            ValueError,
            "ties must be one of 'expected', .*'feature', got 'luck'",
        ),
        (mean_average_precision, {"empty": "nan"}, ValueError, "empty must be one of 'zero', 'drop', got 'nan'"),
        (mean_average_precision, {"ties": "stable", "empty": 0}, ValueError, "empty must be one of"),
        (mean_average_precision, {"ties": "stable", "denominator": "R"}, ValueError, "denominator must be one of"),
        (mean_average_precision, {"seed": -1}, ValueError, "seed must be at least 0, got -1"),
        (mean_average_precision, {"ties": "stable", "seed": 0.5}, TypeError, "seed must be an integer, got 0.5"),
        (mean_average_precision, {"ties": "feature"}, ValueError, "feature_distances must be given .*got none"),
        (mean_average_precision, {"feature_distances": [[0, 0, 0]]}, ValueError, "got some with 'expected'"),
        (
            mean_average_precision,
            {"ties": "feature", "feature_distances": [["a", "b", "c"]]},
            TypeError,
            "feature_distances must be an array of real numbers, got dtype <U1",
        ),
        (
            mean_average_precision,
            {"ties": "feature", "feature_distances": [0.0]},
            ValueError,
            r"feature_distances must have the shape of distances, \(1, 3\), got \(1,\)",
        ),
        (
            mean_average_precision,
            {"ties": "feature", "feature_distances": [[0.0, np.nan, 1.0]]},
            ValueError,
            r"feature_distances must not hold NaN, found one at \[0, 1\]",
        ),
        (mean_average_precision_within, {"radius": -1}, ValueError, "radius must be at least 0, got -1"),
        (mean_average_precision_within, {"radius": 2.0}, TypeError, "radius must be an integer, got 2.0"),
        (mean_average_precision_within, {"ties": "luck"}, ValueError, "ties must be one of"),
        (mean_average_precision_within, {"denominator": "R"}, ValueError, "denominator must be one of"),
        (precision_within, {"radius": -1}, ValueError, "radius must be at least 0, got -1"),
        (precision_within, {"empty": ""}, ValueError, "empty must be one of 'zero', 'drop', got ''"),
        (recall_at_k, {"k": 4}, ValueError, "k must be at most 3, got 4"),
        (recall_at_k, {"k": 1, "empty": None}, ValueError, "empty must be one of"),
        (precision_at_k, {"k": 1, "empty": None}, ValueError, "empty must be one of"),
        (
            precision_recall_curve,
            {"n_bits": 2, "average": "mean"},
            ValueError,
            "average must be one of 'micro', 'macro'",
        ),
        (precision_recall_curve, {"n_bits": 2, "empty": "one"}, ValueError, "empty must be one of"),
        (precision_recall_by_rank, {"ranks": [0]}, ValueError, "ranks must be at least 1, got 0"),
        (precision_recall_by_rank, {"ranks": [1, 4]}, ValueError, "ranks must be at most 3, got 4"),
        (precision_recall_by_rank, {"ranks": [1.0]}, TypeError, "ranks must be an integer array, got dtype float64"),
        (precision_recall_by_rank, {"ranks": [[1]]}, ValueError, r"ranks must have shape \(m,\) .* got \(1, 1\)"),
        (precision_recall_by_rank, {"ranks": []}, ValueError, r"ranks must have shape \(m,\) .* got \(0,\)"),
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
