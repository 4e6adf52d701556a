"""Index files with bytes cut, flipped, added, or put together from other files and sections."""

from __future__ import annotations

import itertools

import numpy as np

import file_reference as ref
from hostile_files.valid import EVERY_BIT, Hostile, described_ranges, relaid, with_sums


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
