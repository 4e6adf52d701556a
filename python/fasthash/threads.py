"""What the engine uses of the machine: threads and instruction sets."""

from __future__ import annotations

from typing import Any

from fasthash import _core
from fasthash._checks import check_int

__all__ = ["get_num_threads", "set_num_threads", "simd_level"]

_MAX_THREADS = 1024


def get_num_threads() -> int:
    """Threads that one search or build may use; at first as many as the process has processors."""
    return _core.get_num_threads()


def set_num_threads(n: Any) -> None:
    """Let one search or build use up to `n` threads, of this process and from now on; results do not depend on it.

    Args:
        n: from 1, which keeps all work in the calling thread, to 1024.

    Raises:
        TypeError: `n` is not an integer.
        ValueError: `n` is out of range.
    """
    _core.set_num_threads(check_int("n", n, minimum=1, maximum=_MAX_THREADS))


def simd_level() -> str:
    """The instruction set that counts bits: `"scalar"`, `"neon"`, `"avx2"` or `"avx512"`.

    It is the fastest that processor and operating system offer, or the one that the environment variable
    `FASTHASH_SIMD` names when fasthash is imported.
    """
    return _core.simd_level()
