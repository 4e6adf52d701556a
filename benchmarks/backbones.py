"""Measures what the backbones of the papers cost: images a second, parameters, operations and memory.

    python benchmarks/backbones.py [--device cuda] [--image-size 224]

fills the table of docs/results.md for this device. Each network has a process of its own. Three minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

from pages import fill_page, table, versions
from workloads import cpu_name

BACKBONES = ("hrnet_w18_small", "hrnet_w18", "hrnet_w32", "hrnet_w48", "hrnet_w64", "alexnet", "vgg16")
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
        sizes = [f"{found['parameters'] / 1e6:.1f}", f"{found['operations']:.2f}"]
        encode = [f"{found['encode']:.1f}", f"{found['encode_mib']:,.0f}"]
        rows.append([backbone, *sizes, *encode, f"{found['train']:.1f}", f"{found['train_mib']:,.0f}"])
        print(rows[-1], flush=True)
    on_cpu = options.device == "cpu"
    device = cpu_name() if on_cpu else __import__("torch").cuda.get_device_name()
    head = ["", "M parameters", "G operations an image", "encode, images / s", "MiB", "train, images / s", "MiB"]
    text = (
        f"`{' '.join(['python benchmarks/backbones.py', *sys.argv[1:]])}`: {device}, "
        f"{versions('torch', 'timm', 'torchvision')}. Images of {options.image_size} px in batches of {BATCH}, "
        f"float32, 64 bits, medians of {REPEATS} runs on all cores; random weights, which cost what trained ones cost. "
        "An operation is a multiplication with its addition, as the papers count. Memory is the most that the process "
        f"{'had resident' if on_cpu else 'held of the GPU'}."
    )
    page = Path(__file__).parent.parent / "docs" / "results.md"
    part = "backbones cpu" if on_cpu else "backbones gpu"
    fill_page(page, {part: f"{text}\n\n{table(head, rows)}"})


if __name__ == "__main__":
    main()
