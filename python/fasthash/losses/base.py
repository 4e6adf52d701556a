"""The contract of all losses, and what losses on pairs of images share."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

__all__ = ["HashLoss", "Pairs", "pair_mask", "similarity"]

Pairs = Literal["offdiag", "all"]


class HashLoss(nn.Module):
    """A loss on the raw outputs of a hash network.

    A loss is called as `loss(z, labels)` and returns a scalar, finite for every finite batch. The trainer calls
    `loss.step()` once after each optimiser step. A subclass implements `batch_loss`, and `step` if it has a schedule.
    """

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        """Loss of one batch.

        Args:
            z: float `(B, n_bits)`, the outputs before any tanh or sign. Half precision is computed in float32, under
                autocast too. NaN is not looked for, which would make the GPU wait.
            labels: int64 `(B,)` classes, or multi-hot `(B, C)` of zeros and ones, C at least 2, any real dtype.

        Returns:
            A scalar, float32 or the float64 of `z`.

        Raises:
            TypeError: `z` is no float tensor, or `labels` no tensor of a fitting dtype.
            ValueError: a shape does not fit.
        """
        _check_batch(z, labels)
        with torch.autocast(z.device.type, enabled=False):
            return self.batch_loss(z.float() if z.dtype.itemsize < 4 else z, labels)

    def batch_loss(self, z: Tensor, labels: Tensor) -> Tensor:
        """The loss itself, given checked arguments and `z` in float32 or float64."""
        raise NotImplementedError(f"{type(self).__name__} must implement batch_loss")

    def step(self) -> None:
        """Move the schedules of the loss by one iteration; a loss without any does nothing."""


def similarity(labels: Tensor) -> Tensor:
    """Bool `(B, B)`: true where two images share a label.

    Args:
        labels: int64 `(B,)` classes, or multi-hot `(B, C)`.
    """
    if labels.ndim == 1:
        return labels[:, None] == labels
    sets = labels.float()
    return sets @ sets.T > 0


def pair_mask(batch: int, pairs: Pairs, device: torch.device) -> Tensor:
    """Bool `(batch, batch)`, true for the ordered pairs that count: "all", or "offdiag" for all but the diagonal."""
    mask = torch.ones(batch, batch, dtype=torch.bool, device=device)
    return mask if pairs == "all" else mask.fill_diagonal_(False)


def _check_batch(z: Tensor, labels: Tensor) -> None:
    for name, value in (("z", z), ("labels", labels)):
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} must be a torch tensor, got {type(value).__name__}")
    if not z.is_floating_point():
        raise TypeError(f"z must be a float tensor, got {z.dtype}")
    if z.ndim != 2 or z.shape[1] == 0:
        raise ValueError(f"z must have shape (B, n_bits) with n_bits at least 1, got {tuple(z.shape)}")
    # One column is refused as the likely slip of classes kept as (B, 1), which would make nearly all images similar.
    if labels.ndim not in (1, 2) or labels.shape[1:] == (1,):
        raise ValueError(f"labels must have shape (B,), or (B, C) with C at least 2, got {tuple(labels.shape)}")
    if labels.ndim == 1 and labels.dtype != torch.int64:
        raise TypeError(f"labels of shape (B,) must be int64 classes, got {labels.dtype}")
    if len(labels) != len(z):
        raise ValueError(f"labels must match the {len(z)} rows of z, got {len(labels)}")
