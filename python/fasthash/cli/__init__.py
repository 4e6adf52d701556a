"""The command line. Errors print one line on stderr and exit with code 1; wrong usage exits with code 2."""

from __future__ import annotations

from fasthash._extras import needs_extra

# Commands import heavy modules when they run, so that `fasthash --help` needs no torch.
with needs_extra("cli"):
    from fasthash.cli import dedup, export, indices, inspecting, learning, serving, speed, stores, videos
    from fasthash.cli._app import app

__all__ = ["app", "dedup", "export", "indices", "inspecting", "learning", "serving", "speed", "stores", "videos"]
