"""Changes over HTTP: the one writer of a served store, the token that lets people use it, and its requests."""

from __future__ import annotations

import hmac
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from fasthash._checks import code_bytes
from fasthash._locks import ChangeLock
from fasthash.serving.limits import Limits, RefusedError, check_number
from fasthash.serving.queries import AS_TEXT, as_json, codes_of, ids_of, keys_of, refusing
from fasthash.store import Store

__all__ = ["LEAST_TOKEN", "AddRequest", "RemoveRequest", "UpdateRequest", "Writing"]

LEAST_TOKEN = 16  # characters


class AddRequest(BaseModel):
    """Codes to add, each with a key, an id, or neither, as the store has them."""

    model_config = ConfigDict(extra="forbid", strict=True)
    codes: list[str] = Field(description="Codes as text.")
    form: str = Field("hex", description="Form of the codes: hex or base64.")
    keys: list[str | int] | None = Field(None, description="A new key for each code.")
    ids: list[str | int] | None = Field(None, description="A new id for each code; counted if left out.")
    as_text: bool = Field(False, description=AS_TEXT)


class UpdateRequest(BaseModel):
    """New codes of entries, which are named by key or by id."""

    model_config = ConfigDict(extra="forbid", strict=True)
    codes: list[str] = Field(description="Codes as text, one for each key or id.")
    form: str = Field("hex", description="Form of the codes: hex or base64.")
    keys: list[str | int] | None = Field(None, description="Keys in the store.")
    ids: list[str | int] | None = Field(None, description="Ids in the store.")


class RemoveRequest(BaseModel):
    """Entries to remove, by key or by id."""

    model_config = ConfigDict(extra="forbid", strict=True)
    keys: list[str | int] | None = Field(None, description="Keys in the store.")
    ids: list[str | int] | None = Field(None, description="Ids in the store.")


class Writing:
    """The writer of a served store. Each request is one commit; requests wait for one another.

    Args:
        folder: of the store.
        token: what requests must show, at least `LEAST_TOKEN` characters of ASCII.

    Raises:
        ValueError: the token is too short, or no header can hold it.
        BlockingIOError: the store has another writer.
    """

    def __init__(self, folder: Path, token: str) -> None:
        if len(token) < LEAST_TOKEN:
            raise ValueError(f"token must have at least {LEAST_TOKEN} characters, got {len(token)}")
        if not (token.isascii() and token.isprintable()) or token != token.strip():
            # Clients write other characters in different ways, and servers drop spaces at the ends of a header.
            raise ValueError("token must be printable ASCII without spaces at its ends")
        self._token = token.encode()
        self._folder, self._lock = folder, ChangeLock()
        self._store: Store | None = Store(folder, "w")
        self._closed = False

    def check(self, authorization: str | None) -> None:
        """Compare the header of a request with the token, in a time that tells nothing about it.

        Raises:
            RefusedError: it is missing or wrong.
        """
        kind, _, shown = (authorization or "").partition(" ")
        same = hmac.compare_digest(shown.encode("utf-8", "surrogatepass"), self._token)
        if kind.lower() != "bearer" or not same:
            raise RefusedError(
                401, "changes need the header 'Authorization: Bearer TOKEN' with the token of the server"
            )

    def add(self, request: AddRequest, limits: Limits) -> dict[str, Any]:
        """Add entries and commit.

        Raises:
            RefusedError: an argument is wrong, or the commit failed; nothing is added.
        """
        check_number("codes of a request", len(request.codes), limits.changes)
        with self._lock("add"):
            store = self._opened()
            codes = codes_of(request.codes, request.form, code_bytes(store.n_bits))
            keys, ids = keys_of(store, request.keys), ids_of("ids", request.ids)
            added = self._change(lambda: store.add(codes, keys, ids=ids))
            return {"ids": [as_json(id, request.as_text) for id in added.tolist()], "commit": store.commit_number}

    def update(self, request: UpdateRequest, limits: Limits) -> dict[str, Any]:
        """Replace the codes of entries and commit.

        Raises:
            RefusedError: an argument is wrong, or the commit failed; nothing is replaced.
        """
        _check_named(request.keys, request.ids)
        check_number("codes of a request", len(request.codes), limits.changes)
        with self._lock("update"):
            store = self._opened()
            codes = codes_of(request.codes, request.form, code_bytes(store.n_bits))
            keys, ids = keys_of(store, request.keys), ids_of("ids", request.ids)
            self._change(lambda: store.update(keys, codes, ids=ids))
            return {"commit": store.commit_number}

    def remove(self, request: RemoveRequest, limits: Limits) -> dict[str, Any]:
        """Remove entries and commit.

        Raises:
            RefusedError: an argument is wrong, or the commit failed; nothing is removed.
        """
        _check_named(request.keys, request.ids)
        check_number("entries of a request", len(request.keys or request.ids or []), limits.changes)
        with self._lock("remove"):
            store = self._opened()
            keys, ids = keys_of(store, request.keys), ids_of("ids", request.ids)
            self._change(lambda: store.remove(keys, ids=ids))
            return {"commit": store.commit_number}

    def close(self) -> None:
        """Let others write. Later requests are refused, and so are those that wait for their turn."""
        with self._lock("close"):
            self._closed = True
            store, self._store = self._store, None
            if store is not None:
                store.close()

    def _opened(self) -> Store:
        if self._closed:
            raise RefusedError(503, "the server is stopping; try again")
        if self._store is None:  # a commit failed
            try:
                self._store = Store(self._folder, "w")
            except (OSError, ValueError) as error:
                raise RefusedError(503, f"the store cannot be written: {error}") from None
        return self._store

    def _change(self, change: Any) -> Any:
        store = self._opened()
        with refusing():
            outcome = change()
        try:
            store.commit()
        except BaseException as error:
            # The changes must not come with the next request: begin again with the last commit.
            self._store = None
            with suppress(OSError):  # as of a full disk; the store is closed nevertheless
                store.close()
            if not isinstance(error, OSError):
                raise
            raise RefusedError(503, f"the store cannot be written: {error}") from None
        return outcome


def _check_named(keys: Any, ids: Any) -> None:
    if (keys is None) == (ids is None):
        raise RefusedError(422, "give either keys or ids")
