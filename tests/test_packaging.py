"""What is handed out: the source distribution, and the wheel that is built from it without network and without git.

What builds a wheel is left to `make wheels`."""

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from fasthash._core import __version__
from instruction_sets import faults, functions
from native_build import PATH, ROOT, call, need, run

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli", reason="needs tomli")

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]
NAME = f"fasthash_search-{__version__}"
NOT_HANDED_OUT = (".ci/", ".github/")
# Jobs with more rights than to read: their rights, and the condition under which they run.
MAY_PUBLISH = {
    "publish": ({"id-token": "write"}, "startsWith(github.ref, 'refs/tags/v')"),
    "deploy": ({"id-token": "write", "pages": "write"}, "github.ref == 'refs/heads/main'"),
}
# A build that asks either of them fails.
OFFLINE = {"PIP_NO_INDEX": "1", **dict.fromkeys(("http_proxy", "https_proxy", "ALL_PROXY"), "http://127.0.0.1:9")}


def offline():
    """The start of a command that runs without a network, where the system allows that."""
    if shutil.which("unshare") and run("unshare", "--net", "true").returncode == 0:
        return ("unshare", "--net")
    return ()


def build(kind, source, folder, settings=None):
    """The distribution that the build backend makes of a folder with sources, as build and pip ask it."""
    pytest.importorskip("scikit_build_core", reason="needs scikit-build-core")
    no_git = folder / "no-git"
    no_git.mkdir(parents=True)
    (no_git / "git").write_text("#!/bin/sh\nexit 1\n")
    (no_git / "git").chmod(0o755)
    code = f"from scikit_build_core import build; print(build.build_{kind}({str(folder)!r}, {settings!r}))"
    result = subprocess.run(
        [*offline(), sys.executable, "-c", code],
        cwd=source,
        env=os.environ | OFFLINE | {"PATH": os.pathsep.join([str(no_git), PATH])},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return folder / result.stdout.split()[-1]


def check_metadata(text):
    metadata = Parser().parsestr(text)
    assert (metadata["Name"], metadata["Version"]) == ("fasthash-search", __version__)
    assert (metadata["License-Expression"], metadata["License-File"]) == ("Apache-2.0", "LICENSE")
    assert metadata["Requires-Python"] == ">=3.10"
    assert "Typing :: Typed" in metadata.get_all("Classifier")
    assert set(metadata.get_all("Provides-Extra")) == set(EXTRAS)
    needed = [each for each in metadata.get_all("Requires-Dist") if "extra ==" not in each]
    assert [re.split(r"[<>= ]", each)[0] for each in needed] == ["numpy"]
    assert metadata.get_payload().startswith("# fasthash\n")


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    return build("sdist", ROOT, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def sources(sdist, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    return folder / NAME


def test_the_sdist_holds_all_that_is_tracked(sources):
    if not (ROOT / ".git").exists():
        pytest.skip("needs a checkout")
    tracked = {name for name in call("git", "ls-files", cwd=ROOT).splitlines() if not name.startswith(NOT_HANDED_OUT)}
    packed = {str(path.relative_to(sources)) for path in sources.rglob("*") if path.is_file()}
    assert tracked - packed == set()
    new = set(call("git", "ls-files", "--others", "--exclude-standard", cwd=ROOT).splitlines())
    assert packed - tracked - new == {"PKG-INFO"}


def test_the_sdist_says_what_it_is(sdist, sources):
    assert sdist.name == f"{NAME}.tar.gz"
    check_metadata((sources / "PKG-INFO").read_text(encoding="utf-8"))
    parts = ("CMakeLists.txt", "cmake/install.cmake", "cpp/src/platform/os_windows.cpp", "examples/c/search.c")
    for name in (*parts, "LICENSE"):
        assert (sources / name).is_file()
    assert sdist.stat().st_size < 10e6


@pytest.mark.parametrize("path", sorted((ROOT / ".github/workflows").glob("*.yml")), ids=lambda path: path.name)
def test_workflows(path):
    yaml = pytest.importorskip("yaml", reason="needs pyyaml")
    text = path.read_text(encoding="utf-8")
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {"contents": "read"}
    assert "group" in workflow["concurrency"]
    for name, job in workflow["jobs"].items():
        assert job["timeout-minutes"] <= 90
        # Jobs that may publish build nothing, and only their own event leads there.
        permissions, condition = MAY_PUBLISH.get(name, ({}, ""))
        assert job.get("permissions", {}) == permissions
        if permissions:
            assert condition in job["if"]
            assert "github.event_name == 'push'" in job["if"]
            assert not any("run" in step for step in job["steps"])
    actions = re.findall(r"uses: (\S+)(.*)", text)
    assert actions
    for action, comment in actions:  # a tag can be moved, a commit cannot
        assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action)
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment)


def test_what_the_workflows_install_is_what_was_tried():
    """No version without a pin, and cibuildwheel understands its settings."""
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / ".github/workflows").glob("*.yml")]
    for package in re.findall(r"pip install (\S+)", "\n".join(texts)):
        assert re.fullmatch(r"[\w-]+==[\d.]+", package)
    settings = PROJECT["tool"]["cibuildwheel"]
    assert settings["config-settings"] == {"cmake.define.FASTHASH_CUDA": "OFF"}
    for name in re.findall(r"tests/\w+\.py", " ".join([settings["test-command"], settings["windows"]["test-command"]])):
        assert (ROOT / name).is_file()
    if shutil.which("cibuildwheel", path=PATH) is None:
        pytest.skip("needs cibuildwheel")
    for system, machine in {"linux": "aarch64", "macos": "arm64", "windows": "AMD64"}.items():
        options = ("--print-build-identifiers", "--platform", system, "--archs", machine)
        listed = call("cibuildwheel", *options, ROOT).split()
        assert [name.split("-")[0] for name in listed] == settings["build"].replace("-*", "").split()


