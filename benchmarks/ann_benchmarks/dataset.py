"""Makes a data set of bits for ann-benchmarks, in the layout of its HDF5 files.

    python benchmarks/ann_benchmarks/dataset.py orb orb-256-hamming.hdf5

Points are booleans `(n, n_bits)`; distances are shares of bits that differ, which is how ann-benchmarks counts them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import h5py
import numpy as np

import fasthash as fh
from fasthash.code_files import read_codes

SHARED = Path(__file__).parents[3] / "shared" / "data"


def orb():
    """1,000,000 ORB descriptors of photos, 256 bits; the queries are of other photos."""
    return tuple(np.load(SHARED / "orb_descriptors" / f"{name}_x256bit.npy") for name in ("base_1M", "query_10k"))


def perceptual_hashes(n_bits):
    """100,000 perceptual hashes of Tiny ImageNet's training images; the queries are of its validation images."""
    with np.load(SHARED / "perceptual_hashes" / "tiny_imagenet_phash.npz", allow_pickle=False) as arrays:
        codes, held_out = arrays[f"phash{n_bits}"], arrays["is_val"].astype(bool)
    return codes[~held_out], codes[held_out]


SOURCES = {"orb": orb, "phash64": lambda: perceptual_hashes(64), "phash256": lambda: perceptual_hashes(256)}


def write(path, codes, queries, count=100):
    """Write codes and queries, uint8 `(n, n_bits / 8)`, with the exact `count` nearest of each query."""
    codes, queries = np.ascontiguousarray(codes), np.ascontiguousarray(queries)
    n_bits = codes.shape[1] * 8
    index = fh.FlatIndex(n_bits)
    index.add(codes)
    found = index.search(queries, min(count, len(codes)))
    with h5py.File(path, "w") as file:
        file.attrs.update(type="dense", distance="hamming", point_type="bit", dimension=n_bits)
        file["train"] = fh.unpack_bits(codes).astype(bool)
        file["test"] = fh.unpack_bits(queries).astype(bool)
        file["neighbors"] = found.ids.astype(np.int32)
        file["distances"] = (found.distances / n_bits).astype(np.float32)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", help=f"one of {', '.join(SOURCES)}, or a file of codes")
    parser.add_argument("output", type=Path, help="file to write, NAME.hdf5")
    parser.add_argument("--queries", type=Path, help="file of queries; of a file of codes the last ones by default")
    parser.add_argument("--n-queries", type=int, default=1000, help="how many (1000)")
    parser.add_argument("--n", type=int, help="only the first so many codes")
    options = parser.parse_args()
    if options.source in SOURCES:
        codes, queries = SOURCES[options.source]()
    else:
        codes = read_codes(options.source)
        if options.queries is None:
            codes, queries = codes[: -options.n_queries], codes[-options.n_queries :]
        else:
            queries = read_codes(options.queries)
    write(options.output, codes[: options.n], queries[: options.n_queries])


if __name__ == "__main__":
    main()
