"""The index file a second time: read and written in numpy by docs/format.md alone, for the engine to agree with."""

from __future__ import annotations

import itertools
import struct
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import xxhash

FLAT, HIER = 1, 2
MEMORIES = ("default", "compact", "fast")
PLANS = ("auto", "scan", "prefix", "multi-index", "clusters")
SECTIONS = ("levels", "codes", "runs", "ids")
GROUP = 64
HEADER = struct.Struct("<8sHHIBBHBB2sQQQqQ32s24sQ")


class Header(NamedTuple):
    magic: bytes = b"FASTHASH"
    major: int = 1
    minor: int = 0
    size: int = 128
    kind: int = FLAT
    id_bytes: int = 0
    n_levels: int = 1
    memory: int = 0
    plan: int = 0
    zero: bytes = bytes(2)
    n_codes: int = 0
    n_rows: int = 0
    n_runs: int = 0
    first_id: int = 0
    next_id: int = 0
    sums: bytes = bytes(32)
    rest: bytes = bytes(24)
    header_sum: int = 0


@dataclass
class Contents:
    """What a file holds: the codes in its order, each with its id."""

    kind: int
    level_bits: tuple[int, ...]
    codes: np.ndarray
    ids: np.ndarray
    next_id: int
    memory: int = 0
    plan: int = 0

    def by_id(self):
        order = np.argsort(self.ids)
        return self.codes[order], self.ids[order]


class RefusedError(Exception):
    """The document does not allow this file."""


def require(condition, fault):
    if not condition:
        raise RefusedError(fault)


