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
SECTIONS = ("levels", "codes", "runs", "ids", "clusters", "id map")
GROUP = 64
BLOCK = 512
HAMMING, JACCARD = 0, 1
HEADER = struct.Struct("<8sHHIBBHBBHQQQqQ48sBBB2sBBBQ")


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
    n_clusters: int = 0
    n_codes: int = 0
    n_rows: int = 0
    n_runs: int = 0
    first_id: int = 0
    next_id: int = 0
    sums: bytes = bytes(48)
    id_map: int = 0
    metric: int = HAMMING
    padding: int = 0
    rest: bytes = bytes(2)
    n_tables: int = 0
    summary: int = 0
    directory_bits: int = 0
    header_sum: int = 0

    @property
    def one_by_one(self):
        """Whether equal codes are stored one by one."""
        return self.kind == FLAT or self.metric == JACCARD

    @property
    def scanned(self):
        """Whether sorted codes have no directory."""
        return self.summary != 0 and self.n_clusters == 0 and self.directory_bits == 0

    @property
    def in_groups(self):
        return self.one_by_one or self.n_clusters > 0 or self.scanned

    @property
    def oldest_minor(self):
        if self.scanned:
            return 4
        if self.metric != HAMMING or self.padding > 0 or self.summary != 0:
            return 3
        if self.n_clusters > 0 or self.id_map != 0:
            return 2
        return 1 if PLANS[self.plan : self.plan + 1] == ("clusters",) else 0

    @property
    def n_sections(self):
        return 4 if self.oldest_minor < 2 else 6


class Summary(NamedTuple):
    """What the engine's planner has chosen for a mapped file."""

    cost: float
    directory_bits: int = 0
    n_tables: int = 0


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
    centroids: np.ndarray | None = None  # None: the codes are not in clusters
    id_map: bool = False
    metric: int = HAMMING
    summary: Summary | None = None

    def by_id(self):
        order = np.argsort(self.ids)
        return self.codes[order], self.ids[order]


class RefusedError(Exception):
    """The document does not allow this file."""


def require(condition, fault):
    if not condition:
        raise RefusedError(fault)


