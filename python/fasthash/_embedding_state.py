"""What a `RescoringIndex` holds at a moment: codes, vectors, and which belong together."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fasthash._core import FormatError
from fasthash._quantiser import Floats, Steps
from fasthash._vectors import BLOCK, Rows
from fasthash.index import HierIndex

__all__ = ["State", "merged"]


class State(NamedTuple):
    """All that a search needs. It never changes; a change of the index puts another in its place."""

    codes: HierIndex
    ids: NDArray[np.int64]  # ascending
    places: NDArray[np.int64]  # of the vector of each id among the rows
    rows: Rows
    steps: Steps | None

    def score(self, queries: Floats, places: NDArray[np.int64]) -> Floats:
        """Inner products `(nq, n)` of queries with the vectors at some places `(nq, n)`."""
        scores = np.empty(places.shape, np.float32)
        # Steps are decoded on the side of the query: q . (w * v + m) = (q * w) . v + q . m
        scaled = queries if self.steps is None else queries * self.steps.widths
        n_columns = max(1, BLOCK // queries.shape[1])
        n_queries = max(1, n_columns // max(1, places.shape[1]))
        for q in range(0, len(queries), n_queries):
            for c in range(0, places.shape[1], n_columns):
                block = slice(q, q + n_queries), slice(c, c + n_columns)
                vectors = self.rows.take(places[block]).astype(np.float32, copy=False)
                # Not a product of matrices: its rounding would depend on which rows stand side by side.
                np.einsum("ij,ikj->ik", scaled[block[0]], vectors, out=scores[block])
        if not np.isfinite(scores).all():  # of a mapped file only some rows were checked
            raise FormatError("the vectors in the mapped file must be finite numbers; see RescoringIndex.verify")
        return scores if self.steps is None else scores + np.einsum("ij,j->i", queries, self.steps.middles)[:, None]

    def tidied(self) -> State:
        """The same without what was removed, if that is more than half of the rows in memory."""
        n = len(self.rows.mapped)
        in_memory = self.places >= n
        n_in_memory = int(in_memory.sum())
        if self.rows.n_buffered <= 2 * n_in_memory:
            return self
        places = self.places.copy()
        buffer = self.rows.buffer[places[in_memory] - n]
        places[in_memory] = n + np.arange(n_in_memory)
        return self._replace(places=places, rows=Rows(self.rows.mapped, buffer, n_in_memory))


def merged(
    state: State, ids: NDArray[np.int64], places: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ids in ascending order and their places, with new ones among them."""
    all_ids, all_places = np.concatenate([state.ids, ids]), np.concatenate([state.places, places])
    if (np.diff(all_ids[max(0, len(state.ids) - 1) :]) > 0).all():  # counted on, as is the rule
        return all_ids, all_places
    order = np.argsort(all_ids, kind="stable")
    return all_ids[order], all_places[order]
