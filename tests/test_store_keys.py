"""The keys of a store: every kind of them, and whose they are after updates, removals and commits."""

import pickle
import uuid

import numpy as np
import pytest

import fasthash as fh
from fasthash.store.manifest import read_manifest
from stores import one, small


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "photos.fhs"


KEYS = {
    "str": ["a", "", "caf\u00e9.jpg", "Straße/\U0001f600.png", "lone \udce9", "x" * 65_535],
    "bytes": [b"", b"\0", b"a", b"\xff" * 300],
    "int64": [0, -1, 2**63 - 1, -(2**63), 7],
    "uint64": np.array([0, 2**63, 2**64 - 1], np.uint64),
    "uuid": [uuid.UUID(int=0), uuid.UUID(int=2**128 - 1), uuid.UUID("12345678123456781234567812345678")],
}


@pytest.mark.parametrize("kind", KEYS)
def test_keys_of_every_kind(folder, kind):
    keys = KEYS[kind]
    as_given = keys.tolist() if isinstance(keys, np.ndarray) else keys
    with fh.Store(folder, "w", n_bits=16) as store:
        codes = np.arange(2 * len(keys), dtype=np.uint8).reshape(-1, 2)
        store.add(codes, keys=keys)
        for _ in range(2):  # as a draft, then committed
            assert store.search(codes, k=1).keys[:, 0].tolist() == as_given
            assert store.ids(keys).tolist() == list(range(len(keys)))
            assert all(key in store for key in as_given)
            store.commit()
    store = fh.Store(folder)
    assert store.info()["keys"] == kind
    assert store.keys(np.arange(len(keys))).tolist() == as_given
    result = pickle.loads(pickle.dumps(store.search(codes, k=len(keys) + 1)))
    assert result.keys[:, 0].tolist() == as_given
    assert result.keys[:, -1].tolist() == [None] * len(keys)
    assert store.range_search(codes[:1], 0).keys.tolist() == as_given[:1]
    with fh.Store(folder, "w") as writer, pytest.raises(TypeError, match=f"keys must be of the kind {kind}"):
        writer.add(codes[:1], keys=[1.5])


def test_keys_of_an_array_of_bytes_lose_no_zeros():
    """Arrays of the dtype S fill shorter bytes up with zeros: of text they are no part, of digests nobody can tell."""
    index = fh.KeyedIndex(fh.FlatIndex(16))
    codes = np.arange(4, dtype=np.uint8).reshape(2, 2)
    keys = np.array([b"a\1\0", b"cde"])
    said = (
        r"^keys must be a list where bytes that are no text end in zeros, got an array of dtype \|S3; "
        r"keys.tolist\(\) drops the zeros, \[row.tobytes\(\) for row in keys\[:, None\]\] keeps them$"
    )
    for call in (lambda: index.add(codes, keys), lambda: index.ids(keys), lambda: index.remove(keys)):
        with pytest.raises(ValueError, match=said):
            call()
    index.add(codes, [row.tobytes() for row in keys[:, None]])
    assert index.keys([0, 1]).tolist() == [b"a\1\0", b"cde"]
    index.add(codes, np.array([b"xyz", b"z\0z"]))
    assert index.ids(np.array([b"z\0z", b"xyz"])).tolist() == [3, 2]
    index.add(codes, np.array(["ä".encode(), b"long key"]))
    assert index.keys([4, 5]).tolist() == ["ä".encode(), b"long key"]


def test_keys_with_one_checksum_are_told_apart(folder):
    # CRC-32 of zlib: both are 0x4ddb0c25.
    pair = ["plumless", "buckeroo"]
    more = [f"{name}{i}" for i in range(50) for name in pair]  # equal, since the rest is
    with fh.Store(folder, "w", n_bits=16) as store:
        codes = np.arange(2 * len(more), dtype=np.uint8).reshape(-1, 2)
        store.add(codes, keys=more)
        store.commit()
        assert store.ids(more).tolist() == list(range(100))
        assert "plumless50" not in store
        store.add(codes[:1], keys=["plumless50"])
        store.commit()
        store.compact()
        assert store.ids(["plumless50", "buckeroo49"]).tolist() == [100, 99]


