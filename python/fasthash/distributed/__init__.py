"""Past one machine: an index whose codes are spread over the machines of a Ray cluster. Needs the extra `ray`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fasthash.distributed.fleet import ShardLostError
    from fasthash.distributed.index import PartialResult, ShardedIndex

__all__ = ["PartialResult", "ShardLostError", "ShardedIndex"]


def __getattr__(name: str) -> Any:
    # Ray is imported with the first class that is asked for: what is pure numpy in here does without.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from fasthash.distributed import fleet, index

    return getattr(fleet if name == "ShardLostError" else index, name)
