"""Requests to a server as searches of its store, and their results as JSON."""

from __future__ import annotations

import base64
import binascii
import uuid
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasthash._checks import check_codes, whole_radius
from fasthash._shown import as_numbers, short
from fasthash.serving.limits import Limits, RefusedError
from fasthash.store import Store

__all__ = ["codes_of", "codes_of_keys", "keys_of", "results", "some_keys"]

_FORMS = ("hex", "base64")


def codes_of(texts: Sequence[str], form: str, n_bytes: int, most: int) -> NDArray[np.uint8]:
    """Codes as text.

    Raises:
        RefusedError: too many, or one is not a code of this form and width.
    """
    _check_number(len(texts), most)
    if form not in _FORMS:
        raise RefusedError(422, f"form must be one of {', '.join(_FORMS)}, got {form!r}")
    rows = []
    for text in texts:
        try:
            code = bytes.fromhex(text) if form == "hex" else base64.b64decode(text, validate=True)
        except (ValueError, binascii.Error):
            raise RefusedError(422, f"codes must be {form} digits, got {text[:60]!r}") from None
        if len(code) != n_bytes:
            raise RefusedError(422, f"codes must have {n_bytes} bytes, got {len(code)} in {text[:60]!r}")
        rows.append(code)
    return np.frombuffer(b"".join(rows), np.uint8).reshape(-1, n_bytes)


def codes_of_keys(store: Store, keys: Sequence[Any], limits: Limits) -> NDArray[np.uint8]:
    """The codes of some keys, which JSON writes as text or numbers.

    Raises:
        RefusedError: too many, or the store does not hold one.
    """
    _check_number(len(keys), limits.queries)
    try:
        if store.info()["keys"] == "none":
            return store.reconstruct(
                np.array([_parsed(int, key, "ids in a store without keys") for key in keys], np.int64)
            )
        return store.reconstruct(store.ids(keys_of(store, keys)))
    except (TypeError, ValueError, OverflowError) as error:
        raise RefusedError(404 if "does not hold" in str(error) else 422, str(error)) from None


def keys_of(store: Store, keys: Sequence[Any] | None) -> Any:
    """Keys as the store has them, from what JSON writes as text or numbers.

    Raises:
        ValueError, OverflowError: one is not of the kind of the store.
    """
    kind = store.info()["keys"]
    if keys is None or kind not in ("uuid", "bytes", "int64", "uint64"):
        return keys
    if kind == "uuid":
        return [_parsed(uuid.UUID, key, "UUIDs") for key in keys]
    if kind == "bytes":
        return [_parsed(bytes.fromhex, key, "bytes in hexadecimal digits") for key in keys]
    return np.array([_parsed(int, key, "integers") for key in keys], np.uint64 if kind == "uint64" else np.int64)


def _parsed(parse: Callable[[Any], Any], key: Any, expected: str) -> Any:
    try:
        return parse(key)
    except (TypeError, ValueError, AttributeError):
        raise ValueError(f"keys must be {expected}, got {short(key)}") from None


def _check_number(n: int, most: int) -> None:
    if not 1 <= n <= most:
        raise RefusedError(422, f"queries must be 1 to {most:,}, got {n:,}")


def results(
    store: Store, queries: NDArray[np.uint8], k: int, radius: float | None, allow: Sequence[int] | None, limits: Limits
) -> list[list[dict[str, Any]]]:
    """Neighbours of each query, each with id, distance, and key if there are keys.

    Raises:
        RefusedError: an argument is wrong, or more is wanted than the limits allow.
    """
    if not 1 <= k <= limits.k:
        raise RefusedError(422, f"k must be 1 to {limits.k:,}, got {k:,}")
    try:
        allowed = None if allow is None else np.array(allow, np.int64)
    except OverflowError:
        raise RefusedError(422, "allow must hold ids of 64 bits") from None
    try:
        queries = check_codes("queries", queries, store.n_bits)
    except ValueError as error:
        raise RefusedError(422, str(error)) from None
    found: Any
    if radius is None:
        found = store.search(queries, k, allow=allowed)
        places: list[Any] = [(row, ids != -1) for row, ids in enumerate(found.ids)]
    else:
        try:
            within = whole_radius(radius, store.metric)
            n = int(store.count_within(queries, within, allow=allowed).sum())
        except ValueError as error:
            raise RefusedError(422, str(error)) from None
        if n > limits.results:
            raise RefusedError(422, f"radius {within} gives {n:,} results, at most {limits.results:,} are allowed")
        found = store.range_search(queries, within, allow=allowed)
        places = [slice(begin, end) for begin, end in pairwise(found.offsets.tolist())]
    columns = {"id": found.ids, "distance": found.distances} | ({"key": found.keys} if found.has_keys else {})
    answers = []
    for place in places:
        rows = zip(*(as_numbers(values[place]) for values in columns.values()), strict=True)
        answers.append([{name: _as_json(value) for name, value in zip(columns, row, strict=True)} for row in rows])
    return answers


def some_keys(store: Store, first: int, n: int) -> list[Any]:
    """Keys of entries of the largest segment, or ids if there are no keys: for a page to begin with."""
    view = store._view
    if not view.segments:
        return []
    ids = view.segments[0].core.entry_ids(np.arange(first, first + n))
    ids = ids[ids != -1]
    return [_as_json(key) for key in (ids if view.kind is None else view.keys_of(ids)).tolist()]


def _as_json(key: Any) -> Any:
    """A key as JSON tells it. Lone surrogates, which no UTF-8 text may hold, become escapes."""
    if isinstance(key, bytes):
        return key.hex()
    if isinstance(key, uuid.UUID):
        return str(key)
    return key.encode("utf-8", "backslashreplace").decode() if isinstance(key, str) else key
