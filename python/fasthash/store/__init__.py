"""`Store`: a gallery of codes on disk, with names for them, for one writer and many readers (docs/store.md)."""

from fasthash.store.results import StoreRangeResult, StoreSearchResult
from fasthash.store.store import Store

__all__ = ["Store", "StoreRangeResult", "StoreSearchResult"]
