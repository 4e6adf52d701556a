"""Random buffers, and random valid files with up to three faults."""

from __future__ import annotations

import struct

import numpy as np

import file_reference as ref
from galleries import clustered, duplicated, uniform
from hostile_files.damaged_headers import hostile_values
from hostile_files.valid import FIELDS, Hostile, get, make, put, with_header_sum, with_sums


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
