"""Reads frames of a video in the order of their times: one for each step of time, or the frame at a moment.

Called by `fasthash._videos` and the page for review. Frames are decoded one by one, so memory holds a few of them
whatever the length. A broken video raises ValueError or OSError.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from fasthash._checks import check_int, check_path
from fasthash._extras import needs_extra
from fasthash._photo_files import check_regular

with needs_extra("dedup"):
    from PIL import Image

with needs_extra("video"):
    import av

__all__ = ["VideoLimits", "VideoReader", "open_video"]

# Formats that hold a video in one file. Others of FFmpeg fetch what a playlist names, from a network, too.
_FORMATS = "asf,avi,flv,gif,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mpeg,mpegts,mpegvideo,mxf,ogg"

_MAX_BAD = 0.1  # share of packets that may fail to decode, as at the start of a recording
_MISSING = 0.1, 0.5  # a file may be shorter than its header says: by this share of the length and these seconds
_MAX_OPTION = 2**31 - 1  # FFmpeg takes no larger limit
_RATE = 25  # frames a second where a file gives neither times nor a rate

# Pillow's operation for each angle in degrees, to the left.
_UPRIGHT = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_270}


@dataclass(frozen=True)
class VideoLimits:
    """Limits of one video.

    Args:
        max_pixels: of a frame, checked before it is decoded.
        max_seconds: longest duration.

    Raises:
        TypeError, ValueError: a limit is not an integer of at least 1.
    """

    max_pixels: int
    max_seconds: int

    def __post_init__(self) -> None:
        check_int("max_pixels", self.max_pixels, 1)
        check_int("max_seconds", self.max_seconds, 1)

    def check_size(self, width: int, height: int) -> None:
        """Raise ValueError for frames of this size, if that is too large."""
        if width * height > self.max_pixels:
            raise ValueError(f"{width} x {height} px are more than max_pixels={self.max_pixels}")

    def check_seconds(self, seconds: float) -> None:
        """Raise ValueError for a video of this duration, if that is too long."""
        if seconds > self.max_seconds:
            raise ValueError(f"{seconds:.0f} s are more than max_seconds={self.max_seconds}")


class VideoReader:
    """An open video. `size` and `seconds` are known once its frames have been read."""

    def __init__(self, container: Any, stream: Any, limits: VideoLimits, n_threads: int) -> None:
        self.size: tuple[int, int] | None = None
        """Width and height of the first frame that was read, upright."""

        self.seconds = 0.0
        """From the first frame to the end of the last one that was read."""

        self._container, self._stream, self._limits = container, stream, limits
        context = stream.codec_context
        limits.check_size(context.width, context.height)
        if container.duration is not None:
            limits.check_seconds(container.duration / av.time_base)
        # A stream may change its size. FFmpeg counts the padding, too; `_image` checks each frame exactly.
        context.options = {"max_pixels": str(min(2 * limits.max_pixels + 2**16, _MAX_OPTION))}
        context.thread_type, context.thread_count = "AUTO", n_threads
        rate = stream.average_rate or stream.guessed_rate
        self._frame_time = 1 / Fraction(rate) if rate else Fraction(1, _RATE)

    def sampled(self, every: Fraction, side: int | None = None) -> Iterator[tuple[int, Image.Image]]:
        """The first frame of each step of time, upright 8-bit RGB, with the number of its step.

        Step n lasts from `n * every` to `(n + 1) * every` seconds after the first frame. A step in which no frame
        begins is left out. A width or height above `side` is shrunk to it, without regard for the other one: FFmpeg
        does so ten times as fast as Pillow.

        Raises:
            ValueError: the video is damaged, ends before its time, or exceeds a limit.
            OSError: it cannot be read.
        """
        start, last = None, -1
        for time, frame in self._frames(check_end=True):
            start = time if start is None else start
            self._limits.check_seconds(float(time - start))
            self.seconds = max(self.seconds, float(time - start + self._frame_time))
            step = (time - start) // every
            if step > last:
                last = step
                yield step, self._image(frame, side)
        if start is None:
            raise ValueError("no frame can be decoded")

    def frame_at(self, seconds: float) -> Image.Image | None:
        """The first frame at or after a moment, or the last one before it; None if none can be decoded."""
        moment = seconds + float((self._stream.start_time or 0) * (self._stream.time_base or 0))
        with _plain_errors():
            self._container.seek(int(moment * av.time_base))  # to the key frame before it
        frame = None
        for time, each in self._frames():
            frame = each
            if time >= moment:
                break
        return None if frame is None else self._image(frame)

    def _frames(self, check_end: bool = False) -> Iterator[tuple[Fraction, Any]]:
        """All frames from here on with their times in seconds."""
        n_packets, n_bad, end, time = 0, 0, Fraction(0), Fraction(0)
        with _plain_errors():
            for packet in self._container.demux():  # of all streams: the longest may be another
                if packet.pts is not None:
                    end = max(end, (packet.pts + (packet.duration or 0)) * packet.time_base)
                if packet.stream.index != self._stream.index:
                    continue
                n_packets += 1
                try:
                    frames = packet.decode()
                except av.InvalidDataError:
                    n_bad += 1
                    continue
                for frame in frames:
                    time = time + self._frame_time if frame.pts is None else frame.pts * frame.time_base
                    yield time, frame
        if check_end:
            self._check_whole(n_packets, n_bad, end)

    def _check_whole(self, n_packets: int, n_bad: int, end: Fraction) -> None:
        if n_bad > _MAX_BAD * n_packets:
            raise ValueError(f"{n_bad} of {n_packets} packets cannot be decoded")
        container = self._container
        if container.duration is not None:
            there = float(end) - (container.start_time or 0) / av.time_base
            said = container.duration / av.time_base
            if there + _MISSING[1] < said * (1 - _MISSING[0]):
                raise ValueError(f"the file ends after {there:.1f} of {said:.1f} s")

    def _image(self, frame: Any, side: int | None = None) -> Image.Image:
        width, height = frame.width, frame.height
        self._limits.check_size(width, height)
        degrees = round(frame.rotation / 90) * 90 % 360
        self.size = self.size or ((height, width) if degrees % 180 else (width, height))
        if side is not None:
            width, height = min(width, side), min(height, side)
        image: Image.Image = frame.to_image(width=width, height=height, interpolation="AREA")
        return image.transpose(_UPRIGHT[degrees]) if degrees else image


@contextmanager
def open_video(path: str | os.PathLike[str], limits: VideoLimits, n_threads: int = 1) -> Iterator[VideoReader]:
    """Open a video file, in whichever format its bytes are.

    Args:
        path: of the file.
        limits: of pixels and seconds.
        n_threads: threads of the decoder.

    Raises:
        ValueError: no video of a known format, or one that exceeds a limit.
        OSError: it cannot be read.
    """
    check_path("path", path)
    if check_regular(path) == 0:
        raise ValueError("the file is empty")
    with _Nameless(io.FileIO(path)) as file:
        with _plain_errors("no video of a known format, or damaged: "):
            container = av.open(file, options={"format_whitelist": _FORMATS}, metadata_errors="replace")
        with container:
            streams = [stream for stream in container.streams.video if not _is_cover(stream)]
            if not streams:
                raise ValueError("no video in it, only sound or pictures")
            yield VideoReader(container, streams[0], limits, n_threads)


class _Nameless(io.BufferedReader):
    """FFmpeg would read a name as the address of a device, and not every name is text."""

    name = "video"


def _is_cover(stream: Any) -> bool:
    """Whether a stream is a picture that goes with a piece of music."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


@contextmanager
def _plain_errors(before: str = "") -> Iterator[None]:
    """Errors of FFmpeg as ValueError with their text alone, for they have neither a name nor a number of their own."""
    try:
        yield
    except av.FFmpegError as error:
        raise ValueError(f"{before}{error.strerror}") from error
