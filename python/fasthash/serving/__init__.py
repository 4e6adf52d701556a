"""A store served over HTTP: an interface for programs, and a page for people (docs/serving.md)."""

from __future__ import annotations

import math
import os
from typing import Any

from fasthash._extras import needs_extra

with needs_extra("serve"):
    import uvicorn

    from fasthash.serving.app import make_app
    from fasthash.serving.changes import Writing
    from fasthash.serving.limits import Limits
    from fasthash.serving.photos import reader_of
    from fasthash.serving.worker import settings

__all__ = ["Limits", "Writing", "make_app", "reader_of", "run", "run_workers", "settings"]


_MORE_SECONDS = 5  # than a search may take: a server that is told to stop waits so long for the requests that it has


def run(app: Any, host: str, port: int, limits: Limits) -> None:
    """Serve an application until the process is told to stop.

    Args:
        app: from `make_app`.
        host: address to listen on.
        port: to listen on.
        limits: those of the application; unfinished requests are given up after `limits.seconds` and some more.
    """
    uvicorn.run(app, host=host, port=port, **_options(limits))


def run_workers(n: int, environment: dict[str, str], host: str, port: int, limits: Limits) -> None:
    """Serve a store with n processes on one port until told to stop; one that ends is started again.

    Args:
        n: number of processes.
        environment: from `settings`.
        host: address to listen on.
        port: to listen on.
        limits: as of `run`.
    """
    os.environ.update(environment)
    uvicorn.run("fasthash.serving.worker:make", factory=True, workers=n, host=host, port=port, **_options(limits))


def _options(limits: Limits) -> dict[str, Any]:
    # Without a timeout, a client that never ends its request would keep the server from stopping.
    return {"log_level": "warning", "timeout_graceful_shutdown": math.ceil(limits.seconds) + _MORE_SECONDS}
