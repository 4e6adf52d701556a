"""Images to codes in great numbers: many workers on Ray, resumable, with the bytes that one process would give.

The source is cut into parts, and a part is what is encoded, written and resumed as a whole. Ray Data deals the parts to
its workers, starts these anew where a host is lost, and hands the codes back to the process that called, which alone
writes. Images never pass between hosts: the worker that encodes them reads them.
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


# Mostly documentation: what it does is a list of steps.
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

    Called again after it was stopped or killed, it goes on: parts that are there are kept, those that were under way
    are encoded anew. What cannot be read as an image is listed with the reason, see `HashEncoder.encode_folder`, of
    whose codes these are: the same bytes for the same `batch_size`, device and number of threads, whatever the number
    of workers; else the same but for rounding of outputs next to zero. A batch never reaches over the end of a part,
    so for shards of another number of images than whole batches, rounding may differ there, too.

    The source and what is installed must be the same on all hosts; `output` is written by this process alone, and by
    one such process at a time.

    Args:
        source: folder of photos, of tar shards or of parquet files, these below at any depth; or one shard.
        encoder: makes the codes.
        output: folder for the parts, made if missing; of its own, or that of a run that was stopped.
        format: `"images"`: photos, `part_size` of them in sorted order make a part. `"tar"`: the image files in tars,
            such as those of webdataset, in the order in which they lie there. `"parquet"`: a column of the bytes of
            image files, row by row. Each tar or parquet file is a part, in sorted order.
        column: of the images in parquet files: binary, or a struct with a field `bytes`. None takes `"image"`.
        key_column: of parquet files: what names the image of a row, as text. None takes `file.parquet/row`.
        batch_size: images per step.
        part_size: photos of a part, a multiple of `batch_size`.
        max_bytes: of the file of one image: in the folder, in a tar, in a row. A larger one is broken, and not read.
        max_pixels: of one image. A larger one is broken, and not decoded; decoding takes some 12 bytes of memory a
            pixel in each worker. The limit of Pillow, twice `PIL.Image.MAX_IMAGE_PIXELS`, holds beside it.
        workers: processes that encode, each a part at a time; None takes as many as the cluster has room for. 0
            encodes in this process, on the device of the encoder, without Ray.
        num_cpus: cores, and threads of torch, of each worker.
        num_gpus: GPUs of each worker; with 0.25 four workers share one, some reading while another computes.
        address: of the Ray cluster, `"host:port"` or `"auto"`, if this process is in none yet. None takes the
            environment variable RAY_ADDRESS, or else starts a Ray of this machine's own, which ends with the process.
        progress: show a progress bar.

    Returns:
        The parts, all there.

    Raises:
        ConnectionError: no cluster answers at the address.
        FileExistsError: `output` holds something else.
        FileNotFoundError: `source` is not there, on this host or on that of a worker.
        MissingExtraError: Ray is not installed.
        TypeError, ValueError: an argument is not as described, `source` holds no such files or none with these columns,
            an output is NaN, the cluster has no room for a worker, or `output` holds the codes of another source,
            encoder, cut into parts or limits.
    """
    check_path("source", source)
    check_path("output", output)
    if not isinstance(encoder, HashEncoder):
        raise TypeError(f"encoder must be a HashEncoder, got {type(encoder).__name__}")
    check_int("batch_size", batch_size, 1)
    check_positive("num_cpus", num_cpus)
    check_not_negative("num_gpus", num_gpus)
    check_bool("progress", progress)
    if workers is not None:
        check_int("workers", workers, 0)
    images = Source(os.path.abspath(source), format, part_size, column, key_column, Limits(max_bytes, max_pixels))
    if part_size % batch_size:
        raise ValueError(f"part_size must be a multiple of batch_size={batch_size}, got {part_size}")
    tasks, unreadable = images.parts()
    images.check_columns(chain.from_iterable(tasks))
    parts = EncodedParts.begin(output, _facts(encoder, images, batch_size, tasks, unreadable))
    left = {number: tasks[number] for number in parts.missing}
    if left:
        if workers == 0:
            done = _encoded_here(encoder, images, left, batch_size)
        else:
            with needs_extra("ray"):
                from fasthash.distributed._workers import encoded_by_workers
            done = encoded_by_workers(encoder, images, left, batch_size, workers, num_cpus, num_gpus, address)
        _write(parts, done, len(tasks), len(left), progress)
    return parts


def _facts(
    encoder: HashEncoder, source: Source, batch_size: int, tasks: list[list[str]], unreadable: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    """What the card of the parts tells, and what a run that goes on must share."""
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
    """Write parts as they are done, and show how far it is."""
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
    """What workers do, in this process."""
    for number, names in tasks.items():
        yield number, encode_part(encoder, source, names, batch_size)


def _fingerprint(encoder: HashEncoder) -> str:
    """SHA-256 of all that decides about codes: the arguments of the encoder and its weights."""
    digest = hashlib.sha256(json.dumps(encoder._arguments()).encode())
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _listing(source: Source, tasks: list[list[str]]) -> str:
    """SHA-256 of the names of all files and of the sizes of shards, by which another source is noticed."""
    digest = hashlib.sha256()
    for name in chain.from_iterable(tasks):
        size = -1
        if source.format != "images":
            with suppress(OSError):  # it has gone, or is a link to nothing: its part lists it as broken
                size = os.path.getsize(source.file(name))
        digest.update(json.dumps([name, size]).encode())
    return digest.hexdigest()
