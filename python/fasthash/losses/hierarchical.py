"""One loss on every level of a hierarchical code."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Literal, cast, get_args

import numpy as np
import torch
from torch import Tensor, nn

from fasthash._checks import check_choice, check_level_bits, check_not_negative, check_real
from fasthash.losses.base import HashLoss
from fasthash.losses.terms import correlation

__all__ = ["HierarchicalLoss", "normalised_weights"]

Mode = Literal["parallel", "prefix"]


class HierarchicalLoss(HashLoss):
    """Weighted sum of losses over the levels of a code, `sum_i w_i base_i(z_i, labels)`.

    With HashNet losses, it is the loss of HDHash, ICPR 2020, doi:10.1109/ICPR48806.2021.9412826.

    Args:
        base: one loss for all levels; or a sequence with one loss for each level, which losses with parameters or
            memories of a certain width need.
        level_bits: widths of the levels in bits, positive multiples of 8, coarse first, in the order of the columns of
            `z`.
        weights: the weights w, one for each level, positive and never increasing from coarse to fine; normalised to a
            sum of 1. None takes 1, 1/2, 1/4, ...
        mode: outputs of level i: "parallel" takes level i alone; "prefix" takes all levels up to i, as a search does
            when it ranks at level i.
        decorrelation: weight of the mean squared covariance of two bits, over all pairs of bits of the whole code; 0 is
            none. Levels that are learned alone repeat each other's bits. On features of photos, weight 10 raised the
            mAP of all levels together at about the same number of codes compared by an exact search
            (docs/results.md). Uncorrelated bits are a condition of spectral hashing (Weiss, Torralba and Fergus, 2008).

    Raises:
        TypeError: `base` is neither a `HashLoss` nor a sequence of them, or a width is not an integer.
        ValueError: a width, a weight or the number of losses or weights is wrong, `mode` is unknown, or `decorrelation`
            is negative; when called, `z` does not have `sum(level_bits)` columns.

    Examples:
        >>> loss = HierarchicalLoss(HashNetLoss(), level_bits=(8, 16, 40))
        >>> value = loss(torch.randn(4, 64), torch.tensor([0, 0, 1, 2]))
        >>> loss = HierarchicalLoss([HyP2Loss(bits, n_classes=10) for bits in (8, 16, 40)], level_bits=(8, 16, 40))
    """

    def __init__(
        self,
        base: HashLoss | Sequence[HashLoss],
        level_bits: int | Sequence[int],
        weights: Sequence[float] | None = None,
        mode: Mode = "parallel",
        decorrelation: float = 0.0,
    ) -> None:
        super().__init__()
        self.level_bits = check_level_bits(level_bits)
        bases = base if isinstance(base, Sequence) else [base]
        if not bases or not all(isinstance(one, HashLoss) for one in bases):
            raise TypeError(f"base must be a HashLoss or a sequence of them, got {base!r}")
        if isinstance(base, Sequence) and len(bases) != len(self.level_bits):
            raise ValueError(f"base must hold one loss for each of the {len(self.level_bits)} levels, got {len(bases)}")
        if not isinstance(base, Sequence) and base.needs_index and len(self.level_bits) > 1:
            raise ValueError("base must hold one loss for each level where it remembers images, got one for all")
        check_choice("mode", mode, get_args(Mode))
        self.bases = nn.ModuleList(bases)
        self.weights = normalised_weights("weights", weights, len(self.level_bits))
        self.mode = mode
        self.decorrelation = check_not_negative("decorrelation", decorrelation)

    def _base(self, level: int) -> HashLoss:
        return cast(HashLoss, self.bases[level % len(self.bases)])

    @property
    def needs_index(self) -> bool:
        """Whether the loss of any level needs `index`."""
        return any(self._base(level).needs_index for level in range(len(self.bases)))

    def step(self) -> None:
        """Advance the schedules of each base loss once."""
        for base in self.bases.children():  # a base that serves several levels is stepped once
            cast(HashLoss, base).step()

    def batch_loss(self, z: Tensor, labels: Tensor, index: Tensor | None) -> Tensor:
        """See `HashLoss.forward`."""
        if z.shape[1] != sum(self.level_bits):
            raise ValueError(f"z must have sum(level_bits) = {sum(self.level_bits)} columns, got {z.shape[1]}")
        losses = []
        for level, (bits, end) in enumerate(zip(self.level_bits, accumulate(self.level_bits), strict=True)):
            start = 0 if self.mode == "prefix" else end - bits
            losses.append(self.weights[level] * self._base(level)(z[:, start:end], labels, index))
        if self.decorrelation:
            losses.append(self.decorrelation * correlation(torch.tanh(z)))
        return torch.stack(losses).sum()


def normalised_weights(name: str, weights: Sequence[float] | None, n_levels: int) -> tuple[float, ...]:
    """Check the weights of the levels and normalise them to a sum of 1; `name` is the argument named in errors.

    Raises:
        TypeError, ValueError: as in `HierarchicalLoss`.
    """
    if weights is None:
        weights = [0.5**level for level in range(n_levels)]
    if isinstance(weights, str) or not isinstance(weights, (Sequence, np.ndarray)):
        raise TypeError(f"{name} must be a sequence of numbers, got {weights!r}")
    for weight in weights:
        check_real(name, weight)
    if len(weights) != n_levels:
        raise ValueError(f"{name} must hold one weight for each of the {n_levels} levels, got {weights!r}")
    if not all(0 < weight < math.inf for weight in weights):
        raise ValueError(f"{name} must be positive and finite, got {weights!r}")
    if any(coarse < fine for coarse, fine in pairwise(weights)):
        raise ValueError(f"{name} must not increase from coarse to fine levels, got {weights!r}")
    return tuple(float(weight / sum(weights)) for weight in weights)
