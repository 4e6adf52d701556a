"""`audit`: finds images in two sets of a split, repeated images, and sizes that differ from the protocol."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import combinations

from fasthash._checks import check_bool
from fasthash.data.images import ImageSet, content_hash
from fasthash.data.protocols import Protocol, find_protocol
from fasthash.data.split import Split

__all__ = ["Audit", "audit"]


@dataclass(frozen=True)
class Audit:
    """The result of an audit; its `str` is a report of a few lines.

    Attributes:
        compared_by: "name" or "content".
        sizes: number of images in each set, by name of the set.
        unknown: number of images in each set that cannot be compared, because only their labels are known.
        repeated: number of images in each set that repeat another image of the set.
        overlaps: for every two sets, the number of images of the first that are also in the second.
        warnings: reasons to doubt figures from this split, one sentence each.
    """

    compared_by: str
    sizes: dict[str, int]
    unknown: dict[str, int]
    repeated: dict[str, int]
    overlaps: dict[tuple[str, str], int]
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        lines = [", ".join(f"{name} {size:,}" for name, size in self.sizes.items())]
        lines += [
            f"{one} in {other}: {self._doubt(one, other)}{count:,} of {self.sizes[one]:,}"
            for (one, other), count in self.overlaps.items()
        ]
        how = {"name": "file name", "content": "content"}[self.compared_by]
        lines += [f"WARNING: {warning}" for warning in self.warnings] or [
            f"no image is in two sets that must be apart (compared by {how})"
        ]
        return "\n".join(lines)

    def _doubt(self, one: str, other: str) -> str:
        return "at least " if self.unknown[one] or self.unknown[other] else ""


def audit(split: Split, content: bool = False, protocol: str | Protocol | None = None) -> Audit:
    """Count the images that sets of a split share, and compare its sizes with its protocol.

    By default images are compared by name, without opening them.

    Args:
        split: the split to check.
        content: compare the bytes of the image files, or the pixels, instead of names. This finds copies with other
            names, and takes as long as reading all files.
        protocol: protocol to compare with; None takes that of the split, if it has one.

    Raises:
        OSError: `content` is true, and a file cannot be read.
        ValueError: the protocol is unknown.
    """
    check_bool("content", content)
    rules = split.rules if protocol is None else find_protocol(protocol)
    keys = {name: _keys(images, content) for name, images in split.parts.items()}
    known = {name: [key for key in part if key is not None] for name, part in keys.items()}
    distinct = {name: set(part) for name, part in known.items()}
    order = sorted(keys, key=("query", "validation", "train", "gallery").index)
    result = Audit(
        compared_by="content" if content else "name",
        sizes={name: len(keys[name]) for name in order},
        unknown={name: len(keys[name]) - len(known[name]) for name in order},
        repeated={name: len(known[name]) - len(distinct[name]) for name in order},
        overlaps={
            (one, other): sum(key in distinct[other] for key in known[one]) for one, other in combinations(order, 2)
        },
        warnings=(),
    )
    return replace(result, warnings=tuple(_warnings(result, rules)))


def _keys(images: ImageSet, content: bool) -> list[str | None]:
    return [content_hash(image) for image in images.images] if content else list(images.names)


def _warnings(found: Audit, rules: Protocol | None) -> Iterable[str]:
    harm = {
        ("query", "gallery"): "each finds itself at distance 0, which raises mAP; see Split.without_queries",
        ("query", "train"): "the encoder has learnt them",
        ("query", "validation"): "settings were chosen on them",
        ("validation", "gallery"): "each finds itself at distance 0",
        ("validation", "train"): "the encoder has learnt them",
    }
    for (one, other), why in harm.items():
        if count := found.overlaps.get((one, other), 0):
            yield f"{count:,} of {found.sizes[one]:,} {one} images are in {other}: {why}"
    for name, size in found.sizes.items():
        if not size:
            yield f"{name} is empty"
        if found.repeated[name]:
            yield f"{found.repeated[name]:,} of {size:,} {name} images are in {name} already"
        if found.unknown[name]:
            yield f"{found.unknown[name]:,} of {size:,} {name} images cannot be compared: only their labels are known"
    if rules is not None:
        yield from _departures(found, rules)


def _departures(found: Audit, rules: Protocol) -> Iterable[str]:
    """List the differences between a split and its protocol."""
    sizes = {"query": rules.n_query, "train": rules.n_train, "gallery": rules.n_gallery}
    for name, expected in {**sizes, "validation": rules.n_validation}.items():
        size = found.sizes.get(name, 0)
        if expected is not None and size != expected:
            yield f"{name} has {size:,} images, protocol {rules.name!r} has {expected:,}"
    inside = found.overlaps["train", "gallery"]
    if rules.train_in_gallery is False and inside:
        yield f"{inside:,} training images are in gallery, protocol {rules.name!r} has none there"
    if rules.train_in_gallery and not found.unknown["gallery"] and inside < found.sizes["train"]:
        outside = found.sizes["train"] - inside
        yield f"{outside:,} training images are not in gallery, protocol {rules.name!r} has all of them there"
