"""How every command takes codes: a file or standard input, in the formats of `fasthash.code_files`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fasthash._shown import for_terminal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Array", "Bits", "CodeFormat", "Format", "bar", "read", "read_array"]


class CodeFormat(str, Enum):
    """What a file of codes holds; see `fasthash.code_files.read_codes`."""

    npy = "npy"
    npz = "npz"
    hex = "hex"
    raw = "raw"


Format = Annotated[
    CodeFormat | None, typer.Option("--format", help="What the codes stand in. Default: by the file's ending.")
]
Bits = Annotated[int | None, typer.Option("--bits", help="Bits of a code; raw bytes need it.")]
Array = Annotated[str, typer.Option("--array", help="Name of the codes in an .npz file.")]


def read(path: Path, format: CodeFormat | None, bits: int | None, array: str) -> NDArray[np.uint8]:
    """Codes of a file, or of standard input for `-`.

    Raises:
        OSError, TypeError, ValueError: as `fasthash.code_files.read_codes`.
    """
    from fasthash.code_files import format_of, read_codes

    if str(path) == "-":
        return read_codes(sys.stdin.buffer, "hex" if format is None else format.value, bits, array=array)
    name = format_of(path) if format is None else format.value
    with bar(path.stat().st_size, f"reading {for_terminal(path.name)}", shown=name == "hex") as watch:
        return read_codes(path, name, bits, array=array, watch=watch)


def read_array(path: Path) -> NDArray[Any]:
    """An array of numbers in a .npy file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no .npy file.
    """
    import numpy as np

    try:
        return np.lib.format.open_memmap(path, mode="r")
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} is no .npy file: {error}") from None


@contextmanager
def bar(length: int, label: str, shown: bool = True) -> Iterator[Callable[[int], object]]:
    """A progress bar on stderr, where that is a terminal; gives what is called with each step."""
    if not (shown and sys.stderr.isatty()):
        yield lambda n: None
        return
    with typer.progressbar(length=length, label=label, file=sys.stderr) as progress:
        yield progress.update


@contextmanager
def share_bar(label: str) -> Iterator[Callable[[float], object]]:
    """The same for work that tells which share of it is done."""
    steps = 1000
    with bar(steps, label) as step:
        done = 0

        def tell(share: float) -> None:
            nonlocal done
            step(round(share * steps) - done)
            done = round(share * steps)

        yield tell
