"""GreedyHash."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from fasthash._checks import check_int, check_not_negative
from fasthash.losses.base import HashLoss, multi_hot
from fasthash.losses.terms import straight_through_sign

__all__ = ["GreedyHashLoss"]


class GreedyHashLoss(HashLoss):
    """A linear classifier on the signs of the outputs; the gradient passes through the signs unchanged.

    The mean over images of the classifier's cross-entropy (binary for each class of multi-hot labels), plus `alpha`
    times the mean over images and bits of `||z_k| - 1|^3`.

    Su, Zhang, Han and Tian, Greedy Hash: Towards Fast Optimization for Accurate Hash Coding in CNN, NeurIPS 2018.

    Args:
        n_bits: columns of `z`.
        n_classes: number of classes.
        alpha: weight of the term on |z|; the paper takes 0.1 for CIFAR-10, 1 for ImageNet.

    Attributes:
        classifier: `nn.Linear(n_bits, n_classes)`.

    Raises:
        TypeError, ValueError: an argument is not as described; when called, `z` or `labels` has another width.
    """

    def __init__(self, n_bits: int, n_classes: int, *, alpha: float = 0.1) -> None:
        super().__init__()
        self.classifier = nn.Linear(check_int("n_bits", n_bits, 1), check_int("n_classes", n_classes, 1), bias=False)
        self.alpha = check_not_negative("alpha", alpha)

    def batch_loss(self, z: Tensor, labels: Tensor, index: Tensor | None) -> Tensor:
        """See `HashLoss.forward`."""
        n_classes, n_bits = self.classifier.weight.shape
        if z.shape[1] != n_bits:
            raise ValueError(f"z must have n_bits = {n_bits} columns, got {z.shape[1]}")
        sets = multi_hot(labels, n_classes, z.dtype)
        logits = straight_through_sign(z) @ self.classifier.weight.to(z.dtype).T
        if labels.ndim == 2:
            losses = F.binary_cross_entropy_with_logits(logits, sets, reduction="none").mean(dim=1)
        else:
            losses = -(sets * F.log_softmax(logits, dim=1)).sum(dim=1)
        from_ones = (z.abs() - 1).abs().pow(3).mean(dim=1)
        return (losses + self.alpha * from_ones).sum() / max(len(z), 1)
