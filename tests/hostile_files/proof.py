"""Proof that an index holds the contents of a file, and answers every query as the slow path does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

import fasthash as fh
import file_reference as ref
import reference
from galleries import uniform


def require_equal(got, expected, what):
    if got is None or expected is None:
        require(got is expected, what)
        return
    if got.shape != expected.shape or got.dtype != expected.dtype or not np.array_equal(got, expected):
        raise AssertionError(f"wrong {what}")


def require(condition, what):
    if not condition:
        raise AssertionError(f"wrong {what}")


class Proof:
    """Everything that an index of these contents has to answer."""

    def __init__(self, contents):
        self.contents = contents
        self.jaccard = contents.metric == ref.JACCARD
        self.codes, self.ids = contents.by_id()
        n_bytes = self.codes.shape[1]
        rng = np.random.default_rng(len(self.ids))
        self.queries = np.concatenate([self.codes[len(self.ids) // 2 :][:1] ^ np.uint8(1), uniform(rng, 2, n_bytes)])
        n_bits = sum(contents.level_bits)
        self.queries[:, -1] &= np.uint8(256 - 2 ** (-n_bits % 8))  # padding is zero
        self.k = len(self.ids) + 2
        search = reference.jaccard_search if self.jaccard else reference.search
        self.distances, self.found = search(self.queries, self.codes, self.ids, self.k)
        if not self.jaccard:
            self.distances[self.found == -1] = n_bits + 1
        gone = rng.random(len(self.ids)) < 0.3
        self.removed = self.ids[gone]
        left = ~np.isin(contents.ids, self.removed)
        self.kept = replace(contents, id_map=False, summary=None)  # as `save` writes it unasked
        self.rest = replace(self.kept, codes=contents.codes[left], ids=contents.ids[left], centroids=None)

    def check(self, index):
        contents = self.contents
        require(type(index) is (fh.FlatIndex if contents.kind == ref.FLAT else fh.HierIndex), "kind")
        require(index.level_bits == contents.level_bits, "levels")
        require(index.metric == ("jaccard" if self.jaccard else "hamming"), "metric")
        if contents.kind == ref.HIER:
            require(index.memory == ref.MEMORIES[contents.memory], "memory")
        codes, ids = index.to_arrays()
        require_equal(codes, self.codes, "codes")
        require_equal(ids, self.ids, "ids")
        saved = ref.read(index.to_bytes())
        if contents.centroids is not None or contents.plan != ref.PLANS.index("clusters"):
            require_equal(saved.centroids, contents.centroids, "centroids")  # else they were made by loading
        require(index.to_bytes() == ref.write(replace(self.kept, centroids=saved.centroids)), "bytes")
        self.check_searches(index)

    def check_saving(self, index, path):
        """To a path, or to bytes in memory if it is None."""
        data = index.to_bytes()
        if path is not None:
            index.save(path)
            index.save(path, id_map=True)
            require(path.read_bytes() == ref.write(replace(ref.read(data), id_map=True)), "file saved with its map")
            index.save(path)
            require(path.read_bytes() == data, "saved file")
        reloaded = type(index).from_bytes(data) if path is None else fh.load(path)
        require_equal(reloaded.search(self.queries, self.k).ids, index.search(self.queries, self.k).ids, "reload")

    def check_searches(self, index):
        for k in (2, self.k):
            result = index.search(self.queries, k)
            require_equal(result.distances, self.distances[:, :k], f"distances of the {k} nearest")
            require_equal(result.ids, self.found[:, :k], f"ids of the {k} nearest")
        radius = 0.75 if self.jaccard else index.n_bits // 2  # exact in float32
        near = self.distances <= radius
        result = index.range_search(self.queries, radius)
        require_equal(np.diff(result.offsets), near.sum(axis=1), "offsets within a radius")
        require_equal(result.distances, self.distances[near], "distances within a radius")
        require_equal(result.ids, self.found[near], "ids within a radius")
        require_equal(index.count_within(self.queries, radius), near.sum(axis=1), "numbers within a radius")

    def check_pruned(self, index):
        if self.jaccard:
            return
        expected = reference.pruned_search(self.queries, self.codes, self.ids, 3, index.level_bits, 0.3, "node_ratio")
        result = index.search(self.queries, 3, keep=0.3)
        require_equal(result.distances, expected[0], "distances of the pruned search")
        require_equal(result.ids, expected[1], "ids of the pruned search")

    def check_changes(self, index):
        require_equal(index.reconstruct(self.ids[::-1]), self.codes[::-1], "reconstructed codes")
        index.remove(self.removed)
        left = ~np.isin(self.found, self.removed) & (self.found != -1)
        result = index.search(self.queries, max(1, len(self.rest.ids)))
        for q, row in enumerate(left):
            n = int(row.sum())
            require_equal(result.ids[q, :n], self.found[q][row], "ids after removing")
            require_equal(result.distances[q, :n], self.distances[q][row], "distances after removing")
        rest = ref.read(index.to_bytes())
        for got, expected in zip(rest.by_id(), self.rest.by_id(), strict=True):
            require_equal(got, expected, "contents after removing")
        require(index.to_bytes() == ref.write(replace(self.rest, centroids=rest.centroids)), "bytes after removing")
        code = self.queries[:1]
        if self.contents.next_id < 2**63:
            index.add(code)
            require(self.contents.next_id in index, "next id")
            require(index.search(code, 1).distances[0, 0] == 0, "distance of what was added")
        else:
            try:
                index.add(code)
            except ValueError:
                require(len(index) == len(self.rest.ids), "number of codes after a refused call")
            else:
                raise AssertionError("an id was counted where there is none")
