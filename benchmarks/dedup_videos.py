"""Measures which copies of videos are found, over the seconds between the frames that are compared, and what it costs.

    python benchmarks/dedup_videos.py VIDEOS

VIDEOS is a folder of different videos of a few seconds. Copies of each are made: encoded anew at a quarter of the
pixels, after 0 to 24 frames have been cut off the front. Each is compared with its video. The cost is that of one
minute of 1080p, H.264 at 25 frames a second, made of the first video, and of a search among made-up frames. Prints the
figures of docs/dedup.md.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from fasthash._video_files import find_videos
from fasthash._video_frames import VideoLimits, open_video
from fasthash._video_hashes import hash_video
from fasthash._video_matches import Timeline, near_timelines
from fasthash._videos import RADIUS

EVERY = ("1", "0.5", "0.25", "0.125")
CUTS = range(0, 25, 3)
LIMITS = VideoLimits(1 << 27, 3600)
ALL = Fraction(1, 1000)  # every frame


def read(path: Path) -> tuple[list[Image.Image], Fraction]:
    """The frames, and their number a second."""
    with open_video(path, LIMITS) as video:
        frames = [frame for _, frame in video.sampled(ALL)]
        return frames, Fraction(len(frames) / video.seconds).limit_denominator(100)


def write(path: Path, frames: list[Image.Image], rate: Fraction, size: tuple[int, int], crf: int) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": str(crf), "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_image(frame.resize(size))))
        container.mux(stream.encode())
    return path


def shares(path: Path, place: Path) -> dict[str, list[float]]:
    """For each of EVERY the shares that the copies of a video reach."""
    frames, rate = read(path)
    size = tuple(max(16, side // 4 * 2) for side in frames[0].size)
    found: dict[str, list[float]] = {every: [] for every in EVERY}
    whole = {every: hash_video(path, Fraction(every), LIMITS).timeline for every in EVERY}
    for cut in CUTS:
        copy = write(place / "copy.mp4", frames[cut:], rate, size, crf=32)
        for every in EVERY:
            pair = [whole[every], hash_video(copy, Fraction(every), LIMITS).timeline]
            found[every].append(max((match.share for match in near_timelines(pair, RADIUS, 1e-6)), default=0.0))
    return found


def unrelated(paths: list[Path], every: str) -> float:
    """The largest share of two different videos."""
    timelines = [hash_video(path, Fraction(every), LIMITS).timeline for path in paths]
    return max((match.share for match in near_timelines(timelines, RADIUS, 1e-6)), default=0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path)
    options = parser.parse_args()
    paths = [options.videos / path for path in find_videos(options.videos).paths]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        print("| video, least (median) share of its copies | " + " | ".join(f"{every} s" for every in EVERY) + " |")
        for path in paths:
            found = shares(path, place)
            figures = [f"{min(each):.2f} ({np.median(each):.2f})" for each in found.values()]
            print(f"| {path.name} | " + " | ".join(figures) + " |", flush=True)
        most = [f"{unrelated(paths, every):.2f}" for every in EVERY]
        print("| most of two different videos | " + " | ".join(most) + " |")
        frames, _ = read(paths[0])
        minute = (frames * (1500 // len(frames) + 1))[:1500]
        long = write(place / "long.mp4", minute, Fraction(25), (1920, 1080), crf=23)
        for every in ("100", *EVERY):
            begin = time.process_time()
            hash_video(long, Fraction(every), LIMITS)
            print(f"a minute of 1080p, a frame every {every} s: {time.process_time() - begin:.1f} s of processor time")
    rng = np.random.default_rng(0)
    steps = np.arange(120)
    timelines = [Timeline(rng.integers(0, 256, (120, 32), dtype=np.uint8), steps, steps) for _ in range(2000)]
    begin = time.perf_counter()
    assert not list(near_timelines(timelines, RADIUS, 0.4))
    print(f"search among 2,000 videos of 120 distinct frames: {time.perf_counter() - begin:.1f} s")


if __name__ == "__main__":
    main()
