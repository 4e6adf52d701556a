"""The application: its routes put together, and the task that takes new commits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from fastapi import FastAPI
from fastapi.routing import APIRoute

from fasthash.serving.changes import Writing
from fasthash.serving.errors import answer_errors
from fasthash.serving.limits import Limits, Turns
from fasthash.serving.metrics import Metrics
from fasthash.serving.middleware import BodyLimit, EarlyToken, Measured
from fasthash.serving.photos import MakeCodes
from fasthash.serving.routes import Served, change_routes, page_routes, refused_changes, search_routes, state_routes
from fasthash.store import Store

__all__ = ["make_app"]

_CHANGES = ("/add", "/update", "/remove")
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
    served = Served(
        store, limits, images, make_codes, writing, Metrics(), Turns(limits), Turns(limits, "change", "changes")
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        following = asyncio.create_task(_follow(store, served.metrics))
        yield
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
        served.searches.end()
        served.changes.end()

    app = FastAPI(title="fasthash", summary="Nearest binary codes, exactly", lifespan=lifespan)
    answer_errors(app)
    routers = [
        search_routes(served),
        refused_changes(_CHANGES) if writing is None else change_routes(served, writing),
        page_routes(served),
        state_routes(served),
    ]
    for router in routers:
        app.include_router(router)
    # The last one added is the first to see a request.
    app.add_middleware(BodyLimit, limits=limits)
    if writing is not None:
        app.add_middleware(EarlyToken, writing=writing, paths=_CHANGES)
    paths = {route.path for router in routers for route in router.routes if isinstance(route, APIRoute)}
    app.add_middleware(Measured, metrics=served.metrics, paths=paths)
    return app


async def _follow(store: Store, metrics: Metrics) -> None:
    """Take new commits until cancelled; a commit that cannot be opened, for whatever reason, is tried again."""
    while True:
        await asyncio.sleep(_REFRESH)
        try:
            await asyncio.to_thread(store.refresh)
        except Exception:  # such as MemoryError: without this task the server would stay at an old commit
            metrics.failures.inc()
