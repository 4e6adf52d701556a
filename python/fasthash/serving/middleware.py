"""What happens to every request before its route: counting, the token of changes, and limits of the body.

`make_app` puts these around the routes. All three are plain ASGI: a request may end without an answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fasthash._shown import short
from fasthash.serving.changes import Writing
from fasthash.serving.limits import Limits, RefusedError
from fasthash.serving.metrics import Metrics

__all__ = ["BodyLimit", "EarlyToken", "Measured"]

_CLIENT_LEFT = 499  # as nginx counts it: the client closed the connection before its answer


class Measured:
    """Counts and times requests.

    Args:
        app: gets all requests.
        metrics: of the application.
        paths: of the routes; requests for others are counted together.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: Collection[str]) -> None:
        self._app, self._metrics, self._paths = app, metrics, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin = time.perf_counter()
        status: int | None = None

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except asyncio.CancelledError:  # uvicorn cancels what is left when its time to stop is over
            if status is None:
                stopping = RefusedError(503, "the server is stopping; try again")
                await stopping.response({"Connection": "close"})(scope, receive, noting)
        except Exception:
            status = 500  # the handler of failures, which answers, is outside
            raise
        finally:
            path = _path(scope)
            route = path if path in self._paths else "other"
            self._metrics.requests.labels(route, str(status or _CLIENT_LEFT)).inc()
            if route.startswith("/search"):
                self._metrics.seconds.labels(route).observe(time.perf_counter() - begin)


class EarlyToken:
    """Refuses changes without the token before their bodies are read.

    This saves work. It protects nothing: a path can be written in several ways, so the routes check the token too.

    Args:
        app: gets the other requests.
        writing: knows the token.
        paths: of changes.
    """

    def __init__(self, app: ASGIApp, writing: Writing, paths: Collection[str]) -> None:
        self._app, self._writing, self._paths = app, writing, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _path(scope) in self._paths:
            try:
                self._writing.check(Headers(scope=scope).get("authorization"))
            except RefusedError as error:
                await error.response()(scope, receive, send)
                return
        await self._app(scope, receive, send)


class BodyLimit:
    """Refuses a request whose body is compressed or too long, before it is in memory, or arrives too slowly.

    Args:
        app: gets the other requests, with their whole bodies.
        limits: bytes and seconds of a body.
    """

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app, self._limits = app, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        seconds = self._limits.body_seconds
        coding = Headers(scope=scope).get("content-encoding", "identity")
        try:
            if coding.lower() != "identity":  # compressed bytes could pass for codes
                raise RefusedError(415, f"the header Content-Encoding must be left out, got {short(coding)}")
            body = await asyncio.wait_for(self._read(receive), seconds)
        except asyncio.TimeoutError:
            slow = RefusedError(408, f"the body must arrive within {seconds:g} s")
            await slow.response({"Connection": "close"})(scope, receive, send)  # the rest of it is not waited for
            return
        except RefusedError as error:
            await error.response()(scope, receive, send)
            return
        if body is None:
            return
        given = False

        async def whole() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, whole, send)

    async def _read(self, receive: Receive) -> bytes | None:
        """The body; None if the client leaves before its end.

        Raises:
            RefusedError: it is too long.
        """
        body = bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self._limits.body_bytes:
                raise RefusedError(413, f"the body must have at most {self._limits.body_bytes:,} bytes")
        return bytes(body)


def _path(scope: Scope) -> str:
    """The path below that of the application, which may be mounted in another one."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))
