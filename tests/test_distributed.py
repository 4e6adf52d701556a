"""Two processes on the CPU, started by torchrun, that train one model together over gloo."""

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest

from documents import ROOT

pytest.importorskip("torch", reason="training needs the extra 'train'")
pytest.importorskip("accelerate", reason="training needs the extra 'train'")

LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--local-addr=localhost"]
ENVIRONMENT = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
EXAMPLE = str(ROOT / "examples" / "torchrun_training.py")

SCRIPT = """
import json, os, sys
import torch
from torch.utils.data import TensorDataset
from fasthash.heads import HashHead
from fasthash.losses import HyP2Loss
from fasthash.train import train

torch.set_num_threads(1)
folder, epochs = sys.argv[1], int(sys.argv[2])
rank = int(os.environ.get("RANK", 0))
generator = torch.Generator().manual_seed(0)
labels = torch.arange(48) % 4
features = torch.randn(4, 12, generator=generator)[labels] + torch.randn(48, 12, generator=generator)
torch.manual_seed(rank)  # each begins with weights of its own; those of the first count
head, loss = HashHead(12, (8, 8)), HyP2Loss(16, 4)
validated = []
record = train(
    head, loss, TensorDataset(features, labels), epochs=epochs, batch_size=8, lr=1e-2, hash_lr_mult=1.0,
    validate=lambda model: validated.append(1) or float(model.layers[0].weight.abs().sum()),
    state=f"{folder}/state", progress=False,
)
result = {
    "losses": record.losses, "scores": record.scores, "processes": record.settings["processes"],
    "validated": len(validated), "weights": head.state_dict()["layers.0.weight"].tolist(),
    "proxies": loss.proxies.tolist(),
}
with open(f"{folder}/rank{rank}.json", "w") as file:
    json.dump(result, file)
"""


def run(folder, epochs):
    """What each of the two processes reports."""
    folder.mkdir(exist_ok=True)
    (folder / "script.py").write_text(SCRIPT)
    command = [*LAUNCH, "--nproc-per-node=2", "--standalone", folder / "script.py", folder, epochs]
    result = subprocess.run(map(str, command), env=ENVIRONMENT, capture_output=True, text=True, timeout=250)
    assert result.returncode == 0, result.stderr[-3000:]
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2)]


def test_two_processes_train_one_model_and_resume_it(tmp_path):
    first, second = run(tmp_path / "through", 4)
    assert first["processes"] == second["processes"] == 2
    assert (first["validated"], second["validated"]) == (4, 0)  # one decides for both
    for name in ("losses", "scores", "weights", "proxies"):
        assert first[name] == second[name]
    assert first["losses"][-1] < first["losses"][0]

    run(tmp_path / "resumed", 2)
    resumed, _ = run(tmp_path / "resumed", 4)
    assert resumed["losses"] == first["losses"]
    assert resumed["weights"] == first["weights"]


def test_two_hosts_train_what_one_process_trains(tmp_path):
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
    one = subprocess.run(
        [sys.executable, EXAMPLE, tmp_path / "one", "3"], env=ENVIRONMENT, capture_output=True, text=True, timeout=250
    )
    assert one.returncode == 0, one.stderr
    assert "1 processes" in one.stdout
    try:
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
    script = SCRIPT.replace("{folder}/state", "{folder}/state of {rank}")
    (tmp_path / "script.py").write_text(script)
    (tmp_path / "state of 1").write_bytes(b"left from before")
    command = [*LAUNCH, "--nproc-per-node=2", "--standalone", tmp_path / "script.py", tmp_path, 1]
    result = subprocess.run(map(str, command), env=ENVIRONMENT, capture_output=True, text=True, timeout=250)
    assert result.returncode != 0
    assert "must be on a file system that all hosts see: it is there on " in result.stderr
