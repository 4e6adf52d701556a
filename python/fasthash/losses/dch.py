"""Deep Cauchy Hashing."""

from __future__ import annotations

import torch
from torch import Tensor

from fasthash._checks import check_not_negative, check_positive
from fasthash.losses.pairs import PairBatch, PairLoss, PairSet, check_fraction_of_similar
from fasthash.losses.variants import Variant

__all__ = ["DCHLoss"]

_EPSILON = 1e-5  # keeps distances of pairs above zero, so that gamma / d is finite


class DCHLoss(PairLoss):
    """Cauchy cross-entropy of pairs; it penalises similar images that are more than a few bits apart.

    The distance in bits is `d = n_bits (1 - c) / 2`, where c is the cosine of `u = tanh(z)`. The loss is the weighted
    mean over pairs of `log(1 + d / gamma)` if similar and `log(1 + gamma / d)` if not, plus `quantization` times the
    mean over images of `log(1 + d(|u|, 1) / gamma)`.

    Cao, Long, Liu and Wang, Deep Cauchy Hashing for Hamming Space Retrieval, CVPR 2018.

    Args:
        variant: "original", or "hhnet" for the form of HHNet's code (arXiv 2403.13747): gamma 10, quantization 0.01,
            all pairs.
        gamma: scale of the Cauchy distribution in bits; None takes 20, or that of the variant.
        quantization: weight of the term on |u|; None takes 0.1, or that of the variant.
        similar_fraction: fraction of similar pairs for the class balance; None counts it on each batch.
        pairs: which pairs count, see `PairLoss`; None takes "offdiag", or that of the variant.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        *,
        variant: Variant = "original",
        gamma: float | None = None,
        quantization: float | None = None,
        similar_fraction: float | None = None,
        pairs: PairSet | None = None,
    ) -> None:
        super().__init__(pairs, variant)
        self.gamma = check_positive("gamma", (10.0 if self.hhnet else 20.0) if gamma is None else gamma)
        default = 0.01 if self.hhnet else 0.1
        self.quantization = check_not_negative("quantization", default if quantization is None else quantization)
        self.similar_fraction = check_fraction_of_similar(similar_fraction)

    def batch_loss(self, z: Tensor, labels: Tensor, index: Tensor | None) -> Tensor:
        """See `HashLoss.forward`."""
        u = torch.tanh(z)
        pairs = self.pair_up(u, labels, index)
        half = z.shape[1] / 2
        distances = half * (2 * _EPSILON + (1 - 2 * _EPSILON) * (1 - pairs.cosines()))
        losses = torch.where(pairs.similar, distances / self.gamma, self.gamma / distances).log1p()
        ones = PairBatch(u.abs(), u.new_ones(1, u.shape[1]), labels, labels[:1], u.new_ones(len(u), 1))
        from_ones = ones.mean((half * (1 - ones.cosines()) / self.gamma).log1p())
        return pairs.mean(pairs.balance(self.similar_fraction) * losses) + self.quantization * from_ones
