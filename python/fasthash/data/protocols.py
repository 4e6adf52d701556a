"""Retrieval protocols of the hashing literature, by name."""

from __future__ import annotations

from dataclasses import dataclass

from fasthash._checks import check_bool, check_choice, check_int

__all__ = ["PROTOCOLS", "Protocol", "find_protocol"]

_DRAWS = ("per class", "random", "official", "lists")


@dataclass(frozen=True)
class Protocol:
    """Sizes and rules of a retrieval experiment.

    Attributes:
        name: as in `PROTOCOLS`.
        source: origin of the protocol.
        n_classes: number of classes of the data set.
        n_query: number of queries.
        n_train: number of training images.
        n_gallery: number of gallery images in the full data set; None if it is not published.
        draw: choice of images. "per class": the same number from each class, from all images together. "random":
            without regard to labels. "official": the queries are the official test images, and training images are
            drawn per class from the other images. "lists": published only as lists.
        n_validation: number of validation images, which are in no other set.
        map_at: R of mAP@R; None ranks the whole gallery.
        train_in_gallery: whether the gallery includes the training images; None if it is not published.
        multi_label: whether an image may have several classes.

    Raises:
        TypeError, ValueError: a number is not an integer or is too small, or `draw` is unknown.
    """

    name: str
    source: str
    n_classes: int
    n_query: int
    n_train: int
    n_gallery: int | None
    draw: str
    n_validation: int = 0
    map_at: int | None = None
    train_in_gallery: bool | None = True
    multi_label: bool = False

    def __post_init__(self) -> None:
        for name, value in (("n_classes", self.n_classes), ("n_query", self.n_query), ("n_train", self.n_train)):
            check_int(name, value, 1)
        check_int("n_validation", self.n_validation, 0)
        for name, number in (("n_gallery", self.n_gallery), ("map_at", self.map_at)):
            if number is not None:
                check_int(name, number, 1)
        check_choice("draw", self.draw, _DRAWS)
        check_bool("multi_label", self.multi_label)

    def __str__(self) -> str:
        parts = [f"{self.n_query:,} queries", f"{self.n_train:,} training images"]
        if self.n_validation:
            parts.append(f"{self.n_validation:,} validation images")
        parts.append("a gallery of the rest" if self.n_gallery is None else f"a gallery of {self.n_gallery:,}")
        inside = {True: " with the training images", False: " without the training images", None: ""}
        cut = "ALL" if self.map_at is None else self.map_at
        return f"{self.name} ({self.source}): {', '.join(parts)}{inside[self.train_in_gallery]}; mAP@{cut}"


_HHNET = "the code of HHNet, arXiv 2403.13747"
_HASHNET = "the lists of HashNet, ICCV 2017"
_DEEPHASH = "DeepHash-pytorch"

# NUS-WIDE-21 has the images with any of the 21 most frequent concepts: 195,834 in a complete copy. Many copies lack
# images with dead links, so their galleries are smaller; an audit reports it.
PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "cifar10-hhnet", _HHNET, 10, 1_000, 5_000, 53_000, "per class", 1_000, map_at=5_000, train_in_gallery=False
        ),
        Protocol("cifar10", _DEEPHASH, 10, 1_000, 5_000, 54_000, "per class", train_in_gallery=False),
        Protocol("cifar10-1", f"{_DEEPHASH}, as DPSH", 10, 1_000, 5_000, 59_000, "per class"),
        # DeepHash-pytorch draws the same numbers per class from all images; most papers use the official parts.
        Protocol("cifar10-2", _DEEPHASH, 10, 10_000, 50_000, 50_000, "official"),
        Protocol("fashionmnist", "its official parts", 10, 10_000, 60_000, 60_000, "official"),
        Protocol(
            "nuswide21-hhnet",
            _HHNET,
            21,
            2_100,
            10_500,
            None,
            "random",
            2_100,
            map_at=5_000,
            train_in_gallery=False,
            multi_label=True,
        ),
        Protocol("nuswide21", _DEEPHASH, 21, 2_100, 10_500, 193_734, "per class", map_at=5_000, multi_label=True),
        Protocol(
            "nuswide21-hyp2",
            "the lists of HyP2",
            21,
            2_100,
            10_500,
            None,
            "lists",
            map_at=5_000,
            train_in_gallery=None,
            multi_label=True,
        ),
        Protocol(
            "nuswide21-csq",
            "the lists of CSQ",
            21,
            2_040,
            10_455,
            None,
            "lists",
            map_at=5_000,
            train_in_gallery=None,
            multi_label=True,
        ),
        Protocol("nuswide81", f"{_HASHNET}; HDHash", 81, 5_000, 10_000, None, "random", map_at=5_000, multi_label=True),
        # HHNet's code has 90 label columns, one for each id up to the last; ten of them are empty.
        Protocol(
            "coco-hhnet",
            _HHNET,
            80,
            5_000,
            10_000,
            None,
            "random",
            5_000,
            map_at=5_000,
            train_in_gallery=False,
            multi_label=True,
        ),
        # Sizes as in the text of the paper. The gallery of the released list has 112,218 images, with all queries and
        # without training images.
        Protocol("coco", "HashNet, ICCV 2017", 80, 5_000, 10_000, 117_218, "random", map_at=5_000, multi_label=True),
        # The lists have 130 training images per class, as the authors confirm; the text of the paper says 100.
        Protocol("imagenet100", _HASHNET, 100, 5_000, 13_000, 128_503, "official", map_at=1_000),
        # Every second query of HashNet's list is a validation image.
        Protocol("imagenet100-hhnet", _HHNET, 100, 2_500, 13_000, 128_503, "official", 2_500, map_at=1_000),
        Protocol("mirflickr", _DEEPHASH, 38, 1_000, 4_000, 20_000, "random", train_in_gallery=False, multi_label=True),
    )
}


def find_protocol(protocol: str | Protocol) -> Protocol:
    """Return the protocol with this name; a `Protocol` is returned unchanged.

    Raises:
        ValueError: the name is unknown.
    """
    if isinstance(protocol, Protocol):
        return protocol
    check_choice("protocol", protocol, PROTOCOLS)
    return PROTOCOLS[protocol]
