"""Deep hashing from a folder of photos: learn codes of several levels, index them, search, measure, look.

    python examples/deep_hashing.py [FOLDER]

FOLDER has a sub-folder for each class; without it scikit-learn's digits are written as image files and taken. Needs the
extra `demo`, and two minutes for the digits. The cells (`# %%`) also run one by one in an editor or a notebook.
"""

# %% The images
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import fasthash as fh
from fasthash import metrics
from fasthash.data import audit, load_folder
from fasthash.encoder import HashEncoder
from fasthash.losses import HashNetLoss, HierarchicalLoss
from fasthash.plots import choose_queries, draw_neighbours
from fasthash.train import train


def digits_as_files(folder: Path) -> Path:
    from sklearn.datasets import load_digits

    for number, (image, label) in enumerate(zip(*(load_digits()[name] for name in ("images", "target")), strict=True)):
        place = folder / str(label)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 255 / 16).astype(np.uint8)).resize((32, 32)).save(place / f"{number:04d}.png")
    return folder


temporary = tempfile.TemporaryDirectory()
folder = Path(sys.argv[1]) if len(sys.argv) > 1 else digits_as_files(Path(temporary.name))
epochs = int(sys.argv[2]) if len(sys.argv) > 2 else 6

# %% The network: one hash layer for each level, and a loss on each prefix of the code
level_bits = (8, 16, 40)
encoder = HashEncoder("hrnet_w18_small", level_bits=level_bits, image_size=32, batch_norm=True)
loss = HierarchicalLoss(HashNetLoss(), level_bits=level_bits, weights=(1, 1, 1), mode="prefix")
images = load_folder(folder, transform=encoder.transform)
print(audit(images))  # how many images, and which are in two of the sets

# %% Training, from random weights; `pretrained=True` above starts from ImageNet's
record = train(encoder, loss, images.train, epochs=epochs, batch_size=64, lr=1e-3, hash_lr_mult=1, schedule="cosine")
print("losses:", np.round(record.losses, 3))

# %% Codes, an index, an exact search
gallery, queries = encoder.encode(images.gallery), encoder.encode(images.query)
index = fh.HierIndex(level_bits)
index.add(gallery)
found, stats = index.search(queries, k=10, stats=True)
print(f"{stats.codes_compared.mean():.0f} distinct codes compared a query, of {len(index)} images")

# %% How good they are: mAP of the whole ranking, where equal distances count by their expected order
for n_bits in np.cumsum(level_bits):
    of_level = (codes[:, : n_bits // 8] for codes in (queries, gallery))
    counts = metrics.histograms(*of_level, images.query.labels, images.gallery.labels)
    print(f"mAP@ALL at {n_bits} bits: {counts.mean_average_precision():.3f}")

# %% What they look like
draw_neighbours(Path("neighbours.png"), images.query, images.gallery, found, choose_queries(images, found, seed=0))
encoder.save("my-encoder")
index.save("my-gallery.fh")
print("wrote neighbours.png, my-encoder, my-gallery.fh")
