"""Searches against the slow path, ids included, where ties decide and where search plans give up.

    python tests/differential.py [--queries 2000000] [--seed 0]

Each problem is a gallery of 5,000 to 300,000 codes in which many codes are equally far from a query, filters and radii
for it, and queries of which some are far from all codes. The slow path ranks all codes once for each query; then
indices of several kinds - memory, plan, filled at once or by many changes, loaded, mapped - answer the same queries
with different k, threads, instruction sets, filters and batch sizes. Every distance and every id must be right.

Exit code 1 at the first wrong answer, with the problem's seed and the search that gave it.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import fasthash as fh
from galleries import GALLERIES, clustered
from indices import LEVELS, MEMORIES, PLANS, empty, filled, grown, simd, threads

LARGEST_K = 1000
MOST_BYTES = 2_400_000  # of the codes of a gallery
LAYOUTS = [(8,), (16,), (24,), (32,), (64,), (128,), (256,), (512,), (8, 16), (8, 16, 40), (16, 16), (8, 8, 8, 8)]
# Narrow codes have most ties, and their plans give up most often.
WEIGHTS = np.array([1, 2, 3, 3, 3, 1, 0.5, 0.5, 3, 2, 2, 2])
KINDS = ["flat", *itertools.product(MEMORIES, ["auto", *PLANS])]
FORMS = ["built", "in pieces", "changed", "loaded", "mapped"]


class Ranking:
    """All codes of a gallery by (distance, id), for each query.

    Args:
        queries: uint8 `(nq, n_bytes)`.
        codes: uint8 `(n, n_bytes)`.
        ids: int64 `(n,)`.
    """

    def __init__(self, queries, codes, ids):
        order = np.argsort(ids)
        self.ids, self.n_bits = ids[order], codes.shape[1] * 8
        # Where ids ascend, (distance, place) orders as (distance, id) does, and is one number.
        self._keys = distances(queries, codes[order]).astype(np.int64) * len(ids) + np.arange(len(ids))

    def nearest(self, k, allowed=None):
        """The k nearest `(nq, k)`, padded as searches pad them. `allowed`: bool mask over `self.ids`."""
        keys = self._keys if allowed is None else self._keys[:, allowed]
        n = min(k, keys.shape[1])
        if n < keys.shape[1]:
            keys = np.partition(keys, n - 1, axis=1)[:, :n] if n else keys[:, :0]
        keys = np.sort(keys, axis=1)
        shape = (len(keys), k)
        found = fh.SearchResult(np.full(shape, self.n_bits + 1, np.int32), np.full(shape, -1, np.int64))
        found.distances[:, :n] = keys // len(self.ids)
        found.ids[:, :n] = self.ids[keys % len(self.ids)]
        return found

    def within(self, radius, allowed=None):
        """All of them within a radius, as `range_search` returns them."""
        keys = [np.sort(row[row < (radius + 1) * len(self.ids)]) for row in self._keys]
        if allowed is not None:
            keys = [row[allowed[row % len(self.ids)]] for row in keys]
        offsets = np.cumsum([0, *map(len, keys)], dtype=np.int64)
        together = np.concatenate([np.empty(0, np.int64), *keys])
        return fh.RangeResult(offsets, (together // len(self.ids)).astype(np.int32), self.ids[together % len(self.ids)])


def distances(queries, codes):
    """Hamming distances `(nq, n)` of packed codes, a few bytes at a time."""
    total = np.zeros((len(queries), len(codes)), np.uint16)
    for begin in range(0, codes.shape[1], 8):
        words = [_as_words(array[:, begin : begin + 8]) for array in (queries, codes)]
        total += _bits_set(words[0][:, None] ^ words[1][None])
    return total


def _as_words(rows):
    padded = np.zeros((len(rows), 8), np.uint8)
    padded[:, : rows.shape[1]] = rows
    return padded.view(np.uint64)[:, 0]


def _bits_set(words):
    if hasattr(np, "bitwise_count"):
        return np.bitwise_count(words)
    bits = np.unpackbits(words[..., None].view(np.uint8), axis=-1)  # numpy before 2.0
    return bits.sum(axis=-1, dtype=np.uint8)


@dataclasses.dataclass
class Problem:
    """A gallery and what is asked of it."""

    seed: int
    layout: tuple[int, ...]
    codes: np.ndarray
    ids: np.ndarray
    queries: np.ndarray

    @classmethod
    def of(cls, seed: int, n_queries: int = 32, largest: int = 300_000) -> Problem:
        rng = np.random.default_rng(seed)
        layout = LAYOUTS[rng.choice(len(LAYOUTS), p=WEIGHTS / WEIGHTS.sum())]
        n_bytes = sum(layout) // 8
        n = int(np.exp(rng.uniform(np.log(5000), np.log(min(largest, MOST_BYTES // n_bytes)))))
        if rng.random() < 0.7:
            flip = rng.choice([0.02, 0.04, 0.1, 0.12, 0.3])
            codes = clustered(rng, n, n_bytes, int(rng.choice([1, 5, 100])), flip)
        else:
            codes = GALLERIES[rng.choice(["uniform", "uniform", "duplicated", "constant"])](rng, n, n_bytes)
        return cls(seed, layout, codes, _ids(rng, n), _queries(rng, codes, n_queries))


def _ids(rng, n):
    match rng.integers(4):
        case 0:
            return np.arange(n)
        case 1:
            return rng.permutation(n)
        case 2:
            return np.arange(n)[::-1] * 7 + 10**12
        case _:
            ids = np.unique(rng.integers(-(2**62), 2**62, n + 9))
            return rng.permutation(ids[ids != -1])[:n]


def _queries(rng, codes, n):
    """Codes of the gallery, some with a few bits flipped, random ones, and some that are as far as can be."""
    queries = codes[rng.integers(0, len(codes), n)].copy()
    of_bits = np.packbits(rng.random((n, codes.shape[1] * 8)) < rng.choice([0.05, 0.2], n)[:, None], axis=1)
    how = rng.integers(0, 4, n)
    queries[how == 1] ^= of_bits[how == 1]
    queries[how == 2] = rng.integers(0, 256, queries[how == 2].shape, np.uint8)
    queries[how == 3] = ~queries[how == 3]
    queries[(how == 3) & (rng.random(n) < 0.5)] ^= 1
    return queries


class WrongAnswerError(AssertionError):
    """A search that does not give what the slow path gives."""


@dataclasses.dataclass
class Count:
    """What was compared so far."""

    queries: int = 0
    gave_up: int = 0
    problems: int = 0

    def __str__(self) -> str:
        return f"{self.queries:,} queries compared in {self.problems:,} problems, {self.gave_up:,} gave up their plan"


def check(problem: Problem, count: Count, n_indices: int = 6, n_searches: int = 12) -> None:
    """Compare searches of some indices with the slow path. Raises `WrongAnswerError`."""
    rng = np.random.default_rng([problem.seed, 1])
    ranking = Ranking(problem.queries, problem.codes, problem.ids)
    masks = [None, None, *(rng.random(len(ranking.ids)) < share for share in (0.002, 0.2, 0.9))]
    allowed = [None if mask is None else ranking.ids[mask] for mask in masks]
    filters = [None if some is None else fh.IdFilter(rng.permutation(some)) for some in allowed]
    nearest = [ranking.nearest(LARGEST_K, mask) for mask in masks]
    for index, name in _indices(problem, rng, n_indices):
        for _ in range(n_searches):
            which = rng.integers(len(masks))
            allow = filters[which] if rng.random() < 0.5 else allowed[which]
            some = slice(None) if rng.random() < 0.7 else slice(i := rng.integers(len(problem.queries)), i + 1)
            level, n_threads = rng.choice(LEVELS), int(rng.integers(1, 5))
            where = f"seed {problem.seed}, {name}, {level}, {n_threads} threads, filter {which}, queries {some}"
            with simd(level), threads(n_threads):
                if rng.random() < 0.8:
                    k = int(rng.choice([1, 10, 50, 77, 200, 400, 999, LARGEST_K]))
                    found, stats = index.search(problem.queries[some], k, allow=allow, stats=True)
                    _check_nearest(found, nearest[which], some, k, f"{where}, k = {k}")
                    count.gave_up += sum("+scan" in plan for plan in stats.plan)
                    if isinstance(index, fh.HierIndex) and rng.random() < 0.2:
                        _check_nearest(
                            index.search(problem.queries[some], k, allow=allow, keep=1.0),
                            nearest[which],
                            some,
                            k,
                            f"{where}, keep = 1, k = {k}",
                        )
                        count.queries += len(found.ids)
                else:
                    radius = int(rng.integers(0, ranking.n_bits // 3 + 1))
                    found = index.range_search(problem.queries, radius, allow=allow)
                    expected = ranking.within(radius, masks[which])
                    counts = index.count_within(problem.queries, radius, allow=allow)
                    for name_of, array, wanted in zip(found._fields, found, expected, strict=True):
                        if not np.array_equal(array, wanted):
                            raise WrongAnswerError(f"{where}, radius {radius}: {name_of}")
                    if not np.array_equal(counts, np.diff(expected.offsets)):
                        raise WrongAnswerError(f"{where}, radius {radius}: counts")
                    some = slice(None)
            count.queries += len(problem.queries[some])
    count.problems += 1


def _check_nearest(found, nearest, some, k, where):
    for name, array, wanted in zip(found._fields, found, nearest, strict=True):
        wrong = (array != wanted[some, :k]).any(axis=1)
        if wrong.any():
            raise WrongAnswerError(
                f"{where}: {name} of {wrong.sum()} of {len(wrong)} queries, first {np.argmax(wrong)}"
            )


def _indices(problem, rng, n) -> Iterator[tuple[fh.FlatIndex | fh.HierIndex, tuple[object, ...]]]:
    """Some indices of all kinds with the codes of a problem, one at a time, and what to call them."""
    for i in range(n):
        kind = KINDS[rng.integers(len(KINDS))] if i else ("default", "auto")
        form = FORMS[rng.integers(len(FORMS))]
        index = empty(kind, problem.layout)
        if form == "in pieces":
            for rows in np.split(np.arange(len(problem.codes)), np.sort(rng.integers(0, len(problem.codes), 3))):
                index.add(problem.codes[rows], problem.ids[rows])
        elif form == "changed":
            index = grown(index, problem.codes, problem.ids, rng)
        else:
            index = filled(index, problem.codes, problem.ids)
        if form in ("loaded", "mapped"):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "index.fh"
                index.save(path)
                index = fh.load(path, mmap=form == "mapped")
        yield index, (kind, form)


def run(n_queries: int, seed: int = 0, **settings: int) -> Count:
    """Check problems until so many queries have been compared."""
    count = Count()
    for number in itertools.count(seed):
        if count.queries >= n_queries:
            return count
        check(Problem.of(number, **settings), count)
    raise AssertionError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=2_000_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    began = time.monotonic()
    print(f"{run(arguments.queries, arguments.seed)}, none wrong; {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
