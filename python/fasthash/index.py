"""The indices: packed codes in, exact nearest neighbours out; and their files."""

from __future__ import annotations

from fasthash._flat_index import FlatIndex
from fasthash._hier_index import HierIndex
from fasthash._index_files import load, peek, verify
from fasthash._index_options import Allow, KeepMode, Memory, Plan, StrPath

__all__ = ["Allow", "FlatIndex", "HierIndex", "KeepMode", "Memory", "Plan", "StrPath", "load", "peek", "verify"]

# Pickles name classes by their module: it must be one that every release has.
FlatIndex.__module__ = HierIndex.__module__ = __name__