def test_only_who_asks_waits_for_cuda(tmp_path):
    """Compiling the GPU module takes minutes: an nvcc that happens to be there is not even started."""
    assert PROJECT["tool"]["scikit-build"]["cmake"]["define"]["FASTHASH_CUDA"] == "OFF"
    assert "SKBUILD_CMAKE_DEFINE=FASTHASH_CUDA=$(CUDA)" in (ROOT / "Makefile").read_text(encoding="utf-8")
    need("cmake")
    pybind = pytest.importorskip("pybind11", reason="needs pybind11")
    nvcc, calls = tmp_path / "bin/nvcc", tmp_path / "calls"
    nvcc.parent.mkdir()
    nvcc.write_text(f"#!/bin/sh\necho called >> '{calls}'\nexit 1\n")
    nvcc.chmod(0o755)
    found = {"PATH": os.pathsep.join([str(nvcc.parent), PATH]), "CUDACXX": str(nvcc)}
    paths = (f"-Dpybind11_DIR={pybind.get_cmake_dir()}", f"-DPython_EXECUTABLE={sys.executable}")
    for options, expected in (((), False), (("-DFASTHASH_CUDA=OFF",), False), (("-DFASTHASH_CUDA=AUTO",), True)):
        result = run("cmake", "-S", ROOT, "-B", tmp_path / f"build{options}", *paths, *options, env=found)
        assert result.returncode == 0, result.stderr
        assert calls.exists() == expected, options
    result = run("cmake", "-S", ROOT, "-B", tmp_path / "insists", *paths, "-DFASTHASH_CUDA=ON", env=found)
    assert "FASTHASH_CUDA=ON needs nvcc" in " ".join(result.stderr.split())


def test_ctest_gives_the_tests_no_empty_argument(tmp_path):
    """They refuse what they do not know; docs/packaging.md and make coverage run them by ctest."""
    call("cmake", "-S", ROOT, "-B", tmp_path, "-DFASTHASH_PYTHON=OFF", "-DFASTHASH_TESTS=ON")
    tests = (tmp_path / "CTestTestfile.cmake").read_text(encoding="utf-8")
    assert "core_test" in tests
    assert '""' not in tests


