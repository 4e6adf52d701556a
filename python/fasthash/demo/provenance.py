"""Provenance of the figures: machine, versions and command, needed to reproduce a figure."""

from __future__ import annotations

import os
import platform
import shlex
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fasthash._shown import command, inside_here

__all__ = ["command_line", "machine", "serve_command", "versions"]


def machine(device: str) -> dict[str, Any]:
    """Return the processor, its cores, and the device of the network."""
    return {"cpu": _cpu_name(), "cores": os.cpu_count(), "device": device, "search_threads": 1}


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that affect the figures."""
    packages = ["fasthash-search", "numpy", "torch", "torchvision", "timm", "accelerate", "scikit-learn"]
    return {"Python": platform.python_version()} | {name: version(name) for name in packages}


def command_line(**options: Any) -> str:
    """Return the `fasthash demo` command that repeats the run; options that are None or False are left out."""
    words = ["fasthash", "demo"]
    for name, value in options.items():
        if value is not None and value is not False:
            words.append(f"--{name.replace('_', '-')}")
            words += [] if value is True else [_short(value)]
    return shlex.join(words)


def serve_command(folder: Path, images: str | os.PathLike[str]) -> str:
    """Return the command that serves the store of a demo, with its photos and its encoder."""
    photos = os.path.relpath(images) if Path(images).is_absolute() else os.fspath(images)
    words = ["serve", folder / "gallery.fhs", "--images", photos, "--encoder", folder / "encoder"]
    return f"{command()} {shlex.join(map(_short, words))}"


def _short(value: Any) -> str:
    """A value of a command; a path below the current folder as a relative one."""
    text = str(value)
    return inside_here(text) if os.path.isabs(text) else text


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
