"""Folders of the headers and of the static library, for programs in C and C++ (docs/c.md)."""

from __future__ import annotations

from pathlib import Path

from fasthash import _core

__all__ = ["get_cmake_dir", "get_include", "get_pkgconfig_dir"]

# The folders are beside the compiled module; an editable installation has its Python files elsewhere.
_ROOT = Path(_core.__file__).parent


def get_include() -> str:
    """Return the folder for the compiler's `-I`; it holds `fasthash/fasthash.h` and the C++ headers."""
    return str(_ROOT / "include")


def get_cmake_dir() -> str:
    """Return the folder for CMake's `-Dfasthash_DIR=`, which `find_package(fasthash)` reads."""
    return str(_ROOT / "lib" / "cmake" / "fasthash")


def get_pkgconfig_dir() -> str:
    """Return the folder for `PKG_CONFIG_PATH`, which `pkg-config fasthash` reads."""
    return str(_ROOT / "lib" / "pkgconfig")
