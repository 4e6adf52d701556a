"""Near-duplicate videos in folders, found by the perceptual hashes of their frames. Public names: `fasthash.dedup`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from fasthash._checks import check_bool, check_fraction, check_int, check_positive
from fasthash._extras import needs_extra
from fasthash._hashed_files import Run, check_folders, hash_files, loaded
from fasthash._photo_files import Broken
from fasthash._photos import MAX_PIXELS
from fasthash._video_files import find_videos
from fasthash._video_matches import Match, near_timelines
from fasthash.threads import get_num_threads

with needs_extra("dedup"):
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

__all__ = ["EVERY", "MIN_SHARE", "DuplicateVideos", "Video", "VideoPair", "find_duplicate_videos"]

EVERY = 0.25
"""Seconds between the frames that are compared; docs/dedup.md has the measurement, as of the others."""

MIN_SHARE = 0.4
RADIUS = 32
MAX_SECONDS = 12 * 3600
_MIN_EVERY = 0.001
_SAVE_EVERY = 20  # videos hashed: a film takes minutes

_Path = str | bytes | os.PathLike[str]


class Video(NamedTuple):
    """A video of a group."""

    path: str
    """Relative to the folder."""

    folder: str
    """As the caller named it."""

    n_bytes: int
    time: int
    """When the file was last written, in nanoseconds since 1970."""

    seconds: float
    """Duration."""

    width: int
    height: int
    """In pixels, upright."""

    is_reference: bool = False
    """Whether its folder is a reference: it is to be kept."""

    @property
    def place(self) -> str:
        """The path with the folder."""
        return os.path.join(self.folder, self.path)


class VideoPair(NamedTuple):
    """Two near-duplicate videos: references first, then by folder and path."""

    first: Video
    second: Video

    share: float
    """Of the frames of the video with fewer of them, those that match a frame of the other one."""

    offset: float
    """Seconds from the start of the first video to that of the second one: negative if the second starts earlier.
    Accurate to about `every`."""

    matched: int
    """Frames of `share`."""

    distance: float
    """Median of the distances in bits of the frames that match."""


class DuplicateVideos(NamedTuple):
    """The near-duplicates among the videos of some folders."""

    pairs: list[VideoPair]
    """In the order of the first videos, then of the second ones; pairs of two references are left out."""

    groups: list[list[Video]]
    """Videos that pairs connect, two or more each, in the order of the first videos; never references alone."""

    broken: Broken
    """Pairs (path, reason) of the videos that could not be compared; with several folders, paths with their folders."""

    n_videos: int
    """That were read, now or before."""

    n_hashed: int
    """That were read now: all, or with a state those that are new or have changed."""

    n_others: int
    """Files passed over, which are no videos by name or content."""

    folders: tuple[str, ...]
    """Reference folders first."""

    every: float
    radius: int
    min_share: float


def find_duplicate_videos(
    folder: _Path | Sequence[_Path],
    radius: int | None = None,
    *,
    reference: _Path | Sequence[_Path] = (),
    every: float = EVERY,
    min_share: float = MIN_SHARE,
    state: str | os.PathLike[str] | None = None,
    max_pixels: int = MAX_PIXELS,
    max_seconds: int = MAX_SECONDS,
    progress: bool = True,
) -> DuplicateVideos:
    """Find near-duplicate videos in folders and below: encoded anew, resized, trimmed, or cut out of one another.

    A frame is taken every `every` seconds and hashed by pHash of 256 bits. Frames of nearly one shade are left out, and
    a picture that stands still is one frame. Two frames match if their hashes are within the radius and they are shown
    at the same time, give or take a step, once one video is shifted by an offset. The best offset of each two videos is
    found exactly. Mirrored and cropped copies are not found.

    Args:
        folder: of videos, or several. Files count as videos by their suffixes; where a suffix does not tell, by their
            content.
        radius: largest distance in bits between frames that match; None takes 32.
        reference: folder or folders whose videos are to be kept: they come first in their groups, and groups and pairs
            of them alone are left out.
        every: seconds from one frame to the next. At 1 second a copy that was trimmed by half a second goes unnoticed.
        min_share: share of the frames of the video with fewer of them that must match, above 0 and at most 1. At least
            three frames must match, or all of both videos if they have fewer.
        state: folder in which hashes are kept, made if missing, as of `find_duplicates`: only videos that are new or
            have changed are read again.
        max_pixels: a video with larger frames counts as broken when it is read.
        max_seconds: so does one that lasts longer.
        progress: show a progress bar.

    Returns:
        `DuplicateVideos`.

    Raises:
        MissingExtraError: PyAV is not installed.
        TypeError: an argument of another type.
        ValueError: an argument is out of range, a folder lies in another, or the state is of another `every` or
            `folder`.
        FormatError: the state is damaged.
        OSError: `folder` is no folder, or the state cannot be read or written.
    """
    from fasthash._video_frames import VideoLimits
    from fasthash._video_hashes import HASH_BITS, HashedVideo, VideoHashes, hash_video

    radius = RADIUS if radius is None else check_int("radius", radius, minimum=0, maximum=HASH_BITS)
    every = check_positive("every", every)
    if every < _MIN_EVERY:
        raise ValueError(f"every must be at least {_MIN_EVERY}, got {every}")
    step = Fraction(str(every))  # the decimal number that was meant
    min_share = check_fraction("min_share", min_share)
    check_bool("progress", progress)
    limits = VideoLimits(max_pixels, max_seconds)
    references, folders = check_folders(reference, folder)
    all_folders = references + folders
    alone = len(all_folders) == 1
    known = [VideoHashes(each, step) for each in all_folders]
    places = [loaded(hashes, state, "videos", alone) for hashes in known]
    videos, timelines = [], []
    broken: Broken = []
    n_hashed = n_others = 0
    for number, (each, hashes, place) in enumerate(zip(all_folders, known, places, strict=True)):
        found = find_videos(each)
        n_threads = max(1, get_num_threads() // max(1, len(found.paths)))  # a decoder's, where there are few files

        def hash_one(path: str, run: Run, n_threads: int = n_threads) -> HashedVideo:
            return hash_video(path, step, limits, n_threads, run)

        n_new, faults = hash_files(each, hashes, place, found, hash_one, "video", progress, _SAVE_EVERY)
        n_hashed, n_others = n_hashed + n_new, n_others + found.n_others
        broken += [(path if alone else os.path.join(each, path), why) for path, why in faults]
        for path in sorted(hashes.paths):
            video, stamp = hashes.video(path), hashes.stamp(path)
            if stamp is not None:
                facts = stamp.n_bytes, stamp.time, video.seconds, video.width, video.height
                videos.append(Video(path, each, *facts, is_reference=number < len(references)))
                timelines.append(video.timeline)
    matches = list(near_timelines(timelines, radius, min_share))
    pairs, groups = _pairs(videos, matches, every), _groups(videos, matches)
    found_in = len(videos), n_hashed, n_others, tuple(all_folders)
    return DuplicateVideos(pairs, groups, broken, *found_in, every, radius, min_share)


def _pairs(videos: list[Video], matches: list[Match], every: float) -> list[VideoPair]:
    pairs = []
    for match in sorted(matches, key=lambda match: sorted((match.shorter, match.longer))):
        first, second = sorted((match.shorter, match.longer))
        if not videos[second].is_reference:
            offset = (match.offset if match.shorter == second else -match.offset) * every
            pair = videos[first], videos[second], match.share, offset, match.matched, match.distance
            pairs.append(VideoPair(*pair))
    return pairs


def _groups(videos: list[Video], matches: list[Match]) -> list[list[Video]]:
    rows, columns = [match.shorter for match in matches], [match.longer for match in matches]
    graph = coo_array((np.ones(len(matches)), (rows, columns)), shape=(len(videos), len(videos)))
    groups: dict[int, list[Video]] = {}
    for video, label in zip(videos, connected_components(graph, directed=False)[1].tolist(), strict=True):
        groups.setdefault(label, []).append(video)
    return [group for group in groups.values() if len(group) > 1 and not group[-1].is_reference]
