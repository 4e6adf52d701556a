"""Hostile index files by the ten thousand: each is refused, or loads and is then proven right.

What is right comes from `file_reference`, the format written down a second time: the engine has to accept just the
files that it accepts, and hold what it reads from them. `python tests/hostile.py --rounds N` offers many more.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import itertools
import json
import mmap
import os
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xxhash

import fasthash as fh
import file_reference as ref
import reference
from galleries import clustered, duplicated, uniform

MEMORY_FOLDER = Path("/dev/shm")
SECONDS_PER_FILE = 5  # of the processors
ROOM = 512 << 20  # address space beyond what the process has when it starts
PROMISED = 64 << 20  # memory beyond the size of the file
LARGEST = 1 << 20
WAYS = ("bytes", "load", "mmap")
FIELDS = {  # name: (first byte, bytes)
    "magic": (0, 8),
    "major": (8, 2),
    "minor": (10, 2),
    "size": (12, 4),
    "kind": (16, 1),
    "id_bytes": (17, 1),
    "n_levels": (18, 2),
    "memory": (20, 1),
    "plan": (21, 1),
    "n_clusters": (22, 2),
    "n_codes": (24, 8),
    "n_rows": (32, 8),
    "n_runs": (40, 8),
    "first_id": (48, 8),
    "next_id": (56, 8),
    "sum of levels": (64, 8),
    "sum of codes": (72, 8),
    "sum of runs": (80, 8),
    "sum of ids": (88, 8),
    "sum of clusters": (96, 8),
    "sum of id map": (104, 8),
    "id_map": (112, 1),
    "metric": (113, 1),
    "padding": (114, 1),
    "rest": (115, 2),
    "n_tables": (117, 1),
    "summary": (118, 1),
    "directory_bits": (119, 1),
    "sum of header": (120, 8),
}
EVERY_BIT = ("flat", "flat, ids", "hier", "hier, shared codes", "hier, clusters")  # of these valid files is flipped


class Hostile(NamedTuple):
    family: str
    name: str
    data: bytes
    broken: bool = False  # never acceptable, whatever the document says


# ---- valid files to begin with ----


def make(
    kind,
    level_bits,
    codes,
    ids=None,
    next_id=None,
    memory=0,
    plan=0,
    centroids=None,
    id_map=False,
    metric=0,
    summary=None,
):
    ids = np.arange(len(codes)) if ids is None else ids
    if next_id is None:
        next_id = max(int(ids.max(initial=-1)) + 1, 0)
    ids = ids.astype(np.int64)
    return ref.Contents(kind, level_bits, codes, ids, next_id, memory, plan, centroids, id_map, metric, summary)


def valid_files():
    """One of each kind, of some two kilobytes."""
    rng = np.random.default_rng(0)
    far = rng.integers(-(2**63), 2**63 - 1, 100)
    shared = np.concatenate([uniform(rng, 80, 8), duplicated(rng, 40, 8)])
    ordered = np.frombuffer(b"".join(sorted(map(bytes, shared))), dtype=np.uint8).reshape(-1, 8)
    contents = {
        "flat": make(ref.FLAT, (64,), uniform(rng, 150, 8)),
        "flat, ids": make(ref.FLAT, (72,), uniform(rng, 100, 9), rng.permutation(1000)[:100] - 500),
        "flat, far ids": make(ref.FLAT, (64,), uniform(rng, 70, 8), far[:70], next_id=2**63),
        "hier": make(ref.HIER, (8, 16, 40), uniform(rng, 150, 8), rng.permutation(70_000)[:150]),
        "hier, shared codes": make(ref.HIER, (8, 16, 40), shared, rng.permutation(300)[:120], memory=2),
        "hier, runs": make(ref.HIER, (64,), ordered, np.arange(120) * 3, plan=1),
        "hier, far ids": make(ref.HIER, (64,), np.concatenate([shared[-60:], uniform(rng, 40, 8)]), far, 2**63, 1, 2),
        "hier, many levels": make(ref.HIER, (8,) * 40, clustered(rng, 30, 40), next_id=1000, plan=3),
        "empty": make(ref.HIER, (8, 8), np.zeros((0, 2), np.uint8), next_id=17),
    }
    # In clusters: centroids at one distance from some codes, one of them twice, one without codes.
    short = np.concatenate([clustered(rng, 60, 3), duplicated(rng, 30, 3)])
    centroids = np.concatenate([short[[3, 40, 40]], uniform(rng, 3, 3)])
    padding = np.array([255, 255, 224], np.uint8)  # 19 bits
    contents |= {
        "hier, clusters": make(ref.HIER, (8, 16), short, rng.permutation(500)[:90], memory=1, centroids=centroids),
        "hier, clusters, id map": make(
            ref.HIER, (64,), uniform(rng, 70, 8), far[:70], 2**63, plan=4, centroids=uniform(rng, 2, 8), id_map=True
        ),
        "hier, id map": make(ref.HIER, (8, 16), short, rng.permutation(500)[:90] - 200, id_map=True),
        "hier, directory": make(
            ref.HIER, (8, 16), short, rng.permutation(500)[:90] - 600, id_map=True, summary=ref.Summary(7.5, 8)
        ),
        "hier, tables": make(ref.HIER, (32,), uniform(rng, 40, 4), far[:40], 2**63, 2, 3, summary=ref.Summary(0, 8, 2)),
        "hier, clusters, summary": make(
            ref.HIER, (8, 16), short, rng.permutation(500)[:90], centroids=centroids, summary=ref.Summary(0)
        ),
        "flat, padding": make(ref.FLAT, (19,), short & padding, rng.permutation(500)[:90]),
        "hier, padding": make(ref.HIER, (8, 11), short & padding, rng.permutation(500)[:90]),
        "hier, padding, clusters": make(
            ref.HIER, (19,), short & padding, rng.permutation(500)[:90], centroids=centroids & padding
        ),
        "flat, id map": make(ref.FLAT, (16,), uniform(rng, 100, 2), rng.permutation(100) * 10, id_map=True),
        "flat, jaccard": make(ref.FLAT, (24,), short, rng.permutation(500)[:90], metric=ref.JACCARD),
        "hier, jaccard, id map": make(
            ref.HIER, (64,), uniform(rng, 100, 8), far, 2**63, memory=2, id_map=True, metric=ref.JACCARD
        ),
    }
    return {name: ref.write(each) for name, each in contents.items()}


# ---- repairs, so that the checks behind the checksums are reached ----


def put(data, field, value):
    begin, size = FIELDS[field]
    return data[:begin] + (value % 256**size).to_bytes(size, "little") + data[begin + size :]


def get(data, field):
    begin, size = FIELDS[field]
    return int.from_bytes(data[begin : begin + size], "little")


def with_header_sum(data):
    return put(data, "sum of header", xxhash.xxh64_intdigest(data[:120]))


def described_ranges(data):
    header = ref.Header._make(ref.HEADER.unpack_from(data))
    widths = data[128 : 128 + 2 * header.n_levels]
    n_bytes = -(-sum(struct.unpack(f"<{len(widths) // 2}H", widths[: len(widths) // 2 * 2])) // 8)
    return ref.section_ranges(ref.section_sizes(header, n_bytes))


def with_sums(data):
    """All checksums right for the sections where the header says they are."""
    for i, (begin, end) in enumerate(described_ranges(data)):
        data = put(data, list(FIELDS)[15 + i], xxhash.xxh64_intdigest(data[begin:end]))
    return with_header_sum(data)


def relaid(data, sections):
    """The sections cut or filled up to what the header describes. None if that is too large."""
    ranges = described_ranges(data[:128] + sections[0])
    if ranges[-1][1] > LARGEST:
        return None
    sections = [*sections, b"", b""][: len(ranges)]
    fitted = [section[: e - b].ljust(e - b, b"\0") for section, (b, e) in zip(sections, ranges, strict=True)]
    return ref.assemble(ref.Header._make(ref.HEADER.unpack_from(data)), fitted)


# ---- families of hostile files ----


def truncations(files):
    for name, data in files.items():
        for length in range(len(data)):
            yield Hostile("truncated", f"{name} at {length}", data[:length], broken=True)


def flips(files):
    """Every bit of one file of each kind, and one bit of each byte of the others."""
    for name, data in files.items():
        for bit in range(len(data) * 8):
            if name not in EVERY_BIT and bit % 8 != bit // 8 % 8:
                continue
            flipped = bytearray(data)
            flipped[bit // 8] ^= 1 << bit % 8
            yield Hostile("flipped", f"{name} at bit {bit}", bytes(flipped), broken=True)


def repaired_flips(files):
    """A bit of each byte of the sections, of fewer bytes among the codes, with right checksums."""
    rng = np.random.default_rng(1)
    for name, data in files.items():
        header, sections = ref.split(data)
        for i, section in enumerate(sections):
            step = 1 if i != 1 else 8 if header.kind == ref.FLAT else 4
            for byte in range(0, len(section), step):
                flipped = bytearray(section)
                flipped[byte] ^= 1 << int(rng.integers(8))
                yield Hostile(
                    "flipped and repaired",
                    f"{name}, {ref.SECTIONS[i]} at {byte}",
                    ref.assemble(header, [*sections[:i], bytes(flipped), *sections[i + 1 :]]),
                )


def hostile_values(data, field):
    old, n = get(data, field), get(data, "n_codes")
    values = [0, 1, n - 1, n + 1, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1]
    values += [0x7FF8 << 48, old * 8, old - 1, old + 1]
    size = FIELDS[field][1]
    return sorted({value % 256**size for value in values} - {old})


def with_fields(family, name, data, values):
    """Some fields changed, and the checksums of the header, of everything, or everything as the header describes it."""
    sections = ref.split(data)[1]
    for field, value in values.items():
        data = put(data, field, value)
    name += ": " + ", ".join(f"{field} = {value}" for field, value in values.items())
    if "sum of header" in values:
        yield Hostile(family, name, data, broken=True)
        return
    yield Hostile(family, name, with_header_sum(data))
    yield Hostile(family, f"{name}, repaired", with_sums(data))
    if "minor" not in values:
        data = put(data, "minor", ref.Header._make(ref.HEADER.unpack_from(data)).oldest_minor)
    fitted = relaid(data, sections)
    if fitted is not None:
        yield Hostile(family, f"{name}, relaid", fitted)


def header_fields(files):
    for (name, data), field in itertools.product(files.items(), FIELDS):
        for value in hostile_values(data, field):
            yield from with_fields("header field", name, data, {field: value})


def header_pairs(files, fields=FIELDS, values=hostile_values):
    for (name, data), (a, b) in itertools.product(files.items(), itertools.combinations(fields, 2)):
        for first, second in itertools.product(values(data, a), values(data, b)):
            yield from with_fields("pair of header fields", name, data, {a: first, b: second})


def near_values(data, field):
    old, n = get(data, field), get(data, "n_codes")
    return sorted({value for value in (0, 1, old - 1, old + 1, n - 1, n, n + 1) if 0 <= value < 256} - {old})


def pairs_of_sizes(files):
    some = {name: files[name] for name in EVERY_BIT}
    return header_pairs(some, ("kind", "id_bytes", "n_codes", "n_rows", "n_runs"), near_values)


def buffers(rng, n):
    """Random bytes behind a magic, a version, or a header that is right in itself."""
    for i in range(n):
        size = int(2 ** rng.uniform(0, 20))
        body = rng.bytes(size)
        if i % 4 == 0:
            data = b"FASTHASH" + body
        elif i % 4 == 1:
            data = with_header_sum((b"FASTHASH\1\0\0\0\x80\0\0\0" + body).ljust(128, b"\0"))
        else:
            kind = int(rng.integers(1, 3))
            n_codes = int(rng.integers(0, 1 + size // 16))
            n_rows = n_codes if kind == ref.FLAT or i % 4 == 2 else int(rng.integers(0, n_codes + 1))
            header = ref.Header(
                kind=kind,
                id_bytes=int(rng.integers(0, 9)),
                n_codes=n_codes,
                n_rows=n_rows,
                n_runs=0 if n_rows == n_codes else int(rng.integers(0, n_codes - n_rows + 1)),
                first_id=int(rng.integers(-(2**62), 2**62)) if n_codes else 0,
                next_id=2**63,
            )
            n_bytes = int(rng.integers(1, 5))
            sizes = ref.section_sizes(header, n_bytes)[1:]
            body = (body * (1 + sum(sizes) // len(body)))[: sum(sizes)]
            sections = [body[: sizes[0]], body[sizes[0] : sizes[0] + sizes[1]], body[len(body) - sizes[2] :]]
            if header.id_bytes:
                sections[2] = sections[2][:-8] + bytes(8)
            data = ref.assemble(header, [struct.pack("<H", n_bytes * 8), *sections])
        yield Hostile("random buffer", f"number {i}", data, broken=i % 4 < 2)


def splices(files):
    for (a, first), (b, second) in itertools.permutations(files.items(), 2):
        for at in range(64, min(len(first), len(second)), 64):
            data = first[:at] + second[at:]
            yield Hostile("spliced", f"{a} and {b} at {at}", data)
            yield Hostile("spliced", f"{a} and {b} at {at}, repaired", with_sums(data))


def swapped_sections(files):
    for name, data in files.items():
        header, sections = ref.split(data)
        for order in other_orders(len(sections)):
            swapped = [sections[i] for i in order]
            yield Hostile("sections swapped", f"{name} as {order}", ref.assemble(header, swapped))
            fitted = relaid(data, swapped)
            if fitted is not None:
                yield Hostile("sections swapped", f"{name} as {order}, relaid", fitted)
        for other, donor in files.items():
            for i, section in enumerate(ref.split(donor)[1][: len(sections)]):
                mixed = [*sections[:i], section, *sections[i + 1 :]]
                label = f"{name} with {ref.SECTIONS[i]} of {other}"
                yield Hostile("sections swapped", label, ref.assemble(header, mixed))
                fitted = relaid(data, mixed)
                if fitted is not None:
                    yield Hostile("sections swapped", f"{label}, relaid", fitted)


def other_orders(n):
    """All orders of four; of more, the exchanges of two."""
    if n <= 4:
        return list(itertools.permutations(range(n)))[1:]
    orders = [list(range(n)) for _ in itertools.combinations(range(n), 2)]
    for order, (a, b) in zip(orders, itertools.combinations(range(n), 2), strict=True):
        order[a], order[b] = b, a
    return orders


def wrong_lengths(files):
    for name, data in files.items():
        for n in range(1, 65):
            for more in (bytes(n), b"\1" * n):
                yield Hostile("wrong length", f"{name} and {n} bytes more", data + more, broken=True)
        for at in range(64, len(data), 64):
            block = data[at : at + 64]
            for instead in (b"", bytes(64) + block, block + block):
                changed = data[:at] + instead + data[at + 64 :]
                yield Hostile("wrong length", f"{name} changed at {at}", with_sums(changed))


def paddings(files):
    """Each byte that has to be zero."""
    for name, data in files.items():
        ranges = described_ranges(data)
        header = ref.split(data)[0]
        zeros = [*(range(96, 112) if header.n_sections == 4 else ()), *range(114, 117 if header.summary else 120)]
        for (_, end), (begin, _) in itertools.pairwise(ranges):
            zeros += range(end, begin)
        if header.metric == ref.JACCARD:
            zeros += padding_of_planes(header.n_rows, *ranges[1])
        elif (header.kind == ref.FLAT or header.n_clusters) and header.n_rows % 64:
            begin, end = ranges[1]
            last = np.arange(begin, end)[-64 * (end - begin) // ref.aligned(header.n_rows) :]
            zeros += last.reshape(-1, 64)[:, header.n_rows % 64 :].ravel().tolist()
        if header.id_bytes:
            zeros += range(ranges[3][1] - 8, ranges[3][1])
        if header.id_map:
            zeros += range(len(data) - 8, len(data))
        for at, value in itertools.product(zeros, (1, 0x80)):
            changed = data[:at] + bytes([value]) + data[at + 1 :]
            yield Hostile("padding not zero", f"{name} at {at}", with_sums(changed), broken=True)


def padding_of_planes(n, begin, end):
    """The bytes after the last code, of planes of less than 512 codes: whole bytes alone."""
    bytes_of_plane = ref.aligned(n) // 8
    return [plane + i for plane in range(begin, end, bytes_of_plane) for i in range(-(-n // 8), bytes_of_plane)]


def wrong_codes(files):
    for name, data in files.items():
        header, (levels, codes, *others) = ref.split(data)
        if header.one_by_one or header.n_clusters or header.n_rows == 0:
            continue
        n = header.n_rows * -(-sum(struct.unpack(f"<{header.n_levels}H", levels)) // 8)  # tables follow
        rows = np.frombuffer(codes[:n], dtype=np.uint8).reshape(header.n_rows, -1)
        for what, disorder in disorders(rows):
            sections = [levels, disorder.tobytes() + codes[n:], *others]
            yield Hostile("codes out of order", f"{name}, {what}", ref.assemble(header, sections))


def disorders(rows):
    yield "backwards", rows[::-1]
    for row in range(len(rows) - 1):
        order = np.arange(len(rows))
        order[[row, row + 1]] = row + 1, row
        yield f"rows {row} and {row + 1} swapped", rows[order]
        order[[row, row + 1]] = row
        yield f"row {row} twice", rows[order]
    for row, value in itertools.product(range(len(rows)), (0, 255)):
        extreme = rows.copy()
        extreme[row] = value
        yield f"row {row} all {value}", extreme


def wrong_ids(files):
    rng = np.random.default_rng(2)
    for name, data in files.items():
        header, sections = ref.split(data)
        if header.n_codes == 0:
            continue
        for what, ids, fields in id_faults(rng, header, ref.read(data).ids):
            changed = header._replace(**fields)
            sections[3] = ref.pack_ids(ids, changed)
            yield Hostile("wrong ids", f"{name}, {what}", ref.assemble(changed, sections))


def id_faults(rng, header, ids):
    """(name, ids, fields of the header)"""
    n, old = len(ids), header.first_id
    for width, first in itertools.product(range(9), {0, 1, -1, old, max(old - 1, -(2**63)), -(2**63)}):
        yield f"{width} bytes from {first}", ids, {"id_bytes": width, "first_id": first}
    for first in (2**63 - 1, 2**63 - n, 2**63 - n - 1, -n, 1 - n, -1, -2, -(2**63)):
        moved = (ids.view(np.uint64) + np.uint64((first - old) % 2**64)).view(np.int64)
        yield f"all from {first} on", moved, {"first_id": first}
    top = int(ids.max())
    for following in (0, 1, top - 1, top, top + 1, top + 2, 2**63 - 1, 2**63, 2**63 + 1, 2**64 - 1):
        if following >= 0:
            yield f"next_id {following}", ids, {"next_id": following}
    if header.id_bytes == 0:
        return
    for order in (ids[::-1], np.sort(ids), rng.permutation(ids), np.full(n, ids[0]), np.roll(ids, 1)):
        yield "in another order", order, {}
    for item in range(n):
        other = int(rng.integers(n - 1))
        twice = ids.copy()
        twice[item] = ids[other + (other >= item)]
        yield f"item {item} has another's", twice, {}
        if item > 0:
            swapped = ids.copy()
            swapped[[item - 1, item]] = ids[[item, item - 1]]
            yield f"items {item - 1} and {item} swapped", swapped, {}
        none = ids.copy()
        none[item] = -1
        yield f"item {item} has none", none, {}
        yield f"item {item} has none of 8 bytes", none, {"id_bytes": 8, "first_id": min(-1, old)}


def wrong_runs(files):
    rng = np.random.default_rng(3)
    for name, data in files.items():
        header, (levels, codes, runs, *others) = ref.split(data)
        if header.n_runs == 0:
            continue
        n_marks = len(runs) - 4 * header.n_runs
        marks = np.unpackbits(np.frombuffer(runs[:n_marks], dtype=np.uint8), bitorder="little")
        counts = np.frombuffer(runs[n_marks:], dtype="<u4").astype(np.int64)
        for what, some_marks, some_counts in run_faults(rng, marks, counts):
            runs = np.packbits(some_marks, bitorder="little").tobytes() + (some_counts % 2**32).astype("<u4").tobytes()
            yield Hostile("wrong runs", f"{name}, {what}", ref.assemble(header, [levels, codes, runs, *others]))


def run_faults(rng, marks, counts):
    """(name, marks, counts)"""
    for bit in range(len(marks)):
        flipped = marks.copy()
        flipped[bit] ^= 1
        yield f"mark {bit}", flipped, counts
        moved = flipped.copy()  # as many as before
        moved[rng.choice(np.flatnonzero(marks == flipped[bit]))] ^= 1
        yield f"mark {bit} moved", moved, counts
    yield "marks at the end", np.sort(marks), counts
    yield "marks at the begin", np.sort(marks)[::-1], counts
    for order in itertools.islice(itertools.permutations(range(len(counts))), 1, 24):
        yield f"counts as {order}", marks, counts[list(order)]
    last = int(counts[-1])
    for i, value in itertools.product(range(len(counts)), (0, 1, last - 1, last, last + 1, 2**31, 2**32 - 1)):
        changed = counts.copy()
        changed[i] = value
        yield f"count {i} is {value}", marks, changed
    for i, more in itertools.product(range(len(counts)), (-2, -1, 1, 2)):
        changed = counts.copy()
        changed[i] += more
        yield f"count {i} is {more} more", marks, changed
    for more in (-1, 1, 2**31, 2**32 - 1 - last):
        yield f"counts {more} more", marks, counts + more


def wrong_clusters(files):
    for name, data in files.items():
        header, sections = ref.split(data)
        if not header.n_clusters:
            continue
        contents = ref.read(data)
        for what, rings in ring_faults(contents):
            yield Hostile("wrong clusters", f"{name}, {what}", ref.write(contents, rings))
        n_begins = header.n_clusters * (8 * contents.codes.shape[1] + 1) + 1
        begins = np.frombuffer(sections[4][: 4 * n_begins], dtype="<u4").astype(np.int64)
        rows = np.frombuffer(sections[1], dtype=np.uint8)
        for what, some_begins, centroids in cluster_faults(contents, begins):
            changed = header._replace(n_clusters=len(centroids), summary=0, minor=2)
            clusters = (some_begins % 2**32).astype("<u4").tobytes() + centroids.tobytes()
            yield Hostile(
                "wrong clusters",
                f"{name}, {what}",
                ref.assemble(changed, [sections[0], rows.tobytes(), *sections[2:4], clusters, sections[5]]),
            )
        for row in range(header.n_rows - 1):
            swapped = rows.reshape(-1, contents.codes.shape[1], 64).transpose(0, 2, 1).copy()
            flat = swapped.reshape(-1, contents.codes.shape[1])
            flat[[row, row + 1]] = flat[[row + 1, row]]
            stored = swapped.transpose(0, 2, 1).tobytes()
            yield Hostile(
                "wrong clusters",
                f"{name}, rows {row} and {row + 1} swapped",
                ref.assemble(header, [sections[0], stored, *sections[2:]]),
            )


def ring_faults(contents):
    """(name, ring of each code): a code in another cluster, at another distance, in two rings."""
    codes, centroids = contents.codes, contents.centroids
    n_rings = 8 * codes.shape[1] + 1
    right = ref.rings_of(codes, centroids)
    _, same_code = np.unique(codes, axis=0, return_inverse=True)
    for i in range(0, len(codes), 3):
        alike = same_code.ravel() == same_code.ravel()[i]
        for c, centroid in enumerate(centroids):
            rings = right.copy()
            rings[alike] = c * n_rings + int(np.unpackbits(codes[i] ^ centroid).sum())
            yield f"code {i} in cluster {c}", rings
        for distance in (int(right[i] % n_rings) - 1, int(right[i] % n_rings) + 1, 0, n_rings - 1):
            rings = right.copy()
            rings[alike] = right[i] // n_rings * n_rings + min(max(distance, 0), n_rings - 1)
            yield f"code {i} at distance {distance}", rings
        if alike.sum() > 1:
            rings = right.copy()
            rings[i] = (right[i] + n_rings) % (n_rings * len(centroids))
            yield f"code {i} in two rings", rings


def cluster_faults(contents, begins):
    """(name, begins of the rings, centroids)"""
    centroids, n = contents.centroids, int(begins[-1])
    n_rings = 8 * centroids.shape[1] + 1
    for i, value in itertools.product(range(len(begins)), (0, n, n + 1, 2**31, 2**32 - 1)):
        changed = begins.copy()
        changed[i] = value
        yield f"ring {i} begins at {value}", changed, centroids
    for i, more in itertools.product(range(len(begins)), (-1, 1)):
        changed = begins.copy()
        changed[i] += more
        yield f"ring {i} begins {more} later", changed, centroids
    yield "rings backwards", begins[::-1], centroids
    for value in (0, n):
        yield f"all rings begin at {value}", np.full(len(begins), value), centroids
    for a, b in itertools.permutations(range(len(centroids)), 2):
        order = np.arange(len(centroids))
        order[a] = b
        yield f"centroid {a} is centroid {b}", begins, centroids[order]
        order[b] = a
        yield f"centroids {a} and {b} swapped", begins, centroids[order]
    for c, bit in itertools.product(range(len(centroids)), range(8 * centroids.shape[1])):
        changed = centroids.copy()
        changed[c, bit // 8] ^= 1 << bit % 8
        yield f"bit {bit} of centroid {c}", begins, changed
    for extra in (0, 255):  # valid where every code is nearer to another centroid
        more = np.concatenate([centroids, np.full((1, centroids.shape[1]), extra, np.uint8)])
        yield f"one more centroid of {extra}", np.concatenate([begins, np.full(n_rings, n)]), more
    yield (
        "one more centroid, twice",
        np.concatenate([begins, np.full(n_rings, n)]),
        centroids[[*range(len(centroids)), 0]],
    )
    yield "one centroid less", begins[:-n_rings], centroids[:-1]
    yield "no rings of the last centroid", begins[:-n_rings], centroids


def wrong_id_maps(files):
    rng = np.random.default_rng(9)
    for name, data in files.items():
        header, sections = ref.split(data)
        if header.id_bytes == 0:
            continue
        contents = ref.read(data)
        right, width = np.argsort(contents.ids), ref.entry_bytes(len(contents.ids))
        sections = [*sections, b"", b""][:6]
        for what, order in map_faults(rng, right, 256**width):
            changed = header._replace(id_map=1, minor=max(2, header.minor))
            yield Hostile(
                "wrong id map", f"{name}, {what}", ref.assemble(changed, [*sections[:5], ref.pack(order, width)])
            )
        without = header._replace(id_map=0)
        without = without._replace(minor=without.oldest_minor)
        yield Hostile("wrong id map", f"{name}, none", relaid(ref.HEADER.pack(*without), sections))


def map_faults(rng, right, n_values):
    """(name, entries by id)"""
    n = len(right)
    yield "right", right
    yield "backwards", right[::-1]
    yield "by entry", np.arange(n)
    for i in range(n - 1):
        swapped = right.copy()
        swapped[[i, i + 1]] = right[[i + 1, i]]
        yield f"{i} and {i + 1} swapped", swapped
    for i, value in itertools.product(range(0, n, 4), (0, n - 1, n, n_values - 1, int(rng.integers(n)))):
        changed = right.copy()
        changed[i] = value
        yield f"{i} is {value}", changed


def random_files(rng, n):
    """Valid files of every kind, with nothing to three faults in each."""
    for i in range(n):
        level_bits = tuple(8 * rng.integers(1, 5, rng.integers(1, 5)))
        if rng.random() < 0.1:
            level_bits = (8 * int(rng.integers(1, 100)),)
        kind = ref.FLAT if len(level_bits) == 1 and rng.random() < 0.7 else ref.HIER
        n_codes = int(rng.choice([0, 1, 2, 63, 64, 65, 127, 128, 129, rng.integers(200)]))
        n_bytes = sum(level_bits) // 8
        codes = (uniform, clustered, duplicated)[int(rng.integers(3))](rng, n_codes, n_bytes)
        span = int(2 ** rng.uniform(np.log2(n_codes + 2), 63))
        first = int(rng.integers(-(2**63), 2**63 - span)) if rng.random() < 0.3 else int(rng.integers(-300, 300))
        values = rng.choice(span, n_codes, replace=False) if span < 10_000 else rng.integers(0, span, n_codes)
        ids = np.arange(n_codes) if rng.random() < 0.3 else values + min(first, 2**63 - 1 - span)
        next_id = max(int(ids.max(initial=-1)) + 1, 0) + int(rng.integers(0, 3)) if rng.random() < 0.9 else 2**63
        settings = (0, 0) if kind == ref.FLAT else (int(rng.integers(3)), int(rng.integers(5)))
        metric = ref.JACCARD if len(level_bits) == 1 and settings[1] == 0 and rng.random() < 0.3 else ref.HAMMING
        centroids = None
        if (
            metric == ref.HAMMING
            and kind == ref.HIER
            and settings[1] in (0, 4)
            and n_codes > 0
            and n_bytes < 20
            and rng.random() < 0.6
        ):
            n_distinct = len(np.unique(codes, axis=0))
            centroids = codes[rng.integers(0, n_codes, rng.integers(1, min(n_distinct, 6) + 1))]
            centroids[0] ^= 1
        bits = tuple(int(bits) for bits in level_bits)
        id_map = bool(rng.random() < 0.3)
        data = ref.write(make(kind, bits, codes, ids, next_id, *settings, centroids, id_map, metric))
        for _ in range(int(rng.integers(4))):
            data = tampered(rng, data)
        yield Hostile("random file", f"number {i}", data)


def tampered(rng, data):
    """One more fault, with right checksums."""
    fault = rng.integers(5)
    if fault == 0:
        field = [*list(FIELDS)[4:15], "id_map"][int(rng.integers(12))]
        return with_sums(put(data, field, int(rng.choice(hostile_values(data, field)).item())))
    if fault == 1:
        field = list(FIELDS)[int(rng.integers(9, 15))]
        return with_sums(put(data, field, get(data, field) + int(rng.integers(-8, 9))))
    if len(data) <= 128:
        return data
    changed = bytearray(data)
    at = int(rng.integers(128, len(data)))
    if fault == 2:
        changed[at] ^= 1 << int(rng.integers(8))
    elif fault == 3:
        changed[at] = int(rng.choice([0, 1, 255]))
    else:
        other = int(rng.integers(128, len(data)))
        changed[at], changed[other] = changed[other], changed[at]
    return with_sums(bytes(changed))


FAMILIES = (
    header_fields,
    pairs_of_sizes,
    splices,
    swapped_sections,
    wrong_lengths,
    paddings,
    wrong_codes,
    wrong_ids,
    wrong_runs,
    wrong_clusters,
    wrong_id_maps,
)


# ---- what is accepted is proven right ----


def require_equal(got, expected, what):
    if got is None or expected is None:
        require(got is expected, what)
        return
    if got.shape != expected.shape or got.dtype != expected.dtype or not np.array_equal(got, expected):
        raise AssertionError(f"wrong {what}")


def require(condition, what):
    if not condition:
        raise AssertionError(f"wrong {what}")


class Proof:
    """Everything that an index of these contents has to answer."""

    def __init__(self, contents):
        self.contents = contents
        self.jaccard = contents.metric == ref.JACCARD
        self.codes, self.ids = contents.by_id()
        n_bytes = self.codes.shape[1]
        rng = np.random.default_rng(len(self.ids))
        self.queries = np.concatenate([self.codes[len(self.ids) // 2 :][:1] ^ np.uint8(1), uniform(rng, 2, n_bytes)])
        n_bits = sum(contents.level_bits)
        self.queries[:, -1] &= np.uint8(256 - 2 ** (-n_bits % 8))  # padding is zero
        self.k = len(self.ids) + 2
        search = reference.jaccard_search if self.jaccard else reference.search
        self.distances, self.found = search(self.queries, self.codes, self.ids, self.k)
        if not self.jaccard:
            self.distances[self.found == -1] = n_bits + 1
        gone = rng.random(len(self.ids)) < 0.3
        self.removed = self.ids[gone]
        left = ~np.isin(contents.ids, self.removed)
        self.kept = replace(contents, id_map=False, summary=None)  # as `save` writes it unasked
        self.rest = replace(self.kept, codes=contents.codes[left], ids=contents.ids[left], centroids=None)

    def check(self, index):
        contents = self.contents
        require(type(index) is (fh.FlatIndex if contents.kind == ref.FLAT else fh.HierIndex), "kind")
        require(index.level_bits == contents.level_bits, "levels")
        require(index.metric == ("jaccard" if self.jaccard else "hamming"), "metric")
        if contents.kind == ref.HIER:
            require(index.memory == ref.MEMORIES[contents.memory], "memory")
        codes, ids = index.to_arrays()
        require_equal(codes, self.codes, "codes")
        require_equal(ids, self.ids, "ids")
        saved = ref.read(index.to_bytes())
        if contents.centroids is not None or contents.plan != ref.PLANS.index("clusters"):
            require_equal(saved.centroids, contents.centroids, "centroids")  # else they were made by loading
        require(index.to_bytes() == ref.write(replace(self.kept, centroids=saved.centroids)), "bytes")
        self.check_searches(index)

    def check_saving(self, index, path):
        """To a path, or to bytes in memory if it is None."""
        data = index.to_bytes()
        if path is not None:
            index.save(path)
            index.save(path, id_map=True)
            require(path.read_bytes() == ref.write(replace(ref.read(data), id_map=True)), "file saved with its map")
            index.save(path)
            require(path.read_bytes() == data, "saved file")
        reloaded = type(index).from_bytes(data) if path is None else fh.load(path)
        require_equal(reloaded.search(self.queries, self.k).ids, index.search(self.queries, self.k).ids, "reload")

    def check_searches(self, index):
        for k in (2, self.k):
            result = index.search(self.queries, k)
            require_equal(result.distances, self.distances[:, :k], f"distances of the {k} nearest")
            require_equal(result.ids, self.found[:, :k], f"ids of the {k} nearest")
        radius = 0.75 if self.jaccard else index.n_bits // 2  # exact in float32
        near = self.distances <= radius
        result = index.range_search(self.queries, radius)
        require_equal(np.diff(result.offsets), near.sum(axis=1), "offsets within a radius")
        require_equal(result.distances, self.distances[near], "distances within a radius")
        require_equal(result.ids, self.found[near], "ids within a radius")
        require_equal(index.count_within(self.queries, radius), near.sum(axis=1), "numbers within a radius")

    def check_pruned(self, index):
        if self.jaccard:
            return
        expected = reference.pruned_search(self.queries, self.codes, self.ids, 3, index.level_bits, 0.3, "node_ratio")
        result = index.search(self.queries, 3, keep=0.3)
        require_equal(result.distances, expected[0], "distances of the pruned search")
        require_equal(result.ids, expected[1], "ids of the pruned search")

    def check_changes(self, index):
        require_equal(index.reconstruct(self.ids[::-1]), self.codes[::-1], "reconstructed codes")
        index.remove(self.removed)
        left = ~np.isin(self.found, self.removed) & (self.found != -1)
        result = index.search(self.queries, max(1, len(self.rest.ids)))
        for q, row in enumerate(left):
            n = int(row.sum())
            require_equal(result.ids[q, :n], self.found[q][row], "ids after removing")
            require_equal(result.distances[q, :n], self.distances[q][row], "distances after removing")
        rest = ref.read(index.to_bytes())
        for got, expected in zip(rest.by_id(), self.rest.by_id(), strict=True):
            require_equal(got, expected, "contents after removing")
        require(index.to_bytes() == ref.write(replace(self.rest, centroids=rest.centroids)), "bytes after removing")
        code = self.queries[:1]
        if self.contents.next_id < 2**63:
            index.add(code)
            require(self.contents.next_id in index, "next id")
            require(index.search(code, 1).distances[0, 0] == 0, "distance of what was added")
        else:
            try:
                index.add(code)
            except ValueError:
                require(len(index) == len(self.rest.ids), "number of codes after a refused call")
            else:
                raise AssertionError("an id was counted where there is none")


class Trial:
    """Offers files to the engine and counts what comes of it."""

    def __init__(self, folder, keep=None):
        self.folder = folder
        self.keep = keep
        self.save_every = 1 if folder.is_relative_to(MEMORY_FOLDER) else 16  # a disk takes milliseconds for each
        self.files = Counter()
        self.accepted = Counter()
        self.ways = Counter()
        self.proofs = 0
        self.failures = []
        self.n_files = 0
        self.largest = 0
        # What is on offer stands here when the process dies of it.
        with open(folder / "last", "wb") as file:
            file.truncate(LARGEST + 4096)
        with open(folder / "last", "r+b") as file:
            self.last = mmap.mmap(file.fileno(), 0)

    def offer(self, hostile, ways=WAYS):
        self.last.seek(0)
        self.last.write(f"{hostile.family}: {hostile.name}\n{len(hostile.data)}\n".encode() + hostile.data)
        self.files[hostile.family] += 1
        self.n_files += 1
        fh.set_num_threads(2 if self.n_files % 8 == 0 else 1)  # threads that wait for each other take time
        self.largest = max(self.largest, len(hostile.data))
        signal.setitimer(signal.ITIMER_PROF, SECONDS_PER_FILE)
        try:
            proof, fault = None, "it is broken"
            if not hostile.broken:
                try:
                    proof = Proof(ref.read(hostile.data))
                except ref.RefusedError as refused:
                    fault = str(refused)
            self.accepted[hostile.family] += proof is not None
            for i, way in enumerate(ways):
                self.ways[way] += 1
                index = self.load(hostile, way, proof, fault)
                if index is not None:
                    proof.check(index)
                    if i == self.n_files % len(ways):
                        self.prove_changes(proof, index)
            if "load" in ways:
                self.verify(hostile, proof is not None)
        except Exception as error:
            self.fail(hostile, "".join(traceback.format_exception_only(error)).strip())
        signal.setitimer(signal.ITIMER_PROF, 0)

    def load(self, hostile, way, proof, fault):
        path = self.folder / "hostile.fh"
        try:
            if way == "bytes":
                cls = fh.FlatIndex if hostile.data[16:17] == b"\1" else fh.HierIndex
                index = cls.from_bytes(hostile.data)
            else:
                path.unlink(missing_ok=True)  # what is mapped must not be overwritten
                path.write_bytes(hostile.data)
                index = fh.load(path, mmap=way == "mmap")
        except fh.FormatError as error:
            require(proof is None, f"refusal by {way}: {error}")
            require(way == "bytes" or str(error).startswith(f"{path}: "), f"message by {way}: {error}")
            return None
        require(proof is not None, f"acceptance by {way} where the document says: {fault}")
        return index

    def prove_changes(self, proof, index):
        self.proofs += 1
        if len(index.level_bits) > 1 and self.proofs % 64 == 0:  # its slow path is very slow
            proof.check_pruned(index)
        proof.check_changes(index)
        proof.check_saving(index, self.folder / "saved.fh" if self.proofs % self.save_every == 0 else None)

    def verify(self, hostile, valid):
        path = self.folder / "hostile.fh"
        try:
            report = fh.verify(path)
        except fh.FormatError:
            require(not valid, "refusal by verify")
        else:
            require((report.fault == "") == valid, f"verdict of verify: {report.fault or 'no fault'}")
            require(all(section.intact for section in report.sections) or not valid, "section of verify")
        try:
            info = fh.peek(path)
        except fh.FormatError:
            require(not valid, "refusal by peek")
        else:
            require(info.file_bytes == len(hostile.data), "length by peek")

    def fail(self, hostile, fault):
        self.failures.append(f"{hostile.family}: {hostile.name}: {fault}")
        if self.keep is not None:
            self.keep.mkdir(parents=True, exist_ok=True)
            (self.keep / f"{len(self.failures)}.fh").write_bytes(hostile.data)


# ---- a run ----


def status(name):
    """A line of /proc/self/status in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))


