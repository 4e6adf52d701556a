"""Measures searches of float embeddings through the codes of their signs, beside exhaustive search in the floats.

    python benchmarks/embeddings.py DATA [--features FILE.npy] [--quick]

fills the tables of docs/embeddings.md. DATA holds `deep_features_mobilenet` and, for embeddings of 1024 dimensions,
`cifar10_jpeg` and `imagenet_pretrained_mobilenet`; these take the package ai-edge-litert and some five minutes, and are
kept in FILE.npy if one is named. All searches run on one thread. --quick: few rounds, tables printed.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

import fasthash as fh
from pages import fill_page, share, table, versions
from workloads import cpu_name, interleaved, one_by_one

try:
    import faiss
except ModuleNotFoundError:
    faiss = None

PAGE = Path(__file__).parent.parent / "docs" / "embeddings.md"
K = 10
N_QUERIES, N_GALLERY = 1_000, 20_000  # of the embeddings that are made here
MULTIPLIERS = (1, 2, 4, 8, 16, 32)
N_ONE_BY_ONE = 50


def pca_features(data: Path) -> tuple[np.ndarray, np.ndarray]:
    """Gallery `(59000, 128)` and queries `(1000, 128)`: principal components of the features of all CIFAR-10 images."""
    with np.load(data / "deep_features_mobilenet" / "cifar10_mobilenetv1.npz", allow_pickle=False) as file:
        features = file["pca128"].astype(np.float32)
        return features[file["database_index"]], features[file["query_index"]]


def network_features(data: Path, kept: Path | None) -> tuple[np.ndarray, np.ndarray] | None:
    """Gallery `(20000, 1024)` and queries `(1000, 1024)`: the last features of MobileNetV1, less the gallery's mean.

    None where the network cannot be run.
    """
    if kept is not None and kept.exists():
        features = np.load(kept, allow_pickle=False)
    else:
        try:
            from ai_edge_litert.interpreter import Interpreter
            from PIL import Image
        except ModuleNotFoundError:
            return None
        model = data / "imagenet_pretrained_mobilenet" / "mobilenet_v1_1.0_224_quant_embedding_extractor.tflite"
        network = Interpreter(str(model), num_threads=1)
        network.allocate_tensors()
        image_input, output = network.get_input_details()[0]["index"], network.get_output_details()[0]["index"]
        with np.load(data / "cifar10_jpeg" / "cifar10_jpeg.npz", allow_pickle=False) as file:
            blob, offsets = file["blob"], file["offsets"]
            chosen = np.random.default_rng(0).choice(len(offsets) - 1, N_GALLERY + N_QUERIES, replace=False)
        features = np.empty((len(chosen), 1024), np.uint8)
        for row, i in enumerate(chosen):
            image = Image.open(io.BytesIO(blob[offsets[i] : offsets[i + 1]].tobytes())).convert("RGB")
            pixels = np.asarray(image.resize((224, 224), Image.Resampling.BILINEAR))
            network.set_tensor(image_input, pixels[None])
            network.invoke()
            features[row] = network.get_tensor(output).ravel()
        if kept is not None:
            np.save(kept, features)
    # They are never negative, so that only what remains without their mean has signs that tell anything.
    numbers = features.astype(np.float32)
    numbers -= numbers[:N_GALLERY].mean(axis=0)
    return numbers[:N_GALLERY], numbers[N_GALLERY:]


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def numpy_search(gallery: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """Ids of the k embeddings of largest cosine; the gallery is of length 1."""
    scores = unit(queries) @ gallery.T
    some = np.argpartition(-scores, k, axis=1)[:, :k]
    order = np.argsort(-np.take_along_axis(scores, some, 1), axis=1, kind="stable")
    return np.take_along_axis(some, order, 1)


def measured(gallery: np.ndarray, queries: np.ndarray, rounds: int, folder: Path) -> str:
    """A table: recall of the ten nearest by the cosine of the floats, times, bytes."""
    unit_gallery = unit(gallery)
    exact = numpy_search(unit_gallery, queries, K)
    n, n_dims = gallery.shape
    searches = {"float32, numpy": partial(numpy_search, unit_gallery)}
    recalls, in_memory, in_file = {"float32, numpy": 1.0}, {"float32, numpy": n_dims * 4.0}, {}
    if faiss is not None:
        flat = faiss.IndexFlatIP(n_dims)
        flat.add(unit_gallery)
        name = "float32, faiss `IndexFlatIP`"
        searches[name] = lambda q, k: flat.search(unit(q), k)[1]
        recalls[name], in_memory[name] = recall(exact, searches[name](queries, K)), n_dims * 4.0
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((n_dims, n_dims)))[0].astype(np.float32)
    for dtype, rotated in (("float16", False), ("int8", False), ("int8", True)):
        made = fh.RescoringIndex(n_dims, dtype=dtype)
        made.add(gallery @ turn if rotated else gallery)
        made.save(folder)
        index = fh.RescoringIndex.load(folder)  # vectors mapped, as they are used
        for multiplier in MULTIPLIERS:
            name = f"{dtype}{', rotated' if rotated else ''}, {multiplier} k scored"
            searches[name] = partial(rescored, index, multiplier, turn if rotated else None)
            recalls[name] = recall(exact, searches[name](queries, K))
            in_memory[name] = index.nbytes / n
            in_file[name] = n_dims * np.dtype(dtype).itemsize
    batch = interleaved({name: partial(search, queries, K) for name, search in searches.items()}, rounds)
    few = queries[:N_ONE_BY_ONE]
    single = interleaved({name: one_by_one(search, few, K) for name, search in searches.items()}, rounds)
    rows = [
        [
            name,
            share(recalls[name]) if recalls[name] < 1 else "1.000",
            f"{batch[name] / len(queries) * 1e6:,.0f}",
            f"{single[name] / len(few) * 1e6:,.0f}",
            f"{in_memory[name]:,.0f}",
            f"{in_file[name]:,}" if name in in_file else "–",
        ]
        for name in searches
    ]
    return table(
        ["search", "recall@10", "µs a query, 1,000 a call", "µs, one a call", "bytes in memory", "in the file"], rows
    )


def rescored(
    index: fh.RescoringIndex, multiplier: int, turn: np.ndarray | None, queries: np.ndarray, k: int
) -> np.ndarray:
    return index.search(queries if turn is None else queries @ turn, k, rescore_multiplier=multiplier).ids


def recall(exact: np.ndarray, found: np.ndarray) -> float:
    return float(np.mean([np.isin(truth, row).mean() for truth, row in zip(exact, found, strict=True)]))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--features", type=Path)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    rounds = 1 if options.quick else 5
    fh.set_num_threads(1)
    packages = ["numpy", "fasthash-search"]
    if faiss is not None:
        faiss.omp_set_num_threads(1)
        packages.append("faiss-cpu")
    parts = {"machine": f"{cpu_name()}, one thread, {rounds} rounds; {versions(*packages)}."}
    with threadpool_limits(1), tempfile.TemporaryDirectory() as folder:
        made = network_features(options.data, options.features)
        if made is not None:
            parts["network"] = measured(*made, rounds, Path(folder) / "network")
        parts["components"] = measured(*pca_features(options.data), rounds, Path(folder) / "components")
    fill_page(PAGE, parts, only_print=options.quick)


if __name__ == "__main__":
    main()
