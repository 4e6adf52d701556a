"""The command that finds near-duplicate photos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from fasthash._shown import counted, for_terminal
from fasthash.cli._app import (
    MaxBytes,
    MaxPixels,
    app,
    complain,
    given,
    one_line_errors,
    sigterm_as_exit,
)


@app.command()
def dedup(
    folder: Annotated[Path, typer.Argument(help="Folder of photos.", show_default=False)],
    radius: Annotated[
        int | None, typer.Option(help="Bits between near-duplicates, at most. Default: a sixteenth of the hash.")
    ] = None,
    hash_bits: Annotated[int, typer.Option(help="Width of the pHash: 64 or 256.")] = 64,
    output: Annotated[Path, typer.Option(help="Folder for the contact sheet and the lists.")] = Path("dedup-report"),
    index: Annotated[
        Path | None, typer.Option(help="Folder that keeps the hashes: the next run reads only new and changed photos.")
    ] = None,
    background: Annotated[
        str, typer.Option(help="Colour behind transparent parts: a name, or #rrggbb in quotes.")
    ] = "white",
    max_bytes: MaxBytes = None,
    max_pixels: MaxPixels = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find near-duplicate photos by their perceptual hashes; nothing is deleted. Broken files are listed and left out.

    Writes index.html, duplicates.json and duplicates.csv. Exit code 0 whether or not there are duplicates.

    Examples:

        fasthash dedup photos

        fasthash dedup photos --hash-bits 256 --radius 24 --index photo-hashes
    """
    with one_line_errors():
        from fasthash._contact_sheet import as_dict, check_output, write_report
        from fasthash._photos import Limits
        from fasthash.dedup import find_duplicates

        check_output(output)
        limits = given(max_bytes=max_bytes, max_pixels=max_pixels)
        try:
            with sigterm_as_exit():
                found = find_duplicates(
                    folder,
                    radius,
                    hash_bits=hash_bits,
                    state=index,
                    background=background,
                    progress=not as_json,
                    **limits,
                )
        except (KeyboardInterrupt, SystemExit):
            if index is not None:
                complain(f"stopped; the hashes so far are in {index}, and the same command goes on from there")
            raise
        page, *_ = write_report(found, folder, output, Limits(**limits), background)
    if as_json:
        typer.echo(json.dumps(as_dict(found), indent=2))
        return
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
