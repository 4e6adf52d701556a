"""The pairwise loss of HashNet, with its continuation from tanh to sign."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from fasthash._checks import check_choice, check_int, check_not_negative, check_real
from fasthash.losses.pairs import PairBatch, PairLoss, PairSet, check_fraction_of_similar
from fasthash.losses.terms import logistic

__all__ = ["HashNetLoss"]

Weights = Literal["balanced", "jaccard", "none"]


class HashNetLoss(PairLoss):
    """Weighted logistic loss on inner products of continuous codes.

    The mean over pairs of `w (softplus(a t) - a s t)` with `t = <h_i, h_j>`, `h = tanh(beta z)`, and s = 1 where the
    images share a label, else 0. Every `step_size` iterations beta grows, as `(1 + iteration // step_size) ** power`:
    tanh approaches sign, and no term on the quantisation error is needed.

    The weight w is 1 / p for a similar pair and 1 / (1 - p) for a dissimilar one, where p is the fraction of similar
    pairs. So similar and dissimilar pairs have the same total weight, even if similar pairs are rare.

    Cao, Long, Wang and Yu, HashNet: Deep Learning to Hash by Continuation, ICCV 2017. The authors' code takes
    `pairs="cross"`; HHNet's (arXiv 2403.13747) takes `pairs="all"` and counts p once on the training labels.

    Args:
        scale: the factor a, positive; None takes 10 / n_bits, from the width of `z`.
        step_size: iterations between two changes of beta, at least 1.
        power: exponent of the growth of beta, not negative; 0 keeps beta at 1.
        weights: "balanced" as above; "jaccard" as in the paper, which also multiplies the weight of a similar pair by
            the overlap of its two label sets (1 for single labels); "none" for w = 1.
        similar_fraction: p, from 0 to 1, counted once on the training labels; None counts it on each batch. Clamped to
            [1e-6, 1 - 1e-6].
        pairs: which pairs count, see `PairLoss`.

    Attributes:
        iteration: int64 buffer `()`, the number of calls of `step()`; part of the state dict, so that training resumes.

    Raises:
        TypeError: `step_size` is not an integer.
        ValueError: an argument is out of range, or `similar_fraction` is given with weights="none".

    Examples:
        >>> loss = HashNetLoss(step_size=100)
        >>> value = loss(torch.randn(4, 16, requires_grad=True), torch.tensor([0, 0, 1, 2]))
        >>> value.backward()
        >>> loss.step()
    """

    iteration: Tensor

    def __init__(
        self,
        scale: float | None = None,
        step_size: int = 200,
        power: float = 0.5,
        weights: Weights = "balanced",
        similar_fraction: float | None = None,
        pairs: PairSet = "offdiag",
    ) -> None:
        super().__init__(pairs)
        if scale is not None and not 0 < check_real("scale", scale) < math.inf:
            raise ValueError(f"scale must be positive and finite, or None, got {scale!r}")
        check_choice("weights", weights, get_args(Weights))
        self.similar_fraction = check_fraction_of_similar(similar_fraction)
        if similar_fraction is not None and weights == "none":
            raise ValueError(f"similar_fraction must be None where weights='none', got {similar_fraction!r}")
        self.scale = scale
        self.step_size = check_int("step_size", step_size, 1)
        self.power = check_not_negative("power", power)
        self.weights = weights
        self.register_buffer("iteration", torch.zeros((), dtype=torch.int64))

    @property
    def beta(self) -> float:
        """The current slope of tanh at zero."""
        return math.pow(1 + int(self.iteration) // self.step_size, self.power)

    def step(self) -> None:
        """Count one iteration of the continuation."""
        self.iteration += 1

    def batch_loss(self, z: Tensor, labels: Tensor, index: Tensor | None) -> Tensor:
        """See `HashLoss.forward`; a batch without any pair gives 0."""
        pairs = self.pair_up(torch.tanh(self.beta * z), labels, index)
        losses = logistic((self.scale or 10 / z.shape[1]) * pairs.products(), pairs.similar)
        if self.weights == "none":
            return pairs.mean(losses)
        weights = pairs.balance(self.similar_fraction)
        if self.weights == "jaccard" and labels.ndim == 2:
            weights = weights * torch.where(pairs.similar, _jaccard(pairs, z.dtype), 1)
        return pairs.mean(weights * losses)


def _jaccard(pairs: PairBatch, dtype: torch.dtype) -> Tensor:
    """Return the Jaccard index of the label sets, `(A, B)`; 0 if both sets are empty."""
    left, right = pairs.left_labels.to(dtype), pairs.right_labels.to(dtype)
    common = left @ right.T
    return common / (left.sum(dim=1)[:, None] + right.sum(dim=1) - common).clamp(min=1)
