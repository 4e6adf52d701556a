"""Measures what the backbones of the papers and tf_efficientnet_lite0 cost: images a second, operations and memory.

    python benchmarks/backbones.py [--device cuda] [--image-size 224]

fills the table of docs/results.md for this device. Each network has a process of its own. Four minutes on two cores.
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

BACKBONES = (
    "tf_efficientnet_lite0",
    "hrnet_w18_small",
    "hrnet_w18",
    "hrnet_w32",
    "hrnet_w48",
    "hrnet_w64",
    "alexnet",
    "vgg16",
)
BATCH = 8
REPEATS = 5


def measure(backbone: str, device: str, image_size: int) -> dict[str, float]:
    """Cost of encoding, and of a step of training, in this process."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from fasthash.encoder import HashEncoder
    from fasthash.losses import HashNetLoss

    encoder = HashEncoder(backbone, (64,), image_size=image_size).to(device, memory_format=torch.channels_last).eval()
    images = torch.randn(BATCH, 3, image_size, image_size, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(BATCH, device=device) % 3
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        encoder(images[:1])

    def in_bf16():
        return torch.autocast(device.split(":")[0], torch.bfloat16)

    def encode() -> None:
        with torch.inference_mode():
            encoder(images)

    def encode_in_bf16() -> None:
        with in_bf16():
            encode()

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
        "encode_bf16": BATCH / seconds(encode_in_bf16),
    }
    loss = HashNetLoss()
    encoder.train()
    optimizer = torch.optim.Adam(encoder.parameters(), lr=1e-5)

    def train_step() -> None:
        optimizer.zero_grad()
        loss(encoder(images), labels).backward()
        optimizer.step()

    def train_step_in_bf16() -> None:
        optimizer.zero_grad()
        with in_bf16():
            outputs = encoder(images)
        loss(outputs.float(), labels).backward()
        optimizer.step()

    result |= {"train": BATCH / seconds(train_step), "train_mib": peak()}
    return result | {"train_bf16": BATCH / seconds(train_step_in_bf16)}


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
        costs = [
            cell
            for step in ("encode", "train")
            for cell in (f"{found[step]:.1f}", f"{found[f'{step}_bf16']:.1f}", f"{found[f'{step}_mib']:,.0f}")
        ]
        rows.append([backbone, *sizes, *costs])
        print(rows[-1], flush=True)
    on_cpu = options.device == "cpu"
    device = cpu_name() if on_cpu else __import__("torch").cuda.get_device_name()
    head = ["", "M parameters", "G operations an image", "encode, images / s", "in bf16", "MiB"]
    head += ["train, images / s", "in bf16", "MiB"]
    text = (
        f"`{' '.join(['python benchmarks/backbones.py', *sys.argv[1:]])}`: {device}, "
        f"{versions('torch', 'timm', 'torchvision')}. Images of {options.image_size} px in batches of {BATCH}, float32 "
        f"unless bf16 is said, channels last, 64 bits, medians of {REPEATS} runs on all cores; random weights, which "
        "cost what trained ones cost. An operation is a multiplication with its addition, as the papers count. Memory "
        f"is the most in float32 that the process {'had resident' if on_cpu else 'held of the GPU'}."
    )
    page = Path(__file__).parent.parent / "docs" / "results.md"
    part = "backbones cpu" if on_cpu else "backbones gpu"
    fill_page(page, {part: f"{text}\n\n{table(head, rows)}"})


if __name__ == "__main__":
    main()
