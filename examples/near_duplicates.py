"""Photos to perceptual hashes to groups of near-duplicates, in a collection that grows.

Run it with `python examples/near_duplicates.py`; it needs the extra `dedup`, imagehash and scikit-learn, whose two
sample photos are cut into twelve, of which some come again in other sizes and qualities.
"""

import tempfile
from pathlib import Path

import imagehash
import numpy as np
from PIL import Image, ImageEnhance
from sklearn.datasets import load_sample_images

import fasthash as fh
from fasthash.dedup import find_duplicates

tiles = [
    photo[y : y + 210, x : x + 210] for photo in load_sample_images().images for y in (0, 210) for x in (0, 210, 420)
]
photos = [Image.fromarray(tile) for tile in tiles]
versions = [photo.resize((105, 105)) for photo in photos[:4]]
versions += [ImageEnhance.Brightness(photo).enhance(1.2) for photo in photos[4:7]]

# Hashes of any kind: ImageHash objects here, hex digits of PDQ just the same.
codes = fh.perceptual_codes([imagehash.phash(image, hash_size=16) for image in photos + versions])
for group in fh.near_duplicates(codes, radius=16):
    print("rows", *group)

# A folder: what `fasthash dedup FOLDER --index STATE` does.
with tempfile.TemporaryDirectory() as place:
    folder, state = Path(place) / "photos", Path(place) / "state"
    folder.mkdir()
    for number, photo in enumerate(photos):
        photo.save(folder / f"{number:02}.png")
    found = find_duplicates(folder, state=state, progress=False)
    print(f"{found.n_photos} photos, {found.n_hashed} hashed, {len(found.groups)} groups")

    for number, photo in enumerate(versions):
        photo.save(folder / f"{number:02} again.jpg", quality=60)
    (folder / "11.png").unlink()
    found = find_duplicates(folder, state=state, progress=False)
    print(f"{found.n_photos} photos, {found.n_hashed} hashed, {len(found.groups)} groups")
    for group in found.groups:
        print(", ".join(f"{photo.path} (d = {photo.distance})" for photo in group))
    assert np.mean([len(group) for group in found.groups]) == 2
