"""Images to codes: a backbone and one linear hash head per level.

The network of HHNet (HRNet features and a linear hash layer) with the parallel heads of HDHash: every level is a
`Linear(width, bits)` on the same features, and the code of an image is the signs of all levels side by side.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasthash._checks import check_int, check_level_bits
from fasthash._extras import needs_extra
from fasthash.codes import sign_codes

with needs_extra("train"):
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_model, save_model
    from torch import nn
    from torch.utils.data import DataLoader, Dataset, TensorDataset
    from torchvision.transforms import v2
    from tqdm import tqdm

    from fasthash.backbones import FEATURE_WIDTHS, brief, make_backbone

__all__ = ["HashEncoder"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_CARD_VERSION = 1
_CARD_FIELDS = ("backbone", "level_bits", "image_size", "mean", "std")


class HashEncoder(nn.Module):
    """Network from images to hash codes of one or more levels.

    Args:
        backbone: one of `FEATURE_WIDTHS`, or the name of any other timm model.
        level_bits: bits of each level, coarse first; positive multiples of 8, 8 to 4096 in total.
        pretrained: False for random weights, True for ImageNet weights (downloaded by timm or torchvision), or the
            path of a local `.safetensors` file with the weights of the backbone.
        image_size: side in pixels of the square images that `transform` makes.
        mean, std: normalisation of the three channels in `transform`; by default ImageNet's.

    Attributes:
        backbone: module from images `(B, 3, H, W)` to features `(B, width)`.
        heads: one `nn.Linear(width, bits)` per level, weights drawn from N(0, 0.01^2), biases zero.

    Raises:
        ConnectionError: `pretrained=True`, and the weights cannot be downloaded.
        FileNotFoundError: the file that `pretrained` names does not exist.
        TypeError, ValueError: an argument is not as described; the message names it.

    Example:
        >>> encoder = HashEncoder("hrnet_w18_small", level_bits=(8, 16, 40), image_size=32)
        >>> encoder.encode(torch.rand(5, 3, 32, 32)).shape
        (5, 8)
    """

    def __init__(
        self,
        backbone: str = "hrnet_w18",
        level_bits: Sequence[int] = (8, 16, 40),
        pretrained: bool | str | os.PathLike[str] = False,
        *,
        image_size: int = 224,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self._level_bits = check_level_bits(level_bits)
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ValueError(f"mean and std must be three numbers each, std positive, got mean={mean!r}, std={std!r}")
        self.image_size, self.mean, self.std = check_int("image_size", image_size, 1), tuple(mean), tuple(std)

        self._backbone_name = backbone
        self.backbone = make_backbone(backbone, pretrained)
        self._feature_widths: dict[tuple[int, int], int] = {}  # by image size, filled by _feature_width
        width = self._feature_width(image_size, image_size)
        if width != FEATURE_WIDTHS.get(backbone, width):
            raise RuntimeError(f"{backbone} must give {FEATURE_WIDTHS[backbone]} features, here it gives {width}")
        heads = [nn.Linear(width, bits) for bits in self._level_bits]
        for head in heads:
            nn.init.normal_(head.weight, std=0.01)
            nn.init.zeros_(head.bias)
        self.heads = nn.ModuleList(heads)

    @property
    def backbone_name(self) -> str:
        """Name that the backbone was made by."""
        return self._backbone_name

    @property
    def level_bits(self) -> tuple[int, ...]:
        """Bits of each level, coarse first."""
        return self._level_bits

    @property
    def n_bits(self) -> int:
        """Bits of a whole code: the sum of `level_bits`."""
        return sum(self._level_bits)

    @property
    def transform(self) -> v2.Transform:
        """Preprocessing: PIL image or uint8 array `(H, W, 3)` to float32 tensor `(3, image_size, image_size)`.

        As HHNet: shorter side to 256, centre crop of 224, values to [0, 1], normalisation. Other image sizes keep the
        ratio of 256 to 224.
        """
        return v2.Compose(
            [
                v2.RGB(),  # first, while a palette still is one
                v2.ToImage(),
                v2.Resize(round(self.image_size * 256 / 224), antialias=True),
                v2.CenterCrop(self.image_size),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(self.mean, self.std),
                v2.ToPureTensor(),
            ]
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the raw outputs, before any tanh or sign.

        Args:
            images: float tensor `(B, 3, H, W)`, as `transform` makes them.

        Returns:
            float tensor `(B, n_bits)`, the levels side by side, coarse first.

        Raises:
            TypeError, ValueError: `images` has another dtype or shape, or a size that the backbone cannot take.
        """
        self._check_images(images)
        features = self.backbone(images)
        return torch.cat([head(features) for head in self.heads], dim=1)

    def encode(
        self, images: torch.Tensor | Dataset[Any], batch_size: int = 64, progress: bool = False
    ) -> NDArray[np.uint8]:
        """Compute packed codes in eval mode, without gradients, on the device of the encoder.

        Args:
            images: float tensor `(n, 3, H, W)`, or a torch Dataset of float tensors `(3, H, W)` or of pairs
                (tensor, label).
            batch_size: images per step; but for rounding of outputs next to zero the codes do not depend on it.
            progress: show a progress bar.

        Returns:
            uint8 array `(n, n_bits / 8)`: the signs of the outputs, see `fasthash.sign_codes`.

        Raises:
            TypeError, ValueError: `images` has another type, dtype or shape, an output is NaN, or `batch_size` < 1.
        """
        check_int("batch_size", batch_size, 1)
        if isinstance(images, torch.Tensor):
            self._check_images(images)
            images = TensorDataset(images)
        if not isinstance(images, Dataset):
            raise TypeError(
                f"images must be a float tensor (n, 3, H, W) or a torch Dataset, got {type(images).__name__}"
            )

        codes = [np.empty((0, self.n_bits // 8), np.uint8)]
        device = self.heads[0].weight.device
        with _evaluating(self), torch.inference_mode():
            batches = DataLoader(images, batch_size)
            for step, batch in enumerate(tqdm(batches, desc="encode", unit="batch", disable=not progress)):
                inputs = batch[0] if isinstance(batch, (list, tuple)) else batch
                z = self(inputs.to(device)).float().cpu().numpy()
                try:
                    codes.append(sign_codes(z))
                except ValueError as error:
                    raise ValueError(f"outputs for the images from number {step * batch_size} on: {error}") from error
        return np.concatenate(codes)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the encoder into `folder`: the weights as model.safetensors, all the rest as card.json."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_model(self, str(folder / "model.safetensors"))
        values = (self.backbone_name, self.level_bits, self.image_size, self.mean, self.std)
        card = {"version": _CARD_VERSION, **dict(zip(_CARD_FIELDS, values, strict=True))}
        (folder / "card.json").write_text(json.dumps(card, indent=2) + "\n")

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> HashEncoder:
        """Read an encoder that `save` wrote; it comes on the CPU and in eval mode.

        Raises:
            FileNotFoundError: `folder` lacks card.json or model.safetensors.
            ValueError: one of these files is not what `save` writes.
        """
        card_path, weights_path = Path(folder) / "card.json", Path(folder) / "model.safetensors"
        for path in (card_path, weights_path):
            if not path.is_file():
                raise FileNotFoundError(f"folder={str(folder)!r} holds no saved encoder: {path.name} is missing")
        try:
            card = json.loads(card_path.read_text())
            if card["version"] != _CARD_VERSION:
                raise ValueError(f"version is {card['version']!r}, this release reads {_CARD_VERSION}")
            encoder = cls(**{field: card[field] for field in _CARD_FIELDS})
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{card_path} is not the card of an encoder: {error!r}") from error
        try:
            load_model(encoder, str(weights_path))
        except (SafetensorError, RuntimeError) as error:
            raise ValueError(f"{weights_path} does not fit {card_path.name}: {brief(error)}") from error
        return encoder.eval()

    def _check_images(self, images: torch.Tensor) -> None:
        dtype = self.heads[0].weight.dtype
        if images.dtype != dtype:
            raise TypeError(f"images must be {dtype} like the weights (see transform), got {images.dtype}")
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images must have shape (n, 3, H, W), got {tuple(images.shape)}")
        self._feature_width(*images.shape[2:])

    def _feature_width(self, height: int, width: int) -> int:
        """Width of the features of images of this size, by a dry run when the size is met for the first time."""
        if (height, width) not in self._feature_widths:
            parameter = next(self.backbone.parameters())
            image = torch.zeros(1, 3, height, width, dtype=parameter.dtype, device=parameter.device)
            try:
                with _evaluating(self.backbone), torch.no_grad():
                    features = self.backbone(image)
            except (RuntimeError, AssertionError) as error:
                raise ValueError(
                    f"{self.backbone_name} cannot take images of {height} x {width} px (AlexNet needs 63 px or more, "
                    f"VGG 32 px or more, HRNet multiples of 32 px): {brief(error)}"
                ) from error
            if features.ndim != 2:
                raise ValueError(
                    f"backbone={self.backbone_name!r} gives no feature vectors but {tuple(features.shape)}"
                )
            self._feature_widths[height, width] = features.shape[1]
        return self._feature_widths[height, width]


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module in eval mode for a while; each part gets its own mode back, since some may have been frozen."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True
