"""`FlatIndex`: the index that scans all codes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

from numpy.typing import ArrayLike

from fasthash import _core
from fasthash._checks import check_choice, check_codes_of_any_width, check_width
from fasthash._index_base import Index
from fasthash._index_options import METRICS, Allow, Metric
from fasthash._shown import counted
from fasthash.results import SearchResult, SearchStats

if TYPE_CHECKING:
    from typing_extensions import Self

    from fasthash.gpu import GpuFlatIndex

__all__ = ["FlatIndex"]


class FlatIndex(Index):
    """Exact nearest-neighbour index that scans all codes; tests compare the other indices with it.

    Args:
        n_bits: width of the codes in bits, from 1 to 4096. A width that is no multiple of 8 is padded to whole bytes
            with zeros, as by `fasthash.pack_bits`: the low bits of the last byte.
        metric: `"hamming"`: distances are the number of bits that differ, int32. `"jaccard"`: codes are sets of bits,
            and distances are the share of the bits set in either that the two do not share, float32 from 0 to 1: 1
            minus the Tanimoto similarity of cheminformatics. Two empty codes are at distance 0. Distances are compared
            as fractions, and rounded only in the result. Codes whose numbers of bits set rule them out are skipped
            (docs/jaccard.md).

    Raises:
        TypeError: `n_bits` is not an integer.
        ValueError: `n_bits` is out of range, or `metric` is unknown.

    Examples:
        >>> index = FlatIndex(n_bits=16)
        >>> index.add(np.array([[0, 0], [255, 255], [1, 0]], dtype=np.uint8))
        >>> index.search(np.array([[0, 0]], dtype=np.uint8), k=2)
        SearchResult(distances=array([[0, 1]], dtype=int32), ids=array([[0, 2]]))
    """

    _kind = _core.FlatIndex

    def __init__(self, n_bits: int, *, metric: Metric = "hamming") -> None:
        width = check_width("n_bits", n_bits)
        check_choice("metric", metric, METRICS)
        self._impl = _core.FlatIndex(width, METRICS[metric])

    @classmethod
    def from_arrays(
        cls, codes: ArrayLike, ids: ArrayLike | None = None, *, n_bits: int | None = None, metric: Metric = "hamming"
    ) -> Self:
        """Create an index of these codes.

        Args:
            codes: uint8 array `(n, n_bytes)`.
            ids: as in `add`.
            n_bits: width of the codes in bits; None takes 8 for each byte.
            metric: as in the class.

        Raises:
            TypeError, ValueError: as in the class and in `add`.
        """
        array = check_codes_of_any_width("codes", codes, known=n_bits is not None)
        index = cls(array.shape[1] * 8 if n_bits is None else n_bits, metric=metric)
        index.add(array, ids)
        return index

    def __repr__(self) -> str:
        return f"FlatIndex(n_bits={self.n_bits}{self._shown_metric()}) with {counted(len(self), 'code')}"

    def to(self, device: Any, *, max_bytes: int | None = None) -> FlatIndex | GpuFlatIndex:
        """Create an index with the same codes on a GPU; its searches return the same results, byte for byte.

        Args:
            device: `"cuda"`, `"cuda:1"` and so on, or a `torch.device`; a list of them gives each GPU a share of the
                codes. `"cpu"` returns this index.
            max_bytes: bytes of memory of each GPU for codes and ids; the default is the free memory less a reserve. If
                the codes need more, they stay in pinned memory of the host, and searches stream them.

        Returns:
            A `fasthash.gpu.GpuFlatIndex`, or this index.

        Raises:
            TypeError: `max_bytes` is not an integer.
            ValueError: `device` is not one of these, or `max_bytes` is negative.
            RuntimeError: fasthash was built without CUDA, or the GPU cannot be used; the message says why.
            MemoryError: the GPU has too little memory.
        """
        from fasthash.gpu import GpuFlatIndex, check_devices

        devices = check_devices(device, max_bytes)
        if devices is None:
            return self
        return GpuFlatIndex(self, devices, max_bytes)

    @overload
    def search(
        self, queries: ArrayLike, k: int = ..., *, allow: Allow = ..., stats: Literal[False] = ...
    ) -> SearchResult: ...
    @overload
    def search(
        self, queries: ArrayLike, k: int = ..., *, allow: Allow = ..., stats: Literal[True]
    ) -> tuple[SearchResult, SearchStats]: ...
    def search(
        self, queries: ArrayLike, k: int = 10, *, allow: Allow = None, stats: bool = False
    ) -> SearchResult | tuple[SearchResult, SearchStats]:
        """Find the k nearest codes of each query, exactly, ordered by (distance, id).

        The first columns of a result do not depend on k, so pages are slices: the second page of ten is
        `search(queries, k=20).ids[:, 10:]`.

        Args:
            queries: uint8 array `(nq, n_bits / 8)`, or one code `(n_bits / 8,)` as a batch of one.
            k: number of neighbours, from 1 to 2^31 - 1; may exceed the number of codes.
            allow: ids that the search may return: an integer array, list, set or range of ids; or a bool mask, where
                `mask[i]` allows id i, with a value for every id so far; or an `IdFilter`, for a set that is used again.
                None allows all. A list of these has one for each query.
            stats: also return the work done.

        Returns:
            `SearchResult`, or with `stats=True` the pair (`SearchResult`, `SearchStats`).

        Raises:
            TypeError: wrong dtype of `queries` or `allow`, or `k` is not an integer.
            ValueError: wrong shape, or `k` out of range.
            MemoryError: the results would take more memory than there is.
        """
        return self._search(queries, k, None, "node_ratio", allow, stats)
