"""The command that finds near-duplicate photos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fasthash._shown import counted, for_terminal
from fasthash.cli._app import (
    AsJson,
    MaxBytes,
    MaxPixels,
    app,
    complain,
    given,
    one_line_errors,
    sigterm_as_exit,
)
from fasthash.cli._codes import Column, InNotation, read, read_names

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fasthash.dedup import Duplicates


# Long: every option with its help.
@app.command()
def dedup(
    folders: Annotated[
        list[Path] | None, typer.Argument(metavar="FOLDER...", help="Folders of photos.", show_default=False)
    ] = None,
    radius: Annotated[
        int | None,
        typer.Option(help="Bits between near-duplicates, at most. Default: 32 of 256 bits, 4 of 64."),
    ] = None,
    hash_bits: Annotated[
        int | None, typer.Option(help="Width of the pHash: 256, or 64, which confuses more. Default: 256.")
    ] = None,
    reference: Annotated[
        list[Path] | None, typer.Option(help="Folder of photos that are to be kept; may be given several times.")
    ] = None,
    turned: Annotated[bool, typer.Option("--turned", help="Find turned and mirrored copies, too.")] = False,
    hashes: Annotated[
        Path | None, typer.Option(help="File of hashes in place of photos: hex digits, .npy, a column of a table.")
    ] = None,
    column: Column = None,
    notation: InNotation = None,
    names: Annotated[
        str | None, typer.Option(help="Column of the file of hashes that has the paths of the photos.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for the page and the lists.")] = Path("dedup-report"),
    pairs: Annotated[Path | None, typer.Option(help="CSV file for all pairs with their distances.")] = None,
    index: Annotated[
        Path | None, typer.Option(help="Folder that keeps the hashes: the next run reads only new and changed photos.")
    ] = None,
    background: Annotated[
        str, typer.Option(help="Colour behind transparent parts: a name, or #rrggbb in quotes.")
    ] = "white",
    max_bytes: MaxBytes = None,
    max_pixels: MaxPixels = None,
    as_json: AsJson = False,
) -> None:
    """Find near-duplicate photos by their perceptual hashes; nothing is deleted. Broken files are listed and left out.

    Writes index.html, on which you compare the photos and save a list of those you tick, duplicates.json and
    duplicates.csv. Exit code 0 whether or not there are duplicates.

    Examples:

        fasthash dedup photos --index photo-hashes

        fasthash dedup phone camera --reference archive --turned

        fasthash dedup --hashes hashes.csv --column phash --names path
    """
    with one_line_errors():
        from fasthash._photos import Limits
        from fasthash._review_page import as_dict, check_output, write_report
        from fasthash.dedup import find_duplicates

        check_output(output)
        limits = given(max_bytes=max_bytes, max_pixels=max_pixels)
        if hashes is not None:
            _only_for_photos(FOLDER=folders, **{"--index": index, "--reference": reference})
            codes = read(hashes, None, hash_bits, "codes", column, notation)
            found = _of_hashes(hashes, codes, names, radius, turned, pairs)
        elif not folders:
            raise ValueError("give at least one folder of photos, or --hashes")
        else:
            _only_for_hashes(**{"--column": column, "--notation": notation, "--names": names})
            try:
                with sigterm_as_exit():
                    found = find_duplicates(
                        folders,
                        radius,
                        reference=reference or (),
                        turned=turned,
                        state=index,
                        pairs=pairs,
                        background=background,
                        progress=not as_json,
                        **given(hash_bits=hash_bits),
                        **limits,
                    )
            except (KeyboardInterrupt, SystemExit):
                if index is not None:
                    complain(f"stopped; the hashes so far are in {index}, and the same command goes on from there")
                raise
        page, *_ = write_report(found, output, Limits(**limits), background)
    if as_json:
        typer.echo(json.dumps(as_dict(found), indent=2))
        return
    _tell(found, page)


def _of_hashes(
    path: Path, codes: NDArray[np.uint8], names: str | None, radius: int | None, turned: bool, pairs: Path | None
) -> Duplicates:
    from fasthash.dedup import group_hashes

    paths = [f"row {row}" for row in range(len(codes))] if names is None else read_names(path, names)
    return group_hashes(codes, paths, radius, folder=path.parent, turned=turned, pairs=pairs)


def _only_for_photos(**options: object) -> None:
    for name, value in options.items():
        if value:
            raise ValueError(f"{name} must be left out with --hashes")


def _only_for_hashes(**options: object) -> None:
    for name, value in options.items():
        if value is not None:
            raise ValueError(f"{name} must be left out without --hashes")


def _tell(found: Duplicates, page: Path) -> None:
    for path, reason in found.broken:
        typer.echo(f"skipped {for_terminal(path)}: {for_terminal(reason)}", err=True)
    n_grouped = sum(map(len, found.groups))
    typer.echo(
        f"{counted(found.n_photos, 'photo')}, {found.n_hashed:,} of them hashed now, "
        f"{counted(len(found.broken), 'file')} skipped, {counted(found.n_others, 'other file')} passed over"
    )
    typer.echo(
        f"{counted(len(found.groups), 'group')} of near-duplicates, {counted(n_grouped, 'photo')} in them; "
        f"open {for_terminal(page)}"
    )
