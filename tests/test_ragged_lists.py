"""Lists of unequal lengths: the error names the argument, its value and what was expected, everywhere."""

import numpy as np
import pytest

import fasthash as fh

CODES = np.arange(16, dtype=np.uint8).reshape(8, 2)
RAGGED = [[1, 2], [3]]
EXPECTED = r"must be an array, or lists of one length, got "


def index(cls=fh.HierIndex):
    return cls.from_arrays(CODES)


def store(folder, keys=None):
    opened = fh.Store(folder / "codes.fhs", "w", n_bits=16)
    opened.add(CODES, keys)
    return opened


@pytest.mark.parametrize("cls", [fh.FlatIndex, fh.HierIndex])
@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("queries", lambda i: i.search(RAGGED, 1)),
        ("queries", lambda i: i.range_search(RAGGED, 1)),
        ("queries", lambda i: i.count_within(RAGGED, 1)),
        ("codes", lambda i: i.add(RAGGED)),
        ("ids", lambda i: i.add(CODES[:2], ids=RAGGED)),
        ("ids", lambda i: i.remove(RAGGED)),
        ("ids", lambda i: i.update(RAGGED, CODES[:2])),
        ("ids", lambda i: i.reconstruct(RAGGED)),
        ("codes", lambda i: type(i).from_arrays(RAGGED)),
        (r"chunks\[0\]", lambda i: i.add_chunks([RAGGED])),
    ],
)
def test_methods_of_an_index(cls, name, call):
    searched = index(cls)
    with pytest.raises(ValueError, match=rf"^{name} {EXPECTED}\[\[1, 2\], \[3\]\]$"):
        call(searched)
    assert len(searched) == 8


@pytest.mark.parametrize(
    ("allow", "place"),
    [([[1], 2, 3], 0), ([2, [1], 3], 1), ((1, {2}), 1), ([3, range(4)], 1), ([0, np.arange(3)], 1)],
)
def test_allow_holds_ids_or_filters(allow, place, tmp_path):
    queries = CODES[: len(allow)]
    with store(tmp_path) as opened:
        for searched in (index(), index(fh.FlatIndex), opened):
            for search in (searched.search, searched.range_search, searched.count_within):
                with pytest.raises(
                    ValueError, match=r"^allow must be ids, or a list with a filter for each query, got"
                ) as e:
                    search(queries, 1, allow=allow)
                assert f"{allow!r}, where allow[{place}] is a filter" in str(e.value)
    assert index().search(CODES[:2], 1, allow=[[1], [2]]).ids.tolist() == [[1], [2]]
    assert index().search(CODES[:2], 1, allow=[1, 2]).ids.tolist() == [[1], [1]]


def test_a_filter_for_one_query():
    with pytest.raises(ValueError, match=r"^allow\[1\] must be ids, .* got both: \[2, \[3\]\], where"):
        index().search(CODES[:2], 1, allow=[[1], [2, [3]]])
    with pytest.raises(ValueError, match=rf"^allowed {EXPECTED}\[\[1\], 2\]$"):
        fh.IdFilter([[1], 2])


@pytest.mark.parametrize("keys", [["a", ["b"]], [["a"], ["b", "c"]], [("a",), "b"]])
def test_keys_of_a_store(keys, tmp_path):
    with store(tmp_path, keys=[*"abcdefgh"]) as opened:
        for call in (lambda: opened.remove(keys), lambda: opened.update(keys, CODES[:2]), lambda: opened.ids(keys)):
            with pytest.raises(TypeError, match=r"^keys must be a sequence of keys, got one of sequences, such as"):
                call()
        with pytest.raises(TypeError, match=r"^keys must be a sequence of keys, got one of sequences"):
            opened.add(CODES[:2], keys)
        with pytest.raises(ValueError, match=f"^ids {EXPECTED}"):
            opened.remove(ids=RAGGED)
        assert len(opened) == 8


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("bits", lambda: fh.pack_bits([[1, 0], [1]])),
        ("z", lambda: fh.sign_codes([[0.5], [1.0, 2.0]])),
        ("codes", lambda: fh.unpack_bits(RAGGED)),
        ("codes", lambda: fh.near_duplicates(RAGGED, 1)),
        ("embeddings", lambda: fh.RescoringIndex(8).add([[1.0] * 8, [2.0]])),
        ("center", lambda: fh.RescoringIndex(8, center=[1.0, [2.0]])),
        ("ranges", lambda: fh.RescoringIndex(8, dtype="int8", ranges=[[1.0], [2.0, 3.0]])),
    ],
)
def test_functions(name, call):
    with pytest.raises(ValueError, match=f"^{name} {EXPECTED}"):
        call()


def test_labels():
    from fasthash._labels import check_labels

    with pytest.raises(ValueError, match=rf"^labels {EXPECTED}\[\[1\], \[2, 3\]\]$"):
        check_labels("labels", [[1], [2, 3]])
    assert check_labels("labels", [1, 2]).dtype == np.int64


def test_a_long_value_is_cut():
    with pytest.raises(ValueError, match=f"^ids {EXPECTED}") as error:
        index().remove([[1], *range(100_000)])
    assert len(str(error.value)) < 300
