"""Terms used by several losses."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["correlation", "log_cosh", "logistic", "ones_error", "sign", "sign_error", "straight_through_sign"]


def logistic(theta: Tensor, similar: Tensor) -> Tensor:
    """Negative log-likelihood of the similarities s given the logits t, `softplus(t) - s t`."""
    # Equals softplus(-t) for s = 1; this form neither overflows nor cancels.
    return -F.logsigmoid(torch.where(similar, theta, -theta))


def log_cosh(x: Tensor) -> Tensor:
    """log cosh x, a smooth |x|, without overflow."""
    return x.abs() + F.softplus(-2 * x.abs()) - math.log(2)


def sign(z: Tensor) -> Tensor:
    """Return -1 or +1, with +1 at zero as in `sign_codes`; without a gradient."""
    return torch.where(z >= 0, 1.0, -1.0).to(z.dtype)


def straight_through_sign(z: Tensor) -> Tensor:
    """`sign` with the gradient of the identity."""
    return z + (sign(z) - z).detach()


def sign_error(u: Tensor) -> Tensor:
    """Squared distance of outputs from their signs, summed over bits, mean over images; 0 for an empty batch."""
    return (u - sign(u)).square().sum() / max(len(u), 1)


def ones_error(u: Tensor) -> Tensor:
    """Distance of |u| from 1, mean over images and bits; 0 for an empty batch."""
    return (u.abs() - 1).abs().sum() / max(u.numel(), 1)


def correlation(u: Tensor) -> Tensor:
    """Squared covariance of two columns over the rows, mean over all pairs of columns; 0 for a single column."""
    centred = u - u.mean(dim=0)
    squares = (centred.T @ centred / len(u)).square()
    n_pairs = u.shape[1] * (u.shape[1] - 1)
    return (squares.sum() - squares.diagonal().sum()) / max(n_pairs, 1)
