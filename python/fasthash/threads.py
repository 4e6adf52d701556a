"""Functions that set the number of threads and report the instruction set of the engine."""

from __future__ import annotations

from typing import Any

from fasthash import _core
from fasthash._checks import check_int

__all__ = ["get_num_threads", "set_num_threads", "simd_level"]

_MAX_THREADS = 1024


def get_num_threads() -> int:
    """Return the largest number of threads of one search or build; the default is the number of processors."""
    return _core.get_num_threads()


def set_num_threads(n: Any) -> None:
    """Set the largest number of threads of one search or build in this process; results do not depend on it.

    Args:
        n: from 1 to 1024; 1 keeps all work in the calling thread.

    Raises:
        TypeError: `n` is not an integer.
        ValueError: `n` is out of range.
    """
    _core.set_num_threads(check_int("n", n, minimum=1, maximum=_MAX_THREADS))


def simd_level() -> str:
    """Return the instruction set that counts bits: `"scalar"`, `"neon"`, `"avx2"`, `"avx512bw"` or `"avx512"`.

    The engine uses the fastest set that the processor and the operating system support, or the set that the environment
    variable `FASTHASH_SIMD` names when fasthash is imported.
    """
    return _core.simd_level()