def test_a_file_of_keys_takes_twelve_bytes_a_key_beside_their_own(folder):
    keys = [f"holiday/2024/{i:07d}.jpg" for i in range(20_000)]
    with fh.Store(folder, "w", n_bits=16) as store:
        store.add(np.zeros((len(keys), 2), np.uint8), keys=keys)
        store.commit()
    size = read_manifest(folder).segments[0].keys.n_bytes
    assert size <= sum(map(len, keys)) + 12 * len(keys) + 512


def test_results_keep_the_keys_of_their_moment(folder):
    with small(folder) as store:
        reader = fh.Store(folder)
        result = reader.search(np.array([[0, 1]], np.uint8), k=2)
        draft = store.search(np.array([[0, 1]], np.uint8), k=1)
        store.remove(["0.jpg", "1.jpg"])
        store.add(np.array([[0, 1]], np.uint8), keys=["new.jpg"], ids=np.array([0]))
        store.commit()
        store.compact()
        assert reader.refresh()
        assert reader.search(np.array([[0, 1]], np.uint8), k=1).keys.tolist() == [["new.jpg"]]
        assert result.keys.tolist() == [["0.jpg", "1.jpg"]]
        assert draft.keys.tolist() == [["0.jpg"]]


def test_a_key_may_come_back(folder):
    with small(folder) as store:
        for _ in range(3):
            store.remove(["3.jpg"])
            assert "3.jpg" not in store
            store.add(np.array([[9, 9]], np.uint8), keys=["3.jpg"])
            store.remove(["3.jpg"])
            (id,) = store.add(np.array([[9, 8]], np.uint8), keys=["3.jpg"])
            assert store.ids(["3.jpg"]) == [id]
            store.commit()
        assert store.reconstruct(store.ids(["3.jpg"])).tolist() == [[9, 8]]
        assert len(store) == 10


@pytest.mark.parametrize("committed", [False, True])
def test_a_key_does_not_come_back_with_the_id_that_it_had(folder, committed):
    with small(folder) as store:
        store.add(one(9, 9), keys=["old"], ids=[77])
        result = store.search(one(9, 9), k=1)
        if committed:
            store.commit()
        store.remove(["old"])
        store.add(one(9, 8), keys=["new"], ids=[77])
        assert "old" not in store
        assert store.keys([77]).tolist() == ["new"]
        assert result.keys.tolist() == [["old"]]
        with pytest.raises(ValueError, match="it does not hold 'old'"):
            store.remove(["old"])
        store.add(one(1, 1), keys=["old"])
        assert store.ids(["new", "old"]).tolist() == [77, 78]
        store.commit()
        assert store.ids(["new", "old"]).tolist() == [77, 78]


@pytest.mark.parametrize("key", ["a", b"a", 0, 2**64 - 1, uuid.UUID(int=1)])
def test_a_store_without_entries_holds_no_key(folder, key):
    with fh.Store(folder, "w", n_bits=16) as store:
        assert key not in store
        with pytest.raises(TypeError, match=r"keys must be str, .*, got 1\.5"):
            1.5 in store  # noqa: B015
        store.add(one(1, 1), keys=[key])
        assert key in store
    with fh.Store(folder, "w", n_bits=16) as store:
        store.add(one(1, 1))
        assert 0 in store
        with pytest.raises(TypeError, match="id must be an integer, got 'a'"):
            "a" in store  # noqa: B015


def test_an_update_keeps_id_and_key(folder):
    with small(folder) as store:
        store.update(["4.jpg"], np.array([[200, 200]], np.uint8))
        store.add(np.array([[1, 1]], np.uint8), keys=["draft"])
        store.update(["draft", "4.jpg"], np.array([[2, 2], [201, 201]], np.uint8))
        for _ in range(2):
            assert store.ids(["4.jpg", "draft"]).tolist() == [4, 10]
            assert store.reconstruct(np.array([4, 10])).tolist() == [[201, 201], [2, 2]]
            store.commit()
