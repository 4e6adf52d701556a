"""HyP2: hyperspherical proxies and irrelevant pairs."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from fasthash._checks import check_choice, check_int, check_not_negative, check_real
from fasthash.losses.base import HashLoss, multi_hot
from fasthash.losses.codewords import code_margin
from fasthash.losses.pairs import PairBatch
from fasthash.losses.variants import Variant, check_variant

__all__ = ["HyP2Loss"]

PairFilter = Literal["multi", "all"]


class HyP2Loss(HashLoss):
    """Cosines to learned proxies of the classes, and a hinge on pairs of images that share no label.

    Let c be the cosine of an output and a proxy. The loss is the mean of `1 - c` over the classes of images, plus the
    mean of `max(0, c - margin)` over all other classes, plus `beta` times the mean over dissimilar pairs of
    `max(0, cos(z_i, z_j) - margin)`.

    Xu, Chai, Xu, Yuan, Fan and Wang, HyP2 Loss: Beyond Hypersphere Metric Space for Multi-label Image Retrieval, ACM MM
    2022. The paper trains the proxies with a learning rate about twice that of the network.

    Args:
        n_bits: columns of `z`.
        n_classes: number of classes.
        variant: "original", or "hhnet" for the form of HHNet's code (arXiv 2403.13747): tanh of outputs and proxies,
            `-c` for `1 - c`, and all dissimilar pairs.
        margin: margin of the cosines; None takes `code_margin(n_bits, n_classes)`.
        beta: weight of the pairs.
        pair_filter: "multi" takes dissimilar pairs in which both images have several labels, so none for single-label
            data; "all" takes all dissimilar pairs. None takes "multi", or "all" for the hhnet variant.

    Attributes:
        proxies: parameter `(n_classes, n_bits)`.

    Raises:
        TypeError, ValueError: an argument is not as described; when called, `z` or `labels` has another width.
    """

    def __init__(
        self,
        n_bits: int,
        n_classes: int,
        *,
        variant: Variant = "original",
        margin: float | None = None,
        beta: float = 0.5,
        pair_filter: PairFilter | None = None,
    ) -> None:
        super().__init__()
        self.hhnet = check_variant(variant)
        check_int("n_bits", n_bits, 1)
        self.n_classes = check_int("n_classes", n_classes, 1)
        self.margin = code_margin(n_bits, n_classes) if margin is None else margin
        if not -1 <= check_real("margin", self.margin) <= 1:
            raise ValueError(f"margin must lie in [-1, 1], or be None, got {margin!r}")
        self.beta = check_not_negative("beta", beta)
        self.pair_filter = pair_filter or ("all" if self.hhnet else "multi")
        check_choice("pair_filter", self.pair_filter, get_args(PairFilter))
        self.proxies = nn.Parameter(torch.empty(n_classes, n_bits))
        nn.init.kaiming_normal_(self.proxies, mode="fan_out")

    def batch_loss(self, z: Tensor, labels: Tensor, index: Tensor | None) -> Tensor:
        """See `HashLoss.forward`."""
        if z.shape[1] != self.proxies.shape[1]:
            raise ValueError(f"z must have n_bits = {self.proxies.shape[1]} columns, got {z.shape[1]}")
        sets = multi_hot(labels, self.n_classes, z.dtype)
        proxies = self.proxies.to(z.dtype)
        if self.hhnet:
            z, proxies = torch.tanh(z), torch.tanh(proxies)
        classes = torch.eye(self.n_classes, dtype=z.dtype, device=z.device)
        positive = PairBatch(z, proxies, sets, classes, sets)
        negative = PairBatch(z, proxies, sets, classes, 1 - sets)
        cosines = positive.cosines()
        near = positive.mean(-cosines if self.hhnet else 1 - cosines)
        far = negative.mean((cosines - self.margin).clamp(min=0))

        counts = sets.sum(dim=1) > 1 if self.pair_filter == "multi" else sets.new_ones(len(sets), dtype=torch.bool)
        pairs = PairBatch(z, z, sets, sets, counts[:, None] & counts)
        # Clear the diagonal: an image without labels is dissimilar to itself.
        pairs.mask = (pairs.mask & ~pairs.similar).to(z.dtype).fill_diagonal_(0)
        return near + far + self.beta * pairs.mean((pairs.cosines() - self.margin).clamp(min=0))
