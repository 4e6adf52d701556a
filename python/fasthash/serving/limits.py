"""The limits of a server, and the errors that name them; called before any work is done."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from starlette.responses import JSONResponse

from fasthash._locks import Condition

__all__ = ["BodyLimit", "Limits", "RefusedError", "Turns"]


@dataclass(frozen=True)
class Limits:
    """What one request may cost."""

    body_bytes: int = 8 << 20
    pixels: int = 1 << 26
    """Of a photo that is searched for."""
    queries: int = 1024
    changes: int = 100_000
    """Entries that a request adds or removes."""
    k: int = 1000
    results: int = 100_000
    """Results of all queries of a radius search."""
    at_once: int = 16
    """Searches at one time; others are refused."""
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

    def response(self) -> JSONResponse:
        return JSONResponse({"error": self.message}, self.status)


class Turns:
    """Lets a number of searches run at one time."""

    def __init__(self, limits: Limits) -> None:
        self._limits, self._n_free, self._lock = limits, limits.at_once, Condition()

    async def run(self, work: Callable[[], Any]) -> Any:
        """Run a search on a thread.

        Raises:
            RefusedError: too many run, or this one takes too long. It then goes on, and keeps its turn until it ends.
        """
        with self._lock:
            if self._n_free == 0:
                raise RefusedError(503, f"searches at one time must be at most {self._limits.at_once}; try again")
            self._n_free -= 1
        loop = asyncio.get_running_loop()

        def run() -> Any:
            with self._turn():
                return work()

        try:
            return await asyncio.wait_for(loop.run_in_executor(None, run), self._limits.seconds)
        except asyncio.TimeoutError:
            raise RefusedError(504, f"a search must take at most {self._limits.seconds:g} s") from None

    @contextmanager
    def _turn(self) -> Iterator[None]:
        try:
            yield
        finally:
            with self._lock:
                self._n_free += 1


_Message = MutableMapping[str, Any]


class BodyLimit:
    """Refuses a request whose body is too long, before it is in memory.

    Args:
        app: of ASGI, which gets the other requests.
        most: bytes.
    """

    def __init__(self, app: Callable[..., Awaitable[None]], most: int) -> None:
        self._app, self._most = app, most

    async def __call__(self, scope: _Message, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = b""
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self._most:
                refused = RefusedError(413, f"the body must have at most {self._most:,} bytes")
                await refused.response()(scope, receive, send)
                return

        given = False

        async def whole() -> _Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, whole, send)
