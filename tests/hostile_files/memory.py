"""Memory that loading a file takes, valid or not, beyond the size of the file."""

from __future__ import annotations

import ctypes
import struct
from pathlib import Path

import numpy as np

import fasthash as fh
import file_reference as ref
from galleries import uniform
from hostile_files.valid import make, put, with_header_sum


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
