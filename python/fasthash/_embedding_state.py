"""The state of a `RescoringIndex`: codes, vectors, and the row of the vector of each id."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fasthash._core import FormatError
from fasthash._quantiser import Center, Floats, Form, Scales, pack_signs
from fasthash._vectors import BLOCK, Rows
from fasthash.index import HierIndex
from fasthash.results import RescoredResult

__all__ = ["State", "merged", "warn_of_collapse", "with_center"]

_MIN_MEAN = 100  # embeddings that give a mean
_LOOKED_AT = 1000  # embeddings, for collapsed codes


class State(NamedTuple):
    """Everything that a search reads. Immutable: a change of the index replaces its state."""

    codes: HierIndex
    ids: NDArray[np.int64]  # ascending
    places: NDArray[np.int64]  # row of the vector of each id
    rows: Rows
    form: Form  # in which the vectors are stored
    center: Center  # subtracted for the codes; "mean" until there are embeddings

    def signs(self, vectors: Floats) -> NDArray[np.uint8]:
        """The codes of some vectors."""
        return pack_signs(vectors, self.codes.n_bits, None if isinstance(self.center, str) else self.center)

    def stored(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        """The rows of some ids, which must be there."""
        return self.rows.take(self.places_of(ids))

    def places_of(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows of some ids, which must be there."""
        first = self.ids[0] if len(self.ids) else 0
        consecutive = len(self.ids) and int(self.ids[-1]) - int(first) == len(self.ids) - 1  # int64 may overflow
        return self.places[ids - first if consecutive else np.searchsorted(self.ids, ids)]

    def best(self, queries: Floats, ids: NDArray[np.int64], k: int) -> RescoredResult:
        """Score the candidates of each query, and return the k best of them by (score descending, id).

        Args:
            queries: float32 `(nq, n_dims)`.
            ids: int64 `(nq, n)`, distinct in each row, filled with -1.
            k: at least 1.
        """
        n_found = ids.shape[1]
        if not len(self.ids):
            scores = np.full(ids.shape, -np.inf, np.float32)
        elif (valid := ids != -1).all():
            scores = self.score(queries, self.places_of(ids))
        else:
            scores = self.score(queries, self.places_of(np.where(valid, ids, self.ids[0])))
            scores[~valid] = -np.inf
        rows, order = np.arange(len(ids))[:, None], np.lexsort((ids, -scores), axis=-1)[:, :k]
        scores, ids = scores[rows, order], ids[rows, order]
        if n_found < k:
            missing = ((0, 0), (0, k - n_found))
            scores, ids = np.pad(scores, missing, constant_values=-np.inf), np.pad(ids, missing, constant_values=-1)
        return RescoredResult(scores, ids)

    def score(self, queries: Floats, places: NDArray[np.int64]) -> Floats:
        """Compute the inner products `(nq, n)` of queries with the vectors in some rows, `places` `(nq, n)`."""
        scores = np.empty(places.shape, np.float32)
        n_columns = max(1, BLOCK // queries.shape[1])
        n_queries = max(1, n_columns // max(1, places.shape[1]))
        for q in range(0, len(queries), n_queries):
            for c in range(0, places.shape[1], n_columns):
                block = slice(q, q + n_queries), slice(c, c + n_columns)
                scores[block] = self.form.scores(queries[block[0]], self.rows.take(places[block]))
        if not np.isfinite(scores).all():  # of a mapped file only some rows were checked
            raise FormatError("the vectors in the mapped file must be finite numbers; see RescoringIndex.verify")
        return scores

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


def with_center(state: State, vectors: Floats) -> State:
    """The state with a center of numbers, where it is to be the mean of these first vectors."""
    if not isinstance(state.center, str) or not len(vectors):
        return state
    if len(vectors) < _MIN_MEAN:
        raise ValueError(
            f"embeddings must be at least {_MIN_MEAN} at the first call for center='mean', got {len(vectors)}; "
            "or give center= an array"
        )
    center = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    form = Scales(len(center), center) if isinstance(state.form, Scales) else state.form
    return state._replace(center=center, form=form)


def warn_of_collapse(state: State, before: int) -> None:
    """Warn if there are far fewer distinct codes than embeddings: many different embeddings then have one code.

    Looks at some embeddings each time that their number passes 100, 1,000 and so on.

    Args:
        state: the new one.
        before: number of embeddings of the one before.
    """
    n = len(state.ids)
    if n < 100 or len(str(n)) == len(str(before)):
        return
    ids = state.ids[np.linspace(0, n - 1, min(n, _LOOKED_AT)).astype(np.int64)]
    n_codes = len(np.unique(state.codes.reconstruct(ids), axis=0))
    # Codes of few bits are there to be shared; a tenth of the root of all codes is little for those too.
    few = 0.1 * min(len(ids), 2.0 ** min(32, state.codes.n_bits / 2))
    if n_codes <= max(1.0, few):
        n_vectors = len(np.unique(state.stored(ids), axis=0))
        if n_codes <= max(1.0, few * n_vectors / len(ids)) and n_vectors > 1:
            hint = " Embeddings that are never negative need it." if state.center is None else ""
            warnings.warn(
                f"{n_vectors} distinct embeddings have only {n_codes} distinct codes, so that searches miss neighbours;"
                f" center='mean' or center= an array subtracts what all have in common.{hint}",
                stacklevel=3,
            )
