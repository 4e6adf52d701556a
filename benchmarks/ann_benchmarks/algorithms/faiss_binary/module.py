"""faiss on bits: its binary indices, and inverted lists of floats, as ann-benchmarks' own adapter has them for bits."""

from __future__ import annotations

import faiss
import numpy as np

from ..base.module import BaseANN


class _FaissBits(BaseANN):
    _index = None
    _bytes = staticmethod(faiss.serialize_index_binary)

    def __init__(self, metric):
        if metric != "hamming":
            raise NotImplementedError(f"these indices have Hamming distances alone, not {metric}")

    def _rows(self, bits):
        return np.packbits(bits, axis=1)

    def query(self, q, n):
        labels = self._index.search(self._rows(q[None]), n)[1][0]
        return labels[labels >= 0]

    def batch_query(self, queries, n):
        self.res = [labels[labels >= 0] for labels in self._index.search(self._rows(queries), n)[1]]

    def get_memory_usage(self):
        return 0 if self._index is None else len(self._bytes(self._index)) / 1024

    def done(self):
        self._index = self.res = None


class FaissBinaryFlat(_FaissBits):
    """Compares all codes."""

    name = "FaissBinaryFlat()"

    def fit(self, train):
        codes = self._rows(train)
        self._index = faiss.IndexBinaryFlat(codes.shape[1] * 8)
        self._index.add(codes)


class _Lists(_FaissBits):
    def __init__(self, metric, n_list):
        super().__init__(metric)
        self._n_list = n_list
        self.set_query_arguments(1)

    def _make(self, n_bits, n_list):
        raise NotImplementedError

    def fit(self, train):
        rows = self._rows(train)
        self._index = self._make(train.shape[1], min(self._n_list, len(train)))
        self._index.train(rows)
        self._index.add(rows)

    def query(self, q, n):
        self._index.nprobe = self._n_probe
        return super().query(q, n)

    def batch_query(self, queries, n):
        self._index.nprobe = self._n_probe
        super().batch_query(queries, n)

    def set_query_arguments(self, n_probe):
        self._n_probe = n_probe
        self.name = f"{type(self).__name__}(n_list={self._n_list}, n_probe={n_probe})"


class FaissBinaryIVF(_Lists):
    """Inverted lists of packed codes."""

    def _make(self, n_bits, n_list):
        self._quantizer = faiss.IndexBinaryFlat((n_bits + 7) // 8 * 8)
        return faiss.IndexBinaryIVF(self._quantizer, self._quantizer.d, n_list)


class FaissFloatIVF(_Lists):
    """Inverted lists of bits as floats, of which the squared Euclidean distance is the Hamming distance."""

    _bytes = staticmethod(faiss.serialize_index)

    def _rows(self, bits):
        return bits.astype(np.float32)

    def _make(self, n_bits, n_list):
        self._quantizer = faiss.IndexFlatL2(n_bits)
        return faiss.IndexIVFFlat(self._quantizer, n_bits, n_list, faiss.METRIC_L2)
