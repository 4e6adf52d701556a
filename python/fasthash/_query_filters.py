"""One filter for each query: the queries that share a filter are searched together.

Called by `Index` for an `allow=` that is a list of filters. Each group of queries is one ordinary search.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from fasthash._shown import short
from fasthash.filters import IdFilter
from fasthash.results import RangeResult

__all__ = ["are_query_filters", "search_by_filter"]


def are_query_filters(allow: Any) -> TypeGuard[Sequence[Any]]:
    """Whether `allow` is a list with a filter for each query, not a list of ids.

    Raises:
        ValueError: `allow` is a list of both.
    """
    if not isinstance(allow, (list, tuple)) or not allow:
        return False
    if all(map(_is_filter, allow)):
        return True
    mixed = next((i for i, each in enumerate(allow) if each is not None and _is_filter(each)), None)
    if mixed is not None:
        raise ValueError(
            f"allow must be ids, or a list with a filter for each query, got both: {short(allow)}, where "
            f"allow[{mixed}] is a filter"
        )
    return False


def _is_filter(each: Any) -> bool:
    return each is None or isinstance(each, (IdFilter, Set, range, list, tuple)) or getattr(each, "ndim", 0) > 0


def search_by_filter(
    allow: Sequence[Any], queries: NDArray[np.uint8], search: Callable[[NDArray[np.uint8], Any], Any]
) -> Any:
    """Search with a filter for each query; `search(queries, allow)` is a search with one filter.

    Returns:
        The result of `search` for all queries in their order.

    Raises:
        TypeError, ValueError: as of `search`, or `allow` is not as long as the queries.
    """
    if len(allow) != len(queries):
        raise ValueError(f"allow must have one filter for each of the {len(queries)} queries, got {len(allow)}")
    groups: dict[int, list[int]] = {}  # places in `allow` of each object
    for place, filter in enumerate(allow):
        groups.setdefault(id(filter), []).append(place)
    parts = []
    for places in groups.values():
        try:
            parts.append(search(queries[places], allow[places[0]]))
        except (TypeError, ValueError) as error:
            text = str(error)
            raise type(error)(f"allow[{places[0]}]{text[5:]}" if text.startswith("allow ") else text) from None
    return _in_order(parts, np.concatenate([np.array(places) for places in groups.values()]))


def _in_order(parts: list[Any], order: NDArray[np.int64]) -> Any:
    """Put the results of groups of queries together; `order`: the place of each query, group by group."""
    first = parts[0]
    if isinstance(first, RangeResult):
        return _range_in_order(parts, order)
    if isinstance(first, tuple):  # a result, or one with its work: each field by itself
        fields = [_in_order(list(values), order) for values in zip(*parts, strict=True)]
        return type(first)(*fields) if hasattr(first, "_fields") else tuple(fields)
    values = np.concatenate(parts)
    placed = np.empty_like(values)
    placed[order] = values
    return placed


def _range_in_order(parts: list[RangeResult], order: NDArray[np.int64]) -> RangeResult:
    def of_all() -> Iterator[tuple[NDArray[Any], NDArray[np.int64]]]:
        for part in parts:
            yield from part.per_query()

    found = dict(zip(order.tolist(), of_all(), strict=True))
    rows = [found[query] for query in range(len(order))]
    offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([len(ids) for _, ids in rows], out=offsets[1:])
    distances, ids = (np.concatenate([row[i] for row in rows]) for i in (0, 1))
    return RangeResult(offsets, distances, ids)
