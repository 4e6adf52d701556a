"""Reads the codes given to commands, from a file or standard input, in the formats of `fasthash.code_files`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from fasthash._checks import check_width, code_bytes
from fasthash._folder_kinds import class_in_card
from fasthash._index_files import is_index_file
from fasthash._saved_folder import CARD_NAME
from fasthash._shown import for_terminal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "Array",
    "Bits",
    "CodeFormat",
    "Column",
    "Format",
    "InNotation",
    "bar",
    "check_index_name",
    "check_input",
    "holds_parts",
    "is_archive",
    "is_photo",
    "one_stdin",
    "read",
    "read_array",
    "read_names",
]


# The usual endings of photos, for a clear error. `fasthash._photo_files` knows more, but needs Pillow.
_PHOTO_ENDINGS = (".avif", ".bmp", ".gif", ".heic", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


class CodeFormat(str, Enum):
    """The content of a file of codes; see `fasthash.code_files.read_codes`."""

    npy = "npy"
    npz = "npz"
    hex = "hex"
    bits = "bits"
    decimal = "decimal"
    base64 = "base64"
    csv = "csv"
    tsv = "tsv"
    fps = "fps"
    parquet = "parquet"
    raw = "raw"


class Notation(str, Enum):
    """How a table writes a code; see `fasthash.code_files.read_codes`."""

    hex = "hex"
    bits = "bits"
    decimal = "decimal"
    base64 = "base64"


Format = Annotated[
    CodeFormat | None, typer.Option("--format", help="What the codes stand in. Default: by the file's ending.")
]
Bits = Annotated[
    int | None,
    typer.Option("--bits", help="Bits of a code. Needed by raw bytes, decimal numbers, and widths no multiple of 8."),
]
Array = Annotated[str, typer.Option("--array", help="Name of the codes in an .npz file.")]
Column = Annotated[
    str | None, typer.Option("--column", help="Column of a table: its name, or its number from 0 if columns have none.")
]
InNotation = Annotated[
    Notation | None, typer.Option("--notation", help="How a table writes a code. Default: hex digits.")
]


def read(
    path: Path,
    format: CodeFormat | None,
    bits: int | None,
    array: str,
    column: str | None = None,
    notation: Notation | None = None,
) -> NDArray[np.uint8]:
    """Codes of a file, of a folder that `fasthash encode --ray` wrote, or of standard input for `-`.

    Raises:
        OSError, TypeError, ValueError: as `fasthash.code_files.read_codes`; or it is no file of codes but another
            folder, an index or a photo.
    """
    from fasthash.code_files import format_of, read_codes

    is_stdin = str(path) == "-"
    check_input(path, format)
    if not is_stdin and path.is_dir():
        if column is not None or notation is not None or array != "codes":
            raise ValueError(f"{path} holds parts of codes: leave out --array, --column and --notation")
        return _codes_of_parts(path, bits)
    name = None if format is None else format.value
    way = None if notation is None else notation.value
    place = int(column) if column is not None and column.isascii() and column.isdigit() else column
    told = name or ("hex" if is_stdin else format_of(path))
    n = 0 if is_stdin else path.stat().st_size
    shown = n > 0 and told not in ("npy", "npz", "raw", "parquet")  # a pipe has no size
    source = _stdin() if is_stdin else path
    with bar(n, f"reading {for_terminal(path.name)}", shown=shown) as watch:
        return read_codes(source, name, bits, array=array, column=place, notation=way, watch=watch)


def check_input(path: Path, format: CodeFormat | None) -> None:
    """Check that a path may be that of codes, and else say which command reads it; raises as `read`."""
    if str(path) == "-":
        return
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    if path.is_dir():
        if holds_parts(path) and format is None:
            return
        if (path / "manifest").exists():
            raise IsADirectoryError(f"{path} is a store, not a file of codes; fasthash export writes its codes to one")
        raise IsADirectoryError(f"{path} is a folder; fasthash encode makes codes of photos")
    if is_photo(path, format):
        raise ValueError(f"{path} is a photo; fasthash encode makes codes of photos")
    if format is None and is_index_file(path):
        raise ValueError(f"{path} is an index, not a file of codes; fasthash export writes its codes to one")


def holds_parts(path: Path) -> bool:
    """Whether a path is a folder that `fasthash encode --ray` wrote."""
    return class_in_card(path / CARD_NAME) == "EncodedParts"


def _codes_of_parts(folder: Path, bits: int | None) -> NDArray[np.uint8]:
    import numpy as np

    from fasthash.distributed import EncodedParts

    parts = EncodedParts(folder)
    n_bits = sum(parts.level_bits)
    if bits is not None and check_width("bits", bits) != n_bits:
        raise ValueError(f"{folder} holds codes of {n_bits} bits, expected {bits}")
    empty = np.empty((0, code_bytes(n_bits)), np.uint8)
    return np.concatenate([empty, *(codes for codes, _, _ in parts)])


def check_index_name(name: str, path: Path) -> None:
    """Check that an index file, the argument `name`, is not named as a file of codes is.

    Raises:
        ValueError: it is.
    """
    from fasthash.code_files import ENDINGS

    if (ending := path.suffix.lower()) in ENDINGS:
        raise ValueError(f"{name} must be named as an index, such as {path.stem}.fh, got {path}: {ending} is for codes")


def is_photo(path: Path, format: CodeFormat | None) -> bool:
    """Whether a file that is there has the name of a photo, and no format of codes is named."""
    return format is None and path.suffix.lower() in _PHOTO_ENDINGS and path.is_file()


def is_archive(path: Path, format: CodeFormat | None) -> bool:
    """Whether codes are read from an .npz file."""
    from fasthash.code_files import format_of

    return format is CodeFormat.npz or (format is None and str(path) != "-" and format_of(path) == "npz")


def read_names(path: Path, column: str) -> list[str]:
    """A column of names in a table of text.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no .csv or .tsv file, has no such column, a name is empty, or its quotes are not closed.
    """
    from fasthash._code_tables import table_rows

    format = path.suffix.lower().removeprefix(".")
    if format not in ("csv", "tsv"):
        raise ValueError(f"names are read from .csv and .tsv files, got {path}")
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        rows = table_rows(file, format, str(path))
        names, _ = next(rows, ([], 0))
        if column not in names:
            raise ValueError(f"names must be a column of {path}: {', '.join(names)}; got {column!r}")
        place = len(names) - 1 - names[::-1].index(column)  # the last of several, as in csv.DictReader
        found = []
        for cells, line in rows:
            if place >= len(cells) or not cells[place]:
                raise ValueError(f"{path}, line {line}, column {column!r}: a name must not be empty")
            found.append(cells[place])
        return found


def read_array(path: Path) -> NDArray[Any]:
    """An array of numbers in a .npy file, or of standard input for `-`.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no .npy file.
    """
    from fasthash.code_files import read_npy

    return read_npy(_stdin(), "standard input") if str(path) == "-" else read_npy(path, str(path))


def _stdin() -> BinaryIO:
    """Standard input as a stream of bytes.

    Raises:
        OSError: it is closed.
    """
    if sys.stdin is None:
        raise OSError("standard input is closed")
    return sys.stdin.buffer


def one_stdin(*paths: Path | None) -> None:
    """Standard input can be read only once.

    Raises:
        ValueError: several of the arguments are `-`.
    """
    if [str(path) for path in paths].count("-") > 1:
        raise ValueError("only one argument can be -, since standard input is read once")


@contextmanager
def bar(length: int, label: str, shown: bool = True) -> Iterator[Callable[[int], object]]:
    """A progress bar on stderr, where that is a terminal; gives what is called with each step."""
    if not (shown and sys.stderr is not None and sys.stderr.isatty()):
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
