"""Measures an index on a GPU; prints each row of a table as soon as it is measured.

    python benchmarks/gpu_bench.py [--quick | --tiny] [--seconds S] [--compare] [--json FILE]

Codes are made on the card: uniform, or around 100 centres with every bit flipped with probability p. Queries and
results are on the card. Results are compared with those of the CPU index. The whole run needs some 30 GB of the card's
memory and of the machine's. --quick takes a hundredth of the codes and is meant to end within 60 seconds; --tiny takes
2,000 codes, for compute-sanitizer and the emulator. --seconds: no group of rows begins later. A group that fails is a
row of the table; the others run, and the exit status is 1. --compare: also PyTorch's
way, products of +-1 with topk. FASTHASH_GPU_EMULATOR names the emulator's module, which then plays the card.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import fasthash as fh
from fasthash import _gpu_copy
from workloads import cpu_name, learned_like

REPEATS = 5
TARGETS = {  # by workload; one H100 or H200
    "to(cuda), flat, 1,000,000,000 x 64": "3 s",
    "to(cuda), flat, 100,000,000 x 64": "0.4 s",
    "to(cuda), hier, 100,000,000 x 64, p = 0.04": "1.5 s",
    "flat, 1 query, 1,000,000 x 64": "0.04 ms",
    "flat, 1 query, 100,000,000 x 64": "0.23 ms",
    "flat, 1,024 queries, 100,000,000 x 64, k = 100": "17 ms (6e12 distances/s)",
    "flat, 1,024 queries, 10,000,000 x 256, k = 100": "5.1 ms (2e12 distances/s)",
    "hier, 10,000 queries, 100,000,000 x 64, p = 0.04": "4 ms",
    "hier, 10,000 queries, 100,000,000 x 64, p = 0.12": "6 ms",
    "hier, 1 query, 100,000,000 x 64, p = 0.04": "0.15 ms",
    "hier, 10,000 queries, 100,000,000 x 64, p = 0.04, keep = 0.3": "10 ms",
    "hier, 10,000 queries, 2,000,000 x 64, p = 0.04, keep = 0.3": "3 ms",
}


class Row(NamedTuple):
    workload: str
    seconds: float | None
    note: str = ""


class Card:
    """A GPU, by way of torch."""

    def __init__(self) -> None:
        import torch

        self.torch = torch
        self.name = f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, torch {torch.__version__}"

    def sync(self) -> None:
        self.torch.cuda.synchronize()

    def queries(self, codes: NDArray[np.uint8]) -> Any:
        return self.torch.from_numpy(codes.copy()).cuda()

    def on_host(self, result: Any) -> list[NDArray[Any]]:
        return [part.cpu().numpy() if isinstance(part, self.torch.Tensor) else part for part in result]

    def codes(self, n: int, n_bits: int, p: float | None = None, seed: int = 0) -> NDArray[np.uint8]:
        torch = self.torch
        generator = torch.Generator("cuda").manual_seed(seed)
        options = {"device": "cuda", "generator": generator}
        codes = np.empty((n, n_bits // 8), np.uint8)
        centres = torch.randint(0, 256, (100, n_bits // 8), dtype=torch.uint8, **options)
        weights = (1 << torch.arange(7, -1, -1, device="cuda")).to(torch.uint8)
        for rows in np.array_split(np.arange(n), max(1, n * n_bits >> 28)):
            size = (len(rows), n_bits // 8)
            if p is None:
                part = torch.randint(0, 256, size, dtype=torch.uint8, **options)
            else:
                flips = torch.rand((*size, 8), **options) < p
                part = centres[torch.randint(0, 100, (len(rows),), **options)] ^ (flips * weights).sum(
                    2, dtype=torch.uint8
                )
            codes[rows[0] : rows[-1] + 1] = part.cpu().numpy()
        return codes


class Emulator:
    """The module _cuda with the emulator in place of a GPU: times say nothing."""

    name = "the emulator"

    def __init__(self, path: str) -> None:
        specification = importlib.util.spec_from_file_location("_cuda", path)
        assert specification is not None
        assert specification.loader is not None
        module = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(module)
        _gpu_copy.cuda_module = lambda: module

    def sync(self) -> None:
        pass

    def queries(self, codes: NDArray[np.uint8]) -> Any:
        return codes

    def on_host(self, result: Any) -> list[NDArray[Any]]:
        return list(result)

    def codes(self, n: int, n_bits: int, p: float | None = None, seed: int = 0) -> NDArray[np.uint8]:
        codes: NDArray[np.uint8] = learned_like(n, 0, p, n_bits, seed)[0]
        return codes


class Bench:
    """The rows of the table, the cheap ones first. `scale`: the codes are divided by it."""

    def __init__(self, card: Card | Emulator, scale: int, tiny: bool, compare: bool) -> None:
        self.card, self.scale, self.tiny, self.compare = card, scale, tiny, compare

    def n(self, n: int) -> int:
        return 2000 if self.tiny else n // self.scale

    def n_queries(self, n: int) -> int:
        return min(n, 40) if self.tiny else n

    def seconds(self, call: Callable[[], object], repeats: int = REPEATS) -> float:
        times = []
        if self.tiny:
            repeats = 1
        else:
            call()
        for _ in range(repeats):
            self.card.sync()
            begin = time.perf_counter()
            call()
            self.card.sync()
            times.append(time.perf_counter() - begin)
        return statistics.median(times)

    def once(self, call: Callable[[], object]) -> float:
        begin = time.perf_counter()
        call()
        self.card.sync()
        return time.perf_counter() - begin

    def moved(self, index: Any, unit: str = "", **options: Any) -> tuple[Any, float]:
        """The index on the card, and the seconds that it took."""
        os.environ["FASTHASH_GPU_SCAN"] = unit
        begin = time.perf_counter()
        on_gpu = index.to("cuda", **options)
        self.card.sync()
        return on_gpu, time.perf_counter() - begin

    def same(self, on_gpu: Any, index: Any, queries: NDArray[np.uint8], k: int, **options: Any) -> None:
        """Compare the first queries with the index on the CPU."""
        some = queries[:50]
        found = self.card.on_host(on_gpu.search(self.card.queries(some), k, **options))
        assert all(map(np.array_equal, found, index.search(some, k, **options))), "the results differ"

    def groups(self) -> list[tuple[Any, ...]]:
        """The groups of rows: functions and their arguments."""
        small = [
            (self.bandwidth,),
            (self.flat, 1_000_000, 64),
            (self.filtered, 2_000_000),
            (self.hier, 2_000_000, 0.04),
            (self.jaccard, 1_000_000),
        ]
        if self.tiny:
            return [*small, (self.streamed, 2000), (self.units, 2000)]
        return [
            *small,
            (self.flat, 10_000_000, 256),
            (self.flat, 100_000_000, 64),
            (self.streamed, 100_000_000),
            (self.hier, 100_000_000, 0.04),
            (self.hier, 100_000_000, 0.12),
            (self.units, 20_000_000),
            (self.flat, 1_000_000_000, 64),
        ]

    def rows(self, group: Callable[..., Iterator[Row]], *arguments: float) -> Iterator[Row]:
        """The rows of a group; if it fails, the last one says why."""
        try:
            yield from group(*arguments)
        except Exception as error:
            traceback.print_exc()
            name = f"{group.__name__}({', '.join(f'{each:,}' for each in arguments)})"
            yield Row(name, None, f"failed: {type(error).__name__}: {' '.join(str(error).split())}")

    def bandwidth(self) -> Iterator[Row]:
        if isinstance(self.card, Emulator):
            return
        source = self.card.torch.empty((4 << 30) // min(self.scale, 4), dtype=self.card.torch.uint8, device="cuda")
        target = self.card.torch.empty_like(source)
        took = self.seconds(lambda: target.copy_(source))
        yield Row("copy on the card", took, f"{2 * source.numel() / took / 1e12:.2f} TB/s read and written")

    def flat(self, full: int, n_bits: int) -> Iterator[Row]:
        n = self.n(full)
        codes = self.card.codes(n, n_bits)
        index = fh.FlatIndex(n_bits)
        index.add(codes)
        on_gpu, took = self.moved(index)
        shape = f"{n:,} x {n_bits}"
        yield Row(f"to(cuda), flat, {shape}", took, f"{codes.nbytes / took / 1e9:.1f} GB/s")
        queries = codes[: self.n_queries(1024)] ^ 5
        self.same(on_gpu, index, queries, 10)
        one = self.card.queries(queries[:1])
        took = self.seconds(lambda: on_gpu.search(one, 10), 20)
        yield Row(f"flat, 1 query, {shape}", took, f"{codes.nbytes / took / 1e12:.2f} TB/s")
        many = self.card.queries(queries)
        if full > 100_000_000:  # its target is a single query's
            return
        took = self.seconds(lambda: on_gpu.search(many, 100))
        note = f"{len(queries) * n / took:.2e} distances/s"
        if self.compare and isinstance(self.card, Card):
            theirs = self.seconds(by_torch(self.card.torch, codes, many, 100), 2)
            note += f"; {theirs / took:.1f} times PyTorch's float16"
        yield Row(f"flat, {len(queries):,} queries, {shape}, k = 100", took, note)
        more = codes[:1000] ^ 3
        yield Row(f"add {len(more):,} codes to {shape}", self.once(lambda: on_gpu.add(more)))
        yield Row(f"remove {len(more):,} codes of {shape}", self.once(lambda: on_gpu.remove(np.arange(len(more)))))
        index.add(more)
        index.remove(np.arange(len(more)))
        self.same(on_gpu, index, queries, 10)

    def filtered(self, full: int) -> Iterator[Row]:
        n = self.n(full)
        codes = self.card.codes(n, 64)
        index = fh.FlatIndex(64)
        index.add(codes)
        on_gpu, _ = self.moved(index)
        queries = codes[: self.n_queries(1024)] ^ 5
        many = self.card.queries(queries)
        for percent in (100, 50, 1):
            allow = None if percent == 100 else fh.IdFilter(np.arange(0, n, 100 // percent))
            self.same(on_gpu, index, queries, 10, allow=allow)
            took = self.seconds(lambda allow=allow: on_gpu.search(many, 10, allow=allow))  # type: ignore[misc]
            yield Row(f"flat, {len(queries):,} queries, {n:,} x 64, {percent} % allowed", took)

    def hier(self, full: int, p: float) -> Iterator[Row]:
        n = self.n(full)
        n_queries = self.n_queries(10_000)
        codes = self.card.codes(n + n_queries, 64, p)
        codes, queries = codes[:n], codes[n:]
        index = fh.HierIndex((8, 16, 40))
        index.add(codes)
        on_gpu, took = self.moved(index)
        shape = f"{n:,} x 64, p = {p}"
        yield Row(
            f"to(cuda), hier, {shape}", took, f"{codes.nbytes / took / 1e9:.1f} GB/s; plan {index.stats()['plan']}"
        )
        many, one = self.card.queries(queries), self.card.queries(queries[:1])
        self.same(on_gpu, index, queries, 10)
        yield Row(f"hier, 1 query, {shape}", self.seconds(lambda: on_gpu.search(one, 10), 20))
        took = self.seconds(lambda: on_gpu.search(many, 10))
        cpu = self.once(lambda: index.search(queries, 10))
        note = f"{cpu / took:.1f} times {fh.get_num_threads()} threads of the CPU"
        yield Row(f"hier, {n_queries:,} queries, {shape}", took, note)
        self.same(on_gpu, index, queries, 10, keep=0.3)
        took = self.seconds(lambda: on_gpu.search(many, 10, keep=0.3))
        yield Row(f"hier, {n_queries:,} queries, {shape}, keep = 0.3", took)

    def jaccard(self, full: int) -> Iterator[Row]:
        """Codes of 2,048 bits, a 32nd of them set, as in fingerprints of molecules."""
        n = self.n(full)
        codes = np.bitwise_and.reduce([self.card.codes(n, 2048, seed=seed) for seed in range(5)])
        index = fh.FlatIndex(2048, metric="jaccard")
        index.add(codes)
        on_gpu, took = self.moved(index)
        shape = f"{n:,} x 2048"
        yield Row(f"to(cuda), jaccard, {shape}", took, f"{codes.nbytes / took / 1e9:.1f} GB/s")
        queries = codes[: self.n_queries(1024)] ^ (codes[-self.n_queries(1024) :] & 1)
        self.same(on_gpu, index, queries, 10)
        one, many = self.card.queries(queries[:1]), self.card.queries(queries)
        yield Row(f"jaccard, 1 query, {shape}", self.seconds(lambda: on_gpu.search(one, 10), 20))
        took = self.seconds(lambda: on_gpu.search(many, 10))
        cpu = self.once(lambda: index.search(queries, 10))
        note = f"{cpu / took:.1f} times {fh.get_num_threads()} threads of the CPU"
        yield Row(f"jaccard, {len(queries):,} queries, {shape}", took, note)
        took = self.seconds(lambda: on_gpu.count_within(many, 0.5))
        yield Row(f"jaccard, {len(queries):,} queries, {shape}, counted within 0.5", took)

    def streamed(self, full: int) -> Iterator[Row]:
        """Codes that stay in pinned memory of the host."""
        n = self.n(full)
        codes = self.card.codes(n, 64)
        index = fh.FlatIndex(64)
        index.add(codes)
        on_gpu, _ = self.moved(index, max_bytes=4 * n)
        assert on_gpu.streamed  # half of what the codes need
        self.same(on_gpu, index, codes[:64] ^ 5, 10)
        queries = self.card.queries(codes[:64] ^ 5)
        took = self.seconds(lambda: on_gpu.search(queries, 10))
        yield Row(f"streamed, 64 queries, {n:,} x 64", took, f"{8 * n / took / 1e9:.0f} GB/s over the bus")

    def units(self, full: int) -> Iterator[Row]:
        """Popcounts and products of bits beside each other: where the one becomes the better one."""
        for n_bits in (64,) if self.tiny else (32, 64, 128, 256):
            n = self.n(full)
            codes = self.card.codes(n, n_bits)
            index = fh.FlatIndex(n_bits)
            index.add(codes)
            both = [self.moved(index, unit)[0] for unit in ("popcount", "tensor")]
            for n_queries in (8, 40) if self.tiny else (8, 16, 32, 64, 256, 1024):
                queries = self.card.queries(codes[:n_queries] ^ 5)
                found = [self.card.on_host(on_gpu.search(queries, 10)) for on_gpu in both]
                assert all(map(np.array_equal, *found))
                popcounts, products = (
                    self.seconds(lambda on_gpu=on_gpu: on_gpu.search(queries, 10), 3)  # type: ignore[misc]
                    for on_gpu in both
                )
                yield Row(
                    f"products, {n_queries} queries, {n:,} x {n_bits}", products, f"popcounts {_shown(popcounts)}"
                )


def by_torch(torch: Any, codes: NDArray[np.uint8], queries: Any, k: int) -> Callable[[], object]:
    """The k nearest by products of +-1 in float16 and topk; the signs of the gallery are on the card beforehand."""

    def signs(codes: Any) -> Any:
        bits = codes[:, :, None] >> torch.arange(8, dtype=torch.uint8, device="cuda") & 1
        return bits.flatten(1).to(torch.float16) * 2 - 1

    chunk = 1 << 20
    parts = [signs(torch.from_numpy(codes[i : i + chunk]).cuda()) for i in range(0, len(codes), chunk)]
    wanted = signs(queries)

    def search() -> object:
        best = None
        for number, part in enumerate(parts):
            values, rows = (wanted @ part.T).float().topk(min(k, len(part)), dim=1)
            rows = rows + number * chunk
            if best is not None:
                values, rows = torch.cat((best[0], values), 1), torch.cat((best[1], rows), 1)
                values, order = values.topk(k, dim=1)
                rows = rows.gather(1, order)
            best = values, rows
        return best

    return search


def _shown(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"


def main() -> None:
    begin = time.perf_counter()
    parser = argparse.ArgumentParser()
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--quick", action="store_true")
    sizes.add_argument("--tiny", action="store_true")
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--compare", action="store_true")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    emulator = os.environ.get("FASTHASH_GPU_EMULATOR")
    card = Emulator(emulator) if emulator else Card()
    bench = Bench(card, 100 if given.quick else 1, given.tiny, given.compare)
    limit = given.seconds or (45 if given.quick else float("inf"))
    print(f"{card.name}; {cpu_name()}, {fh.get_num_threads()} threads; numpy {np.__version__}.\n")
    print("| workload | time | | target |\n| --- | ---: | ---: | ---: |", flush=True)
    measured = []
    for group in bench.groups():
        if time.perf_counter() - begin > limit:
            print("| the time is over | | | |", flush=True)
            break
        for row in bench.rows(*group):
            measured.append(row._asdict() | {"target": TARGETS.get(row.workload, "")})
            print(f"| {row.workload} | {_shown(row.seconds)} | {row.note} | {measured[-1]['target']} |", flush=True)
            if given.json:  # in one step: whoever ends this program leaves a whole file
                whole = given.json.with_suffix(".part")
                whole.write_text(json.dumps({"card": card.name, "cpu": cpu_name(), "rows": measured}, indent=1))
                whole.replace(given.json)
    sys.exit(any(row["seconds"] is None for row in measured))


if __name__ == "__main__":
    main()
