"""HashHead: the kinds of heads, codes of arrays, tensors and data sets, and bad input."""

import copy
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="heads need the extra 'train'")

from torch.utils.data import TensorDataset

from fasthash.codes import sign_codes
from fasthash.heads import HEAD_KINDS, HashHead


def make(n_features=20, level_bits=(8, 16), **kwargs):
    torch.manual_seed(0)
    return HashHead(n_features, level_bits, **kwargs)


def some_features(n=70, n_features=20):
    return torch.randn(n, n_features, generator=torch.Generator().manual_seed(1))


def trained_statistics(head):
    """The head after a few batches have moved the running statistics of its batch norm."""
    for start in range(5):
        head.train()(some_features(70 + start))
    return head.eval()


KINDS = [{"kind": kind, "batch_norm": batch_norm} for kind in HEAD_KINDS for batch_norm in (False, True)]


# Layers


def test_linear_layers_are_drawn_small_and_without_bias():
    layers = make(2048, (8, 4088)).layers
    assert [(layer.in_features, layer.out_features) for layer in layers] == [(2048, 8), (2048, 4088)]
    weights = torch.cat([layer.weight for layer in layers]).flatten()
    assert weights.mean().abs() < 1e-4
    assert weights.std().item() == pytest.approx(0.01, rel=0.01)
    assert not any(layer.bias.any() for layer in layers)


def test_linear_outputs_are_the_levels_side_by_side():
    head, features = make(), some_features()
    torch.testing.assert_close(head(features), torch.cat([layer(features) for layer in head.layers], dim=1))
    assert head(features).shape == (70, head.n_bits) == (70, 24)


def test_every_slice_of_50_values_gives_one_bit():
    head, features = make(kind="sliced"), some_features()
    encode, slices = head.layers[0], head.layers[2]
    assert encode.out_features == 50 * head.n_bits
    assert slices.weight.shape == (head.n_bits, 50, 1)
    z, values = head(features), encode(features)
    for bit in range(head.n_bits):
        expected = values[:, 50 * bit : 50 * bit + 50] @ slices.weight[bit, :, 0] + slices.bias[bit]
        torch.testing.assert_close(z[:, bit], expected)


@pytest.mark.parametrize("kind", HEAD_KINDS)
def test_batch_norm_is_behind_the_layers(kind):
    head, features = make(kind=kind, batch_norm=True), some_features()
    z = head.train()(features)
    values = head.layers(features)
    torch.testing.assert_close(z, (values - values.mean(0)) / (values.var(0, correction=0) + head.norm.eps).sqrt())
    assert not list(head.norm.parameters())  # none that would learn


def test_arguments_are_kept():
    head = make(7, (8, 24), kind="sliced", batch_norm=True)
    assert (head.n_features, head.level_bits, head.n_bits, head.kind, head.batch_norm) == (
        7,
        (8, 24),
        32,
        "sliced",
        True,
    )
    assert (make().kind, make().batch_norm) == ("linear", False)


# Encoding


@pytest.mark.parametrize("arguments", KINDS)
def test_codes_do_not_depend_on_the_batch_size(arguments):
    head, features = trained_statistics(make(**arguments)).train(), some_features()
    z = copy.deepcopy(head).eval()(features).detach().numpy()
    for batch_size in (1, 7, 64, 1000):
        codes = head.encode(features, batch_size=batch_size)
        assert (codes.dtype, codes.shape) == (np.uint8, (70, 3))
        np.testing.assert_array_equal(codes, sign_codes(z))
    assert len(np.unique(codes, axis=0)) > 35
    assert head.training


def test_batch_size_is_used():
    head, sizes = make(), []
    head.layers.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    head.encode(some_features(), batch_size=30)
    assert sizes == [30, 30, 10]


