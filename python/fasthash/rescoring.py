"""Embeddings: the codes of their signs are searched exactly, and the best candidates scored again by their vectors."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from fasthash._checks import MAX_BITS, check_bool, check_choice, check_int, check_level_bits, own_ids
from fasthash._core import FormatError
from fasthash._embedding_state import State, merged, warn_of_collapse, with_center
from fasthash._locks import ChangeLock
from fasthash._quantiser import (
    DTYPES,
    MAX_DIMS,
    METRICS,
    Center,
    Floats,
    Metric,
    Steps,
    VectorDtype,
    check_center,
    check_ranges,
    check_vectors,
    form_of,
)
from fasthash._saved_folder import Card, check_file, write_folder
from fasthash._saved_kinds import check_center_of, check_ranges_of, check_stored_vectors, load_codes, load_folder
from fasthash._vectors import Rows, open_vectors
from fasthash.filters import IdFilter
from fasthash.index import HierIndex, Memory
from fasthash.results import RescoredResult

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["RescoringIndex"]


class RescoringIndex:
    """Nearest neighbours of float embeddings: few bits of each are searched, the vectors settle the order.

    The code of an embedding has a bit for each of its first dimensions, 1 where the value is above 0: byte for byte
    what `quantize_embeddings(..., precision="ubinary")` of sentence-transformers gives. (`fasthash.sign_codes` differs
    in one thing: there 0 counts as positive.) The codes are in a `HierIndex`. A search takes the
    `rescore_multiplier * k` codes that are nearest to the query's, exactly, scores their vectors with the query as it
    is, and returns the k best. So a neighbour is missed only if its code is not among those.

    The codes stay in memory; after `load` the vectors are in a file that is mapped into it. Any number of threads may
    search while others add, remove and update: a search sees each change as a whole or not at all.

    Args:
        n_dims: numbers of an embedding, from 1 to 65536.
        dtype: how vectors are kept. `"float16"`, `"float32"`, or `"int8"`: 256 values at equal distances between the
            smallest and the largest number of each vector less the center, or by `ranges`.
        metric: `"cosine"`, for which vectors are brought to length 1 when they are added, or `"inner_product"`, which
            takes them as they are. Signs know nothing of lengths, so that the second suits vectors of similar length.
        level_bits: widths of the levels of the codes in bits, coarse first, each a positive multiple of 8; together at
            most n_dims rounded up to a multiple of 8. Fewer make codes of a prefix of the dimensions, which is what
            Matryoshka embeddings are trained for; the vectors keep all dimensions. None: one level of all dimensions,
            at most 4096. Bits past the last dimension are 0.
        memory: what the index of the codes may spend, as in `HierIndex`.
        ranges: float array `(2, n_dims)`, the smallest and the largest value of each dimension, for `"int8"` alone; of
            vectors of length 1 if the metric is `"cosine"`. They make 256 steps of equal width, as in
            sentence-transformers; scores use the middle of a step. Values outside are moved to the end, with a warning.
        center: what the signs are taken of, vectors less this; scores are those of the vectors themselves. A float
            array `(n_dims,)`, of vectors of length 1 if the metric is `"cosine"`; or `"mean"`, that of the first
            embeddings that are added, 100 or more. Embeddings that are never negative need it.

    Raises:
        TypeError: an argument of another type.
        ValueError: an argument out of range.

    Examples:
        >>> index = RescoringIndex(8, dtype="float32")
        >>> index.add(np.eye(8), ids=[10, 11, 12, 13, 14, 15, 16, 17])
        >>> index.search(np.eye(8)[2:3] + 0.1 * np.eye(8)[5:6], k=2)
        RescoredResult(scores=array([[0.9950372 , 0.09950372]], dtype=float32), ids=array([[12, 15]]))
    """

    def __init__(
        self,
        n_dims: int,
        *,
        dtype: VectorDtype = "float16",
        metric: Metric = "cosine",
        level_bits: Sequence[int] | None = None,
        memory: Memory = "default",
        ranges: ArrayLike | None = None,
        center: ArrayLike | Literal["mean"] | None = None,
    ) -> None:
        self._n_dims = check_int("n_dims", n_dims, minimum=1, maximum=MAX_DIMS)
        check_choice("dtype", dtype, DTYPES)
        check_choice("metric", metric, METRICS)
        self._dtype, self._metric = dtype, metric
        n_bytes = -(-self._n_dims // 8)
        widths = (min(n_bytes * 8, MAX_BITS),) if level_bits is None else check_level_bits(level_bits)
        if sum(widths) > n_bytes * 8:
            raise ValueError(
                f"level_bits must sum to at most {n_bytes * 8} for n_dims = {self._n_dims}, got {level_bits!r}"
            )
        if ranges is not None and dtype != "int8":
            raise ValueError(f"ranges must be None for dtype = {dtype!r}, got {type(ranges).__name__}")
        given = None if ranges is None else check_ranges(ranges, self._n_dims)
        form = form_of(self._n_dims, dtype, given, checked := check_center(center, self._n_dims))
        none = np.empty(0, np.int64)
        rows, codes = Rows.of(np.empty((0, form.n_columns), dtype)), HierIndex(widths, memory=memory)
        self._state = State(codes, none, none, rows, form, checked)
        self._lock = ChangeLock()  # changes take turns; searches take the state that they find

    @property
    def n_dims(self) -> int:
        """Numbers of an embedding."""
        return self._n_dims

    @property
    def dtype(self) -> VectorDtype:
        """How vectors are kept."""
        return self._dtype

    @property
    def metric(self) -> Metric:
        """What scores are: `"cosine"` or `"inner_product"`."""
        return self._metric

    @property
    def level_bits(self) -> tuple[int, ...]:
        """Widths of the levels of the codes in bits, coarse first."""
        return self._state.codes.level_bits

    @property
    def n_bits(self) -> int:
        """Width of a code in bits."""
        return self._state.codes.n_bits

    @property
    def ranges(self) -> Floats | None:
        """The `ranges=` of the constructor, float32 `(2, n_dims)`, or None."""
        return self._state.form.ranges.copy() if isinstance(self._state.form, Steps) else None

    @property
    def center(self) -> Center:
        """The `center=` of the constructor, float32 `(n_dims,)`; `"mean"` until embeddings are added; or None."""
        center = self._state.center
        return center.copy() if isinstance(center, np.ndarray) else center

    @property
    def codes(self) -> HierIndex:
        """An index of the codes under the same ids, to search by radius and so on. It is a copy that takes no time."""
        return self._state.codes.copy()

    @property
    def nbytes(self) -> int:
        """Bytes of memory that codes, ids and vectors take; vectors in a mapped file are not counted."""
        return sum(part.nbytes for part in self._state[:4])

    def __len__(self) -> int:
        return len(self._state.ids)

    def __bool__(self) -> bool:
        return True  # as of the other indices

    def __contains__(self, id: Any) -> bool:
        return id in self._state.codes

    def __repr__(self) -> str:
        return (
            f"RescoringIndex({self._n_dims}, dtype={self._dtype!r}, metric={self._metric!r}, "
            f"level_bits={self.level_bits}) with {len(self)} embeddings"
        )

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, attributes: dict[str, Any]) -> None:
        vars(self).update(attributes)
        self._state = self._state._replace(rows=self._state.rows.full())  # copy.copy gives what another index grows
        self._lock = ChangeLock()

    def add(self, embeddings: ArrayLike, ids: ArrayLike | None = None) -> None:
        """Add embeddings to the gallery.

        Args:
            embeddings: float array `(n, n_dims)`, finite; with the metric `"cosine"` no row of zeros. They are rounded
                to the dtype of the index.
            ids: as in `HierIndex.add`: int64 array `(n,)`; None counts on from one past the largest so far.

        Raises:
            TypeError: wrong dtype.
            ValueError: wrong shape, values that have no place in the index, unacceptable ids, or fewer embeddings than
                a mean takes. The index is then what it was before.
        """
        vectors = self._check("embeddings", embeddings)
        given = None if ids is None else own_ids(ids, len(vectors))
        with self._lock("add"):
            state = with_center(self._state, vectors)
            encoded = state.form.encode(vectors)
            codes = state.codes.copy()
            codes.add(state.signs(vectors), given)
            new_ids = state.codes._impl.next_id() + np.arange(len(vectors)) if given is None else given
            all_ids, places = merged(state, new_ids, state.rows.n + np.arange(len(vectors)))
            new = state._replace(codes=codes, ids=all_ids, places=places, rows=state.rows.plus(encoded))
            warn_of_collapse(new, len(state.ids))
            self._state = new

    def remove(self, ids: ArrayLike) -> None:
        """Remove embeddings.

        Args:
            ids: int64 array `(n,)` of distinct ids that the index holds.

        Raises:
            TypeError, ValueError: as in `HierIndex.remove`; nothing is removed then.
        """
        given = own_ids(ids)
        with self._lock("remove"):
            state = self._state
            codes = state.codes.copy()
            codes.remove(given)
            stay = np.ones(len(state.ids), dtype=bool)
            stay[np.searchsorted(state.ids, given)] = False
            self._state = state._replace(codes=codes, ids=state.ids[stay], places=state.places[stay]).tidied()

    def update(self, ids: ArrayLike, embeddings: ArrayLike) -> None:
        """Give ids that the index holds other embeddings, all at once.

        Args:
            ids: int64 array `(n,)` of distinct ids that the index holds.
            embeddings: as in `add`.

        Raises:
            TypeError, ValueError: as in `add` and `HierIndex.update`; nothing changes then.
        """
        vectors = self._check("embeddings", embeddings)
        given = own_ids(ids, len(vectors))
        with self._lock("update"):
            state = self._state
            codes = state.codes.copy()
            codes.update(given, state.signs(vectors))
            encoded = state.form.encode(vectors)
            places = state.places.copy()
            places[np.searchsorted(state.ids, given)] = np.arange(state.rows.n, state.rows.n + len(vectors))
            self._state = state._replace(codes=codes, places=places, rows=state.rows.plus(encoded)).tidied()

    def reconstruct(self, ids: ArrayLike) -> Floats:
        """The vectors of some ids as they are scored: rounded, and of length 1 before if the metric is `"cosine"`.

        Args:
            ids: int64 array `(n,)` of ids that the index holds, in any order, also several times.

        Returns:
            float32 array `(n, n_dims)`.

        Raises:
            TypeError: wrong dtype.
            ValueError: an id that the index does not hold.
        """
        state, array = self._state, own_ids(ids)
        state.codes.reconstruct(array)  # refuses what the index does not hold
        return np.array(state.form.decode(state.stored(array)))

    def search(
        self,
        queries: ArrayLike,
        k: int = 10,
        *,
        rescore_multiplier: int = 4,
        allow: ArrayLike | IdFilter | None = None,
    ) -> RescoredResult:
        """Find the k best of the embeddings whose codes are nearest, ordered by (score descending, id).

        Args:
            queries: float array `(nq, n_dims)`, as the embeddings in `add`. They are not rounded.
            k: how many neighbours, from 1 to 2^31 - 1; may exceed the number of embeddings.
            rescore_multiplier: the `rescore_multiplier * k` nearest codes are scored, of those at the last distance the
                ones with the smallest ids; from 1. With as many as there are embeddings the search is exhaustive.
                (sentence-transformers has 2 by default.)
            allow: only these ids, as in `HierIndex.search`.

        Returns:
            `RescoredResult`.

        Raises:
            TypeError: wrong dtype of `queries` or `allow`, `k` or `rescore_multiplier` is not an integer.
            ValueError: wrong shape, values that have no score, `k` or `rescore_multiplier` out of range.
        """
        vectors = self._check("queries", queries)
        k = check_int("k", k, minimum=1, maximum=2**31 - 1)
        multiplier = check_int("rescore_multiplier", rescore_multiplier, minimum=1)
        state = self._state
        # The list is as long as it would be in a larger index, which it must not pay for.
        n_candidates = max(1, min(k * multiplier, len(state.ids)))
        ids = state.codes.search(state.signs(vectors), n_candidates, allow=allow).ids
        found = ids != -1
        scores = np.full(ids.shape, -np.inf, np.float32)
        if len(state.ids):
            places = state.places[np.searchsorted(state.ids, np.where(found, ids, state.ids[0]))]
            scores[found] = state.score(vectors, places)[found]
        best = np.lexsort((ids, -scores), axis=-1)[:, :k]
        result = RescoredResult(np.full((len(vectors), k), -np.inf, np.float32), np.full((len(vectors), k), -1))
        result.scores[:, : best.shape[1]] = np.take_along_axis(scores, best, axis=1)
        result.ids[:, : best.shape[1]] = np.take_along_axis(ids, best, axis=1)
        return result

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the index into a folder, which is made if missing; a save that fails leaves what was there.

        The folder holds the index of the codes (docs/format.md), the vectors in the order of their ids as a file that
        `numpy.load` reads, and card.json with all the rest: see docs/embeddings.md.

        Args:
            folder: for this index alone. An index that was loaded from there stays as it is.

        Raises:
            FileExistsError: `folder` holds another thing that has a card, such as an encoder.
            OSError: the operating system refused a step.
        """
        state = self._state
        facts = {
            "n_dims": self._n_dims,
            "dtype": self._dtype,
            "metric": self._metric,
            "n_embeddings": len(state.ids),
            "ranges": state.form.ranges.tolist() if isinstance(state.form, Steps) else None,
            "center": state.center.tolist() if isinstance(state.center, np.ndarray) else state.center,
        }
        writers = {
            "codes.fh": lambda path: state.codes.save(path),
            "vectors.npy": lambda path: state.rows.write(path, state.places),
        }
        write_folder(folder, type(self).__name__, facts, writers)

    @classmethod
    def load(cls, folder: str | os.PathLike[str], mmap: bool = True) -> Self:
        """Load an index from a folder.

        Args:
            folder: where `save` wrote it.
            mmap: leave the vectors in their file, mapped into memory: a search reads those that it scores. Their length
                is checked then, and a sample of them, which tells a file of another index; `verify` checks all. False
                reads and checks every byte. Codes are always read and checked. The index can be changed; the file is
                not.

        Raises:
            FileNotFoundError: `folder` holds no index.
            FormatError: a file is damaged, cut short, missing or of another index.
            OSError: a file cannot be read.
        """
        check_bool("mmap", mmap)
        return load_folder(folder, cls.__name__, lambda card: cls._of(Path(folder), card, mmap, not mmap))

    @classmethod
    def _of(cls, folder: Path, card: Card, mmap: bool, whole: bool) -> Self:
        """The index that a card tells of; whether its vectors are mapped, and whether every byte of them is checked."""
        n, n_dims = card["n_embeddings"], card["n_dims"]
        codes_path = check_file(folder, card, "codes.fh", whole=whole)  # its head has the checksums of all the rest
        vectors_path = check_file(folder, card, "vectors.npy", whole=whole)
        ranges, center = check_ranges_of(card), check_center_of(card)
        n_columns = form_of(n_dims, card["dtype"], ranges).n_columns if "center" in card else n_dims  # then no scales
        rows = open_vectors(vectors_path, (n, n_columns), card["dtype"], mmap)
        codes = load_codes(codes_path, n)
        try:
            arguments = {"dtype": card["dtype"], "metric": card["metric"], "ranges": ranges, "center": center}
            index = cls(n_dims, level_bits=codes.level_bits, **arguments)
        except ValueError as error:
            raise FormatError(f"folder={os.fspath(folder)!r} does not hold together: {error}") from error
        packed, ids = codes.to_arrays()
        state = index._state
        check_stored_vectors(vectors_path, rows, packed, state.form, state.center, card, whole=whole)
        rows = rows if n else state.rows  # which may have other columns
        index._state = state._replace(codes=codes, ids=ids, places=np.arange(n), rows=rows)
        return index

    @classmethod
    def verify(cls, folder: str | os.PathLike[str]) -> str:
        """Check every byte of a saved index.

        Args:
            folder: where `save` wrote it.

        Returns:
            What is wrong with it; empty if nothing is.

        Raises:
            FileNotFoundError: `folder` holds no index.
            OSError: a file cannot be read.
        """
        try:
            load_folder(folder, cls.__name__, lambda card: cls._of(Path(folder), card, mmap=True, whole=True))
        except FormatError as error:
            return str(error)
        return ""

    def _check(self, name: str, embeddings: Any) -> Floats:
        return check_vectors(name, embeddings, self._n_dims, self._dtype, self._metric)
