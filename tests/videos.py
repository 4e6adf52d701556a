"""Small videos for tests, made of moving shapes. Import after `pytest.importorskip("av")`."""

from fractions import Fraction

import av
import numpy as np
from PIL import Image

RATE = 12


def frames(seed=0, seconds=5, size=(160, 96), rate=RATE):
    """Pictures of random blocks that move across one another; a new scene every second."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(seconds):
        back, front = (rng.integers(0, 256, (n, n, 3), dtype=np.uint8) for n in (6, 3))
        back = np.asarray(Image.fromarray(back).resize((2 * size[0], size[1]), Image.Resampling.BICUBIC))
        front = np.asarray(Image.fromarray(front).resize((size[0] // 3, size[1] // 2), Image.Resampling.NEAREST))
        for number in range(rate):
            picture = back[:, number : number + size[0]].copy()
            picture[20 : 20 + front.shape[0], 2 * number : 2 * number + front.shape[1]] = front
            made.append(Image.fromarray(picture))
    return made


def write(path, pictures, codec="mpeg4", size=None, rate=RATE, bit_rate=600_000, pix_fmt="yuv420p", **options):
    """Encode pictures; the ending of the path names the container."""
    path.parent.mkdir(parents=True, exist_ok=True)
    size = size or pictures[0].size
    # To a file object, as a name may be one that FFmpeg cannot take.
    with open(path, "wb") as file, av.open(file, "w", format=FORMATS[path.suffix]) as container:
        stream = container.add_stream(codec, rate=Fraction(rate), options=options)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = *size, pix_fmt, bit_rate
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_image(picture.resize(size))))
        container.mux(stream.encode())
    return path


def write_sound(path, seconds=1):
    """A file without pictures."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        silence = np.zeros((1, 1024), dtype=np.float32)
        for number in range(seconds * 44100 // 1024):
            frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 44100, number * 1024
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


FORMATS = {
    ".mp4": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
    ".avi": "avi",
    ".gif": "gif",
    ".ts": "mpegts",
    "": "matroska",
}
