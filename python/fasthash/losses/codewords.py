"""The margin of CEL and HyP2: how far apart the codes of classes can be."""

from __future__ import annotations

from fasthash._checks import check_int

__all__ = ["code_margin"]

# Largest minimum distance of a binary linear code of n_bits bits with 2^k words, k = 4, 5, 6, 7.
_LARGEST_DISTANCE = {
    8: (4, 2, 2, 2),
    12: (6, 4, 4, 4),
    16: (8, 8, 6, 6),
    24: (12, 12, 10, 10),
    32: (16, 16, 16, 14),
    36: (18, 17, 16, 16),
    40: (20, 20, 18, 18),
    48: (24, 24, 24, 22),
    56: (29, 28, 28, 26),
    64: (33, 32, 32, 32),
    128: (68, 64, 64, 64),
}


def code_margin(n_bits: int, n_classes: int) -> float:
    """Return the margin for codes of different classes as a cosine: `1 - 2 d / n_bits`.

    d is the largest minimum distance of a binary linear code with at least `n_classes` words, from the table of known
    codes in Xu et al., HyP2 Loss, ACM MM 2022. For widths and numbers of classes outside the table, d is the largest
    value that Griesmer's bound allows; real codes may not reach it.

    Raises:
        TypeError, ValueError: an argument is not a positive integer.

    Examples:
        >>> code_margin(16, 100)
        0.25
    """
    check_int("n_bits", n_bits, 1)
    k = max(1, (check_int("n_classes", n_classes, 1) - 1).bit_length())  # 2^k words, k = ceil(log2(n_classes))
    if n_bits in _LARGEST_DISTANCE and 4 <= k <= 7:
        d = _LARGEST_DISTANCE[n_bits][k - 4]
    else:
        d = max((d for d in range(1, n_bits + 1) if _griesmer(d, k) <= n_bits), default=1)
    return 1 - 2 * d / n_bits


def _griesmer(d: int, k: int) -> int:
    """Return Griesmer's lower bound on the bits of a linear code with 2^k words and distance d."""
    return sum(-(-d // 2**i) for i in range(k))
