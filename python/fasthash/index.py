"""Public names of the indices and of the functions for their files."""

from __future__ import annotations

from fasthash._flat_index import FlatIndex
from fasthash._hier_index import HierIndex
from fasthash._index_files import load, peek, verify
from fasthash._index_options import Allow, KeepMode, Memory, Plan, StrPath

__all__ = ["Allow", "FlatIndex", "HierIndex", "KeepMode", "Memory", "Plan", "StrPath", "load", "peek", "verify"]

# Pickles name a class by its module, so this module must exist in every release.
FlatIndex.__module__ = HierIndex.__module__ = __name__
