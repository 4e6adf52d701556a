"""Galleries with names for their codes: a `Store` on disk, a `KeyedIndex` in memory (docs/store.md)."""

from fasthash.store.keyed import KeyedIndex
from fasthash.store.results import StoreRangeResult, StoreSearchResult
from fasthash.store.store import Store

__all__ = ["KeyedIndex", "Store", "StoreRangeResult", "StoreSearchResult"]
