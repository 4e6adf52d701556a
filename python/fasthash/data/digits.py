"""The handwritten digits that ship with scikit-learn."""

from __future__ import annotations

import numpy as np

from fasthash._extras import needs_extra
from fasthash.data.draw import held_out
from fasthash.data.images import ImageSet, Transform
from fasthash.data.split import Split

__all__ = ["load_digits"]


def load_digits(seed: int = 0, transform: Transform | None = None) -> Split:
    """Load the 1,797 handwritten digits that ship with scikit-learn, 8 x 8 px, in 10 classes.

    The queries are 20 random images of each class. All other images are both training set and gallery, as in the
    protocol `cifar10-2`.

    Args:
        seed: random seed for the choice of queries.
        transform: see `ImageSet`.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    with needs_extra("demo"):
        from sklearn import datasets

    digits = datasets.load_digits()
    pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)
    names = [f"{index:04}" for index in range(len(pixels))]
    images = ImageSet(pixels, digits.target, [str(name) for name in digits.target_names], transform, names)
    query = held_out(images.labels, seed, lambda n: 20)
    rest = images.subset(~query)
    protocol = (
        f"scikit-learn's digits: 20 images of each class, drawn with seed {seed}, are the queries; "
        f"the other {len(rest)} are both training set and gallery."
    )
    return Split(rest, rest, images.subset(query), protocol, seed=seed)
