"""Measures what the backbones of the papers cost: images a second, parameters, operations and memory.

    python benchmarks/backbones.py [--device cuda] [--image-size 224]

writes backbones.md into benchmarks/results/. Each network has a process of its own. Some three minutes on two cores.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

from workloads import cpu_name

BACKBONES = ("hrnet_w18_small", "hrnet_w18", "hrnet_w32", "hrnet_w48", "hrnet_w64", "alexnet", "vgg16")
RESULTS = Path(__file__).parent / "results"
BATCH = 8
REPEATS = 5


def measure(backbone: str, device: str, image_size: int) -> dict[str, float]:
    """Cost of encoding, and of a step of training, in this process."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from fasthash.encoder import HashEncoder
    from fasthash.losses import HashNetLoss

    encoder = HashEncoder(backbone, (64,), image_size=image_size).to(device).eval()
    images = torch.randn(BATCH, 3, image_size, image_size, device=device)
    labels = torch.arange(BATCH, device=device) % 3
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        encoder(images[:1])

    def encode() -> None:
        with torch.inference_mode():
            encoder(images)

    def seconds(step) -> float:
        step()
        times = []
        for _ in range(REPEATS):
            begin = time.perf_counter()
            step()
            if device != "cpu":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - begin)
        return statistics.median(times)

    def peak() -> float:
        if device != "cpu":
            return torch.cuda.max_memory_allocated() / 2**20
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    result = {
        "parameters": sum(parameter.numel() for parameter in encoder.parameters()),
        "operations": counter.get_total_flops() / 2e9,
        "encode": BATCH / seconds(encode),
        "encode_mib": peak(),
    }
    loss = HashNetLoss()
    encoder.train()
    optimizer = torch.optim.Adam(encoder.parameters(), lr=1e-5)

    def train_step() -> None:
        optimizer.zero_grad()
        loss(encoder(images), labels).backward()
        optimizer.step()

    return result | {"train": BATCH / seconds(train_step), "train_mib": peak()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--only", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure(options.only, options.device, options.image_size)))
        return
    rows = []
    for backbone in BACKBONES:
        command = [sys.executable, __file__, "--only", backbone, "--device", options.device]
        command += ["--image-size", str(options.image_size)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        rows.append(
            f"| {backbone} | {found['parameters'] / 1e6:.1f} | {found['operations']:.2f} | {found['encode']:.1f} | "
            f"{found['encode_mib']:,.0f} | {found['train']:.1f} | {found['train_mib']:,.0f} |"
        )
        print(rows[-1], flush=True)
    device = cpu_name() if options.device == "cpu" else __import__("torch").cuda.get_device_name()
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "timm", "torchvision"))
    command = " ".join(["python benchmarks/backbones.py", *sys.argv[1:]])
    lines = [
        "# What the backbones cost",
        "",
        f"`{command}`: {device}, {versions}. Images of {options.image_size} px in batches of {BATCH}, float32, "
        f"64 bits, medians of {REPEATS}; random weights, which cost what trained ones cost. An operation is a "
        "multiplication with its addition, as the papers count. Memory is the largest of the process"
        + (" (resident)." if options.device == "cpu" else " (PyTorch's allocator)."),
        "",
        "| backbone | M parameters | G operations an image | encode, images / s | MiB | train, images / s | MiB |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        *rows,
    ]
    name = "backbones.md" if options.device == "cpu" else "backbones-gpu.md"
    (RESULTS / name).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
