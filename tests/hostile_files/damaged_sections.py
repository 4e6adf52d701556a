"""Index files with wrong codes, ids, runs or id maps, and right checksums."""

from __future__ import annotations

import itertools
import struct

import numpy as np

import file_reference as ref
from hostile_files.valid import Hostile, relaid


def wrong_codes(files):
    for name, data in files.items():
        header, (levels, codes, *others) = ref.split(data)
        if header.one_by_one or header.n_clusters or header.n_rows == 0:
            continue
        n_bytes = -(-sum(struct.unpack(f"<{header.n_levels}H", levels)) // 8)
        n = header.n_rows * n_bytes  # tables follow
        if header.scanned:
            rows = ref.read_groups(header.n_rows, n_bytes, np.frombuffer(codes, dtype=np.uint8))
        else:
            rows = np.frombuffer(codes[:n], dtype=np.uint8).reshape(header.n_rows, n_bytes)
        for what, disorder in disorders(rows):
            stored = ref.grouped(disorder) if header.scanned else disorder.tobytes() + codes[n:]
            sections = [levels, stored, *others]
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
