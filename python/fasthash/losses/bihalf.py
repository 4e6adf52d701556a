"""Bi-half Net: unsupervised hashing with bits of maximal entropy."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fasthash._checks import check_not_negative
from fasthash.losses.pairs import PairBatch, PairLoss, PairSet

__all__ = ["BiHalfLoss"]


class BiHalfLoss(PairLoss):
    """Makes cosines of codes match cosines of features; each bit is +1 in half of a batch and -1 in the other half.

    Unsupervised: a call takes the features of the images in place of labels, `loss(z, features)`. The loss is the mean
    over pairs of `(cos(b_i, b_j) - cos(x_i, x_j))^2`, where b is +1 for the half of the batch with the larger outputs
    of a bit, and -1 for the rest. The gradient passes through b unchanged, and `gamma (z - b) / (B n_bits)` is added to
    it.

    Li and van Gemert, Deep Unsupervised Image Hashing by Maximizing Bit Entropy, AAAI 2021.

    Args:
        gamma: weight of the added gradient.
        pairs: which pairs count, see `PairLoss`; a bank is refused, because b depends on the batch.

    Raises:
        ValueError: `gamma` is negative or not finite, or `pairs` is unknown; when called, features are no float matrix.
    """

    def __init__(self, *, gamma: float = 6.0, pairs: PairSet = "offdiag") -> None:
        super().__init__(pairs)
        if self.needs_index:
            raise ValueError("pairs must be 'offdiag', 'all' or 'cross' here, got a bank")
        self.gamma = check_not_negative("gamma", gamma)

    def batch_loss(self, z: Tensor, labels: Tensor, index: Tensor | None) -> Tensor:
        """See `HashLoss.forward`, where `labels` are float features `(B, D)`."""
        if labels.ndim != 2 or not labels.is_floating_point():
            raise ValueError(
                f"labels must be the float features (B, D) of the images, got {labels.dtype} {tuple(labels.shape)}"
            )
        halves = _BiHalf.apply(z)
        pairs = self.pair_up(halves, labels, index)
        of_features = PairBatch(
            pairs.left_labels.to(z.dtype),
            pairs.right_labels.to(z.dtype),
            pairs.left_labels,
            pairs.right_labels,
            pairs.mask,
        )
        # Adds 0 to the loss and the extra term to its gradient.
        pull = self.gamma / 2 * (z - halves.detach()).square().sum() / max(z.numel(), 1)
        return pairs.mean((pairs.cosines() - of_features.cosines()).square()) + pull - pull.detach()


class _BiHalf(torch.autograd.Function):
    """+1 for the upper half of each column, -1 for the rest, with the gradient of the identity."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        upper = z.argsort(dim=0, descending=True, stable=True)[: len(z) // 2]
        return torch.full_like(z, -1).scatter_(0, upper, 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient
