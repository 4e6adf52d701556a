"""`encode_part`: encodes one part of a source; called in each worker, or in the calling process without workers."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice

from fasthash._extras import needs_extra
from fasthash._photo_files import Broken, reason
from fasthash.distributed.parts import EncodedPart
from fasthash.distributed.sources import Source

with needs_extra("train"):
    import torch

    from fasthash.encoder import HashEncoder

__all__ = ["encode_part"]


def encode_part(encoder: HashEncoder, source: Source, names: list[str], batch_size: int) -> EncodedPart:
    """Encode the images of some files of a source; only one batch of images is in memory at a time.

    Args:
        encoder: network that computes the codes.
        source: source of the images.
        names: names of the files.
        batch_size: images per step.

    Returns:
        Codes and keys of the encoded images, and the broken ones with reasons.
    """
    keys: list[str] = []
    broken: Broken = []

    def batches() -> Iterator[torch.Tensor]:
        transform, photos = encoder.transform, source.photos(names)
        for first in photos:
            images = []
            for key, read in chain([first], islice(photos, batch_size - 1)):
                try:
                    images.append(transform(read()))
                    keys.append(key)
                except Exception as error:  # as in encode_folder: Pillow's decoders raise any exception
                    broken.append((key, reason(error)))
            if images:
                yield torch.stack(images)

    return EncodedPart(encoder._codes(batches(), "images", progress=False), keys, broken)
