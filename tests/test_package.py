"""The package as a whole: what importing it needs, its types, and a core that stands without Python."""

import ast
import importlib
import multiprocessing
import os
import sys
import sysconfig

import pytest

from fasthash._core import simd_levels
from fasthash._shown import command
from native_build import ROOT, call, run

FORK = multiprocessing.get_context("fork") if hasattr(os, "fork") else None


def test_import_needs_numpy_alone():
    code = """
import sys
import fasthash
outside = {name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names)
print(sorted(name for name in outside if not name.startswith("_")))
"""
    result = run(sys.executable, "-I", "-c", code)
    assert result.returncode == 0, result.stderr
    assert ast.literal_eval(result.stdout) == ["fasthash", "numpy"]


def test_free_threaded_python_stays_free():
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        pytest.skip("this Python always has a global interpreter lock")
    result = run(sys.executable, "-W", "error", "-c", "import sys, fasthash; print(sys._is_gil_enabled())")
    assert result.stdout.split() == ["False"], result.stderr


@pytest.mark.skipif(FORK is None, reason="needs os.fork")
@pytest.mark.parametrize(
    ("module", "missing", "extra"),
    [
        ("fasthash.encoder", "torch", "train"),
        ("fasthash.encoder", "timm", "train"),
        ("fasthash.train", "accelerate", "train"),
        ("fasthash.data", "torch", "train"),
        ("fasthash.losses", "torch", "train"),
        ("fasthash.losses.hashnet", "torch", "train"),
        ("fasthash.heads", "torch", "train"),
        ("fasthash.folders", "PIL", "train"),
        ("fasthash.baselines", "sklearn", "baselines"),
        ("fasthash.baselines.itq", "sklearn", "baselines"),
        ("fasthash.neighbors", "sklearn", "sklearn"),
        ("fasthash.demo", "matplotlib", "demo"),
        ("fasthash.dedup", "scipy", "dedup"),
        ("fasthash.dedup", "PIL", "dedup"),
        ("fasthash._review_page", "jinja2", "dedup"),
        ("fasthash._video_frames", "av", "video"),
        ("fasthash.cli", "typer", "cli"),
        ("fasthash.serving", "uvicorn", "serve"),
        ("fasthash.serving", "fastapi", "serve"),
        ("fasthash.distributed.index", "ray", "ray"),
    ],
)
def test_a_missing_extra_is_named(module, missing, extra):
    """In a copy of this process, which may have imported torch already; modules of fasthash are imported anew."""
    message = FORK.SimpleQueue()
    process = FORK.Process(target=import_without, args=(missing, module, message))
    process.start()
    process.join()
    assert message.get() == (
        "MissingExtraError",
        f"this part of fasthash needs the package '{missing}'; "
        f"install it with: {command('pip')} install 'fasthash-search[{extra}]'",
    )


def import_without(missing, module, message):
    ours = [name for name in sys.modules if name.startswith("fasthash.") and not name.endswith("._core")]
    for name in [*ours, *(name for name in sys.modules if name.startswith(f"{missing}."))]:
        del sys.modules[name]
    sys.modules[missing] = None
    try:
        importlib.import_module(module)
    except ImportError as error:
        message.put((type(error).__name__, str(error)))
    else:
        message.put(None)


def test_our_own_import_errors_are_not_taken_for_missing_extras():
    from fasthash._extras import needs_extra

    with pytest.raises(ModuleNotFoundError, match=r"fasthash\.nothing"), needs_extra("train"):
        import fasthash.nothing  # noqa: F401


def test_the_version_is_that_of_the_distribution():
    from importlib.metadata import version

    import fasthash

    assert fasthash.__version__ == version("fasthash-search")


@pytest.mark.parametrize("name", ["_core", "_cuda"])
def test_the_stubs_of_the_compiled_modules_are_right(name, tmp_path):
    """The names in a stub are those of its module; `make lint` checks the types, with those of numpy and torch."""
    pytest.importorskip("mypy", reason="needs mypy")
    pytest.importorskip(f"fasthash.{name}", reason=f"this installation has no {name}")
    (tmp_path / "mypy.ini").write_text("[mypy]\nfollow_imports = skip\n")
    result = run(
        sys.executable,
        *("-m", "mypy.stubtest", f"fasthash.{name}"),
        *("--mypy-config-file", tmp_path / "mypy.ini"),
        *("--allowlist", ROOT / "tests/stubtest_allowlist.txt", "--ignore-unused-allowlist"),
        env={"MYPYPATH": str(ROOT / "python")},
        cwd=ROOT,
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="reads ELF files")
@pytest.mark.parametrize("name", ["_core", "_cuda"])
def test_compiled_modules_export_their_init_function_alone(name):
    """Else another copy of the library in the process takes the place of this one's functions."""
    module = pytest.importorskip(f"fasthash.{name}", reason=f"this installation has no {name}")
    lines = call("nm", "-D", "--defined-only", module.__file__).splitlines()
    assert [line.split()[-1] for line in lines if not line.endswith(f" A {name}")] == [f"PyInit_{name}"]


@pytest.mark.parametrize(
    "command",
    [
        *("core_test", "c_api_test", "c_api_jaccard_test", "kernels_test", "topk_test", "packed_numbers_test"),
        *("duplicate_runs_test", "safe_cuts_test"),
        *("level_tree_test", "clusters_test", "radius_test", "faults_test", "memory_test", "gpu_test", "stress_test 3"),
    ],
)
def test_the_core_works_without_python(core_build, tmp_path, command):
    name, *arguments = command.split()
    result = run(core_build / name, *arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{name}: all passed" in result.stdout
    if name == "kernels_test":
        # Every instruction set that the machine offers was tested.
        assert f"kernels_test: all passed, levels: {' '.join(simd_levels())}" in result.stdout
