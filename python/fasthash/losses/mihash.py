"""MIHash: hashing with mutual information."""

from __future__ import annotations

import torch
from torch import Tensor

from fasthash._checks import check_int
from fasthash.losses.pairs import PairLoss, PairSet

__all__ = ["MIHashLoss"]


class MIHashLoss(PairLoss):
    """Negative mutual information of distance and similarity.

    For every image of a batch, the distances in bits `(n_bits - <u, u_j>) / 2`, `u = tanh(z)`, to similar and to
    dissimilar images make two histograms with triangular bins. The loss is the mean of `H(D | s) - H(D)` over the
    images that have both similar and dissimilar partners.

    Cakir, He, Bargal and Sclaroff, MIHash: Online Hashing with Mutual Information, ICCV 2017.

    Args:
        n_bins: bins from 0 to n_bits, at least 2; None takes one for each whole distance, n_bits + 1.
        pairs: which pairs count, see `PairLoss`.

    Raises:
        TypeError, ValueError: `n_bins` is not an integer of at least 2.
    """

    def __init__(self, *, n_bins: int | None = None, pairs: PairSet = "offdiag") -> None:
        super().__init__(pairs)
        self.n_bins = None if n_bins is None else check_int("n_bins", n_bins, 2)

    def batch_loss(self, z: Tensor, labels: Tensor, index: Tensor | None) -> Tensor:
        """See `HashLoss.forward`; 0 if no image has both similar and dissimilar partners."""
        n_bits = z.shape[1]
        pairs = self.pair_up(torch.tanh(z), labels, index)
        n_bins = self.n_bins or n_bits + 1
        position = (n_bits - pairs.products()) / 2 * (n_bins - 1) / n_bits
        bins = torch.arange(n_bins, dtype=z.dtype, device=z.device)
        shares = (1 - (position[:, :, None] - bins).abs()).clamp(min=0)  # (A, B, n_bins)
        similar = pairs.mask * pairs.similar
        counts = torch.stack([similar, pairs.mask - similar])  # (2, A, B)
        histograms = torch.einsum("sab,abl->sal", counts, shares)
        n_partners = counts.sum(dim=2)  # (2, A)
        conditional = (n_partners * _entropy(histograms, n_partners)).sum(dim=0)
        total = n_partners.sum(dim=0)
        information = _entropy(histograms.sum(dim=0), total) - conditional / total.clamp(min=1)
        both = (n_partners > 0).all(dim=0).to(z.dtype)
        return -(information * both).sum() / both.sum().clamp(min=1)


def _entropy(histograms: Tensor, totals: Tensor) -> Tensor:
    """Compute the entropy in nats of histograms `(..., n_bins)`; an empty bin adds 0 and has gradient 0."""
    p = histograms / totals.clamp(min=1)[..., None]
    return -(p * p.clamp(min=torch.finfo(p.dtype).tiny).log()).sum(dim=-1)
