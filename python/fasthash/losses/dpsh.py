"""Deep Pairwise-Supervised Hashing."""

from __future__ import annotations

import torch
from torch import Tensor

from fasthash._checks import check_not_negative
from fasthash.losses.pairs import PairLoss, PairSet
from fasthash.losses.terms import logistic, sign_error
from fasthash.losses.variants import Variant

__all__ = ["DPSHLoss"]


class DPSHLoss(PairLoss):
    """Logistic loss on half the inner products of the outputs, with a term on their distance from their signs.

    The mean over pairs of `softplus(t) - s t`, `t = <z_i, z_j> / 2`, plus `quantization` times the mean over images of
    `|z - sign(z)|^2`.

    Li, Wang and Kang, Feature Learning based Deep Supervised Hashing with Pairwise Labels, IJCAI 2016. The authors pair
    each batch with the outputs of the whole training set: `pairs=OutputBank(labels, n_bits)`.

    Args:
        variant: "original", or "hhnet" for the form of HHNet's code (arXiv 2403.13747): tanh(z) in place of z,
            `t = <u_i, u_j>`, all pairs.
        quantization: weight of the term on the signs.
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
        u = torch.tanh(z) if self.hhnet else z
        pairs = self.pair_up(u, labels, index)
        theta = pairs.products() if self.hhnet else pairs.products() / 2
        return pairs.mean(logistic(theta, pairs.similar)) + self.quantization * sign_error(u)
