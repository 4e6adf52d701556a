"""Pictures for tests, as files, and an encoder that tells them apart."""

import numpy as np
import torch
from PIL import Image

from fasthash.encoder import HashEncoder


def small_encoder():
    """With outputs centred, so that codes differ from image to image."""
    torch.manual_seed(0)
    encoder = HashEncoder("resnet10t", (8, 16), image_size=32).eval()
    with torch.no_grad():
        z = encoder(2 * torch.randn(64, 3, 1, 1).expand(-1, -1, 32, 32))
        for layer, part in zip(encoder.head.layers, z.split(encoder.level_bits, dim=1), strict=True):
            layer.bias -= part.median(dim=0).values
    return encoder


def picture(seed=0, size=(40, 50)):
    """A smooth picture of random colours, 8-bit RGB."""
    pixels = np.random.default_rng(seed).integers(0, 256, (3, 3, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)


def write(path, image=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    (image or picture()).save(path, **options)
    return path
