"""`Split`: the sets of a retrieval experiment; saved and loaded as one file."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TypeGuard

import numpy as np

from fasthash._shown import counted
from fasthash.data import split_file
from fasthash.data.images import ImageSet, Transform
from fasthash.data.protocols import Protocol

__all__ = ["Split"]


@dataclass(frozen=True)
class Split:
    """Sets of a retrieval experiment.

    Attributes:
        train: training images of the encoder.
        gallery: images to search among.
        query: queries. Queries that this library draws are never in `train` or `gallery`; check published lists with
            `audit`.
        protocol: how the split was made, in one sentence.
        skipped: image files that could not be read and are in no set.
        validation: images for choosing settings, if the protocol has any.
        rules: the protocol of the split, if it has a name.
        seed: random seed of the split, if it was drawn.
    """

    train: ImageSet
    gallery: ImageSet
    query: ImageSet
    protocol: str
    skipped: tuple[str, ...] = ()
    validation: ImageSet | None = None
    rules: Protocol | None = None
    seed: int | None = None

    @property
    def parts(self) -> dict[str, ImageSet]:
        """The sets by name: "train", "gallery", "query", and "validation" if there is one."""
        parts = {"train": self.train, "gallery": self.gallery, "query": self.query}
        return parts if self.validation is None else {**parts, "validation": self.validation}

    @property
    def sha256(self) -> str:
        """SHA-256 of everything that `save` writes: names and labels of the images in each set, in order, the
        description of the split, and the classes. Two splits with equal hashes are the same experiment."""
        return split_file.digest(self._record())

    def without_queries(self) -> Split:
        """Remove the queries from training set and gallery, by name; return the new split.

        Use it for lists whose gallery includes the queries, where each query would be its own nearest neighbour.
        """
        queries = set(self.query.names) - {None}

        def rest(images: ImageSet) -> ImageSet:
            return images.subset(np.array([name not in queries for name in images.names], bool))

        protocol = f"{self.protocol} Queries were taken out of training set and gallery."
        return replace(self, train=rest(self.train), gallery=rest(self.gallery), protocol=protocol)

    def readable(self, progress: bool = False) -> Split:
        """The same split without the images whose files cannot be read, which join `skipped`; each is decoded once.

        Args:
            progress: show a progress bar.
        """
        files = {os.fspath(image) for part in self.parts.values() for image in part.images if _is_path(image)}
        _, broken = ImageSet(sorted(files), np.zeros(len(files), np.int64), ["any"]).readable(progress)
        if not broken:
            return self
        bad = {path for path, _ in broken}

        def rest(images: ImageSet) -> ImageSet:
            good = [not _is_path(image) or os.fspath(image) not in bad for image in images.images]
            return images.subset(np.array(good, bool))

        return replace(
            self,
            train=rest(self.train),
            gallery=rest(self.gallery),
            query=rest(self.query),
            validation=None if self.validation is None else rest(self.validation),
            protocol=f"{self.protocol} Left out: {counted(len(bad), 'image')} that cannot be read.",
            skipped=(*self.skipped, *sorted(bad)),
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the split, without the images, as one JSON file with its hash; replaces an older file atomically.

        Raises:
            OSError: the file cannot be written.
            ValueError: the sets have different classes.
        """
        split_file.write(path, self._record())

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        images: str | os.PathLike[str] | ImageSet | None = None,
        transform: Transform | None = None,
    ) -> Split:
        """Load a split that `save` wrote; the hash is checked.

        Args:
            path: file that `save` wrote.
            images: folder that the names are relative to; or an `ImageSet` with all images by name, for example from
                `read_cifar10`. None takes the names as paths.
            transform: see `ImageSet`; None takes that of `images` if it is an `ImageSet`.

        Raises:
            OSError: the file cannot be read.
            TypeError: `images` has another type.
            ValueError: the file is not a split or was changed after it was written; or `images` lacks an image or has
                other labels.
        """
        return cls(**split_file.load(path, images, transform))

    def _record(self) -> split_file.Record:
        return split_file.make_record(self.parts, self.protocol, self.skipped, self.rules, self.seed)


def _is_path(image: object) -> TypeGuard[str | os.PathLike[str]]:
    return isinstance(image, (str, os.PathLike))
