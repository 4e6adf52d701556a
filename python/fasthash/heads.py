"""`HashHead`: the hash layer of an encoder, from features to codes; also trained alone, on precomputed features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fasthash._arrays import as_array
from fasthash._checks import check_bool, check_choice, check_int
from fasthash._extras import needs_extra

with needs_extra("train"):
    import torch
    from torch import nn
    from torch.utils.data import Dataset

    from fasthash._hasher import Hasher, in_batches

__all__ = ["HEAD_KINDS", "HashHead"]

HEAD_KINDS = ("linear", "sliced")
_SLICE = 50  # values per bit in DNNH


class HashHead(Hasher):
    """Layer from features to the raw outputs of one or more levels.

    Args:
        n_features: width of the features.
        level_bits: bits of each level, coarse first; positive multiples of 8, 8 to 4096 in total. An integer means one
            level.
        kind: `"linear"` has one `Linear(n_features, bits)` for each level, as in HDHash and HHNet; weights are drawn
            from N(0, 0.01^2) and biases are zero. `"sliced"` is the divide-and-encode layer of DNNH (Lai et al., CVPR
            2015, arXiv:1504.03410): a `Linear(n_features, 50 * n_bits)`, then one linear layer from each slice of 50
            values to one bit, all with PyTorch's default weights. The output is the value before DNNH's sigmoid, so
            the threshold of one half corresponds to the sign.
        batch_norm: append a `BatchNorm1d(affine=False)`, as in OrthoHash. In eval mode it uses its running statistics,
            so a code does not depend on the other rows of the batch.

    Attributes:
        layers: module from features `(B, n_features)` to `(B, n_bits)`, before any batch norm.
        norm: the batch norm, or an `Identity`.

    Raises:
        TypeError, ValueError: an argument is not as described; the message names it.

    Examples:
        >>> head = HashHead(128, level_bits=(8, 24))
        >>> head.encode(np.zeros((5, 128), np.float32)).shape
        (5, 4)
    """

    _CARD_FIELDS: ClassVar = ("n_features", "level_bits", "kind", "batch_norm")

    def __init__(
        self, n_features: int, level_bits: int | Sequence[int], *, kind: str = "linear", batch_norm: bool = False
    ) -> None:
        super().__init__(level_bits)
        self._n_features = check_int("n_features", n_features, 1)
        check_choice("kind", kind, HEAD_KINDS)
        check_bool("batch_norm", batch_norm)
        self._kind = kind
        self.layers = (_linear if kind == "linear" else _sliced)(self.n_features, self.level_bits)
        self.norm = nn.BatchNorm1d(self.n_bits, affine=False) if batch_norm else nn.Identity()

    @property
    def n_features(self) -> int:
        """Width of the features."""
        return self._n_features

    @property
    def kind(self) -> str:
        """`"linear"` or `"sliced"`."""
        return self._kind

    @property
    def batch_norm(self) -> bool:
        """Whether batch norm follows."""
        return isinstance(self.norm, nn.BatchNorm1d)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Compute the raw outputs, before any tanh or sign.

        Args:
            features: float tensor `(B, n_features)`, of the dtype of the weights unless autocast is on.

        Returns:
            float tensor `(B, n_bits)`, the levels side by side, coarse first.

        Raises:
            TypeError, ValueError: `features` has another dtype or shape.
        """
        device = features.device.type
        if not (torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)):
            self._check_dtype(features.dtype)
        self._check_shape(features.shape)
        z: torch.Tensor = self.norm(self.layers(features))
        return z

    def encode(
        self, features: ArrayLike | torch.Tensor | Dataset[Any], batch_size: int = 1024, progress: bool = False
    ) -> NDArray[np.uint8]:
        """Compute packed codes in eval mode, without gradients, on the device of the head.

        Args:
            features: float32 array or tensor `(n, n_features)`, or a torch Dataset of tensors `(n_features,)` or of
                pairs (tensor, label). An array may be a memory-mapped file: one batch of it is read at a time.
            batch_size: rows per step. The codes do not depend on it, except for rounding of outputs near zero.
            progress: show a progress bar.

        Returns:
            uint8 array `(n, n_bits / 8)`: the signs of the outputs, see `fasthash.sign_codes`.

        Raises:
            TypeError, ValueError: `features` has another type, dtype or shape, an output is NaN, or `batch_size` < 1.
        """
        check_int("batch_size", batch_size, 1)
        if not isinstance(features, Dataset):
            if isinstance(features, torch.Tensor):
                self._check_dtype(features.dtype)
            else:
                features = as_array("features", features)
                if features.dtype != np.float32:
                    raise TypeError(f"features must be float32, got dtype {features.dtype}; see numpy's astype")
            self._check_shape(features.shape)
        return self._codes(in_batches(features, batch_size), "features", progress)

    def outputs(self, features: torch.Tensor, batch_size: int = 1024) -> NDArray[np.float32]:
        """Compute the raw outputs whose signs are the codes: `encode(features) == sign_codes(outputs(features))`.

        Args:
            features: tensor `(n, n_features)` of the dtype of the weights.
            batch_size: rows per step.

        Returns:
            float32 array `(n, n_bits)`.

        Raises:
            TypeError, ValueError: as in `encode`.
        """
        check_int("batch_size", batch_size, 1)
        self._check_dtype(features.dtype)
        self._check_shape(features.shape)
        batches = self._outputs(in_batches(features, batch_size), "features", progress=False)
        return np.concatenate([np.empty((0, self.n_bits), np.float32), *batches])

    def _arguments(self) -> dict[str, Any]:
        return {field: getattr(self, field) for field in self._CARD_FIELDS}

    def _check_dtype(self, dtype: torch.dtype) -> None:
        if dtype != self._weight().dtype:
            raise TypeError(f"features must be {self._weight().dtype} like the weights, got {dtype}")

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        if len(shape) != 2 or shape[1] != self.n_features:
            raise ValueError(f"features must have shape (n, {self.n_features}), got {tuple(shape)}")


class _SideBySide(nn.ModuleList):
    """Layers that read the same features; their outputs are concatenated."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return torch.cat([layer(features) for layer in self], dim=1)


def _linear(n_features: int, level_bits: tuple[int, ...]) -> nn.Module:
    layers = [nn.Linear(n_features, bits) for bits in level_bits]
    for layer in layers:
        nn.init.normal_(layer.weight, std=0.01)
        nn.init.zeros_(layer.bias)
    return _SideBySide(layers)


def _sliced(n_features: int, level_bits: tuple[int, ...]) -> nn.Module:
    n_bits = sum(level_bits)
    width = _SLICE * n_bits
    # A convolution of width 1 in n_bits groups is one linear layer for each slice.
    slices = nn.Conv1d(width, n_bits, kernel_size=1, groups=n_bits)
    return nn.Sequential(nn.Linear(n_features, width), nn.Unflatten(1, (width, 1)), slices, nn.Flatten())
