"""Improved Deep Hashing Network for images with several labels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from fasthash._checks import check_not_negative
from fasthash.losses.pairs import PairBatch, PairLoss, PairSet
from fasthash.losses.terms import logistic, ones_error

__all__ = ["IDHNLoss"]


class IDHNLoss(PairLoss):
    """Pair loss with soft similarities: pairs that share some labels get a distance between near and far.

    Let `u = z / (1 + |z|)`, and let s be the cosine of two label sets. A pair with s = 0 or 1 contributes
    `softplus(t) - s t` with `t = <u_i, u_j> / 2`. Any other pair contributes
    `gamma (<u_i, u_j> + n_bits - 2 s n_bits)^2`. The loss is the mean over pairs, plus `quantization` times the mean
    over images and bits of `||u_k| - 1|`.

    Zhang, Zou, Lin, Chen and Wang, Improved Deep Hashing with Soft Pairwise Similarity for Multi-label Image Retrieval,
    IEEE Transactions on Multimedia 22 (2020).

    Args:
        gamma: weight of the pairs that share only some of their labels.
        quantization: weight of the term on |u|.
        pairs: which pairs count, see `PairLoss`.

    Raises:
        ValueError: an argument is negative or not finite.
    """

    def __init__(self, *, gamma: float = 0.1, quantization: float = 0.1, pairs: PairSet = "offdiag") -> None:
        super().__init__(pairs)
        self.gamma = check_not_negative("gamma", gamma)
        self.quantization = check_not_negative("quantization", quantization)

    def batch_loss(self, z: Tensor, labels: Tensor, index: Tensor | None) -> Tensor:
        """See `HashLoss.forward`."""
        u = F.softsign(z)
        pairs = self.pair_up(u, labels, index)
        products = pairs.products()
        s = _label_cosines(pairs).to(z.dtype)
        sharp = logistic(products / 2, pairs.similar)
        soft = self.gamma * (products + z.shape[1] * (1 - 2 * s)).square()
        losses = torch.where((s == 0) | (s == 1), sharp, soft)
        return pairs.mean(losses) + self.quantization * ones_error(u)


def _label_cosines(pairs: PairBatch) -> Tensor:
    """Return the cosines of label sets, `(A, B)`: exactly 1 for equal sets, 0 if a set is empty."""
    if pairs.left_labels.ndim == 1:
        return pairs.similar
    left, right = pairs.left_labels.double(), pairs.right_labels.double()
    common = left @ right.T
    sizes = left.sum(dim=1)[:, None] * right.sum(dim=1)
    return (common.square() / sizes.clamp(min=1)).sqrt()  # integers before the division, so that 1 is exact
