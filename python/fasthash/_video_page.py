"""Reports of near-duplicate videos: JSON, CSV, and the page for review with a strip of frames of each video."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fasthash._review_cards import (
    Card,
    Group,
    Review,
    as_jpeg,
    check_output,
    link_to,
    page,
    review,
    when_written,
    write_lists,
)
from fasthash._shown import counted, in_bytes
from fasthash._video_frames import VideoLimits, open_video
from fasthash._videos import DuplicateVideos, Video, VideoPair
from fasthash.threads import get_num_threads

__all__ = ["as_dict", "check_output", "write_report"]

MAX_STRIPS = 400  # videos whose frames are shown: some 20 MB
_N_FRAMES = 5
_SIDE = 240  # px
_HELD, _LONGER = 0.8, 1.05  # share of frames, and of the duration, at which one video holds all of another
_COLUMNS = ["seconds", "width", "height", "share", "offset", "matched", "distance"]

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


def write_report(found: DuplicateVideos, output: str | os.PathLike[str], limits: VideoLimits) -> Path:
    """Write index.html, duplicates.json and duplicates.csv into a folder, made if missing; return the first.

    Args:
        found: by `find_duplicate_videos`.
        output: the folder.
        limits: of the videos, which are opened again for some of their frames.
    """
    output = Path(output)
    pairs: _Pairs = {(pair.first.place, pair.second.place): pair for pair in found.pairs}
    reviews = [review(group, list(map(_size, group))) for group in found.groups]

    def facts(first: Video, video: Video) -> list[Any]:
        pair = pairs.get((first.place, video.place))
        figures = [pair.share, pair.offset, pair.matched, pair.distance] if pair else [""] * 4
        return [video.seconds, video.width, video.height, *figures]

    as_html, *_ = write_lists(output, as_dict(found), _COLUMNS, reviews, facts)
    as_html.write_text(_page(found, reviews, pairs, output, limits), encoding="utf-8")
    return as_html


def _size(video: Video) -> tuple[float, int]:
    return video.width * video.height * video.seconds, video.n_bytes


def _page(
    found: DuplicateVideos, reviews: list[Review[Video]], pairs: _Pairs, output: Path, limits: VideoLimits
) -> str:
    def surest(each: Review[Video]) -> float:
        return -min(_share(pairs, each.files[0], video) for video in each.files[1:])

    reviews = sorted(reviews, key=surest)
    shown = [each.files[number] for each in reviews for number in each.shown]

    def strip(numbered: tuple[int, Video]) -> list[str]:
        number, video = numbered
        return _strip(video, limits) if number < MAX_STRIPS else []

    with ThreadPoolExecutor(get_num_threads()) as pool:
        strips = pool.map(strip, enumerate(shown))
        groups = [_group(n, each, strips, pairs, found, output) for n, each in enumerate(reviews, start=1)]
    return page(
        groups,
        found.broken,
        any_links=any(each.links for each in reviews),
        where=", ".join(found.folders),
        searched=f"{counted(found.n_videos, 'video')} in {', '.join(found.folders)}",
        criterion=f"videos where at least {found.min_share:.0%} of the shorter one's frames match frames of the other, "
        f"within {counted(found.radius, 'bit')}; one frame every {found.every:g} s",
        note="A video opens in full when you click on it. The share, the start and the bits are those beside the first "
        "video of the group: how much matches, where the video starts in it, and how much the frames differ, 0 for the "
        "same frames.",
        plural="videos",
        order="paths" if len(found.folders) == 1 else "folders and paths",
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
    number: int, each: Review[Video], strips: Iterator[list[str]], pairs: _Pairs, found: DuplicateVideos, output: Path
) -> Group:
    """What the page shows of a group; takes its strips."""
    first, keepers = each.files[0], [video for i, video in enumerate(each.files) if each.is_kept(i)]
    cards = [
        Card(
            video.place,
            video.place if len(found.folders) > 1 else video.path,
            link_to(video.place, output),
            next(strips),
            video.n_bytes,
            _facts(video),
            each.marks(i),
            [*each.tags(i), *([] if video is first else _tags(pairs.get((first.place, video.place))))],
            video.is_reference,
            each.is_kept(i) or not any(_holds(pairs, keeper, video) for keeper in keepers),
        )
        for i, video in ((i, each.files[i]) for i in each.shown)
    ]
    return Group(f"Group {number}: {counted(len(each.files), 'video')}", each.keeper, cards, len(each.files))


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
