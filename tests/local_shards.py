"""What tests of shards on disk share: a `ShardedIndex` whose shards are plain objects of this process, and steps."""

from __future__ import annotations

import numpy as np

from fasthash.distributed.index import ShardedIndex
from fasthash.distributed.keeping import StoredFleet
from fasthash.distributed.manifest import read_shards, shard_folder
from fasthash.store.prepared import read_named
from stores import PER_STEP, codes_of

N_SHARDS = 3
LAYOUT = (8, 24)


class LocalFleet(StoredFleet):
    """Calls the shards one after the other; no Ray."""

    def start(self):
        self.shards = [self.shard_class(**self._index, threads=self.options.threads) for _ in self._sources]
        n = len(self.shards)
        return [
            shard.load(source.version, source.folder, source.card, number, n)
            for number, (shard, source) in enumerate(zip(self.shards, self._sources, strict=True))
        ]

    def ask(self, method, arguments, versions, *, once=False, missing=None):
        return {s: getattr(self.shards[s], method)(versions[s], *of) for s, of in arguments.items()}

    ask_keepers = ask

    def change(self, calls, versions, new):
        return {s: self.shards[s].change(versions[s], new, *of) for s, of in calls.items()}

    def forget(self, versions):
        for shard, numbers in versions.items():
            self.shards[shard].forget(numbers)

    def wait(self):
        """Wait for merges in the background."""
        for shard in self.shards:
            shard._writer.merger.wait()

    def close(self):
        for shard in self.shards:
            if shard._writer is not None:
                shard._writer.close()
        self.shards = []  # which share files
        self._closed = True


class LocalIndex(ShardedIndex):
    """A `ShardedIndex` without Ray."""

    _fleet_class = LocalFleet

    def _join(self):
        pass


def new(folder, **options):
    return LocalIndex(LAYOUT, n_shards=N_SHARDS, store=folder, **options)


def assert_no_leaks(folder):
    """The folders hold what the manifests name, and nothing else."""
    manifest = read_shards(folder)
    places = [shard_folder(folder, number) for number in range(len(manifest.shards))]
    assert {path.name for path in folder.iterdir()} == {"manifest", "writer.lock", *(place.name for place in places)}
    for shard, place in zip(manifest.shards, places, strict=True):
        named = set()
        if shard.manifest is not None:
            named = {shard.manifest.name, *read_named(place, shard.manifest, manifest.settings).files()}
        assert {path.name for path in place.iterdir()} == {"writer.lock", *named}


# ---- steps: the n-th change of an index, and what it then holds ----


def ids_of(step, rows):
    return step * 1_000 + np.asarray(rows)


def take_step(index, step):
    """Add entries of this step, update some of the step before, and remove some of it."""
    rows = np.arange(PER_STEP)
    index.add(codes_of(step, 0, rows), ids_of(step, rows))
    if step > 1:
        index.update(ids_of(step - 1, rows[:10]), codes_of(step - 1, 1, rows[:10]))
        index.remove(ids_of(step - 1, rows[5:20]))


def steps_of(index):
    """The number of steps that an index holds, all of them whole; fails if any is not."""
    codes, ids = index.to_arrays()
    if not len(ids):
        return 0
    step = int(ids.max()) // 1_000
    held = dict(zip(ids.tolist(), map(bytes, codes), strict=True))
    assert held == {
        int(ids_of(each, row)): codes_of(each, int(each < step and row < 5), row).tobytes()
        for each in range(1, step + 1)
        for row in range(PER_STEP)
        if each == step or not 5 <= row < 20
    }
    assert index.search(codes[:3], 1).distances.tolist() == [[0]] * len(codes[:3])
    return step
