"""The installed package as programs in C and C++ find it, and what the examples print beside Python's results."""

import ctypes
import json
import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import fasthash as fh
from native_build import PATH, ROOT, call, need, run

EXAMPLES = {"c": "search", "cpp": "duplicates"}
DOCS = (ROOT / "docs/c.md").read_text(encoding="utf-8")
STRICT = ["-Wall", "-Wextra", "-pedantic", "-Werror"]


@pytest.fixture(scope="module")
def prefix(core_build, tmp_path_factory):
    """Where the package is installed; moved since."""
    folder = tmp_path_factory.mktemp("installed")
    call("cmake", "--install", core_build, "--prefix", folder / "first")
    (folder / "first").rename(folder / "then")
    return folder / "then"


@pytest.fixture(scope="module")
def programs(prefix, tmp_path_factory):
    """The examples, built by find_package."""
    folder = tmp_path_factory.mktemp("programs")
    for language in EXAMPLES:
        strict = " ".join(STRICT)
        flags = f"-DCMAKE_C_FLAGS=-std=c99 {strict}" if language == "c" else f"-DCMAKE_CXX_FLAGS={strict}"
        source = ROOT / "examples" / language
        call("cmake", "-S", source, "-B", folder / language, f"-DCMAKE_PREFIX_PATH={prefix}", flags)
        call("cmake", "--build", folder / language)
    return {name: folder / language / name for language, name in EXAMPLES.items()}


@pytest.fixture(scope="module", params=["an installation", "the Python package"])
def programs_of_the_docs(request, prefix, tmp_path_factory):
    """The examples, built by the commands of docs/c.md against either."""
    need("pkg-config")
    folder = tmp_path_factory.mktemp("docs")
    shutil.copytree(ROOT / "examples", folder / "examples")
    python = folder / "bin/python"  # which need not be the name of the one that runs the tests
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    of_the_core, *of_programs = re.findall(r"```sh\n(.*?)```", DOCS, flags=re.DOTALL)
    assert "-DFASTHASH_PYTHON=OFF" in of_the_core  # what `core_build` does
    commands = "\n".join(of_programs)
    if request.param == "an installation":
        (folder / ".local").symlink_to(prefix)
        (folder / ".local/lib").exists() or (folder / ".local/lib").symlink_to("lib64")
    else:
        (of_cmake,) = re.findall(r"`(-Dfasthash_DIR=.*?)`", DOCS)
        of_pkgconfig = of_cmake.partition("=")[2].replace("get_cmake_dir", "get_pkgconfig_dir")
        assert commands.count("~/.local") == 2
        commands = commands.replace("-DCMAKE_PREFIX_PATH=~/.local", of_cmake)
        commands = commands.replace("~/.local/lib/pkgconfig", of_pkgconfig)
    path = os.pathsep.join([str(python.parent), PATH])
    call("sh", "-e", "-c", commands, cwd=folder, env={"PATH": path, "HOME": str(folder)})
    return folder


@pytest.fixture(params=[500, 12_000])
def gallery(request, tmp_path):
    """Codes with ties and near-duplicates, written for the examples."""
    rng = np.random.default_rng(5)
    codes = rng.integers(0, 256, (request.param, 16), dtype=np.uint8)
    codes[-200:] = codes[:200] ^ (rng.random((200, 16)) < 0.1)
    queries = codes[:20] ^ np.uint8(9)
    codes.tofile(tmp_path / "codes.bin")
    queries.tofile(tmp_path / "queries.bin")
    return codes, queries


def expected_search(codes, queries):
    index = fh.FlatIndex(codes.shape[1] * 8)
    index.add(codes)
    found = index.search(queries, k=10)
    rows = [
        " ".join(f"{i}:{d}" for i, d in zip(*row, strict=True)) for row in zip(found.ids, found.distances, strict=True)
    ]
    return [f"{len(codes)} codes of {index.n_bits} bits", *rows]


