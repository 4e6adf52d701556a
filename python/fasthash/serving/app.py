"""The application: routes, metrics, and the task that takes new commits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from pydantic import BaseModel, ConfigDict, Field

from fasthash._checks import code_bytes
from fasthash.serving.changes import AddRequest, RemoveRequest, Writing
from fasthash.serving.limits import BodyLimit, Limits, RefusedError, Turns
from fasthash.serving.photos import MakeCodes, codes_of_photo, photo_of_key
from fasthash.serving.queries import codes_of, codes_of_keys, results, some_keys
from fasthash.store import Store

__all__ = ["make_app"]

_PAGE = Path(__file__).with_name("page.html")
_CHANGES = ("/add", "/remove")
_REFRESH = 1.0  # seconds between two looks for a new commit


class SearchRequest(BaseModel):
    """Codes or keys to search for, all within one radius or the k nearest."""

    model_config = ConfigDict(extra="forbid", strict=True)
    codes: list[str] | None = Field(None, description="Codes as text; or give keys.")
    form: str = Field("hex", description="Form of the codes: hex or base64.")
    keys: list[str | int] | None = Field(
        None, description="Keys of the store: text, integers, UUIDs as text, bytes as hex; ids if it has no keys."
    )
    k: int = Field(10, description="Neighbours of each query.")
    radius: float | None = Field(
        None, description="All codes within this distance, instead of k: in bits, or of jaccard to 1."
    )
    allow: list[int] | None = Field(None, description="Ids that may be returned.")


class _Metrics:
    """Of one application."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        names = ["route", "status"]
        self.requests = Counter("fasthash_requests", "Requests", names, registry=self.registry)
        self.seconds = Histogram("fasthash_search_seconds", "Time of a request", ["route"], registry=self.registry)
        self.codes = Gauge("fasthash_codes", "Codes in the store", registry=self.registry)
        self.commit = Gauge("fasthash_commit", "Number of the commit that is searched", registry=self.registry)
        self.failures = Counter("fasthash_refresh_failures", "Commits that could not be opened", registry=self.registry)


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
    metrics, turns, changes = _Metrics(), Turns(limits), Turns(limits)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        following = asyncio.create_task(_follow(store, metrics))
        yield
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following

    app = FastAPI(title="fasthash", summary="Nearest binary codes, exactly", lifespan=lifespan)
    app.add_middleware(BodyLimit, most=limits.body_bytes)

    @app.exception_handler(RefusedError)
    async def refused(request: Request, error: RefusedError) -> Response:
        return error.response()

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"][1:])) or "the body"
        return RefusedError(422, f"{place}: {first['msg']}").response()

    @app.middleware("http")
    async def measured(request: Request, call_next: Any) -> Response:
        begin = time.perf_counter()
        response: Response
        if writing is not None and request.url.path in _CHANGES:
            try:  # before anything of the body is looked at
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

    async def answered(queries: Any, k: int, radius: float | None, allow: list[int] | None) -> JSONResponse:
        found = await turns.run(lambda: results(store, queries(), k, radius, allow, limits))
        return JSONResponse({"results": found})

    n_bytes = code_bytes(store.n_bits)

    @app.post("/search")
    async def search(body: SearchRequest) -> JSONResponse:
        """Find the neighbours of codes, or of the codes of keys."""
        if (body.codes is None) == (body.keys is None):
            raise RefusedError(422, "give either codes or keys")
        if body.codes is not None:
            codes = codes_of(body.codes, body.form, n_bytes, limits.queries)
            return await answered(lambda: codes, body.k, body.radius, body.allow)
        keys = body.keys or []
        return await answered(lambda: codes_of_keys(store, keys, limits), body.k, body.radius, body.allow)

    @app.post("/search/raw")
    async def search_raw(request: Request, k: int = 10, radius: float | None = None) -> JSONResponse:
        """Find the neighbours of codes that are the body, byte for byte."""
        data = await request.body()
        if not data or len(data) % n_bytes or len(data) // n_bytes > limits.queries:
            raise RefusedError(
                422, f"the body must be 1 to {limits.queries:,} codes of {n_bytes} bytes, got {len(data):,} bytes"
            )
        codes = np.frombuffer(data, np.uint8).reshape(-1, n_bytes)
        return await answered(lambda: codes, k, radius, None)

    @app.post("/search/photo")
    async def search_photo(request: Request, k: int = 10, radius: float | None = None) -> JSONResponse:
        """Find the neighbours of the photo that is the body."""
        data = await request.body()
        return await answered(lambda: codes_of_photo(data, make_codes, limits), k, radius, None)

    async def changed(work: Callable[[], dict[str, Any]]) -> JSONResponse:
        outcome = await changes.run(work)
        with suppress(OSError, ValueError):  # `_follow` tries again
            await asyncio.to_thread(store.refresh)
        return JSONResponse(outcome)

    if writing is not None:

        @app.post("/add")
        async def add(body: AddRequest) -> JSONResponse:
            """Add codes and commit; returns their ids and the number of the commit."""
            return await changed(lambda: writing.add(body, limits))

        @app.post("/remove")
        async def remove(body: RemoveRequest) -> JSONResponse:
            """Remove entries by key or id and commit; returns the number of the commit."""
            return await changed(lambda: writing.remove(body, limits))

    @app.get("/image")
    def image(key: str) -> Response:
        """The photo that a key names."""
        if images is None:
            raise RefusedError(404, "the server was started without a folder of images")
        return FileResponse(photo_of_key(images, key), headers={"X-Content-Type-Options": "nosniff"})

    @app.get("/keys")
    async def keys(first: int = Query(0, ge=0), n: int = Query(50, ge=1, le=500)) -> JSONResponse:
        """Some keys of the store, or ids if it has none, for the page."""
        return JSONResponse({"keys": await turns.run(lambda: some_keys(store, first, n))})

    @app.get("/info")
    def info() -> dict[str, Any]:
        """Size and settings of the store, and whether photos can be seen and searched for."""
        return store.info() | {"shows_photos": images is not None, "takes_photos": make_codes is not None}

    @app.get("/healthz")
    def healthz() -> dict[str, Any]:
        """Whether the server answers, and which commit it searches."""
        return {"status": "ok", "codes": len(store), "commit": store.commit_number}

    @app.get("/metrics")
    def scraped() -> Response:
        """Metrics for Prometheus."""
        metrics.codes.set(len(store))
        metrics.commit.set(store.commit_number)
        return Response(generate_latest(metrics.registry), media_type="text/plain; version=0.0.4")

    @app.get("/", response_class=HTMLResponse)
    def page() -> HTMLResponse:
        """The page."""
        policy = (
            "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; "
            "img-src 'self' blob: data:"
        )
        return HTMLResponse(_PAGE.read_text(encoding="utf-8"), headers={"Content-Security-Policy": policy})

    return app


async def _follow(store: Store, metrics: _Metrics) -> None:
    """Take new commits until cancelled; a commit that cannot be opened is tried again."""
    while True:
        await asyncio.sleep(_REFRESH)
        try:
            await asyncio.to_thread(store.refresh)
        except (OSError, ValueError):
            metrics.failures.inc()
