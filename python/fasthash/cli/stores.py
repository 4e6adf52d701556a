"""Stores on the command line: what `build`, `search`, `info` and `verify` do with them, and the command `compact`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fasthash import Store
from fasthash._index_files import is_index_file
from fasthash._shown import counted, for_terminal
from fasthash.cli._app import app, one_line_errors
from fasthash.distributed import manifest as shards
from fasthash.store.copying import unmade_if_it_fails, verify_store
from fasthash.store.manifest import MANIFEST

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fasthash.distributed import ShardedIndex

__all__ = [
    "ENDING",
    "add_to_store",
    "check_not_sharded",
    "check_store",
    "facts_of",
    "has_ending",
    "is_store",
    "keys_for",
    "open_shards",
    "read_keys",
    "verify_lines",
]

ENDING = ".fhs"


def has_ending(path: Path) -> bool:
    """Whether a path ends as those of stores do, in small letters or capitals."""
    return path.suffix.lower() == ENDING


def is_store(path: Path) -> bool:
    """Whether a path is that of a store: a folder with a manifest, or with the ending of stores."""
    return path.is_dir() and ((path / MANIFEST).exists() or has_ending(path))


def check_store(path: Path, index_file: str) -> None:
    """Check that a path is that of a store, before it is opened.

    Args:
        index_file: what an error says of an index file, such as `"which has no segments"`.

    Raises:
        FileNotFoundError: there is nothing, or no store.
        ValueError: it is an index file.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    if is_index_file(path):
        raise ValueError(f"{path} is an index file, {index_file}")
    if not (path / MANIFEST).exists():
        raise FileNotFoundError(f"{path} holds no store; fasthash build CODES -o NAME{ENDING} makes one")
    check_not_sharded(path, "not one store")


def check_not_sharded(path: Path, otherwise: str) -> None:
    """Check that a path is not that of a folder of shards; an error says `otherwise` of it.

    Raises:
        ValueError: it is.
    """
    if shards.holds_shards(path) or (path.is_dir() and any(path.glob("shard-*.fh"))):
        raise ValueError(f"{path} is an index in shards, {otherwise}")


def facts_of(folder: Path) -> dict[str, Any]:
    """Size and settings of a store, or of an index whose shards are stores, ready for JSON.

    Raises:
        FormatError: it is damaged.
        OSError: a file cannot be read.
    """
    if shards.holds_shards(folder):
        return shards.facts_of(folder)
    with Store(folder) as store:
        return store.info()


def open_shards(
    kind: type[ShardedIndex], folder: Path, n_shards: int | None, replicas: int, threads: int | None
) -> ShardedIndex:
    """Open an index whose shards are stores, or load a saved one.

    Raises:
        ValueError: a number of shards is given for stores.
        FileNotFoundError, FormatError, OSError: as `ShardedIndex.open` and `ShardedIndex.load`.
    """
    if not shards.holds_shards(folder):
        return kind.load(folder, n_shards=n_shards, replicas=replicas, threads=threads)
    if n_shards is not None:
        raise ValueError(f"--shards must be left out: {folder} keeps its shards as stores, whose number stays")
    return kind.open(folder, replicas=replicas, threads=threads)


def add_to_store(
    output: Path,
    gallery: NDArray[np.uint8],
    ids: NDArray[Any] | None,
    keys: Any,
    *,
    settings: dict[str, Any],
) -> tuple[dict[str, Any], float]:
    """Make a store of these codes, or add them to an existing one; return its facts and the seconds.

    Raises:
        TypeError, ValueError: as `Store.add`. No store is made.
        OSError: as `Store.commit`.
    """
    begin = time.perf_counter()
    with unmade_if_it_fails(output), Store(output, "w", **settings) as store:
        store.add(gallery, keys, ids=ids)
        store.commit()
        return store.info(), time.perf_counter() - begin


def keys_for(output: Path, codes: Path, array: str, ids: NDArray[Any] | None) -> tuple[Any, str | None]:
    """The keys that the archive or the parts of the codes hold, and the name of their array.

    Returns:
        (None, None) if there are none; or ids are given, or the store has no keys, so that it takes none.

    Raises:
        OSError, ValueError: as `keys_of_archive` and of `EncodedParts`.
    """
    from fasthash.code_files import keys_of_archive

    if ids is not None or str(codes) == "-" or not (codes.is_file() or codes.is_dir()):
        return None, None
    if (output / MANIFEST).exists():
        with Store(output) as store:
            if len(store) and store.info()["keys"] == "none":
                return None, None
    if codes.is_dir():
        from fasthash.distributed import EncodedParts

        return [key for _, keys, _ in EncodedParts(codes) for key in keys], "keys"
    found = keys_of_archive(codes, array)
    return (None, None) if found is None else (found[1], found[0])


def read_keys(path: Path) -> Any:
    """Keys in a file: an .npy array, or text with one key a line.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no .npy file, or not UTF-8; the message names the file and the line.
    """
    if path.suffix.lower() == ".npy":
        from fasthash.cli import _codes

        return _codes.read_array(path)
    content = path.read_bytes()
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError(f"{path} must be UTF-8 text, but is UTF-16; iconv -f UTF-16 -t UTF-8 makes it so")
    # Lines end as Python's text files end them: \n, \r\n or \r.
    content = content.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    try:
        lines = content.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}, line {line}: keys must be UTF-8 text, got the byte 0x{content[error.start]:02x}; "
            "iconv -f ENCODING -t UTF-8 makes it so"
        ) from None
    return lines[:-1] if lines[-1] == "" else lines


def verify_lines(folder: Path, as_json: bool, heading: str | None = None) -> bool:
    """Check every byte of a store, also of one in shards, and print the outcome; return whether a file is damaged.

    Args:
        heading: a line above the lines of this store. JSON names the store anyway.

    Raises:
        FormatError: the manifest is damaged.
        OSError: a file cannot be read.
    """
    outcomes = shards.verify_shards(folder) if shards.holds_shards(folder) else verify_store(folder)
    wrong = any(fault for _, _, fault in outcomes)
    if as_json:
        files = [{"name": name, "bytes": n_bytes, "fault": fault or None} for name, n_bytes, fault in outcomes]
        typer.echo(json.dumps({"file": str(folder), "files": files, "fault": _first_fault(outcomes)}))
        return wrong
    if heading is not None:
        typer.echo(heading)
    width = max(28, *(len(name) for name, _, _ in outcomes))
    for name, n_bytes, fault in outcomes:
        typer.echo(f"{name:{width}s} {n_bytes:14,d}  {for_terminal(fault or 'ok')}")
    return wrong


def _first_fault(outcomes: list[tuple[str, int, str]]) -> str | None:
    return next((fault for _, _, fault in outcomes if fault), None)


@app.command()
def compact(store: Annotated[Path, typer.Argument(help="A store.", show_default=False)]) -> None:
    """Merge all segments of a store into one, and drop removed codes from the disk.

    Searches are fastest after it. A store merges small segments by itself, so this is never necessary.

    Examples:

        fasthash compact photos.fhs
    """
    with one_line_errors():
        check_store(store, "which has no segments to merge")
        begin = time.perf_counter()
        with Store(store, "w") as opened:
            before = opened.info()
            opened.compact()
            after = opened.info()
    seconds = time.perf_counter() - begin
    segments = f"{counted(before['segments'], 'segment')} with {before['removed']:,} removed codes"
    typer.echo(
        f"{for_terminal(store)}: {segments} in {before['file_bytes']:,} bytes, now {after['segments']} in "
        f"{after['file_bytes']:,} bytes, in {seconds:.2f} s"
    )
