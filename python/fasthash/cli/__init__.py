"""The command line. A mistake of the user ends with one line on stderr and exit code 1, wrong usage with 2."""

from __future__ import annotations

from fasthash._extras import needs_extra

# What a command works with is imported when it runs, so that `fasthash --help` needs no torch.
with needs_extra("cli"):
    from fasthash.cli import dedup, indices, learning, speed
    from fasthash.cli._app import app

__all__ = ["app", "dedup", "indices", "learning", "speed"]
