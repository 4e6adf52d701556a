"""The pairwise loss of HashNet, with its continuation from tanh to sign."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from fasthash._checks import check_choice, check_int, check_real
from fasthash.losses.base import HashLoss, Pairs, pair_mask, similarity

__all__ = ["HashNetLoss"]

Weights = Literal["balanced", "jaccard", "none"]


class HashNetLoss(HashLoss):
    """Weighted logistic loss on inner products of continuous codes.

    Over the pairs (i, j) of a batch, the mean of `w (softplus(a t) - a s t)` with `t = <h_i, h_j>`, `h = tanh(beta z)`,
    and s = 1 where the images share a label, else 0. Every `step_size` iterations beta grows, as
    `(1 + iteration // step_size) ** power`: tanh approaches sign, and no term on the quantisation error is needed.

    With p the fraction of similar pairs, w is 1 / p for a similar pair and 1 / (1 - p) for a dissimilar one: both kinds
    weigh the same in sum, however rare the similar pairs are.

    Cao, Long, Wang and Yu, HashNet: Deep Learning to Hash by Continuation, ICCV 2017.

    Args:
        scale: a, positive; None takes 10 / n_bits, from the width of `z`.
        step_size: iterations between two changes of beta, at least 1.
        power: exponent of the growth of beta, not negative; 0 keeps beta at 1.
        weights: "balanced" as above; "jaccard" as in the paper, where the weight of a similar pair is multiplied by the
            overlap of its two label sets (1 for single labels); "none" for w = 1.
        similar_fraction: p, from 0 to 1, counted once on the training labels; None counts it on each batch. Clamped to
            [1e-6, 1 - 1e-6].
        pairs: "offdiag" leaves out the pairs of an image with itself, "all" keeps them.

    Attributes:
        iteration: int64 buffer `()`, the calls of `step()` so far; kept in the state dict, so that training resumes.

    Raises:
        TypeError: `step_size` is no integer.
        ValueError: an argument is out of range, or `similar_fraction` is given where weights="none" makes no use of it.

    Example:
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
        pairs: Pairs = "offdiag",
    ) -> None:
        super().__init__()
        if scale is not None and not 0 < check_real("scale", scale) < math.inf:
            raise ValueError(f"scale must be positive and finite, or None, got {scale!r}")
        if not 0 <= check_real("power", power) < math.inf:
            raise ValueError(f"power must be finite and not negative, got {power!r}")
        check_choice("weights", weights, get_args(Weights))
        if similar_fraction is not None and not 0 <= check_real("similar_fraction", similar_fraction) <= 1:
            raise ValueError(f"similar_fraction must lie in [0, 1], or be None, got {similar_fraction!r}")
        if similar_fraction is not None and weights == "none":
            raise ValueError(f"similar_fraction must be None where weights='none', got {similar_fraction!r}")
        check_choice("pairs", pairs, get_args(Pairs))
        self.scale = scale
        self.step_size = check_int("step_size", step_size, 1)
        self.power = power
        self.weights = weights
        self.similar_fraction = similar_fraction
        self.pairs = pairs
        self.register_buffer("iteration", torch.zeros((), dtype=torch.int64))

    @property
    def beta(self) -> float:
        """The present slope of tanh at zero."""
        return math.pow(1 + int(self.iteration) // self.step_size, self.power)

    def step(self) -> None:
        """Count one iteration of the continuation."""
        self.iteration += 1

    def batch_loss(self, z: Tensor, labels: Tensor) -> Tensor:
        """See `HashLoss.forward`; a batch without any pair gives 0."""
        batch, n_bits = z.shape
        codes = torch.tanh(self.beta * z)
        logits = (self.scale or 10 / n_bits) * (codes @ codes.T)
        similar = similarity(labels)
        mask = pair_mask(batch, self.pairs, z.device).to(z.dtype)
        n_pairs = mask.sum().clamp(min=1)

        weights = mask
        if self.weights != "none":
            if self.similar_fraction is None:
                p = (similar * mask).sum() / n_pairs
            else:
                p = z.new_full((), self.similar_fraction)
            p = p.clamp(1e-6, 1 - 1e-6)
            graded = self.weights == "jaccard" and labels.ndim == 2
            overlap = _jaccard(labels.to(z.dtype)) if graded else 1
            weights = mask * torch.where(similar, overlap / p, 1 / (1 - p))

        # softplus(x) - s x is softplus(-x) where s = 1; in this form it neither overflows nor cancels.
        losses = -F.logsigmoid(torch.where(similar, logits, -logits))
        return (weights * losses).sum() / n_pairs


def _jaccard(sets: Tensor) -> Tensor:
    """Labels common to two images / labels of either, `(B, B)`; 0 where neither has any."""
    common = sets @ sets.T
    sizes = sets.sum(dim=1)
    return common / (sizes[:, None] + sizes - common).clamp(min=1)
