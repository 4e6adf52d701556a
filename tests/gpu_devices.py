"""Fixtures of tests that search on a GPU: the emulator, and a card where there is one."""

import functools
import importlib.util
import os

import pytest

from fasthash import _gpu_copy, gpu


@pytest.fixture(scope="module")
def emulator(request):
    """The module _cuda, built for the emulator: the one that FASTHASH_GPU_EMULATOR names, or that of the build."""
    path = os.environ.get("FASTHASH_GPU_EMULATOR")
    if path is None:
        pytest.importorskip("pybind11", reason="needs pybind11 in the environment")
        (path,) = request.getfixturevalue("core_build").glob("_cuda.*so")
    specification = importlib.util.spec_from_file_location("_cuda", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@functools.cache
def has_card():
    try:
        return _gpu_copy.cuda_module().n_devices() > 0
    except RuntimeError:
        return False


@pytest.fixture(params=["emulator", "card"])
def device(request, monkeypatch):
    """`"cuda"`: the emulator in one run of each test, a card in the other."""
    if request.param == "emulator":
        module = request.getfixturevalue("emulator")
        monkeypatch.setattr(_gpu_copy, "cuda_module", lambda: module)
    elif not has_card():
        pytest.skip("needs a GPU")
    return "cuda"


@pytest.fixture
def devices(device, request):
    """Two of them."""
    if request.node.callspec.params["device"] == "card" and _gpu_copy.cuda_module().n_devices() < 2:
        pytest.skip("needs two GPUs")
    return ["cuda:0", "cuda:1"]


@pytest.fixture
def gpu_tensor(device, request, monkeypatch):
    """Function that copies an array to the GPU, as a tensor of torch."""
    torch = pytest.importorskip("torch", reason="results on the GPU are tensors of torch")
    if request.node.callspec.params["device"] == "card":
        return lambda array: torch.from_numpy(array).cuda()
    # The emulator's memory is that of the CPU: every tensor counts as one on the GPU.
    monkeypatch.setattr(gpu, "on_gpu", lambda given, *_: given if isinstance(given, torch.Tensor) else None)
    monkeypatch.setattr(gpu, "stream_of", lambda given: 0)
    return torch.from_numpy
