"""Index files with changed fields of the header."""

from __future__ import annotations

import itertools

import file_reference as ref
from hostile_files.valid import EVERY_BIT, FIELDS, Hostile, get, put, relaid, with_header_sum, with_sums


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
