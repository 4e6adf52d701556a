"""Find the nearest among millions of binary codes by Hamming distance, exactly; learn such codes from images.

`import fasthash` needs only numpy. Encoders, losses and training are in `fasthash.encoder`, `fasthash.losses` and
`fasthash.train`; they need the extra `fasthash-search[train]`.
"""

from fasthash._core import FormatError, __version__
from fasthash._extras import MissingExtraError
from fasthash._integers import codes_from_ints, codes_to_ints
from fasthash.codes import pack_bits, sign_codes, unpack_bits
from fasthash.duplicates import near_duplicates, near_pairs
from fasthash.filters import IdFilter
from fasthash.index import FlatIndex, HierIndex, load, peek, verify
from fasthash.interop import from_faiss, to_faiss
from fasthash.native import get_cmake_dir, get_include, get_pkgconfig_dir
from fasthash.perceptual import perceptual_codes, segment_codes
from fasthash.rescoring import RescoringIndex
from fasthash.results import (
    FileInfo,
    FileReport,
    FileSection,
    RangeResult,
    RescoredResult,
    SearchResult,
    SearchStats,
)
from fasthash.several import SearchAllResult, search_all
from fasthash.store import KeyedIndex, Store, StoreRangeResult, StoreSearchResult
from fasthash.threads import get_num_threads, set_num_threads, simd_level
from fasthash.turning import turned_codes

__all__ = [
    "FileInfo",
    "FileReport",
    "FileSection",
    "FlatIndex",
    "FormatError",
    "HierIndex",
    "IdFilter",
    "KeyedIndex",
    "MissingExtraError",
    "RangeResult",
    "RescoredResult",
    "RescoringIndex",
    "SearchAllResult",
    "SearchResult",
    "SearchStats",
    "Store",
    "StoreRangeResult",
    "StoreSearchResult",
    "__version__",
    "codes_from_ints",
    "codes_to_ints",
    "from_faiss",
    "get_cmake_dir",
    "get_include",
    "get_num_threads",
    "get_pkgconfig_dir",
    "load",
    "near_duplicates",
    "near_pairs",
    "pack_bits",
    "peek",
    "perceptual_codes",
    "search_all",
    "segment_codes",
    "set_num_threads",
    "sign_codes",
    "simd_level",
    "to_faiss",
    "turned_codes",
    "unpack_bits",
    "verify",
]


def __dir__() -> list[str]:
    """Public names; modules such as `fasthash.train` are imported by their own names."""
    return sorted(__all__)
