"""Nearest neighbours by Hamming or Jaccard distance as estimators of scikit-learn, with an exact index below."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fasthash._checks import MAX_BITS, check_bool, check_choice, check_codes, check_int, check_not_negative, check_width
from fasthash._extras import needs_extra
from fasthash.index import FlatIndex, HierIndex, Memory
from fasthash.results import RangeResult, SearchResult

with needs_extra("sklearn"):
    from scipy.sparse import csr_matrix
    from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
    from sklearn.utils import check_array
    from sklearn.utils.validation import check_is_fitted, validate_data

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["HammingNeighbors", "HammingRadiusNeighbors", "JaccardNeighbors"]

Mode = Literal["connectivity", "distance"]


class HammingNeighbors(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]  # untyped
    """The neighbours of `sklearn.neighbors.NearestNeighbors(metric="hamming")`, from an index of fasthash.

    Neighbours are ordered by (distance, row), so that ties have one order. As scikit-learn has it, the constructor only
    stores its arguments and `fit` checks them; a search without `X` is for the training samples, none of which is its
    own neighbour. In a pipeline it hands the graph of the neighbours on (see `transform`).

    Args:
        n_neighbors: neighbours that `kneighbors` finds, at least 1.
        radius: largest distance that `radius_neighbors` finds, itself included; in the unit of the distances.
        packed: False: samples are bits, `X` of shape `(n, n_bits)` in bool, integers or floats, all 0 or 1. True:
            samples are packed codes, `X` uint8 `(n, n_bits / 8)`, as `fasthash.pack_bits` and the `transform` of
            `fasthash.baselines` give.
        normalize: True: distances are the share of bits that differ, float64 from 0 to 1, as scikit-learn's metric
            "hamming" has them. False: they are bits, int32.
        algorithm: `"auto"`: a `HierIndex`, which skips most samples where it can. `"brute"`: a `FlatIndex`. Both find
            the same.
        memory: what the index of `"auto"` may spend, as of `HierIndex`; `"default"` with `"brute"`.
        n_bits: width of packed samples in bits, where it is no multiple of 8; None takes 8 for each byte. A share of
            bits that differ is one of these. None where samples are bits.

    Attributes:
        index_: the index; its ids are the rows of the training samples.
        n_bits_: width of a sample in bits, at most 4096.
        n_features_in_: columns of `X`: bits, or bytes where `packed`.
        n_samples_fit_: number of training samples.
        feature_names_in_: names of the columns, where `X` had any.

    Examples:
        >>> neighbors = HammingNeighbors(n_neighbors=1).fit([[0, 0, 1, 1], [1, 1, 1, 1]])
        >>> neighbors.kneighbors([[0, 1, 1, 1]])
        (array([[0.25]]), array([[0]]))
    """

    index_: FlatIndex | HierIndex
    n_bits_: int
    n_features_in_: int
    n_samples_fit_: int
    _n_features_out: int

    def __init__(
        self,
        *,
        n_neighbors: int = 5,
        radius: float = 1.0,
        packed: bool = False,
        normalize: bool = True,
        algorithm: Literal["auto", "brute"] = "auto",
        memory: Memory = "default",
        n_bits: int | None = None,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.radius = radius
        self.packed = packed
        self.normalize = normalize
        self.algorithm = algorithm
        self.memory = memory
        self.n_bits = n_bits

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []  # distances have a dtype of their own
        return tags

    def fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Index the training samples.

        Args:
            X: samples `(n, n_features)`, n at least 1; see `packed`.
            y: not looked at.

        Returns:
            The estimator itself.

        Raises:
            TypeError: `X` has a wrong dtype or is sparse, or an argument of the constructor has the wrong type.
            ValueError: `X` has a wrong shape or holds anything but 0 and 1, or an argument of the constructor is out of
                range.
        """
        check_int("n_neighbors", self.n_neighbors, minimum=1)
        check_not_negative("radius", self.radius)
        check_bool("packed", self.packed)
        if self.n_bits is not None and not self.packed:
            raise ValueError(f"n_bits must be None where packed=False, whose columns are the bits, got {self.n_bits!r}")
        self._check_settings()
        codes, n_bits = self._codes(X, reset=True)
        self.index_ = self._empty_index(n_bits)
        self.index_.add(codes)
        self.n_bits_, self.n_samples_fit_ = n_bits, len(codes)
        self._n_features_out = len(codes)  # columns of a graph
        return self

    def kneighbors(
        self, X: ArrayLike | None = None, n_neighbors: int | None = None, return_distance: bool = True
    ) -> Any:
        """Find the nearest training samples of each sample, ordered by (distance, row).

        Args:
            X: samples `(nq, n_features)`; None for the training samples.
            n_neighbors: from 1 to the number of training samples, without `X` to one less; None takes the
                constructor's.
            return_distance: also return the distances.

        Returns:
            Distances `(nq, n_neighbors)`, float64 or int32 (see `normalize`), and rows, int64 `(nq, n_neighbors)`; the
            rows alone with `return_distance=False`.

        Raises:
            NotFittedError: `fit` was not called.
            TypeError, ValueError: as of `fit`; `X` has other columns than the training samples; `n_neighbors` is out of
                range.
        """
        distances, rows = self._nearest(X, n_neighbors)
        return (self._in_unit(distances), rows) if return_distance else rows

    def radius_neighbors(
        self,
        X: ArrayLike | None = None,
        radius: float | None = None,
        return_distance: bool = True,
        sort_results: bool = False,
    ) -> Any:
        """Find all training samples within a radius of each sample, always ordered by (distance, row).

        Args:
            X: samples `(nq, n_features)`; None for the training samples.
            radius: largest distance that is found, from 0, in the unit of the distances; None takes the constructor's.
            return_distance: also return the distances.
            sort_results: as of scikit-learn; without effect, as results are always ordered.

        Returns:
            Distances and rows, object arrays `(nq,)` of arrays as of `kneighbors`; the rows alone with
            `return_distance=False`.

        Raises:
            NotFittedError: `fit` was not called.
            TypeError, ValueError: as of `fit`; `X` has other columns than the training samples; `radius` is negative or
                not finite.
        """
        check_bool("sort_results", sort_results)
        offsets, distances, rows = self._within(X, radius)
        found = _split(rows, offsets)
        return (_split(self._in_unit(distances), offsets), found) if return_distance else found

    def kneighbors_graph(
        self, X: ArrayLike | None = None, n_neighbors: int | None = None, mode: Mode = "connectivity"
    ) -> csr_matrix:
        """The graph of `kneighbors` as a sparse matrix.

        Args:
            X: as of `kneighbors`.
            n_neighbors: as of `kneighbors`.
            mode: `"connectivity"`: edges are 1. `"distance"`: edges are distances, float64 in either unit.

        Returns:
            CSR matrix `(nq, n_samples_fit_)`; the edges of a row are ordered by (distance, column).

        Raises:
            NotFittedError, TypeError, ValueError: as of `kneighbors`; `mode` is unknown.
        """
        check_choice("mode", mode, ("connectivity", "distance"))
        distances, rows = self._nearest(X, n_neighbors)
        offsets = np.arange(len(rows) + 1) * rows.shape[1]
        return self._graph(RangeResult(offsets, distances.ravel(), rows.ravel()), mode)

    def radius_neighbors_graph(
        self,
        X: ArrayLike | None = None,
        radius: float | None = None,
        mode: Mode = "connectivity",
        sort_results: bool = False,
    ) -> csr_matrix:
        """The graph of `radius_neighbors` as a sparse matrix.

        Args:
            X: as of `radius_neighbors`.
            radius: as of `radius_neighbors`.
            mode: as of `kneighbors_graph`.
            sort_results: as of `radius_neighbors`.

        Returns:
            As `kneighbors_graph`.

        Raises:
            NotFittedError, TypeError, ValueError: as of `radius_neighbors`; `mode` is unknown.
        """
        check_choice("mode", mode, ("connectivity", "distance"))
        check_bool("sort_results", sort_results)
        return self._graph(self._within(X, radius), mode)

    def transform(self, X: ArrayLike) -> csr_matrix:
        """`kneighbors_graph(X, mode="distance")`, for estimators of a pipeline that take `metric="precomputed"`.

        As with scikit-learn's `KNeighborsTransformer`, a training sample is its own neighbour here.
        """
        return self.kneighbors_graph(X, mode="distance")

    def _check_settings(self) -> None:
        check_bool("normalize", self.normalize)
        check_choice("algorithm", self.algorithm, ("auto", "brute"))
        check_choice("memory", self.memory, get_args(Memory))
        if self.algorithm == "brute" and self.memory != "default":
            raise ValueError(f"memory must be 'default' for algorithm='brute', got {self.memory!r}")

    def _empty_index(self, n_bits: int) -> FlatIndex | HierIndex:
        return FlatIndex(n_bits) if self.algorithm == "brute" else HierIndex(n_bits, memory=self.memory)

    def _nearest(self, X: ArrayLike | None, n_neighbors: int | None) -> SearchResult:
        queries = self._queries(X)
        k = check_int("n_neighbors", self.n_neighbors if n_neighbors is None else n_neighbors, minimum=1)
        n_others = self.n_samples_fit_ - (X is None)
        if k > n_others:
            # n_samples, n_samples_fit: words that the checks of scikit-learn look for
            raise ValueError(
                f"n_neighbors must be at most {n_others}, got {k}: n_samples_fit = {self.n_samples_fit_}, "
                f"n_samples = {len(queries)}" + (", of which none is its own neighbour" if X is None else "")
            )
        if X is not None:
            return self.index_.search(queries, k)
        found = self.index_.search(queries, k + 1)
        own = found.ids == np.arange(len(queries))[:, None]
        own[~own.any(axis=1), -1] = True  # more equal samples than k come before: the last is one too many instead
        return SearchResult(found.distances[~own].reshape(-1, k), found.ids[~own].reshape(-1, k))

    def _within(self, X: ArrayLike | None, radius: float | None) -> RangeResult:
        queries = self._queries(X)
        limit = check_not_negative("radius", self.radius if radius is None else radius)
        found = self.index_.range_search(queries, self._of_index(limit))
        if X is not None:
            return found
        others = found.ids != np.repeat(np.arange(len(queries)), np.diff(found.offsets))
        offsets = found.offsets - np.arange(len(queries) + 1)  # each has found itself
        return RangeResult(offsets, found.distances[others], found.ids[others])

    def _graph(self, found: RangeResult, mode: Mode) -> csr_matrix:
        connected = mode == "connectivity"
        edges = np.ones(len(found.ids)) if connected else self._in_unit(found.distances).astype(np.float64)
        return csr_matrix((edges, found.ids, found.offsets), shape=(len(found.offsets) - 1, self.n_samples_fit_))

    def _of_index(self, radius: float) -> float:
        """The radius that the index takes."""
        # Compared with the distances as they are returned, so that a radius that is one of them finds it.
        possible = self._in_unit(np.arange(self.n_bits_ + 1, dtype=np.int32))
        return int(np.searchsorted(possible, radius, side="right")) - 1

    def _in_unit(self, distances: NDArray[Any]) -> NDArray[Any]:
        """Distances as they are returned."""
        return distances / self.n_bits_ if self.normalize else distances

    def _queries(self, X: ArrayLike | None) -> NDArray[np.uint8]:
        check_is_fitted(self)
        n_held, next_id = len(self.index_), self.index_._impl.next_id()
        if (n_held, next_id) != (self.n_samples_fit_, self.n_samples_fit_):
            raise ValueError(
                f"index_ must hold the {self.n_samples_fit_} training samples, but it was changed and holds {n_held}: "
                "fit again, or search index_ itself"
            )
        return self.index_.to_arrays()[0] if X is None else self._codes(X, reset=False)[0]

    def _codes(self, X: ArrayLike, reset: bool) -> tuple[NDArray[np.uint8], int]:
        """Packed codes of checked samples, and their width in bits before padding."""
        array = check_array(X, dtype=None if self.packed else "numeric", input_name="X", estimator=self)
        bits_of_column = 8 if self.packed else 1
        if array.shape[1] * bits_of_column > MAX_BITS:
            raise ValueError(f"X must have at most {MAX_BITS // bits_of_column} columns, got shape {array.shape}")
        n_bits = array.shape[1] * bits_of_column if self.n_bits is None else check_width("n_bits", self.n_bits)
        codes = _checked_codes(array) if self.packed else _packed_bits(array)
        if self.n_bits is not None:
            codes = check_codes("X", codes, n_bits)
        validate_data(self, X, reset=reset, skip_check_array=True)  # number and names of the columns
        return codes, n_bits


