"""The locks of the Python layers; a forked child starts with free locks.

Use a `ChangeLock` as `with lock("add"):`. A waiting thread can be interrupted. The lock raises RuntimeError instead of
waiting for ever: if the thread already holds it, as in a signal handler, or if threads would wait for each other. Two
blocks with `nests=True` may be nested.
"""

from __future__ import annotations

import os
import threading
import weakref

from fasthash._core import ChangeLock

__all__ = ["ChangeLock", "Condition"]


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