class MemoryWatch:
    """How far the memory of this process rises above what it has now; None where the system does not say."""

    def __init__(self):
        try:
            ctypes.CDLL(None).malloc_trim(0)  # what was freed must not hide what is used
            Path("/proc/self/clear_refs").write_text("5")  # the highest so far is forgotten
            self.before = status("VmRSS")
        except (AttributeError, OSError):
            self.before = None

    def growth(self):
        return None if self.before is None else status("VmHWM") - self.before


def large_files():
    """(name, file, whether it is valid), of some 80 MB each."""
    rng = np.random.default_rng(8)
    yield "flat", (flat := ref.write(make(ref.FLAT, (128,), uniform(rng, 5_000_000, 16)))), True
    yield "flat, broken", flat[:-1000] + bytes([flat[-1000] ^ 1]) + flat[-999:], False
    yield "flat, more codes", with_header_sum(put(put(flat, "n_codes", 2**32 - 1), "n_rows", 2**32 - 1)), False
    del flat
    codes = uniform(rng, 4_500_000, 8)
    n = len(codes)
    codes[:, :4] = np.arange(n, dtype=">u4").view(np.uint8).reshape(-1, 4)  # in order
    header = ref.Header(kind=ref.HIER, n_codes=n, n_rows=n, next_id=2**63, id_bytes=8)
    ids = rng.integers(0, 2**63 - 1, n)
    sections = [struct.pack("<H", 64), codes.tobytes(), b""]
    yield "hier, far ids", ref.assemble(header, [*sections, ref.pack_ids(ids, header)]), True
    ids[-1] = ids[0]
    yield "hier, an id twice", ref.assemble(header, [*sections, ref.pack_ids(ids, header)]), False


