"""Requests to a server as searches of its store, and their results as JSON."""

from __future__ import annotations

import base64
import binascii
import json
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasthash._checks import check_codes, whole_radius
from fasthash._core import FormatError
from fasthash._shown import as_numbers, short
from fasthash.serving.limits import Limits, RefusedError, check_number
from fasthash.store import Store
from fasthash.store.reading import Readable
from fasthash.store.view import View

__all__ = [
    "AS_TEXT",
    "Snapshot",
    "Wanted",
    "as_json",
    "codes_of",
    "codes_of_keys",
    "encoded",
    "ids_of",
    "keys_of",
    "refusing",
    "results",
    "some_keys",
]

AS_TEXT = "Ids and integer keys of the answer as text, for clients whose numbers are floats, as those of JavaScript."

_FORMS = ("hex", "base64")
_INTEGERS = {"int64": (-(2**63), 2**63 - 1), "uint64": (0, 2**64 - 1)}
_PIECE = 1000  # results that are encoded at one time
_ENTRIES = 4096  # that are looked at in one step for keys to show

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class Snapshot(Readable):
    """A store at one commit: a request that looks up keys and then searches does not see a newer one in between."""

    def __init__(self, store: Store) -> None:
        self._now = store._view

    @property
    def _view(self) -> View:
        return self._now


@dataclass(frozen=True)
class Wanted:
    """What a search shall return, and how its ids are written."""

    k: int
    radius: float | None
    as_text: bool
    allow: Sequence[str | int] | None = None
    allow_keys: Sequence[str | int] | None = None


@contextmanager
def refusing(argument: str = "", name: str = "") -> Iterator[None]:
    """Errors of a store as refusals: 404 for entries that it does not hold, else 422. Damaged files stay errors.

    Args:
        argument: of the store, which its messages begin with.
        name: the argument of the request, which refusals begin with instead.
    """
    try:
        yield
    except FormatError:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        text = str(error)
        # At the beginning of the message: what follows may be keys, which are anything.
        status = 404 if re.match(r"(ids|keys) must be in the store, but it does not hold ", text) else 422
        raise RefusedError(status, name + text.removeprefix(argument)) from None


# ---- arguments ----


def codes_of(texts: Sequence[str], form: str, n_bytes: int) -> NDArray[np.uint8]:
    """Codes as text.

    Raises:
        RefusedError: one is not a code of this form and width.
    """
    if form not in _FORMS:
        raise RefusedError(422, f"form must be one of {', '.join(_FORMS)}, got {short(form)}")
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


def codes_of_keys(now: Snapshot, keys: Sequence[str | int], limits: Limits) -> NDArray[np.uint8]:
    """The codes of some keys; of some ids in a store without keys.

    Raises:
        RefusedError: too many, or the store does not hold one.
    """
    check_number("queries", len(keys), limits.queries)
    if now._view.kind is None:
        ids = np.array(_integers("keys", keys, "int64", "ids in a store without keys"), np.int64)
        with refusing("ids", "keys"):
            now._view.held_places(ids)
    else:
        ids = _ids_of_keys(now, "keys", keys)
    return now.reconstruct(ids)


def _ids_of_keys(now: Snapshot, name: str, keys: Sequence[str | int]) -> NDArray[np.int64]:
    """The ids of keys that the argument `name` gives.

    Raises:
        RefusedError: the store does not hold one.
    """
    given = keys_of(now, keys, name)
    with refusing("keys", name):
        return now.ids(given)


def keys_of(store: Readable, keys: Sequence[str | int] | None, name: str = "keys") -> Any:
    """Keys as the store has them, from what JSON writes as text or numbers.

    Args:
        name: the argument that gives them, for errors.

    Raises:
        RefusedError: one is not of the kind of the store.
    """
    kind = store._view.kind_name
    if keys is None:
        return None
    if kind == "uuid":
        return [_parsed(name, uuid.UUID, key, "UUIDs") for key in keys]
    if kind == "bytes":
        return [_parsed(name, bytes.fromhex, key, "bytes in hexadecimal digits") for key in keys]
    if kind in _INTEGERS:
        return np.array(_integers(name, keys, kind, "integers"), kind)
    return keys


def ids_of(name: str, ids: Sequence[str | int] | None) -> NDArray[np.int64] | None:
    """Ids, from what JSON writes as numbers or text.

    Raises:
        RefusedError: one is no integer of 64 bits.
    """
    return None if ids is None else np.array(_integers(name, ids, "int64", "ids"), np.int64)


def _integers(name: str, values: Sequence[str | int], kind: str, expected: str) -> list[int]:
    low, high = _INTEGERS[kind]
    integers = []
    for value in values:
        if isinstance(value, str) and not re.fullmatch("-?[0-9]{1,20}", value):
            raise RefusedError(422, f"{name} must be {expected}, got {short(value)}")
        integer = int(value)
        if not low <= integer <= high:
            raise RefusedError(422, f"{name} must be from {low} to {high}, got {short(value)}")
        integers.append(integer)
    return integers


