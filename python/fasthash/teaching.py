"""Learning from a teacher: a network learns to predict the features of a trained one, on images without labels."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from fasthash._checkpoint import read_card, weights_path
from fasthash._checks import check_path
from fasthash._extras import needs_extra
from fasthash._weights import PACKAGE, packaged_name

with needs_extra("train"):
    import torch
    from torch import nn
    from torch.nn import functional as F

if TYPE_CHECKING:
    from fasthash.encoder import HashEncoder

__all__ = ["Teaching", "check_teacher", "load_teacher"]

_PACKAGED = "tf_efficientnet_lite0"


def check_teacher(teacher: str | os.PathLike[str]) -> None:
    """Check that a teacher exists, without reading its weights.

    Raises:
        FileNotFoundError, ImportError, TypeError, ValueError: as in `load_teacher`.
    """
    if teacher == PACKAGE:
        packaged_name(_PACKAGED)
        return
    check_path("teacher", teacher)
    if not Path(teacher).is_dir():
        raise FileNotFoundError(f"teacher={os.fspath(teacher)!r} must be {PACKAGE!r} or the folder of a saved encoder")
    weights_path(teacher, read_card(teacher, "HashEncoder"))


def load_teacher(teacher: str | os.PathLike[str], image_size: int = 224) -> HashEncoder:
    """Load a network to learn from.

    Args:
        teacher: folder of a saved encoder, or `"package"` for tf_efficientnet_lite0 with the ImageNet weights of an
            installed package (extra `weights`).
        image_size: side of the images in pixels, for the network of the package.

    Raises:
        FileNotFoundError: the folder does not exist.
        MissingExtraError: the package is not installed.
        FormatError: a file of the saved encoder is damaged.
    """
    from fasthash.encoder import HashEncoder

    check_teacher(teacher)
    if teacher == PACKAGE:
        return HashEncoder(_PACKAGED, (8,), PACKAGE, image_size=image_size).eval()
    return HashEncoder.load(teacher)


class Teaching(nn.Module):
    """Distance of a student's features, after a linear projector, from the features of its teacher.

    The teacher gets the student's images in its own normalisation, stays in eval mode and is not trained: its weights
    are no part of the module. Only the projector learns.

    Args:
        student, teacher: encoders whose backbones give the features.

    Attributes:
        projector: linear layer from the student's features to the teacher's.

    Examples:
        >>> teaching = Teaching(HashEncoder("hrnet_w18_small", image_size=64), load_teacher("package"))
    """

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(self, student: HashEncoder, teacher: HashEncoder) -> None:
        super().__init__()
        # `forward` runs it without gradients; its parameters keep `requires_grad`, as it belongs to the caller.
        self._teacher = [teacher.backbone.eval().to(memory_format=torch.channels_last)]
        std, other_std = torch.tensor(student.std), torch.tensor(teacher.std)
        shift = (torch.tensor(student.mean) - torch.tensor(teacher.mean)) / other_std
        self.register_buffer("scale", (std / other_std).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("shift", shift.view(1, 3, 1, 1), persistent=False)
        self.projector = nn.Linear(student.head.n_features, teacher.head.n_features)

    def forward(self, images: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Compute the mean of 1 - cosine over a batch, from 0 to 2.

        Args:
            images: float `(B, 3, H, W)`, as the student's `transform` makes them.
            features: the student's features of these images, `(B, n)`.
        """
        (network,) = self._teacher
        if next(network.parameters()).device != images.device:
            network.to(images.device)
        with torch.no_grad():
            wanted = network(images * self.scale + self.shift)
        found = self.projector(features)
        return 1 - F.cosine_similarity(found.float(), wanted.float(), dim=1).mean()
