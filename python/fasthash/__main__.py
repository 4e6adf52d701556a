"""`fasthash` and `python -m fasthash`: starts the command line, or names the missing extra."""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import suppress
from typing import NoReturn, TextIO

from fasthash._extras import MissingExtraError
from fasthash._shown import for_terminal


class _Output(io.TextIOWrapper):
    """Standard output that keeps its last error, so that the error can be told from those of other files."""

    error: OSError | None = None

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self.error = error
            raise


def main() -> None:
    """Run the command line. A missing extra, or a stream that takes no output, ends it with one line, no traceback."""
    # The OpenMP threads of torch spin while they wait for each other. With another program on the same cores, this made
    # training 25 times slower. Spinning 30 times shorter than the default costs nothing on idle cores.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    _replace_streams()
    try:
        try:
            from fasthash.cli import app

            app(prog_name="fasthash")  # under `python -m` too, for usage lines and completion
        finally:
            sys.stdout.flush()
    except MissingExtraError as error:
        sys.exit(f"fasthash: {error}")
    except OSError as error:  # a command prints one line for its own
        _end(error)


def _replace_streams() -> None:
    """Let a closed stdout or stderr swallow what is printed, and stdout keep its errors. A closed stdin stays None.

    All three keep their descriptors: otherwise the next file that is opened takes the one of a closed stream, and
    native code that prints an error writes it into that file.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is not None:
            continue
        opened = os.open(os.devnull, os.O_RDWR)
        if opened != number:  # the descriptor is in use
            os.close(opened)
        if name != "stdin":
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    out = sys.stdout
    if isinstance(out, io.TextIOWrapper):
        # If the encoding of stdout lacks a character, print an escape instead, as stderr does.
        out.reconfigure(errors="backslashreplace")
        if out is sys.__stdout__:  # which stays, and with it the buffer
            sys.stdout = _Output(
                out.buffer,
                out.encoding,
                out.errors,
                line_buffering=out.line_buffering,
                write_through=out.write_through,
            )


def _end(error: OSError) -> NoReturn:
    """Print an error of a stream, if stderr takes it, and exit with code 1."""
    if error.errno != errno.EPIPE:
        of_output = error is getattr(sys.stdout, "error", None)
        shown = f"cannot write to standard output: {error.strerror}" if of_output else error
        with suppress(OSError):
            print(f"fasthash: {for_terminal(shown)}", file=sys.stderr, flush=True)
    for stream in (sys.stdout, sys.stderr):
        _discard_unwritten(stream)
    sys.exit(1)


def _discard_unwritten(stream: TextIO) -> None:
    """Drop what a stream cannot write. Python would flush it again at the end, and complain."""
    try:
        stream.flush()
    except OSError:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


if __name__ == "__main__":
    main()
