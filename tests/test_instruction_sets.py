"""Whatever is compiled for newer processors is called on them alone: read from the machine code."""

import platform
import shutil
from collections import Counter
from pathlib import Path

import pytest

import fasthash as fh
from fasthash import _core
from instruction_sets import GUARDED, faults, functions
from native_build import PATH, call, run

pytestmark = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="needs x86-64: elsewhere one instruction set is all there is"
)
LIBRARY = Path(fh.get_include()).parent / "lib/libfasthash.a"


@pytest.fixture(scope="module")
def library():
    return functions(LIBRARY)


def test_newer_instructions_stand_only_where_the_processor_is_asked_for_them(library):
    assert faults(library) == []
    # And they are there, which shows that the disassembly was read.
    kernels = {
        "avx2": ["scan_narrow", "scan_rows", "distances", "find_between"],
        "avx512bw": ["scan_planes", "scan_wide", "find_between"],
        "avx512": ["scan_wide", "scan_rows", "distances", "find_between"],
    }
    for source, level in GUARDED.items():
        names = " ".join(function.name for function in library if function.source == source)
        for kernel in kernels[level]:
            assert kernel in names


def test_the_module_adds_none_to_those_of_the_library(library):
    # Its functions have no names any more, but their instructions can be counted.
    in_module = sum((function.newer for function in functions(_core.__file__)), Counter())
    assert in_module == sum((function.newer for function in library), Counter())


SHARED = """
template <typename T> __attribute__((noinline, target("avx2"))) T twice(const int* p) {
    T sum = 0;
    for (int i = 0; i < 64; ++i) sum += p[i] * p[i];
    return sum;
}
__attribute__((target("avx2"))) int use(const int* p) { return twice<int>(p); }
static __attribute__((noinline, target("popcnt"))) int count(unsigned x) { return __builtin_popcount(x); }
__attribute__((target("popcnt"))) int use_count(unsigned x) { return count(x + 1); }
"""


@pytest.mark.parametrize(
    ("source", "expected"),
    [("scan.cpp", "called on every processor"), ("avx2.cpp", "may be linked in place of another object's copy")],
)
def test_an_unguarded_function_is_found(tmp_path, source, expected):
    (tmp_path / source).write_text(SHARED)
    call("c++", "-O3", "-c", tmp_path / source, "-o", tmp_path / f"{source}.o")
    call("ar", "rc", tmp_path / "small.a", tmp_path / f"{source}.o")
    lines = {line.split()[0]: line for line in faults(functions(tmp_path / "small.a"))}
    assert expected in lines["_Z5twiceIiET_PKi"]  # the linker may take any object's copy of a template
    local = [line for name, line in lines.items() if name.startswith("_ZL5count")]
    assert len(local) == (source == "scan.cpp")


def test_avx512_is_found_among_the_kernels_for_avx2(tmp_path):
    (tmp_path / "avx2.cpp").write_text(SHARED.replace('target("avx2")', 'target("avx512vl,avx512f,avx512bw")'))
    flags = ["-O3", "-mprefer-vector-width=512"]
    call("c++", *flags, "-c", tmp_path / "avx2.cpp", "-o", tmp_path / "avx2.cpp.o")
    found = functions(tmp_path / "avx2.cpp.o")
    assert any(function.evex for function in found)
    local = [function._replace(local=True) for function in found]
    assert any("which AVX2 does not have" in line for line in faults(local))


def test_a_popcount_of_registers_is_found_among_the_kernels_without(tmp_path):
    (tmp_path / "avx512bw.c").write_text(
        "#include <immintrin.h>\n"
        '__attribute__((target("avx512f,avx512vpopcntdq"))) __m512i f(__m512i a) { return _mm512_popcnt_epi64(a); }\n'
    )
    call("cc", "-O2", "-c", tmp_path / "avx512bw.c", "-o", tmp_path / "avx512bw.c.o")
    found = [each._replace(local=True, source="avx512bw.cpp") for each in functions(tmp_path / "avx512bw.c.o")]
    assert any("a popcount of registers" in line for line in faults(found))


@pytest.mark.parametrize("processor", ["kvm64", "Nehalem", "Haswell"])
def test_the_core_runs_on_older_processors(core_build, tmp_path, processor):
    """Emulated ones: without SSE3, without AVX, without AVX-512."""
    emulator = shutil.which("qemu-x86_64", path=PATH) or pytest.skip("needs qemu-x86_64")
    result = run(emulator, "-cpu", processor, core_build / "c_api_test", cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "c_api_test: all passed" in result.stdout
