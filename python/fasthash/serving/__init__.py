"""A store served over HTTP: an interface for programs, and a page for people (docs/serving.md)."""

from __future__ import annotations

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


def run(app: Any, host: str, port: int) -> None:
    """Serve an application until the process is told to stop."""
    uvicorn.run(app, host=host, port=port, log_level="warning")


def run_workers(n: int, environment: dict[str, str], host: str, port: int) -> None:
    """Serve a store with n processes on one port until told to stop; one that ends is started again.

    Args:
        n: number of processes.
        environment: from `settings`.
        host: address to listen on.
        port: to listen on.
    """
    os.environ.update(environment)
    uvicorn.run("fasthash.serving.worker:make", factory=True, workers=n, host=host, port=port, log_level="warning")
