"""CNNH: a first stage computes codes from similarities, a second stage trains a network to regress them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fasthash._checks import check_int
from fasthash.losses.base import HashLoss
from fasthash.losses.terms import sign

__all__ = ["CNNHLoss", "cnnh_codes"]


def cnnh_codes(labels: Tensor, n_bits: int, *, sweeps: int = 10, seed: int = 0) -> Tensor:
    """Compute the first stage of CNNH: codes of the training set whose inner products approximate its similarities.

    The method lowers `|S - H H' / n_bits|^2` over H in [-1, 1], where S is 1 for images that share a label and -1
    otherwise. It updates one matrix element at a time, in random order, by a Newton step. Sums over the training set
    are kept, so that a step takes O(n_bits) time, and no n x n matrix is made. A sweep that raises the objective is
    undone and ends the method.

    Xia, Pan, Lai, Liu and Yan, Supervised Hashing for Image Retrieval via Image Representation Learning, AAAI 2014.

    Args:
        labels: int64 `(n,)` or multi-hot `(n, C)`.
        n_bits: width of the codes.
        sweeps: largest number of passes over all elements.
        seed: random seed of the initial H and of the order.

    Returns:
        float32 `(n, n_bits)` of -1 and +1, the signs of H.

    Raises:
        TypeError, ValueError: an argument is not as described.
    """
    if not isinstance(labels, Tensor):
        raise TypeError(f"labels must be a torch tensor, got {type(labels).__name__}")
    if labels.ndim not in (1, 2):
        raise ValueError(f"labels must have shape (n,) or (n, C), got {tuple(labels.shape)}")
    check_int("n_bits", n_bits, 1)
    check_int("sweeps", sweeps, 1)
    rng = np.random.default_rng(seed)
    classes = labels.cpu().numpy()
    h = rng.uniform(-1, 1, (len(classes), n_bits))
    objective = _objective(h, classes)
    for _ in range(sweeps):
        before = h.copy()
        _sweep(h, classes, rng)
        previous, objective = objective, _objective(h, classes)
        if objective > previous:
            h = before
            break
    return sign(torch.from_numpy(h)).float()


def newton_step(h: NDArray[np.float64], gram: NDArray[np.float64], pull: NDArray[np.float64], k: int) -> float:
    """Return the change of element k of a row h of H: `-g / c`, clipped so that the element stays in [-1, 1].

    g and c are the first and the second derivative of `|H H' - n_bits S|^2`.

    Args:
        h: `(n_bits,)`, the row.
        gram: `(n_bits, n_bits)`, H' H.
        pull: `(n_bits,)`, the row of S H.
        k: position of the element in the row.
    """
    n_bits = len(h)
    slope = 4 * (h @ gram[:, k] - n_bits * pull[k])
    curvature = 4 * (gram[k, k] + h[k] * h[k] + h @ h - n_bits)
    # With few images the objective may be concave; then the minimum is at the end of the interval.
    step = -slope / curvature if curvature > 0 else -np.copysign(np.inf, slope)
    return float(min(max(step, -1 - h[k]), 1 - h[k]))


def _sweep(h: NDArray[np.float64], classes: NDArray[np.generic], rng: np.random.Generator) -> None:
    gram = h.T @ h
    for i in rng.permutation(len(h)):
        row = h[i]
        pull = _similarities(classes, i) @ h
        for k in rng.permutation(len(row)):
            step = newton_step(row, gram, pull, k)
            gram[k] += step * row
            gram[:, k] += step * row
            gram[k, k] += step * step
            pull[k] += step  # an image is similar to itself
            row[k] += step


def _similarities(classes: NDArray[np.generic], i: int) -> NDArray[np.float64]:
    """Row i of S."""
    similar = classes == classes[i] if classes.ndim == 1 else classes @ classes[i] > 0
    similar[i] = True  # also for an image without labels
    return np.where(similar, 1.0, -1.0)


def _objective(h: NDArray[np.float64], classes: NDArray[np.generic]) -> float:
    """Return `|S - H H' / n_bits|^2` without the constant |S|^2."""
    n_bits = h.shape[1]
    crossed = sum(float(_similarities(classes, i) @ h @ h[i]) for i in range(len(h)))
    return float(np.square(h.T @ h).sum()) / n_bits**2 - 2 * crossed / n_bits


class CNNHLoss(HashLoss):
    """Second stage of CNNH: the network regresses the codes of the first stage.

    The mean over images and bits of `(u - h)^2`, where `u = tanh(z)` and h is the code of the image from `cnnh_codes`.

    Args:
        codes: float `(n, n_bits)` of -1 and +1, the codes of the training set in its order.

    Raises:
        TypeError, ValueError: `codes` is not a tensor of -1 and +1.
    """

    codes: Tensor

    def __init__(self, codes: Tensor) -> None:
        super().__init__()
        if not isinstance(codes, Tensor):
            raise TypeError(f"codes must be a torch tensor, got {type(codes).__name__}")
        if codes.ndim != 2 or not codes.abs().eq(1).all():
            raise ValueError(f"codes must have shape (n, n_bits) and hold -1 and +1, got {codes!r}")
        self.register_buffer("codes", codes.float())

    @property
    def needs_index(self) -> bool:
        """Always true: each image of the training set has its code."""
        return True

    def batch_loss(self, z: Tensor, labels: Tensor, index: Tensor | None) -> Tensor:
        """See `HashLoss.forward`."""
        assert index is not None  # forward has checked it
        if z.shape[1] != self.codes.shape[1]:
            raise ValueError(f"z must have the {self.codes.shape[1]} columns of the codes, got {z.shape[1]}")
        if len(index) and not 0 <= int(index.min()) <= int(index.max()) < len(self.codes):
            raise ValueError(f"index must lie in 0 .. {len(self.codes) - 1}, got {index.tolist()}")
        return (torch.tanh(z) - self.codes[index].to(z.dtype)).square().sum() / max(z.numel(), 1)
