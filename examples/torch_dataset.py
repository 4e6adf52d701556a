"""From a torch Dataset through a DataLoader into an index, batch by batch, and from its results back to tensors.

Run it with `python examples/torch_dataset.py`; it needs the extras `train` and `sklearn`, and a few seconds.
"""

import torch
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, Dataset, random_split

import fasthash as fh
from fasthash.heads import HashHead
from fasthash.losses import CSQLoss
from fasthash.train import train


class Digits(Dataset):
    """Scikit-learn's digits as (features, label)."""

    def __init__(self):
        features, labels = load_digits(return_X_y=True)
        self.features = torch.from_numpy(features).float() / 16
        self.labels = torch.from_numpy(labels)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return self.features[i], self.labels[i]


torch.manual_seed(0)
digits = Digits()
gallery, held_out = random_split(digits, [1597, 200])

head = HashHead(64, level_bits=(8, 24))  # any nn.Module with real outputs would do
train(head, CSQLoss(n_bits=32, n_classes=10), gallery, epochs=10, lr=3e-3)

# The index grows with the batches. Codes and ids may be tensors: their memory is read, not copied.
index = fh.HierIndex(head.level_bits)
head.eval()
with torch.inference_mode():
    for n, (features, _) in enumerate(DataLoader(gallery, batch_size=256)):
        codes = fh.sign_codes(head(features))  # uint8 (batch, 4)
        ids = torch.tensor(gallery.indices[n * 256 : n * 256 + len(codes)])  # where the item is in `digits`
        index.add(codes, ids=ids)

# `encode` makes the same codes of a whole data set in one call.
found = index.search(head.encode(held_out), k=10)

# Results are numpy arrays; torch takes them over as they are, without a copy.
ids = torch.from_dlpack(found.ids)
labels = digits.labels[torch.tensor(held_out.indices)]
right = digits.labels[ids] == labels[:, None]
print(f"{right.float().mean():.3f} of the neighbours have the query's class")
