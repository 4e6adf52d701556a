"""Errors of a server in one form, `{"error": message}`, whoever raises them; `make_app` adds the handlers.

A message names the argument, its value and what was expected, also where FastAPI and pydantic have words of their own.
"""

from __future__ import annotations

import sys
from email.message import Message
from reprlib import Repr
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from fasthash._shown import short
from fasthash.serving.limits import RefusedError

__all__ = ["answer_errors"]

_some = Repr()  # of lists and objects, with limits on length and depth
_SHOWN = 100  # characters of the name of an argument


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
        if error.status_code == 400 and isinstance(error.__cause__, (RecursionError, ValueError)):
            return _of_json(error.__cause__).response()  # FastAPI could not read the body
        response = RefusedError(error.status_code, _of_route(request, error)).response()
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(Exception)  # the server logs the traceback nevertheless
    async def failed(request: Request, error: Exception) -> Response:
        return RefusedError(500, f"the server failed with {type(error).__name__}; its log says where").response()


def _of_form(request: Request, first: dict[str, Any]) -> RefusedError:
    """The first fault that pydantic finds in a request."""
    place = ".".join(map(str, first["loc"][1:])) or "the body"
    if len(place) > _SHOWN:  # the name of an argument that does not exist may be as long as a body
        place = f"{place[:_SHOWN]}..."
    kind = request.headers.get("content-type")
    if first["loc"] == ("body",) and not _is_json(kind or ""):  # the body was not read as JSON
        return RefusedError(
            415, f"the header Content-Type must be application/json, got {'none' if kind is None else short(kind)}"
        )
    if first["type"] == "json_invalid":
        return RefusedError(422, f"the body must be JSON, got a fault at character {place}: {first['ctx']['error']}")
    if first["type"] == "missing":
        return RefusedError(422, f"{place} must be given")
    if first["type"] == "extra_forbidden":
        return RefusedError(422, f"{place} must be left out, which is no argument here, got {_short(first['input'])}")
    if place.endswith(".str"):  # the first of the types that a key or id may have
        place = place.removesuffix(".str")
        return RefusedError(422, f"{place} must be text or an integer, got {_short(first['input'])}")
    message = first["msg"].removeprefix("Input should ")
    return RefusedError(
        422, f"{place}{': ' if message == first['msg'] else ' must '}{message}, got {_short(first['input'])}"
    )


def _is_json(kind: str) -> bool:
    """Whether FastAPI reads a body with this header as JSON."""
    message = Message()
    message["content-type"] = kind
    subtype = message.get_content_subtype()
    return message.get_content_maintype() == "application" and (subtype == "json" or subtype.endswith("+json"))


def _of_json(cause: RecursionError | ValueError) -> RefusedError:
    """A fault of JSON beside those of its grammar."""
    if isinstance(cause, RecursionError):
        return RefusedError(422, "the body must be JSON with less nesting: its lists and objects are too deep")
    if isinstance(cause, UnicodeDecodeError):
        return RefusedError(422, f"the body must be JSON in UTF-8, got a fault at byte {cause.start}")
    most = sys.get_int_max_str_digits() if hasattr(sys, "get_int_max_str_digits") else 4300
    return RefusedError(422, f"the body must be JSON with integers of at most {most:,} digits, got a longer one")


def _short(value: Any) -> str:
    """The beginning of a value from JSON, which may be large and deep."""
    return _some.repr(value) if isinstance(value, (list, dict)) else short(value)


def _of_route(request: Request, error: HTTPException) -> str:
    path = short(request.scope["path"])  # `request.url` is made from the header Host too
    if error.status_code == 404:
        return f"path must be one of those in /openapi.json, got {path}"
    if error.status_code == 405:
        return f"method must be {(error.headers or {}).get('Allow', 'another one')} for {path}, got {request.method}"
    return str(error.detail)