def expected_duplicates(codes, radius, first):
    index = fh.FlatIndex(codes.shape[1] * 8)
    index.add(codes)
    found = index.range_search(codes, radius)
    queries = np.repeat(np.arange(len(codes)), np.diff(found.offsets))
    rows = zip(queries, found.ids, found.distances, strict=True)
    pairs = [f"{a} {b} {d}" for a, b, d in rows if b > a and b >= first]
    return [f"{len(codes)} codes of {index.n_bits} bits", *pairs]


def test_the_c_example_finds_what_python_finds(programs, gallery, tmp_path):
    output = call(programs["search"], "128", "codes.bin", "queries.bin", "index.fh", cwd=tmp_path)
    assert output.splitlines() == expected_search(*gallery)
    codes, ids = fh.load(tmp_path / "index.fh").to_arrays()
    assert (codes == gallery[0]).all()
    assert (ids == np.arange(len(codes))).all()


@pytest.mark.parametrize("first", [None, 0, 450, 20_000])
def test_the_cpp_example_finds_what_python_finds(programs, gallery, tmp_path, first):
    more = [] if first is None else [first]
    output = call(programs["duplicates"], "128", "codes.bin", "12", *more, cwd=tmp_path)
    expected = expected_duplicates(gallery[0], 12, first or 0)
    assert output.splitlines() == expected
    assert first == 20_000 or len(expected) > 40


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search"], "usage: search N_BITS CODES QUERIES INDEX"),
        (["search", "4097", "codes.bin", "codes.bin", "i"], "N_BITS must be a whole number from 1 to 4096, got '4097'"),
        (["search", "abc", "codes.bin", "codes.bin", "i"], "N_BITS must be a whole number from 1 to 4096, got 'abc'"),
        (["search", "64x", "codes.bin", "codes.bin", "i"], "N_BITS must be a whole number from 1 to 4096, got '64x'"),
        (["search", "", "codes.bin", "codes.bin", "i"], "N_BITS must be a whole number from 1 to 4096, got ''"),
        (["search", "-8", "codes.bin", "codes.bin", "i"], "N_BITS must be a whole number from 1 to 4096, got '-8'"),
        (["search", "64", "none", "codes.bin", "i"], "none: No such file or directory"),
        (["search", "64", "codes.bin", "codes.bin", "no/i"], "No such file or directory: no/i"),
        (["search", "64", "codes.bin", "odd.bin", "i"], "odd.bin: ends within a code"),
        (["duplicates"], "usage: duplicates N_BITS CODES RADIUS [FIRST]"),
        (["duplicates", "0", "codes.bin", "1"], "N_BITS must be 1 to 4096, got 0"),
        (["duplicates", "-8", "codes.bin", "1"], "N_BITS must be a whole number, got '-8'"),
        (["duplicates", "64", "codes.bin", "-1"], "RADIUS must be at least 0, got -1"),
        (["duplicates", "64", "codes.bin", "x"], "RADIUS must be a whole number, got 'x'"),
        (["duplicates", "64", "codes.bin", "12.5"], "RADIUS must be a whole number, got '12.5'"),
        (
            ["duplicates", "64", "codes.bin", "9999999999"],
            "RADIUS must be a whole number up to 2147483647, got '9999999999'",
        ),
        (["duplicates", "64", "codes.bin", "1", "all"], "FIRST must be a whole number, got 'all'"),
        (["duplicates", "64", "none", "1"], "cannot open none"),
        (["duplicates", "64", "odd.bin", "1"], "odd.bin ends within a code"),
    ],
)
def test_the_examples_say_what_is_wrong(programs, tmp_path, arguments, message):
    (tmp_path / "codes.bin").write_bytes(bytes(64))
    (tmp_path / "odd.bin").write_bytes(bytes(63))
    result = run(programs[arguments[0]], *arguments[1:], cwd=tmp_path)
    assert result.returncode == 1
    assert message in result.stderr
    assert result.stdout == ""


