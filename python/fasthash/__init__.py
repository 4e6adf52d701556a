"""Short binary codes for images, and exact nearest neighbours among millions of them.

`import fasthash` needs numpy alone. Encoders, losses and training are in the modules `fasthash.encoder`,
`fasthash.losses` and `fasthash.train` and need the extra `fasthash-search[train]`.
"""

from fasthash._core import FormatError, __version__
from fasthash._extras import MissingExtraError
from fasthash.codes import pack_bits, sign_codes, unpack_bits
from fasthash.index import FlatIndex, HierIndex, load, peek
from fasthash.results import FileInfo, SearchResult, SearchStats

__all__ = [
    "FileInfo",
    "FlatIndex",
    "FormatError",
    "HierIndex",
    "MissingExtraError",
    "SearchResult",
    "SearchStats",
    "__version__",
    "load",
    "pack_bits",
    "peek",
    "sign_codes",
    "unpack_bits",
]
