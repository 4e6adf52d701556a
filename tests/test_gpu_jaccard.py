"""Jaccard distance on a GPU: on the emulator, and on a card where there is one; the CPU index is the reference."""

import numpy as np
import pytest

import fasthash as fh
import reference
from galleries import sparse
from indices import assert_same, shuffled_ids

KINDS = {"flat": fh.FlatIndex, "hier": lambda n_bits, **options: fh.HierIndex(n_bits=n_bits, **options)}
RADII = (0, 0.3, 0.75, 1, 5)


@pytest.fixture(params=list(KINDS))
def kind(request):
    return request.param


def codes_of(rng, n, n_bits, share=0.1):
    """Codes of any width: a tenth of them equal, one empty, one full."""
    codes = sparse(rng, n, -(-n_bits // 8) * 8, share)
    codes[:, -1] &= np.uint8(256 - (1 << -n_bits % 8))
    return codes


def filled(kind, n=2000, n_bits=64, seed=0):
    rng = np.random.default_rng(seed)
    index = KINDS[kind](n_bits, metric="jaccard")
    index.add(codes_of(rng, n, n_bits), shuffled_ids(rng, n))
    return index, np.concatenate([codes_of(rng, 6, n_bits, 0.2), index.to_arrays()[0][:3]])


def assert_searches_agree(on_gpu, index, queries, ks=(1, 10), **options):
    for k in (*ks, len(index) + 3):
        assert_same(on_gpu.search(queries, k, **options), index.search(queries, k, **options))
    for radius in RADII:
        assert_same(on_gpu.range_search(queries, radius, **options), index.range_search(queries, radius, **options))
        counts = index.count_within(queries, radius, **options)
        np.testing.assert_array_equal(on_gpu.count_within(queries, radius, **options), counts)


@pytest.mark.parametrize("n_bits", [1, 42, 64, 166, 881, 1024, 2048, 4096])
def test_searches_find_the_same(device, kind, n_bits):
    index, queries = filled(kind, 700, n_bits, seed=n_bits)
    on_gpu = index.to(device)
    assert on_gpu.metric == "jaccard"
    assert on_gpu.search(queries, 1).distances.dtype == np.float32
    ids = index.ids()
    for allow in (None, ids[::3], fh.IdFilter(ids[::2]), fh.IdFilter(ids[:50]), np.array([], np.int64)):
        assert_searches_agree(on_gpu, index, queries, allow=allow)


def test_searches_find_what_fractions_in_numpy_do(device):
    """Without the CPU index, whose mistakes a comparison with it would not show."""
    rng = np.random.default_rng(1)
    codes, ids = codes_of(rng, 900, 166), shuffled_ids(rng, 900)
    index = fh.FlatIndex.from_arrays(codes, ids, n_bits=166, metric="jaccard")
    queries = np.concatenate([codes[:5], codes_of(rng, 5, 166, 0.3)])
    for k in (1, 20, 903):
        distances, found = reference.jaccard_search(queries, codes, ids, k)
        assert_same(index.to(device).search(queries, k), (distances.astype(np.float32), found))


def test_equal_fractions_of_different_numbers_are_ties(device):
    """1/2 as 1 of 2, 2 of 4 and 3 of 6 bits: ordered by id alone."""
    query = np.packbits([1, 0, 0, 0, 0, 0, 0, 0])
    codes = np.packbits([[1, 1, 0, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0, 0, 0], [1, 0, 1, 0, 0, 0, 0, 0]], axis=1)
    index = fh.FlatIndex.from_arrays(codes, [9, 1, 4], metric="jaccard").to(device)
    result = index.search(query[None], 4)
    assert result.ids.tolist() == [[4, 9, 1, -1]]
    assert result.distances.tolist() == [[0.5, 0.5, 1.0, np.inf]]


def test_empty_codes_are_at_distance_0_from_each_other(device):
    index = fh.FlatIndex.from_arrays(np.array([[0, 0], [1, 0], [0, 0]], np.uint8), metric="jaccard").to(device)
    result = index.search(np.zeros((1, 2), np.uint8), 4)
    assert result.ids.tolist() == [[0, 2, 1, -1]]
    assert result.distances.tolist() == [[0, 0, 1, np.inf]]
    for radius, expected in ((0, 2), (-0.0, 2), (0.99, 2), (1, 3), (np.inf, 3)):
        assert index.count_within(np.zeros((1, 2), np.uint8), radius).tolist() == [expected]


def test_a_radius_finds_the_distances_that_round_to_it(device):
    index, queries = filled("flat", 300)
    on_gpu = index.to(device)
    distances = index.search(queries[:1], 300).distances[0]
    for distance in np.unique(distances):
        for radius in (distance, float(distance), np.nextafter(distance, np.float32(0))):
            assert on_gpu.count_within(queries[:1], radius) == (distances <= np.float32(radius)).sum()


@pytest.mark.parametrize("n", [0, 1, 3, 4, 5, 64, 65])
def test_few_codes(device, kind, n):
    index = KINDS[kind](64, metric="jaccard")
    index.add(codes_of(np.random.default_rng(n), 100, 64)[:n])
    queries = codes_of(np.random.default_rng(5), 100, 64)[:3]
    assert_searches_agree(index.to(device), index, queries)
    assert_same(index.to(device).search(queries[:0], 3), index.search(queries[:0], 3))


@pytest.mark.parametrize("n_queries", [1, 70])
def test_samples_give_the_thresholds_of_many_codes(device, n_queries):
    index, _ = filled("flat", 20_000, 40)
    queries = codes_of(np.random.default_rng(8), 70, 40, 0.3)[:n_queries]
    on_gpu = index.to(device)
    for k in (1, 10, 500):
        assert_same(on_gpu.search(queries, k), index.search(queries, k))


def test_changes_send_what_is_new(device, kind):
    index, queries = filled(kind)
    on_gpu = index.to(device)
    ids = index.ids()
    for change in (
        lambda one: one.add(queries),
        lambda one: one.remove(ids[5:90]),
        lambda one: one.update(ids[:2], queries[:2]),
    ):
        change(on_gpu)
        change(index)
        assert on_gpu._copy.galleries[0].n_reused() > 0
        assert_searches_agree(on_gpu, index, queries)
        assert_searches_agree(on_gpu, index, queries, allow=ids[::2])
    on_gpu.compact()
    assert_searches_agree(on_gpu, index, queries)
    assert on_gpu.to_bytes() == index.to_bytes()
    on_gpu.clear()
    assert on_gpu.metric == "jaccard"
    assert on_gpu.search(queries, 2).distances.tolist() == [[np.inf, np.inf]] * len(queries)


@pytest.mark.parametrize("apart", [1, 2**30])
def test_several_devices_share_the_codes(devices, kind, apart):
    rng = np.random.default_rng(2)
    index = KINDS[kind](166, metric="jaccard")
    index.add(codes_of(rng, 1500, 166), shuffled_ids(rng, 1500) * apart)
    queries = codes_of(rng, 10, 166, 0.2)
    on_gpu = index.to(devices)
    for change in (lambda one: None, lambda one: one.remove(index.ids()[:20]), lambda one: one.add(queries)):
        change(on_gpu)
        if on_gpu.ntotal != index.ntotal:
            change(index)
        assert_searches_agree(on_gpu, index, queries, ks=(30,))
        assert_searches_agree(on_gpu, index, queries, ks=(30,), allow=index.ids()[::2])


@pytest.mark.parametrize("memory", [500, 8_000])
def test_codes_beyond_the_memory_are_streamed(device, kind, memory):
    index, queries = filled(kind, 6000)
    on_gpu = index.to(device, max_bytes=memory)
    assert on_gpu.streamed
    assert_searches_agree(on_gpu, index, queries)


def test_a_mapped_index_is_read_from_its_file(device, kind, tmp_path):
    index, queries = filled(kind)
    index.save(tmp_path / "index.fh")
    on_gpu = fh.load(tmp_path / "index.fh", mmap=True).to(device)
    assert_searches_agree(on_gpu, index, queries)
    on_gpu.save(tmp_path / "again.fh")
    assert (tmp_path / "again.fh").read_bytes() == (tmp_path / "index.fh").read_bytes()


def test_queries_on_the_gpu(device, kind, gpu_tensor):
    index, queries = filled(kind)
    on_gpu = index.to(device)
    tensor = gpu_tensor(queries)
    for found, expected in (
        (on_gpu.search(tensor, 9), index.search(queries, 9)),
        (on_gpu.range_search(tensor, 0.6), index.range_search(queries, 0.6)),
    ):
        assert found.ids.device == found.distances.device == tensor.device
        assert str(found.distances.dtype) == "torch.float32"
        assert (found.ids.cpu().numpy() == expected.ids).all()
        assert (found.distances.cpu().numpy() == expected.distances).all()
    assert (on_gpu.count_within(tensor, 0.6) == index.count_within(queries, 0.6)).all()


def test_what_it_is_and_what_it_is_not(device):
    index, queries = filled("hier", 100)
    on_gpu = index.to(device)
    assert repr(on_gpu) == "GpuHierIndex(level_bits=(64,), metric='jaccard', device='cuda:0') with 100 codes"
    assert isinstance(on_gpu.to("cpu"), fh.HierIndex)
    assert on_gpu.to("cpu").metric == on_gpu.copy().metric == on_gpu.stats()["metric"] == "jaccard"
    with pytest.raises(ValueError, match="metric must be 'hamming' for keep, this index has 'jaccard'"):
        on_gpu.search(queries, 3, keep=0.5)
    for radius, error, message in (
        (-0.1, ValueError, "radius must be at least 0, got -0.1"),
        (np.nan, ValueError, "radius must be at least 0, got nan"),
        ("1", TypeError, "radius must be a"),
    ):
        with pytest.raises(error, match=message):
            on_gpu.range_search(queries, radius)
        with pytest.raises(error, match=message):
            on_gpu.count_within(queries, radius)
    with pytest.raises(ValueError, match="metric"):
        on_gpu.merge(fh.FlatIndex(64))
    assert_searches_agree(on_gpu, index, queries)
    hamming = fh.FlatIndex.from_arrays(*index.to_arrays()).to(device)
    assert hamming.metric == "hamming"
    with pytest.raises(TypeError, match="radius must be an integer"):
        hamming.count_within(queries, 0.5)
