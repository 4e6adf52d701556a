"""The command that finds near-duplicate videos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from fasthash.cli._app import AsJson, app, one_line_errors
from fasthash.cli._duplicates import Output, check_any, has_run, hashes_kept, tell_files, tell_groups


@app.command("dedup-videos")
def dedup_videos(
    folders: Annotated[list[Path], typer.Argument(metavar="FOLDER", help="Folders of videos.", show_default=False)],
    radius: Annotated[int, typer.Option(help="Bits of 256 between frames that match, at most.")] = 32,
    every: Annotated[float, typer.Option(help="Seconds from one frame that is compared to the next.")] = 0.25,
    min_share: Annotated[
        float, typer.Option(help="Share of the frames of the shorter video that must match, at least.")
    ] = 0.4,
    reference: Annotated[
        list[Path] | None, typer.Option(help="Folder of videos that are to be kept; may be given several times.")
    ] = None,
    output: Output = Path("video-report"),
    index: Annotated[
        Path | None, typer.Option(help="Folder that keeps the hashes: the next run reads only new and changed videos.")
    ] = None,
    max_pixels: Annotated[int, typer.Option(help="A video with larger frames counts as broken.")] = 1 << 27,
    max_seconds: Annotated[int, typer.Option(help="A video that lasts longer counts as broken.")] = 12 * 3600,
    as_json: AsJson = False,
) -> None:
    """Find near-duplicate videos by their frames: encoded anew, resized, trimmed or cut out; nothing is deleted.

    Writes index.html, on which you compare the videos and save a list of those you tick, duplicates.json and
    duplicates.csv. Broken files are listed and left out. Exit code 0 whether or not there are duplicates.

    Examples:

        fasthash dedup-videos videos --index video-hashes

        fasthash dedup-videos phone camera --reference archive
    """
    with one_line_errors():
        from fasthash._video_frames import VideoLimits
        from fasthash._video_page import as_dict, check_output, write_report
        from fasthash.dedup import find_duplicate_videos

        check_output(output)
        limits = VideoLimits(max_pixels, max_seconds)
        may_be_empty = has_run(index)  # its videos may all be gone
        with hashes_kept(index):
            found = find_duplicate_videos(
                folders,
                radius,
                reference=reference or (),
                every=every,
                min_share=min_share,
                state=index,
                max_pixels=max_pixels,
                max_seconds=max_seconds,
                progress=not as_json,
            )
        if not may_be_empty:
            check_any("video", found.n_videos, found, folders)
        page = write_report(found, output, limits)
    if as_json:
        typer.echo(json.dumps(as_dict(found), indent=2))
        return
    tell_files("video", found.n_videos, found)
    tell_groups("video", found, page)