def memory_of_large_files(folder):
    """Memory that loading takes, beside the size of the file."""
    report = []
    path = folder / "large.fh"
    for name, data, valid in large_files():
        path.unlink(missing_ok=True)
        path.write_bytes(data)
        size = len(data)
        del data
        for mapped in (False, True):
            watch = MemoryWatch()
            try:
                index = fh.load(path, mmap=mapped)
            except fh.FormatError:
                index = None
            growth, right = watch.growth(), (index is not None) == valid
            report.append({"name": name, "size": size, "growth": growth, "right": right})
            del index
    path.unlink()
    return report


def run(folder, rounds=0, keep=None):
    """All that the test suite offers; then so many rounds of random files, and with the first all pairs of fields."""
    trial = Trial(folder, keep)
    files = valid_files()
    for name, data in files.items():
        trial.offer(Hostile("untouched", name, data))
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (status("VmSize") + ROOM, resource.RLIM_INFINITY))
    watch = MemoryWatch()

    def offer_by_turns(hostiles):
        for i, hostile in enumerate(hostiles):
            trial.offer(hostile, (WAYS[i % 3],))

    for i, hostile in enumerate(truncations(files)):
        trial.offer(hostile, ("bytes", WAYS[1 + i % 2]) if i % 3 == 0 else ("bytes",))
    for i, hostile in enumerate(flips(files)):
        by_file = i % 8 == i // 8 % 8  # one bit of each byte
        trial.offer(hostile, (WAYS[1 + i // 8 % 2] if by_file else "bytes",))
    for family in FAMILIES:
        for i, hostile in enumerate(family(files)):
            trial.offer(hostile, ("bytes", WAYS[1 + i % 2]))
    offer_by_turns(repaired_flips(files))
    offer_by_turns(buffers(np.random.default_rng(4), 1000))
    offer_by_turns(random_files(np.random.default_rng(5), 3000))
    if rounds > 0:
        offer_by_turns(header_pairs({name: files[name] for name in ("flat, ids", "hier, shared codes")}))
    for seed in range(rounds):
        offer_by_turns(buffers(np.random.default_rng([6, seed]), 20_000))
        offer_by_turns(random_files(np.random.default_rng([7, seed]), 50_000))

    return {
        "files": dict(trial.files),
        "accepted": dict(trial.accepted),
        "ways": dict(trial.ways),
        "proofs": trial.proofs,
        "failures": trial.failures,
        "largest": trial.largest,
        "growth": watch.growth(),
    }


@contextlib.contextmanager
def work_folder():
    in_memory = os.access(MEMORY_FOLDER, os.W_OK)
    with tempfile.TemporaryDirectory(prefix="hostile-", dir=MEMORY_FOLDER if in_memory else None) as folder:
        yield Path(folder)


def main():
    parser = argparse.ArgumentParser(description="Offer hostile files to the engine.")
    parser.add_argument("--rounds", type=int, default=0, help="how often to offer 70,000 random files more")
    parser.add_argument("--keep", type=Path, help="folder for the files that the engine treats wrongly")
    parser.add_argument("--folder", type=Path, help="where to work; memory is much faster than a disk")
    parser.add_argument("--large", action="store_true", help="measure the memory that large files take instead")
    args = parser.parse_args()
    begin = time.monotonic()
    with contextlib.nullcontext(args.folder) if args.folder else work_folder() as folder:
        report = {"large": memory_of_large_files(folder)} if args.large else run(folder, args.rounds, args.keep)
    print(json.dumps(report | {"seconds": round(time.monotonic() - begin, 1)}, indent=1))
    return 1 if report.get("failures") else 0


if __name__ == "__main__":
    sys.exit(main())
