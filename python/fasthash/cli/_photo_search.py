"""`fasthash search` with a photo: its code, and a page that shows what is near it."""

from __future__ import annotations

import html
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fasthash._photo_files import is_photo
from fasthash._photos import DEFAULT_LIMITS, read_photo
from fasthash._shown import counted, for_terminal
from fasthash._thumbnails import photo_below, thumbnail
from fasthash.cli._results import neighbours

if TYPE_CHECKING:
    from PIL import Image

    from fasthash.cli._results import Result

__all__ = ["check_page", "code_of_photo", "write_page"]

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Near {photo}</title>
<style>
  :root {{ color-scheme: light dark; }}
  body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 80rem; margin: 2rem auto; padding: 0 1rem; }}
  ol {{ list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-end; }}
  li {{ width: 9rem; font-size: .8rem; overflow-wrap: anywhere; content-visibility: auto; }}
  img {{ display: block; max-width: 100%; height: auto; }}
</style>
<h1>{photo}</h1>
{picture}<p>{n} of {size} in {gallery}, with their distances in bits.</p>
<ol>
{rows}</ol>
</html>
"""


def check_page(path: Path) -> None:
    """Refuse to write a page over a photo: one that is named as a photo is."""
    if is_photo(path.name):
        raise ValueError(f"--html must be a page, got {path}, which is named as a photo is")


def code_of_photo(photo: Path, encoder: Path, n_bits: int) -> NDArray[np.uint8]:
    """The code of a photo, `(1, n_bits / 8)`.

    Raises:
        ValueError: codes of the encoder have another width, or the photo is broken or too large.
        OSError, FormatError: a file cannot be read, or is a folder.
    """
    image = _read(photo, encoder)
    from fasthash.encoder import HashEncoder

    loaded = HashEncoder.load(encoder)
    if loaded.n_bits != n_bits:
        raise ValueError(f"encoder must make codes of {n_bits} bits like those of the index, got {loaded.n_bits} bits")
    return loaded.encode([image])


def _read(photo: Path, encoder: Path) -> Image.Image:
    if str(photo) == "-":
        raise ValueError("QUERIES must be the file of a photo with --encoder, got - for standard input")
    if photo.is_dir():
        raise IsADirectoryError(
            f"{photo} is a folder, and --encoder needs one photo; fasthash encode {encoder} {photo} codes.npz makes "
            "codes of the photos in a folder, and fasthash search takes codes.npz without --encoder"
        )
    try:
        return read_photo(photo)
    except (FileNotFoundError, PermissionError, MemoryError):
        raise
    except Exception as error:  # Pillow's decoders raise anything from OSError to SyntaxError on broken files
        raise ValueError(f"{photo} cannot be read as a photo: {error}") from error


def write_page(page: Path, photo: Path, result: Result, gallery: Path, size: int, images: Path | None) -> int:
    """Write one self-contained page: the photo, and what is near it with small pictures; return the number of these.

    Args:
        page: file to write or replace.
        photo: what was searched for.
        result: of one query.
        gallery: the index or store, for its name.
        size: number of its codes.
        images: folder of the photos that the keys name; None shows names alone.

    Raises:
        OSError: the page cannot be written.
    """
    (found,) = neighbours(result)
    rows = []
    for id, distance, key in zip(found["ids"], found["distances"], found.get("keys", found["ids"]), strict=True):
        path = photo_below(images, key) if images is not None and isinstance(key, str) else None
        name = key.hex() if isinstance(key, bytes) else str(key)
        rows.append(f'<li value="{id}">{_picture(path)}{_text(name)}<br>d = {distance}</li>\n')
    content = _PAGE.format(
        photo=_text(photo.name),
        picture=_picture(photo),
        n=counted(len(rows), "neighbour"),
        size=counted(size, "code"),
        gallery=_text(str(gallery)),
        rows="".join(rows),
    )
    page.write_text(content, encoding="utf-8")
    return len(rows)


def _picture(path: Path | None) -> str:
    url = None if path is None else thumbnail(path, DEFAULT_LIMITS)
    return "" if url is None else f'<img src="{url}" alt="">\n'


def _text(name: str) -> str:
    """A name as text: no markup, and hidden characters as escapes."""
    return html.escape(for_terminal(name))
