"""The routes by topic: searches, changes, the page with its photos, and the state of the server."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import FileResponse, HTMLResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from fasthash._checks import code_bytes
from fasthash._shown import short
from fasthash.serving.changes import AddRequest, RemoveRequest, UpdateRequest, Writing
from fasthash.serving.limits import Limits, RefusedError, Turns, check_number
from fasthash.serving.metrics import Metrics
from fasthash.serving.photos import MakeCodes, codes_of_photo, photo_of_key
from fasthash.serving.queries import (
    AS_TEXT,
    Snapshot,
    Wanted,
    codes_of,
    codes_of_keys,
    encoded,
    results,
    some_keys,
)
from fasthash.store import Store

__all__ = ["Served", "change_routes", "page_routes", "refused_changes", "search_routes", "state_routes"]

_Route = TypeVar("_Route", bound=Callable[..., Any])

_PAGE = Path(__file__).with_name("page.html")


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
    allow: list[str | int] | None = Field(None, description="Ids that may be returned.")
    allow_keys: list[str | int] | None = Field(None, description="Keys that may be returned, instead of ids.")
    as_text: bool = Field(False, description=AS_TEXT)


@dataclass(frozen=True)
class Served:
    """A served store, and what its routes share. The first five are the arguments of `make_app`."""

    store: Store
    limits: Limits
    images: Path | None
    make_codes: MakeCodes | None
    writing: Writing | None
    metrics: Metrics
    searches: Turns
    changes: Turns


class JSONText(Response):
    """An answer that is JSON already: it was encoded on the thread of its search, not on that of the server."""

    media_type = "application/json"


_AsText = Annotated[bool, Query(description=AS_TEXT)]


async def _only_known(request: Request) -> None:
    """Refuse arguments in the address that the route does not have: a filter, for example, would be ignored.

    Raises:
        RefusedError: there is one.
    """
    known = {each.alias for each in request.scope["route"].dependant.query_params}
    for name, value in request.query_params.items():
        if name not in known:
            raise RefusedError(
                422, f"{name[:100]} must be left out, which is no argument in this address, got {short(value)}"
            )


def search_routes(served: Served) -> APIRouter:
    """Searches for codes as text, for keys, for raw codes and for a photo."""
    router, store, limits = APIRouter(dependencies=[Depends(_only_known)]), served.store, served.limits

    async def answered(queries: Callable[[Snapshot], Any], wanted: Wanted) -> JSONText:
        def found() -> bytes:
            now = Snapshot(store)
            return results(now, queries(now), wanted, limits)

        return JSONText(await served.searches.run(found))

    n_bytes = code_bytes(store.n_bits)

    @router.post("/search")
    async def search(body: SearchRequest) -> JSONText:
        """Find the neighbours of codes, or of the codes of keys."""
        if (body.codes is None) == (body.keys is None):
            raise RefusedError(422, "give either codes or keys")
        wanted = Wanted(body.k, body.radius, body.as_text, body.allow, body.allow_keys)
        if body.codes is not None:
            check_number("queries", len(body.codes), limits.queries)
            codes = codes_of(body.codes, body.form, n_bytes)
            return await answered(lambda now: codes, wanted)
        keys = body.keys or []
        return await answered(lambda now: codes_of_keys(now, keys, limits), wanted)

    @router.post("/search/raw")
    async def search_raw(
        request: Request, k: int = 10, radius: float | None = None, as_text: _AsText = False
    ) -> JSONText:
        """Find the neighbours of codes that are the body, byte for byte."""
        data = await _bytes_of(request, "codes")
        if not data or len(data) % n_bytes or len(data) // n_bytes > limits.queries:
            raise RefusedError(
                422, f"the body must be 1 to {limits.queries:,} codes of {n_bytes} bytes, got {len(data):,} bytes"
            )
        codes = np.frombuffer(data, np.uint8).reshape(-1, n_bytes)
        return await answered(lambda now: codes, Wanted(k, radius, as_text))

    @router.post("/search/photo")
    async def search_photo(
        request: Request, k: int = 10, radius: float | None = None, as_text: _AsText = False
    ) -> JSONText:
        """Find the neighbours of the photo that is the body."""
        data = await _bytes_of(request, "photo")
        wanted = Wanted(k, radius, as_text)
        return await answered(lambda now: codes_of_photo(data, served.make_codes, limits), wanted)

    return router


def _get(router: APIRouter, path: str, **options: Any) -> Callable[[_Route], _Route]:
    """Make a function the route of GET, and of HEAD, which FastAPI does not add."""

    def added(route: _Route) -> _Route:
        router.get(path, **options)(route)
        router.head(path, include_in_schema=False, **options)(route)
        return route

    return added


async def _bytes_of(request: Request, noun: str) -> bytes:
    """The body as it is.

    Raises:
        RefusedError: it is a form with files, as of `curl -F`, or JSON.
    """
    kind = request.headers.get("content-type", "").lower()
    for beginning, given in (("multipart/", "a form"), ("application/json", "JSON")):
        if kind.startswith(beginning):
            raise RefusedError(
                415, f"the body must be the bytes of the {noun}, not {given}; see curl --data-binary @FILE"
            )
    return await request.body()


def change_routes(served: Served, writing: Writing) -> APIRouter:
    """Additions, new codes and removals, for those who show the token."""
    store, limits = served.store, served.limits

    async def shown(request: Request) -> None:
        writing.check(request.headers.get("authorization"))

    router = APIRouter(dependencies=[Depends(shown), Depends(_only_known)])

    async def changed(work: Callable[[], dict[str, Any]]) -> JSONText:
        def change() -> bytes:
            outcome = work()
            with suppress(Exception):  # the change is committed; `_follow` tries again
                store.refresh()
            return encoded(outcome)

        return JSONText(await served.changes.run(change))

    @router.post("/add")
    async def add(body: AddRequest) -> JSONText:
        """Add codes and commit; returns their ids and the number of the commit."""
        return await changed(lambda: writing.add(body, limits))

    @router.post("/update")
    async def update(body: UpdateRequest) -> JSONText:
        """Replace the codes of entries by key or id and commit; returns the number of the commit."""
        return await changed(lambda: writing.update(body, limits))

    @router.post("/remove")
    async def remove(body: RemoveRequest) -> JSONText:
        """Remove entries by key or id and commit; returns the number of the commit."""
        return await changed(lambda: writing.remove(body, limits))

    return router


def refused_changes(paths: Iterable[str]) -> APIRouter:
    """The routes of changes in a server that only reads; its description leaves them out."""
    router = APIRouter()

    async def refuse() -> None:
        raise RefusedError(404, "the server was started without --writable, and takes no changes")

    for path in paths:
        router.add_api_route(path, refuse, methods=["POST"], include_in_schema=False)
    return router


def page_routes(served: Served) -> APIRouter:
    """The page, and the keys and photos that it shows."""
    router = APIRouter()

    @_get(router, "/image")
    def image(key: str) -> Response:
        """The photo that a key names."""
        if served.images is None:
            raise RefusedError(404, "the server was started without a folder of images")
        return FileResponse(photo_of_key(served.images, key), headers={"X-Content-Type-Options": "nosniff"})

    @_get(router, "/keys", dependencies=[Depends(_only_known)])
    async def keys(first: int = Query(0, ge=0), n: int = Query(50, ge=1, le=500), as_text: _AsText = False) -> JSONText:
        """Some keys of the store, or ids if it has none, and the `first` of those after them."""
        shown = await served.searches.run(lambda: encoded(some_keys(Snapshot(served.store), first, n, as_text)))
        return JSONText(shown)

    @_get(router, "/", response_class=HTMLResponse)
    def page() -> HTMLResponse:
        """The page."""
        policy = (
            "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; "
            "img-src 'self' blob: data:"
        )
        return HTMLResponse(_PAGE.read_text(encoding="utf-8"), headers={"Content-Security-Policy": policy})

    return router


def state_routes(served: Served) -> APIRouter:
    """Size and settings of the store, health and metrics of the server."""
    router, store = APIRouter(), served.store

    @_get(router, "/info")
    def info() -> dict[str, Any]:
        """Size and settings of the store, and whether photos can be seen and searched for."""
        return store.info() | {"shows_photos": served.images is not None, "takes_photos": served.make_codes is not None}

    @_get(router, "/healthz")
    def healthz() -> dict[str, Any]:
        """Whether the server answers, and which commit it searches."""
        return {"status": "ok", "codes": len(store), "commit": store.commit_number}

    @_get(router, "/metrics")
    def scraped() -> Response:
        """Metrics for Prometheus."""
        return Response(served.metrics.scraped(store), media_type="text/plain; version=0.0.4")

    return router
