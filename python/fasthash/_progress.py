"""Progress bars, and whether anyone watches them; called by all that shows one."""

from __future__ import annotations

import sys

__all__ = ["is_watched"]


def is_watched() -> bool:
    """Whether stderr is a terminal or a notebook: a bar that goes into a file or a pipe is a heap of lines there."""
    return "ipykernel" in sys.modules or (sys.stderr is not None and sys.stderr.isatty())
