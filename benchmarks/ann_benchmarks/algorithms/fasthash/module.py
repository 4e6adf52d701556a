"""fasthash in ann-benchmarks: exact, and with HDHash's pruned search."""

from __future__ import annotations

import numpy as np

import fasthash as fh

from ..base.module import BaseANN


class _FastHash(BaseANN):
    _index = None

    def __init__(self, metric):
        if metric != "hamming":
            raise NotImplementedError(f"fasthash has Hamming distances alone, not {metric}")

    def _make(self, n_bits):
        raise NotImplementedError

    def fit(self, train):
        codes = np.packbits(train, axis=1)  # pads with zeros to whole bytes, which changes no distance
        self._index = self._make(codes.shape[1] * 8)
        self._index.add(codes)

    def _search(self, codes, n):
        return self._index.search(codes, n)

    def query(self, q, n):
        ids = self._search(np.packbits(q)[None], n).ids[0]
        return ids if len(self._index) >= n else ids[ids >= 0]

    def batch_query(self, queries, n):
        self.res = self._search(np.packbits(queries, axis=1), n).ids[:, : len(self._index)]

    def get_memory_usage(self):
        return 0 if self._index is None else self._index.nbytes / 1024

    def done(self):
        self._index = self.res = None


class FastHashFlat(_FastHash):
    """Compares all codes."""

    name = "FastHashFlat()"

    def _make(self, n_bits):
        return fh.FlatIndex(n_bits)


class FastHashHier(_FastHash):
    """Exact without comparing all codes; `memory` is what that may take."""

    def __init__(self, metric, memory):
        super().__init__(metric)
        self._memory = memory
        self.name = f"FastHashHier(memory={memory})"

    def _make(self, n_bits):
        return fh.HierIndex((n_bits,), memory=self._memory)


class FastHashPruned(_FastHash):
    """HDHash's coarse-to-fine search over an eighth, a quarter and the rest of the bits; not exact."""

    def __init__(self, metric):
        super().__init__(metric)
        self.set_query_arguments(1.0)

    def _make(self, n_bits):
        n_bytes = n_bits // 8
        coarse, middle = max(1, n_bytes // 8), max(1, n_bytes // 4)
        levels = [coarse, middle, n_bytes - coarse - middle] if n_bytes > 2 else [n_bytes]
        return fh.HierIndex([8 * width for width in levels])

    def set_query_arguments(self, keep):
        self._keep = keep
        self.name = f"FastHashPruned(keep={keep})"

    def _search(self, codes, n):
        return self._index.search(codes, n, keep=self._keep)
