"""The command that finds near-duplicate photos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fasthash._shown import for_terminal
from fasthash.cli._app import AsJson, Force, MaxBytes, MaxPixels, app, given, not_an_input, one_line_errors
from fasthash.cli._codes import Column, InNotation, read, read_names
from fasthash.cli._duplicates import Output, check_any, has_run, hashes_kept, tell_files, tell_groups

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fasthash.dedup import Duplicates


# Long: every option with its help.
@app.command()
def dedup(
    folders: Annotated[
        list[Path] | None, typer.Argument(metavar="FOLDER", help="Folders of photos.", show_default=False)
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
    output: Output = Path("dedup-report"),
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
    force: Force = False,
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
        from fasthash._photo_files import is_photo, is_photo_file
        from fasthash._photos import Limits
        from fasthash._review_cards import REPORT_FILES
        from fasthash._review_page import as_dict, check_output, searched, write_report
        from fasthash.dedup import check_pairs, find_with_photos

        check_output(output)
        report = [output / name for name in REPORT_FILES]
        for written in report:
            not_an_input(written, hashes, index)
        if pairs is not None:
            if is_photo(pairs.name) or (pairs.exists() and is_photo_file(pairs)):
                raise ValueError(f"--pairs must be a CSV file, got {pairs}, which is a photo or is named as one")
            not_an_input(pairs, hashes, index, output, *report)
            if pairs.exists() and not force:
                raise FileExistsError(f"{pairs} exists; --force overwrites it")
        limits = given(max_bytes=max_bytes, max_pixels=max_pixels)
        if hashes is not None:
            _only_for_photos(FOLDER=folders, **{"--index": index, "--reference": reference})
            if turned:
                raise ValueError(
                    "--turned must be left out with --hashes: only hashes that dedup itself makes with --turned can be "
                    "turned"
                )
            codes = read(hashes, None, hash_bits, "codes", column, notation)
            if len(codes) == 0:
                raise ValueError(f"no hashes in {str(hashes)!r}")
            found = _of_hashes(hashes, codes, names, radius, pairs)
        elif not folders:
            raise ValueError("give at least one folder of photos, or --hashes")
        else:
            _only_for_hashes(**{"--column": column, "--notation": notation, "--names": names})
            may_be_empty = has_run(index)  # its photos may all be gone
            check_pairs(pairs)
            with hashes_kept(index):
                found, photos = find_with_photos(
                    folders,
                    radius,
                    reference=reference or (),
                    turned=turned,
                    state=index,
                    background=background,
                    progress=not as_json,
                    **given(hash_bits=hash_bits),
                    **limits,
                )
            if not may_be_empty:
                check_any("photo", found.n_photos, found, folders)
            if pairs is not None:
                photos.write_pairs(pairs, found.radius)
        page, *_ = write_report(found, output, Limits(**limits), background)
    if as_json:
        typer.echo(json.dumps(as_dict(found), indent=2))
    elif hashes is not None:
        typer.echo(for_terminal(searched(found)))
        tell_groups("hash", found, page, "hashes")
    else:
        tell_files("photo", found.n_photos, found)
        tell_groups("photo", found, page)


def _of_hashes(
    path: Path, codes: NDArray[np.uint8], names: str | None, radius: int | None, pairs: Path | None
) -> Duplicates:
    from fasthash.dedup import group_hashes

    paths = None if names is None else read_names(path, names)
    folder = "" if path.parent == Path() else path.parent  # so that the lists name photos as the file does
    source = "standard input" if str(path) == "-" else str(path)
    return group_hashes(codes, paths, radius, folder=folder, pairs=pairs, source=source)


def _only_for_photos(**options: object) -> None:
    for name, value in options.items():
        if value:
            raise ValueError(f"{name} must be left out with --hashes")


def _only_for_hashes(**options: object) -> None:
    for name, value in options.items():
        if value is not None:
            raise ValueError(f"{name} must be left out without --hashes")
