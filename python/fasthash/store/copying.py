"""Whole stores: made of an index, copied, and every byte checked."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fasthash._checks import check_path
from fasthash._core import FormatError
from fasthash._durable import make_folder
from fasthash._hier_index import HierIndex
from fasthash._index_base import Index
from fasthash._index_files import verify
from fasthash.store.files import (
    LOCK,
    WriterLock,
    leftovers,
    named_in_errors,
    new_name,
    put_manifest,
    refuse_strangers,
    remove,
    write_file,
)
from fasthash.store.held import Held
from fasthash.store.kinds import KINDS
from fasthash.store.manifest import MANIFEST, FileFacts, Manifest, RemovedFacts, SegmentFacts, read_manifest
from fasthash.store.segment import open_keys, open_segments
from fasthash.store.view import View
from fasthash.store.writer import Settings, Writer

__all__ = ["copy_store", "store_index", "unmade_if_it_fails", "verify_files", "verify_store"]


def copy_store(source: Path, view: View, folder: Path) -> None:
    """Copy the commit of a view, whose files nobody removes meanwhile; see `Store.copy_to`."""
    if (folder / MANIFEST).exists():
        raise FileExistsError(f"path={os.fspath(folder)!r} holds a store already")
    refuse_strangers(folder)
    make_folder(folder)
    lock = WriterLock(folder)
    written: list[Path] = []
    try:
        segments, content = [], bytearray()
        for facts in view.manifest.segments:
            for file in (facts.file, facts.keys):
                if file is not None:
                    written.append(folder / file.name)
                    with named_in_errors(folder / file.name):
                        shutil.copyfile(source / file.name, folder / file.name)
            segments.append((facts, len(content) // 4))
            content += np.sort(view.committed[facts.file.name].removed).astype("<u4").tobytes()
        file = FileFacts.of(new_name("removed", "removed"), len(content), bytes(content))
        if content:
            written.append(folder / file.name)
            write_file(folder / file.name, bytes(content))
        after = [
            replace(facts, removed=(RemovedFacts(file, begin, facts.n_removed),) if facts.n_removed else ())
            for facts, begin in segments
        ]
        manifest = replace(view.manifest, segments=tuple(after))
        if not put_manifest(folder, manifest.text(), written):
            raise OSError(f"path={os.fspath(folder)!r}: the copy is in place, but could not be flushed")
    except BaseException:
        if not (folder / MANIFEST).exists():
            for path in written:
                with suppress(OSError):
                    path.unlink()
        raise
    finally:
        lock.release()


def store_index(path: str | os.PathLike[str], index: Index, keys: Any) -> None:
    """Make a store of the entries of an index, and close it; see `Store.from_index`."""
    check_path("path", path)
    if (Path(path) / MANIFEST).exists():
        raise FileExistsError(f"path={os.fspath(path)!r} holds a store already")
    codes, ids = index.to_arrays()
    kind, given = Held(index, None, 0).new_keys(keys, len(ids))  # before there is a folder
    settings: Settings = {"level_bits": index.level_bits, "metric": index.metric}
    if isinstance(index, HierIndex):
        settings["memory"] = index.memory
    folder = Path(os.path.abspath(path))
    with unmade_if_it_fails(folder):
        writer = Writer(folder, settings, True, False)
        try:
            writer.add(codes, given and KINDS[str(kind)].as_argument(given), ids)
            writer.commit()
        finally:
            writer.close()


@contextmanager
def unmade_if_it_fails(folder: Path) -> Iterator[None]:
    """Remove a store that the block makes if it raises before the first commit. A store that was there stays."""
    had_folder, had_store = folder.exists(), (folder / MANIFEST).exists()
    try:
        yield
    except BaseException:
        if not had_store:
            with suppress(FormatError, OSError):
                _remove_empty(folder)
            if not had_folder:
                with suppress(OSError):
                    folder.rmdir()  # unless something is in it
        raise


def _remove_empty(folder: Path) -> None:
    """Remove the files of a store to which nothing was committed, if nobody writes it."""
    if not (folder / MANIFEST).exists():
        return
    lock = WriterLock(folder)
    try:
        if read_manifest(folder).commit > 0:
            return
        remove(folder, leftovers(folder, ()))
        (folder / MANIFEST).unlink()
        if os.name != "nt":  # Windows removes no open file
            (folder / LOCK).unlink()
    finally:
        lock.release()
    if os.name == "nt":
        (folder / LOCK).unlink()


def verify_store(folder: Path) -> list[tuple[str, int, str]]:
    """Check every byte of every file of the last commit; return name, bytes and fault of each, "" for none.

    Raises:
        FileNotFoundError: there is no store.
        FormatError: the manifest is damaged.
        OSError: a file cannot be read.
    """
    manifest = read_manifest(folder)
    return [(MANIFEST, (folder / MANIFEST).stat().st_size, ""), *verify_files(folder, manifest)]


def verify_files(folder: Path, manifest: Manifest) -> list[tuple[str, int, str]]:
    """Check every byte of the files that a manifest names, as `verify_store`."""
    outcomes = []
    for facts in manifest.segments:
        fault = ""
        try:
            # Without keys, whose damage is not that of the index file.
            open_segments(folder, replace(manifest, keys="none", segments=(replace(facts, keys=None),)))
            fault = verify(folder / facts.file.name).fault
        except FormatError as error:
            fault = str(error)
        outcomes.append((facts.file.name, facts.file.n_bytes, fault))
        if facts.keys is not None:
            outcomes.append((facts.keys.name, facts.keys.n_bytes, _fault_of_keys(folder, manifest, facts)))
    return outcomes


def _fault_of_keys(folder: Path, manifest: Manifest, facts: SegmentFacts) -> str:
    try:
        open_keys(folder, manifest, facts)[0].check()
    except (FormatError, OSError) as error:
        return str(error)
    return ""
