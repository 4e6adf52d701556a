"""Central Similarity Quantization."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from fasthash._checks import check_not_negative
from fasthash.losses.targets import TargetLoss

__all__ = ["CSQLoss"]


class CSQLoss(TargetLoss):
    """Cross-entropy of every bit to the hash centre of the classes of an image.

    The mean over images and bits of the binary cross-entropy of `(1 + u) / 2`, `u = tanh(z)`, to the bit of the centre,
    plus `quantization` times the mean of `(|u| - 1)^2`. Images without labels are left out.

    Yuan et al., Central Similarity Quantization for Efficient Image and Video Retrieval, CVPR 2020.

    Args:
        n_bits, n_classes, codes, seed: the centres, see `TargetLoss`.
        quantization: weight of the term on |u|.
    """

    def __init__(
        self,
        n_bits: int,
        n_classes: int,
        *,
        quantization: float = 1e-4,
        codes: Tensor | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(n_bits, n_classes, codes=codes, seed=seed)
        self.quantization = check_not_negative("quantization", quantization)

    def batch_loss(self, z: Tensor, labels: Tensor, index: Tensor | None) -> Tensor:
        """See `HashLoss.forward`."""
        # (1 + tanh z) / 2 is sigmoid(2 z), whose logarithm does not overflow.
        cross_entropy = F.softplus(-2 * z * self.targets(z, labels))
        from_ones = (torch.tanh(z).abs() - 1).square()
        return self.labelled_mean(cross_entropy + self.quantization * from_ones, labels)
