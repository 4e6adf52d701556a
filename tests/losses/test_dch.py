"""DCHLoss: golden values, its formula as loops, and its arguments."""

import pytest

pytest.importorskip("torch", reason="the losses need torch, which the extra 'train' brings")

import loss_formulas as formulas
from fasthash.losses import DCHLoss
from loss_cases import CLASSES, LABEL_SETS, Z, assert_formula, assert_golden, assert_refused, each_labels, each_pairs


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"gamma": 10, "quantization": 0, "pairs": "all"}, 2.3230636882),
        ({"gamma": 10, "quantization": 0}, 2.3948952115),
        ({"quantization": 0, "pairs": "all"}, 2.8620192685),
        ({"quantization": 0}, 2.9002931892),
    ],
)
def test_golden_values(options, expected):
    assert_golden(DCHLoss(**options), expected)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"gamma": 10}, 0.0156143413),
        ({}, 0.0078405238),
    ],
)
def test_golden_values_of_quantisation(options, expected):
    terms = DCHLoss(quantization=1, **options)(Z, LABEL_SETS) - DCHLoss(quantization=0, **options)(Z, LABEL_SETS)
    assert terms.item() == pytest.approx(expected, abs=1e-9)


@each_labels
@each_pairs
@pytest.mark.parametrize(
    ("options", "of_formula"),
    [
        ({}, {}),
        ({"gamma": 3, "quantization": 0.7}, {"gamma": 3, "quantization": 0.7}),
        ({"variant": "hhnet"}, {"gamma": 10, "quantization": 0.01}),
    ],
    ids=str,
)
def test_equals_its_formula(options, of_formula, pairs, labels):
    assert_formula(DCHLoss(pairs=pairs, **options), formulas.dch, labels, pairs=pairs, **of_formula)


@pytest.mark.parametrize("variant", ["original", "hhnet"])
def test_pairs_default_to_those_of_the_variant(variant):
    default = "all" if variant == "hhnet" else "offdiag"
    assert DCHLoss(variant=variant)(Z, CLASSES) == DCHLoss(variant=variant, pairs=default)(Z, CLASSES)


def test_fraction_of_similar_pairs_can_be_given():
    counted = (CLASSES[:, None] == CLASSES).fill_diagonal_(False).sum().item() / 30
    given = DCHLoss(pairs="offdiag", similar_fraction=counted)(Z, CLASSES)
    assert given == pytest.approx(DCHLoss(pairs="offdiag")(Z, CLASSES))
    assert DCHLoss(similar_fraction=0.01)(Z, CLASSES) != DCHLoss()(Z, CLASSES)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: DCHLoss(variant="paper"), ValueError, "variant must be one of 'original', 'hhnet', got 'paper'"),
        (lambda: DCHLoss(gamma=0), ValueError, "gamma must be positive and finite, got 0"),
        (lambda: DCHLoss(quantization=-1), ValueError, "quantization must be finite and not negative, got -1"),
        (lambda: DCHLoss(similar_fraction=2), ValueError, r"similar_fraction must lie in \[0, 1\].* got 2"),
        (lambda: DCHLoss(pairs="some"), ValueError, "pairs must be one of .* got 'some'"),
    ],
)
def test_bad_arguments(make, error, message):
    assert_refused(make, error, message)
