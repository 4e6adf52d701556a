"""Losses on triplets: an image, a similar one and a dissimilar one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from fasthash._checks import check_not_negative, check_real
from fasthash.losses.base import HashLoss, similarity
from fasthash.losses.pairs import PairBatch
from fasthash.losses.terms import sign_error

__all__ = ["DNNHLoss", "DTSHLoss"]


def _triplet_mean(of_pairs: Tensor, labels: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
    """Average `loss(x[a, p] - x[a, n])` over all triplets: p is another image similar to a, and n is dissimilar.

    Args:
        of_pairs: x, `(B, B)`.
        labels: classes or multi-hot.
        loss: elementwise function of the differences.

    Returns:
        A scalar; 0 if the batch has no triplets.
    """
    similar = similarity(labels)
    others = ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    anchor, positive = (similar & others).nonzero(as_tuple=True)  # usually far fewer than all pairs
    losses = loss(of_pairs[anchor, positive][:, None] - of_pairs[anchor])
    mask = (~similar & others)[anchor].to(losses.dtype)
    return (losses * mask).sum() / mask.sum().clamp(min=1)


def _among(u: Tensor, labels: Tensor) -> PairBatch:
    return PairBatch(u, u, labels, labels, u.new_ones(len(u), len(u)))


class DNNHLoss(HashLoss):
    """Triplet hinge of Deep Neural Network Hashing on near-binary codes in [0, 1].

    The mean over all triplets of a batch of `max(0, 1 + |F_a - F_p|^2 - |F_a - F_n|^2)`. F is a piecewise linear
    function of `sigmoid(z)`: 0 below `0.5 - epsilon`, 1 above `0.5 + epsilon`, and linear between. The network of the
    paper has the head `HashHead(..., kind="sliced")`.

    Lai, Pan, Liu and Yan, Simultaneous Feature Learning and Hash Coding with Deep Neural Networks, CVPR 2015
    (arXiv 1504.03410).

    Args:
        epsilon: half the width of the linear part, in (0, 0.5]; with 0.5, F is `sigmoid(z)`. Outputs outside the linear
            part have no gradient, so a small epsilon can stop the training.

    Raises:
        ValueError: `epsilon` is out of range.
    """

    def __init__(self, *, epsilon: float = 0.5) -> None:
        super().__init__()
        if not 0 < check_real("epsilon", epsilon) <= 0.5:
            raise ValueError(f"epsilon must lie in (0, 0.5], got {epsilon!r}")
        self.epsilon = epsilon

    def batch_loss(self, z: Tensor, labels: Tensor, index: Tensor | None) -> Tensor:
        """See `HashLoss.forward`."""
        codes = ((torch.sigmoid(z) - 0.5) / (2 * self.epsilon) + 0.5).clamp(0, 1)
        distances = _among(codes, labels).squared_distances()
        return _triplet_mean(distances, labels, lambda excess: (1 + excess).clamp(min=0))


class DTSHLoss(HashLoss):
    """Logistic loss on triplets: half the inner product with a similar image exceeds that with a dissimilar one.

    The mean over all triplets of a batch of `-log sigmoid(t_ap - t_an - margin)`, `t = <z_i, z_j> / 2`, plus
    `quantization` times the mean over images and bits of `(z_k - sign z_k)^2`.

    Wang, Shi and Kitani, Deep Supervised Hashing with Triplet Labels, ACCV 2016.

    Args:
        margin: required difference between t_ap and t_an.
        quantization: weight of the term on the signs.

    Raises:
        ValueError: an argument is negative or not finite.
    """

    def __init__(self, *, margin: float = 5.0, quantization: float = 1.0) -> None:
        super().__init__()
        self.margin = check_not_negative("margin", margin)
        self.quantization = check_not_negative("quantization", quantization)

    def batch_loss(self, z: Tensor, labels: Tensor, index: Tensor | None) -> Tensor:
        """See `HashLoss.forward`."""
        theta = _among(z, labels).products() / 2
        triplets = _triplet_mean(theta, labels, lambda excess: -F.logsigmoid(excess - self.margin))
        return triplets + self.quantization * sign_error(z) / z.shape[1]
