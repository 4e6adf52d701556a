"""The state of a `RescoringIndex`: codes, vectors, and the row of the vector of each id."""

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
    """Everything that a search reads. Immutable: a change of the index replaces its state."""

    codes: HierIndex
    ids: NDArray[np.int64]  # ascending
    places: NDArray[np.int64]  # row of the vector of each id
    rows: Rows
    steps: Steps | None

    def score(self, queries: Floats, places: NDArray[np.int64]) -> Floats:
        """Compute the inner products `(nq, n)` of queries with the vectors in some rows, `places` `(nq, n)`."""
        scores = np.empty(places.shape, np.float32)
        # Scale the query instead of decoding the vectors: q . (w * v + m) = (q * w) . v + q . m
        scaled = queries if self.steps is None else queries * self.steps.widths
        n_columns = max(1, BLOCK // queries.shape[1])
        n_queries = max(1, n_columns // max(1, places.shape[1]))
        for q in range(0, len(queries), n_queries):
            for c in range(0, places.shape[1], n_columns):
                block = slice(q, q + n_queries), slice(c, c + n_columns)
                vectors = self.rows.take(places[block]).astype(np.float32, copy=False)
                # einsum, since the rounding of a matrix product would depend on the other rows of the block.
                np.einsum("ij,ikj->ik", scaled[block[0]], vectors, out=scores[block])
        if not np.isfinite(scores).all():  # load checks only a sample of the rows of a mapped file
            raise FormatError("the vectors in the mapped file must be finite numbers; see RescoringIndex.verify")
        return scores if self.steps is None else scores + np.einsum("ij,j->i", queries, self.steps.middles)[:, None]

    def tidied(self) -> State:
        """Drop removed rows from memory if they are more than half of the rows in memory."""
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
    """Merge new ids and their rows into those of a state; return both, sorted by id."""
    all_ids, all_places = np.concatenate([state.ids, ids]), np.concatenate([state.places, places])
    if (np.diff(all_ids[max(0, len(state.ids) - 1) :]) > 0).all():  # the usual case: the new ids are larger
        return all_ids, all_places
    order = np.argsort(all_ids, kind="stable")
    return all_ids[order], all_places[order]
