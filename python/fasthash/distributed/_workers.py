"""Ray Data's part in encoding: it deals the parts to workers that hold the encoder, and brings back what they made."""

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
    """A process that holds the encoder, and encodes a part at a time."""

    def __init__(self, encoder: ray.ObjectRef[HashEncoder], source: Source, batch_size: int) -> None:
        self.encoder = ray.get(encoder).to_best_device()
        self.source, self.batch_size = source, batch_size

    def __call__(self, rows: dict[str, Any]) -> dict[str, Any]:
        try:
            made: Any = encode_part(self.encoder, self.source, pickle.loads(rows["names"][0]), self.batch_size)
        except (OSError, ValueError) as error:  # which Ray would bury under its own
            made = error
        return {"number": rows["number"], "made": np.array([pickle.dumps(made)], object)}


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
    """Numbers and codes of parts, as they are done.

    Raises:
        OSError, ValueError: what went wrong with a part.
    """
    start(address)
    with _quiet():
        if workers is None:
            workers = _room(num_cpus, num_gpus)
        # names as bytes: Arrow holds no text that is not UTF-8
        rows = [{"number": number, "names": pickle.dumps(names)} for number, names in tasks.items()]
        made = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            _Worker,
            fn_constructor_args=(ray.put(deepcopy(encoder).cpu()), source, batch_size),
            batch_size=1,
            num_cpus=num_cpus,
            num_gpus=num_gpus,
            # A part takes long: one that waited for a certain worker would hold up the end.
            compute=ActorPoolStrategy(size=min(workers, len(rows)), max_tasks_in_flight_per_actor=1),
        )
        for batch in made.iter_batches(batch_size=None, prefetch_batches=0):
            for number, data in zip(batch["number"], batch["made"], strict=True):
                part = pickle.loads(data)
                if isinstance(part, Exception):
                    raise part
                yield int(number), part


def _room(num_cpus: float, num_gpus: float) -> int:
    """For how many workers the cluster has cores and GPUs."""
    wanted = {"CPU": num_cpus, "GPU": num_gpus}
    there = {name: ray.cluster_resources().get(name, 0) for name in wanted}
    room = min(int(there[name] / n + 1e-9) for name, n in wanted.items() if n > 0)
    if room < 1:
        raise ValueError(
            f"num_cpus={num_cpus:g} and num_gpus={num_gpus:g} of a worker must be in the cluster, which has "
            f"{there['CPU']:g} cores and {there['GPU']:g} GPUs; to wait for more, give workers"
        )
    return room


@contextmanager
def _quiet() -> Iterator[None]:
    """Without bars and reports of Ray Data: encoding shows a bar of its own."""
    context, logger = DataContext.get_current(), logging.getLogger("ray.data")
    before = context.enable_progress_bars, context.print_on_execution_start, logger.level
    context.enable_progress_bars = context.print_on_execution_start = False
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        context.enable_progress_bars, context.print_on_execution_start = before[:2]
        logger.setLevel(before[2])
