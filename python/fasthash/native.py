"""Where the headers and the static library lie, for programs in C and C++ (docs/c.md)."""

from __future__ import annotations

from pathlib import Path

from fasthash import _core

__all__ = ["get_cmake_dir", "get_include", "get_pkgconfig_dir"]

# Beside the compiled module: in an editable installation the Python files are elsewhere.
_ROOT = Path(_core.__file__).parent


def get_include() -> str:
    """The folder for the compiler's `-I`: it holds `fasthash/fasthash.h` and the headers for C++."""
    return str(_ROOT / "include")


def get_cmake_dir() -> str:
    """The folder for CMake's `-Dfasthash_DIR=`, in which `find_package(fasthash)` finds the library."""
    return str(_ROOT / "lib" / "cmake" / "fasthash")


def get_pkgconfig_dir() -> str:
    """The folder for `PKG_CONFIG_PATH`, in which `pkg-config fasthash` finds the library."""
    return str(_ROOT / "lib" / "pkgconfig")
