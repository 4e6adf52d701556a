"""What all commands share: the application, errors of one line, files that are not overwritten by mistake."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from fasthash import FormatError, __version__
from fasthash._shown import for_terminal

__all__ = [
    "Force",
    "MaxBytes",
    "MaxPixels",
    "app",
    "complain",
    "fail",
    "given",
    "new_file",
    "not_an_input",
    "one_line_errors",
    "use_threads",
    "whole_numbers",
]

_UsageError: Any = typer.BadParameter.__base__  # of click, which newer releases of typer hold inside themselves


@contextmanager
def _shown_usage_errors() -> Iterator[None]:
    """Wrong usage quotes words of the command line, which a shell may have made of names of files."""
    try:
        yield
    except _UsageError as error:
        error.message = for_terminal(error.message)
        raise


class _Commands(TyperGroup):
    """All commands: where words become arguments, errors are made fit to be shown."""

    def make_context(self, *args: Any, **options: Any) -> Any:
        with _shown_usage_errors():
            return super().make_context(*args, **options)

    def invoke(self, ctx: Any) -> Any:
        with _shown_usage_errors():
            return super().invoke(ctx)


app = typer.Typer(
    name="fasthash", cls=_Commands, no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False
)


Force = Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")]
MaxBytes = Annotated[
    int | None, typer.Option(help="An image file of more bytes counts as broken. Default: 268435456, 256 MiB.")
]
MaxPixels = Annotated[int | None, typer.Option(help="An image of more pixels counts as broken. Default: 134217728.")]


def _print_version(wanted: bool) -> None:
    if wanted:
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
    """What a user can put right ends the command with one line and exit code 1."""
    try:
        yield
    except BrokenPipeError:  # who reads the output has seen enough
        raise
    except (FormatError, OSError, TypeError, ValueError, FloatingPointError, MemoryError) as error:
        fail(str(error) or type(error).__name__)


def complain(message: str) -> None:
    """Say on stderr what is wrong."""
    typer.echo(f"fasthash: {for_terminal(message)}", err=True)


def fail(message: str) -> NoReturn:
    """Say on stderr what is wrong and end with exit code 1."""
    complain(message)
    raise typer.Exit(1)


def new_file(path: Path, force: bool, *inputs: Path | None) -> Path:
    """A file or folder that may be written; checked first, not after the work of minutes.

    Args:
        inputs: what the command reads, and what else it writes; None and `-` for what is no file.

    Raises:
        OSError: it is there already and `force` is not set, or it has no folder to stand in.
        ValueError: it is one of the inputs, under whatever name.
    """
    not_an_input(path, *inputs)
    if path.exists() and not force:
        raise FileExistsError(f"{path} exists; --force overwrites it")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent} is no folder, so that {path.name} cannot be written there")
    return path


def not_an_input(path: Path, *inputs: Path | str | None) -> None:
    """Check that a file or folder to be written is not one to be read; `inputs` as of `new_file`.

    Raises:
        ValueError: it is.
    """
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
    """Options without those that were left out, which keep the default of the function that takes them."""
    return {name: value for name, value in options.items() if value is not None}


def use_threads(n: int | None) -> int:
    """Set the number of threads, if one is given; tells how many there are."""
    from fasthash import get_num_threads, set_num_threads

    if n is not None:
        set_num_threads(n)
    return get_num_threads()


def whole_numbers(name: str, text: str) -> list[int]:
    """Numbers with commas between.

    Raises:
        ValueError: `text` is something else.
    """
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"{name} must be whole numbers with commas between, such as 8,16,40, got {text!r}") from None
