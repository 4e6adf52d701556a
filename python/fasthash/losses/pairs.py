"""What losses on pairs of images share: which pairs count, and how similar and dissimilar ones are weighed."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from fasthash._checks import check_choice, check_int, check_real
from fasthash._locks import Lazy
from fasthash.losses.base import HashLoss, similarity
from fasthash.losses.variants import Variant, check_variant

__all__ = ["OutputBank", "PairBatch", "PairLoss", "PairSet", "check_fraction_of_similar"]

PairSet: TypeAlias = "Literal['offdiag', 'all', 'cross'] | OutputBank"
_Names = Literal["offdiag", "all", "cross"]


class PairBatch:
    """Pairs between A images on the left and B on the right.

    Attributes:
        left, right: float `(A, n_bits)` and `(B, n_bits)`, the outputs.
        left_labels, right_labels: labels of both, classes or multi-hot.
        mask: `(A, B)` of zeros and ones in the dtype of the outputs, one for each pair that counts.
    """

    def __init__(self, left: Tensor, right: Tensor, left_labels: Tensor, right_labels: Tensor, mask: Tensor) -> None:
        self.left, self.right = left, right
        self.left_labels, self.right_labels = left_labels, right_labels
        self.mask = mask

    @Lazy
    def similar(self) -> Tensor:
        """Bool `(A, B)`: the images share a label."""
        return similarity(self.left_labels, self.right_labels)

    def products(self) -> Tensor:
        """Inner products `(A, B)`."""
        return self.left @ self.right.T

    def cosines(self) -> Tensor:
        """Cosines `(A, B)`; 0 with a zero vector."""
        norms = self.left.norm(dim=1)[:, None] * self.right.norm(dim=1)
        return self.products() / norms.clamp(min=1e-8)

    def squared_distances(self) -> Tensor:
        """Squared Euclidean distances `(A, B)`."""
        return (self.left[:, None] - self.right).square().sum(dim=2)

    def mean(self, values: Tensor) -> Tensor:
        """Mean of finite values `(A, B)` over the pairs that count; 0 if none does."""
        return (values * self.mask).sum() / self.mask.sum().clamp(min=1)

    def balance(self, similar_fraction: float | None = None) -> Tensor:
        """Weights `(A, B)` after which similar and dissimilar pairs weigh the same in sum, however rare either is.

        1 / p for a similar pair and 1 / (1 - p) for a dissimilar one, with p the fraction of similar pairs, of this
        batch unless it is given, clamped to [1e-6, 1 - 1e-6].
        """
        if similar_fraction is None:
            p = self.mean(self.similar.to(self.mask.dtype))
        else:
            p = self.mask.new_full((), similar_fraction)
        p = p.clamp(1e-6, 1 - 1e-6)
        return torch.where(self.similar, 1 / p, 1 / (1 - p))


class OutputBank(nn.Module):
    """The latest outputs of all training images: each batch is paired with every image seen so far.

    Pass one as `pairs=` of a loss, and `index` in its calls. As in the official DPSH and in DSDH.

    Args:
        labels: int64 `(n,)` or multi-hot `(n, C)`, those of the training set.
        n_bits: columns of the outputs.

    Raises:
        TypeError, ValueError: an argument is not as described.
    """

    labels: Tensor
    outputs: Tensor
    seen: Tensor

    def __init__(self, labels: Tensor, n_bits: int) -> None:
        super().__init__()
        if not isinstance(labels, Tensor):
            raise TypeError(f"labels must be a torch tensor, got {type(labels).__name__}")
        if labels.ndim not in (1, 2):
            raise ValueError(f"labels must have shape (n,) or (n, C), got {tuple(labels.shape)}")
        self.register_buffer("labels", labels.clone())
        self.register_buffer("outputs", torch.zeros(len(labels), check_int("n_bits", n_bits, 1)))
        self.register_buffer("seen", torch.zeros(len(labels), dtype=torch.bool))

    def pair_up(self, u: Tensor, labels: Tensor, index: Tensor) -> PairBatch:
        """Remember these outputs, and pair them with all that are remembered; gradients reach `u` alone."""
        if u.shape[1] != self.outputs.shape[1]:
            raise ValueError(f"z must have the {self.outputs.shape[1]} columns of the bank, got {u.shape[1]}")
        if len(index) and not 0 <= int(index.min()) <= int(index.max()) < len(self.labels):
            raise ValueError(f"index must lie in 0 .. {len(self.labels) - 1}, got {index.tolist()}")
        self.outputs[index] = u.detach().to(self.outputs.dtype)
        self.seen[index] = True
        mask = self.seen.to(u.dtype).expand(len(u), -1)
        return PairBatch(u, self.outputs.to(u.dtype, copy=True), labels, self.labels, mask)


class PairLoss(HashLoss):
    """A loss on pairs of images.

    Args:
        pairs: which pairs count: "offdiag" all ordered pairs of different images of a batch; "all" those of an image
            with itself too; "cross" those between the first half of a batch and the rest, two independent batches; an
            `OutputBank` those between the batch and all images seen so far. None takes those of the variant.
        variant: "original" (which takes "offdiag"), or "hhnet" (which takes "all").
    """

    def __init__(self, pairs: PairSet | None, variant: Variant = "original") -> None:
        super().__init__()
        self.hhnet = check_variant(variant)
        if pairs is None:
            pairs = "all" if self.hhnet else "offdiag"
        if not isinstance(pairs, OutputBank):
            check_choice("pairs", pairs, get_args(_Names))
        self.pairs = pairs

    @property
    def needs_index(self) -> bool:
        """Whether the pairs are those with a bank."""
        return isinstance(self.pairs, OutputBank)

    def pair_up(self, u: Tensor, labels: Tensor, index: Tensor | None) -> PairBatch:
        """The pairs that count, of outputs `(B, n_bits)`."""
        if isinstance(self.pairs, OutputBank):
            assert index is not None  # forward has checked it
            return self.pairs.pair_up(u, labels, index)
        if self.pairs == "cross":
            half = len(u) // 2
            mask = u.new_ones(half, len(u) - half)
            return PairBatch(u[:half], u[half:], labels[:half], labels[half:], mask)
        mask = u.new_ones(len(u), len(u))
        return PairBatch(u, u, labels, labels, mask if self.pairs == "all" else mask.fill_diagonal_(0))


def check_fraction_of_similar(similar_fraction: float | None) -> float | None:
    """A share of similar pairs in [0, 1], or None."""
    if similar_fraction is not None and not 0 <= check_real("similar_fraction", similar_fraction) <= 1:
        raise ValueError(f"similar_fraction must lie in [0, 1], or be None, got {similar_fraction!r}")
    return similar_fraction
