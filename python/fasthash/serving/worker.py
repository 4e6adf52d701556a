"""One process of a server: makes its application from settings in the environment, for the workers of uvicorn."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fasthash.serving.app import make_app
from fasthash.serving.limits import Limits
from fasthash.serving.photos import reader_of
from fasthash.store import Store

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["make", "settings"]

VARIABLE = "FASTHASH_SERVE"


def settings(store: Path, limits: Limits, images: Path | None, encoder: Path | None) -> dict[str, str]:
    """The environment that `make` reads."""
    paths = {name: path and os.path.abspath(path) for name, path in (("images", images), ("encoder", encoder))}
    return {VARIABLE: json.dumps({"store": os.path.abspath(store), "limits": asdict(limits), **paths})}


def make() -> FastAPI:
    """Make the application of this process."""
    given: dict[str, Any] = json.loads(os.environ[VARIABLE])
    store = Store(given["store"])
    make_codes = None if given["encoder"] is None else reader_of(given["encoder"], store.n_bits)
    images = None if given["images"] is None else Path(given["images"])
    return make_app(store, Limits(**given["limits"]), images=images, make_codes=make_codes)
