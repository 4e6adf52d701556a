"""What people see: errors that name the argument and the line that helps, counts in words, public names."""

import collections
import io
import math
import pkgutil
import pty
import re

import numpy as np
import pytest

import fasthash as fh
from fasthash import _folder_kinds, _progress
from fasthash._shown import counted
from fasthash.dedup import find_duplicates
from fasthash.metrics import (
    histograms,
    mean_average_precision,
    mean_average_precision_of_outputs,
    precision_recall_curve,
)

INDEX = fh.FlatIndex.from_arrays(np.arange(24, dtype=np.uint8).reshape(3, 8))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: INDEX.save(io.BytesIO()), "path must be the name of a file, got <_io.BytesIO object at"),
        (lambda: INDEX.save(None), "path must be the name of a file, got None"),
        (lambda: INDEX.save(3), "path must be the name of a file, got 3"),  # not a file descriptor
        (lambda: fh.load(None), "path must be the name of a file, got None"),
        (lambda: fh.load(io.BytesIO(INDEX.to_bytes())), "path must be the name of a file, got <_io.BytesIO object at"),
        (lambda: fh.load(bytearray(INDEX.to_bytes())), "path must be the name of a file, got bytearray(b'"),
        (lambda: fh.peek(3.5), "path must be the name of a file, got 3.5"),
        (lambda: fh.verify([]), "path must be the name of a file, got []"),
        (lambda: fh.verify(["a.fh", "b.fh"]), "path must be the name of a file, got ['a.fh', 'b.fh']"),
        (lambda: fh.RescoringIndex.load(None), "folder must be a path, got None"),
        (lambda: fh.RescoringIndex(8).save(7), "folder must be a path, got 7"),
        (lambda: find_duplicates(".", pairs=3), "pairs must be a path, got 3"),
    ],
)
def test_a_path_is_named(call, message):
    with pytest.raises(TypeError, match=f"^{re.escape(message)}"):
        call()


@pytest.mark.parametrize("call", [fh.RescoringIndex(8).save, fh.RescoringIndex.load, fh.RescoringIndex.verify])
def test_folders_with_a_null_byte(call):
    with pytest.raises(ValueError, match=r"^folder must not contain a null byte, got 'a\\x00b'$"):
        call("a\0b")


def test_what_needs_no_file_is_said():
    for call in (lambda: INDEX.save(io.BytesIO()), lambda: fh.load(io.BytesIO())):
        with pytest.raises(TypeError, match=r"; to_bytes and from_bytes of an index need no file$"):
            call()
    big = fh.FlatIndex.from_arrays(np.zeros((50_000, 8), np.uint8))
    with pytest.raises(
        ValueError, match=r"path must not contain a null byte, .*; from_bytes of an index takes"
    ) as caught:
        fh.load(big.to_bytes())
    assert len(str(caught.value)) < 600  # not all of the file


def test_an_index_file_and_a_store_name_what_opens_them(tmp_path):
    index, store, shards = tmp_path / "codes.fh", tmp_path / "photos.fhs", tmp_path / "shards"
    INDEX.save(index)
    with fh.Store(store, "w", n_bits=64) as opened:
        opened.commit()
    shards.mkdir()
    (shards / "manifest").write_text('{"class": "ShardedIndex"')
    for options in ({}, {"mode": "w"}):
        with pytest.raises(FileNotFoundError, match=r"codes.fh' is an index file; fasthash.load opens it$"):
            fh.Store(index, **options)
    with pytest.raises(FileNotFoundError, match=r"missing.fhs' holds no store: it does not exist$"):
        fh.Store(tmp_path / "missing.fhs")
    for opens in (fh.load, fh.peek, fh.verify, lambda path: fh.load(path, mmap=True)):
        with pytest.raises(IsADirectoryError, match=r"photos.fhs is a store; fasthash.Store opens it$"):
            opens(store)
        with pytest.raises(IsADirectoryError, match=r"shards is an index in shards; .*\.ShardedIndex.open opens it$"):
            opens(str(shards))
        with pytest.raises(IsADirectoryError, match=r" is a folder, not an index file$"):
            opens(tmp_path)
        with pytest.raises(FileNotFoundError, match=r"missing.fh"):
            opens(tmp_path / "missing.fh")


