"""`code_diagnostics`: measures how well codes use their bits."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fasthash._arrays import as_array
from fasthash._checks import check_codes_of_any_width, check_whole_bytes

__all__ = ["CodeDiagnostics", "code_diagnostics"]

# Codes unpacked at a time; float32 counts them exactly.
_BLOCK = 1 << 16


class CodeDiagnostics(NamedTuple):
    """The result of `code_diagnostics`.

    Attributes:
        bit_balance: float64 `(n_bits,)`, share of the codes that have each bit set; 0.5 is balanced.
        largest_correlation: largest absolute correlation of two bits over the codes, 0 to 1; constant bits are left
            out, since they have no correlation.
        mean_correlation: mean absolute correlation over all pairs of non-constant bits; 0 if no pair exists.
        n_distinct: number of distinct codes.
        effective_branching: 2^H, where H is the entropy of the first level of the codes in bits: the number of equally
            full nodes that would divide the codes as well.
        quantisation_error: mean of (z - b)² over codes and bits, for real outputs z and codes b of -1 and +1; None
            without outputs.
    """

    bit_balance: NDArray[np.float64]
    largest_correlation: float
    mean_correlation: float
    n_distinct: int
    effective_branching: float
    quantisation_error: float | None


def code_diagnostics(codes: ArrayLike, *, first_level: int = 8, outputs: ArrayLike | None = None) -> CodeDiagnostics:
    """Measure balance and correlation of bits, the number of distinct codes, and the quantisation error.

    Balanced and uncorrelated bits are the aims of spectral hashing (Weiss, Torralba and Fergus, NIPS 2008); the
    quantisation error is ITQ's (Gong and Lazebnik, CVPR 2011), for each bit.

    Args:
        codes: packed codes, uint8 `(n, n_bits / 8)`, n at least 1.
        first_level: width in bits of the first level, a multiple of 8, at most n_bits.
        outputs: float `(n, n_bits)`, the real outputs that were binarised to the codes.

    Returns:
        `CodeDiagnostics`.

    Raises:
        TypeError: `codes` is not uint8, `outputs` is not a float array, or `first_level` is not an integer.
        ValueError: a shape does not fit, `codes` is empty, `first_level` is out of range, or an output is NaN or
            infinite.

    Examples:
        >>> code_diagnostics(np.array([[0b00000000], [0b11000000]], dtype=np.uint8)).largest_correlation
        1.0
    """
    array = check_codes_of_any_width("codes", codes)
    n, n_bytes = array.shape
    if n == 0:
        raise ValueError(f"codes must have at least one code, got shape {array.shape}")
    if check_whole_bytes("first_level", first_level) > n_bytes * 8:
        raise ValueError(f"first_level must be at most the {n_bytes * 8} bits of codes, got {first_level}")
    balance, correlation = _moments(array)
    pairs = np.abs(correlation[np.triu_indices(len(correlation), 1)])
    share = np.unique(array[:, : first_level // 8], axis=0, return_counts=True)[1] / n
    return CodeDiagnostics(
        bit_balance=balance,
        largest_correlation=float(pairs.max(initial=0)),
        mean_correlation=float(pairs.mean()) if pairs.size else 0.0,
        n_distinct=len(np.unique(array, axis=0)),
        effective_branching=float(2 ** -np.sum(share * np.log2(share))),
        quantisation_error=None if outputs is None else _quantisation_error(array, outputs),
    )


def _moments(codes: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute the share of ones of each bit, and the correlation matrix of the non-constant bits."""
    both = np.zeros((codes.shape[1] * 8,) * 2)
    for begin in range(0, len(codes), _BLOCK):
        bits = np.unpackbits(codes[begin : begin + _BLOCK], axis=1).astype(np.float32)
        both += bits.T @ bits
    both /= len(codes)
    balance = np.diag(both).copy()
    changes = (balance > 0) & (balance < 1)
    ones = balance[changes]
    deviation = np.sqrt(ones * (1 - ones))
    correlation = (both[np.ix_(changes, changes)] - np.outer(ones, ones)) / np.outer(deviation, deviation)
    return balance, np.clip(correlation, -1, 1)


def _quantisation_error(codes: NDArray[np.uint8], outputs: Any) -> float:
    z = as_array("outputs", outputs)
    if z.dtype.kind != "f":
        raise TypeError(f"outputs must be a float array, got dtype {z.dtype}")
    if z.shape != (len(codes), codes.shape[1] * 8):
        raise ValueError(f"outputs must have shape ({len(codes)}, {codes.shape[1] * 8}) as the codes, got {z.shape}")
    if not np.isfinite(z).all():
        raise ValueError(f"outputs must be finite, found {z[~np.isfinite(z)][0]}")
    total = 0.0
    for begin in range(0, len(codes), _BLOCK):
        signs = np.unpackbits(codes[begin : begin + _BLOCK], axis=1) * 2.0 - 1
        total += float(np.sum((z[begin : begin + _BLOCK] - signs) ** 2))
    return total / z.size
