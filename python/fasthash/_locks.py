"""The locks of the Python layers: free in a forked child, whoever held them in the parent.

A `ChangeLock` is taken with `with lock("add"):`. A thread that waits for it can be interrupted. It raises RuntimeError
instead of waiting for ever: where the thread is inside another turn already, as in a signal handler, and where threads
would wait for each other. Turns that both say `nests=True` may lie in each other.
"""

from __future__ import annotations

import os
import threading
import weakref

from fasthash._core import ChangeLock

__all__ = ["ChangeLock", "Condition"]


class Condition(threading.Condition):
    """A condition on a reentrant lock."""

    def __init__(self) -> None:
        super().__init__()
        _conditions.add(self)


_conditions: weakref.WeakSet[Condition] = weakref.WeakSet()


def _begin_anew() -> None:
    for condition in _conditions:
        threading.Condition.__init__(condition)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
