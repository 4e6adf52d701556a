"""What files keep beside codes and ids: the order of clusters, and the id map."""

import struct
import threading

import numpy as np
import pytest

import fasthash as fh
import file_reference as ref
from galleries import uniform
from indices import LEVELS, simd


def scattered(n, p=0.12, n_bytes=8, seed=0):
    """Codes around 20 centres."""
    rng = np.random.default_rng(seed)
    flips = np.packbits(rng.random((n, n_bytes * 8)) < p, axis=1)
    return uniform(rng, 20, n_bytes)[rng.integers(0, 20, n)] ^ flips


IDS = {
    "counted": np.arange,
    "from 10": lambda n: 10 + np.arange(n),
    "gapped": lambda n: 10 * np.arange(n) - 10**12,
    "backwards": lambda n: np.ascontiguousarray(np.arange(n)[::-1]),
    "shuffled": lambda n: np.random.default_rng(1).permutation(n),
    "holes": lambda n: np.random.default_rng(1).permutation(n + n // 2)[:n],
    "far": lambda n: np.unique(np.random.default_rng(1).integers(-(2**63), 2**63 - 1, n + 9))[:n],
    "far, shuffled": lambda n: np.random.default_rng(2).permutation(IDS["far"](n)),
    "one far away": lambda n: np.random.default_rng(3).permutation(np.append(3 * np.arange(n - 1), 2**62)),
    "close pairs": lambda n: np.random.default_rng(4).permutation(
        (IDS["far"](n)[np.arange(n) // 2] & -(2**20)) + np.arange(n) % 2
    ),
}
INDICES = {
    "flat": lambda codes, ids: fh.FlatIndex.from_arrays(codes, ids),
    "scan": lambda codes, ids: fh.HierIndex.from_arrays(codes, ids, plan="scan"),
    "prefix": lambda codes, ids: fh.HierIndex.from_arrays(codes, ids, plan="prefix"),
    "multi-index": lambda codes, ids: fh.HierIndex.from_arrays(codes, ids, plan="multi-index"),
    "clusters": lambda codes, ids: fh.HierIndex.from_arrays(codes, ids, plan="clusters"),
    "auto": lambda codes, ids: fh.HierIndex.from_arrays(codes, ids, level_bits=(8, 16, 40)),
}


def assert_same_results(a, b, queries):
    for k in (1, 20):
        for x, y in zip(a.search(queries, k), b.search(queries, k), strict=True):
            np.testing.assert_array_equal(x, y)
    for x, y in zip(a.range_search(queries, 12), b.range_search(queries, 12), strict=True):
        np.testing.assert_array_equal(x, y)


# ---- clusters ----


@pytest.mark.parametrize("kind", INDICES)
@pytest.mark.parametrize("mmap", [False, True], ids=["read", "mapped"])
@pytest.mark.parametrize("id_map", [False, True], ids=["", "with map"])
def test_searches_are_the_same_after_loading(kind, mmap, id_map, tmp_path):
    codes = scattered(20_000)
    codes[-3000:] = codes[:3000]
    index = INDICES[kind](codes, IDS["holes"](len(codes)))
    index.save(tmp_path / "index.fh", id_map=id_map)
    loaded = fh.load(tmp_path / "index.fh", mmap=mmap)
    assert_same_results(loaded, index, codes[:50] ^ np.uint8(1))
    assert loaded.to_bytes() == index.to_bytes()
    assert fh.peek(tmp_path / "index.fh").has_id_map == id_map
    ids = index.to_arrays()[1]
    for change in (
        lambda each: each.remove(ids[::7]),
        lambda each: each.add(codes[:40]),
        lambda each: each.update(ids[1::700], codes[: len(ids[1::700])]),
    ):
        change(index)
        change(loaded)
        assert_same_results(loaded, index, codes[:20] ^ np.uint8(1))
        assert loaded.to_bytes() == index.to_bytes()


@pytest.mark.parametrize("n_bytes", [2, 3, 8, 9, 17, 64])
def test_clusters_stay_as_they_are(n_bytes, tmp_path):
    """No plan is made anew: the file decides, also about centroids that a planner would not choose."""
    codes = scattered(5000, n_bytes=n_bytes)
    index = fh.HierIndex.from_arrays(codes, plan="clusters")
    contents = ref.read(index.to_bytes())
    assert ref.write(contents) == index.to_bytes()
    contents.centroids = uniform(np.random.default_rng(3), 3, n_bytes)
    contents.plan = 0
    data = ref.write(contents)
    (tmp_path / "index.fh").write_bytes(data)
    for mmap in (False, True):
        loaded = fh.load(tmp_path / "index.fh", mmap=mmap)
        assert (loaded.stats()["plan"], loaded.stats()["n_clusters"]) == ("clusters", 3)
        assert loaded.to_bytes() == data
        assert_same_results(loaded, index, codes[:50] ^ np.uint8(1))
    assert fh.peek(tmp_path / "index.fh").n_clusters == 3
    assert fh.verify(tmp_path / "index.fh").fault == ""


@pytest.mark.parametrize("level", [level for level in LEVELS if level != "scalar"])
def test_a_batch_on_a_mapped_file_of_spread_codes_is_scanned(tmp_path, level):
    """Each query alone would look up, give up, and scan the rows."""
    codes = uniform(np.random.default_rng(0), 200_100, 8)
    fh.HierIndex.from_arrays(codes[:200_000], plan="prefix").save(tmp_path / "index.fh")
    mapped = fh.load(tmp_path / "index.fh", mmap=True)
    with simd(level):
        work = mapped.search(codes[200_000:], 10, stats=True)[1]
    assert set(work.plan) == {"scan"}


def test_a_mapped_index_searches_by_clusters_in_its_file(tmp_path):
    codes = scattered(60_000, n_bytes=16)
    index = fh.HierIndex.from_arrays(codes, plan="clusters")
    index.save(tmp_path / "index.fh")
    mapped = fh.load(tmp_path / "index.fh", mmap=True)
    assert mapped.stats()["plan"] == "clusters"
    assert mapped.stats()["mapped_bytes"] == (tmp_path / "index.fh").stat().st_size
    assert mapped.nbytes < 0.1 * index.nbytes
    work = [each.search(codes[:20], 10, stats=True)[1] for each in (index, mapped)]
    np.testing.assert_array_equal(work[0].codes_compared, work[1].codes_compared)
    (tmp_path / "index.fh").unlink()
    assert_same_results(mapped, index, codes[:20])


def test_a_file_has_the_oldest_version_that_expresses_it():
    codes = scattered(3000)
    for plan, minor in (("scan", 4), ("prefix", 0), ("multi-index", 0), ("clusters", 2)):
        assert fh.HierIndex.from_arrays(codes, plan=plan).to_bytes()[10] == minor
    assert fh.HierIndex(64, plan="clusters").to_bytes()[10] == 1


def test_files_of_1_1_get_their_clusters_when_they_are_loaded():
    index = fh.HierIndex.from_arrays(scattered(3000), IDS["shuffled"](3000), plan="clusters")
    contents = ref.read(index.to_bytes())
    contents.centroids = None
    old = ref.write(contents)
    assert old[10] == 1
    assert fh.HierIndex.from_bytes(old).to_bytes() == index.to_bytes()


def test_equal_contents_give_equal_clusters():
    """Whatever the history, if the index is compact or is saved in several segments."""
    codes, ids = scattered(8000), IDS["holes"](8000)
    more = 10**6 + np.arange(30)
    at_once = fh.HierIndex.from_arrays(
        np.concatenate([codes, codes[:30]]), np.concatenate([ids, more]), plan="clusters"
    )
    at_once.remove(more)  # the next id is part of the contents
    at_once.compact()
    by_pieces = fh.HierIndex(64, plan="clusters")
    for begin in range(0, 8000, 371):
        by_pieces.add(codes[begin : begin + 371], ids[begin : begin + 371])
    by_pieces.add(codes[:30], more)
    by_pieces.remove(more)
    assert by_pieces.stats()["n_segments"] > 1
    assert by_pieces.to_bytes() == at_once.to_bytes()
    by_pieces.compact()
    assert by_pieces.to_bytes() == at_once.to_bytes()


@pytest.mark.parametrize("level_bits", [(64,), (8, 16, 40), (8, 40, 16), (24, 8, 32)])
def test_stats_count_the_nodes_of_clusters(level_bits):
    codes = scattered(5000, p=0.05)
    index = fh.HierIndex.from_arrays(codes, level_bits=level_bits, plan="clusters")
    ends = np.cumsum(level_bits) // 8
    expected = [len(np.unique(codes[:, :end], axis=0)) for end in ends]
    assert index.stats()["nodes_per_level"] == expected
    index.add(codes[:10] ^ np.uint8(255))
    assert index.stats()["nodes_per_level"][-1] >= expected[-1]


def test_many_threads_search_and_change_a_mapped_index(tmp_path):
    codes = scattered(20_000)
    index = fh.HierIndex.from_arrays(codes, IDS["shuffled"](len(codes)), plan="clusters")
    index.save(tmp_path / "index.fh", id_map=True)
    mapped = fh.load(tmp_path / "index.fh", mmap=True)
    expected = index.search(codes[:200], 1)
    failures = []

    def search():
        for _ in range(10):
            if not np.array_equal(mapped.search(codes[:200], 1).distances, expected.distances):
                failures.append("distances")

    def change():
        for i in range(20):
            mapped.add(codes[i : i + 1] ^ np.uint8(255), np.array([10**6 + i]))
            mapped.remove(np.array([10**6 + i]))
            mapped.build_id_map()

    threads = [threading.Thread(target=target) for target in (search, search, change)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    index.add(codes[:1], np.array([10**6 + 19]))
    index.remove(np.array([10**6 + 19]))
    index.compact()
    assert mapped.to_bytes() == index.to_bytes()


# ---- id maps ----


@pytest.mark.parametrize(
    ("kind", "n"), [("flat", 3), ("flat", 70_000), ("prefix", 3), ("prefix", 2000), ("clusters", 3), ("clusters", 2000)]
)
@pytest.mark.parametrize("pattern", IDS)
def test_every_id_is_found(kind, pattern, n, tmp_path):
    codes = uniform(np.random.default_rng(5), n, 8)
    ids = IDS[pattern](n)
    index = INDICES[kind](codes, ids)
    index.build_id_map()
    index.save(tmp_path / "index.fh", id_map=True)
    for each in (index, fh.load(tmp_path / "index.fh"), fh.load(tmp_path / "index.fh", mmap=True)):
        np.testing.assert_array_equal(each.reconstruct(ids), codes)
        absent = [int(ids.max()) + 1, int(ids.min()) - 1 if ids.min() > -(2**63) else 5, 2**63 - 1, -(2**63)]
        absent += [int(each) + 1 for each in ids[:50]]
        held = set(ids.tolist())
        for id in absent:
            if id < 2**63 and id != -1:
                assert (id in each) == (id in held)
        np.testing.assert_array_equal(each.to_arrays()[1], np.sort(ids))
        each.remove(ids[: n // 2])
        np.testing.assert_array_equal(each.reconstruct(ids[n // 2 :]), codes[n // 2 :])


def test_the_map_in_a_file_takes_the_place_of_one_that_is_built(tmp_path):
    codes, ids = uniform(np.random.default_rng(6), 70_000, 8), IDS["far, shuffled"](70_000)
    index = fh.FlatIndex.from_arrays(codes, ids)
    before = index.nbytes
    index.build_id_map()
    assert index.nbytes == before + 3 * 70_000 + 8
    index.save(tmp_path / "index.fh", id_map=True)
    size = (tmp_path / "index.fh").stat().st_size
    index.save(tmp_path / "without.fh")
    assert size - (tmp_path / "without.fh").stat().st_size <= 4 * 70_000
    loaded, mapped = fh.load(tmp_path / "index.fh"), fh.load(tmp_path / "index.fh", mmap=True)
    for each in (loaded, mapped):
        before = each.nbytes
        each.build_id_map()
        each.reconstruct(ids)
        assert each.nbytes == before  # nothing was built
    assert loaded.nbytes - fh.load(tmp_path / "without.fh").nbytes == 3 * 70_000 + 8
    header, sections = ref.split((tmp_path / "index.fh").read_bytes())
    assert (header.id_map, header.minor, len(sections[5])) == (1, 2, 3 * 70_000 + 8)
    np.testing.assert_array_equal(ref.unpacked(np.frombuffer(sections[5][:-8], np.uint8), 70_000, 3), np.argsort(ids))


@pytest.mark.parametrize("pattern", ["counted", "gapped", "far"])
def test_ids_that_ascend_need_no_map(pattern, tmp_path):
    codes = uniform(np.random.default_rng(7), 20_000, 8)
    index = fh.FlatIndex.from_arrays(codes, IDS[pattern](len(codes)))
    before = index.nbytes
    index.build_id_map()
    np.testing.assert_array_equal(index.reconstruct(IDS[pattern](len(codes))), codes)
    assert index.nbytes == before
    index.save(tmp_path / "index.fh", id_map=True)
    assert (tmp_path / "index.fh").read_bytes() == index.to_bytes()


@pytest.mark.parametrize("n", [0, 1, 2])
def test_maps_of_few_ids(n, tmp_path):
    for index in (fh.FlatIndex(64), fh.HierIndex(64), fh.HierIndex(64, plan="clusters")):
        index.add(uniform(np.random.default_rng(8), n, 8), np.array([7, 3])[:n])
        index.build_id_map()
        index.save(tmp_path / "index.fh", id_map=True)
        loaded = fh.load(tmp_path / "index.fh")
        assert loaded.to_bytes() == index.to_bytes()
        np.testing.assert_array_equal(loaded.to_arrays()[1], index.to_arrays()[1])


def test_a_map_is_saved_of_all_segments(tmp_path):
    index = fh.HierIndex(64)
    codes, ids = uniform(np.random.default_rng(9), 9000, 8), IDS["holes"](9000)
    for begin, end in ((0, 8000), (8000, 8200), (8200, 9000)):
        index.add(codes[begin:end], ids[begin:end])
    index.remove(ids[100:120])
    index.save(tmp_path / "index.fh", id_map=True)
    loaded = fh.load(tmp_path / "index.fh", mmap=True)
    rest = np.delete(np.arange(9000), np.arange(100, 120))
    np.testing.assert_array_equal(loaded.reconstruct(ids[rest]), codes[rest])
    data = ref.read((tmp_path / "index.fh").read_bytes())
    assert data.id_map
    assert ref.write(data) == (tmp_path / "index.fh").read_bytes()


@pytest.mark.parametrize("wrong", [1, None, "yes"])
def test_id_map_is_true_or_false(wrong, tmp_path):
    with pytest.raises(TypeError, match="id_map must be True or False"):
        fh.FlatIndex(64).save(tmp_path / "index.fh", id_map=wrong)


def test_older_releases_are_told_the_version(tmp_path):
    fh.FlatIndex.from_arrays(np.zeros((2, 8), np.uint8), np.array([5, 3])).save(tmp_path / "map.fh", id_map=True)
    assert struct.unpack_from("<HH", (tmp_path / "map.fh").read_bytes(), 8) == (1, 2)
    assert fh.peek(tmp_path / "map.fh").format_version == "1.2"
