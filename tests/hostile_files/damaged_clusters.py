"""Index files with wrong clusters: their rings, centroids and rows. Checksums are right."""

from __future__ import annotations

import itertools

import numpy as np

import file_reference as ref
from hostile_files.valid import Hostile


def wrong_clusters(files):
    for name, data in files.items():
        header, sections = ref.split(data)
        if not header.n_clusters:
            continue
        contents = ref.read(data)
        for what, rings in ring_faults(contents):
            yield Hostile("wrong clusters", f"{name}, {what}", ref.write(contents, rings))
        n_begins = header.n_clusters * (8 * contents.codes.shape[1] + 1) + 1
        begins = np.frombuffer(sections[4][: 4 * n_begins], dtype="<u4").astype(np.int64)
        rows = np.frombuffer(sections[1], dtype=np.uint8)
        for what, some_begins, centroids in cluster_faults(contents, begins):
            changed = header._replace(n_clusters=len(centroids), summary=0, minor=2)
            clusters = (some_begins % 2**32).astype("<u4").tobytes() + centroids.tobytes()
            yield Hostile(
                "wrong clusters",
                f"{name}, {what}",
                ref.assemble(changed, [sections[0], rows.tobytes(), *sections[2:4], clusters, sections[5]]),
            )
        for row in range(header.n_rows - 1):
            swapped = rows.reshape(-1, contents.codes.shape[1], 64).transpose(0, 2, 1).copy()
            flat = swapped.reshape(-1, contents.codes.shape[1])
            flat[[row, row + 1]] = flat[[row + 1, row]]
            stored = swapped.transpose(0, 2, 1).tobytes()
            yield Hostile(
                "wrong clusters",
                f"{name}, rows {row} and {row + 1} swapped",
                ref.assemble(header, [sections[0], stored, *sections[2:]]),
            )


def ring_faults(contents):
    """(name, ring of each code): a code in another cluster, at another distance, in two rings."""
    codes, centroids = contents.codes, contents.centroids
    n_rings = 8 * codes.shape[1] + 1
    right = ref.rings_of(codes, centroids)
    _, same_code = np.unique(codes, axis=0, return_inverse=True)
    for i in range(0, len(codes), 3):
        alike = same_code.ravel() == same_code.ravel()[i]
        for c, centroid in enumerate(centroids):
            rings = right.copy()
            rings[alike] = c * n_rings + int(np.unpackbits(codes[i] ^ centroid).sum())
            yield f"code {i} in cluster {c}", rings
        for distance in (int(right[i] % n_rings) - 1, int(right[i] % n_rings) + 1, 0, n_rings - 1):
            rings = right.copy()
            rings[alike] = right[i] // n_rings * n_rings + min(max(distance, 0), n_rings - 1)
            yield f"code {i} at distance {distance}", rings
        if alike.sum() > 1:
            rings = right.copy()
            rings[i] = (right[i] + n_rings) % (n_rings * len(centroids))
            yield f"code {i} in two rings", rings


def cluster_faults(contents, begins):
    """(name, begins of the rings, centroids)"""
    centroids, n = contents.centroids, int(begins[-1])
    n_rings = 8 * centroids.shape[1] + 1
    for i, value in itertools.product(range(len(begins)), (0, n, n + 1, 2**31, 2**32 - 1)):
        changed = begins.copy()
        changed[i] = value
        yield f"ring {i} begins at {value}", changed, centroids
    for i, more in itertools.product(range(len(begins)), (-1, 1)):
        changed = begins.copy()
        changed[i] += more
        yield f"ring {i} begins {more} later", changed, centroids
    yield "rings backwards", begins[::-1], centroids
    for value in (0, n):
        yield f"all rings begin at {value}", np.full(len(begins), value), centroids
    for a, b in itertools.permutations(range(len(centroids)), 2):
        order = np.arange(len(centroids))
        order[a] = b
        yield f"centroid {a} is centroid {b}", begins, centroids[order]
        order[b] = a
        yield f"centroids {a} and {b} swapped", begins, centroids[order]
    for c, bit in itertools.product(range(len(centroids)), range(8 * centroids.shape[1])):
        changed = centroids.copy()
        changed[c, bit // 8] ^= 1 << bit % 8
        yield f"bit {bit} of centroid {c}", begins, changed
    for extra in (0, 255):  # valid where every code is nearer to another centroid
        more = np.concatenate([centroids, np.full((1, centroids.shape[1]), extra, np.uint8)])
        yield f"one more centroid of {extra}", np.concatenate([begins, np.full(n_rings, n)]), more
    yield (
        "one more centroid, twice",
        np.concatenate([begins, np.full(n_rings, n)]),
        centroids[[*range(len(centroids)), 0]],
    )
    yield "one centroid less", begins[:-n_rings], centroids[:-1]
    yield "no rings of the last centroid", begins[:-n_rings], centroids
