"""Decides which files are photos: by the ending of the name, or by the first bytes if the ending is unknown.

Called wherever photos are looked for: folders, data sets, members of tars. A file that counts as a photo is either read
or listed as broken; other files are counted.
"""

from __future__ import annotations

import importlib
import os
import re
import stat
import textwrap
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from fasthash._extras import needs_extra, pip_install

with needs_extra("dedup"):
    from PIL import Image

__all__ = [
    "HEAD",
    "IMAGE_SUFFIXES",
    "Broken",
    "Found",
    "check_photo_folder",
    "check_regular",
    "find_files",
    "find_photos",
    "is_photo",
    "is_photo_file",
    "looks_like_photo",
    "readable_formats",
    "reason",
    "why_unreadable",
]

# Pairs (path, reason).
Broken = list[tuple[str, str]]

# Formats that Pillow decodes itself. For others it runs programs (EPS) or reads headers alone (MPEG, HDF5). The format
# is taken from the bytes of a file, so the list also holds for files named .jpg. Some builds of Pillow lack some.
Image.init()
_WANTED = "AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP"
_FORMATS = tuple(name for name in _WANTED if name in Image.OPEN)

# Endings of photos that only a plugin of Pillow reads, and the package that has it. `_HOW` says what installs it.
_PLUGINS = dict.fromkeys((".heic", ".heics", ".heif", ".heifs", ".hif"), "pillow-heif") | {".jxl": "pillow-jxl-plugin"}
_HOW = {"pillow-heif": "fasthash-search[heif]", "pillow-jxl-plugin": "pillow-jxl-plugin"}
_RAW = (".3fr", ".arw", ".cr2", ".cr3", ".dng", ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".srw")
# Without these files of a Pillow that lacks a decoder would vanish.
_ALWAYS = (".avif", ".jp2", ".webp")
_ODD = (".jpg_large", ".jpg_orig", ".jpeg_large", ".png_large", ".mpo")  # as downloads are called

# Endings of photos in lower case, with the dot. Files with one of them are never passed over in silence.
IMAGE_SUFFIXES = frozenset([suffix for suffix, name in Image.registered_extensions().items() if name in _FORMATS]) | {
    *_ALWAYS,
    *_ODD,
    *_PLUGINS,
    *_RAW,
}

# Characters of an error that are looked at: a message may quote a file of any length.
_MAX_REASON = 10_000

HEAD = 64  # bytes of a file that tell whether it is a photo
_BEGINNINGS = re.compile(
    rb"\xff\xd8\xff"  # JPEG
    rb"|\x89PNG\r\n\x1a\n"
    rb"|GIF8[79]a"
    rb"|RIFF....WEBP"
    rb"|II\*\0|MM\0\*|II\+\0|MM\0\+"  # TIFF, and what cameras make of it
    rb"|....ftyp(?:avif|avis|hei[cxms]|hev[cx]|mif1|msf1|crx )"
    rb"|\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51\0"  # JPEG 2000
    rb"|\0\0\0\x0cJXL \r\n\x87\n|\xff\x0a"  # JPEG XL
    rb"|BM.{4}\0{4}.{4}[\x0c\x28\x34\x38\x40\x6c\x7c]\0{3}"
    rb"|P[4-6]\s+(?:#[^\n]*\n\s*)*\d+\s+\d+\s+\d+\s",  # PPM
    re.DOTALL,
)
_HEIF = re.compile(rb"....ftyp(?:hei[cxms]|hev[cx]|(?:mif1|msf1)(?!.*avi[fs]))", re.DOTALL)
_AVIF = re.compile(rb"....ftyp(?:avif|avis|(?:mif1|msf1).*avi[fs])", re.DOTALL)
_JXL = re.compile(rb"\0\0\0\x0cJXL |\xff\x0a", re.DOTALL)


class Found(NamedTuple):
    """Files of a folder."""

    paths: list[str]
    """Of those that are wanted, relative to the folder, sorted."""

    broken: Broken
    """Folders below that cannot be read."""

    n_others: int
    """Files passed over."""


def readable_formats() -> tuple[str, ...]:
    """Formats that are read: those of photos, and whatever plugins have registered with Pillow by now."""
    return _FORMATS + tuple(name for name, (factory, _) in list(Image.OPEN.items()) if _is_plugin(factory))


def is_photo(name: str) -> bool:
    """Whether a file's name ends as that of a photo."""
    suffix = _suffix(name)
    return suffix in IMAGE_SUFFIXES or _reads_by_plugin(suffix)


def looks_like_photo(head: bytes) -> bool:
    """Whether a file that begins with these bytes, `HEAD` of them, is a photo."""
    return _BEGINNINGS.match(head) is not None or any(_accepts(accept, head) for accept in _plugin_checks())


