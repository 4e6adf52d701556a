"""Conversion to and from binary indices of faiss, with codes and ids unchanged."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from fasthash._checks import check_choice, check_codes, check_int, check_path, check_whole_bytes, code_bytes
from fasthash._core import FormatError
from fasthash._extras import needs_extra
from fasthash.index import FlatIndex, HierIndex, StrPath

if TYPE_CHECKING:
    import faiss

__all__ = ["from_faiss", "to_faiss"]

_Index = TypeVar("_Index", FlatIndex, HierIndex)
_KINDS = ("flat", "idmap", "idmap2", "ivf")


@overload
def from_faiss(source: faiss.IndexBinary | StrPath) -> HierIndex: ...
@overload
def from_faiss(source: faiss.IndexBinary | StrPath, into: _Index) -> _Index: ...
def from_faiss(source: faiss.IndexBinary | StrPath, into: FlatIndex | HierIndex | None = None) -> FlatIndex | HierIndex:
    """Copy all codes of a binary index of faiss, with the ids that its searches return.

    Needs the extra `fasthash-search[faiss]`.

    Args:
        source: a faiss `IndexBinaryFlat`, `IndexBinaryIVF`, `IndexBinaryHNSW` or `IndexBinaryMultiHash`, or an
            `IndexBinaryIDMap` or `IndexBinaryIDMap2` over one of them; or a file that `faiss.write_index_binary` wrote.
            faiss reads the file and is not safe against hostile files: open only files that you trust.
        into: index of the same width that gets the codes; it may hold other codes. None makes a `HierIndex` of one
            level, with the metric `"jaccard"` if `source.metric_type` is `METRIC_Jaccard`. (faiss itself searches such
            an index by Hamming distance.) faiss has only multiples of 8 bits: for codes that are padded with zeros,
            give an index of their width, such as `HierIndex(42)` for 42 bits in 48.

    Returns:
        `into`, or the new index.

    Raises:
        TypeError: `source` is not a binary index, or is of a type whose codes cannot be read.
        ValueError: the width is above 4096 bits or differs from `into`; an id is repeated, is -1 or is in `into`; or
            the ids of an `IndexBinaryIDMap` do not match the index below it. `into` is unchanged.
        FormatError: the file is not a binary index of faiss, or is damaged.
        OSError: the file cannot be read.

    Examples:
        >>> theirs = faiss.IndexBinaryFlat(16)
        >>> theirs.add(np.array([[0, 0], [255, 255]], dtype=np.uint8))
        >>> from_faiss(theirs)
        HierIndex(level_bits=(16,), memory='default') with 2 codes
    """
    with needs_extra("faiss"):
        import faiss
    is_path = isinstance(source, (str, os.PathLike)) or (isinstance(source, bytes) and b"\0" not in source)
    if isinstance(source, (str, os.PathLike)):
        check_path("source", source)
    binary = _read(source) if is_path else source
    if not isinstance(binary, faiss.IndexBinary):
        in_memory = isinstance(source, (bytes, bytearray, memoryview, np.ndarray))
        hint = "; faiss.deserialize_index_binary(np.frombuffer(source, np.uint8)) makes it one" if in_memory else ""
        if isinstance(source, faiss.Index):
            hint = "; fasthash.RescoringIndex searches float vectors"
        raise TypeError(f"source must be a binary index of faiss or the path of one, got {type(source).__name__}{hint}")
    n_bits = check_whole_bytes("source.d", binary.d)
    is_jaccard = binary.metric_type == faiss.METRIC_Jaccard
    index = HierIndex(n_bits, metric="jaccard" if is_jaccard else "hamming") if into is None else into
    if not isinstance(index, (FlatIndex, HierIndex)):
        raise TypeError(f"into must be a FlatIndex, a HierIndex or None, got {type(into).__name__}")
    if code_bytes(index.n_bits) * 8 != n_bits:
        raise ValueError(f"into must have the {n_bits} bits of source, got an index of {index.n_bits}")
    codes, ids = _items(binary)
    codes = check_codes("source", codes, index.n_bits)
    try:
        index.add(codes, ids)
    except ValueError as error:
        raise ValueError(f"source holds ids that cannot be taken over: {error}") from error
    return index


def to_faiss(
    index: FlatIndex | HierIndex, kind: Literal["flat", "idmap", "idmap2", "ivf"] = "idmap2", nlist: int | None = None
) -> faiss.IndexBinary:
    """Create a binary index of faiss with the same codes and ids; `faiss.write_index_binary` saves it.

    Needs the extra `fasthash-search[faiss]`. faiss has only multiples of 8 bits: other codes keep their padding, which
    changes no distance, and `from_faiss(..., into=)` takes them back.

    Args:
        index: the index to copy; it does not change.
        kind: `"flat"`: `IndexBinaryFlat`, which stores no ids, so that the ids must be 0 .. n-1. `"idmap"` and
            `"idmap2"`: a flat index in an `IndexBinaryIDMap`, or in an `IndexBinaryIDMap2`, which can reconstruct.
            `"ivf"`: `IndexBinaryIVF` trained on the codes; it is exact with nprobe = nlist, the initial value.
        nlist: number of lists for `"ivf"`, from 1 to n; None takes the square root of n.

    Raises:
        TypeError: `index` is not a `FlatIndex` or `HierIndex`, or `nlist` is not an integer.
        ValueError: `kind` is unknown; the metric of the index is not `"hamming"`, the only one of faiss's binary
            indices; the ids are not 0 .. n-1 for `"flat"`; the index is empty for `"ivf"`; `nlist` is
            out of range or given for another kind.

    Examples:
        >>> ours = FlatIndex.from_arrays(np.array([[0, 0], [255, 255]], dtype=np.uint8), ids=[7, -9])
        >>> to_faiss(ours).reconstruct(-9)
        array([255, 255], dtype=uint8)
    """
    with needs_extra("faiss"):
        import faiss
    if not isinstance(index, (FlatIndex, HierIndex)):
        raise TypeError(f"index must be a FlatIndex or HierIndex, got {type(index).__name__}")
    check_choice("kind", kind, _KINDS)
    index._needs_hamming("an index of faiss")
    if nlist is not None and kind != "ivf":
        raise ValueError(f"nlist must be None for kind={kind!r}, which has no lists, got {nlist!r}")
    codes, ids = index.to_arrays()
    if kind == "ivf":
        return _ivf(codes, ids, nlist)
    flat = faiss.IndexBinaryFlat(code_bytes(index.n_bits) * 8)
    if kind == "flat":
        if not np.array_equal(ids, np.arange(len(ids))):
            raise ValueError("index must have the ids 0 .. n-1 for kind='flat', which keeps no ids; take 'idmap2'")
        flat.add(codes)
        return flat
    mapped = faiss.IndexBinaryIDMap(flat) if kind == "idmap" else faiss.IndexBinaryIDMap2(flat)
    mapped.add_with_ids(codes, ids)
    return mapped


def _ivf(codes: NDArray[np.uint8], ids: NDArray[np.int64], nlist: int | None) -> faiss.IndexBinaryIVF:
    import faiss

    n, n_bytes = codes.shape
    if n == 0:
        raise ValueError("index must hold a code to train kind='ivf' with, got an empty one")
    nlist = check_int("nlist", math.isqrt(n) if nlist is None else nlist, minimum=1, maximum=n)
    lists = faiss.IndexBinaryIVF(faiss.IndexBinaryFlat(n_bytes * 8), n_bytes * 8, nlist)
    lists.cp.min_points_per_centroid = 1  # no warning about short lists: the caller chose nlist
    lists.train(codes)
    lists.nprobe = nlist
    lists.add_with_ids(codes, ids)
    return lists


def _read(path: StrPath) -> faiss.IndexBinary:
    import faiss

    with open(path, "rb"):  # raises the OSError that faiss would hide in a RuntimeError
        pass
    name = os.fsdecode(path)
    try:
        if name == name.encode(errors="replace").decode():
            return faiss.read_index_binary(name)
        with open(path, "rb") as file:  # faiss takes no name that is not UTF-8
            return faiss.read_index_binary(faiss.PyCallbackIOReader(file.read))
    except RuntimeError as error:
        raise FormatError(f"{name} holds no binary index of faiss, or a damaged one: {error}") from error


def _items(index: Any) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the codes, uint8 `(n, d / 8)`, and the ids that searches return for them, int64 `(n,)`."""
    import faiss
    from faiss.contrib.inspect_tools import get_invlist

    known = faiss.downcast_IndexBinary(index)  # a wrapped index has the type of the base class
    if isinstance(known, faiss.IndexBinaryIDMap):  # and IDMap2, derived from it
        codes, rows = _items(known.index)
        ids = faiss.vector_to_array(known.id_map)
        # After removals over an IVF index, faiss maps rows to wrong ids; then the rows are not 0 .. n-1.
        if not np.array_equal(np.sort(rows), np.arange(len(ids))):
            raise ValueError(
                f"source must have an id for each code, but the {len(ids)} ids of its {type(known).__name__} do not "
                f"fit the {len(rows)} codes below; faiss leaves it so when codes are removed over an IndexBinaryIVF"
            )
        return codes, ids[rows]
    if isinstance(known, faiss.IndexBinaryIVF):
        empty = np.empty(0, np.int64), np.empty((0, known.code_size), np.uint8)
        lists = [empty, *(get_invlist(known.invlists, i) for i in range(known.nlist))]
        return np.concatenate([codes for _, codes in lists]), np.concatenate([ids for ids, _ in lists])
    if isinstance(known, (faiss.IndexBinaryHNSW, faiss.IndexBinaryMultiHash)):
        return _items(known.storage)
    if isinstance(known, faiss.IndexBinaryFlat):
        codes = faiss.vector_to_array(known.xb).reshape(-1, known.code_size)
        return codes, np.arange(len(codes))
    kind = type(index if type(known) is faiss.IndexBinary else known)  # downcast does not know every type
    raise TypeError(
        "source must be an IndexBinaryFlat, IndexBinaryIVF, IndexBinaryHNSW, IndexBinaryMultiHash, "
        f"or an IndexBinaryIDMap or IDMap2 over one of them, got {kind.__name__}"
    )
