"""The perceptual hashes of the frames of videos, kept in a folder of their own from run to run.

Called by `fasthash._videos`; `_hashed_files` says when the hashes of a video count for a file.
"""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fasthash._extras import needs_extra
from fasthash._hashed_files import HashedFiles, Run, Stamp
from fasthash._phash import phash
from fasthash._saved_folder import CARD_NAME, Card, check_file, write_folder
from fasthash._saved_kinds import HASH_KINDS, check_videos, load_codes, load_folder
from fasthash._video_frames import VideoLimits, open_video
from fasthash._video_matches import Timeline
from fasthash.index import HierIndex

with needs_extra("dedup"):
    from PIL import Image

__all__ = ["HASH_BITS", "STILL", "HashedVideo", "VideoHashes", "hash_video"]

_KIND = "VideoHashes"

HASH_BITS = 256

STILL = 8
"""Bits within which the frames that follow a frame count as the same frame. Encoding moves those of a still picture by
at most 4 bits; frames of motion a quarter of a second apart differ by 25 or more at the median."""

_SHRUNK = 256  # px: the larger side before Pillow resizes a frame, which moves its hash by at most 2 bits
_SQUARE = 64  # px: the side to which the pHash of 256 bits resizes a picture
_MIN_CONTRAST = 5.0
"""Standard deviation of the grey values, of 255, below which a frame is blank. Encoding moves the hash of a frame of
this contrast by 30 bits, the usual radius; of half of it by 50."""


class HashedVideo(NamedTuple):
    """The hashes of a video, and what else was seen of it."""

    timeline: Timeline
    seconds: float
    width: int
    height: int

    n_frames: int
    """Frames that were taken, one for each step."""

    n_blank: int
    """Of these, left out for want of contrast."""


def hash_video(
    path: str | os.PathLike[str],
    every: Fraction,
    limits: VideoLimits,
    n_threads: int = 1,
    run: Run | None = None,
) -> HashedVideo:
    """Hash the first frame of each `every` seconds of a video. Frames that follow one nearly unchanged prolong it.

    Raises:
        InterruptedError: the run has been stopped meanwhile.
        ValueError: all frames are blank.
        ValueError, OSError: as `fasthash._video_frames.open_video` and `VideoReader.sampled`.
    """
    codes: list[NDArray[np.uint8]] = []
    first: list[int] = []
    last: list[int] = []
    n_frames = n_blank = 0
    with open_video(path, limits, n_threads) as video:
        for step, frame in video.sampled(every, _SHRUNK):
            if run is not None and run.stopped:
                raise InterruptedError("the run was stopped")
            n_frames += 1
            grey = frame.convert("L").resize((_SQUARE, _SQUARE), Image.Resampling.LANCZOS)
            if np.asarray(grey).std() < _MIN_CONTRAST:
                n_blank += 1
                continue
            code = phash(grey, HASH_BITS)
            if codes and int(np.unpackbits(codes[-1] ^ code).sum()) <= STILL:
                last[-1] = step
                continue
            codes.append(code)
            first.append(step)
            last.append(step)
        if not codes:
            raise ValueError("every frame is blank, of nearly one shade, so that there is nothing to compare")
        width, height = video.size or (0, 0)
        timeline = Timeline(
            np.array(codes, np.uint8).reshape(-1, HASH_BITS // 8), np.array(first, np.int64), np.array(last, np.int64)
        )
        return HashedVideo(timeline, round(video.seconds, 3), width, height, n_frames, n_blank)


class VideoHashes(HashedFiles[HashedVideo]):
    """Hashes of videos by their paths, each with the stamp of the file.

    Args:
        folder: of the videos.
        every: seconds from one frame to the next.
    """

    def __init__(self, folder: str, every: Fraction) -> None:
        super().__init__(folder)
        self.every = str(every)

    def load(self, state: str | os.PathLike[str]) -> None:
        """Take what `save` has written into `state`; nothing where there is no card yet.

        Raises:
            FormatError: the state is damaged.
            ValueError: it is of another `every` or folder. A folder that is gone may have been moved.
        """
        place = Path(state)
        if not (place / CARD_NAME).exists():
            return

        def of(card: Card) -> tuple[Card, NDArray[np.uint8]]:
            n_codes = sum(len(video[-1]) for video in card["videos"])
            index = load_codes(check_file(place, card, "codes.fh", whole=False), n_codes, (HASH_BITS,))
            check_videos(index, card)
            return card, index.to_arrays()[0]

        card, codes = load_folder(place, _KIND, of)
        self._check_same(card, ("every",), os.fspath(state))
        end = 0
        for path, n_bytes, time, sample, *facts, first, last in card["videos"]:
            start, end = end, end + len(first)
            timeline = Timeline(codes[start:end], np.array(first, np.int64), np.array(last, np.int64))
            self._files[path] = Stamp(n_bytes, time, sample), HashedVideo(timeline, *facts)

    def save(self, state: str | os.PathLike[str]) -> None:
        """Write all into a folder, as a whole."""
        videos = [
            (path, *stamp, *video[1:], video.timeline.first.tolist(), video.timeline.last.tolist())
            for path, (stamp, video) in self._files.items()
        ]
        facts = {"hash": HASH_KINDS[False], "every": self.every, "folder": self.folder, "videos": videos}
        index = HierIndex((HASH_BITS,))
        for _, video in self._files.values():
            index.add(video.timeline.codes)
        write_folder(state, _KIND, facts, {"codes.fh": index.save})
        self.n_unsaved = 0

    def video(self, path: str) -> HashedVideo:
        """What is known of a video."""
        return self._files[path][1]
