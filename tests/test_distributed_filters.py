"""Every form of `allow=` finds in shards what it finds in one `HierIndex`, or is refused with the same words."""

import numpy as np
import pytest

import fasthash as fh
from indices import MODES, assert_same

pytest.importorskip("ray", reason="needs the extra ray")

from local_shards import LAYOUT, LocalFleet, new
from stores import near_ties

IDS = np.arange(60) * 3
QUERIES = near_ties(np.random.default_rng(1), 4)
SHARED = np.arange(9, 90)
FORMS = {
    "array": IDS[::2],
    "set": set(IDS[5:20].tolist()),
    "frozenset": frozenset([3, 9, 10]),
    "empty set": set(),
    "range": range(0, 90, 6),
    "filter": fh.IdFilter(IDS[:9]),
    "mask": np.arange(178) % 2 == 0,
    "each: filters and None": [fh.IdFilter(IDS[:5]), None, fh.IdFilter([]), None],
    "each: arrays, of which two are one": [SHARED, IDS[::2], SHARED, IDS[:0]],
    "each: sets, ranges and lists": [{3, 6}, range(50), [9, 12, 15], frozenset()],
}
WRONG = {
    "a set with a bool": {2, True},
    "a list with a bool": [2, True],
    "beyond int64": [2**70],
    "ids and filters": [3, {4}],
    "too few filters": [[3], [6]],
    "a wrong filter": [[3], [6], [0.5], [9]],
    "a filter with a bool": [[3], [6], [9], [2, True]],
    "a short mask": [[3], np.ones(10, bool), [9], None],
}


@pytest.fixture
def indices(tmp_path):
    """An index in shards, and one with the same codes."""
    codes, one = near_ties(np.random.default_rng(0), len(IDS)), fh.HierIndex(LAYOUT)
    with new(tmp_path / "index") as index:
        for each in (index, one):
            each.add(codes, IDS)
        yield index, one


@pytest.mark.parametrize("form", FORMS)
def test_forms(indices, form):
    index, one = indices
    allow = FORMS[form]
    for keep in ({}, *({"keep": 0.3, "keep_mode": mode} for mode in MODES)):
        expected = one.search(QUERIES, 7, allow=allow, **keep)
        assert_same(index.search(QUERIES, 7, allow=allow, **keep), expected)
        found, work = index.search(QUERIES, 7, allow=allow, stats=True, **keep)
        assert_same(found, expected)
        assert len(work.plan) == len(QUERIES)
        assert_same(index.search(QUERIES, 7, allow=allow, partial=True, **keep).result, expected)
    expected = one.range_search(QUERIES, 12, allow=allow)
    assert_same(index.range_search(QUERIES, 12, allow=allow), expected)
    assert_same(index.range_search(QUERIES, 12, allow=allow, stats=True)[0], expected)
    assert_same([index.count_within(QUERIES, 12, allow=allow)], [np.diff(expected.offsets)])


@pytest.mark.parametrize("form", WRONG)
@pytest.mark.parametrize("method", ["search", "range_search", "count_within"])
def test_wrong_forms(indices, form, method):
    said = []
    for each in indices:
        with pytest.raises((TypeError, ValueError), match=r"^allow") as error:
            getattr(each, method)(QUERIES, 3, allow=WRONG[form])
        said.append((error.type, str(error.value)))
    assert said[0] == said[1]


def test_queries_with_one_filter_are_searched_together(indices, monkeypatch):
    index, _ = indices
    asked, ask = [], LocalFleet.ask

    def counted(fleet, method, *arguments, **options):
        asked.append(method)
        return ask(fleet, method, *arguments, **options)

    monkeypatch.setattr(LocalFleet, "ask", counted)
    index.search(QUERIES, 3, allow=[SHARED, None, SHARED, None])
    assert asked == ["search"] * 2
