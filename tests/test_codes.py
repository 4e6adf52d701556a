import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fasthash as fh

bit_rows = st.tuples(st.integers(0, 20), st.integers(1, 16)).flatmap(
    lambda shape: hnp.arrays(bool, (shape[0], shape[1] * 8))
)


@given(bit_rows)
def test_pack_and_unpack_are_inverse(bits):
    codes = fh.pack_bits(bits)
    assert codes.dtype == np.uint8
    assert codes.shape == (len(bits), bits.shape[1] // 8)
    np.testing.assert_array_equal(fh.unpack_bits(codes, bits.shape[1]), bits)


@pytest.mark.filterwarnings("ignore:no value of z is negative")
@given(bit_rows)
def test_sign_codes_sets_the_bits_of_non_negative_outputs(bits):
    z = np.where(bits, 0.25, -0.25)
    np.testing.assert_array_equal(fh.sign_codes(z), fh.pack_bits(bits))


def test_bit_order_is_that_of_numpy_packbits():
    bits = np.zeros(16, dtype=np.uint8)
    bits[9] = 1
    np.testing.assert_array_equal(fh.pack_bits(bits), [0, 0b01000000])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_zero_counts_as_positive(dtype):
    z = np.array([0.0, -0.0, -1, 1, np.inf, -np.inf, -1, -1], dtype=dtype)
    np.testing.assert_array_equal(fh.sign_codes(z), [0b11011000])


def test_integers_are_accepted_as_bits():
    np.testing.assert_array_equal(fh.pack_bits([[1, 0, 0, 0, 0, 0, 0, 1]]), [[129]])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fh.pack_bits(np.full((2, 8), 0.5)), TypeError, "bits must be a bool.*float64; .*sign_codes"),
        (lambda: fh.pack_bits(np.eye(8)), TypeError, r"bits must be a bool.*float64; fasthash.pack_bits\(bits > 0\)"),
        (lambda: fh.pack_bits([["a"] * 8]), TypeError, "bits must be a bool or integer array"),
        (
            lambda: fh.pack_bits(["0101"]),
            TypeError,
            r"<U4; fasthash.pack_bits\(\[\[int\(bit\) for bit in text\]",
        ),
        (lambda: fh.pack_bits([]), ValueError, r"tell the width .* for no codes, give shape \(0, n_bits\)$"),
        (lambda: fh.pack_bits(np.full((1, 8), 2)), ValueError, "only zeros and ones, found 2"),
        (lambda: fh.pack_bits(np.full((1, 8), -1)), ValueError, r"only zeros and ones, found -1; .*bits >= 0\)"),
        (lambda: fh.pack_bits([[-1, 2]]), ValueError, "only zeros and ones, found -1$"),
        (lambda: fh.pack_bits(np.zeros((2, 0), bool)), ValueError, "bits must have at least one bit"),
        (lambda: fh.pack_bits(True), ValueError, r"bits must have shape .*got \(\)"),
        (lambda: fh.pack_bits(np.zeros((1, 1, 8), bool)), ValueError, "bits must have shape"),
        (lambda: fh.unpack_bits(np.zeros((2, 2), np.int64)), TypeError, "codes must be a uint8 array.*int64"),
        (lambda: fh.unpack_bits(np.zeros((2, 2), np.uint8), 8), ValueError, "hold 16 bits, but n_bits = 8"),
        (lambda: fh.unpack_bits(np.zeros((2, 2), np.uint8), 16.0), TypeError, "n_bits must be an integer, got 16.0"),
        (lambda: fh.unpack_bits(np.zeros((2, 0), np.uint8)), ValueError, r"codes must have shape .*\(2, 0\)"),
        (
            lambda: fh.sign_codes(np.zeros((2, 8), np.int64)),
            TypeError,
            r"a float array.*int64; .*pack_bits\(z\)",
        ),
        (lambda: fh.sign_codes(np.array([[-1, 1]], np.int8)), TypeError, r"got dtype int8; .*pack_bits\(z >= 0\)"),
        (lambda: fh.sign_codes([[3, 5]]), TypeError, "got dtype int64$"),
        (lambda: fh.sign_codes(np.zeros((2, 0))), ValueError, "z must have at least one bit"),
        (lambda: fh.sign_codes(np.full((2, 8), np.nan)), ValueError, r"must not hold NaN.*\[0, 0\]"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_outputs_that_are_never_negative_are_warned_of():
    outputs = np.random.default_rng(0).random((4, 64))  # as of a sigmoid
    with pytest.warns(UserWarning, match=r"^no value of z is negative, .*; subtract a threshold first, such as 0\.5"):
        assert (fh.sign_codes(outputs) == 255).all()
    for usual in (outputs - 0.5, outputs[0], outputs[:1], outputs[:, :8]):  # a few may be positive by chance
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            fh.sign_codes(usual)
