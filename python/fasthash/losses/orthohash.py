"""OrthoHash: one loss for all."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from fasthash._checks import check_not_negative, check_positive
from fasthash.losses.targets import TargetLoss

__all__ = ["OrthoHashLoss"]


class OrthoHashLoss(TargetLoss):
    """Softmax over the cosines of an output with the codes of all classes, with a margin.

    The mean over images of the cross-entropy of `scale (c - margin y)` with the labels y, where c are the cosines. The
    labels of an image share its weight equally. The paper normalises the outputs of a batch first:
    `HashHead(batch_norm=True)`.

    Hoe, Ng, Zhang, Chan, Song and Xiang, One Loss for All: Deep Hashing with a Single Cosine Similarity based Learning
    Objective, NeurIPS 2021.

    Args:
        n_bits, n_classes, codes, seed: the codes, see `TargetLoss`.
        scale: factor on the cosines, positive.
        margin: subtracted from the cosines of the right classes.
    """

    def __init__(
        self,
        n_bits: int,
        n_classes: int,
        *,
        scale: float = 8.0,
        margin: float = 0.2,
        codes: Tensor | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(n_bits, n_classes, codes=codes, seed=seed)
        self.scale = check_positive("scale", scale)
        self.margin = check_not_negative("margin", margin)

    def batch_loss(self, z: Tensor, labels: Tensor, index: Tensor | None) -> Tensor:
        """See `HashLoss.forward`; an image without labels counts 0."""
        self.check_columns(z)
        sets = self.sets(z, labels)
        codes = self.codes.to(z.dtype)
        cosines = z @ codes.T / (z.norm(dim=1, keepdim=True) * codes.norm(dim=1)).clamp(min=1e-8)
        shares = sets / sets.sum(dim=1, keepdim=True).clamp(min=1)
        log_p = F.log_softmax(self.scale * (cosines - self.margin * sets), dim=1)
        return -(shares * log_p).sum() / max(len(z), 1)
