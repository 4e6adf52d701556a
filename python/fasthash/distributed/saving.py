"""Saving and loading of a sharded index: one file for each shard, written and read by the actors, and a card."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fasthash._checks import check_int, check_path
from fasthash._core import FormatError
from fasthash._saved_folder import Card, write_folder
from fasthash._saved_kinds import MAX_SHARDS, SHARD_RULE, load_folder, shard_names
from fasthash.distributed.fleet import Options, Source
from fasthash.distributed.manifest import refuse_stores
from fasthash.distributed.states import Sharded, State, checked_settings

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Saving"]

_SAVES_AT_ONCE = 64


class Saving(Sharded):
    """The methods `save` and `load`."""

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the index to a folder; a save that fails leaves the earlier content.

        The folder holds one file for each shard, which `fasthash.load` opens too, and card.json with the settings. An
        actor writes the file of its shard, so all nodes must share the file system of `folder`, under the same path. On
        a single machine any folder works.

        Args:
            folder: folder for this index alone, made if missing.

        Raises:
            FileExistsError: `folder` holds something else, such as an encoder, a store or its shards.
            OSError: the operating system refused a step, or this process does not see a file that an actor wrote.
            ShardLostError: no copy of a shard is left.
            ValueError: the index is closed.
        """
        check_path("folder", folder)
        path = Path(folder).absolute()
        refuse_stores(path)

        def write(state: State) -> None:
            with ThreadPoolExecutor(min(self.n_shards, _SAVES_AT_ONCE)) as pool:

                def write_shard(shard: int, file: Path) -> dict[str, Any]:
                    asked = self._fleet.ask("save", {shard: (file,)}, state.versions, once=True)
                    if not file.exists():
                        raise FileNotFoundError(
                            f"folder={os.fspath(folder)!r} must be on a file system that all nodes share: {file.name} "
                            "was written on another node and is not here"
                        )
                    return dict(asked[shard])

                running: list[Future[dict[str, Any]]] = []

                def result(own: Future[dict[str, Any]]) -> dict[str, Any]:
                    wait(running)  # a save that fails removes its files: no actor may write one after that
                    return own.result()

                def writer(shard: int) -> Callable[[Path], object]:
                    def begin(file: Path) -> Callable[[], dict[str, Any]]:
                        running.append(own := pool.submit(write_shard, shard, file))
                        return lambda: result(own)

                    return begin

                facts = {
                    "level_bits": list(self.level_bits),
                    "memory": self.memory,
                    "plan": self._settings["plan"],
                    "n_shards": self.n_shards,
                    "n_codes": sum(state.sizes),
                    "next_id": state.next_id,
                    "shard": SHARD_RULE,
                } | ({} if self.metric == "hamming" else {"metric": self.metric})
                writers = {name: writer(shard) for shard, name in enumerate(shard_names(self.n_shards))}
                card = write_folder(path, type(self).__name__, facts, writers)
            self._saved([Source(version, os.fspath(path), card) for version in state.versions])

        self._reading(write)

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        *,
        n_shards: int | None = None,
        replicas: int = 1,
        threads: int | None = None,
        num_cpus: float = 0,
        hedge_after: float = 1.0,
    ) -> Self:
        """Load an index from a folder; every byte of its shards is checked first.

        The actors read the files, so all nodes must see them: see `save`.

        Args:
            folder: folder that `save` wrote.
            n_shards: number of shards; None takes the saved number. With another number, codes are redistributed.
            replicas, threads, num_cpus, hedge_after: as in the class.

        Raises:
            FileNotFoundError: `folder` holds no saved index, or a node does not see it.
            FormatError: a file is damaged, missing, or from another save.
            TypeError: an argument has the wrong type.
            ValueError: an argument is out of range.
            TimeoutError: Ray cannot start an actor.
        """
        check_path("folder", folder)
        path = Path(folder).absolute()
        number = None if n_shards is None else check_int("n_shards", n_shards, minimum=1, maximum=MAX_SHARDS)
        rest = replicas, threads, num_cpus, hedge_after
        return load_folder(path, cls.__name__, lambda card: cls._of(path, card, number, *rest))

    @classmethod
    def _of(cls, folder: Path, card: Card, n_shards: int | None, *rest: Any) -> Self:
        """Load the index of a card; `rest` holds the last arguments of `Options.checked`."""
        index = cls.__new__(cls)
        options = Options.checked(n_shards or card["n_shards"], *rest)
        sources = [Source(0, os.fspath(folder), card)] * options.n_shards
        settings = checked_settings(card["level_bits"], card["memory"], card["plan"], card.get("metric", "hamming"))
        index._start(sources, card["next_id"], settings, options)
        if len(index) != card["n_codes"]:
            index.close()
            raise FormatError(f"{folder} holds {len(index)} codes, expected {card['n_codes']}")
        return index
