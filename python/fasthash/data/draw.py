"""Splits drawn by the rules of a protocol."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fasthash._checks import check_int
from fasthash.data.images import ImageSet
from fasthash.data.protocols import Protocol, find_protocol
from fasthash.data.split import Split

__all__ = ["draw_split", "every_second", "held_out"]

Folds = NDArray[np.str_]
_REST = "rest"
_FOLD_DTYPE = "<U10"  # holds the longest name, "validation"


def draw_split(protocol: str | Protocol, images: ImageSet, test: ImageSet | None = None, seed: int = 0) -> Split:
    """Draw queries, training images and validation images by a protocol; the gallery gets the rest.

    Random choices follow HHNet's code (arXiv 2403.13747): with seed 0 and the images in the order of the data set, the
    sets equal those of HHNet. For CIFAR-10 the order is the training batches, then the test batch.

    An image with several classes is drawn once, for the first of its classes that selects it.

    Args:
        protocol: name in `PROTOCOLS`, or your own `Protocol`.
        images: all images of the data set without `test`.
        test: official test images of the data set, if any. Protocols with `draw="official"` take the queries from them;
            other protocols draw from `images` and `test` together.
        seed: random seed, not negative.

    Returns:
        A split; each set keeps the order of the images.

    Raises:
        TypeError: `seed` is not an integer.
        ValueError: the protocol is unknown or only published as lists, the images have other classes or are too few,
            `test` is missing, or `seed` is negative.

    Examples:
        >>> split = draw_split("cifar10-hhnet", *read_cifar10("data"))
        >>> split.save("cifar10-hhnet.json")
    """
    protocol = find_protocol(protocol)
    seed = check_int("seed", seed, 0)  # Python draws the same for -1 as for 1
    _check_classes(protocol, images)
    pool = images if test is None else images.joined(test)
    generator = random.Random(seed)
    if protocol.draw == "official":
        folds = _official_folds(protocol, images, test, generator)
    elif protocol.draw == "random":
        folds = _random_folds(protocol, len(pool), generator)
    elif protocol.draw == "per class":
        sizes = {"train": protocol.n_train, "query": protocol.n_query, "validation": protocol.n_validation}
        folds = _folds_per_class(pool, sizes, generator)
    else:
        raise ValueError(f"protocol {protocol.name!r} is published as lists alone and cannot be drawn; see load_lists")

    in_gallery = (folds == _REST) | (folds == "train") if protocol.train_in_gallery else folds == _REST
    return Split(
        pool.subset(folds == "train"),
        pool.subset(in_gallery),
        pool.subset(folds == "query"),
        f"{protocol}; drawn with seed {seed} from {len(pool):,} images.",
        validation=pool.subset(folds == "validation") if protocol.n_validation else None,
        rules=protocol,
        seed=seed,
    )


def held_out(labels: NDArray[np.int64], seed: int, count: Callable[[int], int]) -> NDArray[np.bool_]:
    """Draw `count(n)` of the n images of each class; return bool `(n,)`, true for drawn images."""
    generator = np.random.default_rng(seed)
    drawn = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        drawn[generator.permutation(members)[: count(len(members))]] = True
    return drawn


def every_second(test: ImageSet) -> tuple[ImageSet, ImageSet]:
    """Split official test images alternately into queries and validation images, as HHNet's code does."""
    even = np.arange(len(test)) % 2 == 0
    return test.subset(even), test.subset(~even)


def _official_folds(protocol: Protocol, images: ImageSet, test: ImageSet | None, generator: random.Random) -> Folds:
    n_test = protocol.n_query + protocol.n_validation
    if test is None or len(test) != n_test:
        given = "none" if test is None else len(test)
        raise ValueError(f"test must hold the {n_test} test images for protocol {protocol.name!r}, got {given}")
    of_test = np.full(len(test), "query", _FOLD_DTYPE)
    if protocol.n_validation:
        of_test[1::2] = "validation"
    return np.concatenate((_folds_per_class(images, {"train": protocol.n_train}, generator), of_test))


def _random_folds(protocol: Protocol, n: int, generator: random.Random) -> Folds:
    # Shuffle the names in this order, which gives the sets of HHNet's code.
    folds = ["train"] * protocol.n_train + ["query"] * protocol.n_query + ["validation"] * protocol.n_validation
    if n <= len(folds):
        raise ValueError(f"images must be more than {len(folds)} for protocol {protocol.name!r}, got {n}")
    folds += [_REST] * (n - len(folds))
    generator.shuffle(folds)
    return np.array(folds, _FOLD_DTYPE)


def _folds_per_class(images: ImageSet, sizes: dict[str, int], generator: random.Random) -> Folds:
    """Draw the same number of images from each class for each fold, in the order of `sizes`."""
    n_classes = len(images.class_names)
    for name, size in sizes.items():
        if size % n_classes:
            raise ValueError(f"n_{name} must be a multiple of the {n_classes} classes, got {size}")
    shuffled = list(range(len(images)))
    generator.shuffle(shuffled)
    order = np.array(shuffled, np.int64)
    folds = np.full(len(images), _REST, _FOLD_DTYPE)
    needed = sum(sizes.values()) // n_classes
    for label, name in enumerate(images.class_names):
        members = images.labels[:, label] == 1 if images.multi_label else images.labels == label
        free = order[(members & (folds == _REST))[order]]
        if len(free) < needed:
            raise ValueError(
                f"images must hold {needed} of class {name!r} that no class before it took, found {len(free)}"
            )
        start = 0
        for fold, size in sizes.items():
            folds[free[start : start + size // n_classes]] = fold
            start += size // n_classes
    return folds


def _check_classes(protocol: Protocol, images: ImageSet) -> None:
    if len(images.class_names) != protocol.n_classes:
        raise ValueError(
            f"images must be of {protocol.n_classes} classes for protocol {protocol.name!r}, "
            f"got {len(images.class_names)} class_names"
        )
    if images.multi_label != protocol.multi_label:
        kind = "(n, C)" if protocol.multi_label else "(n,)"
        raise ValueError(
            f"images must have labels of shape {kind} for protocol {protocol.name!r}, got {images.labels.shape}"
        )
