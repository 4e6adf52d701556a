"""Errors of a server in one form, `{"error": message}`, whoever raises them; `make_app` adds the handlers.

A message names the argument, its value and what was expected, also where FastAPI and pydantic have words of their own.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from fasthash._shown import short
from fasthash.serving.limits import RefusedError

__all__ = ["answer_errors"]


def answer_errors(app: FastAPI) -> None:
    """Answer refusals, requests of a wrong form, unknown paths and methods, and failures as `RefusedError` does."""

    @app.exception_handler(RefusedError)
    async def refused(request: Request, error: RefusedError) -> Response:
        return error.response()

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return _of_form(request, error.errors()[0]).response()

    @app.exception_handler(HTTPException)
    async def unrouted(request: Request, error: HTTPException) -> Response:
        response = RefusedError(error.status_code, _of_route(request, error)).response()
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(Exception)  # the server logs the traceback nevertheless
    async def failed(request: Request, error: Exception) -> Response:
        return RefusedError(500, f"the server failed with {type(error).__name__}; its log says where").response()


def _of_form(request: Request, first: dict[str, Any]) -> RefusedError:
    """The first fault that pydantic finds in a request."""
    place = ".".join(map(str, first["loc"][1:])) or "the body"
    kind = request.headers.get("content-type")
    if first["loc"] == ("body",) and "json" not in (kind or "").lower():  # the body was not read as JSON
        return RefusedError(
            415, f"the header Content-Type must be application/json, got {'none' if kind is None else short(kind)}"
        )
    if first["type"] == "json_invalid":
        return RefusedError(422, f"the body must be JSON, got a fault at character {place}: {first['ctx']['error']}")
    if first["type"] == "missing":
        return RefusedError(422, f"{place} must be given")
    if first["type"] == "extra_forbidden":
        return RefusedError(422, f"{place} must be left out, which is no argument here, got {short(first['input'])}")
    message = first["msg"].removeprefix("Input should ")
    return RefusedError(
        422, f"{place}{': ' if message == first['msg'] else ' must '}{message}, got {short(first['input'])}"
    )


def _of_route(request: Request, error: HTTPException) -> str:
    path = short(request.url.path)
    if error.status_code == 404:
        return f"path must be one of those in /openapi.json, got {path}"
    if error.status_code == 405:
        return f"method must be {(error.headers or {}).get('Allow', 'another one')} for {path}, got {request.method}"
    return str(error.detail)