def test_the_wheel_with_cuda_is_another_distribution():
    specification = importlib.util.spec_from_file_location("cuda_wheel", ROOT / ".ci/cuda_wheel.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    changed = tomllib.loads(module.with_cuda(text))
    assert changed["project"]["name"] == "fasthash-search-cu13"
    assert changed["tool"]["scikit-build"]["cmake"]["define"] == {"FASTHASH_CUDA": "ON"}
    others = {name for extra in changed["project"]["optional-dependencies"].values() for name in extra}
    assert any(name.startswith("fasthash-search-cu13[") for name in others)
    assert not any(name.startswith("fasthash-search[") for name in others)
    with pytest.raises(ValueError, match="must have 'name = \"fasthash-search\"' once, has it 0 times"):
        module.with_cuda(module.with_cuda(text))


@pytest.fixture(scope="module")
def wheel(sources, tmp_path_factory):
    return build("wheel", sources, tmp_path_factory.mktemp("wheel"), PROJECT["tool"]["cibuildwheel"]["config-settings"])


@pytest.mark.wheels
@pytest.mark.timeout(1800)
def test_the_wheel_holds_what_runs_and_what_others_build_on(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(f"{NAME}.dist-info/METADATA").decode()
    check_metadata(metadata)
    python = {str(path.relative_to(ROOT / "python")) for path in (ROOT / "python/fasthash").rglob("*.py*")}
    headers = {f"fasthash/include/fasthash/{path.name}" for path in (ROOT / "cpp/include/fasthash").glob("*.h")}
    expected = {name for name in python if "__pycache__" not in name} | headers
    expected |= {"fasthash/py.typed", "fasthash/_core.pyi", f"{NAME}.dist-info/licenses/LICENSE"}
    expected |= {"fasthash/lib/libfasthash.a", "fasthash/lib/pkgconfig/fasthash.pc"}
    expected |= {"fasthash/lib/cmake/fasthash/fasthash-config.cmake"}
    assert expected - set(names) == set()
    assert {name.split("/")[0] for name in names} == {"fasthash", f"{NAME}.dist-info"}
    assert not any(re.search(r"test|\.cpp$|\.cu$", name) for name in names)
    modules = [name for name in names if name.endswith((".so", ".pyd", ".dylib", ".dll"))]
    assert [name.split(".")[0] for name in modules] == ["fasthash/_core"]  # and no _cuda, whatever this machine has


@pytest.mark.wheels
@pytest.mark.timeout(1800)
def test_the_wheel_runs_beside_numpy_alone(wheel, tmp_path):
    call(sys.executable, "-m", "venv", "--without-pip", tmp_path / "env")
    python = tmp_path / "env/bin/python"
    packages = Path(call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    for source in Path(np.__file__).parent.parent.glob("numpy*"):
        if source.name in ("numpy", "numpy.libs"):
            (packages / source.name).symlink_to(source)
    with zipfile.ZipFile(wheel) as archive:  # which is all that installing it does
        archive.extractall(packages)
    code = """
import numpy as np
import fasthash as fh
codes = np.random.default_rng(0).integers(0, 256, (3000, 8), dtype=np.uint8)
index = fh.HierIndex(level_bits=(8, 16, 40))
index.add(codes)
found = index.search(codes[:9], k=3)
assert (found.ids[:, 0] == range(9)).all() and (found.distances[:, 0] == 0).all()
index.save("codes.fh")
assert len(fh.load("codes.fh", mmap=True)) == 3000
print(fh.__file__, fh.__version__)
"""
    folder, number = call(python, "-I", "-c", code, cwd=tmp_path).split()
    assert Path(folder).parent == packages / "fasthash"
    assert number == __version__


@pytest.mark.wheels
@pytest.mark.timeout(1800)
@pytest.mark.skipif(platform.machine() != "x86_64", reason="needs x86-64")
def test_the_wheel_runs_on_every_x86_64_processor(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    library = functions(tmp_path / "fasthash/lib/libfasthash.a")
    assert library
    assert faults(library) == []


@pytest.mark.wheels
@pytest.mark.timeout(1800)
@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
def test_the_wheel_can_be_repaired(wheel, tmp_path):
    """For this system's own C library and all newer ones; cibuildwheel's images make it so for older ones."""
    need("auditwheel")
    need("patchelf")
    shown = " ".join(call("auditwheel", "show", wheel).split())
    tag = re.search(r'constrains the platform tag to "(manylinux_2_(\d+)_\w+)"|following platform tag: "(\S+)"', shown)
    assert tag, shown
    call("auditwheel", "repair", "--wheel-dir", tmp_path, wheel)
    (repaired,) = tmp_path.glob("*.whl")
    assert "manylinux_2_" in repaired.name
    with zipfile.ZipFile(repaired) as archive:  # nothing had to be brought along
        assert not any(".libs/" in name for name in archive.namelist())
    print(repaired.name)


def test_the_installed_version_is_that_of_the_project():
    assert version("fasthash-search") == PROJECT["project"]["version"]


def test_the_citation_is_of_this_version():
    yaml = pytest.importorskip("yaml", reason="needs pyyaml")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert str(citation["version"]) == PROJECT["project"]["version"]
    assert citation["license"] == PROJECT["project"]["license"]


def test_a_release_has_links_that_work_elsewhere(tmp_path):
    """On a package index README.md has no files beside it."""
    script = ROOT / ".ci/release_links.py"
    if not script.exists():
        pytest.skip("needs a checkout")
    for name in ("README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    call(sys.executable, script, "https://host.invalid/owner/name", "abc123", cwd=tmp_path)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    links = re.findall(r'(?:\]\(|src=")([^)"\s]+)', text)
    assert len(links) > 20
    for link in links:
        where, _, path = link.partition("/abc123/")
        picture = path.endswith((".png", ".jpg"))
        assert where == f"https://host.invalid/owner/name/{'raw' if picture else 'blob'}"
        assert (ROOT / path.partition("#")[0]).exists(), link
    urls = tomllib.loads((tmp_path / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
    assert set(urls) == {"Homepage", "Documentation", "Changelog", "Issues"}
    assert urls["Changelog"] == "https://host.invalid/owner/name/blob/abc123/CHANGELOG.md"


def test_classifiers_claim_no_more_than_was_tried():
    claimed = {
        each for each in PROJECT["project"]["classifiers"] if each.startswith(("Operating System", "Development"))
    }
    assert claimed == {"Operating System :: POSIX :: Linux", "Development Status :: 3 - Alpha"}


@pytest.mark.parametrize("path", sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.name)
def test_issue_templates(path):
    yaml = pytest.importorskip("yaml", reason="needs pyyaml")
    template = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= set(template)
    assert all({"type", "attributes"} <= set(part) for part in template["body"])
