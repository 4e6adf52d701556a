"""What the commands for near-duplicate photos and videos share: options, saving when stopped, and what they print."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fasthash._shown import counted, for_terminal
from fasthash.cli._app import complain, sigterm_as_exit

if TYPE_CHECKING:
    from fasthash.dedup import Duplicates, DuplicateVideos

__all__ = ["Output", "check_any", "has_run", "hashes_kept", "tell_files", "tell_groups"]

Output = Annotated[Path, typer.Option("--output", "-o", help="Folder for the page and the lists.")]


@contextmanager
def hashes_kept(index: Path | None) -> Iterator[None]:
    """A block that hashes files; if Ctrl-C or SIGTERM ends it, say where the hashes are."""
    try:
        with sigterm_as_exit():
            yield
    except (KeyboardInterrupt, SystemExit):
        if index is not None:
            complain(f"stopped; the hashes so far are in {index}, and the same command goes on from there")
        raise


def has_run(index: Path | None) -> bool:
    """Whether an earlier run has kept hashes there."""
    from fasthash._saved_folder import CARD_NAME

    if index is None:
        return False
    return (index / CARD_NAME).is_file() or any(index.glob(f"*/{CARD_NAME}"))  # one for each of several folders


def check_any(noun: str, n: int, found: Duplicates | DuplicateVideos, folders: Sequence[Path]) -> None:
    """Check that there are files of a kind, sound or broken.

    Raises:
        ValueError: there are none.
    """
    if n == 0 and not found.broken:
        places = ", ".join(repr(str(folder)) for folder in folders)
        raise ValueError(f"no {noun}s below {places} ({counted(found.n_others, 'file')})")


def tell_files(noun: str, n: int, found: Duplicates | DuplicateVideos) -> None:
    """Print how many files were searched, and on stderr the broken ones."""
    for path, reason in found.broken:
        typer.echo(f"skipped {for_terminal(path)}: {for_terminal(reason)}", err=True)
    typer.echo(
        f"{counted(n, noun)}, {found.n_hashed:,} of them hashed now, "
        f"{counted(len(found.broken), 'file')} skipped, {counted(found.n_others, 'other file')} passed over"
    )


def tell_groups(noun: str, found: Duplicates | DuplicateVideos, page: Path, plural: str | None = None) -> None:
    """Print how many groups there are, and where the page is."""
    n_grouped = sum(map(len, found.groups))
    typer.echo(
        f"{counted(len(found.groups), 'group')} of near-duplicates, {counted(n_grouped, noun, plural)} in them; "
        f"open {for_terminal(page)}"
    )
