"""`Store`: a gallery on disk, with one writer and any number of readers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fasthash._checks import (
    LEVEL_BITS,
    check_bool,
    check_choice,
    check_codes,
    check_ids,
    check_layout,
    check_path,
)
from fasthash._flat_index import FlatIndex
from fasthash._hier_index import HierIndex
from fasthash._index_options import MEMORIES, METRICS, PLANS, Memory, Metric, Plan
from fasthash._locks import ChangeLock
from fasthash._saved_folder import read_by_card
from fasthash._shown import counted
from fasthash.store.copying import copy_store, store_index
from fasthash.store.files import named_in_errors
from fasthash.store.keyed import KeyedIndex, keyed_index
from fasthash.store.manifest import manifest_text, parse_manifest
from fasthash.store.reading import Readable
from fasthash.store.segment import Segment, open_segments
from fasthash.store.view import View
from fasthash.store.writer import Settings, Writer

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Store"]


class Store(Readable):
    """A gallery in a folder: changed by one writer, searched by any number of processes, with keys for its codes.

    The writer collects changes in memory; `commit` writes them, and only them, atomically and durably. After a crash
    at any moment the store is as the last commit left it. A reader maps the files: processes share their memory. It
    stays at the commit that it opened until `refresh`. Searches return what a `HierIndex` of the same entries returns,
    byte for byte.

    A writer sees its own changes at once, readers after the commit. All methods may be called from several threads.
    A pickled reader opens the store again, at the newest commit; a writer cannot be pickled.

    Args:
        path: folder of the store.
        mode: `"r"` reads an existing store; `"w"` writes it, and makes it if there is none.
        level_bits: for a new store, widths of the levels as in `HierIndex`.
        n_bits: for a new store, the width of the only level.
        memory: for a new store, the memory budget as in `HierIndex`. None is `"default"`.
        plan: for a new store, the plan of its segments as in `HierIndex`. None is `"auto"`.
        metric: for a new store, the distance between codes as in `HierIndex`, which is that of all searches. None is
            `"hamming"`. With `"jaccard"` a store has one level and no plan to force.
        merge: let the writer merge small segments on a thread in the background, which no commit waits for.
        check: check every byte of codes, ids and keys, now and when `refresh` opens more; the time grows with the
            codes. False checks the manifest, all headers, and whatever a search relies on for its safety: a
            damaged code or key then gives a wrong result, never a crash. `fasthash verify` finds it, and no merge takes
            it over.

    Raises:
        TypeError, ValueError: an argument is wrong, or an existing store has other settings.
        FileNotFoundError: there is no store.
        FileExistsError: `path` is something else.
        BlockingIOError: the store has a writer already; the error names its process and host.
        FormatError: a file of the store is missing, damaged, or of another store; or `path` is an index in shards.
        OSError: the folder cannot be read or written.

    Examples:
        >>> with Store("photos.fhs", "w", n_bits=64) as store:  # doctest: +SKIP
        ...     store.add(codes, keys=["a.jpg", "b.jpg"])
        ...     store.commit()
        >>> reader = Store("photos.fhs")  # doctest: +SKIP
        >>> reader.search(codes, k=1).keys  # doctest: +SKIP
        array([['a.jpg'], ['b.jpg']], dtype=object)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        mode: Literal["r", "w"] = "r",
        *,
        level_bits: int | Sequence[int] | None = None,
        n_bits: int | None = None,
        memory: Memory | None = None,
        plan: Plan | None = None,
        metric: Metric | None = None,
        merge: bool = True,
        check: bool = False,
    ) -> None:
        check_path("path", path)
        check_choice("mode", mode, ("r", "w"))
        check_bool("merge", merge)
        check_bool("check", check)
        self._check = check
        self._folder = Path(os.path.abspath(path))
        settings = _settings(level_bits, n_bits, memory, plan, metric)
        self._writer: Writer | None = None
        self._opened: _Opened | None = None
        self._reopening = ChangeLock()  # held while a reader takes another commit, or is closed
        if mode == "w":
            width = "level_bits" if n_bits is None else "n_bits"
            with named_in_errors(self._folder):
                self._writer = Writer(self._folder, settings, merge, check, width=width)
        elif settings:
            names = ["n_bits" if name == "level_bits" and n_bits is not None else name for name in settings]
            raise ValueError(f"{', '.join(names)} must be left out: a reader takes them from the store")
        elif not merge:
            raise ValueError("merge must be left out: a reader merges no segments, got False")
        else:
            self._opened = self._open(())

    # ---- commits of others ----

    def refresh(self) -> bool:
        """Take the newest commit.

        Searches under way and results keep what they began with. If the newest commit cannot be opened, the reader
        stays at the one it has. Threads may call this at the same time: they take turns, and the reader never goes
        back.

        Returns:
            True if there was a newer one. A writer always has it.

        Raises:
            FormatError: the newest commit is damaged.
            ValueError: the folder holds a new store with codes of another width or another metric.
            OSError: a file cannot be read.
        """
        # The manifest must be read after the lock is taken: a thread that waited with an older commit would go back to
        # it. Commit numbers tell nothing, since a store that was made anew counts from 0.
        with self._reopening("refresh"):
            view, opened = self._view, self._opened
            if opened is None or manifest_text(self._folder) == opened.manifest_text:
                return False
            newest = self._open(view.segments)
            for name in ("n_bits", "metric"):
                before, now = (getattr(each.manifest, name) for each in (view, newest.view))
                if before != now:
                    raise ValueError(
                        f"path={os.fspath(self._folder)!r} holds another store now, with {name}={now!r} instead of "
                        f"{before!r}; open it anew"
                    )
            self._opened = newest
            return True

    def info(self) -> dict[str, Any]:
        """Return the size and settings of the store as a dictionary of plain numbers and names, ready for JSON."""
        view = self._view
        facts = view.facts() | {"file_bytes": view.manifest.file_bytes}
        if self._writer is not None:
            error = self._writer.merger.error
            told = None if error is None else f"{type(error).__name__}: {error}"
            facts |= {"merging": self._writer.merger.runs, "merge_error": told}
        return facts

    # ---- changes ----

    def add(self, codes: ArrayLike, keys: Any = None, *, ids: ArrayLike | None = None) -> NDArray[np.int64]:
        """Add codes.

        Args:
            codes: uint8 array `(n, n_bits / 8)`.
            keys: a key for each code, new to the store: str, bytes, integers of 64 bits or `uuid.UUID`, at most 65,535
                bytes each. The first addition fixes the kind of all keys, or that there are none.
            ids: integer array `(n,)` of ids, as in `HierIndex.add`. None counts on from the largest so far.

        Returns:
            The ids.

        Raises:
            TypeError: wrong dtype, or a key of another kind.
            ValueError: wrong shape, or keys or ids that are not new and distinct. Nothing is added.
        """
        writer = self._writing("add")
        array = check_codes("codes", codes, self.n_bits)
        return writer.add(array, keys, None if ids is None else check_ids(ids, len(array)))

    def update(self, keys: Any = None, codes: ArrayLike | None = None, *, ids: ArrayLike | None = None) -> None:
        """Replace the codes of some keys or ids; these stay.

        Args:
            keys: distinct keys in the store.
            codes: uint8 array `(n, n_bits / 8)`, the new codes.
            ids: distinct ids in the store, instead of keys.

        Raises:
            TypeError: wrong dtype, or a key of another kind.
            ValueError: wrong shape, or a key or id is not in the store or is given twice. Nothing changes.
        """
        writer = self._writing("update")
        if codes is None:
            raise ValueError("codes must be given")
        array = check_codes("codes", codes, self.n_bits)
        writer.update(array, keys, None if ids is None else check_ids(ids))

    def remove(self, keys: Any = None, *, ids: ArrayLike | None = None) -> None:
        """Remove entries.

        Args:
            keys: distinct keys in the store.
            ids: distinct ids in the store, instead of keys.

        Raises:
            TypeError: wrong dtype, or a key of another kind.
            ValueError: a key or id is not in the store, or is given twice. Nothing is removed.
        """
        self._writing("remove").remove(keys, None if ids is None else check_ids(ids))

    def commit(self) -> int:
        """Write all changes since the last commit, atomically and durably; return the number of the commit.

        Raises:
            OSError: the operating system refused a step. Unless the error says otherwise, the last commit stands, and
                the changes are kept in memory for another attempt. Or the folder was removed, replaced or restored
                from a backup since it was opened: nothing is written there.
        """
        return self._writing("commit").commit()

    def compact(self) -> None:
        """Merge all committed segments into one, now; waits for a merge in the background.

        This deletes removed entries from disk. Uncommitted changes stay uncommitted.

        Raises:
            OSError: the operating system refused a step, or the folder was replaced; the store is as it was.
        """
        self._writing("compact").compact()

    def close(self) -> None:
        """Close the store. A writer drops what was not committed, waits for a running merge, and lets others write.

        A reader waits for a `refresh` of another thread. Results keep their keys. `with` calls it.

        Raises:
            OSError: the result of a merge could not be written; the last commit stands.
        """
        if self._writer is not None:
            self._writer.close()
            return
        with self._reopening("close"):
            self._opened = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        if self._writer is not None:
            raise TypeError(
                f"path={os.fspath(self._folder)!r}: a store that was opened with mode='w' cannot be pickled, since it "
                "has one writer; commit, and pickle a reader, Store(path)"
            )
        self._view  # noqa: B018  # raises if it is closed
        ours = ("_check", "_folder", "_writer", "_opened", "_reopening")
        attributes = {name: value for name, value in vars(self).items() if name not in ours}
        return _opened_again, (type(self), self._folder, self._check), attributes or None

    # ---- whole stores ----

    @classmethod
    def from_index(cls, index: FlatIndex | HierIndex, path: str | os.PathLike[str], *, keys: Any = None) -> Self:
        """Make a store of the entries of an index; returns it, committed, to be written.

        Args:
            index: the index, whose metric the store takes. A flat one gives a store with one level.
            path: folder of the new store.
            keys: a key for each entry, in the order of `index.to_arrays()`, which is that of ids. None: no keys.

        Raises:
            TypeError: `index` is not an index, or keys are not of one kind.
            ValueError: keys are too few, too many, or not distinct. No store is made.
            FileExistsError: `path` holds a store already, or something else.
        """
        if not isinstance(index, (FlatIndex, HierIndex)):
            raise TypeError(f"index must be a FlatIndex or HierIndex, got {type(index).__name__}")
        store_index(path, index, keys)
        return cls(path, "w")

    def to_index(self) -> HierIndex:
        """Return a `HierIndex` with all entries, without keys. It may use the files of the store; it changes none."""
        return self._view.index.copy()

    def to_keyed(self) -> KeyedIndex:
        """Return a `KeyedIndex` with all entries: a `HierIndex` as of `to_index`, and all keys in memory.

        Raises:
            ValueError: the entries of the store have no keys.
        """
        return keyed_index(self._view)

    def copy_to(self, path: str | os.PathLike[str]) -> None:
        """Copy the commit that this store searches into a new folder, while it is used: a backup.

        Args:
            path: folder of the new store, missing or empty.

        Raises:
            FileExistsError: `path` holds something.
            OSError: the operating system refused a step; no store is at `path`.
        """
        check_path("path", path)
        copy_store(self._folder, self._view, Path(path))

    # ---- properties ----

    @property
    def path(self) -> Path:
        """Folder of the store."""
        return self._folder

    @property
    def mode(self) -> str:
        """`"r"` or `"w"`."""
        return "r" if self._writer is None else "w"

    @property
    def commit_number(self) -> int:
        """Number of the commit that this store searches; 0 for a new one."""
        return self._view.manifest.commit

    def __repr__(self) -> str:
        closed = self._opened is None and (self._writer is None or self._writer.closed)
        state = "closed" if closed else f"{self.mode!r}) with {counted(len(self), 'code')}"
        return f"Store({str(self._folder)!r}, {state}" + (")" if closed else "")

    @property
    def _view(self) -> View:
        writer = self._writer
        opened = self._opened
        if opened is not None:
            return opened.view
        if writer is None or writer.closed:
            raise ValueError(f"path={str(self._folder)!r}: the store is closed")
        return writer.view

    def _writing(self, change: str) -> Writer:
        if self._writer is None:
            raise ValueError(f"{change} needs a store that was opened with mode='w'")
        return self._writer

    def _open(self, known: Sequence[Segment]) -> _Opened:
        def opened(text: bytes) -> _Opened:
            manifest = parse_manifest(self._folder, text)
            segments = open_segments(self._folder, manifest, known, check=self._check)
            return _Opened(View(manifest, segments, manifest.next_id, manifest.keys), text)

        with named_in_errors(self._folder):
            return read_by_card(lambda: manifest_text(self._folder), opened)


def _opened_again(kind: type[Store], folder: Path, check: bool) -> Store:
    """A reader that was pickled."""
    return kind(folder, check=check)


class _Opened(NamedTuple):
    """What a reader has opened: a commit, and the manifest that it was read from."""

    view: View
    manifest_text: bytes


def _settings(level_bits: Any, n_bits: Any, memory: Any, plan: Any, metric: Any) -> Settings:
    """The settings that are given, checked."""
    settings: Settings = {}
    if level_bits is not None or n_bits is not None:
        settings["level_bits"] = check_layout(LEVEL_BITS if level_bits is None else level_bits, n_bits)
    if memory is not None:
        check_choice("memory", memory, MEMORIES)
        settings["memory"] = memory
    if plan is not None:
        check_choice("plan", plan, PLANS)
        settings["plan"] = plan
    if metric is not None:
        check_choice("metric", metric, METRICS)
        settings["metric"] = metric
    return settings
