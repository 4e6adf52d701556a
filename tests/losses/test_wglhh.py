"""WGLHHLoss: golden values, its formula as loops, and its arguments."""

import math

import pytest

pytest.importorskip("torch", reason="the losses need torch, which the extra 'train' brings")

import loss_formulas as formulas
from fasthash.losses import WGLHHLoss
from loss_cases import CLASSES, LABEL_SETS, Z, assert_formula, assert_golden, assert_refused, each_labels, each_pairs


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"quantization": 0, "pairs": "all"}, 0.5214260839),
        ({"quantization": 0}, 0.6257113006),
        ({"pos_weight": 0.7, "quantization": 0, "pairs": "all"}, 0.5936727201),
        ({"pos_weight": 0.7, "quantization": 0}, 0.7124072641),
        ({"pos_weight": 70, "quantization": 0, "pairs": "all"}, 7.7460897043),
        ({"pos_weight": 70, "quantization": 0}, 9.2953076455),
        ({"variant": "hhnet", "quantization": 0}, -0.3644829169),
    ],
)
def test_golden_values(options, expected):
    assert_golden(WGLHHLoss(**options), expected)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 1.0593196230),
    ],
)
def test_golden_values_of_quantisation(options, expected):
    terms = WGLHHLoss(quantization=1, **options)(Z, LABEL_SETS) - WGLHHLoss(quantization=0, **options)(Z, LABEL_SETS)
    assert terms.item() == pytest.approx(expected, abs=1e-9)


@each_labels
@each_pairs
@pytest.mark.parametrize(
    ("options", "of_formula"),
    [
        ({}, {}),
        (
            {"alpha": 0.3, "pos_weight": 0.7, "quantization": 0.2},
            {"alpha": 0.3, "pos_weight": 0.7, "quantization": 0.2},
        ),
        ({"variant": "hhnet"}, {"hhnet": True}),
    ],
    ids=str,
)
def test_equals_its_formula(options, of_formula, pairs, labels):
    assert_formula(WGLHHLoss(pairs=pairs, **options), formulas.wglhh, labels, pairs=pairs, **of_formula)


@pytest.mark.parametrize("variant", ["original", "hhnet"])
def test_pairs_default_to_those_of_the_variant(variant):
    default = "all" if variant == "hhnet" else "offdiag"
    assert WGLHHLoss(variant=variant)(Z, CLASSES) == WGLHHLoss(variant=variant, pairs=default)(Z, CLASSES)


def test_fraction_of_similar_pairs_can_be_given():
    counted = (CLASSES[:, None] == CLASSES).fill_diagonal_(False).sum().item() / 30
    given = WGLHHLoss(variant="hhnet", pairs="offdiag", similar_fraction=counted)(Z, CLASSES)
    assert given == pytest.approx(WGLHHLoss(variant="hhnet", pairs="offdiag")(Z, CLASSES))
    assert WGLHHLoss(variant="hhnet", similar_fraction=0.01)(Z, CLASSES) != WGLHHLoss(variant="hhnet")(Z, CLASSES)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: WGLHHLoss(alpha=-1), ValueError, "alpha must be positive and finite, got -1"),
        (lambda: WGLHHLoss(pos_weight=math.inf), ValueError, "pos_weight must be finite"),
        (lambda: WGLHHLoss(variant="hhnet", pos_weight=1), ValueError, "pos_weight must be 0 where"),
        (lambda: WGLHHLoss(similar_fraction=0.5), ValueError, "similar_fraction must be None where variant="),
    ],
)
def test_bad_arguments(make, error, message):
    assert_refused(make, error, message)