def is_photo_file(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a photo: by its name, or by its content where the name does not tell."""
    if is_photo(os.fspath(path)):
        return True
    try:
        check_regular(path)
        with open(path, "rb", buffering=0) as file:
            return looks_like_photo(file.read(HEAD))
    except (OSError, ValueError):  # what cannot be read and has no name of a photo
        return False


def find_photos(folder: str | os.PathLike[str]) -> Found:
    """All photos in a folder and the folders below, links to folders not followed.

    Raises:
        OSError: `folder` itself cannot be read.
    """
    return find_files(folder, is_photo_file)


def find_files(folder: str | os.PathLike[str], wanted: Callable[[str], bool]) -> Found:
    """As `find_photos`, of files whose paths are wanted."""
    paths: list[str] = []
    broken: Broken = []
    n_others = 0

    # Before Python 3.12 os.walk calls itself for each folder, and fails in folders that lie a thousand deep.
    waiting = [os.fspath(folder)]
    while waiting:
        place = waiting.pop()
        inside = os.path.relpath(place, folder)
        try:
            with os.scandir(place) as listing:
                entries = list(listing)
        except OSError as error:
            if inside == os.curdir:
                raise
            broken.append((inside, reason(error)))
            continue
        waiting += [entry.path for entry in entries if _is_folder(entry) and not os.path.islink(entry.path)]
        names = [entry.name for entry in entries if not _is_folder(entry)]
        chosen = [name for name in names if wanted(os.path.join(place, name))]
        n_others += len(names) - len(chosen)
        paths += [os.path.normpath(os.path.join(inside, name)) for name in chosen]
    return Found(sorted(paths), sorted(broken), n_others)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder, or a link to one; one that cannot be looked at is a file."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def check_photo_folder(name: str, value: Any) -> str:
    """The path of a folder as a string; `name` is what errors call it.

    Raises:
        TypeError: it is no path.
        FileNotFoundError: it is not a folder.
    """
    if not isinstance(value, (str, bytes, os.PathLike)):
        raise TypeError(f"{name} must be a path, got {value!r}")
    folder = os.fsdecode(value)
    if "\0" in folder or not os.path.isdir(folder):
        why = "" if "\0" in folder or os.path.exists(folder) else "; it does not exist"
        raise FileNotFoundError(f"{name}={folder!r} is not a folder{why}")
    return folder


def check_regular(path: str | os.PathLike[str]) -> int:
    """Size in bytes of a regular file.

    Raises:
        OSError: it cannot be looked at, or is a folder.
        ValueError: it is a pipe or a device. Opening a pipe would wait for ever.
    """
    facts = os.stat(path)
    if stat.S_ISDIR(facts.st_mode):  # only a caller names one: a search of a folder lists none as a file
        raise IsADirectoryError(f"path must be a file, got the folder {os.fspath(path)!r}")
    if not stat.S_ISREG(facts.st_mode):
        raise ValueError("not a regular file")
    return facts.st_size


def why_unreadable(name: str, head: bytes) -> str | None:
    """Why no format reads a photo of this name that begins so, as an error says it; None if one may.

    A plugin that is installed, but not registered with Pillow, is registered.
    """
    if not head:
        return "the file is empty"
    suffix = _suffix(name)
    if suffix in _RAW:
        return None if _reads_by_plugin(suffix) else f"raw photos of cameras ({suffix}) are not read"
    if _AVIF.match(head) and "AVIF" not in _FORMATS and not _reads_by_plugin(".avif"):
        return f"AVIF photos need a newer Pillow: {pip_install('pillow>=11.3')}"
    if _HEIF.match(head):
        suffix = ".heic"
    elif _JXL.match(head):
        suffix = ".jxl"
    elif suffix not in _PLUGINS or looks_like_photo(head):  # of another kind than its name says
        return None
    if not _reads_by_plugin(suffix):
        _register(_PLUGINS[suffix])
    if _reads_by_plugin(suffix):
        return None
    return f"{suffix} photos need a plugin of Pillow: {pip_install(_HOW[_PLUGINS[suffix]])}"


def reason(error: Exception) -> str:
    """Describe the error on one line."""
    return f"{type(error).__name__}: {textwrap.shorten(str(error)[:_MAX_REASON], width=300)}"


def _register(package: str) -> None:
    with suppress(ImportError, AttributeError):
        if package == "pillow-heif":
            importlib.import_module("pillow_heif").register_heif_opener()
        else:
            importlib.import_module("pillow_jxl")  # registers itself


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _is_plugin(factory: Any) -> bool:
    return not (getattr(factory, "__module__", None) or "").startswith("PIL.")


def _reads_by_plugin(suffix: str) -> bool:
    """Whether a plugin has registered this ending, and can open such files."""
    opener = Image.OPEN.get(Image.EXTENSION.get(suffix, ""))
    return opener is not None and _is_plugin(opener[0])


def _plugin_checks() -> list[Any]:
    return [accept for factory, accept in list(Image.OPEN.values()) if accept and _is_plugin(factory)]


def _accepts(accept: Any, head: bytes) -> bool:
    try:
        answer = accept(head[:16])
        return bool(answer) and not isinstance(answer, str)  # a text says why the plugin cannot read it
    except Exception:  # of a plugin, about bytes that are not its own
        return False
