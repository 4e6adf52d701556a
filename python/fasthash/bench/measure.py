"""Times all searchers on the same codes, and measures the recall of their results."""

from __future__ import annotations

import importlib.metadata
import platform
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fasthash import FlatIndex, __version__, get_num_threads, set_num_threads, simd_level
from fasthash._checks import check_choice, check_codes, check_codes_of_any_width, check_int, check_positive
from fasthash._extras import pip_install
from fasthash._shown import counted
from fasthash.bench.libraries import LIBRARIES, Searcher, own
from fasthash.bench.timing import cpu_name, interleaved, one_by_one

__all__ = ["recall", "run_bench"]

HELD_OUT = 1000
PROBE = 8  # queries timed first, to choose the number of queries of a round
UNPACKED = 2**30  # largest number of bits for scikit-learn, which stores each bit in a byte


# Long because of its docstring and the list of facts.
def run_bench(
    codes: ArrayLike,
    queries: ArrayLike | None = None,
    k: int = 10,
    *,
    threads: int = 1,
    rounds: int = 5,
    seconds: float = 0.2,
    compare: Collection[str] | None = None,
    say: Callable[[str], object] = lambda line: None,
) -> dict[str, Any]:
    """Measure the speed of the indices and of compared libraries on given codes.

    All searchers take turns in each round, after a warm-up search; the reported time is the median over rounds. A slow
    searcher gets fewer queries per round, and its recall is measured on these queries.

    Args:
        codes: uint8 array `(n, n_bits / 8)`, the gallery.
        queries: uint8 array `(nq, n_bits / 8)`. None takes up to 1,000 random codes out of the gallery.
        k: neighbours of each query.
        threads: threads for building and searching, for each searcher that supports several.
        rounds: number of rounds.
        seconds: approximate time of one searcher in a round.
        compare: names of compared libraries in `LIBRARIES`; None takes all installed ones.
        say: called with each line of progress.

    Returns:
        A dictionary ready for JSON. `rows` has one searcher with one setting each: `recall` by distance, so that ties
        count; `us_one` and `us_batch`, microseconds per query with one query per call and with all queries in one call;
        `build_seconds`; `bytes_per_code`. `left_out` gives the libraries left out with the reason. The other entries
        describe data, machine and versions.

    Raises:
        TypeError: wrong dtypes, or `compare` is a string.
        ValueError: wrong shapes, too few codes, an unknown library, or a number out of range.
    """
    k = check_int("k", k, minimum=1)
    threads = check_int("threads", threads, minimum=1)
    rounds = check_int("rounds", rounds, minimum=1)
    gallery, query_codes = _gallery_and_queries(codes, queries)
    if len(gallery) < k:
        raise ValueError(f"k must be at most the {len(gallery)} codes, got {k}")
    seconds = check_positive("seconds", seconds)
    if isinstance(compare, str):
        raise TypeError(f"compare must be a sequence of names, got {compare!r}; a single name goes into a list")
    chosen = list(LIBRARIES) if compare is None else list(dict.fromkeys(compare))
    for name in chosen:
        check_choice("compare", name, LIBRARIES)

    with _threads(threads):
        searchers, left_out = _built(chosen, gallery, threads, say)
        exact = FlatIndex(gallery.shape[1] * 8)
        exact.add(gallery)
        kth = exact.search(query_codes, k).distances[:, -1]
        say(f"timing {counted(len(searchers), 'search', 'searches')}, {counted(rounds, 'round')}")
        rows = _measure(searchers, gallery, query_codes, k, kth, rounds, seconds)
    return {
        "n_codes": len(gallery),
        "n_bits": gallery.shape[1] * 8,
        "n_queries": len(query_codes),
        "held_out": queries is None,
        "k": k,
        "threads": threads,
        "rounds": rounds,
        "cpu": cpu_name(),
        "simd": simd_level(),
        "python": platform.python_version(),
        "versions": {"fasthash": __version__}
        | {LIBRARIES[name][0]: _version(LIBRARIES[name][0]) for name in chosen if name not in left_out},
        "left_out": left_out,
        "rows": rows,
    }


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:  # another distribution has the package, as faiss-gpu has faiss
        return "unknown"


