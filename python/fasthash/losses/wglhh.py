"""Weighted Gaussian Loss based Hamming Hashing."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from fasthash._checks import check_not_negative, check_positive
from fasthash.losses.pairs import PairLoss, PairSet, check_fraction_of_similar
from fasthash.losses.terms import sign_error
from fasthash.losses.variants import Variant

__all__ = ["WGLHHLoss"]

_SMALLEST = 1e-30  # lower limit of p, so that log p stays finite


class WGLHHLoss(PairLoss):
    """Divergence of a Gaussian similarity `p = exp(-alpha d^2)` from the labels, weighted by the error of each pair.

    The distance in bits is `d = n_bits (1 - c) / 2`, where c is the cosine of `u = tanh(z)`; s is 1 for a similar pair
    and 0 otherwise. The loss is the mean over pairs of
    `(1 + pos_weight s) a (p log(2p / (p + s)) + s log(2s / (s + p)))`, plus `quantization` times the mean of
    `|u - sign(u)|^2`. The attention `a = exp|(1 + c) / 2 - s|` grows with the error.

    Tu et al., Weighted Gaussian Loss based Hamming Hashing, ACM MM 2021.

    Args:
        variant: "original", or "hhnet" for the form of HHNet's code (arXiv 2403.13747), `w a (p (1 - s) + s ((1 + p)
            log sigmoid(x) - x p))` with `x = alpha d^2` and class balance w in place of `pos_weight`, over all pairs.
        alpha: width of the Gaussian.
        pos_weight: additional weight of similar pairs, larger for more classes. The authors take 70 for ImageNet's 100
            classes and less than 1 for the many labels of COCO. Must be 0 for the hhnet variant, which has no such
            weight.
        quantization: weight of the term on the signs.
        similar_fraction: fraction of similar pairs for the class balance of the hhnet form; None counts it on each
            batch.
        pairs: which pairs count, see `PairLoss`; None takes "offdiag", or that of the variant.

    Raises:
        ValueError: an argument is out of range, or does not belong to the variant.
    """

    def __init__(
        self,
        *,
        variant: Variant = "original",
        alpha: float = 0.1,
        pos_weight: float = 0.0,
        quantization: float = 0.001,
        similar_fraction: float | None = None,
        pairs: PairSet | None = None,
    ) -> None:
        super().__init__(pairs, variant)
        self.alpha = check_positive("alpha", alpha)
        self.pos_weight = check_not_negative("pos_weight", pos_weight)
        self.quantization = check_not_negative("quantization", quantization)
        self.similar_fraction = check_fraction_of_similar(similar_fraction)
        if self.hhnet and pos_weight != 0:
            raise ValueError(f"pos_weight must be 0 where variant='hhnet', got {pos_weight!r}")
        if not self.hhnet and similar_fraction is not None:
            raise ValueError(f"similar_fraction must be None where variant='original', got {similar_fraction!r}")

    def batch_loss(self, z: Tensor, labels: Tensor, index: Tensor | None) -> Tensor:
        """See `HashLoss.forward`."""
        u = torch.tanh(z)
        pairs = self.pair_up(u, labels, index)
        cosines = pairs.cosines()
        x = self.alpha * (z.shape[1] * (1 - cosines) / 2).square()
        p = (-x).exp()
        attention = ((1 + cosines) / 2 - pairs.similar.to(p.dtype)).abs().exp()
        if self.hhnet:
            weights = pairs.balance(self.similar_fraction)
            losses = torch.where(pairs.similar, (1 + p) * F.logsigmoid(x) - x * p, p)
        else:
            weights = 1 + self.pos_weight * pairs.similar.to(p.dtype)
            p = p.clamp(min=_SMALLEST)
            of_similar = p * (2 * p / (1 + p)).log() + (2 / (1 + p)).log()
            losses = torch.where(pairs.similar, of_similar, p * (2 * torch.ones_like(p)).log())
        return pairs.mean(weights * attention * losses) + self.quantization * sign_error(u)
