"""Random changes of training images, which are float tensors and normalised already."""

from __future__ import annotations

from collections.abc import Callable

from fasthash._extras import needs_extra

with needs_extra("train"):
    import torch
    from torchvision.transforms import v2

    from fasthash.backbones import Preprocessing

__all__ = ["AUGMENTATIONS", "augmentation"]

AUGMENTATIONS = ("none", "flip", "crop_flip", "resized_crop", "rand_augment", "trivial_augment")


def augmentation(
    name: str, image_size: int, preprocessing: Preprocessing
) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """Make the augmentation of a name in `AUGMENTATIONS`, for images `(3, image_size, image_size)`.

    Args:
        name: "none"; "flip" for mirrored images; "crop_flip" for crops of the image padded by an eighth, and flips;
            "resized_crop" for crops of a fifth of the area or more at any scale, and flips; "rand_augment" or
            "trivial_augment" for two or one of torchvision's changes of colour and shape, with crops and flips.
        image_size: side of the images in pixels.
        preprocessing: normalisation of the images.
    """
    flip = v2.RandomHorizontalFlip()
    crop = v2.RandomCrop(image_size, padding=image_size // 8, padding_mode="reflect")
    if name == "none":
        return None
    if name == "flip":
        return flip
    if name == "crop_flip":
        return v2.Compose([crop, flip])
    if name == "resized_crop":
        return v2.Compose([v2.RandomResizedCrop(image_size, scale=(0.2, 1), antialias=True), flip])
    change = v2.RandAugment(num_ops=2, magnitude=9) if name == "rand_augment" else v2.TrivialAugmentWide()
    return v2.Compose([_OnColours(change, preprocessing), crop, flip])


class _OnColours(torch.nn.Module):
    """A change of colours in [0, 1], applied to a normalised image."""

    def __init__(self, change: torch.nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.change = change
        self.mean, self.std = (torch.tensor(values).view(3, 1, 1) for values in preprocessing[:2])

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        colours: torch.Tensor = self.change((image * self.std + self.mean).clamp(0, 1))
        return (colours - self.mean) / self.std