def test_a_saved_folder_names_what_opens_it(tmp_path):
    fh.RescoringIndex(8).save(tmp_path / "vectors")
    for opens in (fh.load, fh.peek, fh.verify, fh.HierIndex.load):
        with pytest.raises(
            IsADirectoryError, match=r"s is a saved RescoringIndex; fasthash\.RescoringIndex\.load opens"
        ):
            opens(tmp_path / "vectors")
    (tmp_path / "other").mkdir()
    for card in ('{"class": "None of ours"}', '{"class": ["RescoringIndex"]}', "[]", "{", "\xff", "[" * 100_000):
        (tmp_path / "other" / "card.json").write_text(card, encoding="latin-1")
        with pytest.raises(IsADirectoryError, match=r"other is a folder, not an index file$"):
            fh.load(tmp_path / "other")


def test_openers_of_saved_folders_exist():
    pytest.importorskip("timm", reason="needs the extra train")
    for opener in _folder_kinds._OPENERS.values():
        assert callable(pkgutil.resolve_name(opener))


def test_paths_of_networks_are_named(tmp_path):
    pytest.importorskip("timm", reason="needs the extra train")
    from fasthash.encoder import HashEncoder
    from fasthash.evaluation import evaluate
    from fasthash.experiment import Experiment, read_config, run_training
    from fasthash.heads import HashHead

    calls = [
        ("folder", lambda value: HashEncoder.load(value)),
        ("folder", lambda value: HashHead(8, (8,)).save(value)),
        ("folder", lambda value: evaluate(value)),
        ("folder", lambda value: run_training(Experiment(), value)),
        ("path", lambda value: read_config(value)),
    ]
    for name, call in calls:
        for wrong in (3.5, ["a"], io.BytesIO()):
            with pytest.raises(TypeError, match=rf"^{name} must be a path, got {re.escape(repr(wrong)[:8])}"):
                call(wrong)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_features_that_are_no_numbers_are_named(value):
    torch = pytest.importorskip("torch", reason="needs the extra train")
    pytest.importorskip("timm", reason="needs the extra train")
    from torch.utils.data import TensorDataset

    from fasthash.heads import HashHead
    from fasthash.losses import HashNetLoss
    from fasthash.train import train

    features = torch.rand(12, 8)
    features[7] = value  # weights of both signs make NaN of infinities
    with pytest.raises(ValueError, match=f"^dataset must be finite, found {value} in number 7$"):
        train(HashHead(8, (8,)), HashNetLoss(), TensorDataset(features, torch.arange(12) % 3), epochs=1, progress=False)
    with pytest.raises(ValueError, match=r"^features must be finite, found .* in number 7$"):
        HashHead(8, (8,)).encode(features, batch_size=5)


def test_bytes_of_faiss():
    faiss = pytest.importorskip("faiss", reason="needs the extra faiss")
    theirs = faiss.IndexBinaryFlat(64)
    theirs.add(np.arange(24, dtype=np.uint8).reshape(3, 8))
    data = faiss.serialize_index_binary(theirs)
    line = "faiss.deserialize_index_binary(np.frombuffer(source, np.uint8))"
    for source in (data.tobytes(), bytearray(data.tobytes()), data):
        with pytest.raises(TypeError, match=f"^source must be a binary index.*; {re.escape(line)} makes it one$"):
            fh.from_faiss(source)
        taken = fh.from_faiss(eval(line, {"faiss": faiss, "np": np, "source": source}))
        np.testing.assert_array_equal(taken.to_arrays()[0], np.arange(24).reshape(3, 8))
    with pytest.raises(FileNotFoundError, match="no_such_file"):
        fh.from_faiss(b"no_such_file")


def test_counts_in_words():
    assert [counted(n, "group") for n in (0, 1, 2, 1234)] == ["0 groups", "1 group", "2 groups", "1,234 groups"]
    assert counted(1, "query", "queries") == "1 query"
    assert counted(2, "query", "queries") == "2 queries"
    one = np.zeros((1, 8), np.uint8)
    assert repr(fh.FlatIndex.from_arrays(one)) == "FlatIndex(n_bits=64) with 1 code"
    assert repr(fh.HierIndex.from_arrays(one)) == "HierIndex(level_bits=(64,), memory='default') with 1 code"
    assert repr(fh.IdFilter([4])) == "IdFilter of 1 id"


