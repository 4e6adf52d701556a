"""Pairs of near-duplicate videos, from the hashes of their frames: exactly, by one radius search for each frame.

Called by `fasthash._videos`. Two frames match at an offset if their hashes are within the radius and the times in which
they are shown, one of them shifted by the offset, overlap or are a step apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fasthash.duplicates import near_pairs
from fasthash.index import HierIndex

__all__ = ["MIN_MATCHED", "Match", "Timeline", "near_timelines"]

MIN_MATCHED = 3
"""Frames of a pair that must match, or all of both videos where these have fewer."""

_TOLERANCE = 1  # steps: the frames of two videos are taken at times that differ by up to a step

_Ints = NDArray[np.int64]


class Timeline(NamedTuple):
    """The distinct frames of a video, in the order of their times. Times count steps."""

    codes: NDArray[np.uint8]
    """`(n, n_bytes)`, hashes."""

    first: _Ints
    """`(n,)`, the step in which each frame comes into sight."""

    last: _Ints
    """`(n,)`, the last step in which it is seen, before the next one's first."""


class Match(NamedTuple):
    """Two near-duplicate videos, by their places in the list."""

    shorter: int
    """The one of fewer frames; of equally many the one listed first."""

    longer: int

    offset: int
    """Steps from the start of the longer video to that of the shorter one; negative if the shorter starts earlier."""

    matched: int
    """Frames of the shorter video that match one of the longer video."""

    share: float
    """`matched` of all frames of the shorter video."""

    distance: float
    """Median over the matched frames of the distance in bits to the nearest frame that they match."""


def near_timelines(videos: Sequence[Timeline], radius: int, min_share: float) -> Iterator[Match]:
    """Yield the pairs of videos that share enough frames at one offset, in any order.

    The offset of a pair is the one with the most frames matched; of those, the one at which the most frames come into
    sight in the same step as a frame that they match; then the one nearest to 0; then the smaller one.

    Memory holds the matches of one video, and about a million neighbours of its frames, whatever their number.
    """
    sizes = np.array([len(video.codes) for video in videos], dtype=np.int64)
    if not sizes.any():
        return
    order = np.argsort(sizes, kind="stable")
    ends = np.cumsum(sizes[order])
    everything = Timeline(*(np.concatenate([videos[v][part] for v in order]) for part in range(3)))
    owner = np.repeat(order, sizes[order])
    index = HierIndex.from_arrays(everything.codes)
    for v, end in zip(order.tolist(), ends.tolist(), strict=True):
        video = videos[v]
        if len(video.codes) == 0:
            continue
        # Frames are paired with those of longer videos alone: a video that stands still has no pairs with itself.
        index.remove(np.arange(end - len(video.codes), end))
        near, starts = _spans(video, everything, owner, index, radius)
        for longer, offset, matched in zip(*_best_offsets(near, starts), strict=True):
            share = matched / len(video.codes)
            if share >= min_share and matched >= min(MIN_MATCHED, int(sizes[longer])):
                distance = _median_distance(video, videos[longer], offset, radius)
                yield Match(v, longer, offset, matched, share, distance)


class _Spans(NamedTuple):
    """Offsets from `low` to `high` at which a frame of a video matches another video; those of a frame are disjoint."""

    frame: _Ints
    other: _Ints
    low: _Ints
    high: _Ints


def _spans(video: Timeline, everything: Timeline, owner: _Ints, index: HierIndex, radius: int) -> tuple[_Spans, _Spans]:
    """The offsets at which a video matches those in the index, and at which frames that match come into sight."""
    empty = np.zeros(0, dtype=np.int64)
    near, starts = [_Spans(empty, empty, empty, empty)], [_Spans(empty, empty, empty, empty)]
    for pairs in near_pairs(video.codes, radius, gallery=index):
        other = owner[pairs.second]
        low = everything.first[pairs.second] - video.last[pairs.first] - _TOLERANCE
        high = everything.last[pairs.second] - video.first[pairs.first] + _TOLERANCE
        near.append(_joined(_Spans(pairs.first, other, low, high)))  # all neighbours of a frame are in one chunk
        start = everything.first[pairs.second] - video.first[pairs.first]
        starts.append(_joined(_Spans(pairs.first, other, start, start)))
    return _all(near), _all(starts)


def _all(spans: list[_Spans]) -> _Spans:
    return _Spans(*(np.concatenate(part) for part in zip(*spans, strict=True)))


def _joined(spans: _Spans) -> _Spans:
    """Join the spans of each frame and video that overlap."""
    order = np.lexsort((spans.low, spans.other, spans.frame))
    frame, other, low, high = (part[order] for part in spans)
    new = np.ones(len(low), dtype=bool)
    new[1:] = (np.diff(frame) != 0) | (np.diff(other) != 0)
    # The highest offset so far, within each frame and video: these are lifted above one another.
    lift = np.cumsum(new) * (int(high.max()) - int(low.min()) + 1)
    reached = np.maximum.accumulate(high + lift) - lift
    new[1:] |= low[1:] > reached[:-1]
    starts = np.flatnonzero(new)
    ends = np.append(starts[1:], len(low)) - 1
    return _Spans(frame[starts], other[starts], low[starts], reached[ends])


def _best_offsets(near: _Spans, starts: _Spans) -> tuple[list[int], list[int], list[int]]:
    """Each other video, the best offset, and the number of frames that match there."""
    n, m = len(near.low), len(starts.low)
    other = np.concatenate([near.other, near.other, starts.other, starts.other])
    place = np.concatenate([near.low, near.high + 1, starts.low, starts.high + 1])
    change = np.repeat([1, -1, 0, 0], [n, n, m, m])
    change_starts = np.repeat([0, 0, 1, -1], [n, n, m, m])
    order = np.lexsort((place, other))
    other, place = other[order], place[order]
    counts, n_starts = np.cumsum(change[order]), np.cumsum(change_starts[order])
    # The counts hold from a place to the next one.
    kept = np.flatnonzero((other[1:] == other[:-1]) & (place[1:] > place[:-1]))
    other, counts, n_starts = other[kept], counts[kept], n_starts[kept]
    offset = np.clip(0, place[kept], place[kept + 1] - 1)
    best = np.lexsort((offset, np.abs(offset), -n_starts, -counts, other))
    best = best[np.unique(other[best], return_index=True)[1]]
    return other[best].tolist(), offset[best].tolist(), counts[best].tolist()


def _median_distance(video: Timeline, other: Timeline, offset: int, radius: int) -> float:
    first, last = video.first + offset - _TOLERANCE, video.last + offset + _TOLERANCE
    starts, ends = np.searchsorted(other.last, first), np.searchsorted(other.first, last, side="right")
    n = ends - starts  # frames of the other video that are seen at the time of each
    frame = np.repeat(np.arange(len(n)), n)
    row = np.arange(len(frame)) - np.repeat(np.cumsum(n) - n, n) + starts[frame]
    distances = np.unpackbits(video.codes[frame] ^ other.codes[row], axis=1).sum(axis=1, dtype=np.int64)
    least = np.full(len(n), radius + 1)
    np.minimum.at(least, frame, distances)
    return float(np.median(least[least <= radius]))
