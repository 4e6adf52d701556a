"""A keyed index answers what a dict beside a `FlatIndex` answers, and takes the calls that a store takes."""

import copy
import pickle
import threading
import uuid
from pathlib import PurePosixPath

import numpy as np
import pytest

import fasthash as fh
from stores import near_ties, same_arrays

N_BYTES = 4


def key_of(kind, number):
    """The key of a number, of one kind."""
    makers = {
        "str": lambda: f"2024/{number}.jpg" if number % 5 else f"lone \udce9 {number}",
        "bytes": lambda: number.to_bytes(number % 3 + 3, "big"),
        "int64": lambda: (number - 500) * 2**50,
        "uint64": lambda: number,  # which fits int64, too
        "uuid": lambda: uuid.UUID(int=number << 64 | number),
    }
    return makers[kind]()


class Pair:
    """A keyed index, and the slow path: a dict from key to id beside a `FlatIndex`, as people keep it."""

    def __init__(self, index, kind, rng):
        self.keyed, self.kind, self.rng = fh.KeyedIndex(index), kind, rng
        self.index, self.ids = fh.FlatIndex(8 * N_BYTES, metric=index.metric), {}

    def keys_of(self, ids):
        names = {id: key for key, id in self.ids.items()}
        return [names.get(id) for id in np.ravel(ids).tolist()]

    def some(self, n):
        """Keys of n entries, and their ids."""
        held = list(self.ids)
        keys = [held[i] for i in self.rng.choice(len(held), min(n, len(held)), replace=False)]
        return keys, np.array([self.ids[key] for key in keys], np.int64)

    def add(self, n, with_ids):
        keys = [key_of(self.kind, i) for i in self.rng.choice(600, n, replace=False).tolist()]
        keys = [key for key in keys if key not in self.ids]  # so few that keys and ids come back
        free = np.setdiff1d(np.arange(-50, 400), [-1, *self.index.ids().tolist()])
        ids = self.rng.permutation(free)[: len(keys)] if with_ids else None
        codes = near_ties(self.rng, len(keys))
        given = self.keyed.add(codes, keys=np.array(keys, np.uint64) if self.kind == "uint64" else keys, ids=ids)
        assert ids is None or given.tolist() == ids.tolist()
        self.index.add(codes, given)
        self.ids |= dict(zip(keys, given.tolist(), strict=True))

    def update(self, n, with_ids):
        keys, ids = self.some(n)
        codes = near_ties(self.rng, len(keys))
        self.keyed.update(None if with_ids else keys, codes, ids=ids if with_ids else None)
        self.index.update(ids, codes)

    def remove(self, n, with_ids):
        keys, ids = self.some(n)
        self.keyed.remove(None if with_ids else keys, ids=ids if with_ids else None)
        self.index.remove(ids)
        for key in keys:
            del self.ids[key]
            assert key not in self.keyed

    def refuse(self, n, with_ids):
        keys, _ = self.some(1)
        unknown, codes = key_of(self.kind, 999), near_ties(self.rng, 2)
        if keys:
            with pytest.raises(ValueError, match="keys must be new to the index, but it holds"):
                self.keyed.add(codes, keys=[unknown, *keys])
            with pytest.raises(ValueError, match="keys must be in the index, but it does not hold"):
                self.keyed.remove([*keys, unknown])
            with pytest.raises(ValueError, match="keys must be in the index, but it does not hold"):
                self.keyed.update([*keys, unknown], codes)

    def assert_same(self):
        """Every search answers what the slow path answers."""
        keyed, queries, held = self.keyed, near_ties(self.rng, 4), self.index.ids()
        for allow in (None, fh.IdFilter(held[::3]), keyed.ids(self.some(20)[0])):
            for k in (1, 7, len(held) + 2):
                found = keyed.search(queries, k, allow=allow)
                same_arrays(found, self.index.search(queries, k, allow=allow))
                assert found.keys.ravel().tolist() == self.keys_of(found.ids)
                assert found.keys.shape == found.ids.shape
            radius = 9 if keyed.metric == "hamming" else 0.5
            found = keyed.range_search(queries, radius, allow=allow)
            same_arrays(found, self.index.range_search(queries, radius, allow=allow))
            assert found.keys.tolist() == self.keys_of(found.ids)
            counts = keyed.count_within(queries, radius, allow=allow)
            assert counts.tolist() == self.index.count_within(queries, radius, allow=allow).tolist()
        assert len(keyed) == keyed.ntotal == len(self.ids)
        assert keyed.keys(held).tolist() == self.keys_of(held)
        assert keyed.ids(list(self.ids)).tolist() == list(self.ids.values())
        assert (keyed.reconstruct(held) == self.index.reconstruct(held)).all()


