"""Counts the instructions of the compiled GPU kernels, and compares what they allow with the targets. Needs no card.

    python benchmarks/gpu_limits.py [--write docs/gpu.md]

Compiles the kernels for sm_90 with nvcc, disassembles them with cuobjdump (of the CUDA toolkit, or of the package
triton, which torch brings), and counts the instructions of one pass through the innermost loop: the shortest way round
it, so that code that runs for near pairs alone does not count. An estimate is the largest of four times, for an H200:
to issue the instructions, to count bits, to multiply, and to read the bytes. It knows nothing of latency, of launches,
or of the selection of the nearest. The share of codes that a search over clusters compares is that of the CPU among a
million codes.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

import fasthash as fh
from gpu_bench import TARGETS
from pages import fill_page, table
from workloads import learned_like

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("scan", "cluster_search", "level_cuts")

# One H200. The clock is the one at which popcounts alone explain the measured 1.94e12 pairs of 64 bits a second.
N_PROCESSORS, CLOCK = 132, 1.84e9
ISSUED = 4 * 32  # instructions of threads that a multiprocessor starts in a clock
COUNTED = 16  # of them popcounts
BANDWIDTH = 4.2e12  # bytes a second, measured by a copy
# Products of 16 queries and 8 codes over 128 bits, a second. No data sheet has it: as if nothing else had limited the
# measured 4.43e12 pairs of 64 bits a second.
PRODUCTS = 4.43e12 / 128
BUS = 50e9  # bytes a second from pinned memory, of PCIe 5 x16 by data sheet less protocol

POPCOUNT, PRODUCT = "POPC", "BMMA"


class Loop(NamedTuple):
    """One pass of a warp through the innermost loop of a kernel."""

    kernel: str
    n_instructions: int
    n_popcounts: int
    n_products: int
    n_pairs: int  # of a query and a code, or a node

    def seconds(self, n_pairs: float) -> dict[str, float]:
        """The least time for so many pairs, by each unit."""
        n_passes = n_pairs / self.n_pairs
        clocks = n_passes / (N_PROCESSORS * CLOCK)
        return {
            "instructions": self.n_instructions * 32 / ISSUED * clocks,
            "popcounts": self.n_popcounts * 32 / COUNTED * clocks,
            "products": self.n_products * n_passes / PRODUCTS,
        }


class Instruction(NamedTuple):
    address: int
    opcode: str
    target: int | None  # of a branch
    falls_through: bool


def cuobjdump() -> str:
    found = shutil.which("cuobjdump")
    if found is None:
        triton = importlib.util.find_spec("triton")
        if triton is None or triton.origin is None:
            raise SystemExit("cuobjdump was not found: install the CUDA toolkit, or the package triton")
        found = str(Path(triton.origin).parent / "backends" / "nvidia" / "bin" / "cuobjdump")
    return found


def kernels() -> dict[str, list[Instruction]]:
    """The instructions of each kernel, by its name without punctuation."""
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        raise SystemExit("nvcc was not found")
    tool = cuobjdump()
    found: dict[str, list[Instruction]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for source in SOURCES:
            out = Path(folder) / f"{source}.cubin"
            include = [f"-I{ROOT / part}" for part in ("cpp", "cpp/src", "cpp/include")]
            code = ROOT / "cpp" / "gpu" / f"{source}.cu"
            subprocess.run([nvcc, "-std=c++17", "-O3", "-arch=sm_90", "-cubin", *include, code, "-o", out], check=True)
            text = subprocess.run([tool, "-sass", out], check=True, capture_output=True, text=True).stdout
            for part in text.split("Function : ")[1:]:
                found.setdefault(part.split()[0], instructions(part))
    return found


def instructions(text: str) -> list[Instruction]:
    found = []
    for address, predicate, words in re.findall(r"/\*([0-9a-f]{4,})\*/\s+(@!?\w+ )?\s*(\w[^;]*);", text):
        opcode, *operands = words.split()
        jumps = opcode.split(".")[0] == "BRA"
        target = int(operands[-1].strip("`()"), 16) if jumps and operands else None
        ends = opcode.split(".")[0] in ("BRA", "EXIT", "RET") and predicate == "" and opcode == opcode.split(".")[0]
        found.append(Instruction(int(address, 16), opcode, target, not ends))
    return found


def loop(listing: list[Instruction], opcode: str) -> tuple[int, int, int]:
    """Instructions, popcounts and products on the shortest way round a loop: the one with the densest work."""
    place = {each.address: i for i, each in enumerate(listing)}
    best, density = (0, 0, 0), 0.0
    for i, each in enumerate(listing):
        if each.target is None or each.target > each.address or each.target not in place:
            continue
        way = shortest(listing, place, place[each.target], i)
        if way is None:
            continue
        names = [listing[at].opcode.split(".")[0] for at in way]
        if names.count(opcode) / len(way) > density:
            best, density = (len(way), names.count(POPCOUNT), names.count(PRODUCT)), names.count(opcode) / len(way)
    return best


def shortest(listing: list[Instruction], place: dict[int, int], first: int, last: int) -> list[int] | None:
    """The fewest instructions from one place to another."""
    before: dict[int, int | None] = {first: None}
    front = [first]
    while front and last not in before:
        following = []
        for at in front:
            nexts = [at + 1] if listing[at].falls_through and at + 1 < len(listing) else []
            target = listing[at].target
            if target is not None and target in place:
                nexts.append(place[target])
            for to in nexts:
                if to not in before:
                    before[to] = at
                    following.append(to)
        front = following
    if last not in before:
        return None
    way, at = [], last
    while at is not None:
        way.append(at)
        at = before[at]  # type: ignore[assignment]
    return way[::-1]


def loops() -> dict[str, Loop]:
    wanted = {  # by a part of the mangled name: the opcode of its work, and the pairs of one pass
        "scan, popcounts, 64 bits": ("run_kernelINS0_12PopcountScanILj2", POPCOUNT),
        "scan, popcounts, 256 bits": ("run_kernelINS0_12PopcountScanILj8", POPCOUNT),
        "scan, products, 64 bits": ("run_kernelINS0_10TensorScanILj2", PRODUCT),
        "scan, products, 256 bits": ("run_kernelINS0_10TensorScanILj8", PRODUCT),
        "clusters, products, 64 bits": ("CompareTilesINS0_10TensorScanILj2", PRODUCT),
        "clusters, popcounts, 64 bits": ("CompareTilesINS0_12PopcountScanILj2", POPCOUNT),
        "nodes of a level": ("CountNodesILb1", POPCOUNT),
    }
    found = {}
    listings = kernels()
    for name, (part, opcode) in wanted.items():
        (listing,) = (each for kernel, each in listings.items() if part in kernel)
        n_instructions, n_popcounts, n_products = loop(listing, opcode)
        words = 1 if "nodes" in name else 8 if "256" in name else 2
        # A product is of 16 queries and 8 codes over 4 words; a thread counts bits for itself.
        n_pairs = n_products // ((words + 3) // 4) * 16 * 8 if opcode == PRODUCT else n_popcounts // words * 32
        found[name] = Loop(name, n_instructions, n_popcounts, n_products, n_pairs)
    return found


def share_compared(p: float) -> float:
    codes, queries = learned_like(1_000_000, 1000, p)
    index = fh.HierIndex(n_bits=64)
    index.add(codes)
    _, work = index.search(queries, 10, stats=True)
    return float(np.mean(work.codes_compared)) / len(codes)


def n_prefixes(n: int, n_bits: int, p: float) -> float:
    """The expected number of distinct prefixes of n codes around 100 centres that share none."""
    chances = [p**flips * (1 - p) ** (n_bits - flips) for flips in range(n_bits + 1)]
    return 100 * sum(
        math.comb(n_bits, i) * -math.expm1(n / 100 * math.log1p(-chance)) for i, chance in enumerate(chances)
    )


def estimates(found: dict[str, Loop]) -> list[list[str]]:
    """A row for each target: what is compared, the time of the slowest unit, and which that is."""
    share = {p: share_compared(p) for p in (0.04, 0.12)}
    few, many = 2e6, 1e8
    work: dict[str, tuple[str, float, float, str]] = {  # kernel, pairs, bytes read, and what is compared
        "flat, 1 query, 1,000,000 x 64": ("scan, popcounts, 64 bits", 1e6, 8e6, "all"),
        "flat, 1 query, 100,000,000 x 64": ("scan, popcounts, 64 bits", many, 8 * many, "all"),
        "flat, 1,024 queries, 100,000,000 x 64, k = 100": ("scan, products, 64 bits", 1024 * many, 8 * many, "all"),
        "flat, 1,024 queries, 10,000,000 x 256, k = 100": ("scan, products, 256 bits", 1024 * 1e7, 32e7, "all"),
    }
    for p in (0.04, 0.12):
        what = f"{share[p]:.2%} of the codes"
        work[f"hier, 10,000 queries, 100,000,000 x 64, p = {p}"] = (
            "clusters, products, 64 bits",
            1e4 * share[p] * many,
            8 * many,
            what,
        )
    work["hier, 1 query, 100,000,000 x 64, p = 0.04"] = (
        "clusters, popcounts, 64 bits",
        share[0.04] * many,
        8 * share[0.04] * many,
        f"{share[0.04]:.2%} of the codes",
    )
    for n in (many, few):
        nodes = n_prefixes(int(n), 24, 0.04)
        work[f"hier, 10,000 queries, {n:,.0f} x 64, p = 0.04, keep = 0.3"] = (
            "nodes of a level",
            1e4 * nodes,
            0,
            f"{nodes:,.0f} nodes of 24 bits",
        )
    rows = []
    for workload, (kernel, n_pairs, n_bytes, what) in work.items():
        times = {"bytes": n_bytes / BANDWIDTH, **found[kernel].seconds(n_pairs)}
        slowest = max(times, key=lambda unit: times[unit])
        rows.append([workload, what, TARGETS[workload], f"{times[slowest] * 1e3:.3g} ms", slowest])
    for workload, n_bytes in {
        "to(cuda), flat, 1,000,000,000 x 64": 8e9,
        "to(cuda), flat, 100,000,000 x 64": 8e8,
        "to(cuda), hier, 100,000,000 x 64, p = 0.04": 12e8,
    }.items():
        rows.append([workload, f"{n_bytes / 1e9:.1f} GB", TARGETS[workload], f"{n_bytes / BUS:.3g} s", "bus"])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, help="page whose tables are filled")
    page = parser.parse_args().write
    found = loops()
    counted = [
        [
            each.kernel,
            *(f"{32 * n / each.n_pairs:.2f}" for n in (each.n_instructions, each.n_popcounts, each.n_products)),
            f"{each.n_pairs / max(each.seconds(each.n_pairs).values()):.2e}",
        ]
        for each in found.values()
    ]
    parts = {
        "gpu counts": table(["innermost loop", "instructions", "popcounts", "products", "pairs a second"], counted),
        "gpu estimates": table(["workload", "compared", "target", "estimate", "by"], estimates(found)),
    }
    fill_page(page or Path(), parts, only_print=page is None)


if __name__ == "__main__":
    main()
