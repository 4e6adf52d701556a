"""`encode_images`: encodes large image collections with many workers on Ray; a stopped run can be resumed.

The source is divided into parts; each part is encoded, written and resumed as a whole. Ray Data distributes the parts
to its workers, restarts workers after the loss of a host, and returns the codes to the calling process. Only the
calling process writes. Images never pass between hosts: each worker reads the images that it encodes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing, suppress
from itertools import chain
from typing import Any

from fasthash._checks import check_bool, check_int, check_not_negative, check_path, check_positive
from fasthash._extras import needs_extra
from fasthash._photos import MAX_BYTES, MAX_PIXELS, Limits
from fasthash._progress import is_watched
from fasthash.distributed._encode import encode_part
from fasthash.distributed.parts import EncodedPart, EncodedParts
from fasthash.distributed.sources import Source

with needs_extra("train"):
    import torch
    from tqdm import tqdm

    from fasthash.encoder import HashEncoder

__all__ = ["encode_images"]


# Long because of its docstring; the body is a list of steps.
def encode_images(
    source: str | os.PathLike[str],
    encoder: HashEncoder,
    output: str | os.PathLike[str],
    *,
    format: str = "images",
    column: str | None = None,
    key_column: str | None = None,
    batch_size: int = 64,
    part_size: int = 4096,
    max_bytes: int = MAX_BYTES,
    max_pixels: int = MAX_PIXELS,
    workers: int | None = None,
    num_cpus: float = 1,
    num_gpus: float = 0,
    address: str | None = None,
    progress: bool = True,
) -> EncodedParts:
    """Encode images on all cores, GPUs and hosts of a Ray cluster, into a folder of parts.

    If a run was stopped or killed, the same call resumes it: finished parts are kept, unfinished parts are encoded
    again. Broken images are listed with the reason, as in `HashEncoder.encode_folder`.

    The codes equal those of `HashEncoder.encode_folder`, byte for byte, for the same `batch_size`, device and number of
    threads and for any number of workers; otherwise outputs near zero may round differently. A batch never crosses the
    end of a part, so rounding may also differ for shards whose number of images is not a multiple of `batch_size`.

    The source and the installed packages must be the same on all hosts. Only the calling process writes to `output`;
    only one such process may run at a time.

    Args:
        source: folder of photos, tar shards or parquet files, at any depth; or one shard.
        encoder: network that computes the codes.
        output: folder for the parts, made if missing; an empty folder, or the folder of a stopped run.
        format: `"images"`: photos; each part has `part_size` of them, in sorted order. `"tar"`: image files in tar
            files, such as those of webdataset, in their order in the file. `"parquet"`: a column with the bytes of
            image files, one image per row. Each tar or parquet file is a part, in sorted order.
        column: column of the images in parquet files: binary, or a struct with a field `bytes`. None takes `"image"`.
        key_column: column of the names in parquet files, as text. None takes `file.parquet/row`.
        batch_size: images per step.
        part_size: photos per part, a multiple of `batch_size`.
        max_bytes: largest size of one image file in bytes: in the folder, in a tar or in a row. A larger file is broken
            and is not read.
        max_pixels: largest number of pixels of one image. A larger image is broken and is not decoded. Decoding takes
            about 12 bytes of memory per pixel in each worker. A number above the default raises Pillow's own limit.
        workers: number of encoding processes, each with one part at a time; None takes as many as the cluster has cores
            and GPUs for. 0 encodes in the calling process, on the device of the encoder, without Ray.
        num_cpus: cores, and threads of torch, of each worker.
        num_gpus: GPUs of each worker; with 0.25, four workers share one GPU, and some read while another computes.
        address: address of the Ray cluster, `"host:port"` or `"auto"`; unused if this process has joined a cluster.
            None takes the environment variable RAY_ADDRESS; if it is not set, starts a local cluster that ends with the
            process.
        progress: show a progress bar.

    Returns:
        The complete parts.

    Raises:
        ConnectionError: no cluster answers at the address.
        FileExistsError: `output` holds something else.
        FileNotFoundError: `source` does not exist on this host or on the host of a worker.
        MissingExtraError: Ray is not installed.
        TypeError, ValueError: an argument is not as described; `source` holds no such files, or none with these
            columns; an output is NaN; the cluster is too small for one worker; or `output` holds codes of another
            source, encoder or settings.
    """
    check_path("source", source)
    check_path("output", output)
    if not isinstance(encoder, HashEncoder):
        raise TypeError(f"encoder must be a HashEncoder, got {type(encoder).__name__}")
    check_int("batch_size", batch_size, 1)
    check_positive("num_cpus", num_cpus)
    check_not_negative("num_gpus", num_gpus)
    check_bool("progress", progress)
    if workers is not None and check_int("workers", workers, 0) == 0:
        for name, value, default in (("num_cpus", num_cpus, 1), ("num_gpus", num_gpus, 0), ("address", address, None)):
            if value != default:
                raise ValueError(f"{name} must be left out with workers=0, which starts no worker, got {value!r}")
    images = Source(os.path.abspath(source), format, part_size, column, key_column, Limits(max_bytes, max_pixels))
    if part_size % batch_size:
        raise ValueError(f"part_size must be a multiple of batch_size={batch_size}, got {part_size}")
    tasks, unreadable = images.parts()
    images.check_columns(chain.from_iterable(tasks))
    parts = EncodedParts.begin(output, _facts(encoder, images, batch_size, tasks, unreadable))
    missing = {number: tasks[number] for number in parts.missing}
    if missing:
        if workers == 0:
            done = _encoded_here(encoder, images, missing, batch_size)
        else:
            with needs_extra("ray"):
                from fasthash.distributed._workers import encoded_by_workers
            done = encoded_by_workers(encoder, images, missing, batch_size, workers, num_cpus, num_gpus, address)
        _write(parts, done, len(tasks), len(missing), progress)
    return parts


def _facts(
    encoder: HashEncoder, source: Source, batch_size: int, tasks: list[list[str]], unreadable: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    """Return the settings for the card of the parts; a resumed run must have the same settings."""
    return {
        "encoder": _fingerprint(encoder),
        "level_bits": list(encoder.level_bits),
        "source": source.path,
        "format": source.format,
        "column": source.column,
        "key_column": source.key_column,
        "batch_size": batch_size,
        "part_size": source.part_size,
        "max_bytes": source.limits.max_bytes,
        "max_pixels": source.limits.max_pixels,
        "n_parts": len(tasks),
        "listing": _listing(source, tasks),
        "unreadable": [list(pair) for pair in unreadable],
    }


def _write(
    parts: EncodedParts, done: Generator[tuple[int, EncodedPart], None, None], n_parts: int, n_left: int, progress: bool
) -> None:
    """Write parts as they are done, and show progress."""
    n_images = n_broken = 0
    hidden = not (progress and is_watched())
    shown = {"total": n_parts, "initial": n_parts - n_left, "desc": "encode", "unit": "part", "disable": hidden}
    with closing(done), tqdm(**shown) as bar:
        for number, part in done:
            parts.write(number, part)
            n_images, n_broken = n_images + len(part.keys), n_broken + len(part.broken)
            bar.set_postfix(images=n_images, broken=n_broken, refresh=False)
            bar.update()


def _encoded_here(
    encoder: HashEncoder, source: Source, tasks: Mapping[int, list[str]], batch_size: int
) -> Generator[tuple[int, EncodedPart], None, None]:
    """Encode parts in the calling process; yield number and codes of each."""
    for number, names in tasks.items():
        yield number, encode_part(encoder, source, names, batch_size)


def _fingerprint(encoder: HashEncoder) -> str:
    """Compute the SHA-256 of the arguments and the weights of the encoder, which determine its codes."""
    digest = hashlib.sha256(json.dumps(encoder._arguments()).encode())
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _listing(source: Source, tasks: list[list[str]]) -> str:
    """Compute the SHA-256 of the names of all files and of the sizes of shards; it detects a changed source."""
    digest = hashlib.sha256()
    for name in chain.from_iterable(tasks):
        size = -1
        if source.format != "images":
            with suppress(OSError):  # a missing file or a dangling link: the part lists it as broken
                size = os.path.getsize(source.file(name))
        digest.update(json.dumps([name, size]).encode())
    return digest.hexdigest()
