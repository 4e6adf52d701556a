# Types of the compiled GPU module, which some installations lack; a test compares them with the module if present.
import numpy as np
from numpy.typing import NDArray

from fasthash._core import Snapshot

class ArgumentError(ValueError): ...
class DeviceError(RuntimeError): ...
class OutOfMemory(MemoryError): ...  # noqa: N818

def n_devices() -> int: ...
def device_name(device: int) -> str: ...
def free_bytes(device: int) -> int: ...

class AllowedIds: ...

class Levels:
    def __init__(self, device: int, nodes: list[tuple[NDArray[np.uint8], NDArray[np.uint32]]], n: int) -> None: ...
    def nbytes(self) -> int: ...

# Methods with `_on_gpu` in their name take addresses in GPU memory for queries and results.
class Gallery:
    def __init__(
        self,
        device: int,
        snapshot: Snapshot,
        n_bits: int,
        room: int,
        previous: Gallery | None = None,
        share: int = 0,
        n_shares: int = 1,
        n_threads: int = 1,
    ) -> None: ...
    @staticmethod
    def needed_bytes(snapshot: Snapshot, previous: Gallery | None, share: int, n_shares: int) -> tuple[int, int]: ...
    def nbytes(self) -> int: ...
    def streamed(self) -> bool: ...
    def n_segments(self) -> int: ...
    def n_reused(self) -> int: ...
    def allowed(self, bits: list[NDArray[np.uint32]]) -> AllowedIds: ...
    def search(
        self,
        queries: NDArray[np.uint8],
        k: int,
        allow: AllowedIds | None = None,
        levels: Levels | None = None,
        keep: float = 1.0,
        keep_mode: int = 0,
    ) -> tuple[NDArray[np.int32] | NDArray[np.float32], NDArray[np.int64]]: ...
    def search_on_gpu(
        self,
        queries: int,
        n: int,
        k: int,
        allow: AllowedIds | None,
        levels: Levels | None,
        keep: float,
        keep_mode: int,
        distances: int,
        ids: int,
        stream: int,
    ) -> None: ...
    def count_within(
        self, queries: NDArray[np.uint8], radius: float, allow: AllowedIds | None
    ) -> NDArray[np.int64]: ...
    def count_within_on_gpu(
        self, queries: int, n: int, radius: float, allow: AllowedIds | None, stream: int
    ) -> NDArray[np.int64]: ...
    def range_search(
        self, queries: NDArray[np.uint8], radius: float, allow: AllowedIds | None, offsets: NDArray[np.int64]
    ) -> tuple[NDArray[np.int32] | NDArray[np.float32], NDArray[np.int64]]: ...
    def range_search_on_gpu(
        self,
        queries: int,
        n: int,
        radius: float,
        allow: AllowedIds | None,
        offsets: NDArray[np.int64],
        distances: int,
        ids: int,
        stream: int,
    ) -> None: ...
