"""Measures searches on a GPU beside PyTorch on the same card, and beside the own CPU; prints a table.

    python benchmarks/gpu_bench.py [--quick]

Queries and results are on the card. Codes are uniform, or around 100 centres with p = .04. PyTorch's way is the better
one of products of +-1 in float16 and in int8, in chunks, each with topk. Needs some 30 GB of the card's memory and of
the machine's; --quick: a hundredth of the codes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

import fasthash as fh
from fasthash.gpu import GpuFlatIndex, GpuHierIndex
from pages import table, versions
from workloads import cpu_name, learned_like

REPEATS = 5


def seconds(call: Callable[[], object], repeats: int = REPEATS) -> float:
    call()
    times = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        call()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def copy_bandwidth() -> float:
    """Bytes read and written in a second."""
    source = torch.empty(4 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.numel() / seconds(lambda: target.copy_(source))


def uniform(n: int, n_bits: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2**64, (n, n_bits // 64), np.uint64).view(np.uint8)


def flat(codes: np.ndarray, unit: str = "", max_bytes: int | None = None) -> GpuFlatIndex:
    index = fh.FlatIndex(codes.shape[1] * 8)
    index.add(codes)
    os.environ["FASTHASH_GPU_SCAN"] = unit
    on_gpu = index.to("cuda", max_bytes=max_bytes)
    assert isinstance(on_gpu, GpuFlatIndex)
    return on_gpu


def on_card(codes: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(codes.copy()).cuda()


def signs(codes: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    bits = codes[:, :, None] >> torch.arange(8, dtype=torch.uint8, device="cuda") & 1
    return bits.flatten(1).to(dtype) * 2 - 1


def by_torch(codes: np.ndarray, queries: torch.Tensor, k: int, dtype: torch.dtype) -> Callable[[], object]:
    """The k nearest by products and topk; the signs of the gallery are on the card beforehand."""
    chunk = 1 << 20
    parts = [signs(on_card(codes[i : i + chunk]), dtype) for i in range(0, len(codes), chunk)]
    wanted = signs(queries, dtype)

    def search() -> object:
        best = None
        for number, part in enumerate(parts):
            products = torch._int_mm(wanted, part.T) if dtype == torch.int8 else wanted @ part.T
            values, rows = products.float().topk(min(k, len(part)), dim=1)
            rows = rows + number * chunk
            if best is not None:
                values, rows = torch.cat((best[0], values), 1), torch.cat((best[1], rows), 1)
                values, order = values.topk(k, dim=1)
                rows = rows.gather(1, order)
            best = values, rows
        return best

    return search


def beside_torch(codes: np.ndarray, queries: torch.Tensor, k: int) -> tuple[float, str]:
    """Seconds of the better way, and which it was; nothing of it fits where the card has no room."""
    found = {}
    for dtype in (torch.float16, torch.int8):
        try:
            found[str(dtype).removeprefix("torch.")] = seconds(by_torch(codes, queries, k, dtype), 2)
        except torch.OutOfMemoryError:
            continue
        finally:
            torch.cuda.empty_cache()
    if not found:
        return float("nan"), "no room"
    name = min(found, key=lambda key: found[key])
    return found[name], name


def one_query(n: int, bandwidth: float) -> list[str]:
    codes = uniform(n, 64)
    index, query = flat(codes), on_card(codes[:1])
    took = seconds(lambda: index.search(query, 10))
    share = f"{8 * n / took / bandwidth:.0%} of the copy's bandwidth"
    return [f"flat, 1 query, {n:,} x 64, k = 10", f"{took * 1e3:.2f} ms", share, ""]


def many_queries(n: int, n_bits: int, k: int) -> list[str]:
    codes = uniform(n, n_bits)
    queries = on_card(codes[:1024] ^ 5)
    took = flat_seconds(codes, queries, k)
    theirs, name = beside_torch(codes, queries, k)
    return [
        f"flat, 1,024 queries, {n:,} x {n_bits}, k = {k}",
        f"{took * 1e3:.1f} ms",
        f"{1024 * n / took:.2e} distances/s",
        f"{theirs / took:.1f} times PyTorch's {name}",
    ]


def units(n: int) -> list[list[str]]:
    """Popcounts and products of bits beside each other: where the one becomes the better one."""
    rows = []
    for n_bits in (32, 64, 128, 256):
        codes = uniform(n, max(n_bits, 64))[:, : n_bits // 8].copy()
        both = [flat(codes, unit) for unit in ("popcount", "tensor")]
        for n_queries in (1, 8, 16, 32, 64, 256, 1024):
            queries = on_card(codes[:n_queries] ^ 5)
            found = [index.search(queries, 10) for index in both]
            assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
            popcounts, products = (seconds(lambda index=index: index.search(queries, 10)) for index in both)
            rows.append(
                [
                    f"{n_queries} queries, {n:,} x {n_bits}",
                    f"popcounts {popcounts * 1e3:.2f} ms",
                    f"products {products * 1e3:.2f} ms",
                    f"{popcounts / products:.1f} times",
                ]
            )
    return rows


def streamed(n: int) -> list[str]:
    """Codes that stay in pinned memory of the host."""
    codes = uniform(n, 64)
    queries = on_card(codes[:64] ^ 5)
    from_host, on_gpu = flat(codes, max_bytes=4 * n), flat(codes)
    assert from_host.streamed  # half of what the codes need
    assert all(
        torch.equal(a, b) for a, b in zip(from_host.search(queries, 10), on_gpu.search(queries, 10), strict=True)
    )
    took = seconds(lambda: from_host.search(queries, 10))
    return [
        f"streamed, 64 queries, {n:,} x 64",
        f"{took * 1e3:.1f} ms",
        f"{8 * n / took / 1e9:.0f} GB/s over the bus",
        "",
    ]


def flat_seconds(codes: np.ndarray, queries: torch.Tensor, k: int) -> float:
    index = flat(codes)
    return seconds(lambda: index.search(queries, k))


def hierarchical(n: int) -> list[list[str]]:
    codes, wanted = learned_like(n, 10_000, 0.04)
    queries = on_card(wanted)
    scan = flat_seconds(codes, queries, 10)
    index = fh.HierIndex((8, 16, 40))
    index.add(codes)
    on_gpu = index.to("cuda")
    assert isinstance(on_gpu, GpuHierIndex)
    expected, found = index.search(wanted, 10), on_gpu.search(queries, 10)
    assert all(np.array_equal(a.cpu().numpy(), b) for a, b in zip(found, expected, strict=True))
    took, pruned = (seconds(lambda keep=keep: on_gpu.search(queries, 10, keep=keep)) for keep in (None, 0.3))
    begin = time.perf_counter()
    index.search(wanted, 10)
    cpu = time.perf_counter() - begin
    return [
        [
            f"hier exact, 10,000 queries, {n:,} x 64, p = .04, k = 10",
            f"{took * 1e3:.1f} ms",
            f"{scan / took:.1f} times own flat",
            f"{cpu / took:.1f} times own CPU, {fh.get_num_threads()} threads",
        ],
        ["the same, keep = 0.3", f"{pruned * 1e3:.1f} ms", f"{scan / pruned:.1f} times own flat", ""],
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    scale = 100 if parser.parse_args().quick else 1
    bandwidth = copy_bandwidth()
    rows = [
        ["copy on the card", "", f"{bandwidth / 1e12:.2f} TB/s", ""],
        one_query(1_000_000_000 // scale, bandwidth),
        many_queries(100_000_000 // scale, 64, 100),
        many_queries(10_000_000 // scale, 256, 100),
        *hierarchical(100_000_000 // scale),
        streamed(400_000_000 // scale),
        *units(20_000_000 // scale),
    ]
    print(f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, {cpu_name()}; {versions('torch', 'numpy')}.\n")
    print(table(["", "time", "", ""], rows))


if __name__ == "__main__":
    main()
