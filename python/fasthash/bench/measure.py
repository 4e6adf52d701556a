"""Time all searchers on the same codes, and measure the recall of their results."""

from __future__ import annotations

import importlib.metadata
import platform
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fasthash import FlatIndex, __version__, get_num_threads, set_num_threads, simd_level
from fasthash._checks import check_choice, check_codes, check_codes_of_any_width, check_int
from fasthash._shown import counted
from fasthash.bench.libraries import LIBRARIES, Searcher, own
from fasthash.bench.timing import cpu_name, interleaved, one_by_one

__all__ = ["recall", "run_bench"]

HELD_OUT = 1000
PROBE = 8  # queries by which the number is chosen that fit a round
UNPACKED = 2**30  # bits; scikit-learn keeps each in a byte and takes seconds a query beyond


# Mostly documentation, and the list of facts.
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
    """Measure the speed of the indices on given codes, beside other libraries.

    Times are medians over rounds in which all searchers take turns, after one search each to warm up. A slow searcher
    gets fewer queries a round, and its recall is that of these queries.

    Args:
        codes: uint8 array `(n, n_bits / 8)`, the gallery.
        queries: uint8 array `(nq, n_bits / 8)`. None takes up to 1,000 random codes out of the gallery.
        k: neighbours of each query.
        threads: threads of each searcher that can use several, for building and searching.
        rounds: number of rounds; the median is reported.
        seconds: approximate time of one searcher in a round.
        compare: names of other libraries in `LIBRARIES`; None for all that are installed.
        say: called with a line of progress.

    Returns:
        A dictionary ready for JSON: `rows` with one searcher and setting each (`recall` of the true neighbours by their
        distances, so that ties count; `us_one` and `us_batch`, microseconds a query with one query a call and with
        all in one; `build_seconds`; `bytes_per_code`), `left_out` with reasons, and what was measured where.

    Raises:
        TypeError: wrong dtypes.
        ValueError: wrong shapes, too few codes, or an unknown library.
    """
    k = check_int("k", k, minimum=1)
    threads = check_int("threads", threads, minimum=1)
    rounds = check_int("rounds", rounds, minimum=1)
    gallery, wanted = _gallery_and_queries(codes, queries)
    if len(gallery) < k:
        raise ValueError(f"k must be at most the {len(gallery)} codes, got {k}")
    chosen = list(LIBRARIES) if compare is None else list(compare)
    for name in chosen:
        check_choice("compare", name, LIBRARIES)

    with _threads(threads):
        found, left_out = _built(chosen, gallery, threads, say)
        exact = FlatIndex(gallery.shape[1] * 8)
        exact.add(gallery)
        kth = exact.search(wanted, k).distances[:, -1]
        say(f"timing {counted(len(found), 'search', 'searches')}, {counted(rounds, 'round')}")
        rows = _measure(found, gallery, wanted, k, kth, rounds, seconds)
    return {
        "n_codes": len(gallery),
        "n_bits": gallery.shape[1] * 8,
        "n_queries": len(wanted),
        "held_out": queries is None,
        "k": k,
        "threads": threads,
        "rounds": rounds,
        "cpu": cpu_name(),
        "simd": simd_level(),
        "python": platform.python_version(),
        "versions": {"fasthash": __version__}
        | {
            LIBRARIES[name][0]: importlib.metadata.version(LIBRARIES[name][0])
            for name in chosen
            if name not in left_out
        },
        "left_out": left_out,
        "rows": rows,
    }


def _gallery_and_queries(codes: ArrayLike, queries: ArrayLike | None) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The codes to search and those to search for, which are taken out of the first where none are given."""
    gallery = check_codes_of_any_width("codes", codes)
    if queries is None:
        if len(gallery) < 2:
            raise ValueError(f"codes must be at least 2 where queries are taken out of them, got {len(gallery)}")
        order = np.random.default_rng(0).permutation(len(gallery))
        n_held = min(HELD_OUT, (len(gallery) + 1) // 2)
        return np.delete(gallery, order[:n_held], axis=0), gallery[order[:n_held]]
    wanted = check_codes("queries", queries, gallery.shape[1])
    if not len(wanted):
        raise ValueError("queries must be at least one, got none")
    return gallery, wanted


def _built(
    chosen: list[str], gallery: NDArray[np.uint8], threads: int, say: Callable[[str], object]
) -> tuple[list[Searcher], dict[str, str]]:
    """Our indices and those of the chosen libraries; and why others are left out."""
    found, left_out = list(own(gallery, threads)), {}
    for name in chosen:
        if reason := _why_not(name, gallery):
            left_out[name] = reason
        else:
            say(f"building {name}")
            found += LIBRARIES[name][1](gallery, threads)
    return found, left_out


def recall(
    ids: NDArray[np.int64], gallery: NDArray[np.uint8], queries: NDArray[np.uint8], kth: NDArray[np.int32]
) -> float:
    """Share of the k places that a code as near as the true k-th neighbour took, whichever of equals it is.

    Distances are counted anew: what a library says of its results is not asked.

    Args:
        ids: `(nq, k)`, rows of `gallery`; -1 where none was found. An id that comes twice counts once.
        gallery: uint8 `(n, n_bytes)`.
        queries: uint8 `(nq, n_bytes)`.
        kth: `(nq,)`, distance of the true k-th neighbour.
    """
    right = 0
    for row, query, limit in zip(ids, queries, kth, strict=True):
        unique = np.unique(row[row >= 0])
        distances = np.unpackbits(gallery[unique] ^ query, axis=1).sum(axis=1)
        right += np.count_nonzero(distances <= limit)
    return right / ids.size


def _measure(
    found: list[Searcher],
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
    for place, searcher in enumerate(found):
        searcher.prepare()
        few = queries[:PROBE]
        searcher.search(few, k)
        for mode, search in (("one", one_by_one(searcher.search, few, k)), ("batch", _batch(searcher, few, k))):
            begin = time.perf_counter()
            search()
            fit = int(seconds * len(few) / max(1e-9, time.perf_counter() - begin))
            some = queries[: max(1, fit)]
            call = one_by_one(searcher.search, some, k) if mode == "one" else _batch(searcher, some, k)
            calls[f"{place} {mode}"] = _prepared(searcher, call)
            sizes[f"{place} {mode}"] = len(some)
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
        return f"not installed; pip install {LIBRARIES[name][0]}"
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