def aligned(offset):
    return -(-offset // 64) * 64


def section_sizes(header, n_bytes):
    stored = aligned(header.n_codes) if header.kind == FLAT else header.n_rows
    return (
        2 * header.n_levels,
        stored * n_bytes,
        -(-header.n_rows // 64) * 8 + 4 * header.n_runs if header.n_runs else 0,
        header.n_codes * header.id_bytes + 8 if header.id_bytes else 0,
    )


def section_ranges(sizes):
    """(begin, end) of each section."""
    ranges, begin = [], 128
    for size in sizes:
        ranges.append((begin, begin + size))
        begin = aligned(begin + size)
    return ranges


def assemble(header, sections):
    """A file of these sections, one after the other, with right checksums."""
    sums = struct.pack("<4Q", *map(xxhash.xxh64_intdigest, sections))
    data = bytearray(HEADER.pack(*header._replace(sums=sums)))
    for section in sections:
        data += bytes(aligned(len(data)) - len(data)) + section
    data[120:128] = struct.pack("<Q", xxhash.xxh64_intdigest(bytes(data[:120])))
    return bytes(data)


def split(data):
    """Header and sections of a valid file."""
    header = Header._make(HEADER.unpack_from(data))
    widths = struct.unpack_from(f"<{header.n_levels}H", data, 128)
    ranges = section_ranges(section_sizes(header, sum(widths) // 8))
    return header, [data[begin:end] for begin, end in ranges]


def read(data):
    """The contents of a file, or `RefusedError`."""
    require(len(data) >= 128, "shorter than a header")
    header = Header._make(HEADER.unpack_from(data))
    require(header.magic == b"FASTHASH", "magic")
    require((header.major, header.minor) == (1, _minor_of(header.plan)), "version")
    require(header.header_sum == xxhash.xxh64_intdigest(data[:120]), "checksum of the header")
    require(header.size == 128 and header.zero == bytes(2) and header.rest == bytes(24), "size or zeros of the header")
    _check_fields(header)

    require(len(data) >= 128 + 2 * header.n_levels, "shorter than its levels")
    widths = struct.unpack_from(f"<{header.n_levels}H", data, 128)
    require(all(width > 0 and width % 8 == 0 for width in widths) and sum(widths) <= 4096, "widths of the levels")
    n_bytes = sum(widths) // 8
    ranges = section_ranges(section_sizes(header, n_bytes))
    require(len(data) == ranges[-1][1], "length")
    for (_, end), (begin, _) in itertools.pairwise(ranges):
        require(not any(data[end:begin]), "bytes between the sections")
    sections = [data[begin:end] for begin, end in ranges]
    require(header.sums == struct.pack("<4Q", *map(xxhash.xxh64_intdigest, sections)), "checksum of a section")

    _, codes, runs, ids = (np.frombuffer(section, dtype=np.uint8) for section in sections)
    codes, counts = (
        _read_flat(header, n_bytes, codes) if header.kind == FLAT else _read_hier(header, n_bytes, codes, runs)
    )
    ids = _read_ids(header, ids)
    row = np.repeat(np.arange(len(counts)), counts)
    require((ids[1:] > ids[:-1])[row[1:] == row[:-1]].all(), "order of the ids of a row")
    return Contents(header.kind, widths, codes, ids, header.next_id, header.memory, header.plan)


def _minor_of(plan):
    return 1 if PLANS[plan : plan + 1] == ("clusters",) else 0


def _check_fields(header):
    flat = header.kind == FLAT
    require(header.kind in (FLAT, HIER), "kind")
    require(header.memory <= (0 if flat else 2) and header.plan <= (0 if flat else 4), "settings")
    require(1 <= header.n_levels <= (1 if flat else 512), "number of levels")
    require(header.n_codes < 2**32, "n_codes")
    shared = header.n_codes - header.n_rows
    require(shared == 0 if flat or header.n_codes == 0 else 1 <= header.n_rows <= header.n_codes, "n_rows")
    require(header.n_runs <= min(shared, header.n_rows) and (header.n_runs > 0) == (shared > 0), "n_runs")
    require(header.id_bytes <= 8 and (flat or header.id_bytes > 0 or header.n_codes == 0), "id_bytes")
    require(header.n_codes > 0 or header.id_bytes == header.first_id == 0, "ids of no codes")
    require(header.next_id <= 2**63, "next_id")


def _read_flat(header, n_bytes, groups):
    rows = groups.reshape(-1, n_bytes, GROUP).transpose(0, 2, 1).reshape(-1, n_bytes)
    require(not rows[header.n_codes :].any(), "bytes after the last code")
    return rows[: header.n_codes], np.ones(header.n_codes, dtype=np.int64)


def _read_hier(header, n_bytes, codes, runs):
    rows = codes.reshape(header.n_rows, n_bytes)
    as_bytes = [row.tobytes() for row in rows]
    require(all(a < b for a, b in itertools.pairwise(as_bytes)), "order of the codes")
    counts = np.ones(header.n_rows, dtype=np.int64)
    if header.n_runs:
        n_marks = -(-header.n_rows // 64) * 8
        marks = np.unpackbits(runs[:n_marks], bitorder="little").astype(bool)
        require(marks.sum() == header.n_runs and not marks[header.n_rows :].any(), "marks of the runs")
        extras = np.frombuffer(runs[n_marks:], dtype="<u4").astype(np.int64)
        more = np.diff(extras, prepend=0)
        require((more > 0).all() and extras[-1] == header.n_codes - header.n_rows, "counts of the runs")
        counts[marks[: header.n_rows]] += more
    return np.repeat(rows, counts, axis=0), counts


def _read_ids(header, packed):
    n = header.n_codes
    if header.id_bytes == 0:
        values = np.arange(n, dtype=np.uint64)
    else:
        require(not packed[-8:].any(), "bytes after the ids")
        words = np.zeros((n, 8), dtype=np.uint8)
        words[:, : header.id_bytes] = packed[:-8].reshape(n, header.id_bytes)
        values = words.view("<u8").ravel()
    if n == 0:
        return np.zeros(0, dtype=np.int64)
    require(header.first_id + int(values.max()) < 2**63, "ids beyond int64")
    ids = (values + np.uint64(header.first_id % 2**64)).view(np.int64)
    require(len(np.unique(ids)) == n and -1 not in ids, "ids that repeat or are -1")
    require(int(ids.max()) < header.next_id or ids.max() < 0, "next_id")
    return ids


def write(contents):
    """The one file that the engine writes for these contents."""
    codes, ids = contents.codes, contents.ids
    n, n_bytes = len(ids), sum(contents.level_bits) // 8
    header = Header(
        kind=contents.kind,
        minor=_minor_of(contents.plan),
        n_levels=len(contents.level_bits),
        memory=contents.memory,
        plan=contents.plan,
        n_codes=n,
        n_rows=n,
        first_id=int(ids.min()) if n > 0 else 0,
        next_id=contents.next_id,
    )
    runs = b""
    if contents.kind == FLAT:
        padded = np.concatenate([codes, np.zeros((-n % GROUP, n_bytes), dtype=np.uint8)])
        stored = padded.reshape(-1, GROUP, n_bytes).transpose(0, 2, 1).tobytes()
    else:
        order = np.lexsort((ids, *codes.T[::-1]))
        codes, ids = codes[order], ids[order]
        first = np.ones(n, dtype=bool)  # of its row
        first[1:] = (codes[1:] != codes[:-1]).any(axis=1)
        stored = codes[first].tobytes()
        counts = np.diff(np.flatnonzero(first), append=n)
        header = header._replace(n_rows=len(counts), n_runs=int((counts > 1).sum()))
        if header.n_runs:
            marks = np.zeros(aligned(len(counts)), dtype=bool)
            marks[: len(counts)] = counts > 1
            runs = np.packbits(marks, bitorder="little").tobytes()
            runs += np.cumsum(counts[counts > 1] - 1).astype("<u4").tobytes()
    counted = (ids[1:] > ids[:-1]).all() and (ids[1:] == ids[:-1] + 1).all()
    if n > 0 and (contents.kind == HIER or not counted):
        values = ids.view(np.uint64) - np.uint64(header.first_id % 2**64)
        header = header._replace(id_bytes=max(1, -(-int(values.max()).bit_length() // 8)))
    return assemble(
        header, [struct.pack(f"<{header.n_levels}H", *contents.level_bits), stored, runs, pack_ids(ids, header)]
    )


def pack_ids(ids, header):
    if header.id_bytes == 0:
        return b""
    values = ids.astype(np.int64).view(np.uint64) - np.uint64(header.first_id % 2**64)
    return values.astype("<u8").view(np.uint8).reshape(-1, 8)[:, : header.id_bytes].tobytes() + bytes(8)
