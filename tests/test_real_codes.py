"""Real codes with real near-duplicates and ties, where they are at hand: ../shared/data beside the checkout."""

from pathlib import Path

import numpy as np
import pytest

import fasthash as fh
import reference

DATA = Path(__file__).parent.parent.parent / "shared" / "data"


def load(*names):
    path = DATA.joinpath(*names)
    if not path.exists():
        pytest.skip(f"needs {'/'.join(names)} in ../shared/data")
    return np.load(path, allow_pickle=False)


@pytest.mark.parametrize("level_bits", [(8, 16, 40), (16, 48), (64,)])
def test_perceptual_hashes_of_photos(level_bits, tmp_path):
    hashes = load("perceptual_hashes", "cifar10_phash.npz")
    gallery, queries = hashes["phash64"][~hashes["is_test"]], hashes["phash64"][hashes["is_test"]][:100]
    index = fh.HierIndex(level_bits)
    index.add(gallery)
    index.save(tmp_path / "index.fh")
    index = fh.load(tmp_path / "index.fh")
    distances, ids = reference.search(queries, gallery, np.arange(len(gallery)), 10)
    result = index.search(queries, 10)
    np.testing.assert_array_equal(result.distances, distances)
    np.testing.assert_array_equal(result.ids, ids)
    assert len(np.unique(distances[:, 9])) > 3  # a real spread, and ties at the end of almost every list


def test_orb_descriptors_of_256_bits():
    gallery = np.array(load("orb_descriptors", "base_1M_x256bit.npy")[:20_000])
    queries = load("orb_descriptors", "query_10k_x256bit.npy")[:20]
    index = fh.HierIndex((8, 24, 96, 128))
    index.add(gallery)
    distances, ids = reference.search(queries, gallery, np.arange(len(gallery)), 10)
    result = index.search(queries, 10)
    np.testing.assert_array_equal(result.distances, distances)
    np.testing.assert_array_equal(result.ids, ids)
