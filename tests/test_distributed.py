"""Two processes on the CPU that train one model together over gloo; torchrun starts those of the example."""

import json
import os
import runpy
import socket
import subprocess
import sys

import numpy as np
import pytest

from documents import ROOT

pytest.importorskip("torch", reason="training needs the extra 'train'")
pytest.importorskip("accelerate", reason="training needs the extra 'train'")
if not hasattr(os, "fork"):
    pytest.skip("needs os.fork", allow_module_level=True)

LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--local-addr=localhost"]
ENVIRONMENT = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
EXAMPLE = str(ROOT / "examples" / "torchrun_training.py")

# Imports torch once, then forks the two processes of each run.
SCRIPT = """
import json, os, signal, socket, sys, traceback
import torch, torch._dynamo, torch.nn.parallel
from torch.utils.data import TensorDataset
from fasthash.heads import HashHead
from fasthash.losses import HyP2Loss
from fasthash.train import train

def run(rank, folder, epochs):
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(48) % 4
    features = torch.randn(4, 12, generator=generator)[labels] + torch.randn(48, 12, generator=generator)
    torch.manual_seed(rank)  # each begins with weights of its own; those of the first count
    head, loss = HashHead(12, (8, 8)), HyP2Loss(16, 4)
    validated = []
    record = train(
        head, loss, TensorDataset(features, labels), epochs=epochs, batch_size=8, lr=1e-2, hash_lr_mult=1.0,
        validate=lambda model: validated.append(1) or float(model.layers[0].weight.abs().sum()),
        state=f"{folder}/STATE", progress=False,
    )
    result = {
        "losses": record.losses, "scores": record.scores, "processes": record.settings["processes"],
        "validated": len(validated), "weights": head.state_dict()["layers.0.weight"].tolist(),
        "proxies": loss.proxies.tolist(),
    }
    with open(f"{folder}/rank{rank}.json", "w") as file:
        json.dump(result, file)

def child(rank, port, folder, epochs):
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }
    try:
        run(rank, folder, epochs)
        sys.stdout.flush()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)

for folder, epochs in zip(sys.argv[1::2], map(int, sys.argv[2::2])):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    running = set()
    for rank in range(2):
        running.add(os.fork() or child(rank, port, folder, epochs))
    failed = False
    while running:
        pid, status = os.wait()
        running.remove(pid)
        if status and not failed:
            failed = True
            for other in running:
                os.kill(other, signal.SIGKILL)
    if failed:
        sys.exit(1)
"""


def launch(*runs, state="state"):
    """Run after run, each of two processes: pairs of a folder and a number of epochs."""
    for folder, _ in runs:
        folder.mkdir(exist_ok=True)
    arguments = [str(value) for run in runs for value in run]
    command = [sys.executable, "-c", SCRIPT.replace("STATE", state), *arguments]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=250)


def reports(folder):
    """What each of the two processes says of the last run in a folder."""
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2)]


def test_two_processes_train_one_model_and_resume_it(tmp_path):
    through, resumed = tmp_path / "through", tmp_path / "resumed"
    result = launch((through, 4), (resumed, 2), (resumed, 4))
    assert result.returncode == 0, result.stderr[-3000:]
    first, second = reports(through)
    assert first["processes"] == second["processes"] == 2
    assert (first["validated"], second["validated"]) == (4, 0)  # one decides for both
    for name in ("losses", "scores", "weights", "proxies"):
        assert first[name] == second[name]
    assert first["losses"][-1] < first["losses"][0]

    again, _ = reports(resumed)
    assert again["losses"] == first["losses"]
    assert again["weights"] == first["weights"]


def test_two_hosts_train_what_one_process_trains(tmp_path, monkeypatch, capsys):
    """The example, by one torchrun for each host, both on this machine; its loss is a mean over images."""
    pytest.importorskip("sklearn", reason="the example needs the extra 'sklearn'")
    from fasthash.heads import HashHead

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = ["--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}"]
    hosts = [
        subprocess.Popen([*LAUNCH, *options, EXAMPLE, tmp_path / "two", "3"], env=ENVIRONMENT, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    try:
        monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
        monkeypatch.setattr(sys, "argv", [EXAMPLE, str(tmp_path / "one"), "3"])
        runpy.run_path(EXAMPLE)
        assert "1 processes" in capsys.readouterr().out
        ends = [(host.communicate(timeout=120)[1].decode(), host.returncode) for host in hosts]
    finally:
        for host in hosts:
            host.terminate()
    assert [code for _, code in ends] == [0, 0], ends

    expected, found = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("one", "two"))
    np.testing.assert_allclose(found["losses"], expected["losses"], rtol=1e-4)
    assert found["mAP@ALL"] == pytest.approx(expected["mAP@ALL"], abs=5e-3)
    alone, together = (HashHead.load(tmp_path / name / "head") for name in ("one", "two"))
    assert together.record.settings["processes"] == 2
    for name, weights in alone.state_dict().items():
        np.testing.assert_allclose(together.state_dict()[name], weights, rtol=1e-2, atol=1e-4)


def test_a_state_that_not_all_hosts_see_is_refused(tmp_path):
    (tmp_path / "state of 1").write_bytes(b"left from before")
    result = launch((tmp_path, 1), state="state of {rank}")
    assert result.returncode != 0
    assert "must be on a file system that all hosts see: it is there on " in result.stderr
