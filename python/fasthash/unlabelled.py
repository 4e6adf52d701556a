"""Codes of photos without labels: an ImageNet network, and a hash layer that ITQ fits to the photos themselves.

Called by `fasthash encode package`. The result is a usual `HashEncoder`, which can be saved and encodes other photos.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from fasthash._checks import check_int
from fasthash._extras import needs_extra
from fasthash._weights import PACKAGE
from fasthash.baselines.itq import ITQ
from fasthash.folders import MAX_BYTES, MAX_PIXELS, EncodedFolder, Limits, encode_folder

with needs_extra("train"):
    import torch

    from fasthash._hasher import evaluating
    from fasthash.encoder import HashEncoder

__all__ = ["fit_encoder"]


def fit_encoder(
    folder: str | os.PathLike[str],
    level_bits: int | Sequence[int] = (64,),
    backbone: str = "tf_efficientnet_lite0",
    pretrained: bool | str | os.PathLike[str] = PACKAGE,
    *,
    image_size: int = 224,
    batch_size: int = 64,
    num_workers: int = 0,
    max_bytes: int = MAX_BYTES,
    max_pixels: int = MAX_PIXELS,
    seed: int = 0,
    progress: bool = True,
) -> tuple[HashEncoder, EncodedFolder]:
    """Make an encoder for the photos in a folder, without labels, and encode them.

    The backbone stays as it is. The hash layer is the rotation of principal components that ITQ learns from the
    features of the photos, see `fasthash.baselines.ITQ`. All features are held in memory, 5 KB a photo.

    Args:
        folder: folder to search for images, see `HashEncoder.encode_folder`.
        level_bits, backbone, pretrained, image_size: see `HashEncoder`.
        batch_size, num_workers, max_bytes, max_pixels, progress: see `HashEncoder.encode_folder`.
        seed: of ITQ's first rotation, from 0 to 2^32 - 1.

    Returns:
        The encoder, in eval mode, and the codes of the photos.

    Raises:
        ValueError: there are not more readable photos than bits, or an argument is not as described.
        OSError, MissingExtraError: as in `HashEncoder` and `HashEncoder.encode_folder`.
    """
    check_int("seed", seed, minimum=0, maximum=2**32 - 1)
    encoder = HashEncoder(backbone, level_bits, pretrained, image_size=image_size).to_best_device().eval()
    if encoder.n_bits > (n_features := encoder.head.n_features):  # ITQ gives a bit for each principal component
        raise ValueError(
            f"level_bits must sum to at most {n_features}, the number of features of backbone={backbone!r}, got "
            f"{encoder.n_bits}"
        )
    device = next(encoder.parameters()).device

    def features_of(batches: Iterable[torch.Tensor]) -> NDArray[np.float32]:
        with evaluating(encoder), torch.inference_mode():
            images = (batch.to(device).contiguous(memory_format=torch.channels_last) for batch in batches)
            found = [encoder.backbone(batch).cpu().numpy() for batch in images]
        return np.concatenate([np.empty((0, encoder.head.n_features), np.float32), *found])

    limits = Limits(max_bytes, max_pixels)
    features, paths, broken = encode_folder(
        folder, encoder.transform, features_of, batch_size, num_workers, limits, progress
    )
    if len(features) <= encoder.n_bits:
        raise ValueError(
            f"folder={os.fspath(folder)!r} must hold more readable photos than n_bits = {encoder.n_bits} to learn "
            f"codes from them, got {len(features)}"
        )
    itq = ITQ(encoder.n_bits, random_state=seed).fit(features)
    _set_weights(encoder, itq.projection_ @ itq.rotation_, itq.mean_)
    codes = encoder.head.encode(torch.from_numpy(features).to(device))
    return encoder, EncodedFolder(codes, paths, broken)


def _set_weights(encoder: HashEncoder, directions: NDArray[np.float64], mean: NDArray[np.float64]) -> None:
    """Let the hash layer compute `(features - mean) @ directions`."""
    start = 0
    with torch.no_grad():
        for layer, n_bits in zip(encoder.head.layers.children(), encoder.level_bits, strict=True):
            assert isinstance(layer, torch.nn.Linear)
            columns = directions[:, start : start + n_bits]
            layer.weight.copy_(torch.from_numpy(columns.T.copy()))
            layer.bias.copy_(torch.from_numpy(-mean @ columns))
            start += n_bits
