"""Output of search results: tables, JSON lines, CSV and npz files."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasthash._shown import as_numbers, for_terminal
from fasthash.results import RangeResult, SearchResult, SearchStats
from fasthash.store.results import StoreRangeResult, StoreSearchResult

__all__ = ["Result", "as_text", "csv_lines", "json_lines", "summary", "table", "write_npz"]

_LONG = 256  # characters of a key: an array of text takes 4 bytes for each, in every place

Result = SearchResult | RangeResult | StoreSearchResult | StoreRangeResult


def neighbours(result: Result) -> Iterator[dict[str, list[Any]]]:
    """Yield distances and ids of each query, without padding; of a store with keys also these."""
    columns: dict[str, Any] = {"ids": result.ids, "distances": result.distances} | keys_of(result)
    if isinstance(result, RangeResult):
        for begin, end in pairwise(result.offsets.tolist()):
            yield {name: as_numbers(values[begin:end]) for name, values in columns.items()}
    else:
        for row, valid in enumerate(result.ids != -1):
            yield {name: as_numbers(values[row][valid]) for name, values in columns.items()}


def keys_of(result: Result) -> dict[str, Any]:
    """The keys of a result under their name; empty unless a store with keys has given it."""
    if isinstance(result, (StoreSearchResult, StoreRangeResult)) and result.has_keys:
        return {"keys": result.keys}
    return {}


def json_lines(result: Result, first: int) -> Iterator[str]:
    """Yield one JSON object for each query; `first` is the number of the first query."""
    for query, columns in enumerate(neighbours(result), start=first):
        yield json.dumps({"query": query, **columns}, default=as_text)


def csv_lines(result: Result, first: int) -> Iterator[str]:
    """Yield one line for each neighbour: query, rank, distance, id, and the key if there is one."""
    for fields in _fields(result, first):
        *numbers, key = fields if len(fields) == 5 else (*fields, None)
        line = io.StringIO()
        csv.writer(line, lineterminator="").writerow(numbers if key is None else [*numbers, _printable(key)])
        yield line.getvalue()


def table(result: Result, first: int) -> Iterator[str]:
    """Yield the lines of `csv_lines` in aligned columns."""
    for query, rank, distance, id, *key in _fields(result, first):
        shown = f"{query:>5d}  {rank:>4d}  {distance:>8}  {id}"
        yield f"{shown}  {for_terminal(as_text(key[0]))}" if key else shown


def _fields(result: Result, first: int) -> Iterator[tuple[Any, ...]]:
    """Yield query, rank, distance, id, and key if there is one, of each neighbour."""
    for query, columns in enumerate(neighbours(result), start=first):
        rows = zip(columns["distances"], columns["ids"], *([columns["keys"]] if "keys" in columns else []), strict=True)
        for rank, row in enumerate(rows, start=1):
            yield (query, rank, *row)


def as_text(key: Any) -> str:
    """A key as text: bytes as hexadecimal digits."""
    return key.hex() if isinstance(key, bytes) else str(key)


def _printable(key: Any) -> str:
    """A key for a CSV file; hidden characters of a name are shown as escapes."""
    return for_terminal(as_text(key))


def write_npz(path: Path, results: list[Result]) -> None:
    """Write all results to one npz file, with the field names of the result as array names.

    Keys are the array `keys` if that keeps them: numpy drops NULs at the end of a text, and gives each text the length
    of the longest. Otherwise each distinct key is written once, see `_packed_keys`.
    """
    arrays: dict[str, Any] = {
        name: np.concatenate([getattr(result, name) for result in results]) for name in ("distances", "ids")
    }
    if isinstance(results[0], RangeResult):
        counts = np.concatenate([np.diff(result.offsets) for result in results if isinstance(result, RangeResult)])
        arrays["offsets"] = np.concatenate([[0], np.cumsum(counts)])
    if keys := [keys_of(result) for result in results if keys_of(result)]:
        flat = [None if key is None else as_text(key) for each in keys for key in each["keys"].ravel().tolist()]
        texts = [text or "" for text in flat]
        if any(len(text) > _LONG or "\0" in text for text in texts):
            arrays |= _packed_keys(flat)
        else:
            arrays["keys"] = np.array(texts, dtype=str)
        for name in ("keys", "key_index"):
            if name in arrays:
                arrays[name] = arrays[name].reshape(np.shape(arrays["ids"]))
    with open(path, "wb") as file:  # given a path, numpy would append .npz if it is missing
        np.savez(file, **arrays)


def _packed_keys(texts: list[str | None]) -> dict[str, NDArray[Any]]:
    """Arrays that hold each distinct key once, as UTF-8.

    Args:
        texts: a key for each result; None in places without a neighbour.

    Returns:
        `key_index`: for each result the number of its key, or -1. `key_bytes` and `key_offsets`: key i is
        `key_bytes[key_offsets[i]:key_offsets[i + 1]]`; a byte of a file name that is no UTF-8 is its lone surrogate.
    """
    numbers: dict[str, int] = {}
    index = [-1 if text is None else numbers.setdefault(text, len(numbers)) for text in texts]
    encoded = [text.encode("utf-8", "surrogatepass") for text in numbers]
    return {
        "key_index": np.array(index, np.int64),
        "key_bytes": np.frombuffer(b"".join(encoded), np.uint8),
        "key_offsets": np.cumsum([0, *map(len, encoded)], dtype=np.int64),
    }


def summary(works: list[SearchStats], seconds: float, n_threads: int, n_codes: int) -> str:
    """Format time, threads and work of the searches on one line.

    A plan that gives up finishes as a scan and compares some codes twice: at most `n_codes` are shown.
    """
    n = sum(len(work.plan) for work in works)
    if n == 0:
        return "no queries"
    plans = Counter(str(plan) for work in works for plan in work.plan)
    plan = ", ".join(name if count == n else f"{name} ({count:,})" for name, count in plans.most_common())
    compared = min(sum(int(work.codes_compared.sum()) for work in works) / n, n_codes)
    return (
        f"queries: {n:,}, {seconds / n * 1e6:,.1f} us each; threads: {n_threads}; plan: {plan}, "
        f"{f'{compared:,.1f}'.removesuffix('.0')} codes compared a query"
    )
