"""Files of keys: the keys of a segment, in the order of its entries, and an order in which they are found.

Written once with the segment, mapped by every reader. Bytes are in docs/format.md. Keys are sorted by (CRC-32 of their
bytes, bytes), so that most look-ups compare numbers alone; many keys with one CRC-32 cost a binary search of their
bytes.
"""

from __future__ import annotations

import hashlib
import itertools
import mmap
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasthash._core import FormatError
from fasthash.store.entries import distinct
from fasthash.store.files import named_in_errors
from fasthash.store.kinds import KINDS, KeyKind
from fasthash.store.manifest import FileFacts

__all__ = ["HEADER_BYTES", "KeyTable", "merge_keys", "write_encoded"]

_MAGIC = b"FASTKEYS"
HEADER_BYTES = 128
_HEADER = struct.Struct("<8sHHIB7xQQ")  # magic, major, minor, bytes of the header, kind, n, bytes of all keys
_DIGEST = 32
_PER_BASE = 1 << 16  # offsets are stored relative to one in so many
_ALIGNMENT = 64
_PER_PIECE = 1 << 14  # keys that a merge copies at once

Array = NDArray[Any]


def _sections(n: int, width: int, n_key_bytes: int) -> list[tuple[int, int]]:
    """Begin and bytes of each section: hashes, entries, bases, offsets, keys."""
    n_offsets = 0 if width else n + 1
    sizes = [4 * n, 4 * n, 8 * -(-n_offsets // _PER_BASE), 4 * n_offsets, n_key_bytes]
    sections, begin = [], HEADER_BYTES
    for size in sizes:
        sections.append((begin, size))
        begin = -(-(begin + size) // _ALIGNMENT) * _ALIGNMENT
    return sections


def crcs(encoded: Sequence[bytes]) -> NDArray[np.uint32]:
    """The CRC-32 of each key; keys are sorted by it."""
    return np.fromiter(map(zlib.crc32, encoded), np.uint32, len(encoded))


def write_encoded(path: Path, kind: KeyKind, encoded: Sequence[bytes]) -> FileFacts:
    """Write a file of these keys, which are distinct; the i-th is that of the entry i.

    Raises:
        OSError: the operating system refused it; no file is left.
    """
    lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
    return write_keys(path, kind, crcs(encoded), lengths, [b"".join(encoded)], encoded.__getitem__)


def write_keys(
    path: Path,
    kind: KeyKind,
    hashes: NDArray[np.uint32],
    lengths: NDArray[np.int64],
    pieces: Iterable[bytes],
    encoded: Callable[[int], bytes],
) -> FileFacts:
    """Write a file of keys.

    Args:
        path: of the new file.
        kind: of the keys.
        hashes: CRC-32 of the key of each entry.
        lengths: bytes of the key of each entry.
        pieces: the bytes of all keys, in the order of the entries.
        encoded: function that returns the bytes of the key of an entry.

    Raises:
        OSError: the operating system refused it; no file is left.
    """
    n, n_key_bytes = len(hashes), int(lengths.sum())
    order = np.argsort(hashes, kind="stable").astype("<u4")
    hashes = hashes[order]
    for begin, end in _runs(hashes):  # keys with one hash
        order[begin:end] = sorted(order[begin:end].tolist(), key=encoded)
    arrays: list[Array] = [hashes.astype("<u4"), order]
    if kind.width:
        arrays += [np.zeros(0), np.zeros(0)]
    else:
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        bases = offsets[::_PER_BASE]
        arrays += [bases.astype("<u8"), (offsets - np.repeat(bases, _PER_BASE)[: n + 1]).astype("<u4")]
    sections = _sections(n, kind.width, n_key_bytes)
    contents: list[Iterable[Any]] = [*([array.data.cast("B")] if array.size else [] for array in arrays), pieces]
    digest = hashlib.sha256()
    try:
        with named_in_errors(path), open(path, "xb") as file:
            file.seek(HEADER_BYTES)
            for (begin, _), content in zip(sections, contents, strict=True):
                gap = bytes(begin - file.tell())
                for piece in itertools.chain([gap], content):
                    file.write(piece)
                    digest.update(piece)
            size = file.tell()
            header = _HEADER.pack(_MAGIC, 1, 0, HEADER_BYTES, kind.number, n, n_key_bytes) + digest.digest()
            header = header.ljust(HEADER_BYTES - _DIGEST, b"\0")
            header += hashlib.sha256(header).digest()
            file.seek(0)
            file.write(header)
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise
    return FileFacts.of(path.name, size, header)


def _runs(hashes: Array) -> list[tuple[int, int]]:
    """Begin and end of each run of at least two equal hashes, which are sorted."""
    same = np.flatnonzero(hashes[1:] == hashes[:-1])
    if not len(same):
        return []
    breaks = np.flatnonzero(np.diff(same) > 1)
    firsts = same[np.concatenate([[0], breaks + 1])]
    lasts = same[np.concatenate([breaks, [len(same) - 1]])]
    return [(int(first), int(last) + 2) for first, last in zip(firsts, lasts, strict=True)]


class KeyTable:
    """The keys of a segment, in memory or mapped.

    Args:
        data: content of a file of keys.
        name: of the file, for errors.

    Raises:
        FormatError: `data` is no such file; `check` checks the rest.
    """

    def __init__(self, data: Any, name: str) -> None:
        self._data, self._name = memoryview(data), name
        if len(self._data) < HEADER_BYTES:
            raise FormatError(f"{name}: file ends within the header of a file of keys")
        header = bytes(self._data[:HEADER_BYTES])
        magic, major, minor, size, number, self.n, n_key_bytes = _HEADER.unpack_from(header)
        if magic != _MAGIC:
            raise FormatError(f"{name}: not a file of keys, it begins with {magic!r}")
        if hashlib.sha256(header[:-_DIGEST]).digest() != header[-_DIGEST:]:
            raise FormatError(f"{name}: checksum of the header does not match")
        kinds = {kind.number: kind for kind in KINDS.values()}
        if (major, minor, size) != (1, 0, HEADER_BYTES) or number not in kinds:
            raise FormatError(f"{name}: version {major}.{minor} or kind {number} of keys is unknown")
        self.kind = kinds[number]
        sections = _sections(self.n, self.kind.width, n_key_bytes)
        expected = sections[-1][0] + n_key_bytes
        if len(self._data) != expected:
            raise FormatError(f"{name}: file has {len(self._data)} bytes, its header describes {expected}")
        if self.kind.width and n_key_bytes != self.n * self.kind.width:
            raise FormatError(f"{name}: number of bytes of all keys, {n_key_bytes}, does not agree with their number")
        types = ("<u4", "<u4", "<u8", "<u4", "u1")
        self._hashes, self._entries, self._bases, self._offsets, self._keys = (
            np.frombuffer(self._data, type_, size // np.dtype(type_).itemsize, begin)
            for (begin, size), type_ in zip(sections, types, strict=True)
        )

    @classmethod
    def mapped(cls, path: Path) -> KeyTable:
        """Map a file.

        Raises:
            OSError: the file cannot be read.
            FormatError: it is no file of keys.
        """
        with named_in_errors(path), open(path, "rb") as file:
            try:
                data: Any = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except ValueError:  # of 0 bytes
                data = b""
        return cls(data, str(path))

    def encoded(self, entry: int) -> bytes:
        """The bytes of the key of an entry."""
        width = self.kind.width
        begin, end = (entry * width, (entry + 1) * width) if width else (self._offset(entry), self._offset(entry + 1))
        return self._keys[begin:end].tobytes()

    def _offset(self, i: int) -> int:
        return int(self._bases[i >> 16]) + int(self._offsets[i])

    def key(self, entry: int) -> Any:
        """The key of an entry.

        Raises:
            FormatError: its bytes are no key.
        """
        try:
            return self.kind.decode(self.encoded(entry))
        except ValueError as error:
            raise FormatError(f"{self._name}: the key of entry {entry} is damaged: {error}") from error

    def bounds(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The first byte of the key of each entry, and its length."""
        if self.kind.width:
            return np.arange(self.n) * self.kind.width, np.full(self.n, self.kind.width)
        offsets = np.repeat(self._bases, _PER_BASE)[: self.n + 1].astype(np.int64) + self._offsets
        return offsets[:-1], np.diff(offsets)

    def hashes(self) -> NDArray[np.uint32]:
        """The CRC-32 of the key of each entry."""
        hashes = np.empty(self.n, np.uint32)
        hashes[self._entries] = self._hashes
        return hashes

    def gathered(self, begins: NDArray[np.int64], lengths: NDArray[np.int64]) -> bytes:
        """The bytes of some keys, one after the other."""
        ends = np.cumsum(lengths)
        places = np.repeat(begins - (ends - lengths), lengths) + np.arange(ends[-1] if len(ends) else 0)
        return self._keys[places].tobytes()

    def find(self, encoded: Sequence[bytes]) -> NDArray[np.int64]:
        """The entry of each key, -1 for one that is not in the file."""
        wanted = crcs(encoded)
        found = np.full(len(encoded), -1, np.int64)
        begins = np.searchsorted(self._hashes, wanted, "left")
        ends = np.searchsorted(self._hashes, wanted, "right")
        for i in np.flatnonzero(begins < ends).tolist():
            low, high = int(begins[i]), int(ends[i])
            while low < high:
                middle = (low + high) // 2
                entry = int(self._entries[middle])
                if entry >= self.n:
                    raise FormatError(f"{self._name}: the entry {entry} of a key is out of range")
                key = self.encoded(entry)
                if key == encoded[i]:
                    found[i] = entry
                    break
                low, high = (middle + 1, high) if key < encoded[i] else (low, middle)
        return found

    def check(self) -> None:
        """Check every byte and what they say.

        Raises:
            FormatError: the file is damaged; the message says where.
        """
        self.check_bytes()
        if not np.array_equal(np.sort(self._entries), np.arange(self.n)):
            raise FormatError(f"{self._name}: an entry has no key, or several")
        if not self.kind.width:
            offsets = np.repeat(self._bases, _PER_BASE)[: self.n + 1].astype(np.int64) + self._offsets
            if offsets[0] != 0 or offsets[-1] != len(self._keys) or (np.diff(offsets) < 0).any():
                raise FormatError(f"{self._name}: the offsets of keys do not divide their bytes")
        last: tuple[int, bytes] = (-1, b"")
        for rank, entry in enumerate(self._entries.tolist()):
            encoded = self.encoded(entry)
            self.key(entry)
            now = (zlib.crc32(encoded), encoded)
            if now[0] != self._hashes[rank] or not last < now:
                raise FormatError(f"{self._name}: keys are out of order at rank {rank}")
            last = now

    def check_bytes(self) -> None:
        """Check the checksum of all bytes.

        Raises:
            FormatError: the file is damaged.
        """
        digest = bytes(self._data[_HEADER.size : _HEADER.size + _DIGEST])
        if hashlib.sha256(memoryview(self._data)[HEADER_BYTES:]).digest() != digest:
            raise FormatError(f"{self._name}: checksum of the keys does not match")

    def __len__(self) -> int:
        return self.n


def merge_keys(
    path: Path, tables: Sequence[KeyTable], which: NDArray[np.int64], entries: NDArray[np.int64]
) -> FileFacts:
    """Write the keys of a merged segment: the i-th entry has the key of the entry `entries[i]` of `tables[which[i]]`.

    Works on arrays, and in pieces, since a commit may run at the same time.

    Raises:
        OSError: the operating system refused it; no file is left.
    """
    begins, lengths, hashes = (
        np.empty(len(which), np.int64),
        np.empty(len(which), np.int64),
        np.empty(len(which), "<u4"),
    )
    for i, table in enumerate(tables):
        mine = np.flatnonzero(which == i)
        from_here = entries[mine]
        begins[mine], lengths[mine] = (each[from_here] for each in table.bounds())
        hashes[mine] = table.hashes()[from_here]

    def encoded(entry: int) -> bytes:
        return tables[which[entry]].encoded(int(entries[entry]))

    def pieces() -> Iterator[bytes]:
        for first in range(0, len(which), _PER_PIECE):
            piece = slice(first, first + _PER_PIECE)
            yield _interleaved(tables, which[piece], begins[piece], lengths[piece])

    return write_keys(path, tables[0].kind, hashes, lengths, pieces(), encoded)


def _interleaved(tables: Sequence[KeyTable], which: Array, begins: Array, lengths: Array) -> bytes:
    """The keys of these places, in their order."""
    ends = np.cumsum(lengths)
    joined = np.empty(ends[-1] if len(ends) else 0, np.uint8)
    for i in distinct(which).tolist():
        mine = np.flatnonzero(which == i)
        n = lengths[mine]
        places = np.repeat((ends - lengths)[mine] - (np.cumsum(n) - n), n) + np.arange(n.sum())
        joined[places] = np.frombuffer(tables[i].gathered(begins[mine], n), np.uint8)
    return joined.tobytes()
