"""The limits of a server, and the errors that name them; called before any work is done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from starlette.responses import JSONResponse

from fasthash._locks import Condition

__all__ = ["Limits", "RefusedError", "Turns", "check_number"]


@dataclass(frozen=True)
class Limits:
    """What one request may cost."""

    body_bytes: int = 8 << 20
    body_seconds: float = 60.0
    """Time in which a body must arrive."""
    pixels: int = 1 << 26
    """Of a photo that is searched for."""
    queries: int = 1024
    changes: int = 100_000
    """Entries that a request adds or removes."""
    k: int = 1000
    results: int = 1 << 17
    """Results of all queries of a request."""
    at_once: int = 16
    """Searches at one time; others are refused. Changes are counted for themselves, to the same limit."""
    seconds: float = 10.0


class RefusedError(Exception):
    """A request that is answered with an error.

    Args:
        status: of HTTP.
        message: names the argument, its value and what was expected.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message

    def response(self, headers: Mapping[str, str] | None = None) -> JSONResponse:
        return JSONResponse({"error": self.message}, self.status, headers)


def check_number(name: str, n: int, most: int) -> None:
    """Check how many of something a request has: at least 1.

    Raises:
        RefusedError: none, or too many.
    """
    if not 1 <= n <= most:
        raise RefusedError(422, f"{name} must be 1 to {most:,}, got {n:,}")


class Turns:
    """Lets a number of searches, or of changes, run at one time, each on a thread.

    The threads serve nothing else, so that a search never waits for one.

    Args:
        limits: how many, and for how long.
        one, many: what errors call them.
    """

    def __init__(self, limits: Limits, one: str = "search", many: str = "searches") -> None:
        self._limits, self._n_free, self._lock = limits, limits.at_once, Condition()
        self._one, self._many = one, many
        self._threads = ThreadPoolExecutor(limits.at_once, thread_name_prefix="fasthash-turn")

    async def run(self, work: Callable[[], Any]) -> Any:
        """Run a search or a change on a thread.

        Raises:
            RefusedError: too many run, or this one takes too long. It then goes on, and keeps its turn until it ends.
        """
        with self._lock:
            if self._n_free == 0:
                raise RefusedError(503, f"{self._many} at one time must be at most {self._limits.at_once}; try again")
            self._n_free -= 1
        try:
            future = self._threads.submit(work)
        except BaseException:
            self._give_back()
            raise
        future.add_done_callback(self._give_back)  # is also called if the work is cancelled before it begins
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), self._limits.seconds)
        except asyncio.TimeoutError:
            raise RefusedError(504, f"a {self._one} must take at most {self._limits.seconds:g} s") from None

    def _give_back(self, done: Future[Any] | None = None) -> None:
        with self._lock:
            self._n_free += 1

    def end(self) -> None:
        """Let the threads end after what they do now; nothing can be run after it."""
        self._threads.shutdown(wait=False, cancel_futures=True)
