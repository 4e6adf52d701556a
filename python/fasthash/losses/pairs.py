"""Base class of losses on pairs of images: the choice of pairs, and weights of similar and dissimilar pairs."""

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
        left_labels, right_labels: labels of both sides, classes or multi-hot.
        mask: `(A, B)` of zeros and ones in the dtype of the outputs; 1 for each pair that counts.
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
        """Compute the inner products `(A, B)`."""
        return self.left @ self.right.T

    def cosines(self) -> Tensor:
        """Compute the cosines `(A, B)`; 0 with a zero vector."""
        norms = self.left.norm(dim=1)[:, None] * self.right.norm(dim=1)
        return self.products() / norms.clamp(min=1e-8)

    def squared_distances(self) -> Tensor:
        """Compute the squared Euclidean distances `(A, B)`."""
        return (self.left[:, None] - self.right).square().sum(dim=2)

    def mean(self, values: Tensor) -> Tensor:
        """Average finite values `(A, B)` over the pairs that count; 0 if no pair counts."""
        return (values * self.mask).sum() / self.mask.sum().clamp(min=1)

    def balance(self, similar_fraction: float | None = None) -> Tensor:
        """Return weights `(A, B)` that give similar and dissimilar pairs the same total weight.

        The weight is 1 / p for a similar pair and 1 / (1 - p) for a dissimilar one. p is the fraction of similar pairs,
        clamped to [1e-6, 1 - 1e-6]; None counts it on this batch.
        """
        if similar_fraction is None:
            p = self.mean(self.similar.to(self.mask.dtype))
        else:
            p = self.mask.new_full((), similar_fraction)
        p = p.clamp(1e-6, 1 - 1e-6)
        return torch.where(self.similar, 1 / p, 1 / (1 - p))


class OutputBank(nn.Module):
    """The latest outputs of all training images: each batch is paired with every image seen so far.

    Pass a bank as `pairs=` of a loss, and `index` in its calls. The official code of DPSH and DSDH use such pairs.

    Args:
        labels: int64 `(n,)` or multi-hot `(n, C)`, labels of the training set.
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
        """Store the outputs `u` of a batch, and pair them with all stored outputs; gradients reach only `u`."""
        if u.shape[1] != self.outputs.shape[1]:
            raise ValueError(f"z must have the {self.outputs.shape[1]} columns of the bank, got {u.shape[1]}")
        if len(index) and not 0 <= int(index.min()) <= int(index.max()) < len(self.labels):
            raise ValueError(f"index must lie in 0 .. {len(self.labels) - 1}, got {index.tolist()}")
        if labels.shape[1:] != self.labels.shape[1:]:
            form = "(n,)" if self.labels.ndim == 1 else f"(n, {self.labels.shape[1]})"
            raise ValueError(f"labels must have shape {form}, as those of the bank, got {tuple(labels.shape)}")
        self.outputs[index] = u.detach().to(self.outputs.dtype)
        self.seen[index] = True
        mask = self.seen.to(u.dtype).expand(len(u), -1)
        return PairBatch(u, self.outputs.to(u.dtype, copy=True), labels, self.labels, mask)


class PairLoss(HashLoss):
    """A loss on pairs of images.

    Args:
        pairs: choice of pairs. "offdiag": all ordered pairs of different images of a batch. "all": also each image with
            itself. "cross": pairs between the first half of a batch and the rest, as two independent batches. An
            `OutputBank`: pairs between the batch and all images seen so far. None takes the default of the variant.
        variant: "original" (default pairs "offdiag") or "hhnet" (default pairs "all").
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
        """Whether the pairs come from an `OutputBank`."""
        return isinstance(self.pairs, OutputBank)

    def pair_up(self, u: Tensor, labels: Tensor, index: Tensor | None) -> PairBatch:
        """Make the pairs of outputs `u` `(B, n_bits)`."""
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
    """Check a fraction of similar pairs in [0, 1], or None."""
    if similar_fraction is not None and not 0 <= check_real("similar_fraction", similar_fraction) <= 1:
        raise ValueError(f"similar_fraction must lie in [0, 1], or be None, got {similar_fraction!r}")
    return similar_fraction
