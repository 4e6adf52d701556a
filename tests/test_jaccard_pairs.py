"""Near-duplicates by Jaccard distance: groups and pairs, against fractions in numpy and a walk."""

import numpy as np
import pytest

import fasthash as fh
import reference
from fasthash import duplicates


def families(rng, n, n_bits, share=0.15):
    """Fingerprints with relatives, from which a tenth of the bits differ; some equal, some empty."""
    parents = rng.random((n // 5 + 1, n_bits)) < share
    codes = parents[rng.integers(0, len(parents), n)] ^ (rng.random((n, n_bits)) < share / 20)
    codes[n // 2 : n // 2 + 3] = False
    return fh.pack_bits(codes)


def far_of(queries, codes):
    return reference.jaccard(queries, codes).astype(np.float32)


def listed(chunks):
    chunks = list(chunks)
    assert all(pairs.distances.dtype == np.float32 and not pairs.turns.any() and len(pairs.first) for pairs in chunks)
    return [row for pairs in chunks for row in zip(pairs.first, pairs.distances, pairs.second, strict=True)]


def slow_groups(codes, radius, ids):
    near = far_of(codes, codes) <= np.float32(radius)
    labels = np.arange(len(codes))
    while True:
        least = np.where(near, labels, len(codes)).min(axis=1)
        if (least == labels).all():
            break
        labels = least
    groups = [np.sort(ids[labels == label]).tolist() for label in np.unique(labels)]
    return sorted(group for group in groups if len(group) > 1)


@pytest.mark.parametrize("radius", [0, 0.1, 0.3, 0.7, 1])
@pytest.mark.parametrize("n_bits", [16, 64, 512])
def test_pairs_inside_a_set(n_bits, radius):
    rng = np.random.default_rng(n_bits)
    codes, ids = families(rng, 250, n_bits), rng.permutation(2500)[:250]
    far = far_of(codes, codes)
    expected = sorted(
        (min(ids[i], ids[j]), far[i, j], max(ids[i], ids[j]))
        for i, j in zip(*np.nonzero(np.triu(far <= np.float32(radius), 1)), strict=True)
    )
    assert listed(fh.near_pairs(codes, radius, ids, metric="jaccard")) == expected
    for kind in (fh.FlatIndex, fh.HierIndex):
        assert listed(fh.near_pairs(kind.from_arrays(codes, ids, metric="jaccard"), radius)) == expected


def test_pairs_between_new_and_old(monkeypatch):
    monkeypatch.setattr(duplicates, "_PAIRS", 300)
    codes = families(np.random.default_rng(1), 300, 128)
    new, old = codes[:90], codes[90:]
    far = far_of(new, old)
    expected = sorted((i, far[i, j], j) for i, j in zip(*np.nonzero(far <= np.float32(0.4)), strict=True))
    assert expected
    index = fh.FlatIndex.from_arrays(old, metric="jaccard")
    for options in (
        {"gallery": old, "metric": "jaccard"},
        {"gallery": index},
        {"gallery": index, "metric": "jaccard"},
    ):
        assert listed(fh.near_pairs(new, 0.4, **options)) == expected
    assert listed(fh.near_pairs(fh.HierIndex.from_arrays(new, metric="jaccard"), 0.4, gallery=old)) == expected


@pytest.mark.parametrize("dense", [1, 4, 256], ids="followed from {}".format)
@pytest.mark.parametrize("radius", [0, 0.1, 0.3, 0.5, 1])
def test_groups_are_those_of_a_walk(radius, dense, monkeypatch):
    monkeypatch.setattr(duplicates, "_BATCH", 7)
    monkeypatch.setattr(duplicates, "_PAIRS", 40)
    monkeypatch.setattr(duplicates, "_DENSE", dense)
    rng = np.random.default_rng(3)
    codes, ids = families(rng, 150, 64), rng.permutation(900)[:150] - 77
    expected = slow_groups(codes, radius, ids)
    assert [group.tolist() for group in fh.near_duplicates(codes, radius, ids, metric="jaccard")] == expected
    for kind in (fh.FlatIndex, fh.HierIndex):
        index = kind.from_arrays(codes, ids, metric="jaccard")
        assert [group.tolist() for group in fh.near_duplicates(index, radius)] == expected
    assert len(index) == 150


def test_a_radius_is_compared_as_distances_are_returned():
    """3/10 is within 0.3 in whichever precision, and 1/3 is not."""
    codes = fh.pack_bits(np.arange(16) < np.array([7, 10, 6, 9])[:, None])
    assert [group.tolist() for group in fh.near_duplicates(codes[:2], 0.3, metric="jaccard")] == [[0, 1]]
    assert fh.near_duplicates(codes[2:], 0.3, metric="jaccard") == []


CODES = np.zeros((2, 8), np.uint8)
JACCARD, HAMMING = (fh.FlatIndex.from_arrays(CODES, metric=metric) for metric in ("jaccard", "hamming"))


@pytest.mark.parametrize("find", [fh.near_duplicates, fh.near_pairs])
@pytest.mark.parametrize(
    ("codes", "radius", "options", "error", "message"),
    [
        (
            JACCARD,
            0.1,
            {"metric": "hamming"},
            ValueError,
            "codes must have the metric 'hamming', got an index with 'jac",
        ),
        (HAMMING, 1, {"metric": "jaccard"}, ValueError, "codes must have the metric 'jaccard', got an index with 'ham"),
        (CODES, 1, {"metric": "dice"}, ValueError, "metric must be one of 'hamming', 'jaccard', got 'dice'"),
        (CODES, 0.5, {"metric": "hamming"}, TypeError, "radius must be an integer, got 0.5"),
        (CODES, -0.5, {"metric": "jaccard"}, ValueError, "radius must be at least 0, got -0.5"),
        (CODES, float("nan"), {"metric": "jaccard"}, ValueError, "radius must be at least 0, got nan"),
        (CODES, "1", {"metric": "jaccard"}, TypeError, "radius must be a number, got '1'"),
        (JACCARD, 0.1, {"turned": True}, ValueError, "turned must be False with the metric 'jaccard'"),
        (JACCARD, 0.1, {"ids": [1, 2]}, ValueError, "ids must be None for an index"),
    ],
)
def test_wrong_arguments_are_named(find, codes, radius, options, error, message):
    with pytest.raises(error, match=message):
        find(codes, radius, **options)


@pytest.mark.parametrize(("codes", "gallery"), [(JACCARD, HAMMING), (HAMMING, JACCARD)])
def test_a_gallery_of_another_metric(codes, gallery):
    message = f"gallery must have the metric {codes.metric!r}, got an index with {gallery.metric!r}"
    with pytest.raises(ValueError, match=message):
        fh.near_pairs(codes, 0, gallery=gallery)
