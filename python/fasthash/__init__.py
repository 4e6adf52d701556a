"""Short binary codes for images, and exact nearest neighbours among millions of them.

`import fasthash` needs numpy alone. Encoders, losses and training are in the modules `fasthash.encoder`,
`fasthash.losses` and `fasthash.train` and need the extra `fasthash-search[train]`.
"""

from fasthash._core import FormatError, __version__
from fasthash._extras import MissingExtraError
from fasthash.codes import pack_bits, sign_codes, unpack_bits
from fasthash.index import FlatIndex, HierIndex, load, peek
from fasthash.results import FileInfo, SearchResult, SearchStats
from fasthash.threads import get_num_threads, set_num_threads, simd_level

__all__ = [
    "FileInfo",
    "FlatIndex",
    "FormatError",
    "HierIndex",
    "MissingExtraError",
    "SearchResult",
    "SearchStats",
    "__version__",
    "get_num_threads",
    "load",
    "pack_bits",
    "peek",
    "set_num_threads",
    "sign_codes",
    "simd_level",
    "unpack_bits",
]
