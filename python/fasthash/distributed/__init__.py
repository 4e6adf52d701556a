"""Indices and image encoding on the machines of a Ray cluster.

Needs the extra `ray`; encoding also needs `train`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fasthash.distributed.encoding import encode_images
    from fasthash.distributed.fleet import ShardLostError
    from fasthash.distributed.index import PartialResult, ShardedIndex
    from fasthash.distributed.parts import EncodedPart, EncodedParts

__all__ = ["EncodedPart", "EncodedParts", "PartialResult", "ShardLostError", "ShardedIndex", "encode_images"]

# Imported on first use: pure numpy modules work without Ray, and only encoding needs torch.
_MODULES = {
    "EncodedPart": "parts",
    "EncodedParts": "parts",
    "PartialResult": "index",
    "ShardLostError": "fleet",
    "ShardedIndex": "index",
    "encode_images": "encoding",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
