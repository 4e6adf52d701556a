"""Calls of actors as one string of bytes, and their answers: Ray takes long for each argument and each array.

Half of the time of a query over several shards went into arguments and results. Large ones stay as they are, since Ray
shares their memory.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

__all__ = ["packed", "packed_call", "unpacked", "unpacked_call"]

_SMALL = 1 << 16  # bytes of the arrays in an answer
_PROTOCOL = 5


def packed_call(method: str, arguments: Sequence[Any]) -> bytes:
    """A call, for `unpacked_call`."""
    return pickle.dumps((method, tuple(arguments)), _PROTOCOL)


def unpacked_call(call: bytes) -> tuple[str, tuple[Any, ...]]:
    """The method and the arguments of a call."""
    method, arguments = pickle.loads(call)
    return method, arguments


def packed(answer: Any) -> Any:
    """An answer as bytes if it is small, else itself; for `unpacked`."""
    arrays: list[pickle.PickleBuffer] = []
    data = pickle.dumps(answer, _PROTOCOL, buffer_callback=arrays.append)
    if not arrays:
        return data  # bytes, too, so that only a packed answer is bytes
    return answer if sum(array.raw().nbytes for array in arrays) > _SMALL else pickle.dumps(answer, _PROTOCOL)


def unpacked(answer: Any) -> Any:
    """The answer that was packed."""
    return pickle.loads(answer) if isinstance(answer, bytes) else answer