def test_public_names():
    assert dir(fh) == sorted(fh.__all__)
    modules = {name for name in dir(fh) if type(getattr(fh, name)).__name__ == "module"}
    assert modules == set()


def test_results_of_a_radius_by_query():
    codes = np.random.default_rng(0).integers(0, 8, (400, 2), np.uint8)
    index = fh.FlatIndex.from_arrays(codes)
    queries = np.concatenate([codes[:20], [[255, 255]]]).astype(np.uint8)  # the last finds nothing
    result = index.range_search(queries, 2)
    assert result.n_queries == 21
    rows = list(result.per_query())
    assert len(rows) == 21
    assert [len(ids) for _, ids in rows] == index.count_within(queries, 2).tolist()
    for query, (distances, ids) in zip(queries, rows, strict=True):
        np.testing.assert_array_equal(np.unpackbits(codes[ids] ^ query, axis=1).sum(axis=1), distances)
    assert np.shares_memory(rows[0][1], result.ids)
    assert list(index.range_search(queries[:0], 2).per_query()) == []


def test_a_file_of_codes_is_no_index_and_the_call_that_makes_one_is_named(tmp_path):
    np.save(tmp_path / "c.npy", np.zeros((40, 8), np.uint8))
    for opens in (fh.load, fh.peek, fh.HierIndex.load):
        with pytest.raises(fh.FormatError, match=r"c.npy: file does not begin with 'FASTHASH'; from_arrays of "):
            opens(tmp_path / "c.npy")


def test_a_terminal_without_columns_gets_a_bar_of_80(monkeypatch):
    _, terminal = pty.openpty()  # whose size is 0 x 0
    with open(terminal, "w") as stream:
        monkeypatch.setattr("sys.stderr", stream)
        assert _progress.width() == 80
    monkeypatch.setattr("sys.stderr", io.StringIO())
    assert _progress.width() is None


HUGE = 10**5000  # of more digits than Python writes
CODES = np.arange(24, dtype=np.uint8).reshape(3, 8)
DISTANCES, RELEVANCE = np.array([[0, 1, 1]]), np.array([[True, False, True]])


