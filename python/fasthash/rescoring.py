"""Embeddings: the codes of their signs are searched exactly, and the best candidates scored again by their vectors."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fasthash._checks import (
    MAX_BITS,
    as_array,
    check_bool,
    check_choice,
    check_ids,
    check_int,
    check_level_bits,
)
from fasthash._core import FormatError
from fasthash._locks import ChangeLock
from fasthash._saved_folder import check_file, read_card, write_folder
from fasthash.filters import IdFilter
from fasthash.index import HierIndex, Memory, load, verify
from fasthash.results import RescoredResult

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["RescoringIndex"]

VectorDtype: TypeAlias = Literal["int8", "float16", "float32"]
Metric: TypeAlias = Literal["cosine", "inner_product"]
Floats: TypeAlias = NDArray[np.float32]

_DTYPES = ("int8", "float16", "float32")
_METRICS = ("cosine", "inner_product")
_MIN_CALIBRATION = 100
_FLOATS = (np.float16, np.float32, np.float64)
_MAX_DIMS = 1 << 16
_MAX_SIZE = 1e15  # of a number: so that no score overflows
_BLOCK = 1 << 20  # numbers that are decoded at once, so that they stay in the cache


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
        dtype: how vectors are kept. `"float16"`, `"float32"`, or `"int8"`: each dimension in 256 steps of equal width
            between its smallest and its largest value, as sentence-transformers does it; what lies outside is moved to
            the end. Scores are made with the middle of a step.
        metric: `"cosine"`, for which vectors are brought to length 1 when they are added, or `"inner_product"`, which
            takes them as they are. Signs know nothing of lengths, so that the second suits vectors of similar length.
        level_bits: widths of the levels of the codes in bits, coarse first, each a positive multiple of 8; together at
            most n_dims rounded up to a multiple of 8. Fewer make codes of a prefix of the dimensions, which is what
            Matryoshka embeddings are trained for; the vectors keep all dimensions. None: one level of all dimensions,
            at most 4096. Bits past the last dimension are 0.
        memory: what the index of the codes may spend, as in `HierIndex`.
        ranges: float array `(2, n_dims)`, the smallest and the largest value of each dimension, for `"int8"` alone; of
            vectors of length 1 if the metric is `"cosine"`. None takes those of the first embeddings that are added,
            which must be 100 or more.

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
    ) -> None:
        self._n_dims = check_int("n_dims", n_dims, minimum=1, maximum=_MAX_DIMS)
        check_choice("dtype", dtype, _DTYPES)
        check_choice("metric", metric, _METRICS)
        self._dtype, self._metric = dtype, metric
        n_bytes = -(-self._n_dims // 8)
        widths = (min(n_bytes * 8, MAX_BITS),) if level_bits is None else check_level_bits(level_bits)
        if sum(widths) > n_bytes * 8:
            raise ValueError(
                f"level_bits must sum to at most {n_bytes * 8} for n_dims = {self._n_dims}, got {level_bits!r}"
            )
        if ranges is not None and dtype != "int8":
            raise ValueError(f"ranges must be None for dtype = {dtype!r}, got {type(ranges).__name__}")
        steps = None if ranges is None else _Steps(_check_ranges(ranges, self._n_dims))
        none = np.empty(0, np.int64)
        rows = _Rows.of(np.empty((0, self._n_dims), dtype))
        self._state = _State(HierIndex(widths, memory=memory), none, none, rows, steps)
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
        """`(2, n_dims)`, smallest and largest value of each dimension; None before calibration, and but for int8."""
        steps = self._state.steps
        return None if steps is None else steps.ranges.copy()

    @property
    def codes(self) -> HierIndex:
        """An index of the codes under the same ids, to search by radius and so on. It is a copy that takes no time."""
        return self._state.codes.copy()

    @property
    def nbytes(self) -> int:
        """Bytes of memory that codes, ids and vectors take; vectors in a mapped file are not counted."""
        state = self._state
        return state.codes.nbytes + state.ids.nbytes + state.places.nbytes + state.rows.nbytes

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
                a calibration takes. The index is then what it was before.
        """
        vectors = self._check("embeddings", embeddings)
        with self._lock("add"):
            state = self._state
            steps = state.steps
            if self._dtype == "int8" and steps is None and len(vectors):
                if len(vectors) < _MIN_CALIBRATION:
                    raise ValueError(
                        f"embeddings must be at least {_MIN_CALIBRATION} at the first call, to take the ranges of int8 "
                        f"from, got {len(vectors)}; or give ranges="
                    )
                steps = _Steps(np.stack([vectors.min(axis=0), vectors.max(axis=0)]))
            encoded = self._encode(vectors, steps)
            codes = state.codes.copy()
            codes.add(self._signs(vectors), ids)
            n = len(vectors)
            new_ids = state.codes._impl.next_id() + np.arange(n) if ids is None else check_ids(ids, n)
            places = state.rows.n + np.arange(n)
            self._state = _State(codes, *_merged(state, new_ids, places), state.rows.plus(encoded), steps)

    def remove(self, ids: ArrayLike) -> None:
        """Remove embeddings.

        Args:
            ids: int64 array `(n,)` of distinct ids that the index holds.

        Raises:
            TypeError, ValueError: as in `HierIndex.remove`; nothing is removed then.
        """
        with self._lock("remove"):
            state = self._state
            codes = state.codes.copy()
            codes.remove(ids)
            stay = np.ones(len(state.ids), dtype=bool)
            stay[np.searchsorted(state.ids, check_ids(ids))] = False
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
        with self._lock("update"):
            state = self._state
            codes = state.codes.copy()
            codes.update(ids, self._signs(vectors))
            encoded = self._encode(vectors, state.steps)
            places = state.places.copy()
            places[np.searchsorted(state.ids, check_ids(ids))] = np.arange(state.rows.n, state.rows.n + len(vectors))
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
        state = self._state
        array = check_ids(ids)
        state.codes.reconstruct(array)  # refuses what the index does not hold
        vectors = state.rows.take(state.places[np.searchsorted(state.ids, array)]).astype(np.float32)
        return vectors if state.steps is None else state.steps.decode(vectors)

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
        ids = state.codes.search(self._signs(vectors), n_candidates, allow=allow).ids
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
            "ranges": None if state.steps is None else state.steps.ranges.tolist(),
        }
        writers = {"codes.fh": lambda path: state.codes.save(path), "vectors.npy": state.write_vectors}
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
        card = read_card(folder, cls.__name__)
        codes_path = check_file(folder, card, "codes.fh", whole=False)  # its head has the checksums of all the rest
        vectors_path = check_file(folder, card, "vectors.npy", whole=not mmap)
        codes = load(codes_path)
        try:
            # Mapped first, so that the header of the file is held against the card before memory is asked for.
            vectors = np.load(vectors_path, mmap_mode="r" if card["n_embeddings"] else None, allow_pickle=False)
            index = cls(card["n_dims"], dtype=card["dtype"], metric=card["metric"], ranges=card["ranges"])
            if not isinstance(codes, HierIndex) or sum(codes.level_bits) > -(-index.n_dims // 8) * 8:
                raise ValueError(f"the codes are {codes!r}")
            if vectors.dtype != np.dtype(index.dtype) or vectors.shape != (len(codes), index.n_dims):
                raise ValueError(f"the vectors are {vectors.dtype} of shape {vectors.shape}, the codes are {codes!r}")
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"folder={os.fspath(folder)!r} does not hold together: {error}") from error
        rows = _Rows.mapping(np.asarray(vectors)) if mmap and len(vectors) else _Rows.of(np.array(vectors))
        ids = codes.to_arrays()[1]
        index._state = _State(codes, ids, np.arange(len(ids)), rows, index._state.steps)
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
            card = read_card(folder, cls.__name__)
            for name in card["files"]:
                path = check_file(folder, card, name, whole=True)
                if name == "codes.fh" and (fault := verify(path).fault):
                    return fault
            cls.load(folder)
        except FormatError as error:
            return str(error)
        return ""

    def _check(self, name: str, embeddings: Any) -> Floats:
        """Embeddings as finite float32, of length 1 if the metric is the cosine."""
        array = as_array(name, embeddings)
        if array.dtype not in _FLOATS:
            raise TypeError(f"{name} must be a float16, float32 or float64 array, got dtype {array.dtype}")
        if array.ndim != 2 or array.shape[1] != self._n_dims:
            hint = f"; for a single embedding use {name}[None]" if array.ndim == 1 else ""
            raise ValueError(f"{name} must have shape (n, {self._n_dims}), got {array.shape}{hint}")
        if not np.isfinite(array).all():
            where = np.argwhere(~np.isfinite(array))[0].tolist()
            raise ValueError(f"{name} must be finite, found {array[tuple(where)]} at index {where}")
        if self._metric == "cosine":
            lengths = np.sqrt(np.einsum("ij,ij->i", array, array, dtype=np.float64))
            if not ((lengths > 0) & np.isfinite(lengths)).all():
                row = int(np.argmin((lengths > 0) & np.isfinite(lengths)))
                raise ValueError(
                    f"{name} must have a length for the metric 'cosine', found {lengths[row]} in row {row}"
                )
            return (array / lengths[:, None]).astype(np.float32)
        limit = 65504 if self._dtype == "float16" else _MAX_SIZE
        if array.size and (largest := np.abs(array).max()) > limit:
            raise ValueError(f"{name} must be at most {limit:g} in size for dtype {self._dtype!r}, found {largest}")
        return np.ascontiguousarray(array, dtype=np.float32)

    def _signs(self, vectors: Floats) -> NDArray[np.uint8]:
        return np.packbits(vectors[:, : self.n_bits] > 0, axis=1)

    def _encode(self, vectors: Floats, steps: _Steps | None) -> NDArray[Any]:
        if self._dtype == "int8":
            return np.empty((0, self._n_dims), np.int8) if steps is None else steps.encode(vectors)
        return vectors.astype(self._dtype)


