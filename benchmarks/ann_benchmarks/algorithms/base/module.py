"""Stands in for ann-benchmarks' own `BaseANN`, so that adapters run here with the import that they have there."""

from __future__ import annotations

import os
from typing import Any


class BaseANN:
    """What ann-benchmarks expects of an algorithm; see `ann_benchmarks/algorithms/base/module.py` there."""

    name = "BaseANN()"
    res: Any = None

    def fit(self, train):
        """Build an index of `train`, bool `(n, n_bits)` for bits."""
        raise NotImplementedError

    def query(self, q, n):
        """Indices of the n nearest of `train` to `q`, bool `(n_bits,)`."""
        raise NotImplementedError

    def batch_query(self, queries, n):
        """The same for each row of `queries`; `get_batch_results` then has them."""
        self.res = [self.query(q, n) for q in queries]

    def get_batch_results(self):
        return self.res

    def get_memory_usage(self):
        """Kilobytes of the process, or None where the system does not tell."""
        try:
            with open("/proc/self/statm") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024
        except OSError:
            return None

    def get_additional(self):
        return {}

    def done(self):
        """Give back what the index holds."""

    def __str__(self):
        return self.name
