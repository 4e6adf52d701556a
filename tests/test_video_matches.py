"""Which videos match at which offset: the fast way against a plain one, on made-up hashes of frames."""

import numpy as np
import pytest

pytest.importorskip("scipy", reason="needs the extra dedup")

from fasthash._video_matches import Match, Timeline, near_timelines


def timeline(codes, first=None, last=None):
    codes = np.asarray(codes)
    first = np.arange(len(codes)) if first is None else np.array(first, np.int64)
    return Timeline(codes, first, first if last is None else np.array(last, np.int64))


def plain(videos, radius, min_share):
    """Each pair, each offset, each frame against each."""
    found = []
    for a, x in enumerate(videos):
        for b, y in enumerate(videos):
            if a == b or not len(x.codes) or (len(x.codes), a) > (len(y.codes), b):
                continue
            distances = np.unpackbits(x.codes[:, None] ^ y.codes[None], axis=2).sum(axis=2)

            def matches(offset, x=x, y=y, distances=distances):
                begins, ends = x.first[:, None] + offset, x.last[:, None] + offset
                return (distances <= radius) & (begins <= y.last + 1) & (ends >= y.first - 1)

            ranked = []
            for offset in range(-100, 101):
                starts = (distances <= radius) & (x.first[:, None] + offset == y.first)
                n_matched, n_starts = matches(offset).any(axis=1).sum(), starts.any(axis=1).sum()
                ranked.append((n_matched, n_starts, -abs(offset), -offset))
            matched, offset = int(max(ranked)[0]), int(-max(ranked)[3])
            share = matched / len(x.codes)
            if matched and share >= min_share and matched >= min(3, len(y.codes)):
                least = np.where(matches(offset), distances, radius + 1).min(axis=1)
                found.append(Match(a, b, offset, matched, share, float(np.median(least[least <= radius]))))
    return sorted(found)


def random_videos(rng):
    """Few different frames, so that videos share them, at several offsets alike; some stand still, some have gaps."""
    palette = rng.integers(0, 256, (6, 2), dtype=np.uint8)
    videos = []
    for _ in range(rng.integers(0, 7)):
        n = rng.integers(0, 9)
        lasts = rng.integers(0, 4, n) * (rng.random(n) < 0.4)
        steps = lasts + 1 + rng.integers(0, 4, n) * (rng.random(n) < 0.3)
        first = np.cumsum(steps) - steps
        noise = (rng.random((n, 2)) < 0.05).astype(np.uint8)
        videos.append(timeline(palette[rng.integers(0, 6, n)] ^ noise, first, first + lasts))
    return videos


def test_as_the_plain_way():
    n_found = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        videos, radius, min_share = random_videos(rng), int(rng.integers(0, 6)), float(rng.choice([0.2, 0.5, 1]))
        expected = plain(videos, radius, min_share)
        assert sorted(near_timelines(videos, radius, min_share)) == expected, seed
        n_found += len(expected)
    assert n_found > 100


CODES = np.random.default_rng(0).integers(0, 256, (40, 32), dtype=np.uint8)


@pytest.mark.parametrize(
    ("videos", "expected"),
    [
        ([CODES, CODES], Match(0, 1, 0, 40, 1.0, 0.0)),
        ([CODES, CODES[10:]], Match(1, 0, 10, 30, 1.0, 0.0)),
        ([CODES[:30], CODES[12:]], Match(1, 0, 12, 18, 18 / 28, 0.0)),
        ([CODES[12:], CODES[:30]], Match(0, 1, 12, 18, 18 / 28, 0.0)),
        ([CODES[:5], np.tile(CODES[:5], (3, 1))], Match(0, 1, 0, 5, 1.0, 0.0)),  # also at 5 and at 10
        ([CODES[:2], CODES], None),  # fewer than three frames
        ([CODES[:2], CODES[:2]], Match(0, 1, 0, 2, 1.0, 0.0)),  # but all of both
        ([CODES[:20], CODES[20:]], None),
        ([CODES, CODES[::-1]], None),
        ([CODES[:0], CODES[:0]], None),
    ],
)
def test_offsets(videos, expected):
    assert list(near_timelines([timeline(codes) for codes in videos], 32, 0.5)) == ([expected] if expected else [])


def test_of_offsets_that_match_alike_the_one_nearest_to_zero_wins_then_the_smaller():
    x = timeline(CODES[:3], [10, 11, 12])
    y = timeline(np.concatenate([CODES[:3], CODES[:3]]), [6, 7, 8, 14, 15, 16])
    assert [match.offset for match in near_timelines([x, y], 0, 0.5)] == [-4]
    y = timeline(np.concatenate([CODES[:3], CODES[:3]]), [4, 5, 6, 14, 15, 16])
    assert [match.offset for match in near_timelines([x, y], 0, 0.5)] == [4]


def test_a_picture_that_lasts_matches_wherever_it_is_seen():
    slides = timeline(CODES[:4], [0, 100, 200, 300], [99, 199, 299, 399])
    excerpt = timeline(CODES[1:4], [0, 50, 150], [49, 149, 249])  # from the middle of the second
    assert list(near_timelines([slides, excerpt], 0, 0.5)) == [Match(1, 0, 150, 3, 1.0, 0.0)]


def test_a_video_is_not_searched_for_in_itself(monkeypatch):
    """Frames that nearly stand still would have pairs by the square of their number."""
    from fasthash import _video_matches

    n_pairs = 0
    real = _video_matches.near_pairs

    def near_pairs(*arguments, **options):
        nonlocal n_pairs
        for pairs in real(*arguments, **options):
            n_pairs += len(pairs.first)
            yield pairs

    monkeypatch.setattr(_video_matches, "near_pairs", near_pairs)
    still = timeline(np.repeat(CODES[:1], 500, axis=0))
    other = timeline(CODES[:3])
    assert [match.matched for match in near_timelines([still, other], 32, 0.1)] == []
    assert n_pairs == 500  # one frame of the other video with each
