"""Deep Supervised Hashing."""

from __future__ import annotations

import torch
from torch import Tensor

from fasthash._checks import check_not_negative, check_positive
from fasthash.losses.pairs import PairLoss, PairSet
from fasthash.losses.terms import ones_error

__all__ = ["DSHLoss"]


class DSHLoss(PairLoss):
    """Contrastive loss on the outputs, with a term that pulls them towards -1 and +1.

    The mean over pairs of `D / 2` if similar and `max(0, margin - D) / 2` if not, where D is the squared distance of
    two outputs, plus `quantization` times the mean over images and bits of `||z_k| - 1|`.

    Liu, Wang, Shan and Chen, Deep Supervised Hashing for Fast Image Retrieval, CVPR 2016.

    Args:
        margin: positive; None takes `2 n_bits`, the squared distance of codes that differ in half of their bits.
        quantization: weight of the term on |z|.
        pairs: which pairs count, see `PairLoss`.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, *, margin: float | None = None, quantization: float = 0.01, pairs: PairSet = "offdiag") -> None:
        super().__init__(pairs)
        self.margin = None if margin is None else check_positive("margin", margin)
        self.quantization = check_not_negative("quantization", quantization)

    def batch_loss(self, z: Tensor, labels: Tensor, index: Tensor | None) -> Tensor:
        """See `HashLoss.forward`."""
        pairs = self.pair_up(z, labels, index)
        distances = pairs.squared_distances()
        margin = 2 * z.shape[1] if self.margin is None else self.margin
        losses = torch.where(pairs.similar, distances, (margin - distances).clamp(min=0)) / 2
        return pairs.mean(losses) + self.quantization * ones_error(z)
