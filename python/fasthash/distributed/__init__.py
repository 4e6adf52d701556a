"""Past one machine: images encoded by the machines of a Ray cluster. Needs the extras `ray` and `train`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fasthash.distributed.encoding import encode_images
    from fasthash.distributed.parts import EncodedPart, EncodedParts

__all__ = ["EncodedPart", "EncodedParts", "encode_images"]


def __getattr__(name: str) -> Any:
    # torch is imported with what encodes: numpy is all that reading codes needs.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "encode_images":
        from fasthash.distributed import encoding

        return encoding.encode_images
    from fasthash.distributed import parts

    return getattr(parts, name)