def test_the_commands_of_the_docs_build_programs_that_work(programs_of_the_docs, tmp_path):
    codes = np.random.default_rng(6).integers(0, 4, (300, 8), dtype=np.uint8)
    codes.tofile(tmp_path / "codes.bin")
    arguments = ["64", "codes.bin", "codes.bin", "index.fh"]
    for program in ("search", "build/search/search"):
        output = call(programs_of_the_docs / program, *arguments, cwd=tmp_path)
        assert output.splitlines() == expected_search(codes, codes)
    output = call(programs_of_the_docs / "duplicates", "64", "codes.bin", "4", cwd=tmp_path)
    assert output.splitlines() == expected_duplicates(codes, 4, 0)


def test_a_project_may_compile_the_engine_itself(tmp_path):
    """Neither Python nor pybind11 is looked for. That the library compiles is seen elsewhere."""
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.20)\nproject(host LANGUAGES C CXX)\n"
        f"add_subdirectory({ROOT.as_posix()} fasthash)\nadd_executable(host {ROOT.as_posix()}/examples/c/search.c)\n"
        "target_link_libraries(host PRIVATE fasthash::fasthash)\n"
    )
    absent = ("pybind11", "Python", "Python3")
    call("cmake", "-S", tmp_path, "-B", tmp_path, *(f"-DCMAKE_DISABLE_FIND_PACKAGE_{name}=ON" for name in absent))


def test_the_docs_quote_the_examples():
    blocks = re.findall(r"```(c|cpp|cmake)\n(.*?)```", DOCS, flags=re.DOTALL)
    texts = {
        "c": (ROOT / "examples/c/search.c").read_text(encoding="utf-8"),
        "cpp": (ROOT / "examples/cpp/duplicates.cpp").read_text(encoding="utf-8"),
        "cmake": (ROOT / "examples/c/CMakeLists.txt").read_text(encoding="utf-8"),
    }
    assert {language for language, _ in blocks} == set(texts)
    for language, block in blocks:
        assert block in texts[language]


def test_pkg_config_knows_where_the_package_has_moved_to(prefix):
    need("pkg-config")
    env = {"PKG_CONFIG_PATH": str(prefix / "lib/pkgconfig")}
    assert call("pkg-config", "--modversion", "fasthash", env=env).strip() == fh.__version__
    folder = call("pkg-config", "--variable=includedir", "fasthash", env=env).strip()
    assert (Path(folder) / "fasthash/fasthash.h").samefile(prefix / "include/fasthash/fasthash.h")


def test_every_header_stands_alone(prefix, tmp_path):
    headers = sorted(path.name for path in (prefix / "include/fasthash").iterdir())
    assert headers == sorted(path.name for path in (ROOT / "cpp/include/fasthash").iterdir())
    for name in headers:
        source = tmp_path / f"{name}.cpp"
        source.write_text(f"#include <fasthash/{name}>\n#include <fasthash/{name}>\n")
        call("c++", "-std=c++17", *STRICT, "-fsyntax-only", f"-I{prefix / 'include'}", source)


@pytest.mark.parametrize("standard", ["c99", "c11", "c17"])
def test_the_header_of_c_is_strict_c(prefix, tmp_path, standard):
    source = tmp_path / "header.c"
    source.write_text("#include <fasthash/fasthash.h>\nint main(void) { return FASTHASH_OK; }\n")
    flags = [f"-std={standard}", *STRICT, "-Wstrict-prototypes", "-Wc++-compat"]
    call("cc", *flags, "-fsyntax-only", f"-I{prefix / 'include'}", source)


def test_the_library_is_compiled_for_every_processor_and_for_shared_libraries(core_build):
    commands = json.loads((core_build / "compile_commands.json").read_text())
    library = [entry["command"] for entry in commands if "fasthash.dir" in entry["command"]]
    assert len(library) > 30
    for command in library:
        assert " -fPIC " in command
        assert not re.search(r" -m(?!acosx-version-min)", command), command


