"""Groups of near-duplicates among codes, whatever made them: perceptual hashes such as pHash and PDQ, or a network."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fasthash._checks import as_array, check_codes_of_any_width, check_int
from fasthash.codes import pack_bits
from fasthash.index import FlatIndex, HierIndex

__all__ = ["near_duplicates", "perceptual_codes"]

_BATCH = 1 << 10  # codes whose neighbours are listed at once, at most
_PAIRS = 1 << 20  # neighbours that are listed at once, about
_DENSE = 1 << 8  # neighbours that make the group of a code worth following alone


def perceptual_codes(hashes: Any) -> NDArray[np.uint8]:
    """Codes of perceptual hashes as other packages give them.

    Args:
        hashes: sequence of hashes of one kind and width: `imagehash.ImageHash` objects; hex digits, as of PDQ or of
            `str(ImageHash)`; bytes; or arrays of bool. What comes first in a hash comes first in its code.

    Returns:
        uint8 array `(n, n_bits / 8)`. The hash of an `ImageHash` of 8 x 8 has 64 bits, that of PDQ 256.

    Raises:
        TypeError: a hash is none of these, or there are several kinds.
        ValueError: no hashes at all, several widths, a width that is no multiple of 8, or digits that are not hex.

    Examples:
        >>> perceptual_codes(["8f01", "8F03"])
        array([[143,   1],
               [143,   3]], dtype=uint8)
    """
    if isinstance(hashes, (str, bytes)) or hasattr(hashes, "hash"):
        raise TypeError(f"hashes must be a sequence of hashes, got a single {type(hashes).__name__}; use [hash]")
    hashes = list(hashes)
    if not hashes:
        raise ValueError("hashes must hold at least one hash, which tells their width")
    rows = [_bits_or_bytes(i, item) for i, item in enumerate(hashes)]
    if len({row.dtype for row in rows}) > 1:
        kinds = sorted({type(item).__name__ for item in hashes})
        raise TypeError(f"hashes must be of one kind, got {', '.join(kinds)}")
    odd = next((i for i, row in enumerate(rows) if len(row) != len(rows[0])), None)
    if odd is not None:
        scale = 1 if rows[0].dtype == bool else 8
        raise ValueError(
            f"hashes must have one width, got {len(rows[0]) * scale} bits in hash 0 and {len(rows[odd]) * scale} "
            f"in hash {odd}"
        )
    bits = np.stack(rows)
    if bits.dtype == bool and bits.shape[1] % 8:
        raise ValueError(f"hashes must have a width that is a multiple of 8, got {bits.shape[1]} bits")
    return check_codes_of_any_width("hashes", pack_bits(bits) if bits.dtype == bool else bits)


def near_duplicates(
    codes: ArrayLike | FlatIndex | HierIndex, radius: int, ids: ArrayLike | None = None
) -> list[NDArray[np.int64]]:
    """Group codes that are near one another: every two within the radius come into one group.

    Nearness chains: a group may hold codes that are farther apart than the radius, if others lie between them. So the
    radius decides more than it does for a pair, and with one that is too large everything becomes one group.

    Equal codes cost no more than one. A dense cluster, such as the hashes of near-blank pictures, costs little more
    than its distinct codes. A code that has no other near it is in no group.

    Args:
        codes: uint8 array `(n, n_bits / 8)`, see `perceptual_codes`; or an index of them, which may be one that grows.
        radius: largest distance in bits between two near-duplicates, from 0, which groups equal codes. For PDQ 31 of
            256 bits is customary; for pHash 4 of 64, 16 of 256.
        ids: int64 array `(n,)`, distinct; None for the rows of `codes`. An index has its own.

    Returns:
        A list of int64 arrays: the ids of each group, at least two, in ascending order. The groups are ordered by their
        first ids, and do not depend on the order of the codes.

    Raises:
        TypeError: wrong dtype of `codes` or `ids`, or `radius` is not an integer.
        ValueError: wrong shape, ids that are not distinct or given beside an index, or `radius` is negative.

    Examples:
        >>> near_duplicates(perceptual_codes(["00ff", "ff00", "00fe", "01fe"]), radius=1)
        [array([0, 2, 3])]
    """
    radius = check_int("radius", radius, minimum=0)
    if isinstance(codes, (FlatIndex, HierIndex)):
        if ids is not None:
            raise ValueError("ids must be None for an index, which has its own")
        index = codes
    else:
        index = HierIndex.from_arrays(codes, ids)
    array, names = index.to_arrays()
    distinct, row_of = np.unique(array, axis=0, return_inverse=True)
    labels = _labels(distinct, radius)[row_of.reshape(-1)]  # numpy 2.0 gave the inverse a second axis
    _, first, label_of = np.unique(labels, return_index=True, return_inverse=True)
    labels = first[label_of]  # groups in the order of their first ids
    order = np.argsort(labels, kind="stable")
    groups = np.split(names[order], np.flatnonzero(np.diff(labels[order])) + 1)
    return [group for group in groups if len(group) > 1]


def _labels(codes: NDArray[np.uint8], radius: int) -> NDArray[np.int64]:
    """The group of each of some distinct codes, named by its smallest row.

    Codes are taken in batches, in random order: so one batch shows how many neighbours the next will have. Where they
    have few, all are listed and joined. A code with many is in a dense cluster, in which pairs outnumber codes by far.
    Then its group is followed to its end and taken out of the search, which lists each of its codes about once.
    """
    labels = np.arange(len(codes))
    index = HierIndex.from_arrays(codes)
    order, place, n_batch = np.random.default_rng(0).permutation(len(codes)), 0, 1
    done = np.zeros(len(codes), dtype=bool)
    while place < len(order):
        batch = order[place : place + n_batch]
        place += n_batch
        batch = batch[~done[batch]]
        if len(batch) == 0:
            continue
        found = index.range_search(codes[batch], radius)
        n_found = np.diff(found.offsets)
        labels = _joined(labels, np.repeat(batch, n_found), found.ids)
        if n_found.max() > _DENSE:
            group = _followed(index, codes, radius, batch[n_found.argmax()])
            labels[group], done[group] = group.min(), True
        n_batch = _next_batch(n_found)
    return labels


def _followed(index: HierIndex, codes: NDArray[np.uint8], radius: int, start: np.int64) -> NDArray[np.int64]:
    """The rows of all codes that chain to one, which are removed from the index."""
    group, n_done, n_batch = np.array([start]), 0, 1
    index.remove(group)
    while n_done < len(group):
        batch = group[n_done : n_done + n_batch]
        found = index.range_search(codes[batch], radius)
        new = np.unique(found.ids)
        index.remove(new)
        group, n_done = np.concatenate([group, new]), n_done + len(batch)
        n_batch = _next_batch(np.diff(found.offsets))
    return group


def _next_batch(n_found: NDArray[np.int64]) -> int:
    """Codes to search next, after some that had so many neighbours: at most twice as many."""
    return int(max(1, min(_BATCH, 2 * len(n_found), _PAIRS // max(1, n_found.mean()))))


def _joined(labels: NDArray[np.int64], a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.int64]:
    """Labels with the groups of rows `a[i]` and `b[i]` made one; each is the smallest row of its group."""
    while True:
        low, high = np.minimum(labels[a], labels[b]), np.maximum(labels[a], labels[b])
        if (low == high).all():
            return labels
        labels = labels.copy()
        np.minimum.at(labels, high, low)
        while ((above := labels[labels]) != labels).any():
            labels = above


def _bits_or_bytes(i: int, item: Any) -> NDArray[Any]:
    """One hash as bool `(n_bits,)` or uint8 `(n_bytes,)`."""
    if isinstance(item, str):
        try:
            return np.frombuffer(bytes.fromhex(item), np.uint8)
        except ValueError:
            raise ValueError(f"hashes must be hex digits, two for each byte, got {item!r} at {i}") from None
    if isinstance(item, (bytes, bytearray, memoryview)):
        return np.frombuffer(item, np.uint8)
    array = as_array("hashes", getattr(item, "hash", item))
    if array.dtype != bool:
        raise TypeError(
            f"hashes must be ImageHash objects, hex digits, bytes or arrays of bool, got {type(item).__name__} at {i}"
        )
    return array.reshape(-1)