class _Steps:
    """256 steps of equal width in each dimension, as sentence-transformers makes them."""

    def __init__(self, ranges: Floats) -> None:
        self.ranges = ranges  # (2, n_dims), smallest and largest values
        self.starts = ranges[0]
        widths = (ranges[1] - ranges[0]) / 255
        self.widths = np.where(widths == 0, np.float32(1), widths)
        self.middles = self.starts + np.float32(128.5) * self.widths  # what an int8 of 0 stands for

    def encode(self, vectors: Floats) -> NDArray[np.int8]:
        steps = np.clip(np.floor((vectors - self.starts) / self.widths), 0, 255)
        return (steps - 128).astype(np.int8)

    def decode(self, numbers: Floats) -> Floats:
        return numbers * self.widths + self.middles


class _Rows:
    """Rows of numbers that never change: those of a mapped file, then those in a buffer that has room for more.

    Buffers are shared by all that came of one another; only the last of them, behind whose rows nothing is, may grow.
    """

    def __init__(self, mapped: NDArray[Any], buffer: NDArray[Any], n_buffered: int) -> None:
        self.mapped, self.buffer, self.n_buffered = mapped, buffer, n_buffered

    @classmethod
    def of(cls, array: NDArray[Any]) -> _Rows:
        return cls(array[:0], array, len(array))

    @classmethod
    def mapping(cls, array: NDArray[Any]) -> _Rows:
        return cls(array, np.empty((0, array.shape[1]), array.dtype), 0)

    @property
    def n(self) -> int:
        return len(self.mapped) + self.n_buffered

    @property
    def nbytes(self) -> int:
        return self.buffer.nbytes

    def plus(self, array: NDArray[Any]) -> _Rows:
        end = self.n_buffered + len(array)
        buffer = self.buffer
        if end > len(buffer):
            buffer = np.empty((max(end, len(buffer) * 3 // 2), array.shape[1]), buffer.dtype)
            buffer[: self.n_buffered] = self.buffer[: self.n_buffered]
        buffer[self.n_buffered : end] = array
        return _Rows(self.mapped, buffer, end)

    def take(self, places: NDArray[np.int64]) -> NDArray[Any]:
        n = len(self.mapped)
        if self.n_buffered == 0 or n == 0:
            return (self.buffer if n == 0 else self.mapped)[places]
        taken = np.empty((*places.shape, self.buffer.shape[1]), self.buffer.dtype)
        in_file = places < n
        taken[in_file] = self.mapped[places[in_file]]
        taken[~in_file] = self.buffer[places[~in_file] - n]
        return taken


class _State(NamedTuple):
    """All that a search needs. It never changes; a change of the index puts another in its place."""

    codes: HierIndex
    ids: NDArray[np.int64]  # ascending
    places: NDArray[np.int64]  # of the vector of each id among the rows
    rows: _Rows
    steps: _Steps | None

    def score(self, queries: Floats, places: NDArray[np.int64]) -> Floats:
        """Inner products `(nq, n)` of queries with the vectors at some places `(nq, n)`."""
        scores = np.empty(places.shape, np.float32)
        # Steps are decoded on the side of the query: q . (w * v + m) = (q * w) . v + q . m
        scaled = queries if self.steps is None else queries * self.steps.widths
        n_columns = max(1, _BLOCK // queries.shape[1])
        n_queries = max(1, n_columns // max(1, places.shape[1]))
        for q in range(0, len(queries), n_queries):
            for c in range(0, places.shape[1], n_columns):
                block = slice(q, q + n_queries), slice(c, c + n_columns)
                vectors = self.rows.take(places[block]).astype(np.float32, copy=False)
                # Not a product of matrices: its rounding would depend on which rows stand side by side.
                np.einsum("ij,ikj->ik", scaled[block[0]], vectors, out=scores[block])
        return scores if self.steps is None else scores + np.einsum("ij,j->i", queries, self.steps.middles)[:, None]

    def tidied(self) -> _State:
        """The same without what was removed, if that is more than half of the rows in memory."""
        n = len(self.rows.mapped)
        in_memory = self.places >= n
        n_in_memory = int(in_memory.sum())
        if self.rows.n_buffered <= 2 * n_in_memory:
            return self
        places = self.places.copy()
        buffer = self.rows.buffer[places[in_memory] - n]
        places[in_memory] = n + np.arange(n_in_memory)
        return self._replace(places=places, rows=_Rows(self.rows.mapped, buffer, n_in_memory))

    def write_vectors(self, path: Path) -> None:
        """Write the vectors in the order of their ids, as `numpy.save` does, but in blocks."""
        n_dims, dtype = self.rows.buffer.shape[1], self.rows.buffer.dtype
        header = {
            "shape": (len(self.ids), n_dims),
            "fortran_order": False,
            "descr": np.lib.format.dtype_to_descr(dtype),
        }
        with open(path, "wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            step = max(1, _BLOCK // n_dims)
            for i in range(0, len(self.ids), step):
                file.write(self.rows.take(self.places[i : i + step]).data)


def _check_ranges(ranges: Any, n_dims: int) -> Floats:
    array = as_array("ranges", ranges)
    if array.dtype not in _FLOATS:
        raise TypeError(f"ranges must be a float16, float32 or float64 array, got dtype {array.dtype}")
    if array.shape != (2, n_dims):
        raise ValueError(f"ranges must have shape (2, {n_dims}), got {array.shape}")
    if not (np.abs(array) <= _MAX_SIZE).all() or (array[0] > array[1]).any():
        raise ValueError(
            f"ranges must be at most {_MAX_SIZE:g} in size, with the smallest values in row 0, got {ranges!r}"
        )
    return array.astype(np.float32)


def _merged(
    state: _State, ids: NDArray[np.int64], places: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ids in ascending order and their places, with new ones among them."""
    all_ids, all_places = np.concatenate([state.ids, ids]), np.concatenate([state.places, places])
    if (np.diff(all_ids[max(0, len(state.ids) - 1) :]) > 0).all():  # counted on, as is the rule
        return all_ids, all_places
    order = np.argsort(all_ids, kind="stable")
    return all_ids[order], all_places[order]
