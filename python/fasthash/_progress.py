"""Progress bars, whether anyone watches them, and how wide they are; called by all that shows one."""

from __future__ import annotations

import os
import sys

__all__ = ["is_watched", "width"]


def is_watched() -> bool:
    """Whether stderr is a terminal or a notebook: a bar that goes into a file or a pipe is a heap of lines there."""
    return "ipykernel" in sys.modules or (sys.stderr is not None and sys.stderr.isatty())


def width() -> int | None:
    """Columns of a bar: 80 if the terminal says that it has none, as a new pseudo-terminal does; None lets tqdm ask."""
    try:
        return None if os.get_terminal_size(sys.stderr.fileno()).columns else 80
    except (AttributeError, OSError, ValueError):  # stderr is no terminal, or closed
        return None
