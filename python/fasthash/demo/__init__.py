"""`fasthash demo`: the whole path from images to a search report in one command."""

from __future__ import annotations

from fasthash._extras import needs_extra

with needs_extra("demo"):
    from fasthash.demo.run import run_demo

__all__ = ["run_demo"]
