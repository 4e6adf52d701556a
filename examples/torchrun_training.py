"""Training on several hosts: every process runs this script, and torchrun starts them.

On this machine, two processes, on its GPUs if it has two, and else on the CPU:

    torchrun --standalone --nproc-per-node 2 examples/torchrun_training.py FOLDER

On two hosts with eight GPUs each, the same command on both; HOST:29500 is a port of one of them that both can reach:

    torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:29500 \
        examples/torchrun_training.py FOLDER

FOLDER is on a file system that all hosts see: the first process writes into it, and all go on from it when the same
command is given again. `fasthash train` is started likewise, with `-m fasthash train FOLDER --preset ...` in the place
of the script. Needs the extras `train` and `sklearn`, and a few seconds for scikit-learn's digits.
"""

import json
import os
import sys
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch.utils.data import TensorDataset

from fasthash import metrics
from fasthash.heads import HashHead
from fasthash.losses import CSQLoss
from fasthash.train import train

folder = Path(sys.argv[1])
epochs = int(sys.argv[2]) if len(sys.argv) > 2 else 10
first = int(os.environ.get("RANK", 0)) == 0  # torchrun tells every process which it is, of how many
processes = int(os.environ.get("WORLD_SIZE", 1))

# Every process has all of the data, or reads it where it lies: accelerate deals the batches.
features, labels = (torch.from_numpy(array) for array in load_digits(return_X_y=True))
features = features.float() / 16
queries, gallery = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0)).split([200, 1597])

# A HashEncoder of images goes here just as well. The weights of the first process are those of all.
torch.manual_seed(0)
head = HashHead(64, level_bits=(8, 24))
record = train(
    head,
    CSQLoss(n_bits=32, n_classes=10),
    TensorDataset(features[gallery], labels[gallery]),
    epochs=epochs,
    batch_size=128 // processes,  # of each process: a step sees 128 images however many they are
    lr=3e-3,
    state=folder / "state",
    progress=False,
)

if first:
    head.cpu().save(folder / "head", record)
    codes = head.encode(features)
    sets = (array[part].numpy() for array in (torch.from_numpy(codes), labels) for part in (queries, gallery))
    found = metrics.histograms(*sets).mean_average_precision()
    (folder / "results.json").write_text(json.dumps({"losses": record.losses, "mAP@ALL": found}))
    print(f"{record.settings['processes']} processes, loss {record.losses[-1]:.4f}, mAP@ALL {found:.3f}")
if torch.distributed.is_initialized():
    torch.distributed.destroy_process_group()
