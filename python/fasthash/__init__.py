"""Short binary codes for images, and exact nearest neighbours among millions of them.

`import fasthash` needs numpy alone. Encoders, losses and training are in the modules `fasthash.encoder`,
`fasthash.losses` and `fasthash.train` and need the extra `fasthash-search[train]`.
"""

from fasthash._core import FormatError, __version__
from fasthash._extras import MissingExtraError
from fasthash.codes import pack_bits, sign_codes, unpack_bits
from fasthash.filters import IdFilter
from fasthash.index import FlatIndex, HierIndex, load, peek, verify
from fasthash.interop import from_faiss, to_faiss
from fasthash.native import get_cmake_dir, get_include, get_pkgconfig_dir
from fasthash.results import FileInfo, FileReport, FileSection, RangeResult, SearchResult, SearchStats
from fasthash.threads import get_num_threads, set_num_threads, simd_level

__all__ = [
    "FileInfo",
    "FileReport",
    "FileSection",
    "FlatIndex",
    "FormatError",
    "HierIndex",
    "IdFilter",
    "MissingExtraError",
    "RangeResult",
    "SearchResult",
    "SearchStats",
    "__version__",
    "from_faiss",
    "get_cmake_dir",
    "get_include",
    "get_num_threads",
    "get_pkgconfig_dir",
    "load",
    "pack_bits",
    "peek",
    "set_num_threads",
    "sign_codes",
    "simd_level",
    "to_faiss",
    "unpack_bits",
    "verify",
]
