"""Reports of near-duplicate videos: JSON, CSV, and the page for review with a strip of frames of each video."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fasthash._durable import check_writable
from fasthash._review_cards import (
    MAX_PER_GROUP,
    REPORT_FILES,
    Card,
    Group,
    as_jpeg,
    link_to,
    marks,
    page,
    when_written,
)
from fasthash._shown import counted, for_csv, in_bytes
from fasthash._video_frames import VideoLimits, open_video
from fasthash._videos import DuplicateVideos, Video, VideoPair
from fasthash.threads import get_num_threads

__all__ = ["as_dict", "check_output", "write_report"]

MAX_STRIPS = 400  # videos whose frames are shown: some 20 MB
_N_FRAMES = 5
_SIDE = 240  # px
_HELD, _LONGER = 0.8, 1.05  # share of frames, and of the duration, at which one video holds all of another
_FACTS = ["group", "path", "bytes", "seconds", "width", "height"]
_COLUMNS = [*_FACTS, "share", "offset", "matched", "distance", "folder", "reference"]

# Pairs by the places of their videos.
_Pairs = dict[tuple[str, str], VideoPair]


def as_dict(found: DuplicateVideos) -> dict[str, Any]:
    """Return pairs, groups and broken files as plain values, ready for JSON; pairs name the places of their videos."""
    return {
        **{name: getattr(found, name) for name in ("every", "radius", "min_share", "n_videos", "n_hashed", "n_others")},
        "folders": list(found.folders),
        "hash": "phash",
        "pairs": [pair._asdict() | {"first": pair.first.place, "second": pair.second.place} for pair in found.pairs],
        "groups": [[video._asdict() for video in group] for group in found.groups],
        "broken": [{"path": path, "reason": why} for path, why in found.broken],
    }


def check_output(output: str | os.PathLike[str]) -> None:
    """Check, before videos are hashed, that `write_report` will be able to write.

    Raises:
        OSError: it will not.
    """
    check_writable("output", output, REPORT_FILES)


def write_report(found: DuplicateVideos, output: str | os.PathLike[str], limits: VideoLimits) -> Path:
    """Write index.html, duplicates.json and duplicates.csv into a folder, made if missing; return the first.

    Args:
        found: by `find_duplicate_videos`.
        output: the folder.
        limits: of the videos, which are opened again for some of their frames.
    """
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    as_html, as_json, as_csv = (output / name for name in REPORT_FILES)
    as_json.write_text(json.dumps(as_dict(found), indent=1) + "\n", encoding="utf-8")
    pairs: _Pairs = {(pair.first.place, pair.second.place): pair for pair in found.pairs}
    with open(as_csv, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(_COLUMNS)
        for number, group in enumerate(found.groups, start=1):
            for video in group:
                pair = pairs.get((group[0].place, video.place))
                figures = [pair.share, pair.offset, pair.matched, pair.distance] if pair else [""] * 4
                facts = [video.n_bytes, video.seconds, video.width, video.height]
                ends = [for_csv(video.folder), int(video.is_reference)]
                rows.writerow([number, for_csv(video.path), *facts, *figures, *ends])
    as_html.write_text(_page(found, pairs, output, limits), encoding="utf-8")
    return as_html


def _page(found: DuplicateVideos, pairs: _Pairs, output: Path, limits: VideoLimits) -> str:
    def surest(group: list[Video]) -> float:
        return -min(_share(pairs, group[0], video) for video in group[1:])

    groups = sorted(found.groups, key=surest)
    shown = [video for group in groups for video in group[:MAX_PER_GROUP]]

    def strip(numbered: tuple[int, Video]) -> list[str]:
        number, video = numbered
        return _strip(video, limits) if number < MAX_STRIPS else []

    with ThreadPoolExecutor(get_num_threads()) as pool:
        strips = pool.map(strip, enumerate(shown))
        made = [_group(n, group, strips, pairs, found, output) for n, group in enumerate(groups, start=1)]
    return page(
        "video",
        made,
        found.broken,
        found.folders,
        lead=f"{counted(found.n_videos, 'video')} in {', '.join(found.folders)}: {counted(len(groups), 'group')} of "
        f"videos of which at least {found.min_share:.0%} of the frames of the shorter one match the other one, within "
        f"{counted(found.radius, 'bit')}; one frame every {found.every:g} s. The surest groups come first.",
        note="the share, the start and the bits are those beside the first video of the group: how much matches, "
        "where the video starts in it, and how much the frames differ, 0 for the same frames.",
        ticked="what is in",
        shape="videos",
    )


def _share(pairs: _Pairs, first: Video, other: Video) -> float:
    pair = pairs.get((first.place, other.place))
    return pair.share if pair else 0.0


def _strip(video: Video, limits: VideoLimits) -> list[str]:
    """Frames of a video at even steps of its time, as URLs."""
    pictures = []
    try:
        with open_video(video.place, limits) as reader:
            for number in range(_N_FRAMES):
                image = reader.frame_at(video.seconds * (number + 0.5) / _N_FRAMES)
                if image is not None:
                    pictures.append(as_jpeg(image, _SIDE))
    except (OSError, ValueError):  # it was sound when it was hashed; what has been read is shown
        pass
    return pictures


def _group(
    number: int, group: list[Video], strips: Iterator[list[str]], pairs: _Pairs, found: DuplicateVideos, output: Path
) -> Group:
    """What the page shows of a group; takes its strips."""
    videos = group[:MAX_PER_GROUP]
    sizes = [(video.width * video.height * video.seconds, video.n_bytes) for video in videos]
    marked = marks(sizes, [video.is_reference for video in videos])
    keepers = [video for video, (_, is_kept) in zip(videos, marked, strict=True) if is_kept]
    cards = [
        Card(
            video.place,
            video.place if len(found.folders) > 1 else video.path,
            link_to(video.place, output),
            next(strips),
            video.n_bytes,
            _facts(video),
            [] if video is group[0] else _tags(pairs.get((group[0].place, video.place))),
            video.is_reference,
            is_largest,
            is_kept or not any(_holds(pairs, keeper, video) for keeper in keepers),
        )
        for video, (is_largest, is_kept) in zip(videos, marked, strict=True)
    ]
    return Group(f"Group {number}: {len(group)} videos", cards, len(group) - len(videos))


def _holds(pairs: _Pairs, keeper: Video, video: Video) -> bool:
    """Whether next to nothing of a video is lost with it: one that others tie to the group, or a longer one, may have
    much that the keeper lacks."""
    pair = pairs.get((keeper.place, video.place)) or pairs.get((video.place, keeper.place))
    return pair is not None and pair.share >= _HELD and video.seconds <= _LONGER * keeper.seconds


def _facts(video: Video) -> list[str]:
    size = f"{video.width:,} × {video.height:,} px"
    return [_as_time(video.seconds), size, in_bytes(video.n_bytes), when_written(video.time)]


def _tags(pair: VideoPair | None) -> list[str]:
    """How a video compares with the first one of its group."""
    if pair is None:
        return ["matches others of the group, not the first"]
    if pair.offset == 0:
        starts = "starts together"
    else:
        starts = f"starts {abs(pair.offset):g} s {'into it' if pair.offset > 0 else 'before it'}"
    return [f"{pair.share:.0%} of the frames", starts, f"{pair.distance:g} bits"]


def _as_time(seconds: float) -> str:
    """A duration as people read it: 1:02:03, or with tenths below a minute."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