def test_arrays_tensors_and_data_sets_give_the_same_codes(tmp_path):
    head, features = make(), some_features()
    expected = head.encode(features)
    np.save(tmp_path / "features.npy", features.numpy())
    read_only = np.load(tmp_path / "features.npy", mmap_mode="r")
    for same in (features.numpy(), read_only, TensorDataset(features), TensorDataset(features, torch.zeros(70))):
        np.testing.assert_array_equal(head.encode(same), expected)
    np.testing.assert_array_equal(head.encode(features.numpy()[::-1]), expected[::-1])


def test_no_features_give_no_codes():
    for features in (torch.empty(0, 20), np.empty((0, 20), np.float32), TensorDataset(torch.empty(0, 20))):
        assert make().encode(features).shape == (0, 3)


def test_progress_bar(capsys, monkeypatch):
    make().encode(some_features())
    assert capsys.readouterr().err == ""
    make().encode(some_features(), progress=True)
    assert capsys.readouterr().err == ""  # nobody watches a file
    monkeypatch.setattr("fasthash._hasher.is_watched", lambda: True)
    make().encode(some_features(), progress=True)
    assert "encode" in capsys.readouterr().err


def test_features_in_half_precision_under_autocast():
    head, features = make(), some_features()
    with torch.autocast("cpu", torch.bfloat16):
        assert head(features.bfloat16()).dtype == torch.bfloat16
    with pytest.raises(TypeError, match=r"features must be torch\.float32 like .* got torch\.bfloat16"):
        head(features.bfloat16())


# Bad input


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n_features": 0}, ValueError, "n_features must be at least 1, got 0"),
        ({"n_features": 2.0}, TypeError, "n_features must be an integer, got 2.0"),
        ({"level_bits": (7,)}, ValueError, "level_bits must be at least 8, got 7"),
        ({"level_bits": ()}, ValueError, r"level_bits must name at least one level, got \(\)"),
        ({"kind": "deep"}, ValueError, "kind must be one of 'linear', 'sliced', got 'deep'"),
        ({"batch_norm": None}, TypeError, "batch_norm must be True or False, got None"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        HashHead(**{"n_features": 4, "level_bits": (8,), **arguments})


@pytest.mark.parametrize(
    ("features", "error", "message"),
    [
        (np.zeros((1, 20)), TypeError, "features must be float32, got dtype float64"),
        (np.zeros((1, 20), ">f4"), TypeError, "features must be float32, got dtype >f4"),
        ([[0.0] * 20], TypeError, "features must be float32, got dtype float64"),
        (np.ma.zeros((1, 20), np.float32), TypeError, "features must be an array without a mask"),
        (torch.zeros(1, 20, dtype=torch.float64), TypeError, "features must be torch.float32 .*got torch.float64"),
        (torch.zeros(1, 20, dtype=torch.int64), TypeError, "features must be torch.float32 .*got torch.int64"),
        (torch.zeros(20), ValueError, r"features must have shape \(n, 20\), got \(20,\)"),
        (torch.zeros(0, 21), ValueError, r"features must have shape \(n, 20\), got \(0, 21\)"),
        (np.zeros((1, 19), np.float32), ValueError, r"features must have shape \(n, 20\), got \(1, 19\)"),
        (TensorDataset(torch.zeros(3, 19)), ValueError, r"features must have shape \(n, 20\), got \(3, 19\)"),
        (torch.full((1, 20), math.nan), ValueError, "features must be finite, found nan in number 0"),
    ],
)
def test_bad_features(features, error, message):
    with pytest.raises(error, match=message):
        make().encode(features)


def test_nan_is_found_in_its_batch():
    features = some_features()
    features[33] = math.nan
    with pytest.raises(ValueError, match="features must be finite, found nan in number 33"):
        make().encode(features, batch_size=30)


@pytest.mark.parametrize(("batch_size", "error"), [(0, ValueError), (2.5, TypeError)])
def test_bad_batch_size(batch_size, error):
    with pytest.raises(error, match=f"batch_size must be .*got {batch_size}"):
        make().encode(some_features(), batch_size=batch_size)