def _gallery_and_queries(codes: ArrayLike, queries: ArrayLike | None) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return gallery and queries; without queries, take random codes out of the gallery."""
    gallery = check_codes_of_any_width("codes", codes)
    if queries is None:
        if len(gallery) < 2:
            raise ValueError(f"codes must be at least 2 where queries are taken out of them, got {len(gallery)}")
        order = np.random.default_rng(0).permutation(len(gallery))
        n_held = min(HELD_OUT, (len(gallery) + 1) // 2)
        return np.delete(gallery, order[:n_held], axis=0), gallery[order[:n_held]]
    query_codes = check_codes("queries", queries, gallery.shape[1] * 8)
    if not len(query_codes):
        raise ValueError("queries must be at least one, got none")
    return gallery, query_codes


def _built(
    chosen: list[str], gallery: NDArray[np.uint8], threads: int, say: Callable[[str], object]
) -> tuple[list[Searcher], dict[str, str]]:
    """Build our indices and those of the chosen libraries; return searchers, and reasons for libraries left out."""
    searchers, left_out = list(own(gallery, threads)), {}
    for name in chosen:
        if reason := _why_not(name, gallery):
            left_out[name] = reason
        else:
            say(f"building {name}")
            searchers += LIBRARIES[name][1](gallery, threads)
    return searchers, left_out


def recall(
    ids: NDArray[np.int64], gallery: NDArray[np.uint8], queries: NDArray[np.uint8], kth: NDArray[np.int32]
) -> float:
    """Compute the share of the k places that hold a code at most as far as the true k-th neighbour; so ties count.

    Distances are computed from the codes, not taken from the library.

    Args:
        ids: int64 `(nq, k)`, rows of `gallery`; -1 in places without a neighbour. A repeated id counts once.
        gallery: uint8 `(n, n_bytes)`.
        queries: uint8 `(nq, n_bytes)`.
        kth: `(nq,)`, distance of the true k-th neighbour.
    """
    n_right = 0
    for row, query, threshold in zip(ids, queries, kth, strict=True):
        unique = np.unique(row[row >= 0])
        distances = np.unpackbits(gallery[unique] ^ query, axis=1).sum(axis=1)
        n_right += np.count_nonzero(distances <= threshold)
    return n_right / ids.size


def _measure(
    searchers: list[Searcher],
    gallery: NDArray[np.uint8],
    queries: NDArray[np.uint8],
    k: int,
    kth: NDArray[np.int32],
    rounds: int,
    seconds: float,
) -> list[dict[str, Any]]:
    calls: dict[str, Callable[[], object]] = {}
    sizes: dict[str, int] = {}
    rows = []
    for place, searcher in enumerate(searchers):
        searcher.prepare()
        few = queries[:PROBE]
        searcher.search(few, k)
        for mode, search in (("one", one_by_one(searcher.search, few, k)), ("batch", _batch(searcher, few, k))):
            begin = time.perf_counter()
            search()
            n_fit = int(seconds * len(few) / max(1e-9, time.perf_counter() - begin))
            timed = queries[: max(1, n_fit)]
            call = one_by_one(searcher.search, timed, k) if mode == "one" else _batch(searcher, timed, k)
            calls[f"{place} {mode}"] = _prepared(searcher, call)
            sizes[f"{place} {mode}"] = len(timed)
        judged = queries[: sizes[f"{place} batch"]]
        ids = searcher.ids(searcher.search(judged, k))
        rows.append(
            {
                "name": searcher.name,
                "setting": searcher.setting,
                "exact": searcher.exact,
                "recall": recall(ids, gallery, judged, kth[: len(judged)]),
                "build_seconds": searcher.build_seconds,
                "bytes_per_code": searcher.nbytes / len(gallery),
                "threads": searcher.threads,
                "n_queries": len(judged),
            }
        )
    medians = interleaved(calls, rounds)
    for place, row in enumerate(rows):
        for mode in ("one", "batch"):
            name = f"{place} {mode}"
            row[f"us_{mode}"] = medians[name] / sizes[name] * 1e6
    return rows


def _batch(searcher: Searcher, queries: NDArray[np.uint8], k: int) -> Callable[[], object]:
    return lambda: searcher.search(queries, k)


def _prepared(searcher: Searcher, call: Callable[[], object]) -> Callable[[], None]:
    def prepared() -> None:
        searcher.prepare()
        call()

    return prepared


def _why_not(name: str, gallery: NDArray[np.uint8]) -> str:
    if find_spec(name) is None:
        return f"not installed; {pip_install(LIBRARIES[name][0])}"
    try:
        import_module(name)
    except ImportError as error:  # such as a library of the system that is missing
        return f"cannot be imported: {error}"
    if name == "numpy" and not hasattr(np, "bitwise_count"):
        return "numpy 2.0 is needed to count bits"
    if name == "sklearn" and gallery.size * 8 > UNPACKED:
        return "the unpacked bits of so many codes take more than 1 GiB"
    return ""


@contextmanager
def _threads(n: int) -> Iterator[None]:
    before = get_num_threads()
    set_num_threads(n)
    try:
        yield
    finally:
        set_num_threads(before)
