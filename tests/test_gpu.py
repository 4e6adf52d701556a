"""Tests of indices on a GPU, except the kernels: on the emulator, and on a card where there is one."""

import copy
import importlib.util
import inspect
import pickle
import re
import shutil
import subprocess
import sys
import weakref
from types import SimpleNamespace

import numpy as np
import pytest

import fasthash as fh
from differential import Ranking
from fasthash import _gpu_arrays, _gpu_copy, gpu
from galleries import GALLERIES
from gpu_devices import has_card
from indices import assert_same, shuffled_ids
from native_build import ROOT

CARD = has_card()
RNG = np.random.default_rng(0)


@pytest.fixture(params=["flat", "hier"])
def kind(request):
    return request.param


def filled(kind, n=3000, n_bits=64, ids=None):
    index = fh.FlatIndex(n_bits) if kind == "flat" else fh.HierIndex((8, n_bits - 8) if n_bits > 8 else (8,))
    index.add(RNG.integers(0, 4, (n, n_bits // 8), np.uint8), ids)
    return index


@pytest.mark.parametrize("n_bits", [8, 16, 24, 64, 72, 256, 4096])
def test_searches_find_the_same(device, kind, n_bits):
    ids = np.sort(RNG.choice(10**12, 2000, replace=False)) - 10**11
    index = filled(kind, 2000, n_bits, RNG.permutation(ids))
    on_gpu = index.to(device)
    queries = RNG.integers(0, 4, (7, n_bits // 8), np.uint8)
    for allow in (None, ids[::3], fh.IdFilter(ids[:50])):
        for k in (1, 10, 2500):
            assert_same(on_gpu.search(queries, k, allow=allow), index.search(queries, k, allow=allow))
        for radius in (0, n_bits // 8, n_bits):
            assert (
                on_gpu.count_within(queries, radius, allow=allow) == index.count_within(queries, radius, allow=allow)
            ).all()
            assert_same(
                on_gpu.range_search(queries, radius, allow=allow), index.range_search(queries, radius, allow=allow)
            )
    mask = np.arange(3000) % 2 == 0
    counted = filled(kind, 3000, n_bits)
    assert_same(counted.to(device).search(queries, 5, allow=mask), counted.search(queries, 5, allow=mask))


@pytest.mark.parametrize("gallery", ["uniform", "clustered", "duplicated"])
def test_ties_where_a_tree_gives_up(device, kind, gallery):
    rng = np.random.default_rng(6)
    codes = GALLERIES[gallery](rng, 6000, 3)
    index = fh.FlatIndex(24) if kind == "flat" else fh.HierIndex((8, 16))
    ids = shuffled_ids(rng, len(codes))
    index.add(codes, ids)
    on_gpu = index.to(device)
    queries = np.concatenate([~codes[:6], codes[-3:], GALLERIES["uniform"](rng, 6, 3)])
    ranking = Ranking(queries, codes, ids)
    some = rng.random(len(ids)) < 0.5
    for k in (50, 77, 400):
        assert_same(on_gpu.search(queries, k), ranking.nearest(k))
        assert_same(on_gpu.search(queries, k, allow=ranking.ids[some]), ranking.nearest(k, some))
        if kind == "hier":
            assert_same(on_gpu.search(queries, k, keep=1.0), ranking.nearest(k))


@pytest.mark.parametrize("unit", ["popcount", "tensor"])
def test_both_units_find_the_same(device, kind, unit, monkeypatch):
    monkeypatch.setenv("FASTHASH_GPU_SCAN", unit)
    for n_bits in (32, 56, 64, 128, 256):
        index = filled(kind, 500, n_bits)
        on_gpu = index.to(device)
        queries = RNG.integers(0, 4, (33, n_bits // 8), np.uint8)
        assert_same(on_gpu.search(queries, 7), index.search(queries, 7))
        assert_same(on_gpu.range_search(queries, n_bits // 9), index.range_search(queries, n_bits // 9))


@pytest.mark.parametrize(
    ("variable", "known"),
    [("FASTHASH_GPU_SCAN", "'popcount' or 'tensor'"), ("FASTHASH_GPU_PLAN", "'scan' or 'clusters'")],
)
def test_a_setting_that_is_not_known(device, monkeypatch, variable, known):
    monkeypatch.setenv(variable, "abacus")
    with pytest.raises(ValueError, match=f"{variable} must be {known}, got 'abacus'"):
        filled("flat", 5).to(device)


@pytest.mark.parametrize("plan", ["flat", "scan", "clusters"])
def test_several_devices_share_the_codes(devices, plan, monkeypatch):
    monkeypatch.setenv("FASTHASH_GPU_PLAN", "clusters")
    codes = np.concatenate([GALLERIES["duplicated"](RNG, 500, 8), learned_like(RNG, 1500, 0.04)])
    index = fh.FlatIndex(64) if plan == "flat" else fh.HierIndex((8, 16, 40), plan=plan)
    index.add(codes, shuffled_ids(RNG, len(codes)))
    on_gpu = index.to(devices)
    assert on_gpu.devices == (0, 1)
    assert repr(on_gpu).endswith("device=['cuda:0', 'cuda:1']) with 2,000 codes")
    assert on_gpu.to(devices) is on_gpu
    shares = [gallery.nbytes() for gallery in on_gpu._copy.galleries]
    assert max(shares) < 0.8 * index.to(devices[0]).nbytes
    queries = np.concatenate([codes[::300], ~codes[:2]])
    ids = index.to_arrays()[1]
    for change in (lambda one: None, lambda one: one.remove(ids[:20]), lambda one: one.add(queries)):
        change(on_gpu)
        change(index)
        for k in (1, 30, 2500):
            assert_same(on_gpu.search(queries, k), index.search(queries, k))
        for allow in (ids[100:103], ids[::2]):
            assert_same(on_gpu.search(queries, 9, allow=allow), index.search(queries, 9, allow=allow))
        assert_same(on_gpu.range_search(queries, 12), index.range_search(queries, 12))
        assert (on_gpu.count_within(queries, 12) == index.count_within(queries, 12)).all()
        if plan != "flat":
            assert_same(on_gpu.search(queries, 9, keep=0.2), index.search(queries, 9, keep=0.2))
    assert_same(on_gpu.to("cuda:1").search(queries, 3), index.search(queries, 3))


@pytest.mark.parametrize("n", [0, 1, 65])
def test_several_devices_with_few_codes(devices, kind, n):
    index = filled(kind, n)
    queries = RNG.integers(0, 4, (2, 8), np.uint8)
    for k in (1, 70):
        assert_same(index.to(devices).search(queries, k), index.search(queries, k))
    assert_same(index.to(devices).range_search(queries, 20), index.range_search(queries, 20))


@pytest.mark.parametrize("n_queries", [1, 70])
@pytest.mark.parametrize("p", [0.04, 0.2])
def test_clusters_and_their_changes(device, monkeypatch, n_queries, p):
    """Queries near a centre visit few clusters; those far from all give up and are scanned."""
    monkeypatch.setenv("FASTHASH_GPU_PLAN", "clusters")
    both = learned_like(RNG, 3000 + n_queries, p)
    codes, queries = both[:3000], both[3000:].copy()
    queries[-1] ^= 0x55
    index = fh.HierIndex((8, 16, 40), plan="clusters")
    index.add(codes, shuffled_ids(RNG, len(codes)))
    assert index.stats()["n_clusters"] > 1
    on_gpu = index.to(device)
    some = index.to_arrays()[1][::2]
    for change in (
        lambda one: None,
        lambda one: one.remove(some[:30]),
        lambda one: one.add(queries[:1]),
        lambda one: one.add(both[:200]),
    ):
        change(on_gpu)
        change(index)
        for k in (1, 20, 200):
            assert_same(on_gpu.search(queries, k), index.search(queries, k))
        assert_same(on_gpu.search(queries, 20, allow=some), index.search(queries, 20, allow=some))
        assert_same(on_gpu.search(queries, 5, keep=0.3), index.search(queries, 5, keep=0.3))
        assert_same(on_gpu.range_search(queries, 9), index.range_search(queries, 9))


def learned_like(rng, n, p):
    centres = rng.integers(0, 256, (20, 8), np.uint8)
    return centres[rng.integers(0, 20, n)] ^ np.packbits(rng.random((n, 64)) < p, axis=1)


@pytest.mark.parametrize("memory", [500, 8_000])
def test_codes_beyond_the_memory_are_streamed(device, kind, memory):
    index = filled(kind, 2000, ids=RNG.permutation(10**6)[:2000])
    on_gpu = index.to(device, max_bytes=memory)
    assert on_gpu.streamed
    assert not index.to(device).streamed
    assert on_gpu.nbytes < index.to(device).nbytes
    queries = RNG.integers(0, 4, (40, 8), np.uint8)
    for k in (1, 3000):
        assert_same(on_gpu.search(queries, k), index.search(queries, k))
    assert_same(on_gpu.range_search(queries, 11), index.range_search(queries, 11))
    on_gpu.remove(index.search(queries, 1).ids[:1, 0])
    assert on_gpu.streamed
    assert len(on_gpu) == 1999
    if kind == "hier":
        assert_same(on_gpu.search(queries, 5, keep=0.5), on_gpu.to("cpu").search(queries, 5, keep=0.5))
    with pytest.raises(ValueError, match="max_bytes must be at least 0, got -1"):
        index.to(device, max_bytes=-1)


@pytest.fixture
def small_card(emulator, monkeypatch):
    """An emulated card of 10,000 bytes, of which torch keeps `kept` bytes unused."""
    card, galleries = SimpleNamespace(kept=0, n_emptied=0), weakref.WeakSet()

    class Gallery(emulator.Gallery):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            galleries.add(self)

    def empty_cache():
        card.kept = 0
        card.n_emptied += 1

    module = SimpleNamespace(**vars(emulator))
    module.Gallery = Gallery
    module.free_bytes = lambda device: 10_000 - card.kept - sum(each.nbytes() for each in galleries)
    monkeypatch.setattr(_gpu_copy, "cuda_module", lambda: module)
    cuda = SimpleNamespace(is_initialized=lambda: True, empty_cache=empty_cache)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda, Tensor=type("Tensor", (), {})))
    return card


def test_a_change_counts_what_the_copy_before_holds(small_card):
    """A large segment is made anew while the one before is still held; codes are streamed if both do not fit."""
    index = filled("flat", 700)
    on_gpu = index.to("cuda")
    codes = index.to_arrays()[0]
    for change, streamed in (
        (lambda one: one.add(codes[:4]), False),  # 32 bytes beside the 5,600
        (lambda one: one.compact(), True),
        (lambda one: one.remove([3]), False),  # the copy before is in the memory of the host
        (lambda one: one.remove([5]), False),
        (lambda one: one.add(codes), True),  # 11,200 bytes
    ):
        change(on_gpu)
        change(index)
        assert on_gpu.streamed == streamed
        assert_same(on_gpu.search(codes[:5], 9), index.search(codes[:5], 9))


def test_memory_that_torch_keeps_is_asked_for_when_it_is_needed(small_card):
    small_card.kept = 8_000
    on_gpu = filled("flat", 700).to("cuda")
    assert not on_gpu.streamed
    assert small_card.n_emptied == 1
    for _ in range(3):
        on_gpu.search(np.zeros((1, 8), np.uint8), 3, allow=np.arange(20))
    assert small_card.n_emptied == 1


def test_what_a_filter_needs_is_prepared_once(device, kind):
    index = filled(kind, 3000)
    on_gpu = index.to(device)
    queries = index.to_arrays()[0][:4]
    narrow, wide = fh.IdFilter(np.arange(0, 3000, 30)), fh.IdFilter(np.arange(0, 3000, 2))
    prepared = []
    for k in (1, 2):
        for some in (narrow, wide):
            assert_same(on_gpu.search(queries, k, allow=some), index.search(queries, k, allow=some))
        prepared.append((on_gpu._copy._narrowed[narrow], on_gpu._copy._masks[wide]))
        assert len(on_gpu._copy._narrowed) == len(on_gpu._copy._masks) == 1
    assert all(first is second for first, second in zip(*prepared, strict=True))
    for change in (lambda one: one.remove([30]), lambda one: one.add(queries)):  # the entries are others then
        change(on_gpu)
        change(index)
        for step in (2, 30):
            some = fh.IdFilter(np.arange(0, 3000, step))
            assert_same(on_gpu.search(queries, 5, allow=some), index.search(queries, 5, allow=some))


def test_a_change_inside_a_change_is_refused(device, monkeypatch):
    """It would be lost: the outer one goes on from what was there before it."""
    codes = RNG.integers(0, 256, (50, 8), dtype=np.uint8)
    on_gpu = fh.FlatIndex.from_arrays(codes).to(device)
    copied, messages = on_gpu._copied, []

    def and_more(index):
        for change in (lambda: on_gpu.add(codes), lambda: on_gpu.remove([0]), lambda: on_gpu.update([0], codes[:1])):
            with pytest.raises(RuntimeError) as caught:
                change()
            messages.append(str(caught.value))
        assert len(on_gpu) == 50  # nobody sees the change before it is whole
        assert_same(on_gpu.search(codes[:3], 1), fh.FlatIndex.from_arrays(codes).search(codes[:3], 1))
        return copied(index)

    monkeypatch.setattr(on_gpu, "_copied", and_more)
    on_gpu.remove([7])
    assert messages == [
        f"{name} was called while this thread is inside remove of the same index; call it once remove has returned"
        for name in ("add", "remove", "update")
    ]
    assert len(on_gpu) == 49
    assert 7 not in on_gpu


EXIT = """
import importlib.util, sys, threading
import numpy as np
import fasthash as fh
from fasthash import _gpu_copy

specification = importlib.util.spec_from_file_location("_cuda", sys.argv[1])
module = importlib.util.module_from_spec(specification)
specification.loader.exec_module(module)
_gpu_copy.cuda_module = lambda: module
codes = np.random.default_rng(0).integers(0, 256, (2000, 8), dtype=np.uint8)
calls = {
    "search": lambda: on_gpu.search(codes[:20], 10),
    "allow": lambda: on_gpu.search(codes[:20], 10, allow=np.arange(99)),
    "count_within": lambda: on_gpu.count_within(codes[:20], 20),
    "range_search": lambda: on_gpu.range_search(codes[:20], 20),
    "pruned": lambda: on_gpu.search(codes[:20], 10, keep=0.5),
    "build": lambda: index.to("cuda"),
}
index = fh.HierIndex((8, 16, 40))
index.add(codes)
on_gpu = index.to("cuda")
ready = threading.Event()

def work():
    while True:
        calls[sys.argv[2]]()
        ready.set()

threading.Thread(target=work, daemon=True).start()
ready.wait(60)
"""


@pytest.mark.parametrize("call", ["search", "allow", "count_within", "range_search", "pruned", "build"])
def test_a_daemon_thread_inside_a_call_does_not_disturb_the_end(emulator, call):
    command = [sys.executable, "-c", EXIT, emulator.__file__, call]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.skipif(not CARD, reason="needs a GPU")
@pytest.mark.parametrize("shape", ["uniform", "clustered", "equal", "burst"])
def test_many_codes_and_queries(shape, kind):
    """Several rounds of a scan, several tiles and groups of queries, searches made again; on streams of torch."""
    torch = pytest.importorskip("torch", reason="streams are torch's")
    codes = RNG.integers(0, 256, (120_000, 8), np.uint8)
    if shape == "clustered":
        codes = codes[RNG.integers(0, 50, len(codes))] ^ (
            codes & RNG.integers(0, 256, codes.shape, np.uint8) & codes[::-1]
        )
    elif shape == "equal":
        codes[:] = 7
    elif shape == "burst":
        codes[40_000:80_000] = RNG.integers(0, 2, (40_000, 8), np.uint8)
    index = fh.FlatIndex(64) if kind == "flat" else fh.HierIndex((8, 16, 40))
    index.add(codes)
    on_gpu = index.to("cuda")
    for n_queries, k in ((70, 1), (70, 100), (70, 3000), (9000, 10)):
        queries = codes[RNG.integers(0, len(codes), n_queries)] ^ RNG.integers(0, 2, (n_queries, 8), np.uint8)
        expected = index.search(queries, k)
        assert_same(on_gpu.search(queries, k), expected)
        with torch.cuda.stream(torch.cuda.Stream()):
            found = on_gpu.search(torch.from_numpy(queries).cuda(), k)
            assert (found.ids.cpu().numpy() == expected.ids).all()
    assert_same(on_gpu.range_search(queries[:3000], 9), index.range_search(queries[:3000], 9))
    assert (on_gpu.count_within(queries, 12) == index.count_within(queries, 12)).all()


@pytest.mark.parametrize("n", [0, 1, 31, 32, 33])
def test_few_codes(device, kind, n):
    index = filled(kind, n)
    queries = RNG.integers(0, 256, (2, 8), np.uint8)
    for k in (1, 10, max(n, 1)):
        assert_same(index.to(device).search(queries, k), index.search(queries, k))
    assert_same(index.to(device).range_search(queries, 20), index.range_search(queries, 20))
    assert_same(index.to(device).search(queries[:0], 3), index.search(queries[:0], 3))


def test_changes(device, kind):
    index = filled(kind, 500)
    on_gpu = index.to(device)
    queries = RNG.integers(0, 4, (3, 8), np.uint8)
    for change in (
        lambda one: one.add(queries),
        lambda one: one.remove(np.array([3, 4])),
        lambda one: one.update(np.array([7]), queries[:1]),
    ):
        change(on_gpu)
        assert not np.array_equal(on_gpu.search(queries, 5).ids, index.search(queries, 5).ids) or len(on_gpu) != len(
            index
        )
        change(index)
        assert_same(on_gpu.search(queries, 5), index.search(queries, 5))
        assert len(on_gpu) == len(index)
    assert (on_gpu.reconstruct(np.array([7])) == queries[:1]).all()
    assert 500 in on_gpu
    assert 3 not in on_gpu
    with pytest.raises(ValueError, match="ids"):
        on_gpu.remove(np.array([3]))
    assert_same(on_gpu.search(queries, 5), index.search(queries, 5))


def test_a_change_that_finds_no_room_changes_nothing(device, monkeypatch):
    on_gpu = filled("hier", 100).to(device)

    def no_room(index):
        raise MemoryError("memory of the GPU: out of memory")

    monkeypatch.setattr(on_gpu, "_copied", no_room)
    with pytest.raises(MemoryError):
        on_gpu.add(np.zeros((1, 8), np.uint8))
    assert len(on_gpu) == 100
    assert on_gpu.search(np.zeros((1, 8), np.uint8), 200).ids.max() == 99


def test_where_it_is(device):
    index = filled("flat", 100)
    on_gpu = index.to(f"{device}:0")
    assert repr(on_gpu) == "GpuFlatIndex(level_bits=(64,), device='cuda:0') with 100 codes"
    assert on_gpu.to("cuda") is on_gpu
    assert index.to("cpu") is index
    back = on_gpu.to("cpu")
    assert isinstance(back, fh.FlatIndex)
    assert (back.to_arrays()[0] == index.to_arrays()[0]).all()
    assert on_gpu.nbytes == 100 * 8
    assert bool(filled("flat", 0).to(device))
    levels = filled("hier", 100).to(device)
    assert repr(levels) == "GpuHierIndex(level_bits=(8, 56), device='cuda:0') with 100 codes"
    assert isinstance(levels.to("cpu"), fh.HierIndex)


def test_queries_on_the_gpu(device, kind, gpu_tensor):
    index = filled(kind, 1000)
    on_gpu = index.to(device)
    queries = RNG.integers(0, 4, (5, 8), np.uint8)
    tensor = gpu_tensor(queries)
    for found, expected in (
        (on_gpu.search(tensor, 9), index.search(queries, 9)),
        (on_gpu.range_search(tensor, 14), index.range_search(queries, 14)),
    ):
        assert found.ids.device == found.distances.device == tensor.device
        assert str(found.distances.dtype) == "torch.int32"
        assert (found.ids.cpu().numpy() == expected.ids).all()
        assert (found.distances.cpu().numpy() == expected.distances).all()
    assert (on_gpu.count_within(tensor, 14) == index.count_within(queries, 14)).all()


def test_a_filter_for_each_query(device, kind, request):
    index = filled(kind, 1000)
    on_gpu = index.to(device)
    queries = RNG.integers(0, 4, (5, 8), np.uint8)
    narrow = fh.IdFilter(range(20))
    allow = [narrow, None, np.arange(1000) % 2 == 0, narrow, [3, 4]]
    calls = [
        lambda one, queries: one.search(queries, 9, allow=allow),
        lambda one, queries: one.range_search(queries, 14, allow=allow),
    ]
    if kind == "hier":
        calls.append(lambda one, queries: one.search(queries, 9, keep=0.3, allow=allow))
    for call in calls:
        assert_same(call(on_gpu, queries), call(index, queries))
    expected = index.count_within(queries, 14, allow=allow)
    assert (on_gpu.count_within(queries, 14, allow=allow) == expected).all()
    for some, error, message in (
        (allow[:4], ValueError, "allow must have one filter for each of the 5 queries, got 4"),
        ([*allow[:4], [0.5]], TypeError, r"allow\[4\] must be an integer array"),
        ([*allow[:4], 7], ValueError, "allow must be ids, or a list with a filter for each query"),
    ):
        with pytest.raises(error, match=message):
            on_gpu.search(queries, 9, allow=some)
    tensor = request.getfixturevalue("gpu_tensor")(queries)  # skips without torch what is left
    for call in calls:
        found = call(on_gpu, tensor)
        assert found.ids.device == found.distances.device == tensor.device
        assert_same(
            type(found)(*(np.asarray(part.cpu()) if hasattr(part, "cpu") else part for part in found)),
            call(index, queries),
        )
    assert (on_gpu.count_within(tensor, 14, allow=allow) == expected).all()


def test_a_keyed_index(device, kind, request, tmp_path):
    index = filled(kind, 500)
    names = [f"{i}.jpg" for i in range(500)]
    of_cpu = fh.KeyedIndex(index, keys=names)
    of_gpu = [fh.KeyedIndex(index.to(device), keys=names), of_cpu.to(device)]
    queries = RNG.integers(0, 4, (5, 8), np.uint8)
    for keyed in (of_cpu, *of_gpu):
        before = keyed.search(queries, 600)
        keyed.remove(["7.jpg", "9.jpg"])
        keyed.add(queries[:2], keys=["a", "b"], ids=[9, 1000])
        keyed.update(["12.jpg"], queries[2:3])
        assert before.keys.tolist() == [[None if i < 0 else names[i] for i in row] for row in before.ids.tolist()]
    for keyed in of_gpu:
        for allow in (None, keyed.ids(["12.jpg", "a", "3.jpg"])):
            found, expected = (each.search(queries, 7, allow=allow) for each in (keyed, of_cpu))
            assert_same(found, expected)
            assert found.keys.tolist() == expected.keys.tolist()
            found, expected = (each.range_search(queries, 9, allow=allow) for each in (keyed, of_cpu))
            assert_same(found, expected)
            assert found.keys.tolist() == expected.keys.tolist()
            assert (keyed.count_within(queries, 9) == of_cpu.count_within(queries, 9)).all()
        assert (keyed.n_bits, keyed.level_bits, keyed.metric) == (64, index.level_bits, "hamming")
        assert type(keyed.to_index()) is type(index.to(device))
        assert keyed.to(device) is keyed
        assert keyed.to("cpu").to_index().to_bytes() == of_cpu.to_index().to_bytes()
        with pytest.raises(ValueError, match=r"stats must be left out: a Gpu.*Index does not take it, got True"):
            keyed.search(queries, 1, stats=True)
    of_gpu[0].to_store(tmp_path / "s")
    with fh.Store(tmp_path / "s") as store:
        assert store.search(queries, 7).keys.tolist() == of_cpu.search(queries, 7).keys.tolist()
    tensor = request.getfixturevalue("gpu_tensor")(queries)  # skips without torch what is left
    assert of_gpu[0].search(tensor, 7).keys.tolist() == of_cpu.search(queries, 7).keys.tolist()


@pytest.mark.parametrize("mode", ["node_ratio", "gallery_ratio", "radius"])
def test_pruned_searches(device, mode, gpu_tensor):
    index = fh.HierIndex((8, 16, 40))
    index.add(RNG.integers(0, 3, (3000, 8), np.uint8))
    on_gpu = index.to(device)
    queries = RNG.integers(0, 4, (5, 8), np.uint8)
    tensor = gpu_tensor(queries)
    for allow in (None, np.arange(100)):
        expected = index.search(queries, 9, keep=0.1, keep_mode=mode, allow=allow)
        assert_same(on_gpu.search(queries, 9, keep=0.1, keep_mode=mode, allow=allow), expected)
        found = on_gpu.search(tensor, 9, keep=0.1, keep_mode=mode, allow=allow)
        assert found.ids.device == tensor.device
        assert (found.ids.cpu().numpy() == expected.ids).all()
        assert (found.distances.cpu().numpy() == expected.distances).all()
    with pytest.raises(ValueError, match="keep must be"):
        on_gpu.search(queries, 9, keep=1.5)
    with pytest.raises(ValueError, match="keep_mode must be one of"):
        on_gpu.search(queries, 9, keep=0.5, keep_mode="best")


def test_a_pruned_search_of_one_large_node(device):
    index = fh.HierIndex((8, 16, 40))
    codes = RNG.integers(0, 256, (6000, 8), np.uint8)
    codes[:5000, :3] = 0  # one node, which holds more codes than a query has room for
    index.add(codes)
    queries = codes[[0, -1]]
    on_gpu = index.to(device)
    for k in (1, 20):
        assert_same(on_gpu.search(queries, k, keep=0.01), index.search(queries, k, keep=0.01))


def test_changes_send_what_is_new(device, kind):
    index = filled(kind, 5000)
    on_gpu = index.to(device)
    whole = on_gpu._copy.galleries[0]
    assert (whole.n_segments(), whole.n_reused()) == (1, 0)
    codes = RNG.integers(0, 4, (20, 8), np.uint8)
    for change in (lambda one: one.add(codes), lambda one: one.remove([3, 7]), lambda one: one.update([9], codes[:1])):
        change(on_gpu)
        change(index)
        assert on_gpu._copy.galleries[0].n_reused() > 0
        assert_same(on_gpu.search(codes, 30), index.search(codes, 30))
    on_gpu.compact()
    assert (on_gpu._copy.galleries[0].n_segments(), on_gpu._copy.galleries[0].n_reused()) == (1, 0)
    assert_same(on_gpu.search(codes, 30), index.search(codes, 30))


def test_a_mapped_index_is_read_from_its_file(device, kind, tmp_path):
    index = filled(kind, 3000, ids=RNG.permutation(10**5)[:3000])
    index.save(tmp_path / "index.fh")
    mapped = fh.load(tmp_path / "index.fh", mmap=True)
    on_gpu = mapped.to(device)
    queries = RNG.integers(0, 4, (9, 8), np.uint8)
    assert_same(on_gpu.search(queries, 20), index.search(queries, 20))
    assert on_gpu._index.nbytes == mapped.nbytes  # the codes are in the file and on the GPU alone


@pytest.mark.parametrize("memory", ["compact", "default", "fast"])
@pytest.mark.parametrize("plan", ["scan", "prefix", "multi-index", "clusters"])
@pytest.mark.parametrize("searched_by", ["scan", "clusters", ""])
def test_segments_of_every_plan(device, plan, memory, searched_by, monkeypatch):
    monkeypatch.setenv("FASTHASH_GPU_PLAN", searched_by)
    codes = np.concatenate([GALLERIES["clustered"](RNG, 3000, 8), GALLERIES["duplicated"](RNG, 1000, 8)])
    index = fh.HierIndex((8, 16, 40), plan=plan, memory=memory)
    index.add(codes, shuffled_ids(RNG, len(codes)))
    on_gpu = index.to(device)
    queries = np.concatenate([codes[:20], ~codes[:5]])
    for k in (1, 30):
        assert_same(on_gpu.search(queries, k), index.search(queries, k))
        assert_same(on_gpu.search(queries, k, keep=0.2), index.search(queries, k, keep=0.2))


def test_ids_far_apart(device, kind):
    ids = np.array([2**63 - 1, -(2**63), 0, 5, -2, 2**62], np.int64)
    codes = np.repeat(RNG.integers(0, 256, (3, 8), np.uint8), 2, axis=0)
    index = filled(kind, 0)
    index.add(codes, ids)
    on_gpu = index.to(device)
    assert_same(on_gpu.search(codes, 6), index.search(codes, 6))
    on_gpu.remove([0])
    assert_same(on_gpu.search(codes, 6), on_gpu.to("cpu").search(codes, 6))


def test_tensors_of_the_cpu_are_arrays(device):
    torch = pytest.importorskip("torch", reason="tensors need torch")
    index = filled("flat", 100)
    queries = RNG.integers(0, 4, (5, 8), np.uint8)
    found = index.to(device).search(torch.from_numpy(queries), 3)
    assert isinstance(found.ids, np.ndarray)
    assert_same(found, index.search(queries, 3))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda index: index.search(np.zeros((1, 7), np.uint8)), ValueError, r"queries must have shape \(n, 8\)"),
        (lambda index: index.search(np.zeros((1, 8), np.int8)), TypeError, "queries must be .*uint8"),
        (lambda index: index.search(np.zeros((1, 8), np.uint8), 0), ValueError, "k must be at least 1, got 0"),
        (lambda index: index.count_within(np.zeros((1, 8), np.uint8), -1), ValueError, "radius must be at least 0"),
        (
            lambda index: index.search(np.zeros((1, 8), np.uint8), allow=[0.5]),
            TypeError,
            "allow must be an integer array",
        ),
        (lambda index: index.to("gpu"), ValueError, "device must be 'cpu', 'cuda' or 'cuda:N', got 'gpu'"),
        (lambda index: index.to("cuda:77"), RuntimeError, "the GPU cannot be used: invalid device ordinal"),
    ],
)
def test_mistakes(device, kind, call, error, message):
    index = filled(kind, 50).to(device)
    with pytest.raises(error, match=message):
        call(index)
    assert index.search(np.zeros((1, 8), np.uint8), 1).ids.shape == (1, 1)


@pytest.fixture(scope="module")
def missing():
    """The table of docs/gpu.md: methods, or `method(argument)`, of the CPU index that a GPU index lacks."""
    page = (ROOT / "docs/gpu.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[^|]+`) \|", page.partition("## What is missing")[2].partition("\n## ")[0], re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def test_what_is_missing_is_listed(missing):
    lacking = set()
    for on_cpu, on_gpu in ((fh.FlatIndex, gpu.GpuFlatIndex), (fh.HierIndex, gpu.GpuHierIndex)):
        for name in dir(on_cpu):
            if name.startswith("_"):
                continue
            if not hasattr(on_gpu, name):
                lacking.add(name)
            elif callable(getattr(on_cpu, name)):
                arguments = (set(inspect.signature(getattr(one, name)).parameters) for one in (on_cpu, on_gpu))
                lacking |= {f"{name}({argument}=)" for argument in set.difference(*arguments)}
    assert lacking == missing


def test_what_runs_on_the_cpu_is_that_of_the_cpu(device, kind, tmp_path):
    index = filled(kind, 300)
    on_gpu = index.to(device)
    other = fh.FlatIndex.from_arrays(index.to_arrays()[0][:5], np.arange(1000, 1005))
    if kind == "hier":
        other = fh.HierIndex.from_arrays(*other.to_arrays(), level_bits=index.level_bits)
    copied = on_gpu.copy()
    queries = index.to_arrays()[0][:4]
    for one in (index, on_gpu):
        one.merge(other if one is index else other.to(device))
        one.add_chunks([queries, queries[:1]])
        one.remove([0, 1])
        one.compact()
        one.build_id_map()
    assert len(copied) == 300
    assert_same(copied.search(queries, 3), copied.to("cpu").search(queries, 3))
    assert_same(on_gpu.search(queries, 9), index.search(queries, 9))
    assert on_gpu.ntotal == len(index)
    assert on_gpu.to_bytes() == index.to_bytes()
    on_gpu.save(tmp_path / "index.fh")
    assert (tmp_path / "index.fh").read_bytes() == index.to_bytes()
    stats = on_gpu.stats()
    assert (stats.pop("device"), stats.pop("gpu_nbytes")) == ("cuda:0", on_gpu.nbytes)
    assert stats == index.stats()


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_copies_and_pickles_are_independent(devices, kind, copied):
    index = filled(kind, 300)
    on_gpu = index.to(devices, max_bytes=10**6)
    other = copied(on_gpu)
    assert (type(other), other.devices) == (type(on_gpu), (0, 1))
    assert other.to(devices, max_bytes=10**6) is other
    on_gpu.remove([0, 1])
    assert (len(other), len(on_gpu)) == (300, 298)
    assert other._lock is not on_gpu._lock
    queries = index.to_arrays()[0][:4]
    assert_same(other.search(queries, 9), index.search(queries, 9))


def test_too_little_memory_of_torch_is_a_memory_error(device, kind, gpu_tensor, monkeypatch):
    on_gpu = filled(kind, 100).to(device)
    queries = gpu_tensor(np.zeros((2, 8), np.uint8))
    torch = sys.modules["torch"]

    def no_room(*arguments, **options):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(torch, "empty", no_room)
    for search in (lambda: on_gpu.search(queries, 3), lambda: on_gpu.range_search(queries, 3)):
        with pytest.raises(MemoryError, match="memory of the GPU: CUDA out of memory"):
            search()
    monkeypatch.setattr(torch, "as_tensor", no_room)
    array = SimpleNamespace(__cuda_array_interface__={"stream": None})
    with pytest.raises(MemoryError, match="memory of the GPU: CUDA out of memory"):
        _gpu_arrays.on_gpu(array, 64, (0,))


def test_devices():
    assert gpu.check_devices("cpu") is None
    assert gpu.check_devices("cuda") == (0,)
    assert gpu.check_devices("cuda:12") == (12,)
    assert gpu.check_devices(["cuda:2", "cuda"]) == (2, 0)
    for wrong in ("cuda:", "cuda:-1", "CUDA", "mps", 0, None, [], ["cpu"], ["cuda", "cuda:0"], ["cuda:1", "cpu"]):
        with pytest.raises(ValueError, match="device must be"):
            filled("flat", 1).to(wrong)


def test_the_module_is_built_where_nvcc_is():
    if shutil.which("nvcc") is None:
        pytest.skip("needs nvcc")
    if importlib.util.find_spec("fasthash._cuda") is None:
        pytest.skip("installed with FASTHASH_CUDA=OFF, or this nvcc does not work")
    assert issubclass(_gpu_copy.cuda_module().OutOfMemory, MemoryError)


def test_without_a_gpu_it_says_so():
    if CARD:
        pytest.skip("there is a GPU")
    with pytest.raises(RuntimeError, match=r"built without CUDA; .*FASTHASH_CUDA=ON|no GPU can be used"):
        filled("hier", 1).to("cuda")
