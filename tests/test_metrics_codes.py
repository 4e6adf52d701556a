"""Diagnostics of codes, against numpy on unpacked bits."""

import numpy as np
import pytest

from fasthash.metrics import code_diagnostics, diagnostics


@pytest.fixture
def bits():
    rng = np.random.default_rng(0)
    bits = rng.random((500, 24)) < rng.uniform(0.1, 0.9, 24)
    bits[:, 7] = ~bits[:, 2] ^ (rng.random(500) < 0.05)
    bits[100:200] = bits[:100]
    return bits


@pytest.mark.parametrize("block", [1 << 16, 64])
def test_balance_and_correlation(bits, block, monkeypatch):
    monkeypatch.setattr(diagnostics, "_BLOCK", block)
    found = code_diagnostics(np.packbits(bits, axis=1))
    pairs = np.abs(np.corrcoef(bits.T)[np.triu_indices(24, 1)])
    assert found.bit_balance == pytest.approx(bits.mean(axis=0))
    assert found.largest_correlation == pytest.approx(pairs.max())
    assert found.mean_correlation == pytest.approx(pairs.mean())
    assert found.largest_correlation > 0.7


def test_bits_that_never_change_have_no_correlation(bits):
    bits[:, 3], bits[:, 20] = True, False
    found = code_diagnostics(np.packbits(bits, axis=1))
    assert found.bit_balance[[3, 20]].tolist() == [1, 0]
    pairs = np.abs(np.corrcoef(np.delete(bits, [3, 20], axis=1).T)[np.triu_indices(22, 1)])
    assert found.mean_correlation == pytest.approx(pairs.mean())


def test_one_code():
    found = code_diagnostics(np.array([[0x80]], dtype=np.uint8))
    assert found.bit_balance.tolist() == [1] + [0] * 7
    assert found[1:] == (0, 0, 1, 1, None)


def test_distinct_codes_and_branching():
    codes = np.array([[0, 0], [0, 1], [0, 1], [9, 0]], dtype=np.uint8)
    found = code_diagnostics(codes)
    assert found.n_distinct == 3
    assert found.effective_branching == pytest.approx((4 / 3) ** 0.75 * 4**0.25)
    assert code_diagnostics(codes, first_level=16).effective_branching == pytest.approx(2**1.5)
    every = np.arange(256, dtype=np.uint8)[:, None]
    assert code_diagnostics(every).effective_branching == pytest.approx(256)
    assert code_diagnostics(every).largest_correlation == 0


@pytest.mark.parametrize("block", [1 << 16, 64])
def test_quantisation_error(bits, block, monkeypatch):
    monkeypatch.setattr(diagnostics, "_BLOCK", block)
    outputs = np.random.default_rng(1).standard_normal(bits.shape).astype(np.float32)
    found = code_diagnostics(np.packbits(bits, axis=1), outputs=outputs)
    assert found.quantisation_error == pytest.approx(np.mean((outputs - np.where(bits, 1.0, -1.0)) ** 2))


CODES = np.zeros((2, 2), dtype=np.uint8)


@pytest.mark.parametrize(
    ("codes", "options", "error", "message"),
    [
        (CODES * 1.0, {}, TypeError, "codes must be a uint8 array of packed bits, got dtype float64"),
        (CODES[0], {}, ValueError, r"codes must have shape \(n, n_bytes\) .* got \(2,\)"),
        (CODES[:0], {}, ValueError, r"codes must have at least one code, got shape \(0, 2\)"),
        (CODES, {"first_level": 12}, ValueError, "first_level must be a multiple of 8, got 12"),
        (CODES, {"first_level": 24}, ValueError, "first_level must be at most the 16 bits of codes, got 24"),
        (CODES, {"outputs": np.zeros((2, 16), int)}, TypeError, "outputs must be a float array, got dtype int64"),
        (CODES, {"outputs": np.zeros((2, 8))}, ValueError, r"outputs must have shape \(2, 16\) .* got \(2, 8\)"),
        (CODES, {"outputs": np.full((2, 16), np.inf)}, ValueError, "outputs must be finite, found inf"),
    ],
)
def test_bad_input(codes, options, error, message):
    with pytest.raises(error, match=message):
        code_diagnostics(codes, **options)
