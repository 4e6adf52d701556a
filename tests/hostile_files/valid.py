"""Valid index files of each kind, fields of their header, and repairs of checksums and lengths.

Used by the modules of damage. The repairs let a damaged file reach the checks behind the checksums.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np
import xxhash

import file_reference as ref
from galleries import clustered, duplicated, uniform

LARGEST = 1 << 20
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
# Every bit of these valid files is flipped.
EVERY_BIT = ("flat", "flat, ids", "hier", "hier, shared codes", "hier, clusters", "hier, scanned")


class Hostile(NamedTuple):
    family: str
    name: str
    data: bytes
    broken: bool = False  # never acceptable, whatever the document says


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
        "hier, scanned": make(ref.HIER, (8, 16), short, rng.permutation(500)[:90], id_map=True, summary=ref.Summary(0)),
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