FORMS = [  # in which the index goes on, one after the other
    lambda keyed, folder: keyed.copy(),
    lambda keyed, folder: pickle.loads(pickle.dumps(keyed)),
    lambda keyed, folder: keyed.to_store(folder) or fh.Store(folder).to_keyed(),
    lambda keyed, folder: keyed.compact() or keyed,
]


@pytest.mark.parametrize("index", ["flat", "hier", "two levels", "jaccard", "flat jaccard"])
@pytest.mark.parametrize("kind", ["str", "bytes", "int64", "uint64", "uuid"])
def test_any_history_answers_what_a_dict_and_a_flat_index_answer(kind, index, tmp_path):
    made = {
        "flat": lambda: fh.FlatIndex(32),
        "hier": lambda: fh.HierIndex(32, memory="compact"),
        "two levels": lambda: fh.HierIndex((8, 24)),
        "jaccard": lambda: fh.HierIndex(32, metric="jaccard"),
        "flat jaccard": lambda: fh.FlatIndex(32, metric="jaccard"),
    }[index]()
    rng = np.random.default_rng([len(kind), len(index)])
    pair = Pair(made, kind, rng)
    for step in range(300):
        change = rng.choice([pair.add, pair.add, pair.add, pair.update, pair.remove, pair.refuse])
        change(int(rng.choice([0, 1, 3, 20])), bool(rng.integers(2)))
        if step % 75 == 74:
            pair.assert_same()
            pair.keyed = FORMS[step // 75](pair.keyed, tmp_path / "s")
            pair.assert_same()
            assert pair.keyed._state.kind_name == kind


def test_a_filled_index_gets_keys():
    codes = np.arange(8, dtype=np.uint8).reshape(4, 2)
    index = fh.FlatIndex.from_arrays(codes, ids=[7, 3, 5, 1])
    keyed = fh.KeyedIndex(index, keys=["one", "three", "five", "seven"])
    assert keyed.search(codes, 1).keys[:, 0].tolist() == ["seven", "three", "five", "one"]
    assert keyed.add(codes[:1], keys=["next"]).tolist() == [8]
    assert (len(keyed), len(index), keyed.n_bits, keyed.level_bits) == (5, 4, 16, (16,))  # it works on a copy
    index.clear()
    assert keyed.ids(["seven"]).tolist() == [7]
    assert type(keyed.to_index()) is fh.FlatIndex
    assert bool(fh.KeyedIndex(fh.HierIndex(16)))


@pytest.mark.parametrize(
    ("keys", "error", "message"),
    [
        (None, ValueError, "keys must be given: every entry of this index has one"),
        (["a"], ValueError, "keys must be 2, one for each code, got 1"),
        (["a", "a"], ValueError, "keys must be distinct, got 'a' twice"),
        (["a", 1], TypeError, "keys must be of one kind"),
        ("ab", TypeError, "keys must be a sequence of keys, got 'ab'; a single key goes into a list"),
    ],
)
def test_keys_of_a_filled_index_are_checked(keys, error, message, tmp_path):
    index = fh.FlatIndex.from_arrays(np.zeros((2, 2), np.uint8))
    with pytest.raises(error, match=message):
        fh.KeyedIndex(index, keys)
    if keys is not None:
        with pytest.raises(error, match=message):
            fh.Store.from_index(index, tmp_path / "s", keys=keys)
        assert not (tmp_path / "s").exists()


# ---- instead of a store ----


def one(*values):
    return np.array([values], np.uint8)


@pytest.fixture(params=["store", "flat", "hier"])
def both(request, tmp_path):
    """A store or a keyed index of ten entries, and what errors call it."""
    if request.param == "store":
        made = fh.Store(tmp_path / "s", "w", n_bits=16)
    else:
        made = fh.KeyedIndex(fh.FlatIndex(16) if request.param == "flat" else fh.HierIndex(16))
    made.add(np.arange(20, dtype=np.uint8).reshape(10, 2), keys=[f"{i}.jpg" for i in range(10)])
    return made, "store" if request.param == "store" else "index"


WRONG = {
    "keys must be new to the {}, but it holds '3.jpg' already": lambda s: s.add(one(1, 1), keys=["3.jpg"]),
    "keys must be distinct, got 'a' twice": lambda s: s.add(np.zeros((2, 2), np.uint8), keys=["a", "a"]),
    "keys must be 2, one for each code, got 1": lambda s: s.add(np.zeros((2, 2), np.uint8), keys=["a"]),
    "keys must be given: ": lambda s: s.add(one(1, 1)),
    "keys must be of the kind str, as all keys of this {}, got 5": lambda s: s.add(one(1, 1), keys=[5]),
    "got PurePosixPath('a'); str(path) makes a key of a path": lambda s: s.add(one(1, 1), keys=[PurePosixPath("a")]),
    "keys must be of the kind str, as all keys of this {}, got b'a'": lambda s: s.ids([b"a"]),
    "keys must be of the kind str, as all keys of this {}, got 1": lambda s: 1 in s,
    "keys must be in the {}, but it does not hold 'x'": lambda s: s.remove(["x"]),
    "keys must be in the {}, but it does not hold 'y'": lambda s: s.update(["1.jpg", "y"], np.zeros((2, 2), np.uint8)),
    "keys must be in the {}, but it does not hold 'z'": lambda s: s.ids(["1.jpg", "z"]),
    "keys must be distinct, got '1.jpg' twice": lambda s: s.remove(["1.jpg", "1.jpg"]),
    "ids must be in the {}, but it does not hold 99": lambda s: s.remove(ids=[1, 99]),
    "ids must be in the {}, but it does not hold 12": lambda s: s.keys(np.array([[1, 12]])),
    "ids must be in the {}, but it does not hold -1": lambda s: s.keys([-1]),
    "ids must be distinct, got 1 twice": lambda s: s.remove(ids=[1, 1]),
    "ids must be new to the {}, but it holds 4 already": lambda s: s.add(one(1, 1), keys=["a"], ids=[4]),
    "ids must be distinct, got 50 twice": lambda s: s.add(np.zeros((2, 2), np.uint8), keys=["a", "b"], ids=[50, 50]),
    "ids must not hold -1": lambda s: s.add(one(1, 1), keys=["a"], ids=[-1]),
    "give either keys or ids": lambda s: s.remove(),
    "give either keys or ids ": lambda s: s.update(["1.jpg"], one(1, 1), ids=[1]),
    "codes must be given": lambda s: s.update(["1.jpg"]),
    "codes must be 1, one for each key or id, got 2": lambda s: s.update(["1.jpg"], np.zeros((2, 2), np.uint8)),
    "codes must have shape": lambda s: s.add(one(1, 2, 3), keys=["a"]),
    "keys must have at most 65,535 bytes": lambda s: s.add(one(1, 1), keys=["x" * 65_536]),
    "keys must be a sequence of keys, got 'abc'": lambda s: s.remove("abc"),
    "keys must be a sequence of keys, got {{'a'}}": lambda s: s.add(one(1, 1), keys={"a"}),
    "keys must be a sequence of keys, got bytearray(b'a')": lambda s: s.add(one(1, 1), keys=bytearray(b"a")),
    "keys must be a sequence of keys, got frozenset": lambda s: s.ids(frozenset({"1.jpg"})),
    "keys must be of the kind str, as all keys of this {}, got {{}}": lambda s: s.remove([{}]),
    "ids must be integers, got a list with a bool: [1, True]": lambda s: s.keys([1, True]),
    "k must be at least 1": lambda s: s.search(one(1, 1), k=0),
    "ids must be an integer array": lambda s: s.keys([1.0]),
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_calls_raise_the_errors_of_a_store_and_change_nothing(both, message):
    made, noun = both
    before = made.to_index().to_bytes()
    with pytest.raises((TypeError, ValueError)) as error:
        WRONG[message](made)
    assert message.format(noun).strip() in str(error.value)
    assert made.to_index().to_bytes() == before
    assert made.keys(np.arange(10)).tolist() == [f"{i}.jpg" for i in range(10)]
    assert "a" not in made
    made.add(one(1, 1), keys=["a"])  # counts on from the largest id
    assert made.ids(["a"]).tolist() == [10]


def test_nothing_added_after_the_largest_id_has_integer_ids():
    keyed = fh.KeyedIndex(fh.FlatIndex(8))
    keyed.add(np.zeros((1, 1), np.uint8), keys=["a"], ids=[2**63 - 1])
    assert keyed.add(np.zeros((0, 1), np.uint8), keys=[]).dtype == np.int64


def test_calls_are_those_of_a_store(both):
    made, _ = both
    result = made.search(one(0, 1), k=2)
    made.remove(["0.jpg", "1.jpg"])
    made.add(one(0, 1), keys=["new.jpg"], ids=[0])
    made.update(["9.jpg"], one(0, 3))
    assert made.search(one(0, 1), k=2).keys.tolist() == [["new.jpg", "9.jpg"]]
    assert result.keys.tolist() == [["0.jpg", "1.jpg"]]  # those of its moment
    assert "0.jpg" not in made
    made.add(one(7, 7), keys=["0.jpg"])
    assert made.ids(["0.jpg", "new.jpg"]).tolist() == [10, 0]
    assert made.search(one(0, 1), k=2, allow=made.ids(["4.jpg"])).keys.tolist() == [["4.jpg", None]]
    found = made.range_search(one(0, 1), 1)
    assert (found.offsets.tolist(), found.keys.tolist()) == ([0, 2], ["new.jpg", "9.jpg"])
    result, work = made.search(one(0, 1), k=1, stats=True)
    assert result.keys.tolist() == [["new.jpg"]]
    assert result.has_keys
    assert len(work.plan) == 1
    assert isinstance(result, fh.StoreSearchResult)
    assert isinstance(found, fh.StoreRangeResult)
    assert pickle.loads(pickle.dumps(found)).keys.tolist() == found.keys.tolist()


@pytest.mark.parametrize("key", ["a", b"a", 0, 2**64 - 1, uuid.UUID(int=1)])
def test_an_empty_index_holds_no_key(key):
    keyed = fh.KeyedIndex(fh.HierIndex(16))
    assert key not in keyed
    assert keyed.search(one(1, 1), k=2).keys.tolist() == [[None, None]]
    assert keyed.keys(np.empty((0, 2), int)).shape == (0, 2)
    assert keyed.add(np.empty((0, 2), np.uint8)).tolist() == []
    assert keyed.add(np.empty((0, 2), np.uint8), keys=[]).tolist() == []
    with pytest.raises(TypeError, match=r"keys must be str, bytes, .*, got 1\.5"):
        1.5 in keyed  # noqa: B015
    with pytest.raises(ValueError, match="keys must be in the index, but it does not hold"):
        keyed.remove([key])
    keyed.add(one(1, 1), keys=[key])
    assert key in keyed
    keyed.clear()
    assert key not in keyed
    assert len(keyed) == 0
    keyed.add(one(1, 1), keys=[5] if isinstance(key, str) else ["b"])  # the kind is decided anew
    assert keyed.search(one(1, 1), k=1).ids.tolist() == [[0]]


def test_what_an_index_cannot_do():
    flat, hier = (fh.KeyedIndex(index) for index in (fh.FlatIndex(16), fh.HierIndex((8, 8))))
    for keyed in (flat, hier):
        keyed.add(np.arange(20, dtype=np.uint8).reshape(10, 2), keys=range(10))
    for name, value in {"keep": 0.5, "keep_mode": "radius", "max_compared": 0.5}.items():
        with pytest.raises(ValueError, match=f"{name} must be left out: a FlatIndex does not take it, got"):
            flat.search(one(0, 1), 1, **{name: value})
    same_arrays(hier.search(one(0, 1), 3, keep=0.3), hier.to_index().search(one(0, 1), 3, keep=0.3))
    assert hier.memory == "default"
    with pytest.raises(AttributeError, match="memory"):
        _ = flat.memory
    with pytest.raises(TypeError, match=r"save writes index files, which hold no keys; to_store\(path\) writes"):
        flat.save("a.fh")
    for wrong in (flat, None, 16, "a.fh"):
        with pytest.raises(TypeError, match="index must be a FlatIndex or HierIndex, or a copy of one on a GPU, got"):
            fh.KeyedIndex(wrong)


# ---- copies, files, threads ----


def test_copies_are_independent():
    keyed = fh.KeyedIndex(fh.HierIndex(16))
    keyed.add(np.arange(20, dtype=np.uint8).reshape(10, 2), keys=[f"{i}.jpg" for i in range(10)])
    keyed.remove(["9.jpg"])
    for made in (keyed.copy(), copy.copy(keyed), copy.deepcopy(keyed), pickle.loads(pickle.dumps(keyed))):
        made.add(one(1, 1), keys=["a"], ids=[20])
        keyed.add(one(1, 1), keys=["b"], ids=[20])
        assert ("a" in made, "b" in made, "a" in keyed) == (True, False, False)
        assert (made.keys([20])[0], keyed.keys([20])[0]) == ("a", "b")
        assert repr(made) == f"KeyedIndex({made.to_index()!r})"
        keyed.remove(["b"])
        made.remove(["a", "0.jpg"])
        assert "0.jpg" in keyed
        made.add(one(1, 1), keys=["0.jpg"])
        assert (keyed.ids(["0.jpg"]), made.ids(["0.jpg"])) == ([0], [21])
    assert keyed.to("cpu") is keyed


def test_the_kind_of_keys_outlives_the_last_entry(tmp_path):
    keyed = fh.KeyedIndex(fh.FlatIndex(16))
    keyed.add(one(1, 1), keys=np.array([1], np.uint64))
    keyed.remove([1])
    with pytest.raises(TypeError, match="keys must be of the kind uint64"):
        pickle.loads(pickle.dumps(keyed)).add(one(1, 1), keys=["a"])
    keyed.to_store(tmp_path / "s")
    assert len(fh.Store(tmp_path / "s").to_keyed()) == 0
    with pytest.raises(FileExistsError, match="holds a store already"):
        keyed.to_store(tmp_path / "s")


def test_a_store_without_keys_is_no_keyed_index(tmp_path):
    with fh.Store(tmp_path / "s", "w", n_bits=16) as store:
        assert len(store.to_keyed()) == 0  # without entries it may have keys
        store.add(one(1, 1))
        with pytest.raises(ValueError, match="the entries of this one have ids alone"):
            store.to_keyed()


def test_the_keys_of_removed_entries_do_not_pile_up():
    keyed = fh.KeyedIndex(fh.HierIndex(16))
    keyed.add(np.zeros((100, 2), np.uint8), keys=range(100))
    result = keyed.search(one(0, 0), k=100)
    for first in range(100, 20_000, 100):
        keyed.add(np.zeros((100, 2), np.uint8), keys=range(first, first + 100))
        keyed.remove(range(first - 100, first))
    assert len(keyed._state.map) <= 1_300
    keyed.compact()
    assert (len(keyed._state.map), len(keyed._state.map.ids)) == (100, 100)
    assert keyed.ids(range(19_900, 20_000)).tolist() == list(range(19_900, 20_000))
    assert result.keys.tolist() == [list(range(100))]


def test_threads_see_whole_changes():
    """Each state holds one generation of eight keys, or two; a search, a copy and a look-up see one state."""
    keyed = fh.KeyedIndex(fh.HierIndex(16))
    keyed.add(one(255, 255), keys=["same"], ids=[-5])
    keyed.add(np.zeros((8, 2), np.uint8), keys=[f"0/{i}" for i in range(8)])
    errors, done = [], threading.Event()

    def look():
        try:
            while not done.is_set():
                result = keyed.range_search(one(0, 0), 0)
                generations = [key.split("/")[0] for key in result.keys.tolist()]
                assert (len(generations), len(set(generations))) in ((8, 1), (16, 2))
                copied = keyed.copy()
                ids = copied.to_index().ids()
                assert copied.ids(copied.keys(ids).tolist()).tolist() == ids.tolist()
                assert "same" in keyed
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for step in range(1, 200):
        ids = np.arange(8) + 8 * (step % 2) if step % 3 else None  # ids come back
        keyed.add(np.zeros((8, 2), np.uint8), keys=[f"{step}/{i}" for i in range(8)], ids=ids)
        keyed.remove([f"{step - 1}/{i}" for i in range(8)])
        keyed.update(["same"], one(255, step % 256))
    done.set()
    for thread in threads:
        thread.join()
    assert not errors, errors[0]