class Bare:
    """An object that is no sequence."""


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fh.FlatIndex(HUGE), ValueError, r"^n_bits must be at most 4096, got an integer of 16,610 bits$"),
        (lambda: fh.FlatIndex.from_arrays(CODES).search(CODES, HUGE), ValueError, "^k must be at most .* 16,610 bits$"),
        (lambda: fh.FlatIndex.from_arrays(CODES).search(CODES, -HUGE), ValueError, "^k must be at least 1, got an int"),
        (lambda: fh.FlatIndex.from_arrays(CODES).remove([HUGE]), ValueError, "^ids must fit int64, got an integer of"),
        (
            lambda: fh.codes_from_ints([HUGE], 64),
            ValueError,
            r"^values\[0\]: expected a whole number of 64 bits, got an",
        ),
        (lambda: fh.codes_from_ints([[HUGE]], 64), TypeError, r"^values\[0\]: expected an integer, got a list with"),
        (lambda: fh.HierIndex(64, memory=HUGE), ValueError, "^memory must be one of .*, got an integer of 16,610 bits"),
        (
            lambda: fh.HierIndex([HUGE, 8]),
            ValueError,
            "^level_bits must be at most 4096, got an integer of 16,610 bits",
        ),
        (lambda: fh.FlatIndex(64).add_chunks(np.array(3)), TypeError, "^chunks must be an iterable of arrays, got nda"),
        (lambda: fh.codes_from_ints(np.array(5, object), 8), ValueError, r"^values must have one axis, got shape \(\)"),
        (lambda: fh.perceptual_codes(None), TypeError, "^hashes must be a sequence of hashes, got None$"),
        (lambda: fh.perceptual_codes(3), TypeError, "^hashes must be a sequence of hashes, got 3$"),
        (lambda: fh.perceptual_codes(np.array("ff")), TypeError, "^hashes must be a sequence of hashes, got array"),
        (
            lambda: fh.perceptual_codes(np.array(5, np.uint64)),
            TypeError,
            "^hashes must be a sequence of hashes, got arr",
        ),
        (lambda: fh.segment_codes(None), TypeError, "^hashes must be a sequence of hashes, got None$"),
        (lambda: fh.segment_codes(Bare()), TypeError, "^hashes must be a sequence of hashes, got <"),
        (
            lambda: fh.HierIndex.from_arrays(CODES).search(CODES, keep_mode=np.array(["radius", "radius"])),
            ValueError,
            "^keep_mode must be one of 'node_ratio', .*, got array",
        ),
        (
            lambda: fh.KeyedIndex(fh.FlatIndex(64)).search(CODES, keep_mode=np.array(["radius", "radius"])),
            ValueError,
            "^keep_mode must be left out: a FlatIndex does not take it, got array",
        ),
        (
            lambda: mean_average_precision_of_outputs(
                np.ones((1, 8)), np.ones((1, 8)), [0], [0], empty=np.array(["zero", "drop"])
            ),
            ValueError,
            "^empty must be one of 'zero', 'drop', got array",
        ),
        (
            lambda: precision_recall_curve(DISTANCES, RELEVANCE, 2**62),
            ValueError,
            "^n_bits must be at most 4096, got 4611686018427387904$",
        ),
        (
            lambda: mean_average_precision(np.ma.array(DISTANCES, mask=[[1, 0, 0]]), RELEVANCE),
            TypeError,
            "^distances must be an array without a mask",
        ),
        (
            lambda: mean_average_precision(DISTANCES, np.ma.array(RELEVANCE, mask=[[1, 0, 0]])),
            TypeError,
            "^relevance must be an array without a mask",
        ),
        (
            lambda: mean_average_precision([[0], [1, 2]], RELEVANCE),
            ValueError,
            "^distances must be an array, or lists of one length",
        ),
        (
            lambda: fh.FlatIndex.from_arrays(CODES, collections.deque([True, 2, 3])),
            TypeError,
            r"^ids must be integers, got a deque with a bool: deque\(\[True, 2, 3\]\)$",
        ),
        (
            lambda: fh.FlatIndex.from_arrays(CODES).remove(collections.UserList([True, 2])),
            TypeError,
            "^ids must be integers, got a UserList with a bool",
        ),
        (
            lambda: fh.KeyedIndex(fh.FlatIndex(64)).memory,
            AttributeError,
            "^memory is that of a HierIndex, but this KeyedIndex has a FlatIndex$",
        ),
    ],
)
def test_odd_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_values_that_are_beyond_int64_but_mean_something():
    found = histograms(CODES, CODES, np.arange(3), np.arange(3))
    assert found.mean_average_precision(at=2**63) == found.mean_average_precision()
    assert 10**5000 not in fh.FlatIndex.from_arrays(CODES)
    assert not hasattr(fh.KeyedIndex(fh.FlatIndex(64)), "memory")
    assert fh.KeyedIndex(fh.HierIndex(64)).memory == "default"


def test_words_in_either_byte_order_are_the_same_hashes():
    words = np.arange(8, dtype=np.uint64).reshape(4, 2) + np.uint64(2**60)
    for dtype in (">u8", "<u8", ">i8"):
        assert fh.perceptual_codes(words.astype(dtype)).tolist() == fh.perceptual_codes(words).tolist()
        assert fh.perceptual_codes(words[0].astype(dtype)).tolist() == fh.perceptual_codes(words[0]).tolist()


@pytest.mark.parametrize("name", ["queries", "gallery", "query_labels", "gallery_labels"])
def test_tensors_that_numpy_cannot_read_are_named(name):
    torch = pytest.importorskip("torch")
    codes, labels = torch.from_numpy(CODES), torch.arange(3)
    arguments = {"queries": codes, "gallery": codes, "query_labels": labels, "gallery_labels": labels}
    value = arguments[name]
    for odd in (value.to(torch.bfloat16), value.to_sparse(), value.to("meta")):
        given = arguments | {name: odd}
        if name in ("queries", "gallery") and odd.device != value.device:
            given |= {"queries": odd, "gallery": odd}
        with pytest.raises(TypeError, match=rf"^({name}|gallery) must be a tensor that numpy can read: "):
            histograms(**given)


def test_tensors_that_require_a_gradient_are_named():
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match=r"^distances must be an array that numpy can read"):
        mean_average_precision(torch.ones((1, 3), requires_grad=True), RELEVANCE)
