"""The application and helpers of all commands: one-line errors, and protection against overwriting files."""

from __future__ import annotations

import inspect
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from fasthash import FormatError, __version__
from fasthash._checks import check_int
from fasthash._durable import check_writable
from fasthash._folder_kinds import saved_folder_above
from fasthash._shown import for_terminal
from fasthash.cli._as_typed import as_typed

__all__ = [
    "AsJson",
    "Force",
    "MaxBytes",
    "MaxPixels",
    "app",
    "complain",
    "fail",
    "given",
    "in_one_line",
    "is_of_output",
    "new_file",
    "not_an_input",
    "one_line_errors",
    "sigterm_as_exit",
    "typed",
    "use_threads",
    "whole_numbers",
]

# Classes and functions of click. Newer releases of typer bundle it under another name.
_UsageError: Any = typer.BadParameter.__base__
_current_context: Any = import_module(
    f"{typer.Context.__base__.__module__.rpartition('.')[0]}.globals"
).get_current_context

# The order of `fasthash --help`: codes, photos and videos, training.
_ORDER = (
    *("build", "search", "info", "verify", "compact", "export", "bench"),
    *("encode", "dedup", "dedup-videos", "serve"),
    *("demo", "train", "eval"),
)


@contextmanager
def _shown_usage_errors() -> Iterator[None]:
    """Make usage errors safe to print: they quote arguments, which may be hostile file names."""
    try:
        yield
    except _UsageError as error:
        error.message = for_terminal(error.message)
        raise


class _Commands(TyperGroup):
    """The group of all commands: their order and help texts, and usage errors that are safe to print."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=_ORDER.index)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        command = super().get_command(ctx, cmd_name)
        if command is not None and command.help:
            command.help = _in_paragraphs(command.help)
        return command

    def make_context(self, *args: Any, **options: Any) -> Any:
        with _shown_usage_errors():
            return super().make_context(*args, **options)

    def invoke(self, ctx: Any) -> Any:
        with _shown_usage_errors():
            return super().invoke(ctx)


def _in_paragraphs(text: str) -> str:
    """A help text without the line ends of the source, at which typer would break lines; indented lines stay."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(each if each.startswith(" ") else each.replace("\n", " ") for each in paragraphs)


app = typer.Typer(
    name="fasthash", cls=_Commands, no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False
)


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite existing files.")]
MaxBytes = Annotated[
    int | None, typer.Option(help="An image file of more bytes counts as broken. Default: 268435456, 256 MiB.")
]
MaxPixels = Annotated[
    int | None,
    typer.Option(help="An image of more pixels counts as broken. Default: 134217728. More lifts Pillow's limit, too."),
]


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"fasthash {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Find the nearest among millions of binary codes by Hamming distance, exactly; learn such codes from images."""


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn errors that a user can fix into one line on stderr and exit code 1.

    An error of standard output goes on to `fasthash.__main__`, which prints the line for all commands.
    """
    try:
        yield
    except BrokenPipeError:  # the reader of the output has closed it, as `head` does
        raise
    except OSError as error:
        if is_of_output(error):
            raise
        fail(typed(_of_worker(in_one_line(error))) or type(error).__name__)
    except (FormatError, TypeError, ValueError, FloatingPointError, MemoryError) as error:
        fail(typed(_of_worker(str(error))) or type(error).__name__)


def is_of_output(error: Exception) -> bool:
    """Whether standard output raised an error; `fasthash.__main__` keeps it there."""
    return error is getattr(sys.stdout, "error", None)


def typed(message: str) -> str:
    """A message of the library with the options of the running command in place of arguments of Python."""
    context = _current_context(silent=True)
    if context is None:
        return message
    flags = {each.name: max(each.opts, key=len) for each in context.command.params}
    options = {name: flag for name, flag in flags.items() if flag.startswith("-")}
    return as_typed(message, options, given(**{name: context.params.get(name) for name in options}))


def in_one_line(error: Exception) -> str:
    """The message of an error; one of the system has the file first, and not its number in the system's list."""
    if not isinstance(error, OSError) or error.strerror is None or error.filename is None:
        return str(error)
    return f"{os.fsdecode(error.filename)}: {error.strerror}"


def _of_worker(message: str) -> str:
    """The message of an error without the traceback that a process of torch's DataLoader puts before it."""
    return message.strip().rpartition("\n")[2] if "\nOriginal Traceback (" in message else message


@contextmanager
def sigterm_as_exit() -> Iterator[None]:
    """SIGTERM ends the block with an exception, as Ctrl-C does, so that what has been done can be saved."""

    def end(number: int, frame: object) -> NoReturn:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():  # which alone may set handlers
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def complain(message: str) -> None:
    """Print an error on stderr."""
    typer.echo(f"fasthash: {for_terminal(message)}", err=True)


def fail(message: str) -> NoReturn:
    """Print an error on stderr and exit with code 1."""
    complain(message)
    raise typer.Exit(1)


def new_file(path: Path, force: bool, *inputs: Path | None, otherwise: str = "--force overwrites it") -> Path:
    """Check that an output file or folder may be written, before the work starts; return its path.

    Args:
        inputs: files and folders that the command reads, and its other outputs; None and `-` are ignored.
        otherwise: what an error advises if the file exists.

    Raises:
        OSError: the file exists and `force` is not set, or its folder does not exist or cannot be written.
        ValueError: as of `not_an_input`.
    """
    not_an_input(path, *inputs)
    if path.exists() and not force:
        raise FileExistsError(f"{path} exists; {otherwise}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent} is no folder, so that {path.name} cannot be written there")
    if not path.exists():
        check_writable("folder", path.parent)
    return path


def not_an_input(path: Path, *inputs: Path | str | None) -> None:
    """Check that a file or folder to be written is not one to be read, or a part of something that was saved.

    Args:
        inputs: as of `new_file`.

    Raises:
        ValueError: it is.
    """
    if str(path) == "-":
        raise ValueError("the output must be a file or folder, got -; without the option, results go to stdout")
    if saved := saved_folder_above(path):
        raise ValueError(f"the output must be outside {saved}, a saved folder whose files belong together, got {path}")
    for other in inputs:
        if other is not None and str(other) != "-" and _is_same(path, Path(other)):
            raise ValueError(f"the output must be another file or folder than {other}, got {path}")


def _is_same(a: Path, b: Path) -> bool:
    """Whether two names are of one file; also of one that is yet to be written."""
    try:
        return os.path.samefile(a, b)
    except OSError:  # one of them is not there
        return os.path.realpath(a) == os.path.realpath(b)


def given(**options: Any) -> dict[str, Any]:
    """Drop options that are None, so that the called function uses its own defaults."""
    return {name: value for name, value in options.items() if value is not None}


def use_threads(n: int | None) -> int:
    """Set the number of threads unless `n` is None; return the number in use."""
    from fasthash import get_num_threads, set_num_threads

    if n is not None:
        set_num_threads(check_int("threads", n, minimum=1))
    return get_num_threads()


def whole_numbers(name: str, text: str) -> list[int]:
    """Parse integers separated by commas.

    Raises:
        ValueError: `text` is not such a list.
    """
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"{name} must be whole numbers with commas between, such as 8,16,40, got {text!r}") from None