def test_the_package_carries_headers_and_library():
    assert (Path(fh.get_include()) / "fasthash/fasthash.h").is_file()
    assert (Path(fh.get_include()) / "fasthash/hier_index.h").is_file()
    assert (Path(fh.get_cmake_dir()) / "fasthash-config.cmake").is_file()
    assert (Path(fh.get_cmake_dir()) / "fasthash-config-version.cmake").is_file()
    assert (Path(fh.get_pkgconfig_dir()) / "fasthash.pc").is_file()
    assert (Path(fh.get_pkgconfig_dir()).parent / "libfasthash.a").is_file()


@pytest.fixture(params=["renamed", "as_it_was/fasthash"])
def package(request, tmp_path):
    """The folder of the package as a wheel lays it out, elsewhere and perhaps under another name."""
    folder = tmp_path / request.param
    for part in ("include", "lib"):
        shutil.copytree(Path(fh.get_include()).parent / part, folder / part)
    return folder


def test_a_renamed_package_still_builds_programs(package, tmp_path):
    env = {"PKG_CONFIG_PATH": str(package / "lib/pkgconfig")}
    flags = call("pkg-config", "--cflags", "--libs", "fasthash", env=env).split()
    for flag in flags[:2]:
        assert Path(flag[2:]).resolve() in (package / "include", package / "lib")
    call("cc", ROOT / "examples/c/search.c", "-o", tmp_path / "by_pkg_config", *flags)
    options = ("-S", ROOT / "examples/c", "-B", tmp_path / "by_cmake", f"-Dfasthash_DIR={package}/lib/cmake/fasthash")
    call("cmake", *options)
    call("cmake", "--build", tmp_path / "by_cmake")
    codes = np.random.default_rng(8).integers(0, 4, (300, 8), dtype=np.uint8)
    codes.tofile(tmp_path / "codes.bin")
    for program in ("by_pkg_config", "by_cmake/search"):
        output = call(tmp_path / program, "64", "codes.bin", "codes.bin", "index.fh", cwd=tmp_path)
        assert output.splitlines() == expected_search(codes, codes)


@pytest.mark.skipif(sys.platform != "linux", reason="reads ELF files")
def test_the_static_library_shows_what_programs_link_with():
    """The modules for Python hide the same functions."""
    library = Path(fh.get_pkgconfig_dir()).parent / "libfasthash.a"
    header = (ROOT / "cpp/include/fasthash/fasthash.h").read_text(encoding="utf-8")
    names = set(re.findall(r"^[a-z].*?\b(fasthash_\w+)\(", header, flags=re.MULTILINE))
    lines = [line.split() for line in call("nm", "--defined-only", "-C", library).splitlines()]
    shown = {line[2] for line in lines if len(line) >= 3 and line[1] == "T"}
    assert len(names) > 30
    assert names <= shown
    assert {"fasthash::FlatIndex::FlatIndex(unsigned", "fasthash::load_index(std::__cxx11::basic_string<char,"} <= shown


