"""Decides which files are videos: by the ending of the name, or by the first bytes if the ending does not tell.

Called by `fasthash._videos`. A file that counts as a video is either read or listed as broken; other files are counted.
"""

from __future__ import annotations

import os
import re

from fasthash._extras import needs_extra
from fasthash._photo_files import Found, check_regular, find_files
from fasthash._photos import no_warnings

with needs_extra("dedup"):
    from PIL import Image

__all__ = ["VIDEO_SUFFIXES", "find_videos", "is_video_file"]

VIDEO_SUFFIXES = frozenset(
    {".3g2", ".3gp", ".asf", ".avi", ".divx", ".f4v", ".flv", ".m2ts", ".m2v", ".m4v", ".mkv", ".mov", ".mp4", ".mpe"}
    | {".mpeg", ".mpg", ".mxf", ".ogm", ".ogv", ".qt", ".vob", ".webm", ".wmv"}
)
"""Endings of videos in lower case, with the dot. Files with one of them are never passed over in silence."""

# Begin as a video does, and are none.
_OTHERS = (".avif", ".heic", ".heics", ".heif", ".heifs", ".hif", ".m4a", ".m4b", ".mka", ".weba")

_HEAD = 389  # bytes: two packets of a transport stream
_BEGINNINGS = re.compile(
    rb"....ftyp(?!M4A|M4B|avi[fs]|hei[cxms]|hev[cx]|mif1|msf1|crx )"
    rb"|\x1a\x45\xdf\xa3"  # Matroska and WebM
    rb"|RIFF....AVI "
    rb"|FLV\x01"
    rb"|\x47.{187}\x47|.{4}\x47.{191}\x47",  # transport streams; files of TypeScript end in .ts, too
    re.DOTALL,
)


def is_video_file(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a video: by its name, or by its content where the name does not tell; or an animated GIF."""
    suffix = os.path.splitext(os.fspath(path))[1].lower()
    if suffix in VIDEO_SUFFIXES:
        return True
    try:
        check_regular(path)
        if suffix == ".gif":
            with no_warnings(), Image.open(path, formats=("GIF",)) as image:
                return bool(image.is_animated)
        with open(path, "rb", buffering=0) as file:
            return suffix not in _OTHERS and _BEGINNINGS.match(file.read(_HEAD)) is not None
    except Image.DecompressionBombError:  # its frames are too many pixels for Pillow: the reader has a limit of its own
        return True
    except Exception:  # what cannot be read and has no name of a video; of any kind, from Pillow
        return False


def find_videos(folder: str | os.PathLike[str]) -> Found:
    """All videos in a folder and the folders below, links to folders not followed.

    Raises:
        OSError: `folder` itself cannot be read.
    """
    return find_files(folder, is_video_file)
