"""Target codes of classes, fixed before training, and the base class of losses that use them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fasthash._checks import check_choice, check_int
from fasthash.losses.base import HashLoss, multi_hot

__all__ = ["TargetLoss", "class_codes"]


def class_codes(n_classes: int, n_bits: int, *, kind: str = "auto", seed: int = 0) -> Tensor:
    """Make codes of -1 and +1 for classes, far apart from each other.

    The code of the authors of CSQ takes the first rows of a Hadamard matrix. To repeat their runs, give
    a loss those as `codes=`: `torch.tensor(scipy.linalg.hadamard(64)[:10]).float()`.

    Args:
        n_classes: number of codes.
        n_bits: width of the codes.
        kind: "hadamard" draws rows of a Hadamard matrix, and of its negative if there are more classes than bits, and
            negates rows and columns at random; any two codes differ in at least n_bits / 2 bits. It needs n_bits to be
            a power of 2 and n_classes at most 2 n_bits. "random" draws every bit. "auto" takes "hadamard" if possible,
            else "random".
        seed: random seed of the rows and bits.

    Returns:
        float32 `(n_classes, n_bits)`.

    Raises:
        TypeError, ValueError: an argument is not as described.
    """
    check_int("n_classes", n_classes, 1)
    check_int("n_bits", n_bits, 1)
    check_choice("kind", kind, ("auto", "hadamard", "random"))
    fits = n_bits & (n_bits - 1) == 0 and n_classes <= 2 * n_bits
    if kind == "hadamard" and not fits:
        raise ValueError(
            "kind='hadamard' needs n_bits to be a power of 2 and n_classes at most 2 n_bits, "
            f"got n_bits={n_bits}, n_classes={n_classes}"
        )
    generator = torch.Generator().manual_seed(seed)
    if kind == "random" or not fits:
        return _random_signs(n_classes, n_bits, generator)
    matrix = torch.ones(1, 1)
    for _ in range(int(math.log2(n_bits))):  # Sylvester's construction
        matrix = torch.kron(torch.tensor([[1.0, 1.0], [1.0, -1.0]]), matrix)
    # The first rows would do as well, but few of them have constant columns and equal ones, which are wasted bits.
    matrix = matrix * _random_signs(n_bits, 1, generator)
    order = torch.cat([torch.randperm(n_bits, generator=generator) + first for first in (0, n_bits)])
    return torch.cat([matrix, -matrix])[order[:n_classes]] * _random_signs(1, n_bits, generator)


def _random_signs(n_rows: int, n_columns: int, generator: torch.Generator) -> Tensor:
    return torch.randint(0, 2, (n_rows, n_columns), generator=generator).float() * 2 - 1


class TargetLoss(HashLoss):
    """A loss that pulls outputs towards the codes of their classes.

    Images without labels have no target; subclasses leave them out of the mean.

    Args:
        n_bits: columns of `z`.
        n_classes: number of classes.
        codes: float `(n_classes, n_bits)` of -1 and +1; None calls `class_codes`.
        seed: random seed of the codes, and of the bits that break ties.

    Attributes:
        codes: buffer `(n_classes, n_bits)`.

    Raises:
        TypeError, ValueError: an argument is not as described; when called, `z` or `labels` has another width.
    """

    codes: Tensor
    ties: Tensor

    def __init__(self, n_bits: int, n_classes: int, *, codes: Tensor | None = None, seed: int = 0) -> None:
        super().__init__()
        if codes is None:
            codes = class_codes(n_classes, n_bits, seed=seed)
        elif not isinstance(codes, Tensor) or codes.shape != (n_classes, n_bits) or not codes.abs().eq(1).all():
            raise ValueError(f"codes must be a tensor ({n_classes}, {n_bits}) of -1 and +1, got {codes!r}")
        self.register_buffer("codes", codes.float())
        # Drawn once: with a new draw each epoch, the target of an image would keep changing.
        self.register_buffer("ties", class_codes(1, n_bits, kind="random", seed=seed + 1)[0])

    def check_columns(self, z: Tensor) -> None:
        """Raise ValueError if the outputs and the codes have different widths."""
        if z.shape[1] != self.codes.shape[1]:
            raise ValueError(f"z must have n_bits = {self.codes.shape[1]} columns, got {z.shape[1]}")

    def sets(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return multi-hot labels `(B, n_classes)` in the dtype of `z`."""
        return multi_hot(labels, len(self.codes), z.dtype)

    def labelled_mean(self, terms: Tensor, labels: Tensor) -> Tensor:
        """Return the mean of `terms (B, n_bits)` over the rows that have labels; 0 if no row has.

        It multiplies by zeros and ones: choosing rows would wait for a GPU.
        """
        rows = self.sets(terms, labels).amax(dim=1, keepdim=True).sign()
        return (terms * rows).sum() / (rows.sum() * terms.shape[1]).clamp(min=1)

    def targets(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return the target code of each image, `(B, n_bits)`: the code of its class.

        With several classes, each bit is the majority over their codes; fixed random bits break ties. Of an image
        without classes, the code means nothing.
        """
        self.check_columns(z)
        votes = self.sets(z, labels) @ self.codes.to(z.dtype)
        return torch.where(votes == 0, self.ties.to(z.dtype), votes.sign())
