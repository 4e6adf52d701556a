"""Two processes on the CPU, started by torchrun, that train one model together over gloo."""

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("torch", reason="training needs the extra 'train'")
pytest.importorskip("accelerate", reason="training needs the extra 'train'")

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
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node=2",
        "--standalone",
        "--local-addr=localhost",
    ]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [*command, str(folder / "script.py"), str(folder), str(epochs)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=250,
    )
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
