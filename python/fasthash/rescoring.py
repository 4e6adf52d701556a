"""`RescoringIndex`: searches sign codes of embeddings, then scores the nearest candidates with the vectors."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fasthash._arrays import counted_ids
from fasthash._checks import MAX_BITS, check_bool, check_choice, check_int, check_level_bits, of_ids, own_ids
from fasthash._core import FormatError
from fasthash._embedding_state import State, merged, warn_of_collapse, with_center
from fasthash._index_options import Allow, KeepMode, check_k
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
from fasthash.index import HierIndex, Memory
from fasthash.results import RescoredResult

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["RescoringIndex"]


class RescoringIndex:
    """Nearest-neighbour index of float embeddings: a search on binary codes, then exact scores of the candidates.

    The code of an embedding has one bit for each of its first dimensions: 1 where the value is above 0. The codes equal
    those of sentence-transformers' `quantize_embeddings(..., precision="ubinary")`, byte for byte.
    (`fasthash.sign_codes` differs: it counts 0 as positive.) A `HierIndex` holds the codes. A search finds the
    `rescore_multiplier * k` codes nearest to the query's code, exactly. It scores their vectors with the float query
    and returns the k best. So a search misses a neighbour only if its code is not among these candidates.

    The codes stay in memory; after `load` the vectors are mapped from their file. Any number of threads may search
    while others add, remove and update. A search sees each change completely or not at all.

    Args:
        n_dims: number of dimensions of an embedding, from 1 to 65536.
        dtype: type of the stored vectors: `"float16"`, `"float32"` or `"int8"`. int8 gives each vector 256 values at
            equal distances between its smallest and largest number, less the center; or see `ranges`.
        metric: `"cosine"`, which scales vectors to length 1 when they are added, or `"inner_product"`, which stores
            them unscaled. Sign codes ignore lengths, so `"inner_product"` suits vectors of similar length.
        level_bits: widths of the levels of the codes in bits, coarse first; each a positive multiple of 8, together at
            most n_dims rounded up to a multiple of 8. A smaller sum makes codes of the first dimensions, as Matryoshka
            embeddings allow; the vectors keep all dimensions. None makes one level of all dimensions, at most 4096
            bits. Bits past the last dimension are 0.
        memory: memory budget of the codes, as in `HierIndex`.
        ranges: float array `(2, n_dims)`, the smallest and the largest value of each dimension; for `"int8"` only. With
            `"cosine"`, the ranges of vectors of length 1. They give each dimension 256 steps of equal width, as
            sentence-transformers does; scores use the middle of a step. Values outside are clipped, with a warning.
        center: subtracted from the vectors before the signs are taken; scores are those of the vectors themselves.
            None; a float array `(n_dims,)` (with `"cosine"`, of vectors of length 1); or `"mean"`, the mean of the
            first embeddings added, which must be at least 100. Embeddings without negative values need a center.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of range.

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
        level_bits: int | Sequence[int] | None = None,
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
        empty = np.empty(0, np.int64)
        rows, codes = Rows.of(np.empty((0, form.n_columns), dtype)), HierIndex(widths, memory=memory)
        self._state = State(codes, empty, empty, rows, form, checked)
        self._lock = ChangeLock()  # one change at a time; a search uses the state at its start

    @property
    def n_dims(self) -> int:
        """Number of dimensions of an embedding."""
        return self._n_dims

    @property
    def dtype(self) -> VectorDtype:
        """Type of the stored vectors: `"float16"`, `"float32"` or `"int8"`."""
        return self._dtype

    @property
    def metric(self) -> Metric:
        """Metric of the scores: `"cosine"` or `"inner_product"`."""
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
        """A copy of the index of the codes, made in no time (copy on write); use it for searches by radius."""
        return self._state.codes.copy()

    @property
    def nbytes(self) -> int:
        """Bytes of memory for codes, ids and vectors, without vectors in a mapped file."""
        return sum(part.nbytes for part in self._state[:4])

    def __len__(self) -> int:
        return len(self._state.ids)

    def __bool__(self) -> bool:
        return True  # for an empty index too, as for the other indices

    def __contains__(self, id: Any) -> bool:
        return id in self._state.codes

    def __repr__(self) -> str:
        return (
            f"RescoringIndex({self._n_dims}, dtype={self._dtype!r}, metric={self._metric!r}, "
            f"level_bits={self.level_bits}) with {len(self)} embeddings"
        )

    def __getstate__(self) -> dict[str, Any]:
        # Rows may have spare capacity, which holds what was in memory before.
        held = {name: value for name, value in vars(self).items() if name != "_lock"}
        return held | {"_state": self._state._replace(rows=self._state.rows.full())}

    def __setstate__(self, attributes: dict[str, Any]) -> None:
        vars(self).update(attributes)
        # The state may come from copy.copy: then another index grows the same buffer.
        self._state = self._state._replace(rows=self._state.rows.full())
        self._lock = ChangeLock()

    def add(self, embeddings: ArrayLike, ids: ArrayLike | None = None) -> None:
        """Add embeddings to the gallery.

        Args:
            embeddings: float array `(n, n_dims)`, finite; with the metric `"cosine"` no row of zeros. Values are
                rounded to the dtype of the index.
            ids: as in `HierIndex.add`: integer array `(n,)`; None numbers them from the largest id so far plus one.

        Raises:
            TypeError: wrong dtype.
            ValueError: wrong shape, unacceptable values or ids, or too few embeddings for `center="mean"`. The index is
                unchanged.
        """
        vectors = self._check("embeddings", embeddings)
        given = None if ids is None else own_ids(ids, len(vectors))
        with self._lock("add"):
            state = with_center(self._state, vectors)
            encoded = state.form.encode(vectors)
            codes = state.codes.copy()
            codes.add(state.signs(vectors), given)
            new_ids = counted_ids(state.codes._impl.next_id(), len(vectors)) if given is None else given
            all_ids, places = merged(state, new_ids, state.rows.n + np.arange(len(vectors)))
            new = state._replace(codes=codes, ids=all_ids, places=places, rows=state.rows.plus(encoded))
            warn_of_collapse(new, len(state.ids))
            self._state = new

    def remove(self, ids: ArrayLike) -> None:
        """Remove embeddings.

        Args:
            ids: integer array `(n,)` of distinct ids in the index.

        Raises:
            TypeError, ValueError: as in `HierIndex.remove`; nothing is removed.
        """
        given = own_ids(ids)
        with self._lock("remove"):
            state = self._state
            codes = state.codes.copy()
            codes.remove(given)
            kept = np.ones(len(state.ids), dtype=bool)
            kept[np.searchsorted(state.ids, given)] = False
            self._state = state._replace(codes=codes, ids=state.ids[kept], places=state.places[kept]).tidied()

    def update(self, ids: ArrayLike, embeddings: ArrayLike) -> None:
        """Replace the embeddings of some ids, all in one step.

        Args:
            ids: integer array `(n,)` of distinct ids in the index.
            embeddings: float array `(n, n_dims)`, the new embeddings, as in `add`.

        Raises:
            TypeError, ValueError: as in `add` and `HierIndex.update`; nothing changes.
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
        """Return the stored vectors of some ids: scaled to length 1 for the metric `"cosine"`, then rounded.

        Args:
            ids: integer array `(n,)` of ids in the index, in any order; repeated ids are allowed. Or one id.

        Returns:
            float32 array `(n, n_dims)`; of one id `(n_dims,)`.

        Raises:
            TypeError: wrong dtype.
            ValueError: an id is not in the index.
        """
        return of_ids(ids, self._reconstructed)

    def _reconstructed(self, ids: NDArray[Any]) -> Floats:
        state, array = self._state, own_ids(ids)
        state.codes.reconstruct(array)  # raises if an id is not in the index
        return np.array(state.form.decode(state.stored(array)))

    def search(
        self,
        queries: ArrayLike,
        k: int = 10,
        *,
        rescore_multiplier: int = 4,
        keep: float | None = None,
        keep_mode: KeepMode = "node_ratio",
        allow: Allow = None,
    ) -> RescoredResult:
        """Find the embeddings with the nearest codes, and return the k best of them, ordered by (score descending, id).

        Args:
            queries: float array `(nq, n_dims)`, as the embeddings in `add`. They are not rounded.
            k: number of neighbours, from 1 to 2^31 - 1; may exceed the number of embeddings.
            rescore_multiplier: at least 1. The `rescore_multiplier * k` nearest codes are candidates; among codes at
                the last distance, those with the smallest ids. If all embeddings are candidates, the search is exact.
                (sentence-transformers uses 2 by default.)
            keep, keep_mode: as in `HierIndex.search`: the candidates come from the codes nearest on the first levels.
            allow: ids that the search may return, as in `HierIndex.search`.

        Returns:
            `RescoredResult`.

        Raises:
            TypeError: wrong dtype of `queries` or `allow`, `k` or `rescore_multiplier` is not an integer, or `keep` is
                not a number.
            ValueError: wrong shape, unacceptable values, or `k`, `rescore_multiplier` or `keep` out of range.
            MemoryError: the results would take more memory than there is.
        """
        vectors = self._check("queries", queries)
        k = check_k(k, len(vectors))
        multiplier = check_int("rescore_multiplier", rescore_multiplier, minimum=1)
        state = self._state
        # k may exceed the number of embeddings: allocate no more candidates than exist.
        n_candidates = max(1, min(k * multiplier, len(state.ids)))
        signs = state.signs(vectors)
        found = state.codes.search(signs, n_candidates, keep=keep, keep_mode=keep_mode, allow=allow)
        return state.best(vectors, found.ids, k)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the index to a folder; a save that fails leaves the earlier content.

        The folder holds the index of the codes (docs/format.md), the vectors sorted by id in a file that `numpy.load`
        reads, and card.json with the settings: see docs/embeddings.md.

        Args:
            folder: folder for this index alone, made if missing. An index that was loaded from it remains usable.

        Raises:
            FileExistsError: `folder` holds something else, such as an encoder or a store.
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
            folder: folder that `save` wrote.
            mmap: map the vectors from their file, so that a search reads only the vectors that it scores. `load` then
                checks the length of the file and a sample of the vectors, which detects the file of another index;
                `verify` checks every byte. False reads and checks every byte. Codes are always read and checked.
                Changes of the index do not change the file.

        Raises:
            FileNotFoundError: `folder` holds no index.
            FormatError: a file is damaged, cut short or missing, or belongs to another index.
            OSError: a file cannot be read.
        """
        check_bool("mmap", mmap)
        return load_folder(folder, cls.__name__, lambda card: cls._of(Path(folder), card, mmap, not mmap))

    @classmethod
    def _of(cls, folder: Path, card: Card, mmap: bool, whole: bool) -> Self:
        """Load the index of a card; `mmap` maps the vectors, `whole` checks every byte of both files."""
        n, n_dims = card["n_embeddings"], card["n_dims"]
        codes_path = check_file(folder, card, "codes.fh", whole=whole)  # the sample has its header, with all checksums
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
            folder: folder that `save` wrote.

        Returns:
            Description of the fault; empty if the index is intact.

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