def _parsed(name: str, parse: Callable[[Any], Any], key: Any, expected: str) -> Any:
    try:
        return parse(key)
    except (TypeError, ValueError, AttributeError):
        raise RefusedError(422, f"{name} must be {expected}, got {short(key)}") from None


# ---- answers ----


def results(now: Snapshot, queries: NDArray[np.uint8], wanted: Wanted, limits: Limits) -> bytes:
    """Neighbours of each query as JSON, each with id, distance, and key if there are keys.

    Raises:
        RefusedError: an argument is wrong, or more is wanted than the limits allow.
    """
    k = wanted.k
    if not 1 <= k <= limits.k:
        raise RefusedError(422, f"k must be 1 to {limits.k:,}, got {short(k)}")
    if wanted.allow is not None and wanted.allow_keys is not None:
        raise RefusedError(422, "give either allow or allow_keys")
    allowed = ids_of("allow", wanted.allow)
    if wanted.allow_keys is not None:
        allowed = np.unique(_ids_of_keys(now, "allow_keys", wanted.allow_keys))  # repeats may look like a mask
    found: Any
    with refusing():
        queries = check_codes("queries", queries, now.n_bits)
        if wanted.radius is None:
            n = len(queries) * min(k, len(now) if allowed is None else min(len(now), len(allowed)))
            _check_results(f"k {k:,} for {len(queries):,} queries", n, limits)
            found = now.search(queries, k, allow=allowed)
            places: list[Any] = [(row, ids != -1) for row, ids in enumerate(found.ids)]
        else:
            within = whole_radius(wanted.radius, now.metric)
            _check_results(f"radius {within}", int(now.count_within(queries, within, allow=allowed).sum()), limits)
            found = now.range_search(queries, within, allow=allowed)
            places = [slice(begin, end) for begin, end in pairwise(found.offsets.tolist())]
    keys = found.keys if found.has_keys else None

    def entries(place: Any) -> Iterator[dict[str, Any]]:
        ids = [as_json(id, wanted.as_text) for id in found.ids[place].tolist()]
        distances = as_numbers(found.distances[place])
        if keys is None:
            yield from ({"id": id, "distance": distance} for id, distance in zip(ids, distances, strict=True))
            return
        for id, distance, key in zip(ids, distances, keys[place].tolist(), strict=True):
            yield {"id": id, "distance": distance, "key": as_json(key, wanted.as_text)}

    return f'{{"results":[{",".join(_encoded_list(entries(place)) for place in places)}]}}'.encode()


def _check_results(argument: str, n: int, limits: Limits) -> None:
    if n > limits.results:
        raise RefusedError(422, f"{argument} gives {n:,} results, at most {limits.results:,} are allowed")


def _encoded_list(entries: Iterable[Any]) -> str:
    """A JSON array, made in pieces: other threads, such as that of the server, wait while the encoder works."""
    pieces, left = [], iter(entries)
    while piece := list(islice(left, _PIECE)):
        pieces.append(_encode(piece)[1:-1])
    return f"[{','.join(pieces)}]"


def encoded(answer: dict[str, Any]) -> bytes:
    """A short answer as JSON."""
    return _encode(answer).encode()


def some_keys(now: Snapshot, first: int, n: int, as_text: bool) -> dict[str, Any]:
    """Keys of some entries, or ids if there are no keys, from a place on, and the next place; None at the end.

    Places count the entries of all segments, from the largest segment to the smallest, removed entries included.
    """
    view = now._view
    ids: list[int] = []
    begin = 0  # place of the segment's first entry
    for segment in view.segments:
        end = begin + segment.facts.n_codes
        while first < end and len(ids) < n:
            numbers = segment.core.entry_ids(np.arange(first - begin, min(end, first + _ENTRIES) - begin))
            live = np.flatnonzero(numbers != -1)[: n - len(ids)]
            ids += numbers[live].tolist()
            first += len(numbers) if len(ids) < n else int(live[-1]) + 1
        begin = end
    shown = ids if view.kind is None else view.keys_of(np.array(ids, np.int64)).tolist()
    return {"keys": [as_json(key, as_text) for key in shown], "next": first if first < begin else None}


def as_json(key: Any, as_text: bool) -> Any:
    """A key or id as JSON tells it. Lone surrogates, which no UTF-8 text may hold, become escapes."""
    if isinstance(key, bytes):
        return key.hex()
    if isinstance(key, uuid.UUID):
        return str(key)
    if isinstance(key, int):
        return str(key) if as_text else key
    return key.encode("utf-8", "backslashreplace").decode() if isinstance(key, str) else key
