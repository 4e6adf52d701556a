"""Commits of a sharded index whose shards are stores: all or nothing over the shards.

First each keeper writes the commit of its shard under a new name, beside the one before. Then the owner replaces the
manifest of the folder, which names the commit of every shard: from this moment on it counts. docs/scaling.md has the
protocol.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from fasthash._checks import check_bool, check_path
from fasthash._core import FormatError
from fasthash._durable import flush, make_folder
from fasthash.distributed.changing import Changing
from fasthash.distributed.fleet import Fleet, Options, ShardLostError, Source
from fasthash.distributed.keeping import StoredFleet
from fasthash.distributed.manifest import ShardCommit, ShardsManifest, read_shards, refuse_others, shard_folder
from fasthash.distributed.stored import card_of
from fasthash.store import files
from fasthash.store.files import WriterLock, fault_of_place, leftovers, named_in_errors, remove

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Durable"]

_NO_VERSION = -1


class Durable(Changing):
    """The methods `open`, `commit` and `compact`, and the arguments `store`."""

    _fleet_class: type[Fleet] = StoredFleet
    _manifest: ShardsManifest | None = None  # the last commit; None if shards are not stores
    _folder: Path
    _lock: WriterLock
    _check = False  # every byte of files that are opened
    _unflushed = False  # the manifest is in place, but perhaps not on disk

    @classmethod
    def open(
        cls,
        folder: str | os.PathLike[str],
        *,
        replicas: int = 1,
        threads: int | None = None,
        num_cpus: float = 0,
        hedge_after: float = 1.0,
        check: bool = False,
    ) -> Self:
        """Open an index whose shards are stores, at its last commit.

        The shards are mapped: opening reads no codes. Files that do not belong to the last commit are removed.

        Args:
            folder: folder that was given as `store`; all nodes must see it under the same path.
            replicas, threads, num_cpus, hedge_after: as in the class.
            check: every copy of a shard checks all its bytes, now and after each commit. False checks only what a
                search relies on for its safety, as in `Store`.

        Raises:
            FileNotFoundError: `folder` holds no such index, or a node does not see it.
            BlockingIOError: another process has it open; the error names process and host.
            FormatError: a file is damaged, missing, or of another store.
            TypeError: an argument has the wrong type.
            ValueError: an argument is out of range.
            TimeoutError: Ray cannot start an actor.
        """
        check_path("folder", folder)
        check_bool("check", check)
        index, path = cls.__new__(cls), Path(os.path.abspath(folder))
        n_shards = len(read_shards(path).shards)
        index._check = check
        index._open(path, None, Options.checked(n_shards, replicas, threads, num_cpus, hedge_after))
        return index

    def commit(self) -> int:
        """Write all changes since the last commit to the stores: in all shards, or in none if it raises.

        When it returns, the changes are on disk. Searches go on meanwhile; changes wait.

        Returns:
            The number of the commit.

        Raises:
            ValueError: the index has no `store`, or is closed.
            ShardLostError: no copy of a shard is left. Close the index, and open the last commit.
            OSError: the operating system refused a step. Unless the error says otherwise, the last commit stands, and
                the changes are kept for another attempt.
        """
        self._stored("commit")
        with self._changing("commit"), named_in_errors(self._folder):
            self._commit(self._keepers.changed(), changes=True)
            return self._stored("commit").commit

    def compact(self) -> None:
        """Compact each shard, as `HierIndex.compact`. No result changes.

        If the shards are stores, merges the segments of each on disk, as `Store.compact`; changes that are not
        committed stay so.
        """
        if self._manifest is None:
            super().compact()
            return
        with self._changing("compact"), named_in_errors(self._folder):
            self._commit(range(self.n_shards), changes=False)

    def close(self) -> None:
        """Stop the actors; unsaved changes are lost, and so are those that were not committed.

        Every call that needs the shards raises ValueError from now on.
        """
        super().close()
        if self._manifest is not None:
            with self._fleet.changing("close"):  # a commit under way ends first: it fails, or names its files
                self._lock.release()

    @property
    def store(self) -> Path | None:
        """Folder of the stores that the shards are kept in; None without one."""
        return None if self._manifest is None else self._folder

    @property
    def commit_number(self) -> int:
        """Number of the last commit; 0 for a new index.

        Raises:
            ValueError: the index has no `store`, or is closed.
        """
        self._fleet.check_open()
        return self._stored("commit_number").commit

    def _stored(self, what: str) -> ShardsManifest:
        if self._manifest is None:
            raise ValueError(f"{what} needs an index with store=, the folder of its shards; save() writes this one")
        return self._manifest

    def _saved(self, sources: Sequence[Source]) -> None:
        if self._manifest is None:  # else the commits restore shards
            super()._saved(sources)

    # ---- opening ----

    def _make(self, folder: Any, new: ShardsManifest, options: Options) -> None:
        """Make the folder of a new index, with its first manifest, and open it."""
        check_path("store", folder)
        path = Path(os.path.abspath(folder))
        refuse_others(path)
        self._join()  # before there is a folder: without Ray, or without its cluster, none is made
        make_folder(path)
        self._open(path, new, options)

    def _open(self, folder: Path, new: ShardsManifest | None, options: Options) -> None:
        lock = WriterLock(folder)
        try:
            if new is not None:
                refuse_others(folder)
            manifest = read_shards(folder) if new is None else new
            sources = self._sources_of(folder, manifest, [0] * len(manifest.shards))
            self._start(sources, manifest.next_id, manifest.settings, options, self._fleet_class)
            try:
                sizes = [shard.n_codes for shard in manifest.shards]
                if list(self._state.sizes) != sizes:
                    raise FormatError(f"{folder}: shards hold {self._state.sizes} codes, their manifest names {sizes}")
                if new is not None and not manifest.put(folder):
                    raise OSError(f"store={str(folder)!r} could not be flushed")
                self._folder, self._manifest, self._lock = folder, manifest, lock
                with self._fleet.changing("open"):
                    cards = {number: (source.card,) for number, source in enumerate(sources)}
                    self._keepers.ask_keepers("tidy", cards, self._state.versions)
                remove(folder, leftovers(folder, ()))
                for number in range(self.n_shards):
                    self._check_seen(shard_folder(folder, number))
            except BaseException:
                self._fleet.close()
                raise
        except BaseException:
            lock.release()
            raise

    def _sources_of(self, folder: Path, manifest: ShardsManifest, versions: Sequence[int]) -> list[Source]:
        """For each shard, the version that its last commit holds."""
        cards = [card_of(shard.manifest, manifest.settings, self._check) for shard in manifest.shards]
        return [Source(version, os.fspath(folder), card) for version, card in zip(versions, cards, strict=True)]

    def _check_seen(self, path: Path) -> None:
        if not path.exists():
            raise FileNotFoundError(
                f"store={str(self._folder)!r} must be on a file system that all nodes share: {path.name} was written "
                "on another node and is not here"
            )

    # ---- commits; the caller holds `changing` ----

    @property
    def _keepers(self) -> StoredFleet:
        return cast(StoredFleet, self._fleet)

    def _commit(self, shards: Sequence[int], *, changes: bool) -> None:
        """Commit some shards: their changes, or without them only a merge of all segments."""
        if fault := fault_of_place(self._folder, self._manifest, read_shards, "index"):
            raise OSError(f"{fault}; nothing is written: close this index, and open its folder anew")
        before, state = self._stored("commit"), self._state
        cards = [source.card for source in self._sources_of(self._folder, before, state.versions)]
        calls = {shard: (cards[shard], changes, not changes) for shard in shards}
        prepared = self._keepers.ask_keepers("prepare", calls, state.versions)
        after = {
            shard: ShardCommit(named, state.sizes[shard] if changes else before.shards[shard].n_codes)
            for shard, named in prepared.items()
            if named != before.shards[shard].manifest
        }
        for shard, commit in after.items():
            if commit.manifest is not None:
                self._check_seen(shard_folder(self._folder, shard) / commit.manifest.name)
        files.reached("shards prepared")
        # The versions that the last commit holds, from when it is in place.
        held = set(range(self.n_shards)) - (set() if changes else set(self._keepers.changed()))
        if after:
            self._put(before.next(after, state.next_id if changes else before.next_id), held)
        elif self._unflushed:
            flush(self._folder)
            self._unflushed = False
        self._rebase(shards, held)
        if self._unflushed:
            raise OSError(
                f"store={str(self._folder)!r}: the commit is in place, but could not be flushed; commit again"
            )

    def _put(self, manifest: ShardsManifest, held: Collection[int]) -> None:
        """Replace the manifest of the folder: the commit counts from now on. It holds these shards as they are."""
        try:
            durable = manifest.put(self._folder)
            files.reached("commit counts")
            self._take(manifest, held)
        except BaseException:
            if self._is_in_place(manifest):  # nevertheless: after Ctrl-C
                self._take(manifest, held)
            raise
        self._unflushed = not durable

    def _take(self, manifest: ShardsManifest, held: Collection[int]) -> None:
        """Go on from a new manifest."""
        self._manifest, self._unflushed = manifest, True
        self._keepers.set_sources(self._sources_now(self._state.versions, held))

    def _is_in_place(self, manifest: ShardsManifest) -> bool:
        with suppress(OSError, ValueError):
            return read_shards(self._folder) == manifest
        return False

    def _rebase(self, shards: Sequence[int], held: Collection[int]) -> None:
        """Map the files of the last commit in these shards; a shard that has not done so yet still answers rightly."""
        cards = [source.card for source in self._sources_now(self._state.versions, held)]
        calls = {shard: ("rebase", cards[shard], not self._unflushed, shard not in held) for shard in shards}
        try:
            if calls:
                self._apply(calls, self._state.next_id, lambda versions: self._sources_now(versions, held))
        except ShardLostError:
            pass  # and is opened again
        except Exception as error:
            if self._fleet.closed:
                return  # by another thread: the commit counts nevertheless
            number = self._stored("commit").commit
            raise OSError(
                f"store={str(self._folder)!r}: commit {number} is in place, but a shard could not go on "
                f"from it: {error}"
            ) from error

    def _sources_now(self, versions: Sequence[int], held: Collection[int]) -> list[Source]:
        """What restores the shards from the last commit, which does not hold the changes of all shards."""
        of_commit = [version if shard in held else _NO_VERSION for shard, version in enumerate(versions)]
        return self._sources_of(self._folder, self._stored("commit"), of_commit)