def aligned(offset, to=64):
    return -(-offset // to) * to


def padded(data, to=64):
    return data + bytes(aligned(len(data), to) - len(data))


def section_sizes(header, n_bytes):
    stored = aligned(header.n_rows) if header.in_groups else header.n_rows
    return (
        2 * header.n_levels,
        aligned(stored * n_bytes) + tables_bytes(header, n_bytes) if header.n_tables else stored * n_bytes,
        -(-header.n_rows // 64) * 8 + 4 * header.n_runs if header.n_runs else 0,
        header.n_codes * header.id_bytes + 8 if header.id_bytes else 0,
        clusters_bytes(header, n_bytes) + summary_bytes(header, clusters_bytes(header, n_bytes)),
        header.n_codes * entry_bytes(header.n_codes) + 8 if header.id_map else 0,
    )[: header.n_sections]


def clusters_bytes(header, n_bytes):
    n_centers = 1 if header.metric == JACCARD and header.n_codes else header.n_clusters
    n_rings = n_centers * (8 * n_bytes + 1)
    return 4 * (n_rings + 1) + header.n_clusters * n_bytes if n_centers else 0


def least_bytes(header):
    return -(-header.n_rows // 64) * header.id_bytes + 8


def begins_bytes(header):
    return 4 * (2**header.directory_bits + 1)


def summary_bytes(header, before):
    """From the end of the clusters on."""
    if not header.summary:
        return 0
    end = aligned(before, 8) + 16 + least_bytes(header)
    return (aligned(end, 8) + begins_bytes(header) if header.directory_bits else end) - before


def table_parts(header, n_bytes):
    """Bytes of the three parts of a table: begins, codes, rows; each but the last of the file is padded to 64."""
    return (
        begins_bytes(header),
        header.n_rows * n_bytes,
        header.n_rows * entry_bytes(header.n_rows + 1) + 8,
    )


def tables_bytes(header, n_bytes):
    parts = table_parts(header, n_bytes)
    return header.n_tables * sum(map(aligned, parts)) - (aligned(parts[-1]) - parts[-1])


def entry_bytes(n):
    """Bytes of the number of an entry."""
    return max(1, -(-max(n - 1, 0).bit_length() // 8))


def section_ranges(sizes):
    """(begin, end) of each section."""
    ranges, begin = [], 128
    for size in sizes:
        ranges.append((begin, begin + size))
        begin = aligned(begin + size)
    return ranges


def assemble(header, sections):
    """A file of these sections, one after the other, with right checksums."""
    data = bytearray(HEADER.pack(*header._replace(sums=checksums(sections))))
    for section in sections:
        data += bytes(aligned(len(data)) - len(data)) + section
    data[120:128] = struct.pack("<Q", xxhash.xxh64_intdigest(bytes(data[:120])))
    return bytes(data)


def checksums(sections):
    return struct.pack(f"<{len(sections)}Q", *map(xxhash.xxh64_intdigest, sections)).ljust(48, b"\0")


def split(data):
    """Header and sections of a valid file."""
    header = Header._make(HEADER.unpack_from(data))
    widths = struct.unpack_from(f"<{header.n_levels}H", data, 128)
    ranges = section_ranges(section_sizes(header, -(-sum(widths) // 8)))
    return header, [data[begin:end] for begin, end in ranges]


def read(data):
    """The contents of a file, or `RefusedError`."""
    require(len(data) >= 128, "shorter than a header")
    header = Header._make(HEADER.unpack_from(data))
    require(header.magic == b"FASTHASH", "magic")
    require((header.major, header.minor) == (1, header.oldest_minor), "version")
    require(header.header_sum == xxhash.xxh64_intdigest(data[:120]), "checksum of the header")
    require(header.size == 128 and header.rest == bytes(2), "size or zeros of the header")
    _check_fields(header)

    require(len(data) >= 128 + 2 * header.n_levels, "shorter than its levels")
    widths = struct.unpack_from(f"<{header.n_levels}H", data, 128)
    require(all(widths) and not any(width % 8 for width in widths[:-1]) and sum(widths) <= 4096, "widths of the levels")
    n_bytes = -(-sum(widths) // 8)
    require(header.padding == 8 * n_bytes - sum(widths), "bits that pad a code")
    require((header.n_tables + 1) * header.directory_bits <= 8 * n_bytes, "bits of the directory and the tables")
    ranges = section_ranges(section_sizes(header, n_bytes))
    require(len(data) == ranges[-1][1], "length")
    for (_, end), (begin, _) in itertools.pairwise(ranges):
        require(not any(data[end:begin]), "bytes between the sections")
    sections = [data[begin:end] for begin, end in ranges]
    require(header.sums == checksums(sections), "checksum of a section")

    sections += [b""] * (6 - len(sections))
    _, codes, runs, ids, clusters, id_map = (np.frombuffer(section, dtype=np.uint8) for section in sections)
    centroids = None
    if header.metric == JACCARD:
        rows = _read_planes(header.n_rows, n_bytes, codes, clusters)
    elif header.in_groups:
        rows = read_groups(header.n_rows, n_bytes, codes)
    else:
        rows = codes[: header.n_rows * n_bytes].reshape(header.n_rows, n_bytes)
    if not header.one_by_one and not header.n_clusters:
        require(_ascend(rows), "order of the codes")
    if header.n_clusters:
        centroids = _read_clusters(header, rows, clusters[: clusters_bytes(header, n_bytes)])
    for each in (rows, rows[:0] if centroids is None else centroids):
        require(not (each[:, -1] & (2**header.padding - 1)).any(), "padding of a code")
    counts = _read_runs(header, runs)
    ids = _read_ids(header, ids)
    row = np.repeat(np.arange(len(counts)), counts)
    require((ids[1:] > ids[:-1])[row[1:] == row[:-1]].all(), "order of the ids of a row")
    if header.metric == JACCARD:
        require((ids[1:] > ids[:-1])[n_set(rows[1:]) == n_set(rows[:-1])].all(), "order of the ids of equal counts")
    if header.id_map:
        _check_id_map(ids, id_map)
    summary = None
    if header.summary:
        begin = aligned(clusters_bytes(header, n_bytes), 8)
        require(len(clusters) >= begin + 16, "length of the summary")
        (cost,) = struct.unpack_from("<d", clusters, begin + 8)
        require(cost >= 0, "cost of a query")
        summary = Summary(cost, header.directory_bits, header.n_tables)
        end = clusters_bytes(header, n_bytes)
        require(clusters[end:].tobytes() == summary_of(header, summary, rows, row, ids, end), "summary")
        tables = tables_of(header, rows)
        require(not tables or sections[1][aligned(header.n_rows * n_bytes) :] == tables, "tables")
        require(not tables or not any(codes[header.n_rows * n_bytes : aligned(header.n_rows * n_bytes)]), "zeros")
    codes = np.repeat(rows, counts, axis=0)
    return Contents(
        header.kind,
        widths,
        codes,
        ids,
        header.next_id,
        header.memory,
        header.plan,
        centroids,
        header.id_map == 1,
        header.metric,
        summary,
    )


def summary_of(header, summary, rows, row, ids, before):
    """The bytes of the summary, `before` being those of the clusters. `row`: that of each id."""
    offsets = ids.view(np.uint64) - np.uint64(header.first_id % 2**64)
    least = np.full(-(-len(rows) // 64), 2**64 - 1, np.uint64)
    np.minimum.at(least, row // 64, offsets)
    data = bytes(aligned(before, 8) - before) + struct.pack("<Qd", int(offsets.max()), summary.cost)
    data += pack(least, header.id_bytes)
    if header.directory_bits:
        data = padded(bytes(before) + data, 8)[before:] + begins_of(rows, 0, header.directory_bits)
    return data


def substring(rows, first_bit, n_bits):
    bits = np.unpackbits(rows, axis=1)[:, first_bit : first_bit + n_bits].astype(np.int64)
    return bits @ (1 << np.arange(n_bits - 1, -1, -1))


def begins_of(rows, first_bit, n_bits):
    values = np.sort(substring(rows, first_bit, n_bits))
    return np.searchsorted(values, np.arange(2**n_bits + 1)).astype("<u4").tobytes()


def tables_of(header, rows):
    """The tables, from a multiple of 64 after the codes on."""
    data = b""
    for i in range(header.n_tables):
        first_bit = (i + 1) * header.directory_bits
        order = np.argsort(substring(rows, first_bit, header.directory_bits), kind="stable")
        data = padded(data) + padded(begins_of(rows, first_bit, header.directory_bits))
        data += padded(rows[order].tobytes()) + pack(order, entry_bytes(header.n_rows + 1))
    return data


def _check_fields(header):
    flat = header.kind == FLAT
    require(header.kind in (FLAT, HIER), "kind")
    require(header.metric in (HAMMING, JACCARD), "metric")
    each = header.one_by_one
    require(header.memory <= (0 if flat else 2) and header.plan <= (0 if each else 4), "settings")
    require(1 <= header.n_levels <= (1 if each else 512), "number of levels")
    require(header.n_codes < 2**32, "n_codes")
    shared = header.n_codes - header.n_rows
    require(shared == 0 if each or header.n_codes == 0 else 1 <= header.n_rows <= header.n_codes, "n_rows")
    require(header.n_runs <= min(shared, header.n_rows) and (header.n_runs > 0) == (shared > 0), "n_runs")
    require(header.id_bytes <= 8 and (each or header.id_bytes > 0 or header.n_codes == 0), "id_bytes")
    require(header.n_codes > 0 or header.id_bytes == header.first_id == 0, "ids of no codes")
    require(header.next_id <= 2**63, "next_id")
    clustered = not each and header.plan in (0, PLANS.index("clusters"))
    require(header.n_clusters <= (header.n_rows if clustered else 0), "n_clusters")
    require(header.id_map <= (1 if header.id_bytes > 0 else 0), "id_map")
    require(header.summary <= (1 if header.id_bytes > 0 and not each else 0), "summary")
    has_directory = header.summary and not header.n_clusters and not header.scanned
    require(8 <= header.directory_bits <= 24 if has_directory else header.directory_bits == 0, "directory")
    require(has_directory or header.n_tables == 0, "n_tables")


def read_groups(n_rows, n_bytes, groups):
    rows = groups.reshape(-1, n_bytes, GROUP).transpose(0, 2, 1).reshape(-1, n_bytes)
    require(not rows[n_rows:].any(), "bytes after the last code")
    return rows[:n_rows]


def _read_planes(n_rows, n_bytes, planes, counts):
    rows = np.zeros((0, n_bytes), dtype=np.uint8)
    for begin in range(0, n_rows, BLOCK):
        n = min(BLOCK, n_rows - begin)
        block = planes[begin * n_bytes :][: aligned(n) * n_bytes].reshape(8 * n_bytes, -1)
        bits = np.unpackbits(block, axis=1, bitorder="little").T
        require(not bits[n:].any(), "bits after the last code")
        rows = np.concatenate([rows, np.packbits(bits[:n], axis=1)])
    if n_rows:
        begin = counts.view("<u4").astype(np.int64)
        require(begin[0] == 0 and (np.diff(begin) >= 0).all() and begin[-1] == n_rows, "counts")
        require(np.array_equal(np.repeat(np.arange(8 * n_bytes + 1), np.diff(begin)), n_set(rows)), "bits set")
    return rows


def n_set(rows):
    return np.unpackbits(rows, axis=1).sum(axis=1, dtype=np.int64)


def planes_of(rows):
    """Bit-major, in blocks of 512; the rows are in the order of their bits set."""
    blocks = []
    for begin in range(0, len(rows), BLOCK):
        bits = np.unpackbits(rows[begin : begin + BLOCK], axis=1)
        bits = np.concatenate([bits, np.zeros((-len(bits) % GROUP, bits.shape[1]), dtype=np.uint8)])
        blocks.append(np.packbits(bits.T, axis=1, bitorder="little").tobytes())
    return b"".join(blocks)


def _ascend(rows):
    as_bytes = [row.tobytes() for row in rows]
    return all(a < b for a, b in itertools.pairwise(as_bytes))


def rings_of(rows, centroids):
    """The ring of each row: the number of its nearest centroid, the first of several, and the distance to it."""
    distances = np.array([np.unpackbits(rows ^ each, axis=1).sum(axis=1, dtype=np.int64) for each in centroids])
    nearest = distances.argmin(axis=0)
    return nearest * (8 * rows.shape[1] + 1) + distances[nearest, np.arange(len(rows))]


def _read_clusters(header, rows, clusters):
    n_bytes = rows.shape[1]
    n_rings = header.n_clusters * (8 * n_bytes + 1)
    begin = clusters[: 4 * (n_rings + 1)].view("<u4").astype(np.int64)
    centroids = clusters[4 * (n_rings + 1) :].reshape(-1, n_bytes)
    sizes = np.diff(begin)
    require(begin[0] == 0 and (sizes >= 0).all() and begin[-1] == header.n_rows, "rings")
    require(np.array_equal(np.repeat(np.arange(n_rings), sizes), rings_of(rows, centroids)), "ring of a code")
    require(all(_ascend(rows[a:b]) for a, b in itertools.pairwise(begin)), "order of the codes of a ring")
    return centroids


def _check_id_map(ids, packed):
    require(not packed[-8:].any(), "bytes after the id map")
    order = unpacked(packed[:-8], len(ids), entry_bytes(len(ids))).astype(np.int64)
    require((order < len(ids)).all() and (ids[order][1:] > ids[order][:-1]).all(), "order of the id map")


def unpacked(packed, n, width):
    """n unsigned numbers of this many bytes."""
    words = np.zeros((n, 8), dtype=np.uint8)
    words[:, :width] = packed.reshape(n, width)
    return words.view("<u8").ravel()


def _read_runs(header, runs):
    counts = np.ones(header.n_rows, dtype=np.int64)
    if header.n_runs:
        n_marks = -(-header.n_rows // 64) * 8
        marks = np.unpackbits(runs[:n_marks], bitorder="little").astype(bool)
        require(marks.sum() == header.n_runs and not marks[header.n_rows :].any(), "marks of the runs")
        extras = np.frombuffer(runs[n_marks:], dtype="<u4").astype(np.int64)
        more = np.diff(extras, prepend=0)
        require((more > 0).all() and extras[-1] == header.n_codes - header.n_rows, "counts of the runs")
        counts[marks[: header.n_rows]] += more
    return counts


def _read_ids(header, packed):
    n = header.n_codes
    if header.id_bytes == 0:
        values = np.arange(n, dtype=np.uint64)
    else:
        require(not packed[-8:].any(), "bytes after the ids")
        values = unpacked(packed[:-8], n, header.id_bytes)
    if n == 0:
        return np.zeros(0, dtype=np.int64)
    require(header.first_id + int(values.max()) < 2**63, "ids beyond int64")
    ids = (values + np.uint64(header.first_id % 2**64)).view(np.int64)
    require(len(np.unique(ids)) == n and -1 not in ids, "ids that repeat or are -1")
    require(int(ids.max()) < header.next_id or ids.max() < 0, "next_id")
    return ids


def write(contents, rings=None):
    """The one file that the engine writes for these contents, whose clusters depend on their centroids alone.

    `rings` puts each code into a ring of one's own choice: such files are wrong.
    """
    codes, ids = contents.codes, contents.ids
    n, n_bytes = len(ids), -(-sum(contents.level_bits) // 8)
    header = Header(
        kind=contents.kind,
        n_levels=len(contents.level_bits),
        memory=contents.memory,
        plan=contents.plan,
        metric=contents.metric,
        n_codes=n,
        n_rows=n,
        first_id=int(ids.min()) if n > 0 else 0,
        next_id=contents.next_id,
        padding=8 * n_bytes - sum(contents.level_bits),
    )
    runs = clusters = id_map = b""
    if contents.metric == JACCARD:
        order = np.lexsort((ids, n_set(codes)))
        codes, ids = codes[order], ids[order]
        stored = planes_of(codes)
        if n:
            clusters = np.searchsorted(n_set(codes), np.arange(8 * n_bytes + 2)).astype("<u4").tobytes()
    elif contents.kind == FLAT:
        stored = grouped(codes)
    else:
        in_clusters = n > 0 and contents.centroids is not None
        if rings is None:
            rings = rings_of(codes, contents.centroids) if in_clusters else np.zeros(n, np.int64)
        order = np.lexsort((ids, *codes.T[::-1], rings))
        codes, ids, rings = codes[order], ids[order], rings[order]
        first = np.ones(n, dtype=bool)  # of its row
        first[1:] = (codes[1:] != codes[:-1]).any(axis=1) | (rings[1:] != rings[:-1])
        stored = codes[first].tobytes()
        if in_clusters or (contents.summary is not None and contents.summary.directory_bits == 0):
            stored = grouped(codes[first])
        if in_clusters:
            header = header._replace(n_clusters=len(contents.centroids))
            n_rings = len(contents.centroids) * (8 * n_bytes + 1)
            begin = np.searchsorted(rings[first], np.arange(n_rings + 1))
            clusters = begin.astype("<u4").tobytes() + contents.centroids.tobytes()
        counts = np.diff(np.flatnonzero(first), append=n)
        header = header._replace(n_rows=len(counts), n_runs=int((counts > 1).sum()))
        if header.n_runs:
            marks = np.zeros(aligned(len(counts)), dtype=bool)
            marks[: len(counts)] = counts > 1
            runs = np.packbits(marks, bitorder="little").tobytes()
            runs += np.cumsum(counts[counts > 1] - 1).astype("<u4").tobytes()
    counted = (ids[1:] > ids[:-1]).all() and (ids[1:] == ids[:-1] + 1).all()
    if n > 0 and (not header.one_by_one or not counted):
        values = ids.view(np.uint64) - np.uint64(header.first_id % 2**64)
        header = header._replace(id_bytes=max(1, -(-int(values.max()).bit_length() // 8)))
    if contents.id_map and header.id_bytes and (ids[1:] < ids[:-1]).any():
        header = header._replace(id_map=1)
        id_map = pack(np.argsort(ids), entry_bytes(n))
    if contents.summary is not None:
        _, bits, n_tables = contents.summary
        header = header._replace(summary=1, directory_bits=bits, n_tables=n_tables)
        rows, row = codes[first], np.cumsum(first) - 1
        clusters += summary_of(header, contents.summary, rows, row, ids, len(clusters))
        stored = padded(stored) + tables_of(header, rows) if n_tables else stored
    header = header._replace(minor=header.oldest_minor)
    levels = struct.pack(f"<{header.n_levels}H", *contents.level_bits)
    return assemble(header, [levels, stored, runs, pack_ids(ids, header), clusters, id_map][: header.n_sections])


def grouped(codes):
    """Byte-major, in groups of 64."""
    n, n_bytes = codes.shape
    padded = np.concatenate([codes, np.zeros((-n % GROUP, n_bytes), dtype=np.uint8)])
    return padded.reshape(-1, GROUP, n_bytes).transpose(0, 2, 1).tobytes()


def pack(values, width):
    return np.ascontiguousarray(values, dtype="<u8").view(np.uint8).reshape(-1, 8)[:, :width].tobytes() + bytes(8)


def pack_ids(ids, header):
    if header.id_bytes == 0:
        return b""
    return pack(ids.astype(np.int64).view(np.uint64) - np.uint64(header.first_id % 2**64), header.id_bytes)
