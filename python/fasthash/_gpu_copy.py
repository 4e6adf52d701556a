"""`GpuCopy`: an index and its copy on one GPU or several, at one moment."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from fasthash import _core
from fasthash._gpu_arrays import offsets_of
from fasthash._index_base import Index
from fasthash._locks import Lazy
from fasthash.filters import IdFilter, core_filter
from fasthash.results import RangeResult, SearchResult
from fasthash.threads import get_num_threads

if TYPE_CHECKING:
    from fasthash._cuda import AllowedIds, Gallery, Levels

__all__ = ["GpuCopy", "Searched", "check_devices", "cuda_module"]

_Value = TypeVar("_Value")


def check_devices(device: Any, max_bytes: int | None = None) -> tuple[int, ...] | None:
    """Return the numbers of the GPUs that `"cuda"`, `"cuda:1"`, a torch.device or a list of them names.

    None stands for the CPU; `max_bytes` must then be None too.
    """
    if not isinstance(device, (list, tuple)):
        number = _check_device(device)
        if number is None and max_bytes is not None:
            raise ValueError(f"max_bytes must be left out for the CPU, got {max_bytes!r}")
        return None if number is None else (number,)
    numbers = tuple(_check_device(each) for each in device)
    if not numbers or None in numbers or len(set(numbers)) < len(numbers):
        raise ValueError(f"device must be a list of different GPUs, got {device!r}")
    return tuple(number for number in numbers if number is not None)


def _check_device(device: Any) -> int | None:
    text = str(device)
    match = re.fullmatch(r"cuda(?::(\d+))?", text)
    if text != "cpu" and match is None:
        raise ValueError(f"device must be 'cpu', 'cuda' or 'cuda:N', got {device!r}")
    return None if match is None else int(match[1] or 0)


def cuda_module() -> ModuleType:
    """Return `fasthash._cuda`."""
    try:
        return importlib.import_module("fasthash._cuda")
    except ImportError as error:
        raise RuntimeError(
            "this fasthash was built without CUDA; install it from source with pip's option "
            "-C cmake.define.FASTHASH_CUDA=ON, which needs nvcc"
        ) from error


def _room_for_codes(device: int) -> int:
    """Return the bytes of GPU memory that new codes may take: the free memory less a reserve for searches."""
    n_free = int(cuda_module().free_bytes(device))
    return n_free - min(2 << 30, n_free // 4)


class GpuCopy:
    """An index and its copy on GPUs, a share of the codes on each; it never changes.

    Args:
        index: the index; it must not change.
        devices: numbers of the GPUs.
        max_bytes: bytes of memory of each GPU for codes and ids; None takes the free memory less a reserve.
        before: a copy of an earlier state of the index on the same GPUs, whose segments are used again.
        allow: copy only the entries that this filter allows.
    """

    def __init__(
        self,
        index: Index,
        devices: tuple[int, ...],
        max_bytes: int | None,
        before: GpuCopy | None = None,
        allow: _core.IdFilter | None = None,
    ) -> None:
        self.index, self.devices, self.max_bytes = index, devices, max_bytes
        self.snapshot = index._impl.snapshot(allow)
        self.galleries: list[Gallery] = [
            self._gallery(i, None if before is None else before.galleries[i]) for i in range(len(devices))
        ]
        self._masks: WeakKeyDictionary[IdFilter, list[AllowedIds]] = WeakKeyDictionary()
        self._narrowed: WeakKeyDictionary[IdFilter, GpuCopy] = WeakKeyDictionary()

    def _gallery(self, share: int, previous: Gallery | None) -> Gallery:
        device = self.devices[share]
        gallery: Gallery = cuda_module().Gallery(
            device,
            self.snapshot,
            self.index.n_bits,
            self._room(device, share, previous) if self.max_bytes is None else self.max_bytes,
            previous,
            share,
            len(self.devices),
            get_num_threads(),
        )
        return gallery

    def _room(self, device: int, share: int, previous: Gallery | None) -> int:
        """Return the bytes that a gallery may take: those that it shares with `previous`, and what is free.

        `previous` keeps all of its memory meanwhile, since searches may still use it.
        """
        n_all, n_new = cuda_module().Gallery.needed_bytes(self.snapshot, previous, share, len(self.devices))
        room, torch = _room_for_codes(device), sys.modules.get("torch")
        if n_new > room and torch is not None and torch.cuda.is_initialized():
            torch.cuda.empty_cache()  # releases memory that torch keeps unused; takes too long for every search
            room = _room_for_codes(device)
        return int(n_all - n_new + room)

    @property
    def nbytes(self) -> int:
        """Bytes of GPU memory for codes and ids."""
        return sum(gallery.nbytes() for gallery in self.galleries)

    @Lazy
    def levels(self) -> list[Levels]:
        """The nodes of the levels on each GPU, for pruned searches."""
        nodes = self.snapshot.level_nodes(list(self.index.level_bits))
        return [cuda_module().Levels(device, nodes, len(self.snapshot)) for device in self.devices]

    def searched(self, allow: Any, pruned: bool = False) -> Searched:
        """Return what a search with `allow` searches.

        The codes of a narrow filter are copied into a small index of their own; so are those of any filter for a pruned
        search, which prunes among the allowed codes. What is made for an `IdFilter` is kept.
        """
        if allow is None:
            return Searched(self, [None] * len(self.devices))
        filter = allow._impl if isinstance(allow, IdFilter) else core_filter("allow", allow, self.index._impl.next_id())
        if pruned or self.snapshot.is_narrow(filter):
            make = partial(GpuCopy, self.index, self.devices, self.max_bytes, allow=filter)
            return _kept(self._narrowed, allow, make).searched(None)
        masks = _kept(self._masks, allow, lambda: self._masks_of(filter))
        return Searched(self, masks)

    def _masks_of(self, filter: _core.IdFilter) -> list[AllowedIds]:
        bits = self.snapshot.allowed(filter)
        return [gallery.allowed(bits) for gallery in self.galleries]


class Searched(NamedTuple):
    """A copy, and on each GPU the entries that a search may return (None: all). Queries are arrays on the CPU."""

    copy: GpuCopy
    allowed: list[Any]

    def on_each(self, call: Callable[[Any, Any, int], _Value]) -> list[_Value]:
        """Return `call(gallery, allowed, number)` of each GPU; they work at the same time."""
        arguments = self.copy.galleries, self.allowed, range(len(self.allowed))
        if len(self.allowed) == 1:
            return list(map(call, *arguments))
        with ThreadPoolExecutor(len(self.allowed)) as pool:
            return list(pool.map(call, *arguments))

    def search(self, queries: NDArray[np.uint8], k: int, keep: float | None, mode: int) -> SearchResult:
        """Find the k nearest codes; with `keep`, those that the pruned search keeps."""
        levels, share = ([None] * len(self.allowed), 1.0) if keep is None else (self.copy.levels, keep)
        parts = self.on_each(lambda gallery, allowed, i: gallery.search(queries, k, allowed, levels[i], share, mode))
        if len(parts) == 1:
            return SearchResult(*parts[0])
        distances, ids = (np.concatenate(each, axis=1) for each in zip(*parts, strict=True))
        nearest = np.lexsort((ids, distances), axis=1)[:, :k]  # places without a neighbour have the largest distance
        return SearchResult(np.take_along_axis(distances, nearest, 1), np.take_along_axis(ids, nearest, 1))

    def count_within(self, queries: NDArray[np.uint8], radius: float) -> NDArray[np.int64]:
        """Count the codes within a radius of each query."""
        counts: NDArray[np.int64] = np.sum(
            self.on_each(lambda gallery, allowed, _: gallery.count_within(queries, radius, allowed)), axis=0
        )
        return counts

    def range_search(self, queries: NDArray[np.uint8], radius: float) -> RangeResult:
        """Find all codes within a radius of each query."""

        def on_one(gallery: Any, allowed: Any, _: int) -> tuple[NDArray[Any], ...]:
            offsets = offsets_of(gallery.count_within(queries, radius, allowed))
            return offsets, *gallery.range_search(queries, radius, allowed, offsets)

        parts = self.on_each(on_one)
        if len(parts) == 1:
            return RangeResult(*parts[0])
        counts = [np.diff(offsets) for offsets, _, _ in parts]
        number = np.concatenate([np.repeat(np.arange(len(queries)), each) for each in counts])
        distances, ids = (np.concatenate([part[i] for part in parts]) for i in (1, 2))
        order = np.lexsort((ids, distances, number))
        return RangeResult(offsets_of(np.sum(counts, axis=0)), distances[order], ids[order])


def _kept(cache: WeakKeyDictionary[IdFilter, _Value], allow: Any, make: Callable[[], _Value]) -> _Value:
    """Return what the cache holds for a filter, or make it; kept only for an `IdFilter`, which never changes."""
    if not isinstance(allow, IdFilter):
        return make()
    value = cache.get(allow)
    if value is None:
        value = cache[allow] = make()
    return value
