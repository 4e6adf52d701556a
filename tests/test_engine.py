"""The engine's choices - plan, memory, threads, instruction set - change its speed and never its answers."""

import itertools
import os
import re
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fasthash as fh
import reference
from bad_input import NO_INTEGERS, named
from fasthash import _core
from galleries import GALLERIES, clustered, constant, uniform
from indices import LEVELS, MEMORIES, PLANS, assert_same, filled, indices, problems, simd, threads


def offered_by_the_processor():
    """Levels by what the operating system says of the processor, a second opinion."""
    machine = os.uname().machine
    if machine in ("aarch64", "arm64"):
        return ["scalar", "neon"]
    with open("/proc/cpuinfo") as file:
        flags = set(next(line for line in file if line.startswith("flags")).split())
    levels = ["scalar"]
    if {"avx2", "bmi2", "popcnt"} <= flags:
        levels.append("avx2")
        if {"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= flags:
            levels.append("avx512bw")
            if {"avx512_vpopcntdq", "avx512_bitalg"} <= flags:
                levels.append("avx512")
    return levels


@pytest.mark.skipif(not os.path.exists("/proc/cpuinfo"), reason="needs /proc/cpuinfo")
def test_every_level_of_this_machine_is_offered():
    assert offered_by_the_processor() == LEVELS


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("n_bytes", [*range(1, 34), 40, 47, 48, 63, 64, 65, 96, 100, 127, 128, 200, 256, 511, 512])
def test_every_level_counts_right(level, n_bytes):
    """The kernels' own test in C++ has all widths."""
    rng = np.random.default_rng(n_bytes)
    codes = np.concatenate([uniform(rng, 90, n_bytes), clustered(rng, 61, n_bytes)])
    queries = np.concatenate([codes[:2], ~codes[2:4], uniform(rng, 3, n_bytes)])
    ids = rng.permutation(len(codes))
    expected = reference.search(queries, codes, ids, len(codes) + 1)
    with simd(level):
        for index in [fh.FlatIndex(n_bytes * 8), *(fh.HierIndex((n_bytes * 8,), plan=plan) for plan in PLANS)]:
            result = filled(index, codes, ids).search(queries, len(codes) + 1)
            assert_same(result, fh.SearchResult(*expected))
            few = index.search(queries, 3)  # few wanted: the kernels leave most codes out
            assert_same(few, fh.SearchResult(expected[0][:, :3], expected[1][:, :3]))


def run_python(code, **env):
    return subprocess.run(
        [sys.executable, "-c", code], env=os.environ | env, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_environment_forces_a_level():
    for level in LEVELS:
        result = run_python("import fasthash; print(fasthash.simd_level())", FASTHASH_SIMD=level)
        assert result.stdout.strip() == level, result.stderr
    result = run_python("import fasthash; print(fasthash.simd_level())", FASTHASH_SIMD="")
    assert result.stdout.strip() == LEVELS[-1]


@pytest.mark.parametrize("wrong", ["avx3", "AVX2", "neon" if "neon" not in LEVELS else "avx2"])
def test_a_level_that_is_not_offered_is_refused(wrong):
    result = run_python("import fasthash", FASTHASH_SIMD=wrong)
    assert f"FASTHASH_SIMD must be one of the levels that this machine offers ({', '.join(LEVELS)}), got '{wrong}'" in (
        result.stderr
    )
    with pytest.raises(ValueError, match="name must be one of the levels"):
        _core.set_simd_level(wrong)


@pytest.mark.parametrize("kind", GALLERIES)
@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("plan", ["auto", *PLANS])
def test_plans_and_memories_agree(kind, memory, plan):
    rng = np.random.default_rng(7)
    both = GALLERIES[kind](rng, 20_050, 8)
    codes, queries = both[:20_000], both[20_000:]
    ids = rng.permutation(20_000) - 1000
    ids[ids == -1] = 40_000
    flat = filled(fh.FlatIndex(64), codes, ids)
    index = filled(fh.HierIndex((8, 16, 40), memory=memory, plan=plan), codes, ids)
    if plan != "auto":
        assert index.stats()["plan"] == plan
    for k in (1, 10, 300, 20_001):
        assert_same(index.search(queries[: 50 if k < 300 else 3], k), flat.search(queries[: 50 if k < 300 else 3], k))
    # One call for each query takes another way than many at once.
    assert_same(index.search(queries[:1], 10), flat.search(queries[:1], 10))
    assert_same(index.search(queries, 10, keep=1), flat.search(queries, 10))


@pytest.mark.parametrize("plan", ["prefix", "multi-index"])
def test_a_plan_that_does_not_pay_ends_as_a_scan(plan):
    rng = np.random.default_rng(8)
    codes, queries = uniform(rng, 300_000, 8), uniform(rng, 5, 8)
    index = filled(fh.HierIndex((8, 16, 40), plan=plan), codes)
    result, stats = index.search(queries, 2000, stats=True)
    assert_same(result, filled(fh.FlatIndex(64), codes).search(queries, 2000))
    assert set(stats.plan) == {f"{plan}+scan"}
    assert (stats.codes_compared >= len(codes)).all()  # the scan compares all of them


@pytest.mark.parametrize(
    ("gallery", "memory", "scans"),
    [
        (lambda rng: clustered(rng, 300_000, 8, 100, 0.02), "default", False),
        (lambda rng: clustered(rng, 300_000, 8, 100, 0.04), "compact", False),
        (lambda rng: clustered(rng, 300_000, 8, 100, 0.12), "fast", False),
        (lambda rng: uniform(rng, 300_000, 8), "default", True),
        (lambda rng: uniform(rng, 300_000, 32), "fast", True),
        (lambda rng: uniform(rng, 100, 8), "fast", True),
        (lambda rng: clustered(rng, 300_000, 32, 100, 0.02), "fast", False),
    ],
)
def test_the_planner_takes_what_suits_the_codes(gallery, memory, scans):
    """Codes in clusters are searched by a plan that spares most of them; others are scanned."""
    codes = gallery(np.random.default_rng(9))
    index = filled(fh.HierIndex((codes.shape[1] * 8,), memory=memory), codes)
    stats = index.stats()
    assert (stats["plan"] == "scan") == scans
    _, work = index.search(codes[:3], 10, stats=True)
    assert set(work.plan) == {stats["plan"]}
    if scans:
        assert (work.codes_compared == stats["n_distinct_codes"]).all()
        assert (work.nodes_visited == 0).all()
    else:
        assert (work.codes_compared < stats["n_distinct_codes"]).all()
        assert (work.nodes_visited > 0).all()


def test_many_queries_at_once_are_scanned_where_that_is_less_work():
    rng = np.random.default_rng(10)
    codes, queries = clustered(rng, 200_000, 8, 100, 0.2), uniform(rng, 600, 8)
    index = filled(fh.HierIndex((64,), plan="prefix"), codes)
    result, stats = index.search(queries, 10, stats=True)
    assert set(stats.plan) == {"scan"}
    assert_same(result, filled(fh.FlatIndex(64), codes).search(queries, 10))


@pytest.mark.parametrize("n_threads", [1, 2, 3, 8])
def test_threads_agree(n_threads):
    """One query is shared out by codes, many by queries; ids ascend with the codes, or have no order."""
    rng = np.random.default_rng(11)
    codes, queries = clustered(rng, 300_000, 8, 100, 0.1), clustered(rng, 700, 8, 100, 0.1)
    for ids, plans in ((None, [None]), (rng.permutation(len(codes)), [None, *PLANS])):
        with threads(1):
            expected = filled(fh.FlatIndex(64), codes, ids).search(queries, 50)
        with threads(n_threads):
            assert fh.get_num_threads() == n_threads
            for plan in plans:
                index = filled(fh.HierIndex((8, 56), plan=plan) if plan else fh.FlatIndex(64), codes, ids)
                for n in (1, 2, 5, 700):
                    assert_same(index.search(queries[:n], 50), [part[:n] for part in expected])


@settings(max_examples=settings.default.max_examples // 2)
@given(problems(), st.data())
def test_threads_and_instruction_sets_agree(problem, data):
    layout, codes, queries, ids, k = problem
    index = data.draw(indices(layout, codes, ids))
    radius = data.draw(st.integers(0, sum(layout)), label="radius")
    allow = ids[::2]
    left = reference.allowed(codes, ids, allow)
    nearest, within = reference.search(queries, codes, ids, k), reference.range_search(queries, codes, ids, radius)
    nearest_left, within_left = reference.search(queries, *left, k), reference.range_search(queries, *left, radius)
    for level, n in itertools.product(LEVELS, (1, 2, 3, 7, 16)):
        with simd(level), threads(n):
            assert_same(index.search(queries, k), nearest)
            assert_same(index.search(queries, k, allow=allow), nearest_left)
            assert_same(index.range_search(queries, radius), within)
            assert_same(index.range_search(queries, radius, allow=allow), within_left)
            assert_same([index.count_within(queries, radius)], [np.diff(within[0])])
            assert_same([index.count_within(queries, radius, allow=allow)], [np.diff(within_left[0])])
            if isinstance(index, fh.HierIndex):
                assert_same(index.search(queries, k, keep=1), nearest)


@pytest.mark.parametrize("memory", MEMORIES)
def test_threads_build_the_same_index(memory):
    codes = clustered(np.random.default_rng(12), 300_000, 8, 100, 0.04)
    with threads(1):
        one = filled(fh.HierIndex((8, 16, 40), memory=memory), codes).stats()
    with threads(5):
        assert filled(fh.HierIndex((8, 16, 40), memory=memory), codes).stats() == one


@pytest.mark.parametrize(
    ("n", "error", "message"),
    [
        *((n, ValueError, f"n must be at least 1, got {n}") for n in (0, -1, -(2**64))),
        *((n, ValueError, f"n must be at most 1024, got {n}") for n in (1025, 10_000, 2**32 + 1, 2**64)),
        *named("n", NO_INTEGERS),
    ],
)
def test_refused_numbers_of_threads(n, error, message):
    before = fh.get_num_threads()
    with pytest.raises(error, match=re.escape(message)):
        fh.set_num_threads(n)
    assert fh.get_num_threads() == before


def test_callers_that_search_at_once_do_not_disturb_each_other():
    rng = np.random.default_rng(13)
    codes, queries = uniform(rng, 300_000, 8), uniform(rng, 40, 8)
    index = filled(fh.FlatIndex(64), codes)
    expected = index.search(queries, 10)
    results = []
    callers = [threading.Thread(target=lambda: results.append(index.search(queries, 10))) for _ in range(12)]
    with threads(4):
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
    assert len(results) == 12
    for result in results:
        assert_same(result, expected)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_searches_with_threads_of_its_own():
    rng = np.random.default_rng(14)
    index = filled(fh.FlatIndex(64), uniform(rng, 400_000, 8))
    queries = uniform(rng, 1, 8)
    with threads(4):
        expected = index.search(queries, 10)  # starts the parent's threads
        for _ in range(3):
            child = os.fork()
            if child == 0:
                same = (index.search(queries, 10).ids == expected.ids).all()
                os._exit(0 if same else 1)
            deadline = time.monotonic() + 30
            while (status := os.waitpid(child, os.WNOHANG))[0] == 0:
                if time.monotonic() > deadline:
                    os.kill(child, signal.SIGKILL)
                    os.waitpid(child, 0)
                    pytest.fail("the child hangs")
                time.sleep(0.01)
            assert os.waitstatus_to_exitcode(status[1]) == 0
        assert_same(index.search(queries, 10), expected)


INTERRUPTED = """
import os, signal, sys, threading, time
import numpy as np
import fasthash as fh

rng = np.random.default_rng(0)
index = fh.FlatIndex(512) if sys.argv[1] == "flat" else fh.HierIndex((512,), plan=sys.argv[1])
codes = rng.integers(0, 256, (300_000, 64), dtype=np.uint8)
index.add(codes)
queries = np.tile(codes[:1000] ^ np.uint8(0x55), (100, 1))
if sys.argv[1] == "prefix":
    queries = queries[:15].repeat(200, axis=0)
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells have background jobs ignore it
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
begin = time.monotonic()
try:
    while True:
        index.search(queries, 1000)
except KeyboardInterrupt:
    print("interrupted", time.monotonic() - begin < 20, (index.search(codes[:1], 1).ids == 0).all())
"""


@pytest.mark.parametrize("plan", ["flat", "scan", "prefix"])
def test_ctrl_c_ends_a_long_search(plan):
    result = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, plan], capture_output=True, text=True, timeout=120, check=False
    )
    assert result.stdout.strip() == "interrupted True True", result.stderr


INTERRUPTED_CHANGE = """
import os, signal, sys, threading, time
import numpy as np
import fasthash as fh

rng = np.random.default_rng(0)
codes = rng.integers(0, 256, (3_000_000, 8), dtype=np.uint8)
index = fh.HierIndex((64,), plan=sys.argv[2])
index.add(codes[:1000])
call = {
    "add": lambda: index.add(codes),
    "compact": lambda: index.compact(),
    "save": lambda: index.save(sys.argv[3]),
}[sys.argv[1]]
if sys.argv[1] in ("compact", "save"):
    index.add(codes)
    index.add(codes[:10_000])
n = len(index)
before = time.monotonic()
signal.signal(signal.SIGINT, signal.default_int_handler)  # as above
threading.Timer(0.15, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    while True:
        call()
        if sys.argv[1] == "add":
            index = fh.HierIndex((64,), plan=sys.argv[2])
            n = 0
except KeyboardInterrupt:
    late = time.monotonic() - before - 0.15
    print("interrupted", late < 5, len(index) == n, (index.search(codes[:1], 1).distances <= 64).all() or n == 0)
"""


@pytest.mark.parametrize("call", ["add", "compact", "save"])
@pytest.mark.parametrize("plan", ["scan", "multi-index"])
def test_ctrl_c_ends_a_long_change_which_then_has_not_happened(call, plan, tmp_path):
    arguments = [call, plan, str(tmp_path / "index.fh")]
    result = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_CHANGE, *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert result.stdout.strip() == "interrupted True True True", result.stderr
    assert [path.name for path in tmp_path.iterdir()] in ([], ["index.fh"])


def one_distance(rng, n):
    """Codes that all have 32 bits set: one distance from zero."""
    bits = np.zeros((n, 64), np.uint8)
    bits[:, :32] = 1
    return np.packbits(rng.permuted(bits, axis=1), axis=1)


@pytest.mark.parametrize("plan", ["auto", *PLANS])
@pytest.mark.parametrize("gallery", ["constant", "one_distance", "one a prefix"])
def test_the_worst_galleries(gallery, plan):
    rng = np.random.default_rng(15)
    n = 30_000
    codes = {
        "constant": lambda: constant(rng, n, 8),
        "one_distance": lambda: one_distance(rng, n),
        "one a prefix": lambda: np.concatenate(
            [np.arange(n, dtype=">u2").view(np.uint8).reshape(n, 2), np.zeros((n, 6), np.uint8)], axis=1
        ),
    }[gallery]()
    queries = np.zeros((2, 8), np.uint8)
    ids = rng.permutation(n)
    flat = filled(fh.FlatIndex(64), codes, ids)
    index = filled(fh.HierIndex((8, 16, 40), plan=plan), codes, ids)
    for k in (1, 100, n, n + 5):
        expected = fh.SearchResult(*reference.search(queries, codes, ids, k))
        assert_same(flat.search(queries, k), expected)
        assert_same(index.search(queries, k), expected)


def test_added_pieces_keep_the_plan_right():
    rng = np.random.default_rng(16)
    index = fh.HierIndex((8, 16, 40), memory="fast")
    flat = fh.FlatIndex(64)
    for _ in range(3):
        codes = clustered(rng, 50_000, 8, 20, 0.03)
        index.add(codes)
        flat.add(codes)
    queries = clustered(rng, 30, 8, 20, 0.03)
    assert_same(index.search(queries, 10), flat.search(queries, 10))
    again = filled(fh.HierIndex((8, 16, 40), memory="fast"), np.zeros((0, 8), np.uint8))
    assert again.stats()["plan"] == "scan"


@pytest.mark.parametrize("memory", MEMORIES)
def test_a_loaded_index_has_the_memory_it_was_saved_with(memory, tmp_path):
    rng = np.random.default_rng(17)
    codes = clustered(rng, 100_000, 8, 100, 0.05)
    index = filled(fh.HierIndex((8, 16, 40), memory=memory), codes)
    index.save(tmp_path / "index.fh")
    loaded = fh.load(tmp_path / "index.fh")
    assert loaded.stats() == index.stats()
    queries = clustered(rng, 20, 8)
    assert_same(loaded.search(queries, 10), index.search(queries, 10))
    pruned = index.search(queries, 10, keep=0.3)
    assert_same(loaded.search(queries, 10, keep=0.3), pruned)
