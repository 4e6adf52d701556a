"""Data sets made up for the tests of `fasthash.data`: labels of the published sizes, without images."""

import numpy as np

from fasthash.data import ImageSet


def named(labels, prefix, n_classes=None):
    """A set of labels whose images are names alone."""
    labels = np.asarray(labels)
    n_classes = n_classes or (labels.shape[1] if labels.ndim == 2 else labels.max() + 1)
    paths = [f"{prefix}/{index:06}.jpg" for index in range(len(labels))]
    return ImageSet(paths, labels, [f"class {label}" for label in range(n_classes)])


def shuffled_classes(n_classes, per_class, prefix, seed=0):
    """So many images of each class, in some order."""
    return named(np.random.default_rng(seed).permutation(np.repeat(np.arange(n_classes), per_class)), prefix)


def several_labels(n, n_classes, prefix, share=0.3, seed=0):
    """Images with several labels each, and at least one."""
    generator = np.random.default_rng(seed)
    labels = generator.random((n, n_classes)) < share
    labels[np.arange(n), generator.integers(0, n_classes, n)] = True
    return named(labels, prefix)
