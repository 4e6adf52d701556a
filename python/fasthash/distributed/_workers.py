"""Encoding with Ray Data: distributes parts to workers that hold the encoder, and returns their codes."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import numpy as np

from fasthash._extras import needs_extra
from fasthash.distributed._encode import encode_part
from fasthash.distributed._ray import ray, start
from fasthash.distributed.parts import EncodedPart
from fasthash.distributed.sources import Source
from fasthash.encoder import HashEncoder

with needs_extra("ray"):
    from ray.data import ActorPoolStrategy, DataContext

__all__ = ["encoded_by_workers"]


class _Worker:
    """A process that holds the encoder and encodes one part at a time."""

    def __init__(self, encoder: ray.ObjectRef[HashEncoder], source: Source, batch_size: int) -> None:
        self.encoder = ray.get(encoder).to_best_device()
        self.source, self.batch_size = source, batch_size

    def __call__(self, rows: dict[str, Any]) -> dict[str, Any]:
        try:
            result: Any = encode_part(self.encoder, self.source, pickle.loads(rows["names"][0]), self.batch_size)
        except (OSError, ValueError) as error:  # returned, since Ray would wrap a raised error
            result = error
        return {"number": rows["number"], "made": np.array([pickle.dumps(result)], object)}


def encoded_by_workers(
    encoder: HashEncoder,
    source: Source,
    tasks: Mapping[int, list[str]],
    batch_size: int,
    workers: int | None,
    num_cpus: float,
    num_gpus: float,
    address: str | None,
) -> Generator[tuple[int, EncodedPart], None, None]:
    """Encode parts in workers; yield number and codes of each part when it is done.

    Raises:
        OSError, ValueError: the encoding of a part failed.
    """
    start(address)
    with _quiet():
        if workers is None:
            workers = _room(num_cpus, num_gpus)
        # Names are pickled, since Arrow text must be UTF-8.
        rows = [{"number": number, "names": pickle.dumps(names)} for number, names in tasks.items()]
        encoded = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            _Worker,
            fn_constructor_args=(ray.put(deepcopy(encoder).cpu()), source, batch_size),
            batch_size=1,
            num_cpus=num_cpus,
            num_gpus=num_gpus,
            # A part takes long: do not queue a second part at a busy worker.
            compute=ActorPoolStrategy(size=min(workers, len(rows)), max_tasks_in_flight_per_actor=1),
        )
        for batch in encoded.iter_batches(batch_size=None, prefetch_batches=0):
            for number, data in zip(batch["number"], batch["made"], strict=True):
                part = pickle.loads(data)
                if isinstance(part, Exception):
                    raise part
                yield int(number), part


def _room(num_cpus: float, num_gpus: float) -> int:
    """Return the number of workers for which the cluster has cores and GPUs."""
    needed = {"CPU": num_cpus, "GPU": num_gpus}
    available = {name: ray.cluster_resources().get(name, 0) for name in needed}
    n_workers = min(int(available[name] / n + 1e-9) for name, n in needed.items() if n > 0)
    if n_workers < 1:
        raise ValueError(
            f"num_cpus={num_cpus:g} and num_gpus={num_gpus:g} of a worker must be in the cluster, which has "
            f"{available['CPU']:g} cores and {available['GPU']:g} GPUs; to wait for more, give workers"
        )
    return n_workers


@contextmanager
def _quiet() -> Iterator[None]:
    """Turn off progress bars and reports of Ray Data within the block: encoding shows its own progress bar."""
    context, logger = DataContext.get_current(), logging.getLogger("ray.data")
    before = context.enable_progress_bars, context.print_on_execution_start, logger.level
    context.enable_progress_bars = context.print_on_execution_start = False
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        context.enable_progress_bars, context.print_on_execution_start = before[:2]
        logger.setLevel(before[2])
