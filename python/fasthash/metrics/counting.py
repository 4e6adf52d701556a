"""`histograms`: counts items by distance, from packed codes and labels, one block at a time."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fasthash._arrays import as_array
from fasthash._checks import check_codes, check_codes_of_any_width
from fasthash.metrics.from_histograms import Histograms

if TYPE_CHECKING:
    import torch

__all__ = ["histograms"]

Words = NDArray[np.uint64]

# Codes compared at a time: small enough for the second-level cache, large enough to amortise calls of numpy.
_BLOCK = 1 << 15

_BITS_OF_BYTES = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1, dtype=np.uint8)


def histograms(
    queries: ArrayLike | torch.Tensor,
    gallery: ArrayLike | torch.Tensor,
    query_labels: ArrayLike | torch.Tensor,
    gallery_labels: ArrayLike | torch.Tensor,
) -> Histograms:
    """Count the items of the gallery by Hamming distance for each query, and those that share a label with it.

    Memory does not grow with nq * n: no matrix of all distances is kept. Besides the result and a few copies of the
    gallery, numpy needs a few MB. If the codes are torch tensors, torch counts on the device of the gallery and needs a
    few hundred MB.

    Args:
        queries: packed codes, uint8 `(nq, n_bits / 8)`, nq at least 1.
        gallery: packed codes, uint8 `(n, n_bits / 8)`, n at least 1.
        query_labels: classes, integers `(nq,)`; or multi-hot labels, bool or integer zeros and ones `(nq, C)`.
        gallery_labels: the same for the gallery, `(n,)` or `(n, C)`.

    Returns:
        `Histograms` of numpy arrays; its methods compute the metrics.

    Raises:
        TypeError: codes are not uint8, labels hold neither integers nor booleans, or only one of `queries` and
            `gallery` is a tensor.
        ValueError: the shapes do not fit, multi-hot labels are not zeros and ones, or the codes are on different
            devices.

    Examples:
        >>> codes = np.array([[0], [1], [3]], dtype=np.uint8)
        >>> histograms(codes[:1], codes, [7], [7, 7, 5]).relevant
        array([[1, 1, 0, 0, 0, 0, 0, 0, 0]])
    """
    device = _common_device(queries, gallery)
    gallery_codes = check_codes_of_any_width("gallery", _on_cpu("gallery", gallery))
    query_codes = check_codes("queries", _on_cpu("queries", queries), gallery_codes.shape[1] * 8)
    for name, codes in (("queries", query_codes), ("gallery", gallery_codes)):
        if not len(codes):
            raise ValueError(f"{name} must have at least one code, got shape {codes.shape}")
    of_queries = _check_labels("query_labels", _on_cpu("query_labels", query_labels), len(query_codes))
    labels = _check_labels("gallery_labels", _on_cpu("gallery_labels", gallery_labels), len(gallery_codes))
    if of_queries.shape[1:] != labels.shape[1:]:
        raise ValueError(
            "query_labels and gallery_labels must both be classes or have as many labels, "
            f"got shapes {of_queries.shape} and {labels.shape}"
        )
    if device is not None:
        from fasthash.metrics.counting_torch import count

        return Histograms(*count(query_codes, gallery_codes, of_queries, labels, device))
    if labels.ndim == 1:
        return _count_by_class(query_codes, gallery_codes, of_queries, labels)
    return _count_by_shared_labels(query_codes, gallery_codes, of_queries, labels)


def _count_by_class(queries: NDArray[Any], gallery: NDArray[Any], query_labels: Any, labels: Any) -> Histograms:
    """Sort the gallery by class, so that the relevant items of a query are one slice; then count."""
    order = np.argsort(labels, kind="stable")
    labels = labels[order]
    first = np.searchsorted(labels, query_labels, side="left").tolist()
    last = np.searchsorted(labels, query_labels, side="right").tolist()

    def relevant(query: int, begin: int, end: int) -> slice | None:
        overlaps = first[query] < min(last[query], end) and begin < last[query]
        return slice(max(first[query] - begin, 0), last[query] - begin) if overlaps else None

    return _count(queries, gallery[order], relevant)


def _count_by_shared_labels(queries: NDArray[Any], gallery: NDArray[Any], query_labels: Any, labels: Any) -> Histograms:
    """Pack the labels of an item like a code, so that relevant items share a bit with the query; then count."""
    query_words, words = _words(np.packbits(query_labels, axis=1)), _words(np.packbits(labels, axis=1))

    def relevant(query: int, begin: int, end: int) -> NDArray[np.bool_]:
        shared = words[0, begin:end] & query_words[0, query]
        for row, word in zip(words[1:], query_words[1:, query], strict=True):
            shared |= row[begin:end] & word
        return shared != 0

    return _count(queries, gallery, relevant)


def _count(queries: NDArray[Any], gallery: NDArray[Any], relevant: Any) -> Histograms:
    """Count histograms; `relevant(query, begin, end)` selects the relevant items among items begin..end."""
    n_bins = gallery.shape[1] * 8 + 1
    counts = np.zeros((2, len(queries), n_bins), dtype=np.int64)
    query_words, words = _words(queries), _words(gallery)
    for begin in range(0, len(gallery), _BLOCK):
        end = min(begin + _BLOCK, len(gallery))
        block = words[:, begin:end]
        for query in range(len(queries)):
            distances = _distances(block, query_words[:, query], n_bins)
            counts[0, query] += np.bincount(distances, minlength=n_bins)
            selected = relevant(query, begin, end)
            if selected is not None:
                counts[1, query] += np.bincount(distances[selected], minlength=n_bins)
    return Histograms(*counts)


def _distances(words: Words, query: Words, n_bins: int) -> NDArray[Any]:
    """Compute the Hamming distances `(n,)` of a query `(W,)` to codes `(W, n)`, in the smallest dtype that fits."""
    distances = _count_bits(words[0] ^ query[0]).astype(np.min_scalar_type(n_bins - 1), copy=False)
    for row, word in zip(words[1:], query[1:], strict=True):
        distances += _count_bits(row ^ word)
    return distances


def _count_bits_by_table(words: Words) -> NDArray[np.uint8]:
    return _BITS_OF_BYTES[words.view(np.uint8)].reshape(-1, 8).sum(axis=1, dtype=np.uint8)


_count_bits = getattr(np, "bitwise_count", _count_bits_by_table)  # bitwise_count is new in numpy 2.0


def _words(codes: NDArray[np.uint8]) -> Words:
    """Convert codes to 64-bit words `(W, n)`, padded with zeros; row w holds word w of all codes."""
    padded = np.pad(codes, ((0, 0), (0, -codes.shape[1] % 8)))
    return np.ascontiguousarray(padded.view(np.uint64).T)


def _check_labels(name: str, labels: Any, n: int) -> NDArray[Any]:
    array = as_array(name, labels)
    if array.dtype.kind not in "biu":
        raise TypeError(f"{name} must hold integers or booleans, got dtype {array.dtype}")
    if array.ndim not in (1, 2) or len(array) != n or 0 in array.shape:
        raise ValueError(f"{name} must have shape ({n},) or ({n}, C), one row for each code, got {array.shape}")
    if array.ndim == 1:
        if array.max() > np.iinfo(np.int64).max:
            raise ValueError(f"{name} must fit into int64, found {array.max()}")
        return array.astype(np.int64, copy=False)
    if array.dtype.kind != "b" and (array.min() < 0 or array.max() > 1):
        wrong = array[(array < 0) | (array > 1)].flat[0]
        raise ValueError(f"{name} of several labels an item must hold only zeros and ones, found {wrong}")
    return array.astype(bool, copy=False)


def _is_tensor(value: Any) -> bool:
    torch = sys.modules.get("torch")  # a caller with a tensor has imported torch
    return torch is not None and isinstance(value, torch.Tensor)


def _on_cpu(name: str, value: Any) -> Any:
    if not _is_tensor(value):
        return value
    try:
        return value.detach().cpu().numpy()
    except (RuntimeError, TypeError) as error:  # sparse, without data, or of a type that numpy lacks
        raise TypeError(f"{name} must be a tensor that numpy can read: {error}") from error


def _common_device(queries: Any, gallery: Any) -> torch.device | None:
    """Return the device of the codes; None for numpy arrays."""
    if _is_tensor(queries) != _is_tensor(gallery):
        kinds = [type(codes).__name__ for codes in (queries, gallery)]
        raise TypeError(f"queries and gallery must both be arrays or both tensors, got {kinds[0]} and {kinds[1]}")
    if not _is_tensor(gallery):
        return None
    if queries.device != gallery.device:
        raise ValueError(f"queries must be on the gallery's device, {gallery.device}, got {queries.device}")
    device: torch.device = gallery.device
    return device