@pytest.mark.skipif(sys.platform != "linux", reason="linked as on Linux")
def test_the_library_of_the_package_works_in_a_shared_library(tmp_path):
    """As another language would call it."""
    library = Path(fh.get_pkgconfig_dir()).parent / "libfasthash.a"
    shared = tmp_path / "shared.so"
    call("c++", "-shared", "-o", shared, "-Wl,--whole-archive", library, "-Wl,--no-whole-archive", "-pthread")
    core = ctypes.CDLL(str(shared))
    exported = {line.split()[-1] for line in call("nm", "-D", "--defined-only", shared).splitlines()}
    assert {"fasthash_flat_create", "fasthash_index_search", "fasthash_index_free"} <= exported
    core.fasthash_version.restype = core.fasthash_last_error.restype = ctypes.c_char_p
    assert core.fasthash_version().decode() == fh.__version__

    class Codes(ctypes.Structure):
        _fields_ = [("data", ctypes.c_void_p), ("n", ctypes.c_size_t), ("n_bytes", ctypes.c_size_t)]

    codes = np.random.default_rng(7).integers(0, 4, (300, 8), dtype=np.uint8)
    passed = Codes(codes.ctypes.data, *codes.shape)
    index = ctypes.c_void_p()
    assert core.fasthash_flat_create(ctypes.c_size_t(64), ctypes.byref(index)) == 0
    assert core.fasthash_index_add(index, passed, None) == 0
    distances, ids = np.empty((300, 3), np.int32), np.empty((300, 3), np.int64)
    out = [ctypes.c_void_p(array.ctypes.data) for array in (distances, ids)]
    assert core.fasthash_index_search(index, passed, ctypes.c_size_t(3), None, *out) == 0
    assert core.fasthash_index_search(index, passed, ctypes.c_size_t(0), None, *out) == 1
    assert core.fasthash_last_error() == b"k must be at least 1, got 0"
    core.fasthash_index_free(index)
    same = fh.FlatIndex(64)
    same.add(codes)
    expected = same.search(codes, k=3)
    assert (distances == expected.distances).all()
    assert (ids == expected.ids).all()


PLUGIN = """
#include <fasthash/fasthash.h>
__attribute__((visibility("default"))) int answer(void) {
    static uint8_t codes[8000][8], queries[64][8];
    int32_t distances[64];
    int64_t ids[64];
    fasthash_codes added = {codes[0], 8000, 8}, asked = {queries[0], 64, 8};
    fasthash_index* index;
    if (fasthash_set_num_threads(4) || fasthash_flat_create(64, &index)) return 1;
    if (fasthash_index_add(index, added, 0) || fasthash_index_search(index, asked, 1, 0, distances, ids)) return 2;
    fasthash_index_free(index);
    return 42;
}
"""

HOST = """
import _ctypes, ctypes, os, sys
plugin = ctypes.CDLL(sys.argv[1])
assert plugin.answer() == 42
_ctypes.dlclose(plugin._handle)
ctypes.CDLL(sys.argv[1], os.RTLD_NOLOAD | os.RTLD_LAZY)  # fails if it is not loaded
"""


@pytest.mark.skipif(sys.platform != "linux", reason="on other systems nothing keeps a library loaded")
@pytest.mark.parametrize("tool", ["pkg-config", "cmake"])
def test_closing_a_plugin_leaves_it_to_its_worker_threads(prefix, tmp_path, tool):
    """A plugin of a database may be closed before the process ends; the library's threads go on."""
    (tmp_path / "plugin.c").write_text(PLUGIN)
    hidden = "-Wl,--exclude-libs,ALL"  # C++ symbols that a shared library exports keep it loaded by chance
    if tool == "pkg-config":
        flags = call(tool, "--cflags", "--libs", "fasthash", env={"PKG_CONFIG_PATH": str(prefix / "lib/pkgconfig")})
        call("cc", "-shared", "-fPIC", "plugin.c", "-o", "plugin.so", hidden, *flags.split(), cwd=tmp_path)
    else:
        (tmp_path / "CMakeLists.txt").write_text(
            "cmake_minimum_required(VERSION 3.20)\nproject(plugin LANGUAGES C)\nfind_package(fasthash REQUIRED)\n"
            'add_library(plugin MODULE plugin.c)\nset_target_properties(plugin PROPERTIES PREFIX "")\n'
            f"target_link_libraries(plugin PRIVATE fasthash::fasthash {hidden})\n"
        )
        call(tool, "-S", tmp_path, "-B", tmp_path, f"-DCMAKE_PREFIX_PATH={prefix}")
        call(tool, "--build", tmp_path)
    call(sys.executable, "-c", HOST, tmp_path / "plugin.so")
