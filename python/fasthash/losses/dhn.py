"""Deep Hashing Network."""

from __future__ import annotations

import torch
from torch import Tensor

from fasthash._checks import check_not_negative
from fasthash.losses.pairs import PairLoss, PairSet
from fasthash.losses.terms import log_cosh, logistic
from fasthash.losses.variants import Variant

__all__ = ["DHNLoss"]


class DHNLoss(PairLoss):
    """Logistic loss on the inner products of `u = tanh(z)`, with a smooth term that draws |u| to 1.

    The mean over pairs of `softplus(t) - s t`, `t = <u_i, u_j>`, plus `quantization` times the mean over images of
    `sum_k log cosh(|u_k| - 1)`.

    Zhu, Long, Wang and Cao, Deep Hashing Network for Efficient Similarity Retrieval, AAAI 2016.

    Args:
        variant: "original", or "hhnet" for the form of HHNet's code (arXiv 2403.13747): all pairs, and the term
            `sum_k (log cosh |u_k| - 1)`, whose misplaced -1 pushes outputs to 0; for comparison only.
        quantization: weight of the term on |u|. A large weight fixes the signs before they are learned; the authors'
            0.2 does so if the initial outputs are small.
        pairs: which pairs count, see `PairLoss`; None takes "offdiag", or that of the variant.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        *,
        variant: Variant = "original",
        quantization: float = 0.01,
        pairs: PairSet | None = None,
    ) -> None:
        super().__init__(pairs, variant)
        self.quantization = check_not_negative("quantization", quantization)

    def batch_loss(self, z: Tensor, labels: Tensor, index: Tensor | None) -> Tensor:
        """See `HashLoss.forward`."""
        u = torch.tanh(z)
        pairs = self.pair_up(u, labels, index)
        distance = log_cosh(u.abs()) - 1 if self.hhnet else log_cosh(u.abs() - 1)
        from_ones = distance.sum() / max(len(u), 1)
        return pairs.mean(logistic(pairs.products(), pairs.similar)) + self.quantization * from_ones
