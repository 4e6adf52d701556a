"""The application: its routes put together, and the task that takes new commits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response

from fasthash.serving.changes import Writing
from fasthash.serving.errors import answer_errors
from fasthash.serving.limits import BodyLimit, Limits, RefusedError, Turns
from fasthash.serving.metrics import Metrics
from fasthash.serving.photos import MakeCodes
from fasthash.serving.routes import Served, change_routes, page_routes, refused_changes, search_routes, state_routes
from fasthash.store import Store

__all__ = ["make_app"]

_CHANGES = ("/add", "/remove")
_REFRESH = 1.0  # seconds between two looks for a new commit


def make_app(
    store: Store,
    limits: Limits | None = None,
    *,
    images: Path | None = None,
    make_codes: MakeCodes | None = None,
    writing: Writing | None = None,
) -> FastAPI:
    """Make the application that serves a store.

    Args:
        store: opened to read. New commits are taken about once a second; searches under way keep what they began with.
        limits: what a request may cost.
        images: folder of the photos that the keys name; the page shows them. None shows names alone.
        make_codes: from a PIL image to its code; None refuses searches for photos.
        writing: the writer of the store, for people with its token; None refuses changes.
    """
    limits = Limits() if limits is None else limits
    served = Served(store, limits, images, make_codes, writing, Metrics(), Turns(limits))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        following = asyncio.create_task(_follow(store, served.metrics))
        yield
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following

    app = FastAPI(title="fasthash", summary="Nearest binary codes, exactly", lifespan=lifespan)
    app.add_middleware(BodyLimit, most=limits.body_bytes)
    answer_errors(app)
    _measure(app, served)
    app.include_router(search_routes(served))
    app.include_router(refused_changes(_CHANGES) if writing is None else change_routes(served, writing))
    app.include_router(page_routes(served))
    app.include_router(state_routes(served))
    return app


def _measure(app: FastAPI, served: Served) -> None:
    """Count and time requests. Changes without the token are refused here, before anything of the body is looked at."""
    metrics, writing = served.metrics, served.writing

    @app.middleware("http")
    async def measured(request: Request, call_next: Any) -> Response:
        begin = time.perf_counter()
        response: Response
        if writing is not None and request.url.path in _CHANGES:
            try:
                writing.check(request.headers.get("authorization"))
            except RefusedError as error:
                metrics.requests.labels(request.url.path, str(error.status)).inc()
                return error.response()
        response = await call_next(request)
        route = getattr(request.scope.get("route"), "path", "other")
        metrics.requests.labels(route, str(response.status_code)).inc()
        if route.startswith("/search"):
            metrics.seconds.labels(route).observe(time.perf_counter() - begin)
        return response


async def _follow(store: Store, metrics: Metrics) -> None:
    """Take new commits until cancelled; a commit that cannot be opened is tried again."""
    while True:
        await asyncio.sleep(_REFRESH)
        try:
            await asyncio.to_thread(store.refresh)
        except (OSError, ValueError):
            metrics.failures.inc()