class HammingRadiusNeighbors(HammingNeighbors):
    """`HammingNeighbors` that hands the graph of all neighbours within a radius on in a pipeline.

    What scikit-learn's `RadiusNeighborsTransformer` is beside its `KNeighborsTransformer`. All else, the arguments
    included, is as of `HammingNeighbors`.

    Examples:
        >>> neighbors = HammingRadiusNeighbors(radius=0.25).fit([[0, 0, 1, 1], [1, 1, 1, 1]])
        >>> neighbors.transform([[0, 1, 1, 1]]).toarray()
        array([[0.25, 0.25]])
    """

    def transform(self, X: ArrayLike) -> csr_matrix:
        """`radius_neighbors_graph(X, mode="distance")`; a training sample is its own neighbour here."""
        return self.radius_neighbors_graph(X, mode="distance")


class JaccardNeighbors(HammingNeighbors):
    """The neighbours of `sklearn.neighbors.NearestNeighbors(metric="jaccard")` over bits, from an index of fasthash.

    All is as of `HammingNeighbors`, but for the distances: 1 - shared / united bits, float64, the same numbers as
    scikit-learn's. Two samples without a bit set are at distance 0, as in scipy.

    Args:
        n_neighbors: neighbours that `kneighbors` finds, at least 1.
        radius: largest distance that `radius_neighbors` finds, itself included.
        packed: as of `HammingNeighbors`.
        n_bits: as of `HammingNeighbors`.

    Examples:
        >>> neighbors = JaccardNeighbors(n_neighbors=1).fit([[0, 0, 1, 1], [1, 1, 1, 1]])
        >>> neighbors.kneighbors([[0, 1, 1, 1]])
        (array([[0.25]]), array([[1]]))
    """

    def __init__(
        self, *, n_neighbors: int = 5, radius: float = 1.0, packed: bool = False, n_bits: int | None = None
    ) -> None:
        self.n_neighbors = n_neighbors
        self.radius = radius
        self.packed = packed
        self.n_bits = n_bits

    def _check_settings(self) -> None:
        pass

    def _empty_index(self, n_bits: int) -> FlatIndex | HierIndex:
        return FlatIndex(n_bits, metric="jaccard")

    def _of_index(self, radius: float) -> float:
        return radius

    def _in_unit(self, distances: NDArray[Any]) -> NDArray[Any]:
        # The index returns float32, which tells all fractions of at most 4096 bits apart. As float64 some would be
        # above the radius that found them, and estimators of scikit-learn would drop them.
        values, places = np.unique(distances, return_inverse=True)
        fractions = [float(Fraction(float(value)).limit_denominator(self.n_bits_)) for value in values]
        return np.array(fractions, np.float64)[places].reshape(distances.shape)


def _checked_codes(array: NDArray[Any]) -> NDArray[np.uint8]:
    if array.dtype != np.uint8:
        raise TypeError(f"X must be a uint8 array of packed bits where packed=True, got dtype {array.dtype}")
    return np.ascontiguousarray(array)


def _packed_bits(array: NDArray[Any]) -> NDArray[np.uint8]:
    ones = array.astype(bool, copy=False)
    if array.dtype != bool and (array != ones).any():
        wrong = array[array != ones][0]
        raise ValueError(f"X must hold only zeros and ones where packed=False, found {wrong}")
    return np.packbits(ones, axis=1)  # pads with zeros


def _split(values: NDArray[Any], offsets: NDArray[np.int64]) -> NDArray[np.object_]:
    """An array of arrays, also where all are of one length."""
    parts = np.empty(len(offsets) - 1, dtype=object)
    parts[:] = np.split(values, offsets[1:-1])
    return parts
