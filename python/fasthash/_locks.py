"""The locks of the Python layers; a forked child starts with free locks.

Use a `ChangeLock` as `with lock("add"):`. A waiting thread can be interrupted. The lock raises RuntimeError instead of
waiting for ever: if the thread already holds it, as in a signal handler, or if threads would wait for each other. Two
blocks with `nests=True` may be nested.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from fasthash._core import ChangeLock

__all__ = ["ChangeLock", "Condition", "Lazy"]

_Value = TypeVar("_Value")


class Lazy(Generic[_Value]):
    """An attribute that is computed when it is first read: `functools.cached_property` without a lock.

    Before Python 3.12 that has a lock for all objects of a class, which a child forked meanwhile finds held for ever.
    Two threads may compute the value both.
    """

    def __init__(self, compute: Callable[[Any], _Value]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type | None = None) -> _Value:
        if instance is None:
            return self  # type: ignore[return-value]  # of the class, not of an object
        value: _Value = self._compute(instance)
        vars(instance)[self._name] = value  # which is found first from now on
        return value


class Condition(threading.Condition):
    """A condition variable with a reentrant lock; reset in a forked child."""

    def __init__(self) -> None:
        super().__init__()
        _conditions.add(self)


_conditions: weakref.WeakSet[Condition] = weakref.WeakSet()


def _begin_anew() -> None:
    for condition in _conditions:
        threading.Condition.__init__(condition)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
