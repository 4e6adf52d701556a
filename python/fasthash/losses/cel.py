"""The cosine embedding loss on pairs."""

from __future__ import annotations

import torch
from torch import Tensor

from fasthash._checks import check_int, check_real
from fasthash.losses.codewords import code_margin
from fasthash.losses.pairs import PairLoss, PairSet

__all__ = ["CELLoss"]


class CELLoss(PairLoss):
    """Cosine embedding loss: the mean over pairs of `1 - c` if similar and `max(0, c - margin)` if not.

    c is the cosine of `u = tanh(z)` of the two images. This is PyTorch's loss of that name; HHNet (arXiv 2403.13747)
    uses it with the margin of HyP2 and `pairs="all"`.

    Args:
        n_classes: number of classes; determines the margin together with the width of `z`, see `code_margin`.
        margin: margin in [-1, 1]; None computes it from `n_classes`.
        pairs: which pairs count, see `PairLoss`.

    Raises:
        ValueError: neither `n_classes` nor `margin` is given, or one is out of range.
    """

    def __init__(
        self, n_classes: int | None = None, *, margin: float | None = None, pairs: PairSet = "offdiag"
    ) -> None:
        super().__init__(pairs)
        if n_classes is None and margin is None:
            raise ValueError("n_classes or margin must be given, got None for both")
        if margin is not None and not -1 <= check_real("margin", margin) <= 1:
            raise ValueError(f"margin must lie in [-1, 1], got {margin!r}")
        self.n_classes = None if n_classes is None else check_int("n_classes", n_classes, 1)
        self.margin = margin

    def batch_loss(self, z: Tensor, labels: Tensor, index: Tensor | None) -> Tensor:
        """See `HashLoss.forward`."""
        margin = self.margin
        if margin is None:
            assert self.n_classes is not None
            margin = code_margin(z.shape[1], self.n_classes)
        pairs = self.pair_up(torch.tanh(z), labels, index)
        cosines = pairs.cosines()
        return pairs.mean(torch.where(pairs.similar, 1 - cosines, (cosines - margin).clamp(min=0)))
