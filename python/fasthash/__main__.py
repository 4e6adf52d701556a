"""`fasthash` and `python -m fasthash`: starts the command line, or names the missing extra."""

from __future__ import annotations

import io
import os
import sys

from fasthash._extras import MissingExtraError


def main() -> None:
    """Run the command line; a missing extra ends it with one line instead of a traceback."""
    # The OpenMP threads of torch spin while they wait for each other. With another program on the same cores, this made
    # training 25 times slower. Spinning 30 times shorter than the default costs nothing on idle cores.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    # If the encoding of stdout lacks a character, print an escape instead, as stderr does.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        from fasthash.cli import app

        app(prog_name="fasthash")  # under `python -m` too, for usage lines and completion
    except MissingExtraError as error:
        sys.exit(f"fasthash: {error}")


if __name__ == "__main__":
    main()
