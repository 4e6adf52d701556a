"""Real codes with real near-duplicates and ties; more of them where ../shared/data is beside the checkout."""

import numpy as np
import pytest

import fasthash as fh
import reference
from real_data import binary_descriptors, perceptual_hashes, shared


def assert_exact(index, gallery, queries, k=10):
    """And the k-th distances differ between queries, with ties at the end of almost every list."""
    distances, ids = reference.search(queries, gallery, np.arange(len(gallery)), k)
    result = index.search(queries, k)
    np.testing.assert_array_equal(result.distances, distances)
    np.testing.assert_array_equal(result.ids, ids)
    assert len(np.unique(distances[:, -1])) > 3


def check_hashes(gallery, queries, level_bits, path):
    index = fh.HierIndex(level_bits)
    index.add(gallery)
    index.save(path)
    assert_exact(fh.load(path), gallery, queries)


@pytest.mark.parametrize("level_bits", [(8, 16, 40), (16, 48), (64,)])
def test_perceptual_hashes_of_photos(level_bits, tmp_path):
    hashes = perceptual_hashes(64)
    check_hashes(hashes[100:], hashes[:100], level_bits, tmp_path / "index.fh")


@pytest.mark.parametrize("level_bits", [(8, 16, 40), (16, 48), (64,)])
def test_perceptual_hashes_of_many_photos(level_bits, tmp_path):
    with np.load(shared("perceptual_hashes", "cifar10_phash.npz"), allow_pickle=False) as hashes:
        gallery, queries = (hashes["phash64"][rows] for rows in (~hashes["is_test"], hashes["is_test"]))
    check_hashes(gallery, queries[:100], level_bits, tmp_path / "index.fh")


def test_perceptual_hashes_of_256_bits(tmp_path):
    hashes = perceptual_hashes(256)
    check_hashes(hashes[50:], hashes[:50], (8, 24, 96, 128), tmp_path / "index.fh")


def test_descriptors_of_256_bits():
    codes = binary_descriptors()
    index = fh.HierIndex((8, 24, 96, 128))
    index.add(codes[20:])
    assert_exact(index, codes[20:], codes[:20])


def test_many_orb_descriptors():
    gallery = np.array(np.load(shared("orb_descriptors", "base_1M_x256bit.npy"), mmap_mode="r")[:20_000])
    index = fh.HierIndex((8, 24, 96, 128))
    index.add(gallery)
    assert_exact(index, gallery, np.load(shared("orb_descriptors", "query_10k_x256bit.npy"))[:20])
