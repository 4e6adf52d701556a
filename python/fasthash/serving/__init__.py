"""A store served over HTTP: an interface for programs, and a page for people (docs/serving.md)."""

from __future__ import annotations

from typing import Any

from fasthash._extras import needs_extra

with needs_extra("serve"):
    import uvicorn

    from fasthash.serving.app import make_app
    from fasthash.serving.limits import Limits
    from fasthash.serving.photos import reader_of

__all__ = ["Limits", "make_app", "reader_of", "run"]


def run(app: Any, host: str, port: int) -> None:
    """Serve an application until the process is told to stop."""
    uvicorn.run(app, host=host, port=port, log_level="warning")
