"""The whole main job on real images in one command: `fasthash demo`."""

from __future__ import annotations

from fasthash._extras import needs_extra

with needs_extra("demo"):
    from fasthash.demo.run import run_demo

__all__ = ["run_demo"]
