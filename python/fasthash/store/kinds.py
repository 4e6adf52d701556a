"""The kinds of keys, and their bytes in files; called by the tables of keys and by whatever takes keys.

All keys of a store or a `KeyedIndex` are of one kind. The bytes of a key and the key itself determine each other.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from fasthash._arrays import check_one_axis
from fasthash._shown import short

__all__ = ["KINDS", "MAX_KEY_BYTES", "Key", "KeyKind", "as_list", "kind_of"]

Key = Any  # str, bytes, int or uuid.UUID
MAX_KEY_BYTES = 65_535


class KeyKind(NamedTuple):
    """One kind of keys."""

    name: str
    number: int
    """In the header of a file of keys."""

    width: int
    """Bytes of a key; 0 if they differ."""

    encode: Callable[[Key], bytes]
    decode: Callable[[bytes], Key]
    takes: Callable[[Key], bool]

    def encoded(self, keys: Iterable[Key], noun: str = "store") -> list[bytes]:
        """The bytes of these keys; `noun` says in errors what holds them.

        Raises:
            TypeError: a key is of another kind.
            ValueError: a key is too long.
        """
        takes, encode, encoded = self.takes, self.encode, []
        for key in keys:
            if not takes(key):
                raise TypeError(
                    f"keys must be of the kind {self.name}, as all keys of this {noun}, got {short(key)}"
                    + _hint_of_path(key)
                )
            encoded.append(encode(key))
        if not self.width and encoded and max(map(len, encoded)) > MAX_KEY_BYTES:
            longest = max(map(len, encoded))
            raise ValueError(f"keys must have at most {MAX_KEY_BYTES:,} bytes, got one of {longest:,} bytes")
        return encoded

    def as_argument(self, keys: list[Key]) -> Any:
        """Keys of this kind in a form that tells the kind, as for `kind_of`."""
        return np.array(keys, np.uint64) if self.name == "uint64" else keys


def _integers(name: str, number: int, low: int, high: int) -> KeyKind:
    def takes(key: Key) -> bool:
        return type(key) is int and low <= key <= high

    def encode(key: int) -> bytes:
        return key.to_bytes(8, "little", signed=low < 0)

    def decode(data: bytes) -> int:
        return int.from_bytes(data, "little", signed=low < 0)

    return KeyKind(name, number, 8, encode, decode, takes)


KINDS = {
    kind.name: kind
    for kind in (
        # Lone surrogates, which stand for bytes in the names of files, are kept.
        KeyKind(
            "str",
            1,
            0,
            lambda key: key.encode("utf-8", "surrogatepass"),
            lambda data: data.decode("utf-8", "surrogatepass"),
            lambda key: isinstance(key, str),
        ),
        KeyKind("bytes", 2, 0, bytes, bytes, lambda key: isinstance(key, bytes)),
        _integers("int64", 3, -(2**63), 2**63 - 1),
        _integers("uint64", 4, 0, 2**64 - 1),
        KeyKind(
            "uuid",
            5,
            16,
            lambda key: key.bytes,
            lambda data: uuid.UUID(bytes=data),
            lambda key: isinstance(key, uuid.UUID),
        ),
    )
}


def as_list(name: str, keys: Any) -> list[Key]:
    """The keys of a sequence or array with one axis; integers become `int`.

    Raises:
        TypeError: a single string, not a sequence, a set, which has no order, or a sequence of sequences.
        ValueError: an array with several axes; or an array of bytes that are no text, where one ends in zeros.
    """
    refused = (str, bytes, bytearray, memoryview, uuid.UUID, set, frozenset)
    if isinstance(keys, refused) or not isinstance(keys, (Iterable, np.ndarray)):
        raise TypeError(f"{name} must be a sequence of keys, got {short(keys)}; a single key goes into a list")
    if isinstance(keys, np.ndarray):
        check_one_axis(name, keys)
        array, keys = keys, keys.tolist()
        # numpy fills shorter bytes up with zeros: for text they are no part of the keys, for digests nobody can tell.
        if array.dtype.kind == "S" and (np.char.str_len(array) < array.dtype.itemsize).any() and not _is_text(keys):
            raise ValueError(
                f"{name} must be a list where bytes that are no text end in zeros, got an array of dtype "
                f"{array.dtype}; {name}.tolist() drops the zeros, [row.tobytes() for row in {name}[:, None]] keeps them"
            )
    given = [key.item() if isinstance(key, np.integer) else key for key in keys]
    for key in given:
        if isinstance(key, (list, tuple, np.ndarray)):
            raise TypeError(f"{name} must be a sequence of keys, got one of sequences, such as {short(key)}")
    return given


def _is_text(keys: list[bytes]) -> bool:
    try:
        return b" ".join(keys).decode().isprintable()
    except UnicodeDecodeError:
        return False


def kind_of(keys: list[Key], given: Any) -> KeyKind:
    """The kind of the first keys of a store; `given` are they as the caller wrote them.

    Raises:
        TypeError: no kind takes them all.
    """
    if getattr(given, "dtype", None) == np.uint64:
        return KINDS["uint64"]
    for kind in KINDS.values():
        if all(map(kind.takes, keys)):
            return kind
    odd = [key for key in keys if not any(kind.takes(key) for kind in KINDS.values())]
    if odd:
        expected = "str, bytes, integers of 64 bits or uuid.UUID"
        raise TypeError(f"keys must be {expected}, got {short(odd[0])}{_hint_of_path(odd[0])}")
    raise TypeError(f"keys must be of one kind, got {short(keys[:5])}")


def _hint_of_path(key: Key) -> str:
    return "; str(path) makes a key of a path" if isinstance(key, os.PathLike) else ""
