"""`HashLoss`, the base class of all losses, and helpers for labels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["HashLoss", "multi_hot", "similarity"]


class HashLoss(nn.Module):
    """A loss on the raw outputs of a hash network.

    `loss(z, labels)` returns a scalar, finite for outputs up to 10^9 in magnitude. The trainer calls `loss.step()` once
    after each optimiser step, and passes `index` if `needs_index` is true. Parameters of a loss (proxies, a classifier)
    are trained with the network. A subclass implements `batch_loss`, and `step` if it has a schedule.
    """

    @property
    def needs_index(self) -> bool:
        """Whether a call needs `index`, because the loss stores a value for every image."""
        return False

    def forward(self, z: Tensor, labels: Tensor, index: Tensor | None = None) -> Tensor:
        """Compute the loss of one batch.

        Args:
            z: float `(B, n_bits)`, the outputs before any tanh or sign. Half precision is computed in float32, under
                autocast too. NaN is not checked, since a check would make the GPU wait.
            labels: int64 `(B,)` classes, or multi-hot `(B, C)` of zeros and ones, C at least 2, any real dtype.
            index: int64 `(B,)`, positions of the images in the training set, for a loss that `needs_index`.

        Returns:
            A scalar: float64 if `z` is float64, else float32.

        Raises:
            TypeError: `z` is not a float tensor, or `labels` or `index` is not a tensor of the right dtype.
            ValueError: a shape does not fit, or `index` is missing.
        """
        _check_batch(z, labels)
        if self.needs_index:
            _check_index(index, len(z))
        with torch.autocast(z.device.type, enabled=False):
            return self.batch_loss(z.float() if z.dtype.itemsize < 4 else z, labels, index)

    def batch_loss(self, z: Tensor, labels: Tensor, index: Tensor | None) -> Tensor:
        """Compute the loss from checked arguments, with `z` in float32 or float64."""
        raise NotImplementedError(f"{type(self).__name__} must implement batch_loss")

    def step(self) -> None:
        """Advance the schedules of the loss by one iteration; the default does nothing."""


def similarity(labels: Tensor, others: Tensor | None = None) -> Tensor:
    """Return bool `(A, B)`: true where two images share a label.

    Args:
        labels: int64 `(A,)` classes, or multi-hot `(A, C)`.
        others: labels of B other images; None compares the images with each other.
    """
    others = labels if others is None else others
    if labels.ndim == 1:
        return labels[:, None] == others
    return labels.float() @ others.float().T > 0


def multi_hot(labels: Tensor, n_classes: int, dtype: torch.dtype) -> Tensor:
    """Convert labels of either form to zeros and ones `(B, n_classes)`.

    Raises:
        ValueError: a class is not below `n_classes`, or multi-hot labels have another width.
    """
    if labels.ndim == 2:
        if labels.shape[1] != n_classes:
            raise ValueError(f"labels must have n_classes = {n_classes} columns, got {labels.shape[1]}")
        return labels.to(dtype)
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < n_classes:
        raise ValueError(f"labels must lie in 0 .. {n_classes - 1}, got {int(labels.min())} .. {int(labels.max())}")
    return nn.functional.one_hot(labels, n_classes).to(dtype)


def _check_batch(z: Tensor, labels: Tensor) -> None:
    for name, value in (("z", z), ("labels", labels)):
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} must be a torch tensor, got {type(value).__name__}")
    if not z.is_floating_point():
        raise TypeError(f"z must be a float tensor, got {z.dtype}")
    if z.ndim != 2 or z.shape[1] == 0:
        raise ValueError(f"z must have shape (B, n_bits) with n_bits at least 1, got {tuple(z.shape)}")
    # Refuse one column: it is probably a column of classes (B, 1), and would make nearly all images similar.
    if labels.ndim not in (1, 2) or labels.shape[1:] == (1,):
        raise ValueError(f"labels must have shape (B,), or (B, C) with C at least 2, got {tuple(labels.shape)}")
    if labels.ndim == 1 and labels.dtype != torch.int64:
        raise TypeError(f"labels of shape (B,) must be int64 classes, got {labels.dtype}")
    if len(labels) != len(z):
        raise ValueError(f"labels must match the {len(z)} rows of z, got {len(labels)}")


def _check_index(index: Tensor | None, batch: int) -> None:
    if index is None:
        raise ValueError("index must be given: this loss remembers something of every image, got None")
    if not isinstance(index, Tensor) or index.dtype != torch.int64:
        raise TypeError(f"index must be an int64 tensor, got {getattr(index, 'dtype', type(index).__name__)}")
    if index.shape != (batch,):
        raise ValueError(f"index must have shape ({batch},), got {tuple(index.shape)}")
