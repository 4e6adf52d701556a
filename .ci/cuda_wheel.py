"""Builds the wheel with the module _cuda, as a distribution of its own: fasthash-search-cu13.

    python .ci/cuda_wheel.py OUT [ARCHITECTURES]

Needs git and nvcc 13 or newer. It installs the same package `fasthash` as fasthash-search does: an environment holds
one of the two. ARCHITECTURES: as CMAKE_CUDA_ARCHITECTURES; default those of CMakeLists.txt.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
NAME = "fasthash-search"


def with_cuda(pyproject: str) -> str:
    """pyproject.toml of the distribution with _cuda."""
    changes = {f'name = "{NAME}"': f'name = "{NAME}-cu13"', 'FASTHASH_CUDA = "OFF" #': 'FASTHASH_CUDA = "ON" #'}
    for old, new in changes.items():
        if pyproject.count(old) != 1:
            raise ValueError(f"pyproject.toml must have {old!r} once, has it {pyproject.count(old)} times")
        pyproject = pyproject.replace(old, new)
    return pyproject.replace(f'"{NAME}[', f'"{NAME}-cu13[')  # extras that name other extras


def main() -> None:
    out, architectures = Path(sys.argv[1]).resolve(), sys.argv[2:]
    tracked = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, capture_output=True, check=True).stdout
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(tracked)) as archive:
            archive.extractall(folder, filter="data")
        path = Path(folder) / "pyproject.toml"
        path.write_text(with_cuda(path.read_text(encoding="utf-8")), encoding="utf-8")
        options = [f"-Ccmake.define.CMAKE_CUDA_ARCHITECTURES={each}" for each in architectures]
        command = [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--no-deps",
            "--no-build-isolation",
            "-w",
            out,
            *options,
            folder,
        ]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
