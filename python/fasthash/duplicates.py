"""Near-duplicates among codes of any origin: perceptual hashes such as pHash and PDQ, or codes of a network."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fasthash._checks import as_array, check_codes_of_any_width, check_int
from fasthash.codes import pack_bits
from fasthash.index import FlatIndex, HierIndex

__all__ = ["near_duplicates", "perceptual_codes"]

_BATCH = 1 << 10  # queries of one range search


def perceptual_codes(hashes: Any) -> NDArray[np.uint8]:
    """Convert perceptual hashes of other packages to codes.

    Args:
        hashes: sequence of hashes of one type and width: `imagehash.ImageHash` objects; strings of hex digits, as from
            PDQ or `str(ImageHash)`; bytes; or bool arrays. A code keeps the order of the bits of its hash.

    Returns:
        uint8 array `(n, n_bits / 8)`. An `ImageHash` of 8 x 8 has 64 bits, a PDQ hash 256.

    Raises:
        TypeError: a hash has another type, or the types differ.
        ValueError: `hashes` is empty, the widths differ, a width is not a multiple of 8, or digits are not hex.

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
    """Group near-duplicates: two codes within the radius are in the same group.

    Groups chain: a group may hold two codes farther apart than the radius, if other codes connect them. With a radius
    that is too large, all codes form one group. A code without a near-duplicate is in no group. Repeated codes add no
    cost: neighbours are searched once for each distinct code.

    Args:
        codes: uint8 array `(n, n_bits / 8)`, see `perceptual_codes`; or an index of codes.
        radius: largest distance in bits between two near-duplicates, at least 0; 0 groups equal codes. Usual values are
            31 of 256 bits for PDQ, and 4 of 64 or 16 of 256 bits for pHash.
        ids: int64 array `(n,)` of distinct ids; None takes the row numbers of `codes`. Must be None for an index.

    Returns:
        A list of int64 arrays: the ids of each group, at least two, in ascending order. The groups are ordered by their
        first ids. The order of the codes does not matter.

    Raises:
        TypeError: wrong dtype of `codes` or `ids`, or `radius` is not an integer.
        ValueError: wrong shape, ids that are repeated or given with an index, or `radius` is negative.

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
    array, all_ids = index.to_arrays()
    labels = np.arange(len(all_ids))
    distinct, first = np.unique(array, axis=0, return_index=True)  # search once for each distinct code
    for i in range(0, len(distinct), _BATCH):
        result = index.range_search(distinct[i : i + _BATCH], radius)
        near = np.searchsorted(all_ids, result.ids)
        labels = _joined(labels, np.repeat(first[i : i + _BATCH], np.diff(result.offsets)), near)
    order = np.argsort(labels, kind="stable")  # a label is the first row of its group, so the groups are sorted too
    groups = np.split(all_ids[order], np.flatnonzero(np.diff(labels[order])) + 1)
    return [group for group in groups if len(group) > 1]


def _joined(labels: NDArray[np.int64], a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.int64]:
    """Merge the groups of rows `a[i]` and `b[i]` for all i; the label of a group is its smallest row."""
    while True:
        low, high = np.minimum(labels[a], labels[b]), np.maximum(labels[a], labels[b])
        if (low == high).all():
            return labels
        labels = labels.copy()
        np.minimum.at(labels, high, low)
        while ((above := labels[labels]) != labels).any():
            labels = above


def _bits_or_bytes(i: int, item: Any) -> NDArray[Any]:
    """Convert one hash to bool `(n_bits,)` or uint8 `(n_bytes,)`."""
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
